"""Images by what people call them: an id, how an id begins, or the name that a grant opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from primis.errors import NotCovered, UsageError
from primis.keys.grant import Grant
from primis.keys.seal import release_secrets
from primis.keys.tier import Tier
from primis.release.catalogue import Catalogue
from primis.release.reader import Release


class NamedImage(NamedTuple):
    """An image of a release, and the name that is sealed in it."""

    id: str
    name: str


def open_catalogue(release: Release, grants: Iterable[Grant]) -> Catalogue | None:
    """The catalogue, where a grant opens tier diagnostic of the whole release."""
    for grant in grants:
        if grant.secret is not None and grant.tier >= Tier.DIAGNOSTIC:
            diagnostic = release_secrets(grant.secret, grant.tier)[Tier.DIAGNOSTIC]
            manifest = release.manifest
            return Catalogue(manifest.catalogue, release.page, diagnostic, manifest.release)
    return None


def read_names(release: Release, grants: Sequence[Grant]) -> Iterator[NamedImage]:
    """The images whose names the grants open, from the catalogue or each from its bundle.

    Tier preview opens none.
    """
    catalogue = open_catalogue(release, grants)
    if catalogue is not None:
        yield from (NamedImage(image.id, image.name) for image in catalogue)
        return
    opening = [grant for grant in grants if grant.tier >= Tier.DIAGNOSTIC]
    if not opening:
        return
    from primis.sharing.opened import OpenedBundle  # with all of the engine
    from primis.sharing.restore import read_name

    for bundle_id in release.ids:
        grant = next((g for g in opening if g.covers_whole(bundle_id)), None)
        if grant is not None:
            secrets = grant.image_secrets(bundle_id)
            bundle = OpenedBundle(*release.sections(bundle_id), secrets)
            yield NamedImage(bundle_id, read_name(bundle))


def ids_of(release: Release, grants: Sequence[Grant], images: Sequence[str]) -> list[str]:
    """The ids of images, each once. Raises UsageError unless each names exactly one."""
    named: list[NamedImage] | None = None
    chosen = []
    for text in images:
        if release.starting_with(text):
            chosen.append(release.resolve(text))
            continue
        if named is None:
            named = list(read_names(release, grants))
        chosen.append(_id_of(text, named))
    return list(dict.fromkeys(chosen))


def _id_of(text: str, named: Sequence[NamedImage]) -> str:
    """By the whole name, or by its last part where no other image has it."""
    if not named:
        raise NotCovered(
            f'image "{text}" is not the start of an id, and the grant opens no names '
            "(neither tier preview nor a region does): expected an id"
        )
    matching = [image.id for image in named if image.name == text]
    if not matching:
        matching = [image.id for image in named if PurePosixPath(image.name).name == text]
    if len(matching) != 1:
        raise UsageError(
            f'image "{text}" matches {len(matching)} images of the release, expected one'
        )
    return matching[0]

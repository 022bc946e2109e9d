"""Which images a person means: by the start of an id, or by a name that their key opens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from primis.errors import NotCovered, UsageError

if TYPE_CHECKING:
    from primis.keys.grant import Grant
    from primis.keys.identity import Identity
    from primis.release.release import Release


class NamedImage(NamedTuple):
    """An image of a release, and the name that is sealed in it."""

    id: str
    name: str


def ids_of(
    given: Sequence[str],
    release: Release,
    identities: Iterable[Identity],
    *,
    trust: str | None = None,
) -> list[str]:
    """The ids of the images that were named. Raises UsageError unless each names exactly one."""
    named: list[NamedImage] | None = None
    chosen = []
    for text in given:
        if any(i.startswith(text) for i in release.ids):
            chosen.append(release.resolve(text))
            continue
        if named is None:
            named = list(read_names(release, release.open_grants(identities, trust=trust)))
        chosen.append(_id_of(text, named))
    return chosen


def read_names(release: Release, grants: Sequence[Grant]) -> Iterator[NamedImage]:
    """The images whose names the grants open: tier preview opens none."""
    from primis.sharing.image_bundle import read_name

    for bundle_id in release.ids:
        covering = (g for g in grants if g.covers(bundle_id) and g.tier != "preview")
        grant = next(covering, None)
        if grant is not None:
            secrets = grant.image_secrets(bundle_id)
            yield NamedImage(bundle_id, read_name(release.bundle(bundle_id), secrets))


def _id_of(text: str, named: Sequence[NamedImage]) -> str:
    """By the whole name, or by its last part where no other image has it."""
    if not named:
        raise NotCovered(
            f'image "{text}" is not the start of an id, and the grant opens no names '
            "(tier preview does not): expected an id"
        )
    found = [image.id for image in named if image.name == text]
    if not found:
        found = [image.id for image in named if PurePosixPath(image.name).name == text]
    if len(found) != 1:
        raise UsageError(f'image "{text}" matches {len(found)} images of the release, expected one')
    return found[0]

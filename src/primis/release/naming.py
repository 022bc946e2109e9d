"""Images by what people call them: an id, how an id begins, or the name a grant opens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from primis.errors import UsageError
from primis.keys.grant import Grant
from primis.keys.seal import release_secrets
from primis.keys.tier import Tier
from primis.release.catalogue import Catalogue
from primis.release.reader import Release


def open_catalogue(release: Release, grants: Iterable[Grant]) -> Catalogue | None:
    """The catalogue, where a grant opens tier diagnostic of the whole release."""
    for grant in grants:
        if grant.secret is not None and grant.tier >= Tier.DIAGNOSTIC:
            diagnostic = release_secrets(grant.secret, grant.tier)[Tier.DIAGNOSTIC]
            manifest = release.manifest
            return Catalogue(manifest.catalogue, release.page, diagnostic, manifest.release)
    return None


def ids_of(release: Release, grants: Iterable[Grant], images: Sequence[str]) -> list[str]:
    """The ids of images, each once. Raises UsageError for what names none, or several."""
    if not images:
        return []
    catalogue = open_catalogue(release, grants)
    names: dict[str, list[str]] = {}
    for listed in catalogue or ():
        for name in {listed.name, listed.name.rpartition("/")[2]}:
            names.setdefault(name, []).append(listed.id)
    return list(dict.fromkeys(_id_of(release, names, image) for image in images))


def _id_of(release: Release, names: dict[str, list[str]], image: str) -> str:
    ids = names.get(image, [])
    if len(ids) > 1:
        raise UsageError(f'{len(ids)} images are called "{image}", expected one: give its id')
    return ids[0] if ids else release.resolve(image)

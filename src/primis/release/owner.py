"""What only the owner of a release does: take its secrets, and grant."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import replace

from primis.atomic import sweep_all
from primis.errors import NoMatchingGrant, OutputError, UsageError, WrongSigner
from primis.imaging.region import Region
from primis.keys.identity import Recipient, Signer
from primis.keys.seal import image_secrets, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.release.grants import GRANTS, Scope, make_grant, write_grant, write_index
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.region import open_region, opened_with
from primis.stores.local import LocalStore


def owner_scope(release: Release, signer: Signer) -> Scope:
    """What the release's grants are for, from the owner's own."""
    if release.manifest.signer != signer.public:
        raise WrongSigner(
            f'release "{release.place}" is signed by "{release.manifest.signer[:16]}", '
            f'this key signs as "{signer.public[:16]}"'
        )
    for grant in release.open_grants([signer.identity], trust=signer.public):
        if grant.secret is not None and grant.tier == HIGHEST:
            return Scope(grant.release, grant.keys, grant.secret)
    raise NoMatchingGrant(
        f'release "{release.place}" has no owner\'s grant for key "{signer.identity.label}"'
    )


def grant(
    release: Release,
    recipient: Recipient,
    signer: Signer,
    *,
    tier: Tier = Tier.DIAGNOSTIC,
    images: Iterable[str] | None = None,
    region: Region | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
    on_wait: Callable[[str], None] = lambda said: None,
    on_opens: Callable[[str, Region], None] = lambda image, opened: None,
) -> str:
    """Let a recipient open a release, named images of it or a region of each, up to a tier. Touches
    nothing else.

    A recipient who has a grant already gets another, under its label and a number. images: ids of
    the release as it was opened; UsageError if it was given new ones meanwhile. region: the same
    of each of these images. on_wait: is told who else is changing the release; on_opens: of each
    image, by its id, what is opened with the region. Returns where the grant lies. Raises NoRegion
    for images that have no regions.
    """
    if region is not None and images is None:
        raise UsageError(f'region "{region}" is of no image, expected the images that it is of')
    with release.changing("primis grant", on_wait) as now_there:
        release = now_there
        chosen = None if images is None else [release.resolve(image) for image in images]
        scope = owner_scope(release, signer)
        if isinstance(release.store, LocalStore):
            sweep_all(release.folder / GRANTS)
        taken = set(release.labels())
        labels = (recipient.label, *(f"{recipient.label}-{n}" for n in range(2, len(taken) + 3)))
        label = next(x for x in labels if x not in taken or x == "owner")
        named = replace(recipient, label=label)
        regions = None
        if region is not None:
            regions = {}
            for image in chosen or ():
                bundle = _opened(release, scope, image)
                regions[image] = open_region(bundle, region, Tier(tier))
                on_opens(image, opened_with(bundle, region))
            chosen = None
        made = make_grant(scope, named, signer, Tier(tier), chosen, note, not_after, regions)
        key = write_grant(release.store, made, named, signer)
        if release.again().manifest.keys != scope.keys:  # on a host nobody holds a lock
            release.store.delete(key)
            write_index(release.store)
            raise OutputError(
                f'"{release.place}" was given new secrets meanwhile: give the command again'
            )
        return f"{release.place}/{key}"


def _opened(release: Release, scope: Scope, bundle_id: str) -> OpenedBundle:
    """An image, opened whole. Raises DamagedSection."""
    secrets = image_secrets(release_secrets(scope.secret, HIGHEST), bundle_id)
    return OpenedBundle.read(release.ranged(bundle_id), secrets, release.profiles, bundle_id)

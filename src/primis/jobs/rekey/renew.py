"""Which grants of a release live on under its new secrets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from primis.errors import UsageError
from primis.jobs.rekey.table import Table
from primis.keys.grant import Grant, RegionSecrets
from primis.keys.identity import Recipient, Signer
from primis.keys.seal import image_secrets, release_secrets
from primis.keys.tier import HIGHEST
from primis.release.grants import Scope, make_grant, write_grant
from primis.release.reader import Release
from primis.stores.store import Store


def withdrawn_of(release: Release, without: set[str]) -> set[str]:
    """Labels of grants that are not renewed. Raises UsageError."""
    if "owner" in without:
        raise UsageError('grant "owner" is your own and cannot be withdrawn')
    labels = release.labels()
    if unknown := without - set(labels):
        raise UsageError(
            f'grant "{sorted(unknown)[0]}" is not in the release, '
            f"expected one of: {', '.join(labels)}"
        )
    return without


def to_renew(release: Release, signer: Signer, withdrawn: set[str], table: Table) -> list[Grant]:
    """One for each label: those that open an image, with a key that none was withdrawn from."""
    grants = release.open_grants([signer.identity], trust=signer.public)
    gone = {g.recipient for g in grants if g.label in withdrawn and g.recipient}
    chosen: dict[str, Grant] = {}
    for grant in grants:
        out = grant.label in {"owner", *withdrawn} or grant.recipient in {"", *gone}
        if not out and _opens_one(grant, table):
            chosen.setdefault(grant.label, grant)
    return [*chosen.values()]


def _opens_one(grant: Grant, table: Table) -> bool:
    """Whether a grant opens an image that is there, or a region of one."""
    named = (*grant.images, *grant.regions)
    return grant.secret is not None or any(table.find(i) is not None for i in named)


def renew(
    grants: Sequence[Grant], store: Store, fresh: Scope, signer: Signer, table: Table
) -> list[str]:
    """Write them under the new secrets; their labels."""
    for grant in grants:
        images = regions = None
        if grant.secret is None:
            images = [after for i in grant.images if (after := table.renamed(i))]
            regions = _renewed(grant, fresh, table)
        kind = grant.recipient.split()[0] if " " in grant.recipient else "age"
        recipient = Recipient(kind, grant.recipient, grant.label)
        again = make_grant(
            fresh, recipient, signer, grant.tier, images, grant.note, grant.not_after, regions
        )
        write_grant(store, again, recipient, signer)
    return [grant.label for grant in grants]


def _renewed(grant: Grant, fresh: Scope, table: Table) -> dict[str, RegionSecrets]:
    """The same regions of images under their new ids and secrets."""
    secrets = release_secrets(fresh.secret, HIGHEST)
    there = ((table.renamed(i), opened) for i, opened in grant.regions.items())
    return {i: opened.renewed(image_secrets(secrets, i)) for i, opened in there if i}


def opens_of(grant: Grant) -> str:
    """What a grant opens and for whom, without a name in it."""
    images = "all" if grant.secret is not None else " ".join(sorted(grant.images))
    said = f"{grant.recipient}\n{grant.tier}\n{images}"
    for bundle_id, opened in sorted(grant.regions.items()):
        tiles = sorted({number for numbers in opened.tiles.values() for number in numbers})
        said += f"\n{bundle_id} {opened.region} {tiles}"
    return hashlib.sha256(said.encode()).hexdigest()

"""Grants of a release: the files, which of them open, and how new ones are made.

Anyone can seal a file to a public key, rename one, or put back one that was withdrawn. So a grant
counts only if it is signed by the release's owner, for this release and its present secrets, for
the key that opened it, under its own label (docs/format.md, section 5).
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from primis.atomic import read_regular, reason, write_new
from primis.bundle.manifest import Manifest
from primis.canonical import canonical
from primis.errors import (
    AccessError,
    BadGrant,
    BadKey,
    GrantExpired,
    NoMatchingGrant,
    NotCovered,
    OtherPassphrase,
    TierTooLow,
    UsageError,
    WrongSigner,
)
from primis.keys.grant import Grant, read_grant, split_grant
from primis.keys.identity import (
    Identity,
    Recipient,
    Signer,
    WrongPassphrase,
    is_label,
    scrypt_work,
)
from primis.keys.seal import Secret, TierSecrets, release_secrets
from primis.keys.tier import HIGHEST, Tier

GRANTS = "grants"
INDEX = "index.json"
_CHECKSUM = 8
_MAX_GRANT, _MAX_ALL_GRANTS = 1 << 25, 1 << 27
"""Bytes of a grant, which may name many images, and of all grants of a release."""

_MAX_GRANTS = 1 << 14
_MAX_SCRYPT_WORK = 1 << 21
"""Twice the most that one passphrase grant may take: some seconds, a gigabyte of memory."""


@dataclass(frozen=True)
class GrantFile:
    """A grant as anyone sees it: its label (see `Recipient`) and its bytes."""

    label: str
    path: Path
    data: bytes


@dataclass(frozen=True)
class GrantsFolder:
    """Grants as they lie in a release. demanded: the signer that was asked for by name, or None.
    note: is told what a person should hear, each thing once."""

    path: Path
    manifest: Manifest
    demanded: str | None = None
    note: Callable[[str], None] = field(default=lambda said: None, repr=False)

    def files(self) -> list[GrantFile]:
        """All grants, by label; files with other names are none. A damaged one is left out, with a
        note. Raises BadGrant where there are more than anyone makes."""
        files = sorted((self.path / GRANTS).glob("*.age"))
        if len(files) > _MAX_GRANTS:
            raise BadGrant(
                f'release "{self.path}" has {len(files)} grants, expected at most {_MAX_GRANTS}'
            )
        found, left = [], _MAX_ALL_GRANTS
        for path in files:
            label, _, checksum = path.stem.rpartition(".")
            if not is_label(label) or len(checksum) != _CHECKSUM:
                continue
            try:
                data = read_regular(path, min(_MAX_GRANT, left))
                left -= len(data)
            except OSError as error:
                self.note(f'grant "{path}" cannot be read and is passed over: {reason(error)}')
                continue
            if hashlib.sha256(data).hexdigest()[:_CHECKSUM] != checksum:
                self.note(
                    f'grant "{path}" was altered and is passed over: '
                    "it does not match the checksum in its name"
                )
                continue
            found.append(GrantFile(label, path, data))
        return found

    def open(self, identities: Iterable[Identity], *, trust: str | None = None) -> list[Grant]:
        """The grants these identities open, the highest tier and widest scope first.

        A file that is not a grant of this release and its present secrets, signed by its owner,
        for the key that opened it, under its own label, does not count. Where some name another
        signer either they or the release are false, so unless the release's signer was demanded,
        or is known by `trust`, that is a WrongSigner. Raises BadGrant if only such files open, and
        NoMatchingGrant, saying which keys were offered and which grants are there, if none does.
        """
        offered, files = list(identities), self.files()
        opened: list[Grant] = []
        refused: list[BadGrant | WrongSigner] = []
        wrong_passphrase = False
        for file in self._worth_trying(files, offered):
            try:
                grant = self._open(file, offered, trust)
            except WrongPassphrase:
                wrong_passphrase = True
                continue
            except (BadGrant, WrongSigner) as error:
                refused.append(error)
                continue
            opened += [] if grant is None else [grant]
        doubts = [error for error in refused if isinstance(error, WrongSigner)]
        if doubts and self.manifest.signer not in (self.demanded, trust):
            raise doubts[0]
        if not opened and refused:
            raise refused[0]
        if not opened:
            raise self._no_match(files, offered, wrong_passphrase=wrong_passphrase)
        for doubt in refused:
            self.note(f"passed over: {doubt}")
        return sorted(opened, key=lambda g: (-g.tier.rank, g.secret is None))

    def _no_match(
        self, files: list[GrantFile], offered: list[Identity], *, wrong_passphrase: bool
    ) -> NoMatchingGrant:
        """The error that says which keys were offered and which grants are there."""
        keys = ", ".join(i.label for i in offered) or "none"
        labels = ", ".join(file.label for file in files) or "none"
        there = f"it has grants for: {labels}"
        if wrong_passphrase:
            return OtherPassphrase(
                f'release "{self.path}" has a grant for a passphrase, but not for this one; {there}'
            )
        return NoMatchingGrant(
            f'release "{self.path}" has no grant for the key offered ({keys}); {there}'
        )

    def _worth_trying(self, files: list[GrantFile], offered: list[Identity]) -> list[GrantFile]:
        """All but passphrase grants that would take minutes together, cheapest first."""
        if not any(identity.kind == "passphrase" for identity in offered):
            return files
        left, chosen = _MAX_SCRYPT_WORK, []
        for file in sorted(files, key=_scrypt_work):
            left -= _scrypt_work(file)
            if left >= 0:
                chosen.append(file)
            else:
                self.note(f'grant "{file.path}" is passed over: trying it takes too long')
        return chosen

    def _open(self, file: GrantFile, identities: list[Identity], trust: str | None) -> Grant | None:
        wrong: WrongPassphrase | None = None
        for identity in identities:
            try:
                payload = identity.decrypt(file.data)
            except WrongPassphrase as error:
                wrong = error
                continue
            except BadKey as error:
                raise BadGrant(f'grant "{file.path}" does not verify: {error}') from None
            if payload is None:
                continue
            signed = split_grant(payload, str(file.path))
            if signed.signer != self.manifest.signer:
                raise WrongSigner(
                    f'grant "{file.path}" for your key is signed by "{signed.signer}", the release '
                    f'by "{self.manifest.signer}": say which of them you trust'
                )
            grant = read_grant(signed, str(file.path))
            if grant.release != self.manifest.release:
                raise BadGrant(
                    f'grant "{file.path}" belongs to release "{grant.release}", '
                    f'expected "{self.manifest.release}"'
                )
            if grant.keys != self.manifest.keys:
                raise BadGrant(
                    f'grant "{file.path}" is of an earlier state of the release, '
                    'before its last "primis rekey"'
                )
            if grant.label != file.label:
                raise BadGrant(f'grant "{file.path}" was renamed: its label is "{grant.label}"')
            if grant.recipient != identity.text and trust != self.manifest.signer:
                continue  # the owner's key opens every grant; this one is not for it
            return grant
        if wrong is not None:
            raise wrong
        return None


def _scrypt_work(file: GrantFile) -> int:
    """Steps of scrypt that a passphrase takes on a grant; 0 for grants to keys and for what is
    none."""
    try:
        return scrypt_work(file.data) or 0
    except BadKey:
        return 0


def secrets_for(
    grants: list[Grant], bundle_id: str, tier: Tier | None, today: datetime.date
) -> tuple[Tier, TierSecrets]:
    """(tier, image secrets) by the best of the grants that cover an image. Raises AccessError."""
    covering = [g for g in grants if g.covers(bundle_id)]
    if not covering:
        raise NotCovered(f'image "{bundle_id}" is not covered by grant "{grants[0].label}"')
    errors: list[AccessError] = []
    for grant in covering:
        wanted = tier or grant.tier
        try:
            grant.require_current(today)
            grant.require_tier(wanted)
        except (GrantExpired, TierTooLow) as error:
            errors.append(error)
            continue
        return wanted, grant.image_secrets(bundle_id)
    raise errors[0]


@dataclass(frozen=True)
class Scope:
    """What grants are for. release, keys: see Manifest. secret: the release's, of the highest
    tier."""

    release: str
    keys: str
    secret: Secret

    @classmethod
    def new(cls, release: str | None = None) -> Scope:
        """Fresh secrets, of a new release unless told of which."""
        return cls(release or secrets.token_hex(16), secrets.token_hex(16), Secret.new())


def owner_grant(scope: Scope, signer: Signer) -> Grant:
    """The owner's own grant: the whole release, every tier."""
    text = signer.recipient.text
    return Grant(scope.release, scope.keys, signer.public, HIGHEST, "owner", text, scope.secret)


def make_grant(
    scope: Scope,
    recipient: Recipient,
    signer: Signer,
    tier: Tier,
    images: Iterable[str] | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
) -> Grant:
    """A grant that holds no more than it opens.

    images: ids, None for the whole release. Raises UsageError for no image, and for the owner's
    label.
    """
    require_free_label(recipient)
    opened = release_secrets(scope.secret, HIGHEST)
    whole = Grant(
        scope.release,
        scope.keys,
        signer.public,
        tier,
        recipient.label,
        recipient.text,
        opened[tier],
        note=note,
        not_after=not_after,
    )
    if images is None:
        return whole
    chosen = list(images)
    if not chosen:
        raise UsageError("a grant for no image opens nothing, expected at least one")
    return replace(whole, secret=None, images={i: whole.image_secrets(i) for i in chosen})


def require_free_label(recipient: Recipient) -> None:
    """Raise UsageError for the owner's label."""
    if recipient.label == "owner":
        raise UsageError('label "owner" is the owner\'s own, expected another')


def write_grant(folder: Path, grant: Grant, recipient: Recipient, signer: Signer) -> Path:
    """Sign a grant and seal it to its recipient. Older ones stay; one under its label is a
    UsageError."""
    data = grant.seal(recipient, signer)
    checksum = hashlib.sha256(data).hexdigest()[:_CHECKSUM]
    path = folder / GRANTS / f"{grant.label}.{checksum}.age"
    if list(path.parent.glob(f"{grant.label}.{'?' * _CHECKSUM}.age")):
        raise UsageError(f'label "{grant.label}" is taken by another grant, expected a new one')
    write_new(path, data)
    write_index(folder)
    return path


def write_index(folder: Path) -> None:
    """grants/index.json: the names of all grants, for hosts that list no folders."""
    names = sorted(path.name for path in (folder / GRANTS).glob("*.age"))
    write_new(folder / GRANTS / INDEX, canonical({"format": 1, "grants": names}))

"""A release on disk: manifest.json, bundles/<id>.primis, grants/<label>.<checksum>.age.

A folder in the making ends in ".partial" and becomes the release, in one rename, when it is complete.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from glob import escape as glob_escape
from pathlib import Path
from typing import NamedTuple

from primis.atomic import PARTIAL, open_regular, read_regular, reason, sweep, write_new
from primis.bundle.layout import (
    MAX_HEADER,
    MAX_MANIFEST,
    Header,
    Manifest,
    SignedManifest,
    manifest_message,
    read_bundle,
    read_header,
    read_manifest,
    split_manifest,
)
from primis.errors import (
    AccessError,
    BadBundle,
    BadGrant,
    BadKey,
    BadManifest,
    GrantExpired,
    NoMatchingGrant,
    NotCovered,
    OtherPassphrase,
    OutputError,
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
    verify,
)
from primis.keys.seal import TIERS, Secret, release_secrets
from primis.release.known import KnownReleases
from primis.release.lock import locked

MANIFEST = "manifest.json"
OLD = ".old"
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


class Release:
    """A release whose manifest is signed, well-formed, and signed by `signer` where that is given.

    known: what was seen of releases before; one that does not fit raises UnexpectedRelease, unless
    `anew`, or another signer was demanded by name. notes: what a person should hear about it.
    """

    def __init__(
        self,
        path: Path,
        *,
        signer: str | None = None,
        known: KnownReleases | None = None,
        anew: bool = False,
    ) -> None:
        self._typed = path
        self._places = list(dict.fromkeys((os.path.abspath(path), str(path.resolve()))))
        self.path = path = path.resolve()
        self.notes: list[str] = []
        self._demanded, self._known, self._anew = signer, known, anew
        file = path / MANIFEST
        try:
            data = read_regular(file, MAX_MANIFEST)
        except OSError as error:
            raise BadManifest(
                _not_a_release(path)
                or f'"{path}" is not a release: {MANIFEST} cannot be read ({reason(error)})'
            ) from None
        signed = split_manifest(data, str(file))
        if not verify(signed.signer, signed.message, signed.signature):
            raise BadManifest(
                f'manifest "{file}" does not verify under its signer "{signed.signer[:16]}"'
            )
        if signer is not None and signer != signed.signer:
            raise WrongSigner(
                f'release "{path}" is signed by "{signed.signer}", expected "{signer}"'
            )
        self.manifest = read_manifest(signed, str(file))
        self.digest = hashlib.sha256(signed.body).hexdigest()
        self._entries = {entry.id: entry for entry in self.manifest.bundles}
        self.notes += [
            f'"{old.folder}" is an older state that a "primis rekey" left behind, and opens with '
            "withdrawn keys: remove it"
            for old in left_behind(path, self.manifest.release)
        ]
        if known is not None:
            self._recognise(known, anew=anew)

    def _recognise(self, known: KnownReleases, *, anew: bool) -> None:
        manifest = self.manifest
        said = known.check(
            self._places,
            manifest.release,
            manifest.signer,
            manifest.version,
            self.digest,
            demanded=self._demanded is not None,
            anew=anew,
        )
        self.notes += [said] if said else []

    def again(self) -> Release:
        """The release as it is now."""
        return Release(self._typed, signer=self._demanded, known=self._known, anew=self._anew)

    @property
    def ids(self) -> list[str]:
        """Ids of all bundles."""
        return [entry.id for entry in self.manifest.bundles]

    def bundle_path(self, bundle_id: str) -> Path:
        """Where a bundle lies."""
        return self.path / "bundles" / f"{bundle_id}.primis"

    def bundle(self, bundle_id: str) -> bytes:
        """A bundle's bytes, checked against the manifest. Raises BadBundle, DamagedSection."""
        entry, path = self._entries[bundle_id], self.bundle_path(bundle_id)
        try:
            data = read_regular(path, entry.bytes + MAX_HEADER)
        except OSError as error:
            raise BadBundle(f'bundle "{path}" cannot be read: {reason(error)}') from None
        if len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
            if len(data) == entry.bytes:
                read_bundle(data, bundle_id)  # names the section, if one was altered
            raise BadBundle(
                f'bundle "{path}" ({len(data)} bytes) is not the one that the manifest lists '
                f"({entry.bytes} bytes)"
            )
        header, _ = read_header(data, bundle_id)
        if header.id != bundle_id:
            raise BadBundle(f'bundle "{path}" calls itself "{header.id}"')
        return data

    def header(self, bundle_id: str) -> Header:
        """A bundle's header alone, without a look at its sections."""
        path = self.bundle_path(bundle_id)
        try:
            with open_regular(path) as file:
                return read_header(file.read(2 * MAX_HEADER), bundle_id)[0]
        except OSError as error:
            raise BadBundle(f'bundle "{path}" cannot be read: {reason(error)}') from None

    def resolve(self, prefix: str) -> str:
        """The id that starts with this. Raises UsageError unless there is exactly one."""
        found = [i for i in self.ids if i.startswith(prefix)]
        if len(found) != 1:
            raise UsageError(
                f'image "{prefix}" matches {len(found)} images of the release, expected one'
            )
        return found[0]

    def grants(self) -> list[GrantFile]:
        """All grants, by label; files with other names are none. A damaged one is left out, with a
        note. Raises BadGrant where there are more than anyone makes."""
        files = sorted((self.path / "grants").glob("*.age"))
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
                self._note(f'grant "{path}" cannot be read and is passed over: {reason(error)}')
                continue
            if hashlib.sha256(data).hexdigest()[:_CHECKSUM] != checksum:
                self._note(
                    f'grant "{path}" was altered and is passed over: '
                    "it does not match the checksum in its name"
                )
                continue
            found.append(GrantFile(label, path, data))
        return found

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def open_grants(
        self, identities: Iterable[Identity], *, trust: str | None = None
    ) -> list[Grant]:
        """The grants these identities open, the highest tier and widest scope first.

        A file that is not a grant of this release and its present secrets, signed by its owner,
        for the key that opened it, under its own label, does not count. Where some name another
        signer either they or the release are false, so unless the release's signer was demanded,
        or is known by `trust`, that is a WrongSigner. Raises BadGrant if only such files open, and
        NoMatchingGrant, saying which keys were offered and which grants are there, if none does.
        """
        offered, files = list(identities), self.grants()
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
        if doubts and self.manifest.signer not in (self._demanded, trust):
            raise doubts[0]
        if not opened and refused:
            raise refused[0]
        if not opened:
            keys = ", ".join(i.label for i in offered) or "none"
            labels = ", ".join(file.label for file in files) or "none"
            if wrong_passphrase:
                raise OtherPassphrase(
                    f'release "{self.path}" has a grant for a passphrase, but not for this one; '
                    f"it has grants for: {labels}"
                )
            raise NoMatchingGrant(
                f'release "{self.path}" has no grant for the key offered ({keys}); '
                f"it has grants for: {labels}"
            )
        for doubt in refused:
            self._note(f"passed over: {doubt}")
        return sorted(opened, key=lambda g: (-TIERS.index(g.tier), g.secret is None))

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
                self._note(f'grant "{file.path}" is passed over: trying it takes too long')
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
                    f'by "{self.manifest.signer}": say with --from which of them you trust'
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


class OldState(NamedTuple):
    """A folder that `rekey` put aside and could not remove. version: of its manifest."""

    folder: Path
    release: str
    signer: str
    version: int


def left_behind(path: Path, release: str | None = None) -> list[OldState]:
    """Older states of what lies or lay at a path, of that release if one is named, the newest
    first. Only what has a sound manifest counts: a folder of that name may be anything."""
    pattern = f"{glob_escape(path.name)}.{'[0-9a-f]' * 8}{OLD}"
    states = [state for folder in path.parent.glob(pattern) if (state := _old_state(folder))]
    chosen = [state for state in states if release in (None, state.release)]
    return sorted(chosen, key=lambda state: (-state.version, state.folder))


def _old_state(folder: Path) -> OldState | None:
    file = folder / MANIFEST
    if folder.is_symlink():
        return None
    try:
        signed = split_manifest(read_regular(file, MAX_MANIFEST), str(file))
        if not verify(signed.signer, signed.message, signed.signature):
            return None
        manifest = read_manifest(signed, str(file))
    except (OSError, BadManifest):
        return None
    return OldState(folder, manifest.release, signed.signer, manifest.version)


def require_nothing_cut_off(path: Path) -> None:
    """Raise OutputError where a release would take the place of one that `rekey` had put aside."""
    if not os.path.lexists(path) and (why := _cut_off(path)):
        raise OutputError(why)


def _cut_off(path: Path) -> str | None:
    aside = left_behind(path)
    if not aside or os.path.lexists(path):
        return None
    return (
        f'release "{path}" was cut off in "primis rekey": '
        f'rename "{aside[0].folder}" to "{path.name}" to have the old one again'
    )


def _not_a_release(path: Path) -> str | None:
    """What a folder without a manifest may be, or None."""
    if (partial := path.with_name(path.name + PARTIAL)).is_dir():
        return (
            f'release "{path}" is incomplete: "{partial}" waits for "primis share" to be run again'
        )
    return _cut_off(path)


def secrets_for(
    grants: list[Grant], bundle_id: str, tier: str | None, today: datetime.date
) -> tuple[str, dict[str, Secret]]:
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


def write_manifest(folder: Path, manifest: Manifest, signer: Signer) -> None:
    """Sign and write manifest.json; it is read back, so that no release is one that none can open."""
    body = replace(manifest, signer=signer.public).write()
    signature = signer.sign(manifest_message(signer.public, body))
    signed = SignedManifest(signer.public, signature, body)
    read_manifest(signed, str(folder / MANIFEST))
    write_new(folder / MANIFEST, signed.write())


def timestamp(now: datetime.datetime) -> str:
    """A manifest's `created`."""
    return now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_grant(folder: Path, grant: Grant, recipient: Recipient, signer: Signer) -> Path:
    """Sign a grant and seal it to its recipient. Older ones stay; one under its label is a
    UsageError."""
    data = grant.seal(recipient, signer)
    checksum = hashlib.sha256(data).hexdigest()[:_CHECKSUM]
    path = folder / "grants" / f"{grant.label}.{checksum}.age"
    if list(path.parent.glob(f"{grant.label}.{'?' * _CHECKSUM}.age")):
        raise UsageError(f'label "{grant.label}" is taken by another grant, expected a new one')
    write_new(path, data)
    return path


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
    tier, text = TIERS[-1], signer.recipient.text
    return Grant(scope.release, scope.keys, signer.public, tier, "owner", text, scope.secret)


def owner_scope(release: Release, signer: Signer) -> Scope:
    """What the release's grants are for, from the owner's own."""
    if release.manifest.signer != signer.public:
        raise WrongSigner(
            f'release "{release.path}" is signed by "{release.manifest.signer[:16]}", this key signs as "{signer.public[:16]}"'
        )
    for grant in release.open_grants([signer.identity], trust=signer.public):
        if grant.secret is not None and grant.tier == TIERS[-1]:
            return Scope(grant.release, grant.keys, grant.secret)
    raise NoMatchingGrant(
        f'release "{release.path}" has no owner\'s grant for key "{signer.identity.label}"'
    )


def grant(
    release: Release,
    recipient: Recipient,
    signer: Signer,
    *,
    tier: str = "diagnostic",
    images: Iterable[str] | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
    on_wait: Callable[[str], None] = lambda said: None,
) -> Path:
    """Let a recipient open a release, or named images of it, up to a tier. Touches nothing else.

    A recipient who has a grant already gets another, under its label and a number. images: ids of
    the release as it was opened; UsageError if it was given new ones meanwhile. on_wait: is told
    who else is changing the release.
    """
    with locked(release.path, "primis grant", on_wait=on_wait):
        release = release.again()
        chosen = None if images is None else [release.resolve(image) for image in images]
        scope = owner_scope(release, signer)
        sweep(release.path / "grants")
        taken = {file.label for file in release.grants()}
        labels = (recipient.label, *(f"{recipient.label}-{n}" for n in range(2, len(taken) + 3)))
        label = next(x for x in labels if x not in taken or x == "owner")
        named = replace(recipient, label=label)
        made = make_grant(scope, named, signer, tier, chosen, note, not_after)
        return write_grant(release.path, made, named, signer)


def has_originals(release: Release) -> bool:
    """Whether any bundle of the release holds the original file."""
    return any(s.name == "original" for i in release.ids for s in release.header(i).sections)


def make_grant(
    scope: Scope,
    recipient: Recipient,
    signer: Signer,
    tier: str,
    images: Iterable[str] | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
) -> Grant:
    """A grant that holds no more than it opens.

    images: ids, None for the whole release. Raises UsageError for no image, and for the owner's
    label.
    """
    require_free_label(recipient)
    opened = release_secrets(release_secrets(scope.secret, TIERS[-1])[tier], tier)
    whole = Grant(
        scope.release,
        scope.keys,
        signer.public,
        tier,
        recipient.label,
        recipient.text,
        opened[tier],
        {},
        note,
        not_after,
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

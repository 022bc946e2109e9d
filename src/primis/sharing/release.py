"""A release on disk: manifest.json, bundles/<id>.primis, grants/<label>.<checksum>.age.

A folder in the making ends in ".partial" and becomes the release, in one rename, when it is complete.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from glob import escape as glob_escape
from pathlib import Path

from primis.bundle.layout import MAX_HEADER, Entry, Header, Manifest, read_bundle, read_header, read_manifest
from primis.errors import (
    AccessError,
    BadBundle,
    BadGrant,
    BadKey,
    BadManifest,
    GrantExpired,
    NoMatchingGrant,
    NotCovered,
    OutputError,
    TierTooLow,
    UsageError,
    WrongSigner,
)
from primis.keys.grant import Grant, read_grant
from primis.keys.identity import Identity, Recipient, Signer, is_label, verify
from primis.keys.seal import TIERS, Secret, image_secret, release_secrets
from primis.sharing.image_bundle import reseal
from primis.sharing.output import PARTIAL, level_times, reason, remove_folder, write_new

MANIFEST = "manifest.json"
_CHECKSUM = 8
_MAX_GRANT = 1 << 28
_OLD = ".old"


@dataclass(frozen=True)
class GrantFile:
    """A grant as anyone sees it: its label (see `Recipient`) and its bytes."""

    label: str
    path: Path
    data: bytes


class Release:
    """A release whose manifest is well-formed, signed, and signed by `signer` where that is given."""

    def __init__(self, path: Path, *, signer: str | None = None) -> None:
        self.path = path = path.resolve()
        self._demanded = signer
        file = path / MANIFEST
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BadManifest(
                _not_a_release(path) or f'"{path}" is not a release: {MANIFEST} cannot be read ({error.strerror})'
            ) from None
        self.manifest = read_manifest(data, str(file))
        if not verify(self.manifest.signer, self.manifest.message, self.manifest.signature):
            raise BadManifest(f'manifest "{file}" does not verify under its signer "{self.manifest.signer[:16]}"')
        if signer is not None and signer != self.manifest.signer:
            raise WrongSigner(f'release "{path}" is signed by "{self.manifest.signer}", expected "{signer}"')

    @property
    def ids(self) -> list[str]:
        """Ids of all bundles."""
        return [entry.id for entry in self.manifest.bundles]

    def bundle_path(self, bundle_id: str) -> Path:
        """Where a bundle lies."""
        return self.path / "bundles" / f"{bundle_id}.primis"

    def bundle(self, bundle_id: str) -> bytes:
        """A bundle's bytes, checked against the manifest. Raises BadBundle, DamagedSection."""
        entry = next(e for e in self.manifest.bundles if e.id == bundle_id)
        path = self.bundle_path(bundle_id)
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= entry.bytes + MAX_HEADER else b""
        except OSError as error:
            raise BadBundle(f'bundle "{path}" cannot be read: {error.strerror}') from None
        if len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
            if size == entry.bytes:
                read_bundle(data, bundle_id)  # names the section, if one was altered
            raise BadBundle(f'bundle "{path}" ({size} bytes) is not the one that the manifest lists ({entry.bytes} bytes)')
        return data

    def header(self, bundle_id: str) -> Header:
        """A bundle's header alone, without a look at its sections."""
        path = self.bundle_path(bundle_id)
        try:
            with path.open("rb") as file:
                return read_header(file.read(2 * MAX_HEADER), bundle_id)[0]
        except OSError as error:
            raise BadBundle(f'bundle "{path}" cannot be read: {error.strerror}') from None

    def resolve(self, prefix: str) -> str:
        """The id that starts with this. Raises UsageError unless there is exactly one."""
        found = [i for i in self.ids if i.startswith(prefix)]
        if len(found) != 1:
            raise UsageError(f'image "{prefix}" matches {len(found)} images of the release, expected one')
        return found[0]

    def grants(self) -> list[GrantFile]:
        """All grants, by label; files with other names are none. Raises BadGrant where a file's checksum
        differs from its name's."""
        found = []
        for path in sorted((self.path / "grants").glob("*.age")):
            label, _, checksum = path.stem.rpartition(".")
            if not is_label(label) or len(checksum) != _CHECKSUM:
                continue
            try:
                data = path.read_bytes() if path.stat().st_size <= _MAX_GRANT else b""
            except OSError as error:
                raise BadGrant(f'grant "{path}" cannot be read: {error.strerror}') from None
            if hashlib.sha256(data).hexdigest()[:_CHECKSUM] != checksum:
                raise BadGrant(f'grant "{path}" was altered: it does not match the checksum in its name')
            found.append(GrantFile(label, path, data))
        return found

    def open_grants(self, identities: Iterable[Identity], *, trust: str | None = None) -> list[Grant]:
        """The grants these identities open, the highest tier and widest scope first.

        A file that is not a grant of this release, signed by its owner, under its own label, does not count. Where some
        name another signer either they or the release are false, so unless the release's signer was demanded, or is known by
        `trust`, that is a WrongSigner. Raises BadGrant if only such files open, and NoMatchingGrant, saying which keys were
        offered and which grants are there, if none does.
        """
        offered, files = list(identities), self.grants()
        opened: list[Grant] = []
        refused: list[BadGrant | WrongSigner] = []
        for file in files:
            try:
                grant = self._open(file, offered)
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
            raise NoMatchingGrant(f'release "{self.path}" has no grant for the key offered ({keys}); it has grants for: {labels}')
        return sorted(opened, key=lambda g: (-TIERS.index(g.tier), g.secret is None))

    def _open(self, file: GrantFile, identities: list[Identity]) -> Grant | None:
        for identity in identities:
            try:
                payload = identity.decrypt(file.data)
            except BadKey as error:
                raise BadGrant(f'grant "{file.path}" does not verify: {error}') from None
            if payload is not None:
                grant = read_grant(payload, str(file.path))
                if grant.signer != self.manifest.signer:
                    raise WrongSigner(f'grant "{file.path}" for your key is signed by "{grant.signer}", the release by '
                                      f'"{self.manifest.signer}": say with --from which of them you trust')  # fmt: skip
                if grant.release != self.manifest.release:
                    raise BadGrant(
                        f'grant "{file.path}" belongs to release "{grant.release}", expected "{self.manifest.release}"'
                    )
                if grant.label != file.label:
                    raise BadGrant(f'grant "{file.path}" was renamed: its label is "{grant.label}"')
                return grant
        return None


def _not_a_release(path: Path) -> str | None:
    """What a folder without a manifest may be, or None."""
    if (partial := path.with_name(path.name + PARTIAL)).is_dir():
        return f'release "{path}" is incomplete: "{partial}" waits for "primis share" to be run again'
    aside = sorted(path.parent.glob(f"{glob_escape(path.name)}.*{_OLD}"))
    if aside and not path.exists():
        return f'release "{path}" was cut off in "primis rekey": rename "{aside[0]}" to "{path.name}" to have the old one again'
    return None


def secrets_for(grants: list[Grant], bundle_id: str, tier: str | None, today: datetime.date) -> tuple[str, dict[str, Secret]]:
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


def write_manifest(
    folder: Path, release: str, model: str, entries: Iterable[Entry], signer: Signer, now: datetime.datetime
) -> None:
    """Sign and write manifest.json."""
    created = now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    manifest = Manifest(release, created, model, tuple(entries), signer.public)
    signed = replace(manifest, signature=signer.sign(manifest.message))
    write_new(folder / MANIFEST, signed.write())


def write_grant(folder: Path, grant: Grant, recipient: Recipient, signer: Signer) -> Path:
    """Sign a grant and seal it to its recipient. Older ones stay; one under its label is a UsageError."""
    data = grant.seal(recipient, signer)
    path = folder / "grants" / f"{grant.label}.{hashlib.sha256(data).hexdigest()[:_CHECKSUM]}.age"
    if list(path.parent.glob(f"{grant.label}.{'?' * _CHECKSUM}.age")):
        raise UsageError(f'label "{grant.label}" is taken by another grant, expected a new one')
    write_new(path, data)
    return path


def owner_grant(release_id: str, secret: Secret, signer: Signer) -> Grant:
    """The owner's own grant: the whole release, every tier."""
    return Grant(release_id, signer.public, TIERS[-1], "owner", signer.recipient.text, secret)


def owner_secret(release: Release, signer: Signer) -> Secret:
    """The release secret of the highest tier, from the owner's grant."""
    if release.manifest.signer != signer.public:
        raise WrongSigner(
            f'release "{release.path}" is signed by "{release.manifest.signer[:16]}", this key signs as "{signer.public[:16]}"'
        )
    for grant in release.open_grants([signer.identity], trust=signer.public):
        if grant.secret is not None and grant.tier == TIERS[-1]:
            return grant.secret
    raise NoMatchingGrant(f'release "{release.path}" has no owner\'s grant for key "{signer.identity.label}"')


def grant(
    release: Release,
    recipient: Recipient,
    signer: Signer,
    *,
    tier: str = "diagnostic",
    images: Iterable[str] | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
) -> Path:
    """Let a recipient open a release, or named images of it, up to a tier. Touches nothing else.

    A recipient who has a grant already gets another, under its label and a number.
    """
    secret = owner_secret(release, signer)
    taken = {file.label for file in release.grants()}
    labels = (recipient.label, *(f"{recipient.label}-{n}" for n in range(2, len(taken) + 3)))
    named = replace(recipient, label=next(label for label in labels if label not in taken or label == "owner"))
    made = make_grant(release.manifest.release, secret, named, signer, tier, images, note, not_after)
    return write_grant(release.path, made, named, signer)


def has_originals(release: Release) -> bool:
    """Whether any bundle of the release holds the original file."""
    return any(s.name == "original" for i in release.ids for s in release.header(i).sections)


def make_grant(
    release_id: str,
    secret: Secret,
    recipient: Recipient,
    signer: Signer,
    tier: str,
    images: Iterable[str] | None = None,
    note: str | None = None,
    not_after: datetime.date | None = None,
) -> Grant:
    """A grant that holds no more than it opens. secret: the release's, of the highest tier.

    images: ids, None for the whole release. Raises UsageError for no image, and for the owner's label.
    """
    if recipient.label == "owner":
        raise UsageError('label "owner" is the owner\'s own, expected another')
    opened = release_secrets(release_secrets(secret, TIERS[-1])[tier], tier)
    whole = Grant(release_id, signer.public, tier, recipient.label, recipient.text, opened[tier], {}, note, not_after)
    if images is None:
        return whole
    chosen = list(images)
    if not chosen:
        raise UsageError("a grant for no image opens nothing, expected at least one")
    return replace(whole, secret=None, images={i: whole.image_secrets(i) for i in chosen})


@dataclass(frozen=True)
class Rekeyed:
    """renewed: labels of the grants made anew; dropped: those that could not be (passphrases) or were withdrawn; left_out:
    other things in the folder that were not carried over, since they are neither files nor folders."""

    renewed: list[str]
    dropped: list[str]
    left_out: list[str]


def rekey(
    release: Release,
    signer: Signer,
    *,
    without: Iterable[str] = (),
    on_bundle: Callable[[str], None] = lambda bundle_id: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Rekeyed:
    """New secrets, new ids and new grants for the same images; no image is decoded.

    Every grant that the owner signed for this release and that lies in it is renewed, but for those in
    `without` and all others to the same keys. The new release is built beside the old one and takes its place at the end.
    """
    old = release_secrets(owner_secret(release, signer), TIERS[-1])
    grants, files = release.open_grants([signer.identity], trust=signer.public), release.grants()
    withdrawn = set(without)
    if "owner" in withdrawn:
        raise UsageError('grant "owner" is your own and cannot be withdrawn')
    if unknown := withdrawn - {f.label for f in files}:
        labels = ", ".join(f.label for f in files)
        raise UsageError(f'grant "{sorted(unknown)[0]}" is not in the release, expected one of: {labels}')
    fresh, release_id = Secret.new(), secrets.token_hex(16)
    new = release_secrets(fresh, TIERS[-1])
    folder = release.path.with_name(release.path.name + ".rekey" + PARTIAL)
    remove_folder(folder)
    entries, renamed = [], {}
    for bundle_id in secrets.SystemRandom().sample(release.ids, len(release.ids)):  # old and new ids have no order in common
        renamed[bundle_id] = after = secrets.token_hex(16)
        data = reseal(release.bundle(bundle_id), _image_secrets(old, bundle_id), _image_secrets(new, after), after)
        write_new(folder / "bundles" / f"{after}.primis", data)
        entries.append(Entry(len(data), after, hashlib.sha256(data).hexdigest()))
        on_bundle(bundle_id)
    write_grant(folder, owner_grant(release_id, fresh, signer), signer.recipient, signer)
    gone = {g.recipient for g in grants if g.label in withdrawn and g.recipient}
    renewed: list[str] = []
    for g in grants:
        images = None if g.secret is not None else [renamed[i] for i in g.images if i in renamed]
        if g.label in {"owner", *withdrawn, *renewed} or not g.recipient or g.recipient in gone or images == []:
            continue
        recipient = Recipient(g.recipient.split()[0] if " " in g.recipient else "age", g.recipient, g.label)
        again = make_grant(release_id, fresh, recipient, signer, g.tier, images, g.note, g.not_after)
        write_grant(folder, again, recipient, signer)
        renewed.append(g.label)
    write_manifest(folder, release_id, release.manifest.model, entries, signer, now())
    level_times(folder)
    left_out = _carry_others(release.path, folder)
    _replace(folder, release.path)
    return Rekeyed(renewed, sorted({f.label for f in files} - {*renewed, "owner"}), left_out)


def _carry_others(old: Path, new: Path) -> list[str]:
    """Files that do not belong to the format stay where they were. Links are not followed, but left out and named: whoever
    stores the release may have laid them, and what they point to would be published."""
    left_out: list[str] = []

    def plain(folder: str, names: list[str]) -> list[str]:
        odd = [name for name in names if _is_odd(Path(folder, name))]
        left_out.extend(str(Path(folder, name).relative_to(old)) for name in odd)
        return odd

    try:
        others = [path.name for path in old.iterdir() if path.name not in (MANIFEST, "bundles", "grants")]
        for name in sorted(set(others) - set(plain(str(old), others))):
            if (old / name).is_dir():
                shutil.copytree(old / name, new / name, ignore=plain)
            else:
                shutil.copy2(old / name, new / name)
    except OSError as error:
        raise OutputError(f'"{new}" cannot be written: {reason(error)}') from None
    return left_out


def _is_odd(path: Path) -> bool:
    """Whether it is neither a file nor a folder itself."""
    return path.is_symlink() or not (path.is_file() or path.is_dir())


def _image_secrets(tiers: dict[str, Secret], bundle_id: str) -> dict[str, Secret]:
    return {tier: image_secret(secret, bundle_id) for tier, secret in tiers.items()}


def _replace(fresh: Path, path: Path) -> None:
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_OLD}")
    try:
        os.rename(path, aside)
        try:
            os.rename(fresh, path)
        except BaseException:
            os.rename(aside, path)
            raise
    except OSError as error:
        raise OutputError(f'"{path}" cannot be replaced: {reason(error)}') from None
    remove_folder(aside)

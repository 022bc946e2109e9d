"""A release on disk: manifest.json, bundles/<id>.primis, grants/<label>.<checksum>.age.

A folder in the making ends in ".partial" and becomes the release, in one rename, when it is complete.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
from primis.keys.identity import Identity, Recipient, Signer, fingerprint, verify
from primis.keys.seal import TIERS, Secret, release_secrets

MANIFEST = "manifest.json"
PARTIAL = ".partial"
_CHECKSUM = 8


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is there whole or not at all. Raises OutputError."""
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f'"{path}" cannot be written: {_why(error)}') from None
    finally:
        temporary.unlink(missing_ok=True)


def finish_folder(partial: Path, out: Path) -> None:
    """Give a complete folder its name. Raises OutputError if that is taken."""
    try:
        if out.exists():
            raise OutputError(f'folder "{out}" exists, expected a new one')
        os.rename(partial, out)
    except OSError as error:
        raise OutputError(f'"{out}" cannot be written: {_why(error)}') from None


def _why(error: OSError) -> str:
    return "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)


@dataclass(frozen=True)
class GrantFile:
    """A grant as anyone sees it: its label (see `Recipient`) and its bytes."""

    label: str
    path: Path
    data: bytes


class Release:
    """A release whose manifest is well-formed, signed, and signed by `signer` where that is given."""

    def __init__(self, path: Path, *, signer: str | None = None) -> None:
        self.path = path
        file = path / MANIFEST
        try:
            data = file.read_bytes()
        except OSError as error:
            if (partial := path.with_name(path.name + PARTIAL)).is_dir():
                raise BadManifest(
                    f'release "{path}" is incomplete: "{partial}" waits for "primis share" to be run again'
                ) from None
            raise BadManifest(f'"{path}" is not a release: {MANIFEST} cannot be read ({error.strerror})') from None
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
            data = path.read_bytes()
        except OSError as error:
            raise BadBundle(f'bundle "{path}" cannot be read: {error.strerror}') from None
        if len(data) != entry.bytes or hashlib.sha256(data).hexdigest() != entry.sha256:
            read_bundle(data, bundle_id)  # names the section, if one was altered
            raise BadBundle(f'bundle "{path}" ({len(data)} bytes) is not the one that the manifest lists ({entry.bytes} bytes)')
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
        """All grants, by label. Raises BadGrant where a file's checksum differs from its name's."""
        found = []
        for path in sorted((self.path / "grants").glob("*.age")):
            label, _, checksum = path.stem.rpartition(".")
            try:
                data = path.read_bytes()
            except OSError as error:
                raise BadGrant(f'grant "{path}" cannot be read: {error.strerror}') from None
            if not label or hashlib.sha256(data).hexdigest()[:_CHECKSUM] != checksum:
                raise BadGrant(f'grant "{path}" was altered: it does not match the checksum in its name')
            found.append(GrantFile(label, path, data))
        return found

    def open_grants(self, identities: Iterable[Identity]) -> list[Grant]:
        """The grants these identities open, the highest tier and widest scope first.

        Raises NoMatchingGrant, saying which keys were offered and which grants are there.
        """
        offered = list(identities)
        files = self.grants()
        found = [(file, grant) for file in files if (grant := self._open(file, offered)) is not None]
        here = (self.manifest.release, self.manifest.signer)
        opened = [grant for _, grant in found if (grant.release, grant.signer) == here]
        if found and not opened:
            file, foreign = found[0]
            raise BadGrant(f'grant "{file.path}" belongs to release "{foreign.release}", expected "{here[0]}"')
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
                return read_grant(payload, str(file.path))
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


def write_grant(folder: Path, grant: Grant, recipient: Recipient, owner: Recipient) -> Path:
    """Seal a grant to its recipient, in place of an older one with the same label."""
    data = grant.seal(recipient, owner)
    checksum = hashlib.sha256(data).hexdigest()[:_CHECKSUM]
    path = folder / "grants" / f"{grant.label}.{checksum}.age"
    write_new(path, data)
    for older in path.parent.glob(f"{grant.label}.*.age"):
        if older != path:
            older.unlink()
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
    for grant in release.open_grants([signer.identity]):
        if grant.secret is not None and grant.tier == TIERS[-1]:
            return grant.secret
    raise NoMatchingGrant(f'release "{release.path}" has no owner\'s grant for key "{signer.identity.label}"')


def grant(
    release: Release,
    recipient: Recipient,
    signer: Signer,
    *,
    tier: str = "diagnostic",
    images: Iterable[str] = (),
    note: str | None = None,
    not_after: datetime.date | None = None,
) -> Path:
    """Let a recipient open a release, or named images of it, up to a tier. Touches nothing else."""
    secret = owner_secret(release, signer)
    made = make_grant(release.manifest.release, secret, recipient, signer, tier, images, note, not_after)
    return write_grant(release.path, made, recipient, signer.recipient)


def has_originals(release: Release) -> bool:
    """Whether any bundle of the release holds the original file."""
    return any(s.name == "original" for i in release.ids for s in release.header(i).sections)


def make_grant(
    release_id: str,
    secret: Secret,
    recipient: Recipient,
    signer: Signer,
    tier: str,
    images: Iterable[str] = (),
    note: str | None = None,
    not_after: datetime.date | None = None,
) -> Grant:
    """A grant that holds no more than it opens. secret: the release's, of the highest tier."""
    if recipient.label == "owner":
        raise UsageError('label "owner" is the owner\'s own, expected another')
    opened = release_secrets(release_secrets(secret, TIERS[-1])[tier], tier)
    whole = Grant(release_id, signer.public, tier, recipient.label, recipient.text, opened[tier], {}, note, not_after)
    chosen = list(images)
    if not chosen:
        return whole
    return replace(whole, secret=None, images={i: whole.image_secrets(i) for i in chosen})


@dataclass(frozen=True)
class Rekeyed:
    """renewed: labels of the grants made anew; dropped: those that could not be (passphrases) or were withdrawn."""

    renewed: list[str]
    dropped: list[str]


def rekey(
    release: Release,
    signer: Signer,
    *,
    without: Iterable[str] = (),
    on_bundle: Callable[[str], None] = lambda bundle_id: None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Rekeyed:
    """New secrets, new ids and new grants for the same images; no image is decoded.

    The new release is built beside the old one and takes its place at the end.
    """
    from primis.sharing.image_bundle import reseal

    old = release_secrets(owner_secret(release, signer), TIERS[-1])
    grants, files = release.open_grants([signer.identity]), release.grants()
    unknown = set(without) - {f.label for f in files}
    if unknown:
        raise UsageError(
            f'grant "{sorted(unknown)[0]}" is not in the release, expected one of: {", ".join(f.label for f in files)}'
        )
    fresh, release_id = Secret.new(), secrets.token_hex(16)
    new = release_secrets(fresh, TIERS[-1])
    folder = release.path.with_name(release.path.name + ".rekey" + PARTIAL)
    _remove(folder)
    entries, renamed = [], {}
    for bundle_id in release.ids:
        renamed[bundle_id] = after = secrets.token_hex(16)
        was, now_ = _image_secrets(old, bundle_id), _image_secrets(new, after)
        data = reseal(release.bundle(bundle_id), was, now_, after)
        write_new(folder / "bundles" / f"{after}.primis", data)
        entries.append(Entry(len(data), after, hashlib.sha256(data).hexdigest()))
        on_bundle(bundle_id)
    kept = [g for g in grants if g.label != "owner" and g.label not in set(without) and g.recipient]
    write_grant(folder, owner_grant(release_id, fresh, signer), signer.recipient, signer.recipient)
    for g in kept:
        recipient = Recipient(g.recipient.split()[0] if " " in g.recipient else "age", g.recipient, g.label)
        images = [renamed[i] for i in g.images if i in renamed]
        again = make_grant(release_id, fresh, recipient, signer, g.tier, images, g.note, g.not_after)
        write_grant(folder, again, recipient, signer.recipient)
    write_manifest(folder, release_id, release.manifest.model, entries, signer, now())
    _replace(folder, release.path)
    labels = [g.label for g in kept]
    return Rekeyed(labels, [f.label for f in files if f.label not in (*labels, "owner")])


def _image_secrets(tiers: dict[str, Secret], bundle_id: str) -> dict[str, Secret]:
    from primis.keys.seal import image_secret

    return {tier: image_secret(secret, bundle_id) for tier, secret in tiers.items()}


def _replace(fresh: Path, path: Path) -> None:
    aside = path.with_name(f"{path.name}.{fingerprint(str(fresh))}.old")
    try:
        os.rename(path, aside)
        try:
            os.rename(fresh, path)
        except OSError:
            os.rename(aside, path)
            raise
    except OSError as error:
        raise OutputError(f'"{path}" cannot be replaced: {_why(error)}') from None
    _remove(aside)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)

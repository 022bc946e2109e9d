"""Grants of a release: the files, which of them open, and how new ones are made.

Anyone can seal a file to a public key, rename one, or put back one that was withdrawn. So a grant
counts only if it is signed by the release's owner, for this release and its present secrets, for
the key that opened it, under its own label (docs/format.md, section 5).
"""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from primis.bundle.manifest import Manifest
from primis.canonical import canonical, parse_canonical
from primis.errors import (
    AccessError,
    BadGrant,
    BadKey,
    Changed,
    GrantExpired,
    HostError,
    NoMatchingGrant,
    NotCovered,
    NotThere,
    OtherPassphrase,
    PrimisError,
    StoreError,
    TierTooLow,
    UsageError,
    WrongSigner,
)
from primis.imaging.region import Region
from primis.keys.grant import Grant, ImageKeys, RegionSecrets, read_grant, split_grant
from primis.keys.identity import (
    Identity,
    Recipient,
    Signer,
    WrongPassphrase,
    is_label,
    scrypt_work,
)
from primis.keys.seal import Secret, release_secrets
from primis.keys.tier import HIGHEST, Tier
from primis.stores.store import Store, at_once

GRANTS = "grants"
INDEX = "index.json"
_CHECKSUM = 8
_MAX_GRANT, _MAX_ALL_GRANTS = 1 << 25, 1 << 27
"""Bytes of a grant, which may name many images, and of all grants of a release."""

_MAX_GRANTS = 1 << 14
_MAX_INDEX = 1 << 22
_AT_ONCE = 8
"""Grants that are fetched at a time from a host: each may be large, whoever put it there."""

_MANY = 3
"""Grants from which on the owner's is only fetched for the owner's key."""

_TRIES = 8
_SUM = re.compile("[0-9a-f]{8}")
_MAX_SCRYPT_WORK = 1 << 21
"""Twice the most that one passphrase grant may take: some seconds, a gigabyte of memory."""


@dataclass(frozen=True)
class GrantFile:
    """A grant as anyone sees it: its label (see `Recipient`) and its bytes."""

    label: str
    path: str
    data: bytes


@dataclass
class _Tried:
    """What became of grants that keys were tried on. owners_key: a key opened what is not for
    it."""

    opened: list[Grant] = field(default_factory=list)
    refused: list[BadGrant | WrongSigner] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    wrong_passphrase: bool = False
    owners_key: bool = False


@dataclass(frozen=True)
class GrantsFolder:
    """Grants as they lie in a release. demanded: the signer that was asked for by name, or None.
    note: is told what a person should hear, each thing once."""

    store: Store
    manifest: Manifest
    demanded: str | None = None
    note: Callable[[str], None] = field(default=lambda said: None, repr=False)

    def names(self) -> list[str]:
        """Of all grants, by label; files with other names are none. Raises BadGrant where there are
        more than anyone makes, HostError."""
        names = sorted(set(filter(label_of, grant_names(self.store))))
        if len(names) > _MAX_GRANTS:
            raise BadGrant(
                f'release "{self.store.place}" has {len(names)} grants, '
                f"expected at most {_MAX_GRANTS}"
            )
        return names

    def labels(self) -> list[str]:
        """Of all grants; what is in them is not looked at. Raises as `names` does."""
        return [label_of(name) for name in self.names()]

    def files(self, names: Sequence[str] | None = None) -> list[GrantFile]:
        """Grants, by label: all, or those of these names. A damaged one is left out, with a note.
        Raises as `names` does."""
        names = self.names() if names is None else names
        found: list[GrantFile] = []
        left = _MAX_ALL_GRANTS
        step = 1 if self.store.lists else _AT_ONCE
        for start in range(0, len(names), step):
            read = partial(self._file, most=min(_MAX_GRANT, left))
            for file in at_once(read, names[start : start + step]):
                if file is not None:
                    left = max(0, left - len(file.data))
                    found.append(file)
        return found

    def _file(self, name: str, most: int) -> GrantFile | None:
        try:
            data = self.store.get(f"{GRANTS}/{name}", most).data
        except HostError:
            raise
        except StoreError as error:
            self.note(f'grant "{error.what}" cannot be read and is passed over: {error.why}')
            return None
        path = f"{self.store.place}/{GRANTS}/{name}"
        if hashlib.sha256(data).hexdigest()[:_CHECKSUM] != name.split(".")[-2]:
            self.note(
                f'grant "{path}" was altered and is passed over: '
                "it does not match the checksum in its name"
            )
            return None
        return GrantFile(label_of(name), path, data)

    def open(self, identities: Iterable[Identity], *, trust: str | None = None) -> list[Grant]:
        """The grants these identities open, the highest tier and widest scope first.

        A file that is not a grant of this release and its present secrets, signed by its owner,
        for the key that opened it, under its own label, does not count. Where some name another
        signer either they or the release are false, so unless the release's signer was demanded,
        or is known by `trust`, that is a WrongSigner. Raises BadGrant if only such files open, and
        NoMatchingGrant, saying which keys were offered and which grants are there, if none does.
        """
        offered, names, tried = list(identities), self.names(), _Tried()
        later = [] if trust or len(names) < _MANY else [n for n in names if label_of(n) == "owner"]
        self._try(self.files([n for n in names if n not in later]), offered, trust, tried)
        if later and (tried.owners_key or not tried.opened):
            self._try(self.files(later), offered, trust, tried)
        doubts = [error for error in tried.refused if isinstance(error, WrongSigner)]
        if doubts and self.manifest.signer not in (self.demanded, trust):
            raise doubts[0]
        if not tried.opened and tried.refused:
            raise tried.refused[0]
        if not tried.opened:
            raise self._no_match(tried, offered)
        for doubt in tried.refused:
            self.note(f"passed over: {doubt}")
        return sorted(tried.opened, key=_narrowness)

    def _try(
        self, files: list[GrantFile], offered: list[Identity], trust: str | None, tried: _Tried
    ) -> None:
        tried.labels += [file.label for file in files]
        for file in self._worth_trying(files, offered):
            try:
                grant = self._open(file, offered, trust, tried)
            except WrongPassphrase:
                tried.wrong_passphrase = True
            except (BadGrant, WrongSigner) as error:
                tried.refused.append(error)
            else:
                tried.opened += [] if grant is None else [grant]

    def _no_match(self, tried: _Tried, offered: list[Identity]) -> NoMatchingGrant:
        """The error that says which keys were offered and which grants are there."""
        keys = ", ".join(i.label for i in offered) or "none"
        labels = ", ".join(sorted(tried.labels)) or "none"
        there = f"it has grants for: {labels}"
        if tried.wrong_passphrase:
            return OtherPassphrase(
                f'release "{self.store.place}" has a grant for a passphrase, '
                f"but not for this one; {there}"
            )
        return NoMatchingGrant(
            f'release "{self.store.place}" has no grant for the key offered ({keys}); {there}'
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

    def _open(
        self, file: GrantFile, identities: list[Identity], trust: str | None, tried: _Tried
    ) -> Grant | None:
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
                tried.owners_key = True  # it opens every grant; this one is not for it
                continue
            return grant
        if wrong is not None:
            raise wrong
        return None


def _narrowness(grant: Grant) -> tuple[int, bool, bool]:
    """By which grants are tried in order: the highest tier first, and then the widest scope."""
    return -grant.tier.rank, grant.secret is None, bool(grant.regions)


def _scrypt_work(file: GrantFile) -> int:
    """Steps of scrypt that a passphrase takes on a grant; 0 for grants to keys and for what is
    none."""
    try:
        return scrypt_work(file.data) or 0
    except BadKey:
        return 0


def secrets_for(
    grants: list[Grant],
    bundle_id: str,
    tier: Tier | None,
    today: datetime.date,
    region: Region | None = None,
) -> tuple[Tier, ImageKeys]:
    """(tier, what opens an image) by the best of the grants that cover it. Raises AccessError.

    region: what is asked for, None for all that is opened: then grants of all the image come before
    those of a region.
    """
    covering = [g for g in grants if g.covers(bundle_id)]
    if not covering:
        raise NotCovered(f'image "{bundle_id}" is not covered by grant "{grants[0].label}"')
    errors: list[AccessError] = []
    for grant in sorted(covering, key=lambda g: _misses(g, bundle_id, region)):
        wanted = tier or grant.tier
        try:
            grant.require_current(today)
            grant.require_tier(wanted)
        except (GrantExpired, TierTooLow) as error:
            errors.append(error)
            continue
        return wanted, grant.keys_of(bundle_id)
    raise errors[0]


def _misses(grant: Grant, bundle_id: str, region: Region | None) -> bool:
    """Whether it opens less of an image than is asked for."""
    if grant.covers_whole(bundle_id):
        return False
    return region is None or not grant.regions[bundle_id].region.holds(region)


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
    regions: Mapping[str, RegionSecrets] | None = None,
) -> Grant:
    """A grant that holds no more than it opens.

    images: ids of those that it opens whole; regions: by id, of images that it opens in part; both
    None for the whole release. Raises UsageError for no image, and for the owner's label.
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
    if images is None and regions is None:
        return whole
    chosen, parts = list(images or ()), dict(regions or {})
    if not chosen and not parts:
        raise UsageError("a grant for no image opens nothing, expected at least one")
    opens = {i: whole.image_secrets(i) for i in chosen}
    return replace(whole, secret=None, images=opens, regions=parts)


def require_free_label(recipient: Recipient) -> None:
    """Raise UsageError for the owner's label."""
    if recipient.label == "owner":
        raise UsageError('label "owner" is the owner\'s own, expected another')


def write_grant(store: Store, grant: Grant, recipient: Recipient, signer: Signer) -> str:
    """Sign a grant, seal it to its recipient and put it with the others; its key. Older ones stay;
    one under its label is a UsageError."""
    data = grant.seal(recipient, signer)
    if len(data) > _MAX_GRANT:
        raise UsageError(
            f'grant "{grant.label}" has {len(data)} bytes, expected at most {_MAX_GRANT}: '
            "fewer images, or smaller regions"
        )
    if grant.label in map(label_of, store.list(GRANTS)):
        raise UsageError(f'label "{grant.label}" is taken by another grant, expected a new one')
    key = f"{GRANTS}/{grant.label}.{hashlib.sha256(data).hexdigest()[:_CHECKSUM]}.age"
    try:
        store.put_new(key, data)
    except Changed:  # unless an answer was lost: the name tells what is in it
        if store.get(key, _MAX_GRANT).data != data:
            raise
    try:
        write_index(store)
    except PrimisError:
        store.delete(key)
        raise
    return key


def grant_names(store: Store) -> list[str]:
    """Names of the files that may be grants. Raises BadGrant, HostError."""
    if store.lists:
        return list(store.list(GRANTS, _MAX_GRANTS))
    try:
        return index_names(store)
    except NotThere:
        return list(store.list(GRANTS, _MAX_GRANTS))


def index_names(store: Store) -> list[str]:
    """What grants/index.json lists. Raises BadGrant, NotThere, HostError."""
    try:
        body = parse_canonical(store.get(f"{GRANTS}/{INDEX}", _MAX_INDEX).data)
        return [str(name) for name in body["grants"]]
    except (ValueError, TypeError, KeyError):
        raise BadGrant(f'"{store.place}/{GRANTS}/{INDEX}" is damaged') from None


def write_index(store: Store) -> None:
    """grants/index.json: the names of all grants, for hosts that list no folders."""
    key = f"{GRANTS}/{INDEX}"
    for _ in range(_TRIES):
        before = _tag_of(store, key)
        names = sorted(filter(label_of, store.list(GRANTS)))
        data = canonical({"format": 1, "grants": names})
        try:
            if before == "":
                return store.put(key, data)
            return store.put_new(key, data) if before is None else store.replace(key, data, before)
        except Changed as error:  # by another grant at the same moment: list again
            last = error
    raise last


def is_grant(name: str) -> bool:
    """Whether a file of this name may be a grant."""
    return bool(label_of(name))


def _tag_of(store: Store, key: str) -> str | None:
    """None where there is no file, "" where there is one that cannot be the index. Raises
    HostError."""
    try:
        return store.get(key, _MAX_INDEX).tag
    except NotThere:
        return None
    except HostError:
        raise
    except StoreError:
        return ""


def label_of(name: str) -> str:
    """The label of a grant by its file's name; "" for what is none."""
    stem = name.removesuffix(".age")
    label, _, checksum = stem.rpartition(".")
    sound = name.endswith(".age") and is_label(label) and _SUM.fullmatch(checksum)
    return label if sound and "/" not in name else ""

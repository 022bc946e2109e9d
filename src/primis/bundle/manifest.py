"""A release's manifest and its pages of bundles (docs/format.md, section 3).

manifest.json is a line with a signature, then canonical JSON. The signature is verified over the
raw bytes before anything is parsed: the attack is JSON that takes a hundred times its size in
memory.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from primis.bundle import fields
from primis.bundle.pages import Fetch, Leaf, Node, Pages, Tree, build, in_leaves
from primis.bundle.settings import Profile
from primis.canonical import canonical, parse_canonical
from primis.errors import BadManifest

MAX_MANIFEST = 1 << 22
MAX_PROFILES = 1024
_MAX_COUNT = 1 << 28
_ENTRY = struct.Struct(">16sQ32s")
ENTRY_BYTES = _ENTRY.size
_MAX_BUNDLE = 1 << 50
_SIGNATURE_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{128})\n")


class Entry(NamedTuple):
    """A bundle as a page lists it. id: 32 hex digits; size: of its file, in bytes; digest: SHA-256
    of it, in hex."""

    id: str
    size: int
    digest: str

    @classmethod
    def of(cls, bundle_id: str, data: bytes) -> Entry:
        """Of a bundle's bytes."""
        return cls(bundle_id, len(data), hashlib.sha256(data).hexdigest())

    @property
    def packed(self) -> bytes:
        """As it stands in a page: packed entries are in the order of their ids."""
        return _ENTRY.pack(bytes.fromhex(self.id), self.size, bytes.fromhex(self.digest))

    @classmethod
    def unpack(cls, data: bytes) -> Entry:
        """Inverse of `packed`; what it says is not looked at."""
        name, size, digest = _ENTRY.unpack(data)
        return cls(name.hex(), size, digest.hex())


@dataclass(frozen=True)
class Listing:
    """A tree of pages as the manifest names it."""

    count: int
    page: str


@dataclass(frozen=True)
class CatalogueListing:
    """The sealed catalogue. bytes_per_image: what its pages are padded to, for each image."""

    bytes_per_image: int
    count: int
    page: str


@dataclass(frozen=True)
class Manifest:
    """What an owner signs of a release.

    release: an id that lives through `rekey`; version: grows with each change. keys: an id of the
    release's secrets, new at each `rekey`, that grants name too. created: UTC, whole seconds.
    signer: whose signature vouches for it; it stands on the line before the JSON.
    """

    release: str
    version: int
    keys: str
    created: str
    profiles: tuple[Profile, ...]
    bundles: Listing
    catalogue: CatalogueListing
    signer: str

    @property
    def models(self) -> tuple[str, ...]:
        """SHA-256 of the weights that decode its bundles."""
        return tuple(dict.fromkeys(profile.model for profile in self.profiles))

    def write(self) -> bytes:
        """Canonical JSON: what is signed."""
        return canonical(
            {
                "bundles": asdict(self.bundles),
                "catalogue": asdict(self.catalogue),
                "created": self.created,
                "format": 1,
                "keys": self.keys,
                "profiles": [p.body for p in sorted(self.profiles, key=lambda p: p.digest)],
                "release": self.release,
                "version": self.version,
            }
        )


@dataclass(frozen=True)
class SignedManifest:
    """manifest.json before anything in it is parsed. signer: Ed25519 public key; both in hex."""

    signer: str
    signature: str
    body: bytes

    @property
    def message(self) -> bytes:
        """What the signature is of."""
        return manifest_message(self.signer, self.body)

    def write(self) -> bytes:
        """manifest.json."""
        return f"{self.signer} {self.signature}\n".encode() + self.body


def manifest_message(signer: str, body: bytes) -> bytes:
    """What an owner signs of a manifest's body."""
    return f"primis/1 manifest {signer}\n".encode() + body


def split_manifest(data: bytes, name: str) -> SignedManifest:
    """The signature line and the body that it is to vouch for. Raises BadManifest."""
    if len(data) > MAX_MANIFEST:
        raise BadManifest(f'manifest "{name}" is over {MAX_MANIFEST} bytes long')
    line = _SIGNATURE_LINE.match(data)
    if line is None:
        raise BadManifest(f'manifest "{name}" does not start with a signer and a signature')
    signer, signature = (part.decode() for part in line.groups())
    return SignedManifest(signer, signature, data[line.end() :])


def read_manifest(signed: SignedManifest, name: str) -> Manifest:
    """Parse a manifest, once its signature was verified. Raises BadManifest."""
    try:
        return _manifest(parse_canonical(signed.body), signed.signer)
    except ValueError as error:
        raise BadManifest(f'manifest "{name}" {error}') from None


def _manifest(body: Any, signer: str) -> Manifest:
    expected = {"bundles", "catalogue", "created", "format"}
    fields.record(body, expected | {"keys", "profiles", "release", "version"})
    fields.whole(body["format"], 1, 1)
    profiles = tuple(Profile.parse(p) for p in fields.items(body["profiles"], MAX_PROFILES))
    digests = [profile.digest for profile in profiles]
    names = {profile.name for profile in profiles}
    if not profiles or digests != sorted(digests) or len(names) != len(profiles):
        raise ValueError("has profiles twice, out of order or none")
    bundles = fields.record(body["bundles"], {"count", "page"})
    catalogue = fields.record(body["catalogue"], {"bytes_per_image", "count", "page"})
    count = fields.whole(bundles["count"], 1, _MAX_COUNT)
    return Manifest(
        release=fields.hexadecimal(body["release"], 32),
        version=fields.whole(body["version"], 1, (1 << 53) - 1),
        keys=fields.hexadecimal(body["keys"], 32),
        created=fields.moment(body["created"]),
        profiles=profiles,
        bundles=Listing(count, fields.hexadecimal(bundles["page"], 64)),
        catalogue=CatalogueListing(
            fields.whole(catalogue["bytes_per_image"], 1, 1 << 17),
            fields.whole(catalogue["count"], count, count),
            fields.hexadecimal(catalogue["page"], 64),
        ),
        signer=signer,
    )


def list_bundles(entries: Iterable[Entry]) -> Tree:
    """Pages of entries, sorted by id."""
    packed = sorted(entry.packed for entry in entries)  # there may be many: a fifth of their size
    return build([_leaf(part) for part in in_leaves(packed)])


def _leaf(packed: Sequence[bytes]) -> Leaf:
    return Leaf(len(packed), Entry.unpack(packed[0]).id, b"".join(packed))


class BundlePages:
    """The entries of a release, page by page. fetch: gets a page by its digest."""

    def __init__(self, listing: Listing, fetch: Fetch) -> None:
        self._pages = Pages(listing.page, listing.count, fetch)

    def __iter__(self) -> Iterator[Entry]:
        """All entries, by id. Raises BadManifest."""
        return self._from("")

    def starting_with(self, prefix: str) -> Iterator[Entry]:
        """The entries whose ids do, by id. Raises BadManifest."""
        for entry in self._from(prefix):
            if entry.id.startswith(prefix):
                yield entry
            elif entry.id > prefix:
                return
            if entry.id == prefix:  # whole: what follows may be on another page
                return

    def _from(self, start: str) -> Iterator[Entry]:
        try:
            for node, page in self._pages.leaves(start):
                yield from _entries(node, page)
        except ValueError as error:
            raise BadManifest(f"manifest: {error}") from None

    def find(self, bundle_id: str) -> Entry | None:
        """The entry of an id, or None. Raises BadManifest."""
        try:
            node, page = self._pages.leaf_of(bundle_id)
            return next((e for e in _entries(node, page) if e.id == bundle_id), None)
        except ValueError as error:
            raise BadManifest(f"manifest: {error}") from None


def _entries(node: Node, page: bytes) -> list[Entry]:
    if len(page) != node.count * _ENTRY.size:
        raise ValueError(
            f'page "{node.page[:16]}" has {len(page)} bytes, '
            f"expected {node.count} times {_ENTRY.size}"
        )
    entries = [
        Entry(name.hex(), fields.whole(size, 1, _MAX_BUNDLE), digest.hex())
        for name, size, digest in _ENTRY.iter_unpack(page)
    ]
    ids = [entry.id for entry in entries]
    if ids != sorted(set(ids)) or (node.first and ids[0] != node.first):
        raise ValueError(f'page "{node.page[:16]}" does not list what the page above it says')
    return entries

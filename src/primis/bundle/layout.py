"""The bytes of a bundle and of a manifest (docs/format.md, sections 2 and 3). Knows no key.

    magic | header length | canonical JSON header | section | section | ... | end of file

Parses strictly: what this module writes is the only form it reads, so that no two files mean the same.
At level `keyed` the sizes of all sections follow from geometry and settings alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import asdict, dataclass
from typing import Any

from primis.errors import BadBundle, BadManifest, DamagedSection

MAGIC = b"PRIMIS1\n"
PROTECTIONS = ("keyed", "sca")
MAX_HEADER = 1 << 16
MAX_MANIFEST = 1 << 26
SECTIONS = ("info", "index", "public", "supports", "header", "exact", "original")
"""All sections, in their order; `exact` and `original` are there if the settings say so."""

CODE_TIERS = 2
TAG = 16
RECORD = 36
STREAM_SLACK = 8
INFO_BASE = 512
INFO_PER_FRAME = 96
MIN_HEADER_BYTES, MAX_HEADER_BYTES = 256, 1 << 24
MAX_ORIGINAL_BITS = 64
ORIGINAL_SLACK = 4
EXACT_BITS = (0, 1, 2, 4, 8, 16)
SAMPLES_PER_BYTE = 8192
"""A bundle that claims more samples for each of its bytes is refused: a small one may name gigabytes."""

MAX_SIDE = 1 << 17
MAX_SAMPLES = 1 << 34
_MAX_ATOMS = 1 << 13


@dataclass(frozen=True)
class Geometry:
    """Shape of an image and of its code. height, width in pixels; tile in positions of the grid;
    code_maps: L; atoms_per_map: M."""

    atoms_per_map: int
    channels: int
    code_maps: int
    frames: int
    height: int
    stride: int
    tile: int
    width: int

    @property
    def grid(self) -> tuple[int, int]:
        """Positions of one plane: (h, w)."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    @property
    def positions(self) -> int:
        """Positions of one frame, over its planes."""
        return self.channels * self.grid[0] * self.grid[1]

    @property
    def samples(self) -> int:
        """Samples of all frames."""
        return self.frames * self.height * self.width * self.channels

    @property
    def atoms(self) -> int:
        """LM: atoms at a position."""
        return self.code_maps * self.atoms_per_map

    @property
    def tile_count(self) -> int:
        """Tiles of one frame."""
        h, w = self.grid
        return self.channels * -(-h // self.tile) * -(-w // self.tile)

    @property
    def tiles(self) -> list[tuple[int, slice, slice]]:
        """(plane, rows, columns) of each tile of one frame, in order."""
        h, w = self.grid
        return [
            (c, slice(y, min(y + self.tile, h)), slice(x, min(x + self.tile, w)))
            for c in range(self.channels)
            for y in range(0, h, self.tile)
            for x in range(0, w, self.tile)
        ]


@dataclass(frozen=True)
class Settings:
    """What the owner chose. sparsity: S_x; decoys: S_n; both per position, multiples of 1/1000.

    support_bits: room for the sealed supports, in bits per true entry. value_bits: level `keyed`: room for
    the values, in bits per published entry. header_bytes: room for the name and the source's header, compressed.
    original_bits: room for the file itself, in bits per sample; 0 where it is not there. exact_bits: bits per
    sample of an image of few grey levels that is sealed exactly, 0 for all others. None, which stands in no bundle,
    leaves each of the three to the image (sharing/contents, `settings_for`).
    """

    decoys: float
    protection: str
    sparsity: float
    support_bits: float
    value_bits: float
    header_bytes: int | None = None
    original_bits: float | None = None
    exact_bits: int | None = None


@dataclass(frozen=True)
class Section:
    """One section: its name, its length, SHA-256 of its bytes."""

    bytes: int
    name: str
    sha256: str


@dataclass(frozen=True)
class Header:
    """What anyone can see of a bundle. model: SHA-256 of the weights that decode it."""

    id: str
    geometry: Geometry
    settings: Settings
    model: str
    sections: tuple[Section, ...] = ()

    @property
    def entries(self) -> int:
        """True entries of one frame, at most: S_x per position."""
        return max(
            1,
            min(
                _round_half_even(_thousandths(self.settings.sparsity) * self.geometry.positions),
                self._all,
            ),
        )

    @property
    def slots(self) -> int:
        """Entries of one frame that are published: S_x + S_n per position."""
        wanted = -(
            -(_thousandths(self.settings.sparsity) + _thousandths(self.settings.decoys))
            * self.geometry.positions
            // 1000
        )
        return max(self.entries, min(wanted, self._all))

    @property
    def records(self) -> int:
        """Index records of one frame: one per tile and tier of the code."""
        return CODE_TIERS * self.geometry.tile_count

    @property
    def pool(self) -> int:
        """Bytes for the sealed supports of one frame."""
        room = -(-_thousandths(self.settings.support_bits) * self.entries // 8000)
        return room + self.records * (TAG + STREAM_SLACK)

    @property
    def values(self) -> int:
        """Bytes for the published values of one frame, at level `keyed`."""
        return (
            -(-_thousandths(self.settings.value_bits) * self.slots // 8000)
            + self.records * STREAM_SLACK
        )

    @property
    def rooms(self) -> dict[str, int]:
        """Bytes of `header` and, if they are there, `exact` and `original`, padded but not yet sealed."""
        header, bits, exact = (
            self.settings.header_bytes,
            self.settings.original_bits,
            self.settings.exact_bits,
        )
        if header is None or bits is None or exact is None:
            raise ValueError("settings leave something to an image that is not known here")
        rooms = {"header": header}
        if exact:
            table = 2 * 2**exact if exact < 16 else 0
            rooms["exact"] = -(-exact * self.geometry.samples // 8) + table
        if bits:
            samples = -(-_thousandths(bits) * self.geometry.samples // 8000)
            rooms["original"] = samples + ORIGINAL_SLACK * header
        return rooms

    @property
    def fixed_sizes(self) -> dict[str, int]:
        """Sizes that geometry and settings dictate: of all sections at level `keyed`, of all but `public` at `sca`."""
        frames = self.geometry.frames
        sizes = {
            "info": INFO_BASE + frames * INFO_PER_FRAME + TAG,
            "index": frames * self.records * (RECORD + TAG),
            "supports": frames * self.pool,
        } | {name: room + TAG for name, room in self.rooms.items()}
        return sizes | (
            {"public": frames * self.values} if self.settings.protection == "keyed" else {}
        )

    @property
    def _all(self) -> int:
        return self.geometry.positions * self.geometry.atoms

    @property
    def binding(self) -> bytes:
        """What sealed sections are bound to: the header without its sections, hashed."""
        return hashlib.sha256(canonical(_header_body(self, sections=False))).digest()


def _thousandths(setting: float) -> int:
    return round(setting * 1000)


def _round_half_even(thousandths: int) -> int:
    whole, rest = divmod(thousandths, 1000)
    return whole + (rest > 500 or (rest == 500 and whole % 2 == 1))


def canonical(value: Any) -> bytes:
    """The one JSON form of a value: sorted keys, no spaces, ASCII, whole numbers without a point."""
    return json.dumps(
        _whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def write_bundle(header: Header, parts: dict[str, bytes]) -> bytes:
    """Header and sections as one file; fills in the header's list of sections."""
    names = [name for name in SECTIONS if name in parts]
    sections = tuple(Section(len(parts[n]), n, hashlib.sha256(parts[n]).hexdigest()) for n in names)
    whole = Header(header.id, header.geometry, header.settings, header.model, sections)
    head = canonical(_header_body(whole, sections=True))
    data = b"".join([MAGIC, struct.pack(">I", len(head)), head, *(parts[n] for n in names)])
    read_bundle(data, header.id)
    return data


def read_header(data: bytes, name: str) -> tuple[Header, int]:
    """The header of a bundle and where its sections start; `name` is for errors. Raises BadBundle."""
    if data[: len(MAGIC)] != MAGIC:
        raise BadBundle(
            f'bundle "{name}" starts with {data[: len(MAGIC)].hex()!r}, expected the magic of format 1'
        )
    start = len(MAGIC) + 4
    if len(data) < start:
        raise BadBundle(f'bundle "{name}" has {len(data)} bytes, expected at least {start}')
    length = struct.unpack(">I", data[len(MAGIC) : start])[0]
    if length > MAX_HEADER or len(data) < start + length:
        raise BadBundle(
            f'bundle "{name}": header length {length} is over {MAX_HEADER} or past the end'
        )
    body = _parse_canonical(data[start : start + length], f'bundle "{name}": header', BadBundle)
    try:
        header = _header(body)
    except (TypeError, ValueError, KeyError) as error:
        raise BadBundle(f'bundle "{name}": header {_reason(error)}') from None
    if canonical(_header_body(header, sections=True)) != data[start : start + length]:
        raise BadBundle(f'bundle "{name}": header is not what its fields say')
    return header, start + length


def read_bundle(data: bytes, name: str) -> tuple[Header, dict[str, bytes]]:
    """Header and sections, each of its listed size and digest, nothing after the last.

    Raises BadBundle, and DamagedSection where a section's bytes differ from its digest.
    """
    header, at = read_header(data, name)
    if header.geometry.samples > SAMPLES_PER_BYTE * len(data):
        raise BadBundle(
            f'bundle "{name}" has {len(data)} bytes and claims {header.geometry.samples} samples, '
            f"expected at most {SAMPLES_PER_BYTE} for each byte"
        )
    parts = {}
    for section in header.sections:
        part = data[at : at + section.bytes]
        if len(part) != section.bytes:
            raise BadBundle(
                f'bundle "{name}": section "{section.name}" has {len(part)} bytes, expected {section.bytes}'
            )
        if hashlib.sha256(part).hexdigest() != section.sha256:
            raise DamagedSection(
                f'bundle "{name}": section "{section.name}" does not match its digest in the header'
            )
        parts[section.name] = part
        at += section.bytes
    if at != len(data):
        raise BadBundle(
            f'bundle "{name}": {len(data) - at} bytes follow the last section, expected none'
        )
    return header, parts


@dataclass(frozen=True)
class Entry:
    """A bundle as the manifest lists it."""

    bytes: int
    id: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The list of a release.

    release: an id that lives through `rekey`; version: grows with each change. keys: an id of the
    release's secrets, new at each `rekey`, that grants name too. created: UTC, whole seconds.
    signer: whose signature vouches for it; it stands on the line before the JSON.
    """

    release: str
    version: int
    keys: str
    created: str
    model: str
    bundles: tuple[Entry, ...]
    signer: str

    def write(self) -> bytes:
        """Canonical JSON and a newline: what is signed."""
        body = {
            "bundles": [asdict(entry) for entry in sorted(self.bundles, key=lambda e: e.id)],
            "created": self.created,
            "format": 1,
            "keys": self.keys,
            "model": self.model,
            "release": self.release,
            "version": self.version,
        }
        return canonical(body) + b"\n"


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


_SIGNATURE_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{128})\n")


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
    data = signed.body
    if not data.endswith(b"\n"):
        raise BadManifest(f'manifest "{name}" does not end in a newline')
    body = _parse_canonical(data[:-1], f'manifest "{name}"', BadManifest)
    try:
        _keys(body, {"bundles", "created", "format", "keys", "model", "release", "version"})
        if body["format"] != 1:
            raise ValueError(f"has format {ascii(body['format'])[:40]}, expected 1")
        entries = tuple(_entry(e) for e in _list(body["bundles"]))
        ids = [e.id for e in entries]
        if ids != sorted(set(ids)):
            raise ValueError("lists bundles twice or out of order")
        manifest = Manifest(
            release=_hex(body["release"], 32),
            version=_int(body["version"], 1, 1 << 53),
            keys=_hex(body["keys"], 32),
            created=_time(body["created"]),
            model=_hex(body["model"], 64),
            bundles=entries,
            signer=signed.signer,
        )
        if manifest.write() != data:
            raise ValueError("is not what its fields say")
        return manifest
    except (TypeError, ValueError, KeyError) as error:
        raise BadManifest(f'manifest "{name}" {_reason(error)}') from None


def _entry(body: Any) -> Entry:
    _keys(body, {"bytes", "id", "sha256"})
    return Entry(_int(body["bytes"], 1, 1 << 50), _hex(body["id"], 32), _hex(body["sha256"], 64))


def _header_body(header: Header, *, sections: bool) -> dict[str, Any]:
    body = {
        "format": 1,
        "geometry": asdict(header.geometry),
        "id": header.id,
        "model": header.model,
        "settings": asdict(header.settings),
    }
    return body | {"sections": [asdict(s) for s in header.sections]} if sections else body


def _header(body: Any) -> Header:
    _keys(body, {"format", "geometry", "id", "model", "sections", "settings"})
    if body["format"] != 1:
        raise ValueError(f"has format {ascii(body['format'])[:40]}, expected 1")
    sections = tuple(_section(s) for s in _list(body["sections"]))
    geometry, settings = _geometry(body["geometry"]), _settings(body["settings"])
    header = Header(_hex(body["id"], 32), geometry, settings, _hex(body["model"], 64), sections)
    absent = {
        name
        for name, bits in (("exact", settings.exact_bits), ("original", settings.original_bits))
        if not bits
    }
    names, expected = [s.name for s in sections], [n for n in SECTIONS if n not in absent]
    if names != expected:
        raise ValueError(
            f'lists sections {ascii(",".join(names))[:80]}, expected "{",".join(expected)}" in this order'
        )
    for section in sections:
        wanted = header.fixed_sizes.get(section.name, section.bytes)
        if section.bytes != wanted:
            raise ValueError(
                f'gives section "{section.name}" {section.bytes} bytes, expected {wanted}'
            )
    return header


def _section(body: Any) -> Section:
    _keys(body, {"bytes", "name", "sha256"})
    return Section(_int(body["bytes"], 0, 1 << 50), _text(body["name"]), _hex(body["sha256"], 64))


def _geometry(body: Any) -> Geometry:
    _keys(
        body,
        {"atoms_per_map", "channels", "code_maps", "frames", "height", "stride", "tile", "width"},
    )
    limits = {
        "atoms_per_map": 1 << 12,
        "channels": 16,
        "code_maps": 1 << 12,
        "frames": 1 << 20,
        "stride": 64,
        "tile": 1 << 10,
    }
    geometry = Geometry(**{key: _int(body[key], 1, limits.get(key, MAX_SIDE)) for key in body})
    if geometry.tile % 4:
        raise ValueError(f"has tiles of {geometry.tile} positions, expected a multiple of 4")
    if geometry.atoms > _MAX_ATOMS:
        raise ValueError(f"has {geometry.atoms} atoms at a position, expected at most {_MAX_ATOMS}")
    if geometry.samples > MAX_SAMPLES:
        raise ValueError(f"describes more than {MAX_SAMPLES} samples")
    return geometry


def _settings(body: Any) -> Settings:
    _keys(
        body,
        {
            "decoys",
            "exact_bits",
            "header_bytes",
            "original_bits",
            "protection",
            "sparsity",
            "support_bits",
            "value_bits",
        },
    )
    if type(body["exact_bits"]) is not int or body["exact_bits"] not in EXACT_BITS:
        found = ascii(body["exact_bits"])[:40]
        raise ValueError(f"has exact_bits {found}, expected one of {EXACT_BITS}")
    if body["protection"] not in PROTECTIONS:
        raise ValueError(
            f"has protection {ascii(body['protection'])[:40]}, expected one of {', '.join(PROTECTIONS)}"
        )
    return Settings(
        decoys=_milli(body["decoys"], 0, 4096),
        protection=body["protection"],
        sparsity=_milli(body["sparsity"], 0.001, 4096),
        support_bits=_milli(body["support_bits"], 0, 64),
        value_bits=_milli(body["value_bits"], 0, 64),
        header_bytes=_int(body["header_bytes"], MIN_HEADER_BYTES, MAX_HEADER_BYTES),
        original_bits=_milli(body["original_bits"], 0, MAX_ORIGINAL_BITS),
        exact_bits=body["exact_bits"],
    )


def _parse_canonical(data: bytes, what: str, error: type[BadBundle] | type[BadManifest]) -> Any:
    try:
        body = json.loads(data)
        same = canonical(body) == data
    except (ValueError, TypeError, RecursionError, OverflowError):
        raise error(f"{what} is not JSON") from None
    if not same:
        raise error(f"{what} is not in canonical form")
    return body


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _whole(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _keys(body: Any, expected: set[str]) -> None:
    if not isinstance(body, dict) or set(body) != expected:
        found = ascii(",".join(sorted(body)))[1:80] if isinstance(body, dict) else "none"
        raise ValueError(f'has fields "{found}", expected "{",".join(sorted(expected))}"')


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"has {ascii(value)[:40]}, expected a list")
    return value


def _int(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"has number {ascii(value)[:40]}, expected {low}..{high}")
    return value


def _milli(value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high or round(value, 3) != value:
        raise ValueError(
            f"has number {ascii(value)[:40]}, expected {low}..{high} in steps of 0.001"
        )
    return float(value)


def _hex(value: Any, digits: int) -> str:
    if not isinstance(value, str) or len(value) != digits or set(value) - set("0123456789abcdef"):
        raise ValueError(f"has {ascii(value)[:40]}, expected {digits} lower-case hex digits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError(f"has {ascii(value)[:40]}, expected a short text")
    return value


def _time(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value, re.ASCII
    ):
        raise ValueError("has a time of creation that is none")
    return value


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else "has a field of the wrong type"

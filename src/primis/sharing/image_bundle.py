"""One image to one bundle and back: the sharing and the reconstruction phase (docs/format.md, section 6).

1  encode a frame, keep its top S_x entries              codec
2  code supports and values, per tier and tile; drop      codes/coder
   entries until both fit the room that the settings give
3  publish the values. keyed: masked, the rest of the     keys/seal
   room random. sca: among S_n decoys per position        codes/ambiguation
4  for sca, code the supports given the public code       codes/coder
5  compress the header; pad it and the file to the room   keys/seal
   that the settings give; seal them, supports, index, scales
6  lay out, check, hand over                              bundle/layout
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from primis.bundle.layout import (
    MAX_SAMPLES,
    MAX_SIDE,
    TAG,
    Geometry,
    Header,
    Settings,
    read_bundle,
    write_bundle,
)
from primis.codec import Codec, Scale
from primis.codes.ambiguation import Draw, ambiguate, order
from primis.codes.coder import decode_code, decode_support, encode_code, encode_support
from primis.codes.selection import TILE, entry_odds
from primis.codes.sparse import LEVEL_LIMIT, SparseCode
from primis.codes.support import decode_plain, encode_plain
from primis.errors import DamagedSection, InputError, ModelError, TierTooLow
from primis.imaging.files import render
from primis.imaging.image import Derivation, Image
from primis.imaging.padding import filled_frames, find_padding, impose_padding
from primis.keys.seal import TIERS, Secret, mask, seal, tile_secret, unseal
from primis.sharing.contents import (
    SEALED_WHOLE,
    seal_exact,
    seal_header,
    seal_info,
    seal_original,
    settings_for,
    unseal_exact,
    unseal_header,
    unseal_info,
    unseal_name,
    unseal_original,
)

_RECORD = struct.Struct(">5I16s")
_PLAIN = struct.Struct(">2I")
_FIT_STEPS = 24


@dataclass(frozen=True)
class Shared:
    """A new bundle. kept: S_x that the image really got, after its supports were made to fit; None
    where it is sealed exactly."""

    data: bytes = field(repr=False)
    kept: float | None


@dataclass(frozen=True)
class Restored:
    """An image as a file. name: the path it was shared under, None at tier preview."""

    data: bytes = field(repr=False)
    name: str | None = field(repr=False)
    tier: str
    kind: str
    image: Image | None = field(default=None, repr=False)


CodecFor = Callable[[str], Codec]
"""The codec for a model's digest; raises ModelError."""


def share_image(
    image: Image,
    settings: Settings,
    image_secrets: dict[str, Secret],
    codec: Codec,
    *,
    bundle_id: str,
    name: str,
    original: bytes | None = None,
    draw: Draw = secrets.token_bytes,
) -> Shared:
    """Encode, ambiguate, mask and seal one image.

    image_secrets: for all TIERS. name: what the restored file is called; sealed. original: the file
    to give back byte for byte at tier original. bundle_id: 32 hex digits never used before. Raises
    InputError where code, header or file do not fit the room that `settings_for` the image gives.
    """
    frames, height, width, channels = image.shape
    if max(height, width) > MAX_SIDE or image.pixels.size > MAX_SAMPLES:
        has = f"{frames} x {height} x {width} x {channels} samples"
        raise InputError(
            f"the image has {has}, expected sides of at most {MAX_SIDE} and {MAX_SAMPLES} in all"
        )
    settings = settings_for(image, settings, with_original=original is not None)
    padding = None if settings.exact_bits else find_padding(image)
    preset = codec.preset
    geometry = Geometry(
        preset.atoms_per_map, channels, preset.code_maps, frames, height, preset.stride, TILE, width
    )
    header = Header(bundle_id, geometry, settings, codec.checkpoint.digest)
    secrets_of = [_tile_secrets(header, image_secrets, frame) for frame in range(frames)]
    index, public, pools, scales, kept = [], [], [], [], 0
    for frame, tiles in zip(filled_frames(image, padding), secrets_of, strict=True):
        z, scale = codec.encode(frame)
        code, streams = _fit(z, header, codec, draw)
        kept += int(np.count_nonzero(code.levels))
        pool, places = _room([_seal_stream(s.support, secret, header) for s, secret in zip(streams, tiles, strict=True)],
                             header.pool, draw)  # fmt: skip
        if settings.protection == "sca":
            plain = _write_plain(streams[0].public, header)
            values, runs, published = b"".join(plain), [(0, 0)] * header.records, 2 * plain
        else:
            published = [
                mask(stream.values, secret) for stream, secret in zip(streams, tiles, strict=True)
            ]
            values, runs = _room(published, header.values, draw)
        public.append(values)
        pools.append(pool)
        digests = [run_digest(run) for run in published]
        index.append(_index(runs, digests, places, code, header, tiles))
        scales.append([scale.low, scale.high, code.threshold])
    parts = {
        "info": seal_info(image, scales, header, image_secrets["preview"]),
        "index": b"".join(index),
        "public": b"".join(public),
        "supports": b"".join(pools),
        "header": seal_header(image, name, padding, header, image_secrets["diagnostic"]),
    }
    if settings.exact_bits:
        parts["exact"] = seal_exact(image, header, image_secrets["diagnostic"])
    if original is not None:
        parts["original"] = seal_original(original, header, image_secrets["original"])
    sparsity = kept / (frames * geometry.positions)
    return Shared(write_bundle(header, parts), None if settings.exact_bits else sparsity)


def restore_image(
    data: bytes, image_secrets: dict[str, Secret], tier: str, codec_for: CodecFor, *, group: str
) -> Restored:
    """Open a bundle at a tier. group: the release's id, for what a restored file records of its origin."""
    header, parts = read_bundle(data, "")
    if tier == "original":
        return _restore_original(header, parts, image_secrets)
    exact = tier == "diagnostic" and bool(header.settings.exact_bits)
    if exact:
        image, code_bytes = _exact_image(header, parts, image_secrets), len(parts["exact"])
    else:
        image, code_bytes = decode_image(header, parts, image_secrets, tier, codec_for)
    name, padding, source_header = None, None, b""
    if tier == "diagnostic":
        secret, dtype = image_secrets["diagnostic"], image.pixels.dtype
        name, padding, source_header = unseal_header(header, parts, secret, dtype)
        try:
            image = impose_padding(replace(image, header=source_header), padding)
        except ValueError:
            raise DamagedSection('section "header": its padding does not fit its image') from None
    stride = header.geometry.stride
    text = (
        f"primis: S_x = {header.settings.sparsity:g} non-zeros per {stride} x {stride} block, "
        f"tier {tier}, model {header.model[:12]}"
    )
    ratio, seed = image.raw_bytes / code_bytes, f"{header.id} {tier}"
    text = "primis: exact samples" if exact else text
    derivation = Derivation(text, ratio, seed, f"{group} {tier}", lossless=exact)
    try:
        file = render(image, derivation)
    except Exception:  # whatever a writer meets in a header that is none
        raise DamagedSection('section "header" does not fit its image') from None
    return Restored(file, name, tier, image.kind, image)


def _exact_image(
    header: Header, parts: dict[str, bytes], image_secrets: dict[str, Secret]
) -> Image:
    """An image of few grey levels, without its source header; no model is needed."""
    if not {"preview", "diagnostic"} <= image_secrets.keys():
        raise TierTooLow('tier "diagnostic" was asked for, but the secrets offered open less')
    info = unseal_info(header, parts, image_secrets["preview"])
    pixels = unseal_exact(header, parts, image_secrets["diagnostic"], info["dtype"])
    return Image(pixels, info["bit_depth"], info["photometric"], info["kind"], info["spacing_mm"])


def read_name(data: bytes, image_secrets: dict[str, Secret]) -> str:
    """The path under which an image was shared; needs the secret of tier diagnostic."""
    header, parts = read_bundle(data, "")
    return unseal_name(header, parts, image_secrets["diagnostic"])


def decode_image(
    header: Header,
    parts: dict[str, bytes],
    image_secrets: dict[str, Secret],
    tier: str,
    codec_for: CodecFor,
) -> tuple[Image, int]:
    """The image at tier preview or diagnostic, without its source header; and the bytes of its code."""
    codec = codec_for(header.model)
    preset, geometry = codec.preset, header.geometry
    shape, wanted = ((g.stride, g.code_maps, g.atoms_per_map) for g in (geometry, preset))
    if shape != wanted:
        raise ModelError(
            f'model "{header.model[:12]}" has stride, code maps and atoms {wanted}, the bundle {shape}'
        )
    if "preview" not in image_secrets:
        raise TierTooLow(
            f'tier "{tier}" was asked for, but the secrets offered do not open "preview"'
        )
    info = unseal_info(header, parts, image_secrets["preview"])
    pixels = np.empty(
        (geometry.frames, geometry.height, geometry.width, geometry.channels), info["dtype"]
    )
    opened = 1 if tier == "preview" else None
    for frame, (code, scale) in enumerate(_codes(header, parts, image_secrets, tier, codec, info)):
        pixels[frame] = codec.decode(code, scale, pixels.shape[1:3], pixels.dtype, opened)
    image = Image(pixels, info["bit_depth"], info["photometric"], info["kind"], info["spacing_mm"])
    return image, sum(len(parts[n]) for n in ("info", "index", "public", "supports"))


def open_codes(
    header: Header, parts: dict[str, bytes], image_secrets: dict[str, Secret], codec: Codec
) -> list[tuple[SparseCode, Scale]]:
    """The true code Z of each frame and the range of its grey levels, for those who may open tier diagnostic."""
    info = unseal_info(header, parts, image_secrets["preview"])
    return list(_codes(header, parts, image_secrets, "diagnostic", codec, info))


def plain_records(
    header: Header, parts: dict[str, bytes], image_secrets: dict[str, Secret]
) -> list[tuple[range, tuple[int, slice, slice], bytes, bytes, bytes]]:
    """What lies behind the seals of the first frame, for those who try to break them: atoms and tile of each index record,
    the record, its stream of supports and, at level `keyed`, its values."""
    plain, keyed = [], header.settings.protection == "keyed"
    for number, ((atoms, tile), secret) in enumerate(
        zip(_runs(header), _tile_secrets(header, image_secrets, 0), strict=True)
    ):
        record = _unseal_record(header, parts, secret, number)
        stop = record.stream_at + record.stream_length
        sealed = parts["supports"][record.stream_at : stop]
        stream = unseal(sealed, secret, "supports", header.binding) if sealed else b""
        run = parts["public"][record.at : record.at + record.length]
        values = mask(run, secret) if keyed else b""
        plain.append((atoms, tile, _RECORD.pack(*record), stream, values))
    return plain


def _codes(
    header: Header,
    parts: dict[str, bytes],
    image_secrets: dict[str, Secret],
    tier: str,
    codec: Codec,
    info: dict[str, Any],
) -> Iterator[tuple[SparseCode, Scale]]:
    plain = _read_plain(header, parts) if header.settings.protection == "sca" else None
    for frame, (low, high, threshold) in enumerate(info["frames"]):
        levels = _open_code(
            header, parts, image_secrets, frame, tier, codec, plain[frame] if plain else None
        )
        yield SparseCode(levels, threshold, codec.offset), Scale(low, high)


def _verified(run: bytes, digest: bytes) -> bytes:
    """Published values, if they are those that were sealed for. Raises DamagedSection."""
    if run_digest(run) != digest:
        raise DamagedSection('section "public" has values that were altered')
    return run


def reseal(data: bytes, old: dict[str, Secret], new: dict[str, Secret], bundle_id: str) -> bytes:
    """The same image under new secrets and a new id, without decoding it: for `rekey`."""
    before, parts = read_bundle(data, bundle_id)
    after = Header(bundle_id, before.geometry, before.settings, before.model)
    frames = range(before.geometry.frames)
    keyed = before.settings.protection == "keyed"
    public = bytearray(secrets.token_bytes(len(parts["public"])) if keyed else parts["public"])
    supports, index = bytearray(secrets.token_bytes(len(parts["supports"]))), []
    for frame in frames:
        tiles = zip(
            _tile_secrets(before, old, frame), _tile_secrets(after, new, frame), strict=True
        )
        for number, (was, now) in enumerate(tiles):
            record = _unseal_record(before, parts, was, frame * before.records + number)
            at, length, _, stream_at, stream_length, digest = record
            if keyed:
                place = slice(frame * before.values + at, frame * before.values + at + length)
                run = _verified(parts["public"][place], digest)
                public[place] = fresh_run = mask(mask(run, was), now)
                record = record._replace(digest=run_digest(fresh_run))
            index.append(seal(_RECORD.pack(*record), now, "index", after.binding))
            if stream_length:
                place = slice(
                    frame * before.pool + stream_at, frame * before.pool + stream_at + stream_length
                )
                stream = unseal(parts["supports"][place], was, "supports", before.binding)
                supports[place] = seal(stream, now, "supports", after.binding)
    fresh = {"index": b"".join(index), "public": bytes(public), "supports": bytes(supports)}
    for name, tier in SEALED_WHOLE.items():
        if name in parts:
            plain = unseal(parts[name], old[tier], name, before.binding)
            fresh[name] = seal(plain, new[tier], name, after.binding)
    return write_bundle(after, fresh)


def _tile_secrets(
    header: Header, image_secrets: dict[str, Secret], frame: int, tier: str = "diagnostic"
) -> list[Secret]:
    """The secret of each index record of a frame that `tier` opens. Raises TierTooLow."""
    tiers = TIERS[: TIERS.index(tier) + 1]
    if missing := [t for t in tiers if t not in image_secrets]:
        raise TierTooLow(
            f'tier "{tier}" was asked for, but the secrets offered do not open "{missing[-1]}"'
        )
    count = header.geometry.tile_count
    return [
        tile_secret(image_secrets[t], frame * count + tile) for t in tiers for tile in range(count)
    ]


def _runs(header: Header) -> list[tuple[range, tuple[int, slice, slice]]]:
    """(atoms, tile) of each index record of a frame."""
    first, every = header.geometry.atoms_per_map, header.geometry.atoms
    return [
        (atoms, tile)
        for atoms in (range(first), range(first, every))
        for tile in header.geometry.tiles
    ]


@dataclass(frozen=True)
class _Streams:
    """A record's streams. public: Z_p of the whole frame, at level `sca`."""

    support: bytes
    values: bytes
    public: np.ndarray


def _fit(
    z: np.ndarray, header: Header, codec: Codec, draw: Draw
) -> tuple[SparseCode, list[_Streams]]:
    """Top-S, and the coded streams per record; fewer entries where those would not fit the room."""
    entries = header.entries
    supports_room = header.pool - header.records * TAG
    for _ in range(_FIT_STEPS):
        code = codec.sparsify(z, entries)
        streams = _encode_streams(code, header, codec, draw)
        short = [supports_room / max(sum(len(s.support) for s in streams), 1)]
        if header.settings.protection == "keyed":
            short.append(header.values / max(sum(len(s.values) for s in streams), 1))
        if min(short) >= 1:
            return code, streams
        entries = codec.architecture.fewer_entries(entries, min(short))
        if not entries:
            break
    settings, names = header.settings, ("--support-bits", "--value-bits")
    room = zip(names, (settings.support_bits, settings.value_bits), short, strict=False)
    wanted = ", ".join(
        f"{name} {1.1 * bits / share:.1f}" for name, bits, share in room if share < 1
    )
    raise InputError(f"the code needs more room than the settings leave: {wanted} would do")


def _encode_streams(code: SparseCode, header: Header, codec: Codec, draw: Draw) -> list[_Streams]:
    layout, tables = codec.layout, codec.checkpoint.tables
    nothing = np.zeros(0, np.int16)
    if header.settings.protection == "keyed":
        coded = (
            encode_code(code.levels[c][:, y, x], atoms, layout, tables)
            for atoms, (c, y, x) in _runs(header)
        )
        return [_Streams(support, values, nothing) for support, values in coded]
    odds = entry_odds(code.levels, layout, tables)
    z_p = ambiguate(
        code.levels, header.slots - int(np.count_nonzero(code.levels)), odds=odds, draw=draw
    )
    supports = (
        encode_support(code.levels[c][:, y, x], z_p[c][:, y, x], atoms, layout, tables)
        for atoms, (c, y, x) in _runs(header)
    )
    return [_Streams(support, b"", z_p) for support in supports]


def _seal_stream(stream: bytes, secret: Secret, header: Header) -> bytes:
    return seal(stream, secret, "supports", header.binding) if stream else b""


def run_digest(run: bytes) -> bytes:
    """What a sealed record says of the published values that it stands for: 16 bytes of SHA-256."""
    return hashlib.sha256(run).digest()[:16]


def _write_plain(z_p: np.ndarray, header: Header) -> list[bytes]:
    """Section `public` of one frame at level `sca`, tile by tile."""
    parts = []
    for c, y, x in header.geometry.tiles:
        tile = z_p[c][:, y, x]
        stream = encode_plain(tile != 0)
        values = tile[tile != 0].astype("<i2").tobytes()
        parts.append(_PLAIN.pack(len(values) // 2, len(stream)) + stream + values)
    return parts


def _room(parts: list[bytes], size: int, draw: Draw) -> tuple[bytes, list[tuple[int, int]]]:
    """The parts of tier preview in a random order, then those of diagnostic, the rest of `size` bytes random; and (first
    byte, bytes) of each. Mixed, what lies between its parts would tell a holder of tier preview of the finer ones."""
    tier = len(parts) // 2
    lay = np.concatenate([order(tier, draw), tier + order(len(parts) - tier, draw)])
    starts = np.zeros(len(parts), np.int64)
    starts[lay] = np.cumsum([0, *(len(parts[i]) for i in lay[:-1])])
    pool = b"".join(parts[i] for i in lay)
    places = [(int(start), len(part)) for start, part in zip(starts, parts, strict=True)]
    return pool + draw(size - len(pool)), places


class IndexRecord(NamedTuple):
    """Where a record's values and its sealed stream lie in their frame's parts, in bytes.

    digest: of the values as they are published (`run_digest`).
    """

    at: int
    length: int
    entries: int
    stream_at: int
    stream_length: int
    digest: bytes


def _index(
    runs: list[tuple[int, int]],
    digests: list[bytes],
    places: list[tuple[int, int]],
    code: SparseCode,
    header: Header,
    tiles: list[Secret],
) -> bytes:
    records = []
    for (atoms, (c, y, x)), run, digest, place, secret in zip(
        _runs(header), runs, digests, places, tiles, strict=True
    ):
        entries = int(np.count_nonzero(code.levels[c, atoms.start : atoms.stop, y, x]))
        record = IndexRecord(*run, entries, *place, digest)
        records.append(seal(_RECORD.pack(*record), secret, "index", header.binding))
    return b"".join(records)


def _unseal_record(
    header: Header, parts: dict[str, bytes], secret: Secret, number: int
) -> IndexRecord:
    size = _RECORD.size + TAG
    sealed = parts["index"][number * size : (number + 1) * size]
    record = IndexRecord._make(_RECORD.unpack(unseal(sealed, secret, "index", header.binding)))
    at, length, _, stream_at, stream_length, _ = record
    outside = at + length > header.values or stream_at + stream_length > header.pool
    if outside or (header.settings.protection == "sca" and (at or length)):
        raise DamagedSection('section "index": a record points outside its section')
    return record


def _open_code(
    header: Header,
    parts: dict[str, bytes],
    image_secrets: dict[str, Secret],
    frame: int,
    tier: str,
    codec: Codec,
    plain: PlainFrame | None,
) -> np.ndarray:
    """Purify: the true levels (c, LM, h, w) of a frame that the tier opens, zero elsewhere. plain: Z_p at level `sca`."""
    geometry = header.geometry
    levels = np.zeros((geometry.channels, geometry.atoms, *geometry.grid), np.int16)
    tiles, tables = _tile_secrets(header, image_secrets, frame, tier), codec.checkpoint.tables
    for number, ((atoms, (c, y, x)), secret) in enumerate(zip(_runs(header), tiles, strict=False)):
        at, length, entries, stream_at, stream_length, digest = _unseal_record(
            header, parts, secret, frame * header.records + number
        )
        known, stream = levels[c][:, y, x], b""
        if stream_length:
            start = frame * header.pool + stream_at
            stream = unseal(
                parts["supports"][start : start + stream_length], secret, "supports", header.binding
            )
        if plain is not None:
            _verified(plain.tiles[number % geometry.tile_count], digest)
            tile = decode_support(
                stream, plain.code[c][:, y, x], known, atoms, entries, codec.layout, tables
            )
        else:
            start = frame * header.values + at
            run = _verified(parts["public"][start : start + length], digest)
            values = mask(run, secret)
            tile = decode_code(stream, values, known, atoms, entries, codec.layout, tables)
        levels[c][:, y, x] = tile
    return levels


def read_public_code(header: Header, parts: dict[str, bytes]) -> list[np.ndarray]:
    """Z_p as anyone reads it, (c, LM, h, w) of int16 per frame.

    At level `keyed` there are no entries to see, only bytes; here each half byte is a level, at a place that is the same in
    all bundles of a geometry and settings, so that what bundles have in common can be found.
    """
    if header.settings.protection == "sca":
        return [frame.code for frame in _read_plain(header, parts)]
    geometry = header.geometry
    out = []
    for data in np.frombuffer(parts["public"], np.uint8).reshape(geometry.frames, header.values):
        halves = np.stack([data >> 4, data & 15], axis=1).ravel().astype(np.int16) - 8
        values = np.resize(np.where(halves >= 0, halves + 1, halves), header.slots)
        code = np.zeros(geometry.positions * geometry.atoms, np.int16)
        code[np.random.default_rng(0).choice(len(code), len(values), replace=False)] = values
        out.append(code.reshape(geometry.channels, geometry.atoms, *geometry.grid))
    return out


class PlainFrame(NamedTuple):
    """Z_p (c, LM, h, w) of a frame at level `sca`, and the bytes that hold it, tile by tile."""

    code: np.ndarray
    tiles: list[bytes]


def _read_plain(header: Header, parts: dict[str, bytes]) -> list[PlainFrame]:
    geometry, data, at = header.geometry, parts["public"], 0
    frames = []
    for _ in range(geometry.frames):
        code = np.zeros((geometry.channels, geometry.atoms, *geometry.grid), np.int16)
        tiles = []
        for c, y, x in geometry.tiles:
            start = at
            if len(data) < at + _PLAIN.size:
                raise DamagedSection('section "public" is shorter than its tiles')
            count, length = _PLAIN.unpack_from(data, at)
            at += _PLAIN.size
            shape = code[c][:, y, x].shape
            support = decode_plain(data[at : at + length], shape, count)
            at += length
            if len(data) < at + 2 * count:
                raise DamagedSection('section "public" is shorter than its tiles')
            values = np.frombuffer(data[at : at + 2 * count], "<i2")
            if not values.all() or values.min(initial=0) < -LEVEL_LIMIT:
                raise DamagedSection(
                    f'section "public" has values outside 1..{LEVEL_LIMIT} in size'
                )
            at += 2 * count
            code[c][:, y, x][support] = values
            tiles.append(data[start:at])
        frames.append(PlainFrame(code, tiles))
    if at != len(data):
        raise DamagedSection(f'section "public" has {len(data) - at} bytes after its last tile')
    return frames


def _restore_original(
    header: Header, parts: dict[str, bytes], image_secrets: dict[str, Secret]
) -> Restored:
    if "original" not in parts:
        raise TierTooLow(
            f'bundle "{header.id}" has no original: it was shared without --with-original'
        )
    if not set(TIERS) <= image_secrets.keys():
        raise TierTooLow('tier "original" was asked for, but the secrets offered open less')
    info = unseal_info(header, parts, image_secrets["preview"])
    name = unseal_name(header, parts, image_secrets["diagnostic"])
    data = unseal_original(header, parts, image_secrets["original"])
    return Restored(data, name, "original", info["kind"])

"""Level sca, the paper's mechanism: the public code Z_p = Z + N in clear, true entries among
decoys.

It leaks the image to anyone who learns what true entries look like (docs/evaluation.md). It is here
to be measured.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from primis.bundle.header import Header
from primis.bundle.index import IndexRecord, run_digest
from primis.codec import Codec, Done, silent
from primis.codes.ambiguation import Draw, ambiguate
from primis.codes.coder import decode_support, encode_support
from primis.codes.selection import entry_odds
from primis.codes.sparse import LEVEL_LIMIT, SparseCode
from primis.codes.support import decode_plain, encode_plain
from primis.errors import DamagedSection
from primis.keys.seal import Secret
from primis.sharing.opened import OpenedBundle, Place, Run, places, verified
from primis.sharing.protection.layout import lay_out
from primis.sharing.protection.level import OpenedRecord, Published

_PLAIN = struct.Struct(">2I")


@dataclass(frozen=True)
class ScaFrame:
    """supports: of each record, given the public code (c, LM, h, w)."""

    supports: list[bytes] = field(repr=False)
    public: np.ndarray = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the supports: values are as many as entries."""
        return sum(map(len, self.supports))

    def publish(
        self, header: Header, secrets: list[Secret], sealed: list[bytes], draw: Draw
    ) -> Published:
        """Z_p, tile by tile. Both tiers' records of a tile vouch for all of it."""
        tiles = [_write_tile(self.public[c][:, y, x]) for c, y, x in header.geometry.tiles]
        digests = [run_digest(tile) for tile in tiles]
        supports, streams = lay_out(sealed, header.code_budget, draw)
        nowhere = [Run(0, 0)] * header.records
        return Published(b"".join(tiles), supports, nowhere, 2 * digests, streams)


class PlainFrame(NamedTuple):
    """Z_p (c, LM, h, w) of a frame, and the bytes that hold it, tile by tile."""

    code: np.ndarray
    tiles: list[bytes]


@dataclass(frozen=True, eq=False)
class ScaCode:
    """Z_p of all frames, read when it is first asked for."""

    bundle: OpenedBundle

    @cached_property
    def frames(self) -> list[PlainFrame]:
        """Raises DamagedSection."""
        return read_plain(self.bundle)

    def levels(
        self, frame: int, number: int, record: IndexRecord, place: Place, opened: OpenedRecord
    ) -> np.ndarray:
        """Purify a record's tile. Raises DamagedSection."""
        plain = self.frames[frame]
        with self.bundle.named():
            verified(plain.tiles[number % len(plain.tiles)], record.digest)
        layout, tables = opened.codec.layout, opened.codec.checkpoint.tables
        public = plain.code[place.plane][:, place.rows, place.columns]
        return decode_support(
            opened.support, public, opened.known, place.atoms, record.entries, layout, tables
        )


class Sca:
    """The level."""

    def encode(
        self, code: SparseCode, header: Header, codec: Codec, draw: Draw, done: Done = silent
    ) -> ScaFrame:
        """Draw decoys, then code each record's support given the public code."""
        layout, tables = codec.layout, codec.checkpoint.tables
        odds = entry_odds(code.levels, layout, tables, header.geometry.tile)
        decoys = header.slots - int(np.count_nonzero(code.levels))
        z_p = ambiguate(code.levels, decoys, odds=odds, draw=draw)
        supports = []
        for p in places(header):
            true, public = (x[p.plane][:, p.rows, p.columns] for x in (code.levels, z_p))
            supports.append(encode_support(true, public, p.atoms, layout, tables))
            done(len(supports) / header.records)
        return ScaFrame(supports, z_p)

    def open(self, bundle: OpenedBundle) -> ScaCode:
        """Nothing is read before a record is asked for."""
        return ScaCode(bundle)

    def reseal(
        self, bundle: OpenedBundle, frame: int, record: IndexRecord, was: Secret, now: Secret
    ) -> bytes:
        """What lies in clear stays as it is."""
        return b""


def read_plain(bundle: OpenedBundle) -> list[PlainFrame]:
    """Section `public`: anyone can. Raises DamagedSection."""
    geometry, data, at = bundle.header.geometry, bundle.parts["public"][:], 0
    frames = []
    for _ in range(geometry.frames):
        code = np.zeros((geometry.channels, geometry.atoms, *geometry.grid), np.int16)
        tiles = []
        for c, y, x in geometry.tiles:
            stop = _read_tile(data, at, code[c][:, y, x])
            tiles.append(data[at:stop])
            at = stop
        frames.append(PlainFrame(code, tiles))
    if at != len(data):
        raise DamagedSection(f'section "public" has {len(data) - at} bytes after its last tile')
    return frames


def _write_tile(tile: np.ndarray) -> bytes:
    stream = encode_plain(tile != 0)
    values = tile[tile != 0].astype("<i2").tobytes()
    return _PLAIN.pack(len(values) // 2, len(stream)) + stream + values


def _read_tile(data: bytes, at: int, tile: np.ndarray) -> int:
    """Fill a tile (LM, h, w) of zeros from the bytes at a place; where they end."""
    if len(data) < at + _PLAIN.size:
        raise DamagedSection('section "public" is shorter than its tiles')
    count, length = _PLAIN.unpack_from(data, at)
    at += _PLAIN.size
    support = decode_plain(data[at : at + length], tile.shape, count)
    at += length
    stop = at + 2 * count
    if len(data) < stop:
        raise DamagedSection('section "public" is shorter than its tiles')
    values = np.frombuffer(data[at:stop], "<i2")
    if not values.all() or values.min(initial=0) < -LEVEL_LIMIT:
        raise DamagedSection(f'section "public" has values outside 1..{LEVEL_LIMIT} in size')
    tile[support] = values
    return stop

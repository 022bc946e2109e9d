"""A code as two streams: the support, which is the key, and the values, which are public.

Entries and levels are coded in one scan (`kernel/`), each to its own stream, so that either is as
short as what is known by then allows: levels tell where further entries are. A level is its
exponent in unary, the bits below it, and its sign.

Where the public code lies in the open (level `sca`), the support is coded given it: an entry can
only be where the public code has one, and its level is known (`encode_support`). What that takes
is what a holder of the public code lacks, by this model: the size of the key and the ambiguity are
one number. docs/format.md, section 7, is the specification.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from primis.codes.kernel import PRICE_UNIT, Streams, Tile, kernel_of
from primis.codes.layout import Layout
from primis.codes.probabilities import ContextModel
from primis.errors import DamagedSection

_DENSITY_UNIT = 8


def entry_density(entries: int, positions: int) -> int:
    """floor(8 log2(entries / positions)), exactly: log2 of the eighth power, of integers."""
    ratio = ((entries**_DENSITY_UNIT) << 512) // positions**_DENSITY_UNIT
    return ratio.bit_length() - 1 - 512


def density_of(levels: np.ndarray) -> int:
    """`entry_density` of a record's levels (atoms, h, w); without an entry, as if it had one."""
    return entry_density(max(1, int(np.count_nonzero(levels))), levels[0].size)


def encode_code(
    levels: np.ndarray, atoms: range, layout: Layout, model: ContextModel
) -> tuple[bytes, bytes]:
    """(support, values) of the entries of `atoms` in levels (LM, h, w).

    The atoms below count as known. Both are empty if there is no entry.
    """
    if not _entries(levels, atoms):
        return b"", b""
    return kernel_of(model, layout).encode(_tile(levels, atoms))


def decode_code(
    support: bytes,
    values: bytes,
    known: np.ndarray,
    atoms: range,
    entries: int,
    layout: Layout,
    model: ContextModel,
) -> np.ndarray:
    """Fill `atoms` into a copy of known (LM, h, w) int16, whose lower atoms are right.

    Raises DamagedSection if the streams do not hold `entries` entries.
    """
    return _decode(Streams(support, values), None, known, atoms, entries, layout, model)


def encode_support(
    levels: np.ndarray, public: np.ndarray, atoms: range, layout: Layout, model: ContextModel
) -> bytes:
    """The support of `atoms` in levels (LM, h, w), for those who have the public code Z_p."""
    if not _entries(levels, atoms):
        return b""
    return kernel_of(model, layout).encode(_tile(levels, atoms, public)).support


def decode_support(
    support: bytes,
    public: np.ndarray,
    known: np.ndarray,
    atoms: range,
    entries: int,
    layout: Layout,
    model: ContextModel,
) -> np.ndarray:
    """Purify: the true levels of `atoms` among those of Z_p.

    Raises DamagedSection as `decode_code` does.
    """
    return _decode(Streams(support, b""), public, known, atoms, entries, layout, model)


class Prices(NamedTuple):
    """In bits. entries: what each takes, or would take, more than a zero (atoms, h, w) float32; a
    level counts as 1, with its sign. code: what all streams take together."""

    entries: np.ndarray
    code: float


def price_code(levels: np.ndarray, atoms: range, layout: Layout, model: ContextModel) -> Prices:
    """Of `atoms` in levels (LM, h, w)."""
    prices, code = kernel_of(model, layout).prices(_tile(levels, atoms))
    entries = np.divide(prices, PRICE_UNIT, dtype=np.float32, casting="unsafe")
    return Prices(entries, code / PRICE_UNIT)


def _tile(levels: np.ndarray, atoms: range, public: np.ndarray | None = None) -> Tile:
    return Tile(levels, atoms, density_of(levels[atoms.start : atoms.stop]), public)


def _entries(levels: np.ndarray, atoms: range) -> int:
    return int(np.count_nonzero(levels[atoms.start : atoms.stop]))


def _decode(
    streams: Streams,
    public: np.ndarray | None,
    known: np.ndarray,
    atoms: range,
    entries: int,
    layout: Layout,
    model: ContextModel,
) -> np.ndarray:
    levels = known.copy()
    levels[atoms.start : atoms.stop] = 0
    positions = levels[0].size
    if entries > len(atoms) * positions or (any(streams) and not entries):
        raise DamagedSection(
            f'section "index": {entries} entries in a record of {len(atoms)} x {positions}'
        )
    if not entries:
        return levels
    tile = Tile(levels, atoms, entry_density(entries, positions), public)
    decoded = kernel_of(model, layout).decode(streams, tile)
    if decoded is None:
        raise DamagedSection('section "supports" or "public": a stream is damaged')
    if (found := _entries(decoded, atoms)) != entries:
        raise DamagedSection(
            f'section "supports": a stream decodes to {found} entries, expected {entries}'
        )
    return decoded

"""Rate-distortion optimised selection: top-S that knows what an entry costs.

An entry is kept if what it takes off the squared error, in units of t², is more than LAMBDA for
each bit that it needs; t is then the one at which S entries are kept. Bits come from the coder's
own model, on the code that plain top-S would give. At equal S_x the image gets no worse, and the
support takes fewer bits: what is dropped lies alone, where nobody would look for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from primis.codes.coder import Prices, price_code
from primis.codes.layout import Layout
from primis.codes.probabilities import ContextModel
from primis.codes.sparse import LEVEL_LIMIT, RECONSTRUCTION_OFFSET, SparseCode, top_s

LAMBDA = 0.3
SELECTED = 0.987
"""Of the bits that the same number of entries takes without regard to cost, those that it takes."""

TILE = 32
"""Positions of a tile's side unless told: what is coded on its own is priced on its own."""

_STEPS = 14
_LEAST, _MOST = 0.5, 1.25
"""Of plain top-S's threshold: between them lies the one at which S entries are kept."""


class Selector(Protocol):
    """Selects entries of given coefficients."""

    @property
    def entries(self) -> int:
        """About how many it was made for."""

    @property
    def bits(self) -> float | None:
        """About what so many take in streams; None if that is not known."""

    @property
    def keep(self) -> Callable[[int], SparseCode]:
        """The best so many, at most, quantised."""


@dataclass(frozen=True)
class PlainSelector:
    """Top-S."""

    entries: int
    keep: Callable[[int], SparseCode]
    bits: None = None


class PricedSelector:
    """Selects among z (c, LM, h, w) by what entries cost in the code of the largest `entries`, in
    tiles of `tile` positions a side."""

    def __init__(
        self,
        z: np.ndarray,
        entries: int,
        layout: Layout,
        model: ContextModel,
        tile: int = TILE,
    ) -> None:
        self.entries, self._z = entries, z
        self.bits: float | None = None
        first = top_s(z, entries)
        self._threshold = first.threshold
        size = np.abs(z)
        size /= np.float32(self._threshold)
        self._candidates = np.flatnonzero(size > _LEAST)
        self._sizes = size.reshape(-1)[self._candidates]
        del size  # a whole image may be large
        self._bits = np.zeros(0, np.float32)
        if 0 < np.count_nonzero(first.levels) < len(self._candidates):
            prices, code = _prices(first.levels, layout, model, tile)
            self._bits = prices.reshape(-1)[self._candidates]
            self.bits = SELECTED * code

    def keep(self, entries: int) -> SparseCode:
        """The best `entries`, at most, quantised."""
        if not len(self._bits):
            return top_s(self._z, entries)
        factor = _factor(self._sizes, self._bits, entries)
        threshold = float(np.float32(self._threshold * factor))
        values = self._z.reshape(-1)[self._candidates]
        steps = _kept(np.abs(values) / np.float32(threshold), self._bits)
        levels = np.zeros(self._z.size, np.int16)
        levels[self._candidates] = np.sign(values) * np.minimum(steps, LEVEL_LIMIT)
        kept = int(np.count_nonzero(levels))
        if not 0 < kept <= entries or steps.max() > LEVEL_LIMIT:
            return top_s(self._z, entries)
        return SparseCode(levels.reshape(self._z.shape), threshold)


def select(z: np.ndarray, entries: int, layout: Layout, model: ContextModel) -> SparseCode:
    """The best `entries` of z (c, LM, h, w), at most, quantised."""
    return PricedSelector(z, entries, layout, model).keep(entries)


def entry_odds(
    levels: np.ndarray, layout: Layout, model: ContextModel, tile: int = TILE
) -> np.ndarray:
    """How likely an entry is at each place, given those of levels (c, LM, h, w) in its tile.

    Natural logarithm, float32.
    """
    return _prices(levels, layout, model, tile).entries * np.float32(-np.log(2))


def _factor(size: np.ndarray, bits: np.ndarray, entries: int) -> float:
    """The smallest factor of the threshold at which at most `entries` are kept."""
    low, high = _LEAST, _MOST
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        if np.count_nonzero(_kept(size / middle, bits)) > entries:
            low = middle
        else:
            high = middle
    return high


def _kept(size: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Levels of magnitudes in thresholds: zero where an entry is not worth its bits."""
    steps = np.floor(size)
    gain = size**2 - (size - steps - RECONSTRUCTION_OFFSET) ** 2
    return np.where((steps > 0) & (gain > LAMBDA * bits), steps, 0)


def _prices(levels: np.ndarray, layout: Layout, model: ContextModel, tile: int) -> Prices:
    """Of levels (c, LM, h, w), tile by tile."""
    entries, code = np.empty(levels.shape, np.float32), 0.0
    for plane, out in zip(levels, entries, strict=True):
        for top in range(0, levels.shape[2], tile):
            for left in range(0, levels.shape[3], tile):
                place = (slice(None), slice(top, top + tile), slice(left, left + tile))
                for atoms in layout.split():
                    found = price_code(plane[place], atoms, layout, model)
                    out[place][atoms.start : atoms.stop] = found.entries
                    code += found.code
    return Prices(entries, code)

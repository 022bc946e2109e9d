"""Which entries to keep: top-S that knows what an entry costs.

An entry is kept if what it takes off the squared error, in units of t², is more than LAMBDA for each bit
that it needs; t is then the one at which S entries are kept. Bits come from the coder's own model, on
the code that plain top-S would give. At equal S_x the image gets no worse, and the support takes fewer bits:
what is dropped lies alone, where nobody would look for it.
"""

from __future__ import annotations

import numpy as np

from primis.codes.atoms import Layout, join_means
from primis.codes.coder import Pricing
from primis.codes.context import ContextModel, entry_density, walk
from primis.codes.sparse import RECONSTRUCTION_OFFSET, SparseCode, top_s

LAMBDA = 0.3
TILE = 32
"""Positions of a tile's side in new bundles: what is coded on its own is priced on its own."""

_STEPS = 14
_REACH = 0.5


def choose(z: np.ndarray, entries: int, layout: Layout, model: ContextModel) -> SparseCode:
    """The best `entries` of z (c, LM, h, w), at most, quantised."""
    first = top_s(z, entries)
    size = np.abs(z)
    size /= np.float32(first.threshold)
    candidates = np.flatnonzero(size > _REACH)
    near = size.reshape(-1)[candidates]
    del size  # a whole image may be large
    if not 0 < np.count_nonzero(first.levels) < len(candidates):
        return first
    prices = np.empty(z.shape, np.float32)
    for levels, out in zip(first.levels, prices, strict=True):
        _price(levels, layout, model, out)
    bits = prices.reshape(-1)[candidates]
    del prices
    low, high = _REACH, 1.25
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        low, high = (
            (middle, high)
            if np.count_nonzero(_kept(near / middle, bits)) > entries
            else (low, middle)
        )
    threshold = float(np.float32(first.threshold * high))
    levels = np.zeros(z.size, np.int16)
    steps = _kept(np.abs(z.reshape(-1)[candidates]) / np.float32(threshold), bits)
    levels[candidates] = np.sign(z.reshape(-1)[candidates]) * np.minimum(
        steps, np.iinfo(np.int16).max
    )
    if (
        np.count_nonzero(levels) > entries
        or not levels.any()
        or steps.max() > np.iinfo(np.int16).max
    ):
        return first
    return SparseCode(levels.reshape(z.shape), threshold)


def entry_odds(levels: np.ndarray, layout: Layout, model: ContextModel) -> np.ndarray:
    """How likely each place is to have an entry, given those of levels (c, LM, h, w) around it: natural logarithm, float32."""
    prices = np.empty(levels.shape, np.float32)
    for plane, out in zip(levels, prices, strict=True):
        _price(plane, layout, model, out)
    return prices * np.float32(-np.log(2))


def _kept(size: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Levels of magnitudes in thresholds: zero where an entry is not worth its bits."""
    steps = np.floor(size)
    gain = size**2 - (size - steps - RECONSTRUCTION_OFFSET) ** 2
    return np.where((steps > 0) & (gain > LAMBDA * bits), steps, 0)


def _price(levels: np.ndarray, layout: Layout, model: ContextModel, out: np.ndarray) -> None:
    """Bits that each entry of levels (LM, h, w) takes, or would take, more than a zero."""
    for top in range(0, levels.shape[1], TILE):
        for left in range(0, levels.shape[2], TILE):
            place = (slice(None), slice(top, top + TILE), slice(left, left + TILE))
            out[place] = _tile_prices(levels[place], layout, model)


def _tile_prices(levels: np.ndarray, layout: Layout, model: ContextModel) -> np.ndarray:
    whole = np.empty(levels.shape, np.float32)
    for atoms in layout.split():
        entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        side = Pricing(levels, layout, model, entry_density(max(entries, 1), levels[0].size))
        walk(levels.copy(), atoms, layout, side, model.logarithm)
        whole[atoms.start : atoms.stop] = side.prices[atoms.start : atoms.stop]
        if layout.means and atoms.start == 0:
            whole[0] = join_means(side.mean_prices, levels.shape[1:])
    return whole

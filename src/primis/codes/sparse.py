"""The sparse code of one frame: integer levels at the support, zero elsewhere.

Top-S and quantisation are one step: with the threshold t set to the S-th largest magnitude, the
level sign(z) floor(|z| / t) is zero exactly for what top-S drops. `selection.py` drops a little
more, and lowers t for it. Preset `paper` keeps S_x entries at each position of each code map
instead; its levels are rounded to a fine step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECONSTRUCTION_OFFSET = 0.45
"""A level n stands for (|n| + 0.45) t: magnitudes thin out within a step."""

LEVEL_LIMIT = 32767

_SAMPLED = 31
"""Of so many values one is in a sample."""

FINE_LEVELS = 1023
"""Levels of the largest entry where values are rounded to a fine step."""


@dataclass(frozen=True, eq=False)
class SparseCode:
    """Z for one frame.

    levels: (c, LM, h, w) int16; c planes (colour channels), LM atoms from coarse to fine at each of
    h x w positions. threshold: t, one step of the levels, in units of the frame's range of grey
    levels. offset: a level n stands for (|n| + offset) t.
    """

    levels: np.ndarray
    threshold: float
    offset: float = RECONSTRUCTION_OFFSET

    @property
    def coefficients(self) -> np.ndarray:
        """What the levels stand for: (c, LM, h, w) float32."""
        q = self.levels + np.float32(self.offset) * np.sign(self.levels)
        return (q * np.float32(self.threshold)).astype(np.float32)

    @property
    def support(self) -> np.ndarray:
        """supp(Z): (c, LM, h, w) of bool."""
        return self.levels != 0

    @property
    def positions(self) -> int:
        """Positions of the grid, over all planes."""
        return self.levels.shape[0] * self.levels.shape[2] * self.levels.shape[3]

    @property
    def sparsity(self) -> float:
        """S_x: non-zeros per position, on average over the grid."""
        return int(np.count_nonzero(self.levels)) / self.positions

    def __repr__(self) -> str:
        return f"SparseCode(shape={self.levels.shape}, sparsity={self.sparsity:.3g})"


def top_s(coefficients: np.ndarray, entries: int) -> SparseCode:
    """Keep the `entries` largest magnitudes of z (c, LM, h, w), fewer where z has ties or zeros."""
    magnitude = np.abs(coefficients)
    peak = float(magnitude.max(initial=0.0))
    floor = max(peak / LEVEL_LIMIT * 1.001, float(np.finfo(np.float32).tiny))
    if not 0 < entries < magnitude.size:
        threshold = floor if entries else 2 * peak + 1
    else:
        threshold = max(_nth_largest(magnitude.reshape(-1), entries), floor)
    threshold = float(np.float32(threshold))
    if np.count_nonzero(magnitude >= np.float32(threshold)) > entries:  # ties: take none of them
        threshold = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
    np.divide(coefficients, np.float32(threshold), out=magnitude)
    return SparseCode(magnitude.astype(np.int16), threshold)  # towards zero


def _nth_largest(values: np.ndarray, n: int) -> float:
    """Looked for among the largest alone, of which a sample tells: to order all takes long."""
    sample = values[::_SAMPLED]
    place = len(sample) - 2 * n // _SAMPLED - _SAMPLED
    if place > 0:
        large = values[values >= np.partition(sample, place)[place]]
        values = large if len(large) >= n else values
    place = len(values) - n
    return float(np.partition(values, place)[place])


def top_s_of_maps(coefficients: np.ndarray, code_maps: int, sparsity: int) -> SparseCode:
    """Keep `sparsity` entries of each code map at each position of z (c, LM, h, w), the largest."""
    maps = coefficients.reshape(len(coefficients), code_maps, -1, *coefficients.shape[2:])
    most = np.argsort(-np.abs(maps), axis=2, kind="stable")[:, :, :sparsity]
    kept = np.zeros(maps.shape, bool)
    np.put_along_axis(kept, most, True, axis=2)
    step = max(float(np.abs(maps).max(initial=0.0)) / FINE_LEVELS, float(np.finfo(np.float32).tiny))
    step = float(np.float32(step))
    levels = np.sign(maps) * np.maximum(np.round(np.abs(maps) / np.float32(step)), 1)
    return SparseCode(
        np.where(kept, levels, 0).astype(np.int16).reshape(coefficients.shape), step, 0.0
    )

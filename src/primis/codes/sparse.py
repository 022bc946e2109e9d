"""The sparse code of one frame: integer levels at the support, zero elsewhere.

Top-S and quantisation are one step: with the threshold t set to the S-th largest magnitude, the level
sign(z) floor(|z| / t) is zero exactly for what top-S drops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECONSTRUCTION_OFFSET = 0.45
"""A level n stands for (|n| + 0.45) t: magnitudes thin out within a step."""

LEVEL_LIMIT = 32767


@dataclass(frozen=True, eq=False)
class SparseCode:
    """Z for one frame.

    levels: (c, LM, h, w) int16; c planes (colour channels), LM atoms from coarse to fine at each of
    h x w positions. threshold: t, one step of the levels, in units of the frame's range of grey levels.
    """

    levels: np.ndarray
    threshold: float

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
        kth = np.partition(magnitude, magnitude.size - entries, axis=None)[magnitude.size - entries]
        threshold = max(float(kth), floor)
    threshold = float(np.float32(threshold))
    levels = np.floor(magnitude / np.float32(threshold))
    if np.count_nonzero(levels) > entries:  # ties at the threshold: take none of them
        threshold = float(np.nextafter(np.float32(threshold), np.float32(np.inf)))
        levels = np.floor(magnitude / np.float32(threshold))
    return SparseCode((np.sign(coefficients) * levels).astype(np.int16), threshold)

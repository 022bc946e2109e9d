"""How near a restored image is to its original. Higher is better for PSNR; identical images give inf."""

from __future__ import annotations

import numpy as np


def mse(original: np.ndarray, other: np.ndarray) -> float:
    """Mean squared error, in squared grey levels; 0 for identical images."""
    return float(np.mean((original.astype(np.float64) - other.astype(np.float64)) ** 2))


def psnr(original: np.ndarray, other: np.ndarray, data_range: float) -> float:
    """10 log10(range² / MSE) in dB. data_range: 2^bit_depth - 1, or high - low for signed samples."""
    error = mse(original, other)
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def data_range(pixels: np.ndarray, bit_depth: int) -> float:
    """Full scale of unsigned samples; of signed ones the range that they take."""
    if pixels.dtype.kind == "u":
        return float(2**bit_depth - 1)
    return float(max(int(pixels.max()) - int(pixels.min()), 1))

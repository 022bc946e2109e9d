"""How near a restored image is to its original, in grey levels.

Identical images give a PSNR of inf.

Every function takes two arrays of one shape, original and other, and a data range R where it needs
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def mse(original: np.ndarray, other: np.ndarray) -> float:
    """Mean squared error, in squared grey levels; 0 for identical images."""
    return float(np.mean((original.astype(np.float64) - other.astype(np.float64)) ** 2))


def psnr(original: np.ndarray, other: np.ndarray, data_range: float) -> float:
    """10 log10(range² / MSE) in dB.

    data_range: 2^bit_depth - 1, or high - low for signed samples.
    """
    error = mse(original, other)
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(
    original: np.ndarray,
    other: np.ndarray,
    data_range: float,
    inside: np.ndarray | None = None,
) -> float:
    """Structural similarity of two frames (H, W), -1 to 1, higher is better: Wang et al. 2004,
    window 7, uniform. inside: over which pixels it is averaged, None for all but the border."""
    from skimage.metrics import structural_similarity

    pair = [x.astype(np.float32) for x in (original, other)]
    if inside is None:
        return float(structural_similarity(*pair, data_range=data_range))
    _, everywhere = structural_similarity(*pair, data_range=data_range, full=True)
    return float(everywhere[inside].mean())


def data_range(pixels: np.ndarray, bit_depth: int) -> float:
    """Full scale of unsigned samples; of signed ones the range that they take."""
    if pixels.dtype.kind == "u":
        return float(2**bit_depth - 1)
    return float(max(int(pixels.max()) - int(pixels.min()), 1))


def best_fit(guess: np.ndarray, original: np.ndarray) -> np.ndarray:
    """a + b guess with the least squared error, b at least 0.

    These two numbers are all that an attacker is told.
    """
    centred = guess.astype(np.float64) - guess.mean()
    power = float(np.sum(centred**2))
    slope = (
        max(float(np.sum(centred * (original - original.mean()))) / power, 0.0) if power else 0.0
    )
    return original.mean() + slope * centred


@dataclass(frozen=True)
class Fidelity:
    """The paper's five measures of one image (Table 1).

    me: mean of other - original, signed, unlike the paper's, which equals its MAE; mae, rmse in
    grey levels; psnr in dB; ssim.
    """

    me: float
    mae: float
    rmse: float
    psnr: float
    ssim: float


def fidelity(
    original: np.ndarray,
    other: np.ndarray,
    data_range: float,
    inside: np.ndarray | None = None,
) -> Fidelity:
    """All five, of two frames (H, W), over the pixels `inside` (None for all)."""
    where = slice(None) if inside is None else inside
    error = (other.astype(np.float64) - original.astype(np.float64))[where]
    return Fidelity(
        float(error.mean()),
        float(np.abs(error).mean()),
        float(np.sqrt(np.mean(error**2))),
        psnr(original[where], other[where], data_range),
        ssim(original, other, data_range, inside),
    )

"""How near a restored image is to its original, in grey levels.

Identical images give a PSNR of inf.

Every function takes two arrays of one shape, original and other, and a data range R where it needs
one. All but `ssim`, which is that of the study, need NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_SIGMA, _RADIUS = 1.5, 5
_BAND = 64
"""Rows of a frame that are compared at a time: what they take stays in a processor's cache."""

_K1, _K2 = 0.01, 0.03


class Quality(NamedTuple):
    """How near what a recipient of tier diagnostic sees is to the image that was shared, outside
    padding and on the image's own range. psnr: in dB, None where no sample differs; ssim: that of
    Wang et al. 2004, with a Gaussian window of 11 x 11, -1 to 1."""

    psnr: float | None
    ssim: float


EXACT = Quality(None, 1.0)


def mse(original: np.ndarray, other: np.ndarray) -> float:
    """Mean squared error, in squared grey levels; 0 for identical images."""
    return float(np.mean((original.astype(np.float64) - other.astype(np.float64)) ** 2))


def psnr(original: np.ndarray, other: np.ndarray, data_range: float) -> float:
    """10 log10(range² / MSE) in dB.

    data_range: 2^bit_depth - 1, or high - low for signed samples.
    """
    return psnr_of_mse(mse(original, other), data_range)


def psnr_of_mse(error: float, data_range: float) -> float:
    """The same of a mean squared error."""
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


def gaussian_ssim(
    original: np.ndarray,
    other: np.ndarray,
    data_range: float,
    inside: np.ndarray | None = None,
    *,
    black: float = 0,
) -> float:
    """Structural similarity of two frames (H, W), -1 to 1, higher is better: Wang et al. 2004, with
    their Gaussian window of 11 x 11 (sigma 1.5), their K1 = 0.01 and K2 = 0.03, and borders
    mirrored. inside: over which pixels it is averaged, None for all. black: the grey level that
    counts as zero."""
    height, width = original.shape
    columns = _mirrored(-_RADIUS, width + _RADIUS, width)
    total = 0.0
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        part = np.ix_(_mirrored(top - _RADIUS, bottom + _RADIUS, height), columns)
        pair = [
            (frame[part].astype(np.float32) - np.float32(black)) / np.float32(data_range)
            for frame in (original, other)
        ]
        similar = _similarity(*pair)
        counted = similar if inside is None else similar[inside[top:bottom]]
        total += float(counted.sum(dtype=np.float64))
    return total / (height * width if inside is None else int(np.count_nonzero(inside)))


def _mirrored(start: int, stop: int, size: int) -> np.ndarray:
    """Places from start to stop, those outside of 0..size mirrored at its ends."""
    place = np.arange(start, stop) % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM at each pixel but those within the window's radius of an end; x, y: of range 1."""
    mean_x, mean_y, squares, product = _smooth(np.stack([x, y, x * x + y * y, x * y]))
    means, mean_squares = mean_x * mean_y, mean_x**2 + mean_y**2
    c1, c2 = _K1**2, _K2**2
    above = (2 * means + c1) * (2 * (product - means) + c2)
    return above / ((mean_squares + c1) * (squares - mean_squares + c2))


def _smooth(maps: np.ndarray) -> np.ndarray:
    """Averages (n, H - 10, W - 10) of maps (n, H, W) under the Gaussian window."""
    window = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    window = (window / window.sum()).astype(np.float32)
    height, width = (side - 2 * _RADIUS for side in maps.shape[1:])
    rows = window[_RADIUS] * maps[:, _RADIUS : _RADIUS + height]
    for k in range(_RADIUS):
        far = 2 * _RADIUS - k
        rows += window[k] * (maps[:, k : k + height] + maps[:, far : far + height])
    found = window[_RADIUS] * rows[:, :, _RADIUS : _RADIUS + width]
    for k in range(_RADIUS):
        far = 2 * _RADIUS - k
        found += window[k] * (rows[:, :, k : k + width] + rows[:, :, far : far + width])
    return found


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

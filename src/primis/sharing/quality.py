"""What an image loses by being shared, measured on what its recipient will decode.

Padding does not count: it comes back as it was. The range is the image's own, outside padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from primis.codec import Scale
from primis.imaging.image import Image
from primis.imaging.padding import Padding, move_strays
from primis.metrics.fidelity import EXACT, Quality, gaussian_ssim, psnr_of_mse
from primis.sharing.texture import FrameTexture, measure_texture

_BAND = 128
"""Rows whose errors are summed at a time."""


class Loss(NamedTuple):
    """Of a frame: sums over its pixels outside padding, of which there are so many."""

    squared: float = 0.0
    similar: float = 0.0
    pixels: int = 0


class Meter:
    """Compares an image with what is decoded, frame by frame, in any order."""

    def __init__(self, image: Image, padding: Padding | None) -> None:
        self._outside = None if padding is None else padding.mask
        self._declared = None if padding is None else padding.declared
        self._bit_depth = image.bit_depth
        parts = (self._counted(number, frame) for number, frame in enumerate(image.pixels))
        ends = [(int(part.min()), int(part.max())) for part in parts if part.size]
        self._black = min(low for low, _ in ends)
        self._range = max(max(high for _, high in ends) - self._black, 1)

    def loss(self, number: int, frame: np.ndarray, decoded: np.ndarray) -> Loss:
        """Of a frame (H, W, c), its padding filled, and what is decoded in its place; what of that
        is no padding and looks like it is moved, as it will be."""
        inside = None if self._outside is None else ~self._outside[number]
        if inside is not None:
            move_strays(decoded, ~inside, self._declared, self._bit_depth)
        pixels = frame[..., 0].size if inside is None else int(np.count_nonzero(inside))
        if not pixels:
            return Loss()
        squared = similar = 0.0
        for top in range(0, len(frame), _BAND):
            band = slice(top, top + _BAND)
            error = frame[band].astype(np.float64) - decoded[band]
            squared += float(np.sum((error if inside is None else error[inside[band]]) ** 2))
        for channel in range(frame.shape[2]):
            pair = frame[..., channel], decoded[..., channel]
            ssim = gaussian_ssim(*pair, self._range, inside, black=self._black)
            similar += ssim * pixels
        return Loss(squared, similar, pixels * frame.shape[2])

    def texture(
        self, number: int, frame: np.ndarray, decoded: np.ndarray, scale: Scale
    ) -> FrameTexture:
        """What a frame lost of its texture, outside padding. frame, decoded: as they are coded,
        stretched where the image is."""
        outside = None if self._outside is None else self._outside[number]
        return measure_texture(frame, decoded, scale, outside)

    def quality(self, losses: Sequence[Loss]) -> Quality:
        """Of all frames, as it is sealed: in thousandths. losses: in their order, or the last digit
        may differ."""
        squared, similar, pixels = (sum(sums) for sums in zip(*losses, strict=True))
        if not squared:
            return EXACT
        psnr = psnr_of_mse(squared / pixels, self._range)
        return Quality(max(round(psnr, 3), 0.001), round(similar / pixels, 3))

    def _counted(self, number: int, frame: np.ndarray) -> np.ndarray:
        return frame if self._outside is None else frame[~self._outside[number]]

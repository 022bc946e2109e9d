"""What an image loses by being shared, measured on what its recipient will decode.

Padding does not count: it comes back as it was. The range is the image's own, outside padding.
"""

from __future__ import annotations

import numpy as np

from primis.codec import Scale
from primis.imaging.image import Image
from primis.imaging.padding import Padding, move_strays
from primis.metrics.fidelity import EXACT, Quality, gaussian_ssim, psnr_of_mse
from primis.sharing.texture import FrameTexture, measure_texture

_BAND = 128
"""Rows whose errors are summed at a time."""


class Meter:
    """Compares an image with what is decoded, frame by frame."""

    def __init__(self, image: Image, padding: Padding | None) -> None:
        self._outside = None if padding is None else padding.mask
        self._declared = None if padding is None else padding.declared
        self._bit_depth = image.bit_depth
        parts = [self._counted(number, frame) for number, frame in enumerate(image.pixels)]
        ends = [(int(part.min()), int(part.max())) for part in parts if part.size]
        self._black = min(low for low, _ in ends)
        self._range = max(max(high for _, high in ends) - self._black, 1)
        self._squared = self._similar = 0.0
        self._count = 0

    def add(self, number: int, frame: np.ndarray, decoded: np.ndarray) -> None:
        """A frame (H, W, c), its padding filled, and what is decoded in its place; what of that is
        no padding and looks like it is moved, as it will be."""
        inside = None if self._outside is None else ~self._outside[number]
        if inside is not None:
            move_strays(decoded, ~inside, self._declared, self._bit_depth)
        pixels = frame[..., 0].size if inside is None else int(np.count_nonzero(inside))
        if not pixels:
            return
        for top in range(0, len(frame), _BAND):
            band = slice(top, top + _BAND)
            error = frame[band].astype(np.float64) - decoded[band]
            self._squared += float(np.sum((error if inside is None else error[inside[band]]) ** 2))
        for channel in range(frame.shape[2]):
            pair = frame[..., channel], decoded[..., channel]
            similar = gaussian_ssim(*pair, self._range, inside, black=self._black)
            self._similar += similar * pixels
        self._count += pixels * frame.shape[2]

    def texture(
        self, number: int, frame: np.ndarray, decoded: np.ndarray, scale: Scale
    ) -> FrameTexture:
        """What a frame lost of its texture, outside padding. decoded: as `add` left it."""
        outside = None if self._outside is None else self._outside[number]
        return measure_texture(frame, decoded, scale, outside)

    @property
    def quality(self) -> Quality:
        """Of all frames so far, as it is sealed: in thousandths."""
        if not self._squared:
            return EXACT
        psnr = psnr_of_mse(self._squared / self._count, self._range)
        return Quality(max(round(psnr, 3), 0.001), round(self._similar / self._count, 3))

    def _counted(self, number: int, frame: np.ndarray) -> np.ndarray:
        return frame if self._outside is None else frame[~self._outside[number]]

"""Stretch: the window that an image is read in takes more than its part of the range.

A CT is read in a window of a hundred grey levels or two out of thousands, and the largest
coefficients are those of bone and air. So the window is stretched before an image is encoded, as
though it had more contrast, and turned back when it is restored. docs/format.md, section 6, is the
specification.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from primis.imaging.image import SERIES, Image
from primis.imaging.padding import Padding

STRETCHED = np.dtype(np.int32)
"""Type of stretched grey levels."""

MOST_TIMES = 16
_TIMES = 3
"""In the window of a CT head this gains 4.5 dB at S_x = 8, and loses 0.2 over the whole range; with
4 it would be 5.1 and 0.8."""

_WIDEST = 1 / 4
"""Of the range: in a wider window there is little to gain."""


@dataclass(frozen=True)
class Stretch:
    """The grey levels from low to high, low < high, take `times` their width, 2..16."""

    low: int
    high: int
    times: int

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """The frame's grey levels stretched."""
        whole = frame.astype(STRETCHED)
        return whole + (self.times - 1) * (np.clip(whole, self.low, self.high) - self.low)

    def level(self, grey: int) -> int:
        """One grey level stretched."""
        return grey + (self.times - 1) * (min(max(grey, self.low), self.high) - self.low)

    def undo(self, stretched: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Grey levels of this type, the nearest."""
        inside = np.clip(stretched, self.low, self.level(self.high)) - self.low
        outside = stretched - inside
        return (outside + np.round(inside / self.times)).astype(dtype)


def find_stretch(image: Image, padding: Padding | None) -> Stretch | None:
    """For the window that a grey DICOM file declares, where that is narrow beside the range of the
    samples outside padding."""
    window = _window(image)
    if window is None:
        return None
    least, largest = _range(image, padding)
    low, high = (round(min(max(end, least), largest)) for end in window)
    if not 0 < high - low <= _WIDEST * (largest - least):
        return None
    return Stretch(low, high, _TIMES)


def _window(image: Image) -> tuple[float, float] | None:
    """Of grey DICOM; of a series the one that all slices have."""
    if image.kind not in ("dicom", SERIES) or image.shape[3] > 1 or not image.header:
        return None
    from primis.imaging.dicom import window_of  # a large library, which no other kind needs
    from primis.imaging.dicom_series import unpack_files

    if image.kind == SERIES:
        return window_of(unpack_files(image.header, image.shape[0])[1])
    return window_of(image.header)


def _range(image: Image, padding: Padding | None) -> tuple[int, int]:
    """The least and the largest sample outside padding, which is never all of an image."""
    if padding is None:
        return int(image.pixels.min()), int(image.pixels.max())
    pairs = zip(image.pixels, padding.mask, strict=True)
    parts = [frame[~mask] for frame, mask in pairs if not mask.all()]
    return min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)

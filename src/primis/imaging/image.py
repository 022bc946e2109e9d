"""An image: its samples at full depth, what they mean, and the header that it came with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from primis.errors import TooManyPixels, UnreadableImage

KINDS = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "tiff": ".tif",
    "dicom": ".dcm",
    "nifti": ".nii",
    "nifti-gz": ".nii.gz",
    "dicom-series": ".dcm",
}
"""Kinds of file that are read and written, and the suffix a restored file gets. A DICOM series is
as many files as it has frames."""

SERIES = "dicom-series"

PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "LA", "RGBA", "CHANNELS")
"""What samples mean: in MONOCHROME1 the least value is white (DICOM PS3.3, C.7.6.3.1.2); A is
opacity; CHANNELS are five or more, of any meaning."""

BURNED_IN = "BurnedInAnnotation"
"""Among what may identify a patient, where a file says YES: it is in the pixels."""

MAX_CHANNELS = 16
MEANING = dict.fromkeys(range(5, MAX_CHANNELS + 1), "CHANNELS") | {
    1: "MONOCHROME2",
    2: "LA",
    3: "RGB",
    4: "RGBA",
}
"""Photometric interpretation by the number of channels, where a file says no more."""

MAX_PIXELS = 600_000_000
"""Pixels of all frames, each channel counted, that readers take unless told otherwise
(`max_pixels`)."""

_OF_SMALL = 1 << 25
PER_BYTE_OF_FILE, PER_BYTE_OF_BUNDLE = 20, 64
"""What a file or bundle may have however small it is, and for each of its bytes: a hostile one of a
megabyte takes about a gigabyte at most. Encoding takes more memory than decoding does."""


_READING_UP_TO: ContextVar[int | None] = ContextVar("reading_up_to", default=None)


def pixel_limit(max_pixels: int | None, size: int, per_byte: int = PER_BYTE_OF_FILE) -> int:
    """How many pixels a file or bundle of `size` bytes may have: what was asked for, what is read
    under (`reading_up_to`) or, by default, so many that a small one cannot claim a huge image."""
    asked = _READING_UP_TO.get() if max_pixels is None else max_pixels
    return min(MAX_PIXELS, _OF_SMALL + per_byte * size) if asked is None else asked


@contextmanager
def reading_up_to(max_pixels: int | None) -> Iterator[None]:
    """All images that are read inside may have so many pixels; None for the default."""
    token = _READING_UP_TO.set(max_pixels)
    try:
        yield
    finally:
        _READING_UP_TO.reset(token)


def require_size(shape: tuple[int, int, int, int], max_pixels: int = MAX_PIXELS) -> None:
    """(frames, height, width, channels): raise UnreadableImage where it is empty, TooManyPixels
    where it is over the limit."""
    frames, height, width, channels = shape
    if min(shape) < 1:
        count = f"{frames} frame" + "s" * (frames != 1)
        raise UnreadableImage(f"has no pixels ({count} of {height} x {width})")
    if frames * height * width * channels > max_pixels:
        raise TooManyPixels(
            f"has {frames} x {height} x {width} x {channels} samples, expected at most {max_pixels}"
        )


@dataclass(frozen=True, eq=False)
class Image:
    """One image or multi-frame object.

    pixels: (frames, height, width, channels), unsigned or signed integers of 8 or 16 bits, as
    stored: no rescale, no window, no inversion applied. bit_depth: meaningful bits per sample,
    1..16. photometric: MONOCHROME1 (the least value is white), MONOCHROME2, RGB, LA or RGBA (with
    opacity), or CHANNELS (five or more, of any meaning). kind: one of KINDS. spacing_mm: between
    rows and between columns, None where unknown. header: what a writer of this kind needs beyond
    the pixels, opaque to all others, and private. padding_range: (lowest, highest) sample that the
    file itself declares to be no tissue, or None. notes: what of the file cannot come back, one
    line each, without values. rounding: the most by which a sample differs from that of the file,
    in units of its values; 0 where none does. identifying: names of elements of its header that may
    identify a patient.
    """

    pixels: np.ndarray = field(repr=False)
    bit_depth: int
    photometric: str
    kind: str
    spacing_mm: tuple[float, float] | None = None
    header: bytes = field(default=b"", repr=False)
    padding_range: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    rounding: float = 0.0
    identifying: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(frames, height, width, channels)."""
        return self.pixels.shape

    @property
    def raw_bytes(self) -> int:
        """Bytes of the samples, uncompressed."""
        return self.pixels.nbytes


class NamedFile(NamedTuple):
    """A file, and the path that it was shared under, None where that is not known."""

    name: str | None
    data: bytes

    def __repr__(self) -> str:
        return f"NamedFile({len(self.data)} bytes)"


@dataclass(frozen=True)
class Derivation:
    """How a restored image differs from its source, for formats that must record it.

    text: one line for people. ratio: bytes of the samples / bytes of the code. seed: any text that
    is the same only for the same derivation of the same source (names new UIDs). group: likewise
    for all images of a release. lossless: every sample is that of the source. frame: the number of
    the frame, from 0, where that is a file of its own.
    """

    text: str
    ratio: float
    seed: str
    group: str
    lossless: bool = False
    frame: int = 0

    @property
    def instance(self) -> str:
        """The same only for the same file."""
        return f"{self.seed} {self.frame}" if self.frame else self.seed


def wide(dtype: np.dtype) -> np.dtype:
    """Samples of this type in 2 bytes, big-endian, as sealed parts hold them."""
    return np.dtype(">i2" if dtype.kind == "i" else ">u2")


def display(pixels: np.ndarray, photometric: str) -> np.ndarray:
    """One frame (height, width, channels) -> (height, width[, 3]) of 8 bits for people's eyes only.

    Stretches the frame's own range to 0..255 and turns MONOCHROME1 over.
    """
    colour = photometric in ("RGB", "RGBA")
    frame = pixels[..., : 3 if colour else 1].astype(np.float64)
    low, high = frame.min(), frame.max()
    shown = (frame - low) * (255 / max(high - low, 1e-12))
    shown = 255 - shown if photometric == "MONOCHROME1" else shown
    out = np.round(shown).astype(np.uint8)
    return out[..., 0] if out.shape[-1] == 1 else out

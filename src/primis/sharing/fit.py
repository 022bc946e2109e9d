"""Settings with what they leave to an image, filled in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from primis.bundle.settings import MIN_HEADER_BYTES, Settings
from primis.errors import UsageError
from primis.imaging.image import Image
from primis.imaging.levels import bits_of, find_levels

_DICOM_HEADER, _OTHER_HEADER = 8192, 1024


def settings_for(image: Image, settings: Settings, *, with_original: bool) -> Settings:
    """The settings with what they leave to the image: 8192 bytes for the header of DICOM and 1024
    for that of others; for the file itself as many bits as its samples take uncompressed; and for
    an image of few grey levels the bits that number them. Of the content only the last tells."""
    header_bytes, bits, exact = settings.header_bytes, settings.original_bits, settings.exact_bits
    if header_bytes is None:
        header_bytes = _DICOM_HEADER if image.kind == "dicom" else _OTHER_HEADER
    if bits is None:
        bits = 8.0 * image.pixels.dtype.itemsize if with_original else 0.0
    if with_original != (bits > 0):
        expected = "more than 0 with the file itself" if with_original else "0 without it"
        raise UsageError(f"original_bits is {bits:g}, expected {expected}")
    if exact is None:
        levels = find_levels(image.pixels)
        exact = 0 if levels is None else bits_of(levels)
    return replace(settings, header_bytes=header_bytes, original_bits=bits, exact_bits=exact)


def header_budget(needs: Iterable[int]) -> int:
    """`header_bytes` for images whose headers need so many bytes: a power of two that holds all."""
    most = max(needs, default=MIN_HEADER_BYTES)
    return int(max(MIN_HEADER_BYTES, 1 << max(most - 1, 1).bit_length()))

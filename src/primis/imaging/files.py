"""From file to image and back, whatever the kind; a kind is known by its bytes, not by its name."""

from __future__ import annotations

from pathlib import Path

from primis.errors import UnreadableImage
from primis.imaging.image import MAX_PIXELS, Derivation, Image


def read(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Image, bytes]:
    """An image and the file's own bytes. Raises UnreadableImage, which names the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f'image "{path}" cannot be read: {error.strerror}') from None
    try:
        return parse(data), data
    except UnreadableImage as error:
        raise UnreadableImage(f'image "{path}" {error}') from None


def parse(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """An image from the bytes of a file of any kind. Raises UnreadableImage."""
    from primis.imaging import dicom, raster  # each brings a large library

    if dicom.is_dicom(data):
        return dicom.read_dicom(data)
    return raster.read_raster(data)


def render(image: Image, derivation: Derivation) -> bytes:
    """The file of the image's own kind."""
    from primis.imaging import dicom, raster

    return dicom.write_dicom(image, derivation) if image.kind == "dicom" else raster.write_raster(image)

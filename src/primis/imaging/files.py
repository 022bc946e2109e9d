"""From file to image and back, whatever the kind; a kind is known by its bytes, not by its name.

Files are decoded in a process of their own (see `apart`), which runs this module as its program.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from primis.errors import NoPixels, UnreadableImage
from primis.imaging import apart
from primis.imaging.image import MAX_PIXELS, SERIES, Derivation, Image, pixel_limit

_MAX_BYTES = 1 << 32
_NOT_FILES = (
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISDIR, "is a folder"),
)


def read(path: Path, max_pixels: int | None = None) -> tuple[Image, bytes]:
    """An image and the file's own bytes. Raises UnreadableImage, which names the file."""
    data = read_bytes(path)
    try:
        return parse(data, max_pixels), data
    except NoPixels as error:
        raise NoPixels(error.modality, path) from None
    except UnreadableImage as error:
        raise type(error)(f'image "{path}" {error}') from None


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most 4 GiB. Raises UnreadableImage, which names the
    file."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1)
    if len(data) != size:
        raise UnreadableImage(f'image "{path}" changed while it was read')
    if not data:
        raise UnreadableImage(f'image "{path}" is empty')
    return data


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file of at most 4 GiB; nothing else is opened, nothing is waited for. Raises
    UnreadableImage, which names the file."""
    try:
        _require_file(path, os.stat(path))
        flags = (
            getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC", "O_NOCTTY")
        )
        descriptor = os.open(path, os.O_RDONLY | sum(flags))
        with open(descriptor, "rb") as file:
            _require_file(path, os.fstat(descriptor))  # another may lie there by now
            yield file
    except OSError as error:
        raise UnreadableImage(_why(path, error)) from None
    except ValueError:  # a zero in the middle
        raise UnreadableImage(
            f'image "{path}" cannot be read: no file can have this name'
        ) from None


def _require_file(path: Path, there: os.stat_result) -> None:
    for is_kind, what in _NOT_FILES:
        if is_kind(there.st_mode):
            if stat.S_ISDIR(there.st_mode):
                _require_searchable(path)
            raise UnreadableImage(f'image "{path}" {what}, expected a file')
    if not stat.S_ISREG(there.st_mode):
        raise UnreadableImage(f'image "{path}" is no file')
    if there.st_size > _MAX_BYTES:
        raise UnreadableImage(
            f'image "{path}" has {there.st_size} bytes, expected at most {_MAX_BYTES}'
        )


def _require_searchable(folder: Path) -> None:
    """Raise UnreadableImage that says why a folder cannot be searched, if so.

    Whoever lists inputs names such a folder among them.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                os.lstat(entry.path)
                break
    except OSError as error:
        raise UnreadableImage(f'folder "{folder}" cannot be searched: {error.strerror}') from None


def _why(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return f'image "{path}" is a link to nothing'
    return f'image "{path}" cannot be read: {error.strerror}'


def parse(data: bytes, max_pixels: int | None = None) -> Image:
    """An image from the bytes of a file of any kind, decoded in a process of its own.

    max_pixels: None for as many as a file of so many bytes may have (`pixel_limit`).
    Raises UnreadableImage (without a file name: the caller adds it).
    """
    return apart.decode(data, pixel_limit(max_pixels, len(data)))


def parse_here(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """The same in this process: what a decoder does on a damaged file is not contained.

    Raises UnreadableImage and MemoryError.
    """
    from primis.imaging import nifti, raster

    if nifti.is_nifti(data):
        return nifti.read_nifti(data, max_pixels)
    if data[128:132] == b"DICM" or not raster.is_raster(
        data
    ):  # its preamble may be the start of a TIFF
        from primis.imaging import dicom  # a large library, which no other kind needs

        if dicom.is_dicom(data):
            return dicom.read_dicom(data, max_pixels=max_pixels)
    return raster.read_raster(data, max_pixels)


def render(image: Image, derivation: Derivation) -> bytes:
    """The file of the image's own kind; of a series with its headers see `dicom_series`."""
    if image.kind in ("dicom", SERIES):  # of a series without headers, one file of all frames
        from primis.imaging.dicom import write_dicom

        return write_dicom(image, derivation)
    if image.kind in ("nifti", "nifti-gz"):
        from primis.imaging.nifti import write_nifti

        return write_nifti(image)
    from primis.imaging.raster import write_raster

    return write_raster(image)


if __name__ == "__main__":
    from primis.imaging import decoder

    decoder.serve(parse_here)

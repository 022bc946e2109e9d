"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz): headers through nibabel, of volumes of any
number of dimensions.

The first dimension runs along the rows of a frame, the second down its columns; all others number
the frames. Samples of up to 16 bits are taken as stored, without slope and intercept, which come
back with the header. Wider whole numbers stay whole where they span no more than 16 bits; all other
samples are rounded to 65,536 steps of their range, and the image says by how much.

An image's header holds `head`, the bytes of the file before its voxels, and, where samples are not
those of the file, `base` (the whole number that was taken off) or `scale` (the least value and the
step, as doubles).
"""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from primis.errors import UnreadableImage
from primis.imaging.image import MEANING, Image, require_size
from primis.imaging.kept import Kept, left_out, pack

PLAIN, COMPRESSED = "nifti", "nifti-gz"

_GZIP = b"\x1f\x8b"
_LARGEST_HEAD = 1 << 23
_FORMS = {348: (344, b"n+1\0", b"ni1\0"), 540: (4, b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
"""By the length of a header: where its magic is, that of one file and that of a pair of files."""
_COLOURS = {128: 3, 2304: 4}
"""Channels by data type: RGB and RGBA, 8 bits each."""
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_STEPS = 65535
_DAMAGED = "cannot be decoded: damaged or cut off"


class _Head(NamedTuple):
    """shape: of the image; begin: of the voxels, in bytes; dtype: of a sample, as stored."""

    shape: tuple[int, int, int, int]
    begin: int
    dtype: np.dtype
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_nifti(data: bytes) -> bool:
    """Whether a file begins as NIfTI does, compressed or not."""
    return _form(_start(data)) is not None


def _start(data: bytes) -> bytes:
    """The first bytes, inflated."""
    if not data.startswith(_GZIP):
        return data[:540]
    try:
        return zlib.decompressobj(31).decompress(data[:4096], 540)
    except zlib.error:
        return b""


def _form(start: bytes) -> tuple[int, str, bytes] | None:
    """(length of the header, order of bytes, magic)."""
    for size, (at, *magics) in _FORMS.items():
        for order in "<>":
            magic = start[at : at + len(magics[0])]
            if start[:4] == struct.pack(f"{order}i", size) and magic in magics:
                return size, order, magic
    return None


def read_nifti(data: bytes, max_pixels: int) -> Image:
    """Raises UnreadableImage, MemoryError, and whatever nibabel raises."""
    compressed = data.startswith(_GZIP)
    file: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if compressed else io.BytesIO(data)
    try:
        start = file.read(540)
        head = _parse(start)
        require_size(head.shape, max_pixels)
        before = start[: head.begin] + file.read(max(0, head.begin - len(start)))
        after = start[head.begin :]
        voxels = after[: head.size] + file.read(max(0, head.size - len(after)))
        more = len(after) > head.size or bool(file.read(1))
    except (EOFError, zlib.error, OSError):
        raise UnreadableImage(_DAMAGED) from None
    if len(before) < head.begin or len(voxels) < head.size:
        raise UnreadableImage("is cut off: it has fewer voxels than its header says")
    stored = np.frombuffer(voxels, head.dtype).reshape(head.shape)
    pixels, how, rounding = _samples(stored)
    notes = (*head.notes, *left_out(("bytes after the voxels",) if more else ()))
    if rounding:
        notes = (*notes, f"samples are rounded to 16 bits, by at most {rounding:.3g}")
    return Image(
        pixels,
        8 * pixels.dtype.itemsize,
        MEANING[head.shape[3]] if head.shape[3] > 1 else "MONOCHROME2",
        COMPRESSED if compressed else PLAIN,
        head.spacing_mm,
        pack({"head": before, **how}),
        notes=notes,
        rounding=rounding,
    )


def _parse(start: bytes) -> _Head:
    """Raises UnreadableImage."""
    form = _form(start)
    if form is None:
        raise UnreadableImage(_DAMAGED)
    size, order, magic = form
    if magic == _FORMS[size][2]:
        raise UnreadableImage("is the header of a NIfTI pair (.hdr and .img), expected one file")
    header = _header(start[:size], order)
    begin = int(header["vox_offset"])
    if not size + 4 <= begin <= _LARGEST_HEAD:
        raise UnreadableImage(f"has its voxels at byte {begin}, expected {size + 4} or later")
    dtype, channels = _dtype(header, order)
    row, height, *others = (*_dimensions(header), 1, 1)
    shape = (math.prod(others), height, row, channels)
    oriented = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    notes = () if oriented else ("has no orientation: qform and sform codes are 0",)
    return _Head(shape, begin, dtype, _spacing(header), notes)


def _header(block: bytes, order: str) -> Any:
    """nibabel is imported here: other kinds do not need it, and each process that decodes would."""
    import nibabel

    kind: Any = nibabel.Nifti1Header if len(block) == 348 else nibabel.Nifti2Header
    return kind(block, endianness=order, check=False)


def _dimensions(header: Any) -> list[int]:
    """Voxels along each. Raises UnreadableImage."""
    count, *sides = (int(x) for x in header["dim"])
    if not 1 <= count <= 7 or min(sides[:count]) < 1:
        raise UnreadableImage(_DAMAGED)
    return sides[:count]


def _dtype(header: Any, order: str) -> tuple[np.dtype, int]:
    """Of a sample, and how many there are in a voxel. Raises UnreadableImage."""
    code = int(header["datatype"])
    if code in _COLOURS:
        return np.dtype(np.uint8), _COLOURS[code]
    try:
        dtype = np.dtype(header.get_data_dtype()).newbyteorder(order)
    except KeyError:
        dtype = np.dtype(np.void)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnreadableImage(
            f"has voxels of NIfTI data type {code}, "
            "expected whole or real numbers of up to 64 bits, RGB or RGBA"
        )
    return dtype, 1


def _spacing(header: Any) -> tuple[float, float] | None:
    """Between rows and between columns, in mm."""
    try:
        unit = _MM.get(header.get_xyzt_units()[0])
        column, row = (abs(float(x)) for x in header["pixdim"][1:3])
    except (KeyError, ValueError):
        return None
    if unit is None or not all(0 < x < 1e6 for x in (row, column)):
        return None
    return row * unit, column * unit


def affine_in(header: bytes) -> np.ndarray | None:
    """(4, 4), of the header that an image keeps; None where neither qform nor sform is set. Raises
    ValueError."""
    block, _ = _kept_head(header)
    oriented = int(block["qform_code"]) > 0 or int(block["sform_code"]) > 0
    return np.asarray(block.get_best_affine()) if oriented else None


_TEXTS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")


def without_texts(header: bytes) -> bytes:
    """An image's header, its texts and what extensions hold filled with zeros. Raises
    ValueError."""
    block, more = _kept_head(header)
    for name in _TEXTS:
        if name in block:
            block[name] = b""
    values = json.loads(header) | {"head": block.binaryblock + bytes(more)}
    return pack(values)


def _kept_head(header: bytes) -> tuple[Any, int]:
    """The header of the file that an image's header keeps, and how many bytes follow it before the
    voxels. Raises ValueError."""
    head = Kept.parse(header).data("head") or b""
    form = _form(head[:540])
    if form is None:
        raise ValueError("the header is none of NIfTI")
    size, order, _ = form
    return _header(head[:size], order), len(head) - size


def _samples(stored: np.ndarray) -> tuple[np.ndarray, dict[str, Any], float]:
    """Samples of at most 16 bits, what the header keeps of how they were made, and the most by
    which one was rounded. Raises UnreadableImage."""
    if stored.dtype.itemsize <= 2 and stored.dtype.kind in "iu":
        return stored.astype(stored.dtype.newbyteorder("=")), {}, 0.0
    low, high, whole = ends = _range(stored)
    pixels = np.empty(stored.shape, np.uint16)
    if whole and int(high) - int(low) <= _STEPS:
        base = int(low)
        for frame, made in zip(stored, pixels, strict=True):
            made[:] = frame - frame.dtype.type(base)
        return pixels, {"base": base}, 0.0
    step = (float(high) - float(low)) / _STEPS
    if not math.isfinite(step):
        raise UnreadableImage("has voxels of a range beyond that of double precision")
    for frame, made in zip(stored, pixels, strict=True):
        made[:] = np.rint((frame.astype(np.float64) - float(low)) / step)
    return pixels, {"scale": struct.pack(">dd", low, step)}, step / 2 + _coarseness(stored, ends)


def _coarseness(stored: np.ndarray, ends: tuple[Any, Any, bool]) -> float:
    """Half of the distance of the largest numbers of this type."""
    if stored.dtype.kind != "f":
        return 0.5
    largest = np.abs(np.array(ends[:2], stored.dtype)).max()
    return float(np.spacing(largest)) / 2


def _range(stored: np.ndarray) -> tuple[Any, Any, bool]:
    """(least, largest, whether all are whole numbers). Raises UnreadableImage."""
    whole = True
    ends = []
    for frame in stored:
        if frame.dtype.kind == "f":
            if not np.isfinite(frame).all():
                raise UnreadableImage(
                    "has voxels that are no numbers (NaN or infinite), expected numbers"
                )
            whole = whole and bool((frame == np.rint(frame)).all())
        ends += [frame.min(), frame.max()]
    return min(ends), max(ends), whole


def write_nifti(image: Image) -> bytes:
    """The file, compressed where its source was.

    Raises ValueError where header and pixels are not those of a NIfTI file.
    """
    try:
        kept = Kept.parse(image.header)
        before = kept.data("head") or b""
        head = _parse(before)
        if head.shape != image.shape or head.begin != len(before):
            raise ValueError("another shape")
        made = b"".join([before, *(frame.tobytes() for frame in _stored(image, head, kept))])
    except Exception:  # whatever nibabel meets in what others sealed
        raise ValueError("the image cannot be written as NIfTI") from None
    return gzip.compress(made, mtime=0) if image.kind == COMPRESSED else made


def _stored(image: Image, head: _Head, kept: Kept) -> Iterator[np.ndarray]:
    """Frames as the file has them. Raises ValueError."""
    base, scale = kept.whole("base", -(1 << 63), 1 << 64), kept.data("scale")
    for frame in image.pixels:
        if base is not None:
            yield (frame.astype(head.dtype) + head.dtype.type(base)).astype(head.dtype)
        elif scale is not None:
            low, step = struct.unpack(">dd", scale)
            yield _as_type(low + step * frame.astype(np.float64), head.dtype)
        elif head.dtype.newbyteorder("=") == frame.dtype:
            yield frame.astype(head.dtype)
        else:
            raise ValueError("other samples")


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The nearest values that the type has."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits, nearest = np.iinfo(dtype), np.rint(values)
    with np.errstate(invalid="ignore"):  # 2^64 - 1 in double precision is one more
        return np.where(nearest >= limits.max, limits.max, nearest.astype(dtype)).astype(dtype)

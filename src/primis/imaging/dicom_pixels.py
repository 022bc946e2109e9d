"""Samples of a DICOM image as stored, from native and compressed Pixel Data.

Rescale, window and inversion are not applied. YBR and palette colour become RGB. Bits outside of
a sample are no part of it (PS3.5, 8.1.1): overlays that lie there are cut out first.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from primis.errors import UnreadableImage
from primis.imaging.dicom_elements import PIXEL_DATA, DataSet, Note, number, tag_of, text
from primis.imaging.image import require_size

_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_HALF_COLOUR = ("YBR_FULL_422", "YBR_PARTIAL_422")
"""Two pixels share their colour differences."""
_PARTIAL_RANGE = ("YBR_PARTIAL_422", "YBR_PARTIAL_420")
_YBR = ("YBR_FULL", "YBR_FULL_422", *_PARTIAL_RANGE)
_COLOUR = ("RGB", *_YBR)
LOSSY_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
_WITH_END = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
MORE_FRAMES = "holds more frames than NumberOfFrames says, the rest is left out"
LOSSY = (*LOSSY_JPEG, JPEGLSNearLossless, JPEG2000, HTJ2K)
"""Syntaxes whose decoders may overshoot the range of a sample."""
_ROWS = 64
Fragments = list[memoryview]


@dataclass(frozen=True)
class Layout:
    """What the Image Pixel module says of the samples (PS3.3, C.7.6.3)."""

    frames: int
    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, columns, samples) of a frame."""
        return self.rows, self.columns, self.samples

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of samples in little endian."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")


def layout_of(data_set: DataSet, pixels: memoryview | Fragments, max_pixels: int) -> Layout:
    """Raises UnreadableImage where it is none that can be read, before anything is decoded."""
    samples = number(data_set, "SamplesPerPixel") or 1
    allocated = number(data_set, "BitsAllocated") or 0
    stored = number(data_set, "BitsStored") or allocated
    high = number(data_set, "HighBit")
    rows, columns = number(data_set, "Rows") or 0, number(data_set, "Columns") or 0
    photometric = _photometric(text(data_set, "PhotometricInterpretation").upper(), samples)
    packed = allocated == 12 and samples == 1 and not isinstance(pixels, list)
    if not (allocated in (8, 16) or packed) or not 1 <= stored <= allocated:
        raise UnreadableImage(
            f"has samples of {allocated} bits, {stored} of them stored, expected integers of 8 or "
            "16 bits, or 12 that are packed (BitsAllocated)"
        )
    if photometric not in {1: _GREY, 3: _COLOUR}.get(samples, ()):
        raise UnreadableImage(
            f'has {samples} samples a pixel and photometric interpretation "{photometric}", '
            f"expected 1 and one of {', '.join(_GREY)}, or 3 and one of {', '.join(_COLOUR)}"
        )
    said = tag_of("NumberOfFrames") in data_set
    layout = Layout(
        frames=(number(data_set, "NumberOfFrames") or 0) if said else 1,
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        high=high if high is not None and stored - 1 <= high < allocated else stored - 1,
        signed=number(data_set, "PixelRepresentation") == 1,
        planar=samples > 1 and number(data_set, "PlanarConfiguration") == 1,
    )
    if not layout.frames:
        layout = replace(layout, frames=_count_frames(layout, pixels))
    channels = 3 if photometric == "PALETTE COLOR" else samples
    require_size((layout.frames, rows, columns, channels), max_pixels)
    return layout


def _photometric(told: str, samples: int) -> str:
    """Old files leave it out or say what cannot be."""
    if samples == 1 and told not in _GREY:
        return "MONOCHROME2"
    if samples == 3 and told in ("", "YBR_ICT", "YBR_RCT", *_GREY):
        return "RGB"
    return told if told.replace("_", "").replace(" ", "").isalnum() and len(told) <= 16 else ""


def _count_frames(layout: Layout, pixels: memoryview | Fragments) -> int:
    """Where NumberOfFrames is there but says nothing: as many as there are."""
    if isinstance(pixels, list):
        bodies = pixels[1:]
        starts = [bytes(body[:2]) in (b"\xff\xd8", b"\xff\x4f") for body in bodies]
        return len(bodies) if len(bodies) > 1 and all(starts) else 1
    frame = _frame_bytes(layout)
    return max(len(pixels) // frame, 1) if frame and len(pixels) % frame < 2 else 1


def _frame_bytes(layout: Layout) -> int:
    size = layout.rows * layout.columns * layout.samples * layout.allocated // 8
    return size // 3 * 2 if layout.photometric in _HALF_COLOUR else size


def unpack_12_bits(layout: Layout, pixels: memoryview) -> tuple[Layout, memoryview]:
    """Two samples of 12 bits lie in three bytes, the first in the lowest bits: each in two bytes.

    An odd one at the end keeps its byte and a half. Pixels of other depths are returned as they
    are.
    """
    if layout.allocated != 12:
        return layout, pixels
    data = np.frombuffer(pixels, np.uint8).astype(np.uint16)
    triples = np.pad(data, (0, -len(data) % 3)).reshape(-1, 3)
    first = triples[:, 0] | (triples[:, 1] & 0xF) << 8
    second = triples[:, 1] >> 4 | triples[:, 2] << 4
    samples = np.stack([first, second], axis=1).astype("<u2").ravel()[: 2 * len(data) // 3]
    return replace(layout, allocated=16), samples.data.cast("B")


def native(layout: Layout, pixels: memoryview, note: Note, *, big: bool, words: bool) -> np.ndarray:
    """(frames, rows, columns, samples). words: bytes lie in words of two (VR OW)."""
    size = _frame_bytes(layout)
    halved = layout.photometric in _HALF_COLOUR
    if halved and len(pixels) >= layout.frames * (size // 2 * 3):
        halved, size = False, size // 2 * 3
    if len(pixels) < layout.frames * size:
        raise UnreadableImage(f"has {len(pixels)} bytes of pixels, expected {layout.frames * size}")
    if len(pixels) >= (layout.frames + 1) * size:
        note(PIXEL_DATA, MORE_FRAMES)
    whole = pixels[: layout.frames * size]
    if big and words and layout.allocated == 8:
        odd = pixels[: len(whole) + len(whole) % 2]
        whole = memoryview(np.frombuffer(odd[: len(odd) & ~1], "u2").byteswap().tobytes())[
            : len(whole)
        ]
    array = np.frombuffer(whole, layout.dtype.newbyteorder(">" if big else "<"))
    if big:
        array = array.astype(layout.dtype)
    if halved:
        return _upsampled(array, layout)
    if layout.planar:
        planes = array.reshape(layout.frames, layout.samples, layout.rows, layout.columns)
        array = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    array = array.reshape(layout.frames, *layout.shape)
    return _to_rgb(array, layout) if layout.photometric in _YBR else array


def _upsampled(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Two pixels share their colour: Y Y Cb Cr (PS3.3, C.7.6.3.1.2)."""
    if layout.columns % 2:
        raise UnreadableImage(
            f"has {layout.columns} columns of {layout.photometric}, expected an even number"
        )
    pairs = array.reshape(layout.frames, layout.rows, layout.columns // 2, 4)
    out = np.empty((layout.frames, *layout.shape), layout.dtype)
    out[..., 0::2, 0], out[..., 1::2, 0] = pairs[..., 0], pairs[..., 1]
    for place in (0, 1):
        out[..., place::2, 1:] = pairs[..., 2:]
    return _to_rgb(out, layout)


def _to_rgb(array: np.ndarray, layout: Layout) -> np.ndarray:
    out = np.empty(array.shape, layout.dtype)
    for frame, target in zip(array, out, strict=True):
        target[:] = _rgb_of(frame, layout.stored, layout.photometric)
    return out


def compressed(layout: Layout, fragments: Fragments, syntax: UID, note: Note) -> np.ndarray:
    """(frames, rows, columns, samples), in RGB where it is colour."""
    try:
        get_decoder(syntax)
    except NotImplementedError:
        raise UnreadableImage(
            f'is in transfer syntax "{syntax_name(syntax)}", for which there is no decoder'
        ) from None
    out = np.empty((layout.frames, *layout.shape), layout.dtype)
    count, frames = 0, _frames(layout, fragments)
    for frame in itertools.islice(frames, layout.frames):
        if syntax in _WITH_END and b"\xff\xd9" not in frame:  # decoders fill up what is missing
            note(PIXEL_DATA, "a frame has no end, its last rows may be missing")
        out[count] = _frame(layout, frame, syntax)
        count += 1
    if next(frames, None) is not None:
        note(PIXEL_DATA, MORE_FRAMES)
    if count < layout.frames:
        raise UnreadableImage(f"has {count} frames of pixels, expected {layout.frames}")
    return out


def syntax_name(syntax: str) -> str:
    """For people; what is no UID could be anything."""
    return UID(syntax).name if syntax and set(syntax) <= set("0123456789.") else "unknown"


def _frames(layout: Layout, fragments: Fragments) -> Iterator[bytes]:
    """Frames of one fragment each, or as the offset table or their first bytes divide them."""
    table = fragments[0] if fragments else memoryview(b"")
    bodies = [body for body in fragments[1:] if len(body)]
    if layout.frames == 1 or len(bodies) <= layout.frames:
        yield from [b"".join(bodies)] if layout.frames == 1 else (bytes(body) for body in bodies)
        return
    offsets = set(struct.unpack(f"<{len(table) // 4}L", table[: len(table) & ~3]))
    marks = (b"\xff\xd8", b"\xff\x4f")
    at = 0
    frame: list[memoryview] = []
    for body in bodies:
        begins = at in offsets if len(offsets) == layout.frames else bytes(body[:2]) in marks
        if begins and frame:
            yield b"".join(frame)
            frame = []
        frame.append(body)
        at += 8 + len(body)
    yield b"".join(frame)


def _frame(layout: Layout, frame: bytes, syntax: UID) -> np.ndarray:
    size = _size_of(frame, syntax)
    if size and size[:2] != (layout.rows, layout.columns):
        raise UnreadableImage(
            f"has a frame of {size[0]} x {size[1]} pixels, "
            f"expected {layout.rows} x {layout.columns}"
        )
    try:
        decoder: Any = get_decoder(syntax)  # its type hints refuse what it takes
        array, told = decoder.as_array(
            encapsulate([frame]),
            raw=True,
            index=0,
            number_of_frames=1,
            rows=layout.rows,
            columns=layout.columns,
            samples_per_pixel=layout.samples,
            photometric_interpretation=layout.photometric,
            bits_allocated=layout.allocated,
            bits_stored=layout.stored,
            correct_unused_bits=False,
            pixel_representation=int(layout.signed),
            planar_configuration=int(layout.planar),
            pixel_keyword="PixelData",
        )
        photometric = str(told["photometric_interpretation"])
    except Exception:
        if syntax != JPEGExtended12Bit or not frame.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
            raise
        import imagecodecs

        array, photometric = imagecodecs.jpeg8_decode(frame), "RGB"
    array = array.reshape(layout.shape)
    if photometric in _YBR and layout.samples == 3:
        return _rgb_of(array, layout.stored, photometric)
    return array


def _size_of(frame: bytes, syntax: UID) -> tuple[int, int] | None:
    """Rows and columns that a JPEG or JPEG 2000 code stream says it has."""
    if syntax in JPEG2000TransferSyntaxes:
        start = frame.find(b"\xff\x4f\xff\x51")
        if start < 0 or len(frame) < start + 24:
            raise UnreadableImage("has a JPEG 2000 code stream without its size")
        right, bottom, left, top = struct.unpack_from(">4L", frame, start + 8)
        return bottom - top, right - left
    if syntax in _WITH_END:
        return _jpeg_size(frame)
    return None


def jpeg_kind(frame: bytes) -> int:
    """The marker of a JPEG's frame header, which tells its process; 0 where it has none."""
    return frame[at + 1] if (at := _frame_header(frame)) else 0


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    if not (at := _frame_header(frame)):
        raise UnreadableImage("has a JPEG code stream without its size")
    rows, columns = struct.unpack_from(">HH", frame, at + 5)
    return rows, columns


def _frame_header(frame: bytes) -> int:
    at = 2
    while len(frame) >= at + 9:
        marker = frame[at + 1]
        if frame[at] != 0xFF or marker == 0xFF:
            at += 1
        elif (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return at
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return 0


def _rgb_of(pixels: np.ndarray, bits: int, photometric: str) -> np.ndarray:
    """YBR of that many bits to RGB (PS3.3, C.7.6.3.1.2), some rows at a time.

    Partial range: of 8 bits, luminance takes 16 to 235, and each difference 16 to 240.
    """
    middle, white = 1 << (bits - 1), (1 << bits) - 1
    out = np.empty_like(pixels)
    for start in range(0, len(pixels), _ROWS):
        rows = pixels[start : start + _ROWS].astype(np.float32)
        y, blue, red = rows[..., 0], rows[..., 1] - middle, rows[..., 2] - middle
        if photometric in _PARTIAL_RANGE:
            step = 1 << bits >> 8
            y = (y - 16 * step) * (255 / 219)
            blue, red = blue * (255 / 224), red * (255 / 224)
        green = y - 0.344136 * blue - 0.714136 * red
        rgb = np.stack([y + 1.402 * red, green, y + 1.772 * blue], axis=-1)
        out[start : start + _ROWS] = np.clip(np.floor(rgb + 0.5), 0, white)
    return out

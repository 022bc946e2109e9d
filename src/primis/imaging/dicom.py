"""DICOM, decoded by pydicom's plug-ins; its header is kept as bytes.

Samples are taken as stored: rescale, window and MONOCHROME1's inversion stay in the header, which
comes back with the image. YBR and palette colour become RGB. A restored lossy image is a new
object: new UIDs, ImageType DERIVED, source and derivation, and the lossy-compression attributes
(PS3.3, C.7.6.1.1.5). Nothing of the source's preamble comes back: it may be a program.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from primis.errors import NoPixels, TooManyPixels, UnreadableImage
from primis.imaging.dicom_derived import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    PREAMBLE,
    SIGNATURES,
    describe_pixels,
    preface,
    record_derivation,
    secondary_capture,
)
from primis.imaging.dicom_elements import (
    PIXEL_DATA,
    DataSet,
    element_head,
    encode,
    number,
    raw_value,
    sequence,
    settle_signs,
    size_of,
    tag_of,
    text,
    values,
)
from primis.imaging.dicom_pixels import (
    LOSSY,
    LOSSY_JPEG,
    Layout,
    compressed,
    jpeg_kind,
    layout_of,
    native,
    syntax_name,
    unpack_12_bits,
)
from primis.imaging.dicom_profile import identifying
from primis.imaging.dicom_reader import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    Reader,
    TooLarge,
)
from primis.imaging.dicom_samples import cut_overlays, limits, through_palette, within_bits
from primis.imaging.image import MAX_PIXELS, Derivation, Image

MAX_HEADER = 16 << 20
"""Bytes of a data set without its pixels."""

_IMPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_GE_BIG = "1.2.840.113619.5.2"
"""Implicit VR little endian, its pixels big endian."""
_PIXEL_TAGS = range(0x7FE00000, 0x7FE10000)
_LARGEST_SPACING = 1e6
"""Millimetres; what is more is no spacing."""
_NO_WINDOW = ("", "", "1", "0")
"""Centre, width, slope and intercept where a header does not say."""

_FIRST_GROUPS = (b"\0\0", b"\x02\0", b"\x08\0", b"\0\x08")
_PADDING, _PADDING_LIMIT = "PixelPaddingValue", "PixelPaddingRangeLimit"


def is_dicom(data: bytes) -> bool:
    """Whether this is a DICOM file, with or without its preamble."""
    if data[128:132] == b"DICM" or data[:4] == b"DICM":
        return True
    reader = Reader(memoryview(data))
    start = _start(reader)
    first = data[start : start + 2]
    return first in _FIRST_GROUPS and any(
        reader.walk(start, len(data), encoding, 3) == 3
        for encoding in (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
    )


def read_dicom(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Raises UnreadableImage (without a file name: the caller adds it)."""
    with _quiet():
        try:
            source = _parse(data, max_pixels)
            image = _image(source, *_samples(source))
            # what could not be restored is not shared
            write_dicom(replace(image, pixels=image.pixels[:1]), Derivation("", 1.0, "", ""))
        except UnreadableImage:
            raise
        except TooLarge as error:
            raise UnreadableImage(str(error)) from None
        except MemoryError:
            raise UnreadableImage("does not fit in memory") from None
        except Exception:  # whatever a damaged file leads to
            raise UnreadableImage("cannot be parsed as DICOM") from None
    return image


def write_dicom(image: Image, derivation: Derivation) -> bytes:
    """A derived, uncompressed (explicit VR little endian) object with the header of its source.

    Where `image.header` is empty (tier preview) it is a secondary capture with pixels only. Raises
    ValueError where the header is none, or larger than one may be.
    """
    data_set = read_header(image.header) if image.header else secondary_capture()
    record_derivation(data_set, derivation)
    describe_pixels(data_set, image)
    before = {tag: element for tag, element in data_set.items() if tag < PIXEL_DATA}
    after = {tag: element for tag, element in data_set.items() if tag > PIXEL_DATA}
    little = image.pixels.astype(image.pixels.dtype.newbyteorder("<"), copy=False)
    odd = little.nbytes % 2
    vr = "OW" if little.dtype.itemsize > 1 else "OB"
    head = element_head(PIXEL_DATA, vr, little.nbytes + odd)
    pixels = np.ascontiguousarray(little).data.cast("B") if little.size else b""
    parts = (preface(data_set), encode(before), head, pixels, bytes(odd), encode(after))
    return b"".join(parts)


def read_header(header: bytes) -> DataSet:
    """A sealed header's data set. Raises ValueError unless it is in explicit VR little endian
    (deflated, a small one may swell to fill the memory) and within the limits of one."""
    if len(header) > MAX_HEADER + len(PREAMBLE) + 1024 or header[128:132] != b"DICM":
        raise ValueError(f"not a DICOM file of at most {MAX_HEADER} bytes")
    reader = Reader(memoryview(header))
    meta, at = reader.meta(len(PREAMBLE))
    if text(meta, "TransferSyntaxUID") != EXPLICIT_VR_LITTLE_ENDIAN:
        raise ValueError("transfer syntax is not explicit VR little endian")
    return _sound_elements(reader, at)


def parse_elements(data: bytes) -> DataSet:
    """A data set in explicit VR little endian, without what comes before one in a file. Raises
    ValueError as `read_header` does."""
    if len(data) > MAX_HEADER:
        raise ValueError(f"more than {MAX_HEADER} bytes")
    return _sound_elements(Reader(memoryview(data)), 0)


def _sound_elements(reader: Reader, at: int) -> DataSet:
    data_set = reader.data_set(at, EXPLICIT_LITTLE)
    if reader.broken:
        raise ValueError("elements that cannot be parsed")
    return data_set


@dataclass(frozen=True)
class _Source:
    """A file, parsed."""

    reader: Reader
    data_set: DataSet
    syntax: str
    layout: Layout
    big: bool
    """Whether the samples are big endian."""


def parse_header(data: bytes) -> DataSet:
    """The data set of a file, or of the beginning of one, that has pixels. Raises
    UnreadableImage, also for one that is deflated from more than `MAX_HEADER` bytes."""
    with _quiet():
        return _parse_elements(data, 0).data_set


class _Elements(NamedTuple):
    """A file's elements, and how it is encoded."""

    reader: Reader
    data_set: DataSet
    syntax: str
    encoding: Encoding


def _parse(data: bytes, max_pixels: int) -> _Source:
    reader, data_set, syntax, encoding = _parse_elements(data, max_pixels)
    assert reader.pixels is not None
    settle_signs(data_set, signed=number(data_set, "PixelRepresentation") == 1)
    layout = layout_of(data_set, reader.pixels, max_pixels)
    if not isinstance(reader.pixels, list):
        layout, reader.pixels = unpack_12_bits(layout, reader.pixels)
    return _Source(reader, data_set, syntax, layout, encoding.big or syntax == _GE_BIG)


def _parse_elements(data: bytes, max_pixels: int) -> _Elements:
    reader = Reader(memoryview(data))
    meta, at = reader.meta(_start(reader))
    syntax = text(meta, "TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        reader, at, syntax = (
            Reader(_inflated(reader.data[at:], max_pixels)),
            0,
            EXPLICIT_VR_LITTLE_ENDIAN,
        )
    if bytes(reader.data[at : at + 8]) == bytes(8):
        at = reader.skip_zeros(at)
    declared = {_IMPLICIT: IMPLICIT_LITTLE, _GE_BIG: IMPLICIT_LITTLE, _BIG: EXPLICIT_BIG}
    encoding = reader.guess(at, declared.get(syntax, EXPLICIT_LITTLE))
    data_set = reader.data_set(at, encoding)
    if reader.pixels is None:
        if 0x7FE00008 in data_set or 0x7FE00009 in data_set:
            raise UnreadableImage("has samples that are floats, expected integers of 8 or 16 bits")
        if reader.broken or not data_set:
            raise UnreadableImage("cannot be parsed as DICOM, it is damaged or cut off")
        raise NoPixels(_modality(data_set))
    return _Elements(reader, data_set, syntax, encoding)


def _start(reader: Reader) -> int:
    """Where the first element is: after a preamble, after zeros, or at once."""
    if bytes(reader.data[128:132]) == b"DICM":
        return 132
    if bytes(reader.data[:4]) == b"DICM":
        return 4
    return reader.skip_zeros(0) if bytes(reader.data[:8]) == bytes(8) else 0


def _inflated(data: memoryview, max_pixels: int) -> memoryview:
    limit = 2 * max_pixels + MAX_HEADER
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out, rest = bytearray(), bytes(data)
    while rest and not inflater.eof and len(out) <= limit:
        out += inflater.decompress(rest, MAX_HEADER)
        rest = inflater.unconsumed_tail
    if len(out) > limit:
        raise TooManyPixels(f"takes more than {limit} bytes inflated")
    return memoryview(out)


def _samples(source: _Source) -> tuple[np.ndarray, int]:
    """The samples and their bits. Raises UnreadableImage."""
    try:
        return _decode(source)
    except (UnreadableImage, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # decoders raise whatever they like; a panic of Rust is no Exception
        name = syntax_name(source.syntax)
        raise UnreadableImage(
            f'cannot be decoded: its pixels are damaged or not in transfer syntax "{name}"'
        ) from None


def _decode(source: _Source) -> tuple[np.ndarray, int]:
    layout, reader, data_set = source.layout, source.reader, source.data_set
    assert reader.pixels is not None
    syntax = UID(source.syntax)
    if isinstance(reader.pixels, list):
        syntax = UID(_syntax_of(reader.pixels, source.syntax))
        raw = compressed(layout, reader.pixels, syntax, reader.note)
    else:
        words = reader.pixels_vr == "OW"
        raw = native(layout, reader.pixels, reader.note, big=source.big, words=words)
    there = syntax not in LOSSY_JPEG
    overlays = cut_overlays(data_set, raw, layout, reader.note, there=there)
    lossy, padding = syntax in LOSSY and not (overlays and there), raw_value(data_set, _PADDING)
    pixels, bits, cut = within_bits(raw, layout, lossy=lossy, padding=padding)
    if cut and not overlays:
        reader.note(PIXEL_DATA, "bits outside of the samples are left out")
    if layout.photometric == "PALETTE COLOR":
        for keyword in (_PADDING, _PADDING_LIMIT):
            if data_set.pop(tag_of(keyword), None):
                reader.note(tag_of(keyword), "is an index of the palette, left out")
        return through_palette(pixels, data_set, layout)
    return pixels, bits


def _syntax_of(fragments: list[memoryview], told: str) -> str:
    """The transfer syntax; what the first frame begins with, where none or a native one is told."""
    if told not in ("", EXPLICIT_VR_LITTLE_ENDIAN, _IMPLICIT, _BIG, _GE_BIG):
        return told
    first = bytes(fragments[1][:4]) if len(fragments) > 1 else b""
    if first == b"\xff\x4f\xff\x51":
        return str(JPEG2000)
    if first[:2] != b"\xff\xd8":
        return str(RLELossless)
    frame = {0xC0: JPEGBaseline8Bit, 0xC1: JPEGExtended12Bit, 0xF7: JPEGLSLossless}
    return str(frame.get(jpeg_kind(bytes(fragments[1])), JPEGLosslessSV1))


def _image(source: _Source, pixels: np.ndarray, bits: int) -> Image:
    data_set, reader, layout = source.data_set, source.reader, source.layout
    colour = pixels.shape[3] == 3
    for keyword in SIGNATURES:
        if data_set.pop(tag_of(keyword), None):
            reader.note(tag_of(keyword), "signs the source, left out")
    kept = {tag: element for tag, element in data_set.items() if tag not in _PIXEL_TAGS}
    header = preface(kept) + _bounded(kept, reader)
    padding = None if colour else _padding_range(kept, layout, bits)
    photometric = "RGB" if colour else layout.photometric
    spacing = _spacing(kept)
    return Image(
        pixels,
        bits,
        photometric,
        "dicom",
        spacing,
        header,
        padding,
        reader.notes,
        identifying=identifying(kept),
    )


def _bounded(data_set: DataSet, reader: Reader) -> bytes:
    """The data set in bytes, without its largest elements where a header may not be so large."""
    sizes = {tag: size_of(element) for tag, element in data_set.items()}
    total = sum(sizes.values())
    for tag in sorted(sizes, key=lambda tag: -sizes[tag]):
        if total <= MAX_HEADER:
            break
        del data_set[tag]
        total -= sizes[tag]
        reader.note(tag, f"takes {sizes[tag]} bytes, more than a header may have, left out")
    return encode(data_set)


def _padding_range(data_set: DataSet, layout: Layout, bits: int) -> tuple[int, int] | None:
    """What is padding, in the signedness of the samples: as US, -2000 is 63536."""
    ends = []
    for keyword in (_PADDING, _PADDING_LIMIT):
        value = raw_value(data_set, keyword)
        if len(value) != 2:
            break
        end = int.from_bytes(value, "little", signed=layout.signed)
        low, high = limits(bits, signed=layout.signed)
        if layout.signed and high < end < 1 << bits:  # not sign-extended
            end -= 1 << bits
        if not low <= end <= high:
            break
        ends.append(end)
    return (min(ends), max(ends)) if ends else None


def _spacing(data_set: DataSet) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            row, column = (float(x) for x in values(data_set, keyword))
        except ValueError:
            continue
        if 0 < row < _LARGEST_SPACING and 0 < column < _LARGEST_SPACING:
            return (row, column)
    return None


class Origin(NamedTuple):
    """What a header says of where an image belongs; empty where it says nothing."""

    modality: str
    study: str
    series: str


def origin_of(header: bytes) -> Origin:
    """From a sealed header. Raises ValueError as `read_header` does."""
    data_set = read_header(header)
    uids = (text(data_set, name) for name in ("StudyInstanceUID", "SeriesInstanceUID"))
    return Origin(_modality(data_set), *uids)


def window_of(header: bytes) -> tuple[float, float] | None:
    """Ends of the first window that a header declares, in stored samples; None where there is none,
    or where more than slope and intercept lies between. Raises ValueError as `read_header` does."""
    data_set = read_header(header)
    if sequence(data_set, "ModalityLUTSequence"):
        return None
    names = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
    told = (
        text(data_set, name) or default for name, default in zip(names, _NO_WINDOW, strict=True)
    )
    try:
        centre, width, slope, intercept = (float(number) for number in told)
    except ValueError:
        return None
    if not all(map(math.isfinite, (centre, width, slope, intercept))) or width <= 0 or not slope:
        return None
    ends = ((centre + side * width / 2 - intercept) / slope for side in (-1, 1))
    low, high = sorted(ends)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _modality(data_set: DataSet) -> str:
    value = text(data_set, "Modality")
    return value if value.isalnum() and len(value) <= 16 else "unknown"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of pydicom and its decoders meanwhile: they quote header values."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""TIFF through tifffile: grey, colour and up to 16 channels, of 2 to 16 bits.

Samples are taken as stored; palettes, YCbCr, CMYK and CIELab become RGB. Pages that are alike are
frames. An image's header holds, by tag, what a restored file declares as its source did.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import tifffile

from primis.errors import UnreadableImage
from primis.imaging.image import MAX_CHANNELS, MEANING, Image, require_size
from primis.imaging.kept import Kept, left_out, pack

_DEPTH, _PHOTOMETRIC, _ORIENTATION, _LEAST, _MOST = "258", "262", "274", "280", "281"
_X_RESOLUTION, _Y_RESOLUTION, _UNIT, _EXTRA, _PROFILE = "282", "283", "296", "338", "34675"
_LEFT_OUT = {270: "ImageDescription", 330: "SubIFDs", 700: "XMP", 34665: "EXIF", 34853: "GPS"}

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_CIELAB, _ICCLAB = 8, 9
_CHANNELS: dict[int, range] = {
    _WHITE_IS_ZERO: range(1, MAX_CHANNELS + 1),
    _BLACK_IS_ZERO: range(1, MAX_CHANNELS + 1),
    _RGB: range(3, MAX_CHANNELS + 1),
    _PALETTE: range(1, 2),
    _SEPARATED: range(4, 5),
    _YCBCR: range(3, 4),
    _CIELAB: range(3, 4),
    _ICCLAB: range(3, 4),
}
"""Samples a pixel by photometric interpretation."""
_TURNED = {_SEPARATED: "CMYK", _CIELAB: "CIELab", _ICCLAB: "CIELab"}
"""Colour spaces whose colours come back as RGB."""
_EXTRA_SAMPLES = ("unspecified", "assocalpha", "unassalpha")
_REDUCED = 1 | 4
"""NewSubfileType of a smaller copy or a mask."""
_JPEG = 7
_PLAIN = {1, 5, 8, 32773, 32946}  # none, LZW, Deflate, PackBits
_MAX_PAGES = 1 << 16
_LUMA = [0.299, 0.587, 0.114]
_RANGES = [0, 255, 128, 255, 128, 255]
"""What a YCbCr file means that does not say: share of the colours in luminance, black and white."""
_BLOCK = 1 << 20
"""Pixels that are turned from YCbCr to RGB at a time."""


class _Kind(NamedTuple):
    """What pages of one stack have in common."""

    height: int
    width: int
    samples: int
    depth: int
    dtype: str
    photometric: int
    extra: tuple[int, ...]


def read_tiff(data: bytes, max_pixels: int) -> Image:
    """Raises UnreadableImage, MemoryError, and whatever tifffile and its codecs raise."""
    _require_end(data)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        every: list[Any] = list(file.pages)
        pages = [page for page in every if not int(page.subfiletype) & _REDUCED] or every[:1]
        kinds = [_kind(page) for page in pages]
        if _is_pyramid(kinds):
            pages, kinds = pages[:1], kinds[:1]
        if any(kind != kinds[0] for kind in kinds):
            what = f"is TIFF with {len(pages)} pages that are not alike"
            raise UnreadableImage(f"{what}, expected one image or a stack")
        first, kind = pages[0], kinds[0]
        for page in pages:
            _require_segments(page, kind, len(data), max_pixels)
        stack = _single_stack(file, kind) if len(every) == 1 else None
        frames = stack or sum(page.shaped[1] for page in pages)
        colours = 3 if kind.photometric == _PALETTE else kind.samples
        require_size((frames, kind.height, kind.width, colours), max_pixels)
        if stack:
            pixels = file.series[0].asarray(maxworkers=1)
            pixels = pixels.reshape(stack, kind.height, kind.width, kind.samples)
        else:
            pixels = _frames(pages, kind, data, frames)
        if kind.photometric == _PALETTE:
            pixels = _apply_palette(pixels, first)
        if kind.photometric == _SEPARATED:
            pixels = _from_cmyk(pixels)
        if kind.photometric in (_CIELAB, _ICCLAB):
            pixels = _from_lab(pixels, icc=kind.photometric == _ICCLAB)
        kept = _kept(first, kind)
        notes = [f"{name} (tag {tag})" for tag, name in _LEFT_OUT.items() if _is_told(first, tag)]
    if space := _TURNED.get(kind.photometric):
        notes.append(f"the colours as {space} (they come back as RGB)")
        kept.pop(_PROFILE, None)
    left = len(every) - len(pages)
    notes += [f"{left} reduced image{'s' if left > 1 else ''}"] if left else []
    return _image(pixels, kind, kept, tuple(notes))


def write_tiff(image: Image, kept: Kept) -> bytes:
    """A file without loss, contiguous, that declares what its source did."""
    channels = image.shape[3]
    depth = kept.whole(_DEPTH, 2, 16) or image.bit_depth
    packed = _is_packed(image.pixels.dtype, depth)
    inverted = image.photometric == "MONOCHROME1"
    photometric = kept.whole(_PHOTOMETRIC, 0, 2)
    if photometric is None or channels not in _CHANNELS[photometric]:
        photometric = _RGB if channels >= 3 else _WHITE_IS_ZERO if inverted else _BLACK_IS_ZERO
    how: dict[str, Any] = {
        "photometric": ("miniswhite", "minisblack", "rgb")[photometric],
        "planarconfig": "contig" if channels > 1 else None,
        "compression": None if packed else "zlib",
        "bitspersample": depth if packed else None,
        "metadata": None,
    }
    if extra := channels - (3 if photometric == _RGB else 1):
        declared = kept.wholes(_EXTRA, extra, 2) or (2,) * extra
        how["extrasamples"] = [_EXTRA_SAMPLES[number] for number in declared]
    across, down = (kept.wholes(tag, 2, (1 << 32) - 1) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    if across and down and across[1] and down[1]:
        how |= {"resolution": (across, down), "resolutionunit": kept.whole(_UNIT, 1, 3) or 2}
    if profile := kept.data(_PROFILE):
        how["iccprofile"] = profile
    tags: list[tuple[int, str, int, Any, bool]] = []
    for tag in (_LEAST, _MOST):
        if limits := kept.wholes(tag, channels, (1 << 16) - 1):
            tags.append((int(tag), "H", channels, limits if channels > 1 else limits[0], True))
    if orientation := kept.whole(_ORIENTATION, 1, 8):
        tags.append((int(_ORIENTATION), "H", 1, orientation, True))
    pixels = image.pixels[..., 0] if channels == 1 else image.pixels
    out = io.BytesIO()
    tifffile.imwrite(out, pixels[0] if len(pixels) == 1 else pixels, extratags=tags, **how)
    return out.getvalue()


def _is_packed(dtype: np.dtype, depth: int) -> bool:
    """Whether samples of this depth fill less than whole bytes."""
    return dtype.kind == "u" and 8 * (dtype.itemsize - 1) < depth < 8 * dtype.itemsize and depth > 1


# --- before anything is decoded ---


def _require_end(data: bytes) -> None:
    """Raise UnreadableImage where the list of pages leads back to itself.

    tifffile would follow it for ever.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    first, count, entry, link = (8, "Q", 20, "Q") if big else (4, "H", 12, "I")
    seen: set[int] = set()
    try:
        at = struct.unpack_from(order + link, data, first)[0]
        while at and at not in seen and len(seen) < _MAX_PAGES:
            seen.add(at)
            entries = struct.unpack_from(order + count, data, at)[0]
            at += struct.calcsize(count) + entries * entry
            at = struct.unpack_from(order + link, data, at)[0]
    except (struct.error, OverflowError):
        raise UnreadableImage("cannot be decoded: its list of pages is cut off") from None
    if at in seen:
        raise UnreadableImage("cannot be decoded: its list of pages leads back to itself")
    if at:
        raise UnreadableImage(f"has more than {_MAX_PAGES} pages")


def _kind(page: Any) -> _Kind:
    """What a page holds. Raises UnreadableImage unless it is of a kind that is read."""
    photometric, depth, samples = (
        int(page.photometric),
        page.bitspersample,
        int(page.samplesperpixel),
    )
    if photometric not in _CHANNELS:
        name = getattr(page.photometric, "name", photometric)
        raise UnreadableImage(
            f'has photometric interpretation "{name}", '
            "expected grey, RGB, palette, YCbCr, CMYK or CIELab"
        )
    if not isinstance(depth, int):
        raise UnreadableImage("has samples of different depths, expected one depth")
    dtype = page.dtype
    least = 1 if photometric == _PALETTE else 2
    whole = dtype is not None and dtype.kind in "bui" and least <= depth <= 16
    if dtype is not None and dtype.kind == "i":
        whole = depth in (8, 16)
    if photometric in (*_TURNED, _YCBCR):
        whole = whole and depth == 8 and dtype is not None and dtype.kind == "u"
    if not whole:
        name = "of an unknown type" if dtype is None else f'of type "{dtype.name}"'
        raise UnreadableImage(f"has samples {name} and {depth} bits, expected integers of 2 to 16")
    if samples not in _CHANNELS[photometric]:
        expected = f"1 to {MAX_CHANNELS}, 3 of YCbCr and CIELab, 4 of CMYK, 1 of a palette"
        raise UnreadableImage(f"has {samples} samples a pixel, expected {expected}")
    extra = tuple(int(value) for value in page.extrasamples)
    return _Kind(
        int(page.imagelength), int(page.imagewidth), samples, depth, dtype.name, photometric, extra
    )


def _from_cmyk(pixels: np.ndarray) -> np.ndarray:
    """(..., 4) inks of 8 bits, none to full -> (..., 3) RGB, without a profile of either."""
    inks = 255 - pixels.astype(np.uint16)
    return ((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)


def _from_lab(pixels: np.ndarray, *, icc: bool) -> np.ndarray:
    """(frames, H, W, 3) L*, a*, b* of 8 bits -> sRGB. icc: a* and b* from 128, else signed."""
    from PIL import Image as Pillow
    from PIL import ImageCms

    if icc:
        pixels = pixels ^ np.array([0, 128, 128], np.uint8)
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
    out = np.empty(pixels.shape, np.uint8)
    for frame, target in zip(pixels, out, strict=True):
        picture = Pillow.frombytes("LAB", frame.shape[1::-1], np.ascontiguousarray(frame).data)
        target[:] = ImageCms.applyTransform(picture, transform)
    return out


def _is_pyramid(kinds: list[_Kind]) -> bool:
    """Whether each page is the one before at a smaller size, as many writers leave it unsaid."""
    if len(kinds) < 2:
        return False
    for larger, smaller in itertools.pairwise(kinds):
        same = smaller._replace(height=larger.height, width=larger.width) == larger
        sides = ((larger.height, smaller.height), (larger.width, smaller.width))
        ratios = [great / small for great, small in sides]
        if not same or min(ratios) <= 1 or max(ratios) > 1.1 * min(ratios):
            return False
    return True


def _require_segments(page: Any, kind: _Kind, size: int, max_pixels: int) -> None:
    """Raise UnreadableImage where strips or tiles are missing, too large or cut off."""
    require_size((max(int(page.shaped[1]), 1), kind.height, kind.width, kind.samples), max_pixels)
    if page.is_tiled:
        tile = (int(page.tiledepth), int(page.tilelength), int(page.tilewidth), kind.samples)
        require_size(tile, max_pixels)
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if any(int(at) + int(length) > size for at, length in places if length):
        raise UnreadableImage("cannot be decoded: its pixels end beyond the file")
    if page.is_contiguous:  # then the strips count as one
        return
    expected = math.prod(page.chunked)
    if len(places) < expected:
        raise UnreadableImage(f"cannot be decoded: has {len(places)} of {expected} strips or tiles")


def _single_stack(file: Any, kind: _Kind) -> int | None:
    """Frames where one page stands for a stack that lies end to end, else None."""
    series = file.series
    if len(series) != 1 or series[0].size == file.pages[0].size or kind.photometric == _YCBCR:
        return None
    shape, axes = series[0].shape, series[0].axes
    inner = (kind.height, kind.width, kind.samples) if "S" in axes else (kind.height, kind.width)
    if tuple(shape[-len(inner) :]) != inner:
        raise UnreadableImage(f'is TIFF with axes "{axes}", expected frames of rows and columns')
    return math.prod(shape[: -len(inner)])


def _is_told(page: Any, tag: int) -> bool:
    """Whether a page holds this; the shape that tifffile writes says nothing new."""
    if tag not in page.tags:
        return False
    value = page.tags[tag].value
    return bool(value) and not str(value).startswith('{"shape"')


# --- pixels ---


def _frames(pages: list[Any], kind: _Kind, data: bytes, frames: int) -> np.ndarray:
    pixels = np.empty((frames, kind.height, kind.width, kind.samples), kind.dtype)
    at = 0
    for page in pages:
        depth = page.shaped[1]
        if kind.photometric == _YCBCR and int(page.compression) != _JPEG:
            pixels[at : at + depth] = _ycbcr(page, kind, data)
        else:
            planes = page.asarray(squeeze=False, maxworkers=1)  # plane, depth, row, column, sample
            if len(planes) == 1:
                pixels[at : at + depth] = planes[0]
            else:
                pixels[at : at + depth] = np.moveaxis(planes[..., 0], 0, -1)
        at += depth
    return pixels


def _apply_palette(numbers: np.ndarray, page: Any) -> np.ndarray:
    """Colours in 8 bits where the palette has no finer ones, else in 16."""
    palette = np.asarray(page.colormap)
    if palette.shape != (3, 2 ** int(page.bitspersample)) or palette.dtype != np.uint16:
        raise UnreadableImage("cannot be decoded: its palette does not fit its depth")
    if (palette % 257 == 0).all():
        palette = (palette // 257).astype(np.uint8)
    elif (palette % 256 == 0).all():
        palette = (palette // 256).astype(np.uint8)
    elif (palette < 256).all():  # written so by mistake, and read so by everybody
        palette = palette.astype(np.uint8)
    return palette.T[numbers[..., 0].astype(np.uint16 if numbers.dtype.itemsize == 2 else np.uint8)]


def _ycbcr(page: Any, kind: _Kind, data: bytes) -> np.ndarray:
    """RGB of a page of luminances and two differences, these for several pixels at once.

    TIFF 6.0, section 21.
    """
    compression = int(page.compression)
    plain = compression in _PLAIN and int(page.predictor) == 1 and int(page.fillorder) == 1
    if not plain or int(page.planarconfig) != 1 or page.shaped[1] != 1:
        expected = "JPEG or plain samples"
        raise UnreadableImage(f"is TIFF in YCbCr of a kind that is not read, expected {expected}")
    across, down = (int(x) for x in page.tags.valueof(530, (2, 2)))
    if {across, down} - {1, 2, 4}:
        raise UnreadableImage("cannot be decoded: its YCbCr subsampling is none of 1, 2, 4")
    rows, columns = page.rowsperstrip, kind.width
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
    rows = min(rows, -(-kind.height // down) * down)
    corners = list(product(range(0, kind.height, rows), range(0, kind.width, columns)))
    out = np.empty((kind.height, kind.width, 3), np.uint8)
    for (top, left), segment in zip(corners, _segments(page, data), strict=True):
        inside = rows if page.is_tiled else min(rows, kind.height - top)
        blocks = (-(-inside // down), -(-columns // across))
        size = math.prod(blocks) * (across * down + 2)
        part = segment
        if compression != 1:
            part = tifffile.TIFF.DECOMPRESSORS[compression](segment, out=size)
        if len(part) < size:
            raise UnreadableImage("cannot be decoded: a strip or tile has too few samples")
        unfolded = _unfold(np.frombuffer(part, np.uint8, size), blocks, across, down)
        place = out[top : top + inside, left : left + columns]
        place[:] = unfolded[: place.shape[0], : place.shape[1]]
    every = max(_BLOCK // kind.width, 1)
    for top in range(0, kind.height, every):
        out[top : top + every] = _to_rgb(out[top : top + every], page)
    return out


def _segments(page: Any, data: bytes) -> list[bytes]:
    """The strips or tiles as they lie in the file."""
    offsets, lengths = (324, 325) if page.is_tiled else (273, 279)
    places = zip(page.tags.valueof(offsets, ()), page.tags.valueof(lengths, ()), strict=True)
    return [data[at : at + length] for at, length in places]


def _unfold(part: np.ndarray, blocks: tuple[int, int], across: int, down: int) -> np.ndarray:
    """(rows, columns, 3): each block holds its luminances, then its two differences."""
    units = part.reshape(*blocks, across * down + 2)
    rows = units[..., :-2].reshape(*blocks, down, across).swapaxes(1, 2)
    light = rows.reshape(blocks[0] * down, -1)
    other = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([light[..., None], other], axis=2)


def _to_rgb(ycbcr: np.ndarray, page: Any) -> np.ndarray:
    red, green, blue = _ratios(page, 529, 3) or _LUMA
    low_y, high_y, low_b, high_b, low_r, high_r = _ratios(page, 532, 6) or _RANGES
    y, b, r = (ycbcr[..., i].astype(np.float32) for i in range(3))
    y = (y - low_y) * (255 / (high_y - low_y))
    b = (b - low_b) * (127 / (high_b - low_b)) * (2 - 2 * blue) + y
    r = (r - low_r) * (127 / (high_r - low_r)) * (2 - 2 * red) + y
    g = (y - blue * b - red * r) / green
    return np.clip(np.round(np.stack([r, g, b], axis=2)), 0, 255).astype(np.uint8)


def _ratios(page: Any, tag: int, count: int) -> list[float] | None:
    value = page.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2 * count:
        return None
    return [over / under for over, under in zip(value[::2], value[1::2], strict=True)]


# --- what is kept ---


def _kept(page: Any, kind: _Kind) -> dict[str, Any]:
    """Tags that a restored file declares again; one whose value makes no sense is left out."""
    values: dict[str, Any] = {}
    if kind.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        values = {_DEPTH: kind.depth, _PHOTOMETRIC: kind.photometric}
        usual = kind.samples - (3 if kind.photometric == _RGB else 1)
        if len(kind.extra) == usual and usual and max(kind.extra) < len(_EXTRA_SAMPLES):
            values[_EXTRA] = kind.extra
        for tag in (_LEAST, _MOST):
            value = page.tags.valueof(int(tag))
            numbers = value if isinstance(value, tuple) else (value,)
            if len(numbers) == kind.samples and _are_wholes(numbers, (1 << 16) - 1):
                values[tag] = numbers
    for tag in (_ORIENTATION, _UNIT):
        value = page.tags.valueof(int(tag))
        if _are_wholes((value,), 8):
            values[tag] = int(value)
    for tag in (_X_RESOLUTION, _Y_RESOLUTION):
        value = page.tags.valueof(int(tag))
        sound = isinstance(value, tuple) and len(value) == 2
        if sound and _are_wholes(value, (1 << 32) - 1) and value[1]:
            values[tag] = value
    profile = page.tags.valueof(int(_PROFILE))
    if isinstance(profile, bytes) and profile:
        values[_PROFILE] = profile
    return values


def _are_wholes(values: tuple[Any, ...], most: int) -> bool:
    return all(isinstance(v, int) and 0 <= v <= most for v in values)


def _image(pixels: np.ndarray, kind: _Kind, kept: dict[str, Any], notes: tuple[str, ...]) -> Image:
    depth = kind.depth if _DEPTH in kept else 8 * pixels.dtype.itemsize
    most = set(kept.get(_MOST, ()))
    if depth == 16 and len(most) == 1 and int(pixels.max()) <= min(most):
        stored = min(most).bit_length()  # a MaxSampleValue of 4095 says that 12 of the 16 are used
        depth = stored if stored > 8 and min(most) == 2**stored - 1 else depth
    inverted = kind.photometric == _WHITE_IS_ZERO and pixels.shape[3] == 1
    meaning = "MONOCHROME1" if inverted else MEANING[pixels.shape[3]]
    return Image(pixels, depth, meaning, "tiff", header=pack(kept), notes=left_out(notes))

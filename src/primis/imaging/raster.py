"""PNG, JPEG, WebP (Pillow), TIFF (tifffile) and 16-bit PNG (imagecodecs), 8 and 16 bits a sample.

Nothing is scaled. Grey that is stored as three equal channels is read as grey and written back as it
was. An image's header holds what is to come back with the pixels: mode, ICC profile, EXIF, resolution.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
import warnings
from typing import Any

import numpy as np
import PIL.Image

from primis.errors import UnreadableImage
from primis.imaging.image import Image

_FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}
_MODES = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "P": "RGB", "PA": "RGBA", "YCbCr": "RGB"}
_PHOTOMETRIC = {1: "MONOCHROME2", 2: "LA", 3: "RGB", 4: "RGBA"}
_JPEG_QUALITY = 98
_TIFF_TAGS = (274, 282, 283, 296, 34675)  # orientation, resolution and its unit, ICC profile


def read_raster(data: bytes) -> Image:
    """Raises UnreadableImage (without a file name: the caller adds it)."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(data), formats=list(_FORMATS)) as file:
                return _read_pillow(file, data)
    except PIL.UnidentifiedImageError:
        raise UnreadableImage("is no PNG, JPEG, WebP, TIFF or DICOM") from None
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError):
        raise UnreadableImage(f"has more than {PIL.Image.MAX_IMAGE_PIXELS} pixels") from None
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise UnreadableImage(f"cannot be decoded: {str(error).splitlines()[0] if str(error) else 'damaged'}") from None


def write_raster(image: Image) -> bytes:
    """The file. JPEG is written at quality 98 without subsampling; all others without loss."""
    header = json.loads(image.header or b"{}")
    pixels = image.pixels
    if image.kind == "tiff":
        return _write_tiff(image, header)
    frame = np.repeat(pixels[0], 3, axis=2) if header.get("equal") else pixels[0]
    if frame.dtype == np.uint16 and frame.shape[2] > 1:  # Pillow has no such mode
        import imagecodecs

        return bytes(imagecodecs.png_encode(np.ascontiguousarray(frame)))
    picture = PIL.Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else np.ascontiguousarray(frame))
    out = io.BytesIO()
    keep: dict[str, Any] = {k: base64.b64decode(header[k]) for k in ("icc_profile", "exif") if k in header}
    if "dpi" in header and image.kind != "webp":
        keep["dpi"] = tuple(header["dpi"])
    how: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": _JPEG_QUALITY, "subsampling": 0},
        "webp": {"lossless": True, "exact": True, "quality": 20},  # effort: half the time of the default, 1 % larger
    }
    picture.save(out, image.kind.upper(), **how.get(image.kind, {}), **keep)
    return out.getvalue()


def _read_pillow(file: Any, data: bytes) -> Image:
    kind = _FORMATS[file.format]
    if getattr(file, "n_frames", 1) > 1:
        raise UnreadableImage(f"is an animation of {file.n_frames} frames, expected one")
    header: dict[str, Any] = {}
    if kind == "png" and data[24] == 16:
        pixels = _read_png16(data)
    elif file.mode in _MODES:
        pixels = np.asarray(file.convert(_MODES[file.mode]))
    else:
        raise UnreadableImage(f'has pixels of mode "{file.mode}", expected grey or RGB')
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        header["equal"], pixels = True, pixels[..., :1]
    for key in ("icc_profile", "exif"):
        if file.info.get(key):
            header[key] = base64.b64encode(file.info[key]).decode()
    if file.info.get("dpi"):
        header["dpi"] = [float(x) for x in file.info["dpi"]]
    return _image(pixels[None], kind, header)


def _read_png16(data: bytes) -> np.ndarray:
    import imagecodecs

    try:
        return np.asarray(imagecodecs.png_decode(data))
    except (RuntimeError, ValueError) as error:
        raise UnreadableImage(f"cannot be decoded: {error}") from None


def _read_tiff(data: bytes) -> Image:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of its complaints is raised
    _require_end(data)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            count, pixels, axes = len(file.series), file.series[0].asarray(), file.series[0].axes
            photometric, depth = int(page.photometric), int(np.max(page.bitspersample))  # type: ignore[union-attr]
            tags = {t.code: t.value for t in page.tags if t.code in _TIFF_TAGS}  # type: ignore[union-attr]
    except Exception as error:  # tifffile raises whatever its codecs raise
        raise UnreadableImage(f"cannot be decoded: {str(error).splitlines()[0] if str(error) else 'damaged'}") from None
    if photometric not in (0, 1, 2) or count != 1:
        raise UnreadableImage(f"is TIFF with {count} series and photometric interpretation {photometric}, expected one, 0..2")
    if pixels.dtype not in (np.uint8, np.uint16, np.int16) or not 8 <= depth <= 16:
        raise UnreadableImage(f'has samples of type "{pixels.dtype}" and {depth} bits, expected integers of 8 to 16')
    if "S" in axes:
        shaped = np.moveaxis(pixels, axes.index("S"), -1)
        shaped = shaped.reshape(-1, *shaped.shape[-3:])
    else:
        shaped = pixels.reshape(-1, *pixels.shape[-2:], 1)
    if shaped.shape[3] not in _PHOTOMETRIC:
        raise UnreadableImage(f"has {shaped.shape[3]} samples a pixel, expected 1..4")
    meaning = "MONOCHROME1" if photometric == 0 else _PHOTOMETRIC[shaped.shape[3]]
    header = {str(code): _plain(value) for code, value in tags.items()}
    return Image(shaped, depth, meaning, "tiff", None, json.dumps(header).encode())


def _require_end(data: bytes) -> None:
    """Raises UnreadableImage where the list of pages leads back to itself: tifffile would follow it for ever."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    first, count, entry, link = (8, "Q", 20, "Q") if big else (4, "H", 12, "I")
    seen: set[int] = set()
    try:
        at = struct.unpack_from(order + link, data, first)[0]
        while at and at not in seen:
            seen.add(at)
            entries = struct.unpack_from(order + count, data, at)[0]
            at = struct.unpack_from(order + link, data, at + struct.calcsize(count) + entries * entry)[0]
    except struct.error:
        raise UnreadableImage("cannot be decoded: its list of pages is cut off") from None
    if at:
        raise UnreadableImage("cannot be decoded: its list of pages leads back to itself")


def _plain(value: Any) -> Any:
    """A tag's value for JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [int(v) for v in value] if isinstance(value, tuple) else int(value)


def _write_tiff(image: Image, header: dict[str, Any]) -> bytes:
    import tifffile

    colour = image.shape[3] >= 3
    grey = "miniswhite" if image.photometric == "MONOCHROME1" else "minisblack"
    pixels = image.pixels[..., 0] if image.shape[3] == 1 else image.pixels
    how: dict[str, Any] = {"photometric": "rgb" if colour else grey, "compression": "zlib"}
    if "282" in header and "283" in header:
        how |= {"resolution": (header["282"], header["283"]), "resolutionunit": header.get("296", 2)}
    if "34675" in header:
        how["iccprofile"] = base64.b64decode(header["34675"])
    if "274" in header:
        how["extratags"] = [(274, "H", 1, header["274"], True)]
    if image.shape[3] in (2, 4):
        how["extrasamples"] = ["unassalpha"]
    out = io.BytesIO()
    tifffile.imwrite(out, pixels[0] if len(pixels) == 1 else pixels, metadata=None, **how)
    return out.getvalue()


def _image(pixels: np.ndarray, kind: str, header: dict[str, Any]) -> Image:
    depth = 8 * pixels.dtype.itemsize
    return Image(pixels, depth, _PHOTOMETRIC[pixels.shape[3]], kind, None, json.dumps(header).encode())

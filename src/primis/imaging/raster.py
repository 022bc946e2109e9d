"""PNG, JPEG, WebP (Pillow), TIFF (tifffile) and 16-bit PNG (imagecodecs), 8 and 16 bits a sample.

Nothing is scaled. Grey that is stored as three equal channels is read as grey and written back as it
was. An image's header holds what is to come back with the pixels: mode, ICC profile, EXIF, resolution.
"""

from __future__ import annotations

import base64
import io
import json
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
        return _write_tiff(pixels, header)
    frame = np.repeat(pixels[0], 3, axis=2) if header.get("equal") else pixels[0]
    if frame.dtype == np.uint16:
        import imagecodecs

        return bytes(imagecodecs.png_encode(np.ascontiguousarray(np.squeeze(frame, 2) if frame.shape[2] == 1 else frame)))
    picture = PIL.Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else np.ascontiguousarray(frame))
    out = io.BytesIO()
    keep: dict[str, Any] = {k: base64.b64decode(header[k]) for k in ("icc_profile", "exif") if k in header}
    if "dpi" in header and image.kind != "webp":
        keep["dpi"] = tuple(header["dpi"])
    how: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": _JPEG_QUALITY, "subsampling": 0},
        "webp": {"lossless": True, "exact": True},
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

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series = file.series[0]
            pixels, axes = series.asarray(), series.axes
            photometric = int(file.pages[0].photometric)  # type: ignore[union-attr]
            depth = int(np.max(file.pages[0].bitspersample))  # type: ignore[union-attr]
    except Exception as error:  # tifffile raises whatever its codecs raise
        raise UnreadableImage(f"cannot be decoded: {str(error).splitlines()[0] if str(error) else 'damaged'}") from None
    if photometric == 3:
        raise UnreadableImage("is a palette TIFF, expected grey or RGB")
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16, np.int16) or depth > 16:
        raise UnreadableImage(f'has samples of type "{pixels.dtype}", expected integers of at most 16 bits')
    if axes.endswith("S"):
        planar = pixels.reshape(-1, *pixels.shape[-3:])
    elif "S" in axes:
        at = axes.index("S")
        planar = np.moveaxis(pixels, at, -1)
        planar = planar.reshape(-1, *planar.shape[-3:])
    else:
        planar = pixels.reshape(-1, *pixels.shape[-2:], 1)
    if planar.shape[3] not in _PHOTOMETRIC:
        raise UnreadableImage(f"has {planar.shape[3]} samples a pixel, expected 1..4")
    image = _image(planar, "tiff", {})
    inverted = image.photometric == "MONOCHROME2" and photometric == 0
    bits = min(16, depth) if depth > 8 else 8
    return Image(planar, bits, "MONOCHROME1" if inverted else image.photometric, "tiff", None,
                 json.dumps({"shape": pixels.shape, "axes": axes, "inverted": inverted}).encode())  # fmt: skip


def _write_tiff(pixels: np.ndarray, header: dict[str, Any]) -> bytes:
    import tifffile

    colour = pixels.shape[3] >= 3
    out = io.BytesIO()
    grey = "miniswhite" if header.get("inverted") else "minisblack"
    shaped = pixels[..., 0] if pixels.shape[3] == 1 else pixels
    shaped = shaped[0] if len(shaped) == 1 else shaped
    tifffile.imwrite(out, shaped, photometric="rgb" if colour else grey, compression="deflate")
    return out.getvalue()


def _image(pixels: np.ndarray, kind: str, header: dict[str, Any]) -> Image:
    depth = 8 * pixels.dtype.itemsize
    return Image(pixels, depth, _PHOTOMETRIC[pixels.shape[3]], kind, None, json.dumps(header).encode())

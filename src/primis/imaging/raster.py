"""PNG, JPEG and WebP through Pillow, 16-bit PNG through imagecodecs; TIFF is in `tiff`.

Nothing is scaled. Grey that is stored as three equal channels is read as grey and written back as
it was. Palettes become RGB, transparent colours opacity. An image's header holds what is to come
back with the pixels: whether channels were equal, colour profile and gamma, EXIF, resolution.
"""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from primis.errors import UnreadableImage
from primis.imaging import png
from primis.imaging.image import MAX_PIXELS, MEANING, Image, require_size
from primis.imaging.kept import Kept, left_out, pack

_LOSSLESS_JPEG = 0xC3
"""The marker of its frame (T.81, table B.1)."""
_JPEG_QUALITY = 98
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = b"\xff\xd8\xff"
_DAMAGED = "cannot be decoded: damaged or cut off"


def is_raster(data: bytes) -> bool:
    """Whether the first bytes are those of a kind that is read here."""
    return data.startswith((*_TIFF, _JPEG, png.SIGNATURE)) or _is_webp(data)


def read_raster(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Raises UnreadableImage (without a file name: the caller adds it) and MemoryError."""
    try:
        if data.startswith(_TIFF):
            from primis.imaging.tiff import read_tiff

            return read_tiff(data, max_pixels)
        if data.startswith(png.SIGNATURE):
            return _read_png(data, max_pixels)
        if data.startswith(_JPEG):
            return _read_jpeg(data, max_pixels)
        if _is_webp(data):
            return _read_webp(data, max_pixels)
    except (UnreadableImage, MemoryError):
        raise
    except Exception:  # decoders raise whatever they like
        raise UnreadableImage(_DAMAGED) from None
    raise UnreadableImage("is no PNG, JPEG, WebP, TIFF, NIfTI or DICOM")


def write_raster(image: Image) -> bytes:
    """The file. JPEG is written at quality 98 without subsampling; all others without loss.

    Raises ValueError where header and pixels are not those of an image of its kind.
    """
    kept = Kept.parse(image.header)
    try:
        if image.kind == "tiff":
            from primis.imaging.tiff import write_tiff

            return write_tiff(image, kept)
        frame = image.pixels[0]
        frame = np.repeat(frame, 3, axis=2) if kept.flag("equal") and frame.shape[2] == 1 else frame
        if image.kind == "png":
            return _write_png(frame, kept)
        if image.kind == "jpeg" and (kept.flag("lossless") or frame.dtype == np.uint16):
            return _write_deep_jpeg(frame, image.bit_depth, lossless=kept.flag("lossless"))
        return _write_jpeg_or_webp(frame, image.kind, kept)
    except Exception:  # whatever encoders meet in what others sealed
        raise ValueError(f"the image cannot be written as {image.kind}") from None


def _write_deep_jpeg(frame: np.ndarray, depth: int, *, lossless: bool) -> bytes:
    import imagecodecs

    flat = np.ascontiguousarray(frame[..., 0] if frame.shape[2] == 1 else frame)
    if lossless:
        return bytes(imagecodecs.jpeg8_encode(flat, lossless=True, bitspersample=depth))
    return bytes(imagecodecs.jpeg8_encode(flat, level=_JPEG_QUALITY, bitspersample=12))


def _write_jpeg_or_webp(frame: np.ndarray, kind: str, kept: Kept) -> bytes:
    how: dict[str, Any] = {}
    for name in ("icc_profile", "exif"):
        if data := kept.data(name):
            how[name] = data
    if kind == "jpeg":
        how |= {"quality": _JPEG_QUALITY, "subsampling": 0}
        if dpi := kept.positive("dpi", 2):
            how["dpi"] = dpi
    else:  # the only effort that takes no more time than decoding; twice as large as at method 1
        how |= {"lossless": True, "exact": True, "quality": 20, "method": 0}
    return _save(frame, kind, how)


def _write_png(frame: np.ndarray, kept: Kept) -> bytes:
    if frame.dtype == np.uint16 and frame.shape[2] > 1:  # Pillow has no such mode
        import imagecodecs

        data = bytes(imagecodecs.png_encode(np.ascontiguousarray(frame)))
    else:
        data = _save(frame, "png", {})
    return png.insert(data, kept.named("chunks"), frame.shape[2])


def _save(frame: np.ndarray, kind: str, how: dict[str, Any]) -> bytes:
    flat = frame[..., 0] if frame.shape[2] == 1 else frame
    picture = PIL.Image.fromarray(np.ascontiguousarray(flat))
    out = io.BytesIO()
    picture.save(out, kind.upper(), **how)
    return out.getvalue()


def _read_png(data: bytes, max_pixels: int) -> Image:
    file, needed = png.scan(data)
    require_size((1, file.height, file.width, file.channels), max_pixels)
    if file.depth == 16:
        import imagecodecs

        pixels = np.asarray(imagecodecs.png_decode(needed))
    else:
        with PngImagePlugin.PngImageFile(io.BytesIO(needed)) as picture:
            mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[file.channels - bool(file.key)]
            pixels = np.asarray(picture.convert(mode))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if file.key:
        pixels = _opaque_but(pixels, file.key, file.depth)
    if pixels.shape != (file.height, file.width, file.channels):
        raise UnreadableImage(_DAMAGED)
    header: dict[str, Any] = {"chunks": dict(file.kept)} if file.kept else {}
    notes = (*_further(file.frames), *(("text chunks",) if file.texts else ()))
    return _image(pixels, "png", header, notes)


def _further(pictures: int) -> tuple[str, ...]:
    """What to say of all pictures of a file but the first."""
    more = pictures - 1
    return (f"{more} further picture{'s' if more > 1 else ''}",) if more > 0 else ()


def _opaque_but(pixels: np.ndarray, key: tuple[int, ...], depth: int) -> np.ndarray:
    """With a channel of opacity: none where all samples are the key's."""
    if depth < 8:
        key = tuple(sample * 255 // (2**depth - 1) for sample in key)
    full = np.iinfo(pixels.dtype).max
    seen = (pixels != np.array(key)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, seen.astype(pixels.dtype) * full], axis=2)


def _read_jpeg(data: bytes, max_pixels: int) -> Image:
    height, width, channels, depth, lossless = _jpeg_frame(data)
    require_size((1, height, width, channels), max_pixels)
    if depth != 8 or lossless:
        return _read_deep_jpeg(data, (height, width, channels), depth, lossless)
    with JpegImagePlugin.JpegImageFile(io.BytesIO(data)) as file:
        if file.size != (width, height) or file.layers != channels:
            raise UnreadableImage(_DAMAGED)
        pixels = np.asarray(file.convert("RGB") if channels == 4 else file)
        info = file.info
    notes = list(_further(_pictures(info.get("mp"))))
    if channels == 4:
        notes.append("the colours as CMYK (they come back as RGB)")
        info = {name: value for name, value in info.items() if name != "icc_profile"}
    notes += ["XMP"] if info.get("xmp") else []
    notes += ["comment"] if info.get("comment") else []
    header = _profile_and_exif(info)
    if info.get("dpi"):
        header["dpi"] = [float(x) for x in info["dpi"]]
    return _image(pixels if pixels.ndim == 3 else pixels[..., None], "jpeg", header, tuple(notes))


def _read_deep_jpeg(data: bytes, shape: tuple[int, int, int], depth: int, lossless: bool) -> Image:
    """A JPEG of 12 bits a sample, or without loss of 2 to 16: kinds that Pillow does not read."""
    import imagecodecs

    channels = shape[2]
    if channels not in (1, 3) or (depth != 12 and not lossless):
        loss = "without loss " if lossless else ""
        raise UnreadableImage(
            f"is a JPEG {loss}of {channels} channels and {depth} bits a sample, "
            "expected grey or RGB, of 8 or 12 bits or without loss"
        )
    pixels = np.asarray(imagecodecs.jpeg8_decode(data)).reshape(shape)
    header = {"lossless": True} if lossless else {}
    meaning = MEANING[channels]
    told = (("EXIF", b"Exif\0\0"), ("colour profile", b"ICC_PROFILE\0"))
    notes = left_out(tuple(name for name, begin in told if begin in data))
    return Image(pixels[None], depth, meaning, "jpeg", header=pack(header), notes=notes)


class _JpegFrame(NamedTuple):
    height: int
    width: int
    channels: int
    depth: int
    lossless: bool


def _jpeg_frame(data: bytes) -> _JpegFrame:
    """The head of the first frame.

    Raises UnreadableImage where it is not of the usual kind.
    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # between segments: as lenient as decoders are
            continue
        marker = data[at + 1]
        if marker == 0xFF or marker in (0, 1) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            break
        if marker in (0xD9, 0xDA):
            raise UnreadableImage("cannot be decoded: its pixels come before their size")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    frame = data[at + 4 : at + 10]
    if len(frame) < 6:
        raise UnreadableImage(_DAMAGED)
    depth, height, width, channels = struct.unpack(">BHHB", frame)
    if channels not in (1, 3, 4) or not 2 <= depth <= 16:
        raise UnreadableImage(
            f"is a JPEG with {channels} channels of {depth} bits, expected 1, 3 or 4 of 2 to 16"
        )
    return _JpegFrame(height, width, channels, depth, data[at + 1] == _LOSSLESS_JPEG)


def _pictures(index: Any) -> int:
    """How many pictures a multi-picture file (CIPA DC-007) lists in its index; 1 without one."""
    order = {b"II": "<", b"MM": ">"}.get(index[:2] if isinstance(index, bytes) else b"")
    if order is None:
        return 1
    try:
        at = struct.unpack_from(order + "I", index, 4)[0]
        for entry in range(min(struct.unpack_from(order + "H", index, at)[0], 64)):
            tag, _, _, value = struct.unpack_from(order + "HHII", index, at + 2 + 12 * entry)
            if tag == 0xB001:
                return int(value) if value < 1 << 16 else 1
    except struct.error:
        pass
    return 1


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _read_webp(data: bytes, max_pixels: int) -> Image:
    width, height = _webp_size(data)
    # before there is a decoder: it makes room for all of it at once
    require_size((1, height, width, 3), max_pixels)
    with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as file:
        if file.size != (width, height) or file.mode not in ("RGB", "RGBA"):
            raise UnreadableImage(_DAMAGED)
        pixels, header = np.asarray(file), _profile_and_exif(file.info)
        notes = (*_further(file.n_frames), *(("XMP",) if file.info.get("xmp") else ()))
    if pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
        pixels = pixels[..., :3]  # the encoder drops it too
    require_size((1, *pixels.shape), max_pixels)
    return _image(pixels, "webp", header, notes)


def _webp_size(data: bytes) -> tuple[int, int]:
    """(width, height). Raises UnreadableImage."""
    kind, head = data[12:16], data[:30]
    if len(head) == 30 and kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if len(head) == 30 and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if len(head) >= 25 and kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise UnreadableImage(_DAMAGED)


def _profile_and_exif(info: dict[Any, Any]) -> dict[str, Any]:
    return {name: bytes(info[name]) for name in ("icc_profile", "exif") if info.get(name)}


def _image(pixels: np.ndarray, kind: str, header: dict[str, Any], notes: tuple[str, ...]) -> Image:
    if pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        header, pixels = header | {"equal": True}, pixels[..., :1]
    depth = 8 * pixels.dtype.itemsize
    return Image(
        pixels[None],
        depth,
        MEANING[pixels.shape[2]],
        kind,
        header=pack(header),
        notes=left_out(notes),
    )

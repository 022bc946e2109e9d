"""What a bundle seals whole besides the code: info, the source's header, the file itself (docs/format.md, sections 4 and 6).

Each lies in a room that geometry and settings dictate, so that its size tells nothing.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from primis.bundle.layout import MAX_HEADER_BYTES, MAX_ORIGINAL_BITS, ORIGINAL_SLACK, TAG, Header, Settings
from primis.errors import DamagedSection, InputError, UsageError
from primis.imaging.image import KINDS, PHOTOMETRIC, Image
from primis.keys.seal import LENGTH_BYTES, Secret, pad, seal, unpad, unseal

_DTYPES = {name: np.dtype(name) for name in ("uint8", "uint16", "int8", "int16")}
_HEADER_BYTES = dict.fromkeys(KINDS, 1024) | {"dicom": 8192}
_MAX_PLAIN_HEADER = 1 << 28
_LEAST_STEP, _LARGEST_STEP = 2.0**-126, 2.0**32
"""What a threshold lies between: the smallest normal number in single precision (where an image is flat), and more than any
range needs."""


def settings_for(image: Image, settings: Settings, *, with_original: bool) -> Settings:
    """The settings with what they leave to the kind of file: 8192 bytes for the header of DICOM, 1024 for that of others,
    and for the file itself as many bits as its samples take uncompressed. So neither follows from content."""
    header_bytes, bits = settings.header_bytes, settings.original_bits
    if header_bytes is None:
        header_bytes = _HEADER_BYTES[image.kind]
    if bits is None:
        bits = 8.0 * image.pixels.dtype.itemsize if with_original else 0.0
    if with_original != (bits > 0):
        expected = "more than 0 with the file itself" if with_original else "0 without the file itself"
        raise UsageError(f"original_bits is {bits:g}, expected {expected}")
    return replace(settings, header_bytes=header_bytes, original_bits=bits)


def seal_info(image: Image, scales: list[list[Any]], header: Header, secret: Secret) -> bytes:
    """Section `info`: what a restored image needs besides its code. scales: low, high, t of each frame."""
    body = {
        "bit_depth": image.bit_depth,
        "dtype": image.pixels.dtype.name,
        "frames": scales,
        "kind": image.kind,
        "photometric": image.photometric,
        "spacing_mm": image.spacing_mm,
    }
    plain = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return _seal_padded("info", plain, header, secret)


def unseal_info(header: Header, parts: dict[str, bytes], secret: Secret) -> dict[str, Any]:
    """Inverse of `seal_info`; raises DamagedSection where it describes no image."""
    plain = _unseal_padded("info", header, parts, secret)
    try:
        body = json.loads(plain)
        kind, photometric, depth, spacing = (body[name] for name in ("kind", "photometric", "bit_depth", "spacing_mm"))
        limits = np.iinfo(_DTYPES[body["dtype"]])
        frames = [(_whole(low), _whole(high), float(threshold)) for low, high, threshold in body["frames"]]
        spacing = None if spacing is None else tuple(float(x) for x in spacing)
        sound = kind in KINDS and photometric in PHOTOMETRIC and _whole(depth) in range(1, 8 * limits.dtype.itemsize + 1)
        sound = sound and len(frames) == header.geometry.frames
        sound = sound and (spacing is None or (len(spacing) == 2 and all(0 < x < 1e6 for x in spacing)))
        ranges = all(limits.min <= low <= high <= limits.max and _LEAST_STEP <= t < _LARGEST_STEP for low, high, t in frames)
        if not sound or not ranges:
            raise ValueError
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise DamagedSection('section "info" does not describe an image') from None
    return {
        "kind": kind,
        "photometric": photometric,
        "bit_depth": depth,
        "dtype": limits.dtype,
        "frames": frames,
        "spacing_mm": spacing,
    }


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError
    return value


def seal_header(image: Image, name: str, header: Header, secret: Secret) -> bytes:
    """Section `header`: the image's name and what its kind of file needs. Raises InputError where it does not fit."""
    plain = json.dumps({"name": name}).encode() + b"\n" + image.header
    if len(plain) > _MAX_PLAIN_HEADER:
        raise InputError(f"the header takes {len(plain)} bytes, expected at most {_MAX_PLAIN_HEADER}")
    packed = zlib.compress(plain, 9)
    need, room = len(packed) + LENGTH_BYTES, header.rooms["header"]
    if need > room:
        raise _too_long(f"the header takes {need} bytes compressed", room, ("--header-bytes", _hundreds(need), MAX_HEADER_BYTES))
    return _seal_padded("header", packed, header, secret)


def unseal_header(header: Header, parts: dict[str, bytes], secret: Secret) -> tuple[str, bytes]:
    """(name, header). Raises DamagedSection."""
    meta, _, source = _inflate(_unseal_padded("header", header, parts, secret)).partition(b"\n")
    try:
        return str(PurePosixPath(json.loads(meta)["name"])), source
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedSection('section "header" does not name its image') from None


def _inflate(packed: bytes) -> bytes:
    """What was compressed, of bounded length: a small section may swell to fill the memory."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(packed, _MAX_PLAIN_HEADER + 1)
    except zlib.error:
        raise DamagedSection('section "header" cannot be decompressed') from None
    if len(plain) > _MAX_PLAIN_HEADER or not stream.eof or stream.unused_data:
        raise DamagedSection(f'section "header" is cut off, has bytes after its end or over {_MAX_PLAIN_HEADER} in all')
    return plain


def seal_original(data: bytes, header: Header, secret: Secret) -> bytes:
    """Section `original`: the file. Raises InputError where it does not fit."""
    need, room, header_bytes = len(data) + LENGTH_BYTES, header.rooms["original"], header.rooms["header"]
    if need > room:
        bits = math.ceil((need - ORIGINAL_SLACK * header_bytes) * 80 / header.geometry.samples) / 10
        wider = _hundreds(header_bytes + (need - room) / ORIGINAL_SLACK)
        remedies = ("--original-bits", bits, MAX_ORIGINAL_BITS), ("--header-bytes", wider, MAX_HEADER_BYTES)
        raise _too_long(f"the file takes {need} bytes", room, *remedies)
    return _seal_padded("original", data, header, secret)


def _too_long(takes: str, room: int, *remedies: tuple[str, float, int]) -> InputError:
    """remedies: (option, value that would do, the most it takes); the first that takes its value is named."""
    would_do = (f": {option} {value} would do" for option, value, most in remedies if value <= most)
    return InputError(f"{takes}, the settings leave {room}{next(would_do, ', and no option leaves enough')}")


def _hundreds(number: float) -> int:
    """Rounded up to hundreds."""
    return 100 * math.ceil(number / 100)


def unseal_original(header: Header, parts: dict[str, bytes], secret: Secret) -> bytes:
    """The file. Raises DamagedSection."""
    return _unseal_padded("original", header, parts, secret)


def _seal_padded(name: str, plain: bytes, header: Header, secret: Secret) -> bytes:
    return seal(pad(plain, header.fixed_sizes[name] - TAG), secret, name, header.binding)


def _unseal_padded(name: str, header: Header, parts: dict[str, bytes], secret: Secret) -> bytes:
    return unpad(unseal(parts[name], secret, name, header.binding))

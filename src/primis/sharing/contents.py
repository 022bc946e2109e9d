"""What a bundle seals whole besides the code (docs/format.md, sections 4 and 6): info, the name and
header of the source with its padding, an image of few grey levels, the file itself.

Each lies in a room that geometry and settings dictate, so that its size tells nothing.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from primis.bundle.layout import (
    MAX_HEADER_BYTES,
    MAX_ORIGINAL_BITS,
    MIN_HEADER_BYTES,
    ORIGINAL_SLACK,
    TAG,
    Header,
    Settings,
)
from primis.errors import DamagedSection, InputError, UsageError
from primis.imaging.image import KINDS, PHOTOMETRIC, Image
from primis.imaging.levels import (
    bits_of,
    find_levels,
    levels_of,
    pack_levels,
    unpack_levels,
)
from primis.imaging.padding import (
    Padding,
    find_padding,
    pack_padding,
    padding_bytes,
    unpack_padding,
)
from primis.keys.seal import LENGTH_BYTES, Secret, pad, seal, unpad, unseal

SEALED_WHOLE = {
    "info": "preview",
    "header": "diagnostic",
    "exact": "diagnostic",
    "original": "original",
}
"""Sections that are sealed whole, and the tier that opens each."""

_DTYPES = {name: np.dtype(name) for name in ("uint8", "uint16", "int8", "int16")}
_HEADER_BYTES = dict.fromkeys(KINDS, 1024) | {"dicom": 8192}
_LEAST_BUDGET = 1024
MAX_SOURCE_HEADER = 1 << 24
"""Bytes of a source's header, uncompressed."""

_MAX_NAME = 1 << 16
_NO_HEADER = 'section "header" does not describe its image'
_LEAST_STEP, _LARGEST_STEP = 2.0**-126, 2.0**32
"""What a threshold lies between: the smallest normal number in single precision (where an image is flat), and more than any
range needs."""


def settings_for(image: Image, settings: Settings, *, with_original: bool) -> Settings:
    """The settings with what they leave to the image: 8192 bytes for the header of DICOM and 1024
    for that of others; for the file itself as many bits as its samples take uncompressed; and for
    an image of few grey levels the bits that number them. Of the content only the last tells."""
    header_bytes, bits, exact = settings.header_bytes, settings.original_bits, settings.exact_bits
    if header_bytes is None:
        header_bytes = _HEADER_BYTES[image.kind]
    if bits is None:
        bits = 8.0 * image.pixels.dtype.itemsize if with_original else 0.0
    if with_original != (bits > 0):
        expected = (
            "more than 0 with the file itself" if with_original else "0 without the file itself"
        )
        raise UsageError(f"original_bits is {bits:g}, expected {expected}")
    if exact is None:
        levels = find_levels(image.pixels)
        exact = 0 if levels is None else bits_of(levels)
    return replace(settings, header_bytes=header_bytes, original_bits=bits, exact_bits=exact)


def header_budget(needs: Iterable[int]) -> int:
    """`header_bytes` for images whose headers need so many bytes: a power of two that holds all."""
    most = max(needs, default=_LEAST_BUDGET)
    return int(max(_LEAST_BUDGET, 1 << max(most - 1, 1).bit_length()))


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
        kind, photometric, depth, spacing = (
            body[name] for name in ("kind", "photometric", "bit_depth", "spacing_mm")
        )
        limits = np.iinfo(_DTYPES[body["dtype"]])
        frames = [
            (_whole(low), _whole(high), float(threshold)) for low, high, threshold in body["frames"]
        ]
        spacing = None if spacing is None else tuple(float(x) for x in spacing)
        sound = (
            kind in KINDS
            and photometric in PHOTOMETRIC
            and _whole(depth) in range(1, 8 * limits.dtype.itemsize + 1)
        )
        sound = sound and len(frames) == header.geometry.frames
        sound = sound and (
            spacing is None or (len(spacing) == 2 and all(0 < x < 1e6 for x in spacing))
        )
        ranges = all(
            limits.min <= low <= high <= limits.max and _LEAST_STEP <= t < _LARGEST_STEP
            for low, high, t in frames
        )
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


def header_need(image: Image, name: str) -> int:
    """The least `header_bytes` that holds an image's name, header and padding."""
    padding = None if find_levels(image.pixels) is not None else find_padding(image)
    return max(MIN_HEADER_BYTES, len(_pack_header(image, name, padding)) + LENGTH_BYTES)


def seal_header(
    image: Image, name: str, padding: Padding | None, header: Header, secret: Secret
) -> bytes:
    """Section `header`: the image's name, its padding and what its kind of file needs. Raises
    InputError where it does not fit."""
    packed = _pack_header(image, name, padding)
    need, budget = len(packed) + LENGTH_BYTES, header.rooms["header"]
    if need > budget:
        remedy = ("--header-bytes", header_budget([need]), MAX_HEADER_BYTES)
        raise _too_long(f"the header takes {need} bytes compressed", budget, remedy)
    return _seal_padded("header", packed, header, secret)


def _pack_header(image: Image, name: str, padding: Padding | None) -> bytes:
    if len(image.header) > MAX_SOURCE_HEADER:
        raise InputError(
            f"the header takes {len(image.header)} bytes, expected at most {MAX_SOURCE_HEADER}"
        )
    described, data = (None, b"") if padding is None else pack_padding(padding)
    meta = json.dumps({"name": name, "padding": described}).encode()
    return zlib.compress(b"".join([meta, b"\n", data, image.header]), 9)


def unseal_header(
    header: Header, parts: dict[str, bytes], secret: Secret, dtype: np.dtype
) -> tuple[str, Padding | None, bytes]:
    """(name, padding, source's header) of samples of a type. Raises DamagedSection."""
    geometry = header.geometry
    shape = (geometry.frames, geometry.height, geometry.width, geometry.channels)
    inflating = _Inflating(_unseal_padded("header", header, parts, secret))
    name, described = _read_line(inflating)
    padding = None
    if described is not None:
        try:
            data = inflating.read(padding_bytes(described, shape))
            padding = unpack_padding(described, data, shape, dtype)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise DamagedSection(_NO_HEADER) from None
    return name, padding, inflating.rest(MAX_SOURCE_HEADER)


def unseal_name(header: Header, parts: dict[str, bytes], secret: Secret) -> str:
    """The name alone: nothing else is decompressed. Raises DamagedSection."""
    return _read_line(_Inflating(_unseal_padded("header", header, parts, secret)))[0]


def _read_line(inflating: _Inflating) -> tuple[str, Any]:
    """(name, what describes the padding)."""
    try:
        body = json.loads(inflating.line(_MAX_NAME))
        return str(PurePosixPath(body["name"])), body["padding"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedSection(_NO_HEADER) from None


class _Inflating:
    """What was compressed, as far as it is asked for: a small section may swell to fill the
    memory."""

    def __init__(self, packed: bytes) -> None:
        self._stream, self._packed, self._ahead = zlib.decompressobj(), packed, b""

    def line(self, most: int) -> bytes:
        """What comes before the first newline, at most so many bytes. Raises ValueError."""
        line, newline, self._ahead = self._some(most).partition(b"\n")
        if not newline:
            raise ValueError("no line")
        return line

    def read(self, size: int) -> bytes:
        """The next bytes, exactly so many. Raises ValueError where there are fewer."""
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        if missing := size - len(data):
            data += self._some(missing)
        if len(data) < size:
            raise ValueError("it is cut off")
        return data

    def rest(self, most: int) -> bytes:
        """All that follows to the end of the stream, at most so many bytes."""
        data = self._ahead + self._some(most + 1 - min(len(self._ahead), most))
        if len(data) > most or not self._stream.eof or self._stream.unused_data:
            raise DamagedSection(
                'section "header" is cut off, has bytes after its end or '
                f"over {most} of the source's header"
            )
        return data

    def _some(self, most: int) -> bytes:
        """The next bytes, `most` or all that there are."""
        try:
            data = self._stream.decompress(self._packed, most)
        except zlib.error:
            raise DamagedSection('section "header" cannot be decompressed') from None
        self._packed = self._stream.unconsumed_tail
        return data


def seal_exact(image: Image, header: Header, secret: Secret) -> bytes:
    """Section `exact`: the samples as numbers of their levels. Raises InputError where there are
    more levels than the settings have bits for."""
    bits, levels = header.settings.exact_bits or 0, levels_of(image.pixels)
    if bits_of(levels) > bits:
        raise InputError(f"the image has too many grey levels for {bits} bits a sample")
    data = pack_levels(image.pixels, levels, bits)
    return seal(data, secret, "exact", header.binding)


def unseal_exact(
    header: Header, parts: dict[str, bytes], secret: Secret, dtype: np.dtype
) -> np.ndarray:
    """The samples (frames, height, width, channels). Raises DamagedSection."""
    geometry = header.geometry
    shape = (geometry.frames, geometry.height, geometry.width, geometry.channels)
    data = unseal(parts["exact"], secret, "exact", header.binding)
    try:
        return unpack_levels(data, shape, dtype, header.settings.exact_bits or 1)
    except ValueError:
        raise DamagedSection('section "exact" does not describe its image') from None


def original_times(size: int, image: Image, header_bytes: int) -> int:
    """How many times the bits of its uncompressed samples hold a file of so many bytes: 1, 2, 4, 8
    or more."""
    spare = size + LENGTH_BYTES - ORIGINAL_SLACK * header_bytes
    times = max(1, math.ceil(spare / image.raw_bytes))
    return int(1 << (times - 1).bit_length())


def seal_original(data: bytes, header: Header, secret: Secret) -> bytes:
    """Section `original`: the file. Raises InputError where it does not fit."""
    need, room, header_bytes = (
        len(data) + LENGTH_BYTES,
        header.rooms["original"],
        header.rooms["header"],
    )
    if need > room:
        bits = math.ceil((need - ORIGINAL_SLACK * header_bytes) * 80 / header.geometry.samples) / 10
        wider = _hundreds(header_bytes + (need - room) / ORIGINAL_SLACK)
        remedies = (
            ("--original-bits", bits, MAX_ORIGINAL_BITS),
            ("--header-bytes", wider, MAX_HEADER_BYTES),
        )
        raise _too_long(f"the file takes {need} bytes", room, *remedies)
    return _seal_padded("original", data, header, secret)


def _too_long(takes: str, room: int, *remedies: tuple[str, float, int]) -> InputError:
    """remedies: (option, value that would do, the most it takes); the first that takes its value is named."""
    would_do = (f": {option} {value} would do" for option, value, most in remedies if value <= most)
    return InputError(
        f"{takes}, the settings leave {room}{next(would_do, ', and no option leaves enough')}"
    )


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

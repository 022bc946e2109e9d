"""Section `header`: an image's name, its padding and what its kind of file needs, compressed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from primis.bundle.geometry import Geometry
from primis.bundle.header import DEFLATE
from primis.bundle.settings import MAX_HEADER_BYTES
from primis.canonical import canonical, parse_canonical
from primis.errors import DamagedSection, InputError, OverBudget
from primis.imaging.image import Image
from primis.imaging.padding import Padding, pack_padding, padding_bytes, unpack_padding
from primis.keys.seal import LENGTH_BYTES
from primis.sharing.fit import header_budget

MAX_SOURCE_HEADER, _FOR_EACH_FRAME, _MOST = 1 << 24, 1 << 17, 1 << 28
"""Bytes of a source's header, uncompressed: of one frame, for each further frame, in all."""

_MAX_LINE = 1 << 16
_DAMAGED = 'section "header" does not describe its image'


@dataclass(frozen=True)
class SourceHeader:
    """name: the path under which the image was shared. source: the header of its file."""

    name: str
    padding: Padding | None = field(repr=False)
    source: bytes = field(repr=False)


def max_source_header(frames: int) -> int:
    """Bytes that a source's header may take."""
    return min(MAX_SOURCE_HEADER + _FOR_EACH_FRAME * (frames - 1), _MOST)


def pack_header(image: Image, name: str, padding: Padding | None) -> bytes:
    """The section before it is padded and sealed. Raises InputError."""
    if len(image.header) > (most := max_source_header(image.shape[0])):
        raise InputError(f"the header takes {len(image.header)} bytes, expected at most {most}")
    described, data = ({}, b"") if padding is None else pack_padding(padding)
    line = canonical({"name": name} | ({"padding": described} if described else {}))
    return zlib.compress(b"".join([line, b"\n", data, image.header]), 9, DEFLATE)


def fit_header(packed: bytes, budget: int) -> bytes:
    """The packed header, if it fits. Raises OverBudget."""
    need = len(packed) + LENGTH_BYTES
    if need > budget:
        wanted = header_budget([need])
        raise OverBudget(
            f"the header takes {need} bytes compressed, the settings leave {budget}",
            "header_bytes",
            wanted if wanted <= MAX_HEADER_BYTES else None,
        )
    return packed


def unpack_header(packed: bytes, geometry: Geometry, dtype: np.dtype) -> SourceHeader:
    """Of an image of samples of a type. Raises DamagedSection."""
    inflating = _Inflating(packed)
    name, described = _read_line(inflating)
    padding = None
    if described is not None:
        try:
            data = inflating.read(padding_bytes(described, geometry.shape))
            padding = unpack_padding(described, data, geometry.shape, dtype)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise DamagedSection(_DAMAGED) from None
    return SourceHeader(name, padding, inflating.rest(max_source_header(geometry.frames)))


def unpack_name(packed: bytes) -> str:
    """The name alone: nothing else is decompressed. Raises DamagedSection."""
    return _read_line(_Inflating(packed))[0]


def _read_line(inflating: _Inflating) -> tuple[str, Any]:
    """(name, what describes the padding)."""
    try:
        body = parse_canonical(inflating.line(_MAX_LINE))
        return str(PurePosixPath(body["name"])), body.get("padding")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedSection(_DAMAGED) from None


class _Inflating:
    """What was compressed, as far as it is asked for: a small section may swell to fill the
    memory."""

    def __init__(self, packed: bytes) -> None:
        self._stream, self._packed, self._ahead = zlib.decompressobj(DEFLATE), packed, b""

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

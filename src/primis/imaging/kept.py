"""What an image's header keeps of a raster file, as JSON.

When an image is restored it comes from others. So it is bounded before it is parsed, and a value
that is not what it should be counts as absent.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from primis.errors import UnreadableImage

_MAX_BYTES = 1 << 24


class Kept:
    """Named values of a header."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    @classmethod
    def parse(cls, header: bytes) -> Kept:
        """Empty bytes are an object without values.

        Raises ValueError unless it is a JSON object of bounded size.
        """
        if len(header) > _MAX_BYTES:
            raise ValueError(f"the header has {len(header)} bytes, expected at most {_MAX_BYTES}")
        try:
            values = json.loads(header or b"{}")
        except (ValueError, RecursionError):
            raise ValueError("the header is no JSON") from None
        if not isinstance(values, dict):
            raise ValueError("the header is no JSON object")
        return cls(values)

    def flag(self, name: str) -> bool:
        """Whether it is set."""
        return self._values.get(name) is True

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number within limits."""
        value = self._values.get(name)
        return value if type(value) is int and least <= value <= most else None

    def wholes(self, name: str, count: int, most: int) -> tuple[int, ...] | None:
        """So many whole numbers from 0 to `most`."""
        value = self._values.get(name)
        if not isinstance(value, list) or len(value) != count:
            return None
        return tuple(value) if all(type(v) is int and 0 <= v <= most for v in value) else None

    def positive(self, name: str, count: int) -> tuple[float, ...] | None:
        """So many numbers over zero and below a million."""
        value = self._values.get(name)
        if not isinstance(value, list) or len(value) != count:
            return None
        sound = all(type(v) in (int, float) and 0 < v < 1e6 for v in value)
        return tuple(float(v) for v in value) if sound else None

    def data(self, name: str) -> bytes | None:
        """Bytes that are not empty."""
        return _bytes(self._values.get(name))

    def named(self, name: str) -> list[tuple[str, bytes]]:
        """Bytes by name, each name once."""
        value = self._values.get(name)
        pairs = value.items() if isinstance(value, dict) else ()
        return [(key, content) for key, text in pairs if (content := _bytes(text))]


def pack(values: dict[str, Any]) -> bytes:
    """A header of values, of those that are set; bytes become base64. Empty where none is.

    Raises UnreadableImage where it is larger than `Kept.parse` takes.
    """
    kept = {name: value for name, value in values.items() if not _says_nothing(value)}
    if not kept:
        return b""
    header = json.dumps(kept, default=lambda value: base64.b64encode(value).decode()).encode()
    if len(header) > _MAX_BYTES:
        raise UnreadableImage(
            f"has {len(header)} bytes of profile and EXIF, expected at most {_MAX_BYTES}"
        )
    return header


def left_out(what: tuple[str, ...]) -> tuple[str, ...]:
    """Notes that this does not come back."""
    return tuple(f"{name}, left out" for name in what)


def _says_nothing(value: Any) -> bool:
    """Whether it counts as absent; the number 0 does not."""
    return value is None or value is False or value == {}


def _bytes(value: Any) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True) or None
    except (binascii.Error, ValueError):
        return None

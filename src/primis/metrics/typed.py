"""Typed results as arrays, and back: what an .npz holds, with nothing in it that is ever unpickled.

A result is a frozen dataclass of numbers, texts, tuples, mappings, arrays and other results. Its
arrays are kept as they are; the rest is one MessagePack text, checked against the type when it is
read. Unlike JSON it holds infinity.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

Arrays = dict[str, np.ndarray]
T = TypeVar("T")

_BODY = "body"


def to_arrays(result: object) -> Arrays:
    """The body as bytes, and each array of the result under a number.

    Raises TypeError where the result holds what is neither data nor an array.
    """
    arrays: Arrays = {}

    def encoded(item: Any) -> Any:
        if isinstance(item, np.generic):
            return item.item()
        if not isinstance(item, np.ndarray) or item.dtype.hasobject:
            raise TypeError(f"a result holds a {type(item).__name__}, expected data or an array")
        name = f"_{len(arrays)}"
        arrays[name] = item
        return name

    body = msgspec.msgpack.encode(result, enc_hook=encoded)
    return {_BODY: np.frombuffer(body, np.uint8)} | arrays


def from_arrays(arrays: Arrays, kind: type[T]) -> T:
    """Inverse of `to_arrays`.

    Raises KeyError, TypeError or ValueError where they do not hold a `kind`.
    """

    def decoded(expected: type, item: Any) -> Any:
        if expected is not np.ndarray:
            raise TypeError(f"unexpected {expected.__name__}")
        return arrays[item]

    return msgspec.msgpack.decode(arrays[_BODY].tobytes(), type=kind, dec_hook=decoded)

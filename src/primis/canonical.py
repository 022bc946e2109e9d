"""Canonical JSON (RFC 8785), whole numbers only: one byte sequence for one meaning."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import rfc8785


def canonical(value: Any) -> bytes:
    """The canonical form of a value of dicts, lists, texts, whole numbers, booleans and None.

    Raises ValueError for a number of more than 53 bits, a fraction and a text that is no Unicode.
    """
    if _has_fraction(value):
        raise ValueError("a number has a fraction, expected whole numbers")
    return rfc8785.dumps(value)


def parse_canonical(data: bytes) -> Any:
    """The value of canonical JSON. Raises ValueError for any other bytes."""
    try:
        value = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
        same = rfc8785.dumps(value) == data
    except (ValueError, RecursionError):
        raise ValueError("is not JSON of whole numbers") from None
    if not same:
        raise ValueError("is not in canonical form (RFC 8785)")
    return value


def _refuse(_: str) -> NoReturn:
    raise ValueError("a number has a fraction")


def _has_fraction(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_fraction(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_has_fraction(inner) for inner in value)
    return isinstance(value, float)

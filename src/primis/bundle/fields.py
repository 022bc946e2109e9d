"""Fields of parsed JSON, checked: each function returns its type or raises ValueError."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SHOWN = 40


def record(value: Any, names: Collection[str]) -> dict[str, Any]:
    """An object of exactly these fields."""
    if not isinstance(value, dict) or set(value) != set(names):
        found = ascii(",".join(sorted(value)))[1:80] if isinstance(value, dict) else "none"
        raise ValueError(f'has fields "{found}", expected "{",".join(sorted(names))}"')
    return value


def items(value: Any, most: int) -> list[Any]:
    """A list of at most so many."""
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"has {ascii(value)[:_SHOWN]}, expected a list of at most {most}")
    return value


def whole(value: Any, low: int, high: int) -> int:
    """A whole number within limits; no boolean."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"has number {ascii(value)[:_SHOWN]}, expected {low}..{high}")
    return value


def thousandths(value: Any, low: float, high: float) -> float:
    """A number that is stored in thousandths, within limits."""
    return whole(value, round(1000 * low), round(1000 * high)) / 1000


def hexadecimal(value: Any, digits: int) -> str:
    """So many hex digits, in lower case."""
    if not isinstance(value, str) or len(value) != digits or set(value) - set("0123456789abcdef"):
        raise ValueError(f"has {ascii(value)[:_SHOWN]}, expected {digits} lower-case hex digits")
    return value


def one_of(value: Any, allowed: Collection[Any]) -> Any:
    """One of these values, of the same type."""
    if not any(type(value) is type(x) and value == x for x in allowed):
        expected = ", ".join(str(x) for x in allowed)
        raise ValueError(f"has {ascii(value)[:_SHOWN]}, expected one of {expected}")
    return value


def moment(value: Any) -> str:
    """UTC, in whole seconds: 2024-01-31T12:00:00Z."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("has a time of creation that is none")
    return value

"""Numbers as tables show them: a minus sign, never minus zero, ∞ where there is no end."""

from __future__ import annotations

import math

from primis.metrics.estimate import Estimate

LEAST_FOR_INTERVAL = 3
"""Values that an interval needs: of two, Student's t reaches twelve standard errors either way."""


def plain(value: float, digits: int = 2) -> str:
    """-0.004 -> 0.00."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−").replace("inf", "∞")


def signed(value: float, digits: int = 2) -> str:
    """With its sign, unless it is zero."""
    text = plain(value, digits)
    return text if text.startswith("−") or float(f"{value:.{digits}f}") == 0 else f"+{text}"


def with_sd(value: float, sd: float | None, digits: int = 2) -> str:
    """mean ± SD; without one, the mean."""
    return plain(value, digits) if sd is None else f"{plain(value, digits)} ± {plain(sd, digits)}"


def with_interval(found: Estimate, digits: int = 2) -> str:
    """value (low to high)."""
    return f"{plain(found.value, digits)} ({known_interval(found, digits)})"


def known_interval(found: Estimate, digits: int = 2) -> str:
    """The interval of an estimate; a dash where too few values tell nothing."""
    if found.n < LEAST_FOR_INTERVAL or not math.isfinite(found.high - found.low):
        return "–"
    return interval(found.low, found.high, digits)


def interval(low: float, high: float, digits: int = 2) -> str:
    """low to high."""
    return f"{plain(low, digits)} to {plain(high, digits)}"

"""A metric with its interval. NumPy and SciPy stay out: who reads results needs neither."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value, its interval and how many values it is of.

    sd: of these, None where there are none.
    """

    value: float
    low: float
    high: float
    n: int
    sd: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

"""What the tables of results share: reading results, and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primis.metrics.estimate import Estimate

HERE = Path(__file__).parent


def result(name: str) -> dict[str, Any]:
    """One file of results."""
    body: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return body


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def with_interval(e: Estimate, digits: int = 2) -> str:
    """A value and its 95 % interval."""
    value, low, high = (_rounded(x, digits) for x in (e.value, e.low, e.high))
    return f"{value} ({low} to {high})"


def with_sd(value: float, sd: float | None, digits: int = 2) -> str:
    """A mean and the standard deviation of what it is of."""
    return f"{value:.{digits}f} ± {sd:.{digits}f}"


def _rounded(value: float, digits: int) -> str:
    """Without a negative zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"

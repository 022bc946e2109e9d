"""What the tables of results share: reading results, and Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MECHANISMS = {"paper": "level sca, preset paper", "sca": "level sca", "keyed": "level keyed"}


def result(name: str) -> dict[str, Any]:
    """One file of results."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body]
    )


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def estimate(e: dict[str, Any], digits: int = 2, unit: str = "") -> str:
    """A figure and its 95 % interval."""
    value, low, high = (
        f"{round(e[name], digits) + 0.0:.{digits}f}" for name in ("value", "low", "high")
    )
    return f"{value}{unit} ({low} to {high})"

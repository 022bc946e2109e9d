"""A report as values: sections of texts, tables and figures, of which `html.py` makes a page."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

_HARD = "\N{NO-BREAK SPACE}"
_NUMBER = re.compile(r"[+\-−–<≤>≥(]?\s*(\d|inf|∞)|[–-]?$")
"""How a cell with a number starts; a cell without one is empty or a dash."""


@dataclass(frozen=True)
class Text:
    """A paragraph. Plain text; a caution is shown as one."""

    text: str
    caution: bool = False


@dataclass(frozen=True)
class Table:
    """title: what the table shows, and which of the paper's it stands for; rows: one text a column,
    as many as columns, in which a line break stays one; facts: data, split, n, seed, commit and
    whatever else a reader must know, by name; bold: cells to mark, (row, column).
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    facts: dict[str, str] = field(default_factory=dict)
    bold: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        if wrong := next((row for row in self.rows if len(row) != len(self.columns)), None):
            raise ValueError(
                f'table "{self.title}" has a row of {len(wrong)} cells, '
                f"expected {len(self.columns)}"
            )

    @property
    def numeric(self) -> tuple[bool, ...]:
        """By column, whether it holds numbers and nothing else, and so is set to the right."""
        cells = [[row[column] for row in self.rows] for column in range(len(self.columns))]
        return tuple(any(texts) and all(_NUMBER.match(text) for text in texts) for texts in cells)

    @property
    def characters(self) -> int:
        """How many beside each other the table asks for where its lines break at spaces only."""
        return sum(_wide(self, column) + _GAP for column in range(len(self.columns)))

    @property
    def print_classes(self) -> str:
        """How it is set in print: across the page, smaller, on one page."""
        asked = self.characters
        size = "crowded" if asked > _TIGHT else "tight" if asked > _LANDSCAPE else ""
        across = "wide" if asked > _PORTRAIT else ""
        short = "short" if len(self.rows) <= _SHORT else ""
        return " ".join(name for name in (across, size, short) if name)

    @property
    def starts(self) -> tuple[bool, ...]:
        """By row, whether it begins another group: rows in a row that share their first cell.

        None do if all differ.
        """
        first = [row[0] for row in self.rows]
        begins = [above != cell for above, cell in itertools.pairwise(first)]
        return (False, *begins) if not all(begins) else (False,) * len(first)


@dataclass(frozen=True, eq=False)
class Figure:
    """title: as of a table; png: the picture, drawn for print; alt: what it shows, for those who
    cannot see it.
    """

    title: str
    png: bytes = field(repr=False)
    alt: str
    facts: dict[str, str] = field(default_factory=dict)


Block = Text | Table | Figure

_PORTRAIT, _LANDSCAPE, _TIGHT, _SHORT = 112, 168, 205, 20
"""Characters beside each other on an upright page, across it, and across it in smaller type; rows
on a page.
"""

_GAP, _WORDS = 2, 14
"""Characters that the space beside a column takes, and that a column of words needs at most."""


def _wide(table: Table, column: int) -> int:
    """Characters of a column."""
    pieces = joined(table.columns[column]).split(" ")
    for row in table.rows:
        lines = joined(row[column]).split("\n")
        pieces += lines if not table.numeric[column] else " ".join(lines).split(" ")
    longest = max(map(len, pieces), default=0)
    return longest if table.numeric[column] else min(longest, _WORDS)


@dataclass(frozen=True, eq=False)
class Section:
    """name: short, for links (fidelity); title: for people."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Document:
    """title; facts: of the whole run; sections, in order."""

    title: str
    facts: dict[str, str]
    sections: tuple[Section, ...]


def stated(facts: dict[str, str]) -> str:
    """Facts in one line, as they stand under a table."""
    return " · ".join(f"{name} {text}" for name, text in facts.items())


def joined(text: str) -> str:
    """Text that breaks before a deviation or an interval, and nowhere within."""
    held = re.sub(r"\(([^()]* to [^()]*)\)", lambda m: m[0].replace(" ", _HARD), text)
    return held.replace(" ± ", f" ±{_HARD}").replace(" %", f"{_HARD}%")


def lowered(markup: str) -> str:
    """Markup with the index of S_x and S_n set as one."""
    return re.sub(r"\bS_([xn])\b", r"S<sub>\1</sub>", markup)

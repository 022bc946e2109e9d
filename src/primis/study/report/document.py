"""A report as values: sections of texts, tables and figures, which `html.py` and `pdf.py` show alike."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

_FIGURE = re.compile(r"[+\-−–<≤>≥(]?\s*(\d|inf|∞)|[–-]?$")
"""How a cell with a figure starts; a cell without one is empty or a dash."""


@dataclass(frozen=True)
class Text:
    """A paragraph. Plain text; a caution is shown as one."""

    text: str
    caution: bool = False


@dataclass(frozen=True)
class Table:
    """title: what the table shows, and which of the paper's it stands for; rows: one text a column, as many as columns,
    in which a line break stays one; facts: data, split, n, seed, commit and whatever else a reader must know, by name;
    bold: cells to mark, (row, column)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    facts: dict[str, str] = field(default_factory=dict)
    bold: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        if wrong := next((row for row in self.rows if len(row) != len(self.columns)), None):
            raise ValueError(
                f'table "{self.title}" has a row of {len(wrong)} cells, expected {len(self.columns)}'
            )

    @property
    def numeric(self) -> tuple[bool, ...]:
        """By column, whether it holds figures and nothing else, and so is set to the right."""
        cells = [[row[column] for row in self.rows] for column in range(len(self.columns))]
        return tuple(any(texts) and all(_FIGURE.match(text) for text in texts) for texts in cells)

    @property
    def starts(self) -> tuple[bool, ...]:
        """By row, whether it begins another group: rows in a row that share their first cell. None do if all differ."""
        first = [row[0] for row in self.rows]
        begins = [above != cell for above, cell in itertools.pairwise(first)]
        return (False, *begins) if not all(begins) else (False,) * len(first)


@dataclass(frozen=True, eq=False)
class Figure:
    """title: as of a table; png: the picture, drawn for print; alt: what it shows, for those who cannot see it."""

    title: str
    png: bytes = field(repr=False)
    alt: str
    facts: dict[str, str] = field(default_factory=dict)


Block = Text | Table | Figure


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


def lowered(markup: str) -> str:
    """Markup with the index of S_x and S_n set as one."""
    return re.sub(r"\bS_([xn])\b", r"S<sub>\1</sub>", markup)

"""A report as values: sections of texts, tables and figures, which `html.py` and `pdf.py` show alike."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Text:
    """A paragraph. Plain text; a caution is shown as one."""

    text: str
    caution: bool = False


@dataclass(frozen=True)
class Table:
    """title: what the table shows, and which of the paper's it stands for; rows: one text a column, as many as columns;
    facts: data, split, n, seed, commit and whatever else a reader must know, by name; bold: cells to mark, (row, column)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    facts: dict[str, str] = field(default_factory=dict)
    bold: frozenset[tuple[int, int]] = frozenset()


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

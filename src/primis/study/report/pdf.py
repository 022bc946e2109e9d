"""A report as PDF: A4, with an outline, contents and page numbers. The same document gives the same bytes.

A table that is too wide for a page is set smaller, then on a page turned sideways.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import registerFont, registerFontFamily, stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    LongTable,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    TableStyle,
)
from reportlab.platypus.tableofcontents import TableOfContents

from primis.study.report.document import (
    Document,
    Figure,
    Section,
    Table,
    Text,
    lowered,
    stated,
)

_REGULAR, _BOLD = "primis", "primis-bold"
_SIDE, _TOP = 17 * mm, 20 * mm
_UPRIGHT, _SIDEWAYS = "upright", "sideways"
_PAGES = {_UPRIGHT: A4, _SIDEWAYS: landscape(A4)}
_TRIES = [(_UPRIGHT, size) for size in (7.6, 7.1, 6.6)] + [
    (_SIDEWAYS, size) for size in (7.6, 7.1, 6.6, 6.1, 5.6)
]
"""How a page is turned and the type size of a table on it, in points; the first that it fits."""
_PAD, _TEXT, _WORD = 4.0, 80.0, 220.0
"""Points beside a cell; the width that a column of words asks for at least; the longest word that is not broken."""
_INK, _SOFT, _LINE, _SHADE = (
    colors.HexColor(c) for c in ("#1c1e21", "#5b6066", "#d5d8dc", "#f5f6f8")
)
_PART, _PART_PAGE = colors.HexColor("#9a5b00"), colors.HexColor("#fdf3e3")


def render(document: Document) -> bytes:
    """The PDF."""
    _fonts()
    contents = TableOfContents(dotsMinLevel=0)
    contents.tableStyle = TableStyle(
        [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")]
    )
    contents.levelStyles = [
        _style("part", 8.6, _BOLD, before=7),
        _style("item", 7.4, left=10, before=2.5, right=30),
    ]
    story: list[Flowable] = [
        Paragraph(_marked(document.title), _style("title", 17, _BOLD, after=10)),
        *_run(document.facts),
    ]
    story += [
        Paragraph("Contents", _style("heading", 12.5, _BOLD, before=18, after=4)),
        contents,
        PageBreak(),
    ]
    turned = _UPRIGHT
    for section in document.sections:
        for way, flowables in _section(section):
            story += [NextPageTemplate(way), PageBreak()] if way != turned else []
            story += flowables
            turned = way
    out = io.BytesIO()
    _Paper(out, document.title).multiBuild(story)
    return out.getvalue()


class _Paper(BaseDocTemplate):  # type: ignore[misc]
    """A4 upright and sideways; keeps the outline and the contents as headings go by."""

    def __init__(self, out: io.BytesIO, title: str) -> None:
        super().__init__(
            out,
            pagesize=A4,
            title=title,
            author="primis",
            subject="evaluation of primis",
            creator="primis",
            lang="en",
            invariant=1,
        )
        self.total = self.last = 0
        for name, size in _PAGES.items():
            frame = Frame(_SIDE, _TOP, *_room(name), 0, 0, 0, 0)
            self.addPageTemplates(PageTemplate(name, [frame], onPage=_furniture, pagesize=size))

    def beforeDocument(self) -> None:  # noqa: N802
        self.total = self.last  # of the pass before

    def afterPage(self) -> None:  # noqa: N802
        self.last = self.page

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802
        if (heading := getattr(flowable, "heading", None)) is not None:
            level, text, key = heading
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(text, key, level, closed=level == 0)
            self.notify("TOCEntry", (level, _marked(text), self.page, key))


def _furniture(canvas: Any, paper: _Paper) -> None:
    """Running title and page number."""
    width, height = canvas._pagesize
    canvas.saveState()
    canvas.setFillColor(_SOFT)
    canvas.setFont(_REGULAR, 7)
    if paper.page > 1:
        most = int((width - 2 * _SIDE) / 4.2)
        canvas.drawString(
            _SIDE,
            height - 13 * mm,
            paper.title if len(paper.title) <= most else f"{paper.title[: most - 1]}…",
        )
    canvas.drawRightString(width - _SIDE, 12 * mm, f"{paper.page} / {paper.total}")
    canvas.restoreState()


def _section(section: Section) -> Iterator[tuple[str, list[Flowable]]]:
    """Flowables, and how their page is turned; the heading and texts stand with the table or figure that they precede."""
    waiting, way = [_heading(section.title, section.name, 0)], _UPRIGHT
    room: list[Flowable] = [CondPageBreak(75 * mm)]
    for number, block in enumerate(section.blocks, 1):
        if isinstance(block, Text):
            waiting.append(_text(block))
        else:
            way, parts, whole = _titled(block, f"{section.name}-{number}")
            if whole and _tall(waiting + parts, way) < 0.95 * _room(way)[1]:
                yield way, [*room, KeepTogether(waiting + parts)]
            else:
                yield (
                    way,
                    room
                    + waiting
                    + ([KeepTogether(parts)] if whole else [CondPageBreak(60 * mm), *parts]),
                )
            waiting, room = [], []
    yield way, room + waiting


def _titled(block: Table | Figure, key: str) -> tuple[str, list[Flowable], bool]:
    """A table or a figure under its title and above its facts; how its page is turned; whether to keep it in one piece, which
    long tables would pay for with a large gap before them."""
    title = _heading(block.title, key, 1)
    facts = Paragraph(
        _marked(stated(block.facts)), _style("facts", 6.5, before=3, after=12, color=_SOFT)
    )
    if isinstance(block, Figure):
        return _UPRIGHT, [title, _figure(block), facts], True
    way, grids = _table(block)
    return way, [title, *grids, facts], _tall([title, *grids, facts], way) <= 0.6 * _room(way)[1]


def _tall(flowables: list[Flowable], way: str) -> float:
    """The height of it all on one long page."""
    width, height = _room(way)
    heights = (
        part.wrap(width, 100 * height)[1] + part.getSpaceBefore() + part.getSpaceAfter()
        for part in flowables
    )
    return float(sum(heights))


def _table(table: Table) -> tuple[str, list[Flowable]]:
    """How its page is turned, and the table; in parts one below the other, each with the first column, if no page is as wide."""
    for way, size in _TRIES:
        if sum(_widths(table, size)[0]) <= _room(way)[0]:
            return way, [_grid(table, way, size)]
    if len(table.columns) <= 2:
        return way, [_grid(table, way, size)]
    middle = (len(table.columns) + 1) // 2
    parts = [[0, *range(1, middle)], [0, *range(middle, len(table.columns))]]
    return way, [grid for part in parts for grid in _table(_columns(table, part))[1]]


def _columns(table: Table, kept: list[int]) -> Table:
    """The table with some of its columns."""
    rows = tuple(tuple(row[column] for column in kept) for row in table.rows)
    bold = frozenset(
        (row, new)
        for new, column in enumerate(kept)
        for row in range(len(rows))
        if (row, column) in table.bold
    )
    return Table(table.title, tuple(table.columns[column] for column in kept), rows, bold=bold)


def _grid(table: Table, way: str, size: float) -> Flowable:
    """The table, drawn."""
    widths = _shared_out(*_widths(table, size), _room(way)[0])
    words = _style(f"words-{size}", size)
    heads = [
        _style(f"head-{size}-{right}", size, _BOLD, alignment=2 if right else 0)
        for right in (False, True)
    ]
    head = [
        Paragraph(_marked(text), heads[right])
        for text, right in zip(table.columns, table.numeric, strict=True)
    ]
    body = [
        [
            cell if right else Paragraph(_marked(cell, (row, column) in table.bold), words)
            for column, (cell, right) in enumerate(zip(cells, table.numeric, strict=True))
        ]
        for row, cells in enumerate(table.rows)
    ]
    grid = LongTable(
        [head, *body], widths, repeatRows=1, hAlign="LEFT", spaceAfter=4, style=_rules(table, size)
    )
    grid.wrap(*_room(way))
    grid.splitInRow = int(max(grid._rowHeights) > 0.8 * _room(way)[1])  # a row that no page holds
    return grid


def _rules(table: Table, size: float) -> list[tuple[Any, ...]]:
    """Lines, type, and where cells are set."""
    everything, head = ((0, 0), (-1, -1)), ((0, 0), (-1, 0))
    rules: list[tuple[Any, ...]] = [
        ("FONT", *everything, _REGULAR, size, 1.3 * size), ("TEXTCOLOR", *everything, _INK), ("VALIGN", *everything, "TOP"),
        ("VALIGN", *head, "BOTTOM"), ("LEFTPADDING", *everything, _PAD), ("RIGHTPADDING", *everything, _PAD),
        ("TOPPADDING", *everything, 2), ("BOTTOMPADDING", *everything, 2.2), ("LINEABOVE", *head, 0.9, _INK),
        ("LINEBELOW", *head, 0.5, _INK), ("LINEBELOW", (0, "splitlast"), (-1, "splitlast"), 0.3, _SOFT),
        ("LINEBELOW", (0, -1), (-1, -1), 0.9, _INK), ("ROWBACKGROUNDS", (0, 1), (-1, -1), (None, _SHADE)),
    ]  # fmt: skip
    rules += [
        ("ALIGN", (column, 1), (column, -1), "RIGHT")
        for column, right in enumerate(table.numeric)
        if right
    ]
    rules += [
        ("FONT", (column, row + 1), (column, row + 1), _BOLD, size, 1.3 * size)
        for row, column in sorted(table.bold)
    ]
    return rules + [
        ("LINEABOVE", (0, row + 1), (-1, row + 1), 0.4, _SOFT)
        for row, starts in enumerate(table.starts)
        if starts
    ]


def _widths(table: Table, size: float) -> tuple[list[float], list[float]]:
    """By column, the least width that it asks for, and the width at which nothing wraps."""
    least, natural = [], []
    for column, (head, right) in enumerate(zip(table.columns, table.numeric, strict=True)):
        lines = [
            (line, (row, column) in table.bold)
            for row, cells in enumerate(table.rows)
            for line in cells[column].split("\n")
        ]
        full = max((_wide(line, size, bold) for line, bold in lines), default=0.0)
        words = max(
            (_wide(word, size, bold) for line, bold in lines for word in line.split()), default=0.0
        )
        cell = full if right else min(full, max(min(words, _WORD), _TEXT))
        least.append(
            max(cell, *(_wide(word, size, True) for word in head.split()), 0.0) + 2 * _PAD + 0.5
        )
        natural.append(max(full, min(_wide(head, size, True), 1.5 * full)) + 2 * _PAD + 0.5)
    return least, [max(pair) for pair in zip(least, natural, strict=True)]


def _shared_out(least: list[float], natural: list[float], room: float) -> list[float]:
    """Widths of the columns in the room that there is; short of that, words are broken."""
    if sum(least) > room:
        return [width * room / sum(least) for width in least]
    if sum(natural) <= room:
        return [width * min(room / sum(natural), 1.3) for width in natural]
    share = (room - sum(least)) / (sum(natural) - sum(least))
    return [low + share * (high - low) for low, high in zip(least, natural, strict=True)]


def _figure(figure: Figure) -> Flowable:
    """As large as at 150 dots an inch, or as the page allows."""
    image = Image(io.BytesIO(figure.png), lazy=0, hAlign="LEFT")
    width, height = _room(_UPRIGHT)
    scale = min(72 / 150, width / image.imageWidth, 0.85 * height / image.imageHeight)
    image.drawWidth, image.drawHeight = scale * image.imageWidth, scale * image.imageHeight
    return image


def _text(text: Text) -> Flowable:
    if not text.caution:
        return Paragraph(_marked(text.text), _style("text", 8.6, after=6))
    frame = {
        "borderColor": _PART,
        "borderWidth": 0.8,
        "borderPadding": (5, 7, 6, 7),
        "backColor": _PART_PAGE,
    }
    return Paragraph(
        f"<b>Caution.</b> {_marked(text.text)}",
        _style("caution", 8.6, left=8, right=8, before=12, after=13, **frame),
    )


def _heading(text: str, key: str, level: int) -> Flowable:
    """What the outline and the contents list."""
    style = (
        _style("section", 13, _BOLD, before=14, after=7)
        if level == 0
        else _style("caption", 8.2, _BOLD, before=8, after=4)
    )
    paragraph = Paragraph(_marked(text), style)
    paragraph.heading = (level, text, key)
    return paragraph


def _run(facts: dict[str, str]) -> list[Flowable]:
    """Facts of the whole run, one a line."""
    name, text = _style("name", 7.8, color=_SOFT), _style("fact", 7.8)
    rows = [
        [Paragraph(_marked(key), name), Paragraph(_marked(value), text)]
        for key, value in facts.items()
    ]
    pads = [
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ]
    widths = [max(_wide(key, 7.8) for key in facts) + 14] if facts else []
    style = [*pads, ("VALIGN", (0, 0), (-1, -1), "TOP")]
    return (
        [LongTable(rows, [*widths, _room(_UPRIGHT)[0] - widths[0]], hAlign="LEFT", style=style)]
        if facts
        else []
    )


def _style(
    name: str, size: float, font: str = _REGULAR, *, before: float = 0, after: float = 0, left: float = 0, right: float = 0,
    color: Any = _INK, **more: Any,
) -> ParagraphStyle:  # fmt: skip
    return ParagraphStyle(
        name, fontName=font, fontSize=size, leading=1.35 * size, spaceBefore=before, spaceAfter=after, leftIndent=left,
        rightIndent=right, textColor=color, splitLongWords=1, **more,
    )  # fmt: skip


def _marked(text: str, bold: bool = False) -> str:
    """Text as a paragraph's markup."""
    safe = (
        lowered(escape(text)).replace("<sub>", '<sub rise="20%" size="76%">').replace("\n", "<br/>")
    )
    return f"<b>{safe}</b>" if bold else safe


def _wide(text: str, size: float, bold: bool = False) -> float:
    return float(stringWidth(text, _BOLD if bold else _REGULAR, size))


def _room(way: str) -> tuple[float, float]:
    """Width and height inside the margins."""
    width, height = _PAGES[way]
    return width - 2 * _SIDE, height - 2 * _TOP


@cache
def _fonts() -> None:
    """DejaVu Sans, as matplotlib brings it, which has every sign in use."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name, file in ((_REGULAR, "DejaVuSans.ttf"), (_BOLD, "DejaVuSans-Bold.ttf")):
        registerFont(TTFont(name, str(folder / file)))
    registerFontFamily(_REGULAR, normal=_REGULAR, bold=_BOLD, italic=_REGULAR, boldItalic=_BOLD)

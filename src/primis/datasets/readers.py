"""Readers of published layouts. Each takes a corpus' folder and its Layout and gives samples and
notes.

An image's label is one word. Where a corpus names several findings it is "normal" for none,
"pneumonia" for an image with that finding whatever else it shows, the finding's own name in lower
case where it is the only one, and None otherwise. Only frontal views are taken, where a table
tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from primis.datasets.catalogue import Layout, first_of
from primis.datasets.sample import Sample
from primis.datasets.tables import Reading, missing_note, rows_of, sex, years
from primis.errors import UnreadableImage, UsageError
from primis.imaging.files import read

Row = Mapping[str, str]

_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_layout(root: Path, layout: Layout) -> Reading:
    """The samples of a corpus in the layout its publisher chose. Raises UsageError."""
    reading = _by_findings(root, layout) if layout.reader == "findings" else _by_names(root, layout)
    if not reading.samples:
        raise UsageError(
            f'folder "{root}" has none of the images that layout "{layout.name}" expects'
        )
    return Reading(reading.samples, (*layout.notes, *layout.handling, *reading.notes))


def _by_findings(root: Path, layout: Layout) -> Reading:
    """Of a corpus whose tables name images and what they show."""
    places, listed, samples, notes = (
        _Places(root, layout),
        _listed(root, layout),
        dict[str, Sample](),
        list[str](),
    )
    for entry in layout.tables:
        if (table := first_of(root, entry["table"])) is None:
            continue
        images = _rows_by_image(table, layout)
        frontal = {file: rows for file, rows in images.items() if _is_frontal(rows[0], layout)}
        missing = 0
        for file, rows in frontal.items():
            split = entry.get("split") or listed.get(file)
            if (path := places.of(file, split or "")) is None:
                missing += 1
            else:
                name = path.relative_to(root).as_posix()
                samples[name] = _of_rows(path, name, rows, split, layout)
        if aside := len(images) - len(frontal):
            of = f"{aside} of {len(images)} images in the table"
            notes.append(f"{of} are no frontal views and were left out")
        notes += [missing_note(missing, len(frontal))] if missing else []
    return Reading(_with_true_spacing(tuple(samples.values()), layout), tuple(notes))


class _Places:
    """Where the images that a table names lie."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root, self._where = root, layout.where
        anywhere = any(pattern.startswith("**/") for pattern in layout.where)
        self._by_name = (
            {path.name: path for path in sorted(root.rglob("*"), reverse=True)} if anywhere else {}
        )

    def of(self, file: str, split: str) -> Path | None:
        tail = "/".join(file.split("/")[1:])
        for pattern in self._where:
            place = pattern.format(file=file, split=split, tail=tail)
            path = self._by_name.get(place[3:]) if place.startswith("**/") else self._root / place
            if path is not None and path.is_file():
                return path
        return None


def _listed(root: Path, layout: Layout) -> dict[str, str]:
    """image -> part of the split, from lists of images."""
    found: dict[str, str] = {}
    for part, name in layout.lists.items():
        if (path := root / name).is_file():
            found |= dict.fromkeys(path.read_text("utf-8-sig", errors="replace").split(), part)
    return found


def _rows_by_image(table: Path, layout: Layout) -> dict[str, list[Row]]:
    """Several rows of an image are as many readers' opinions."""
    column, images = layout.columns["file"], dict[str, list[Row]]()
    for row in _lines_of(table) if table.suffix == ".txt" else rows_of(table, (column,)):
        if row.get(column):
            images.setdefault(row[column], []).append(row)
    return images


def _lines_of(table: Path) -> list[Row]:
    """Lines of COVIDx: patient, file (perhaps with blanks), class, in later versions the source."""
    lines = [line.split() for line in table.read_text("utf-8-sig", errors="replace").splitlines()]
    rows: list[Row] = []
    for words in (words for words in lines if len(words) > 2):
        named = next(
            (
                n
                for n, word in enumerate(words)
                if n and PurePosixPath(word).suffix.lower() in _SUFFIXES
            ),
            1,
        )
        patient = " ".join([words[0], *words[named + 2 :]])  # sources number their patients alike
        rows.append(
            {
                "patientid": patient,
                "filename": " ".join(words[1 : named + 1]),
                "class": words[min(named + 1, len(words) - 1)],
            }
        )
    return rows


def _is_frontal(row: Row, layout: Layout) -> bool:
    return not layout.frontal or row.get(layout.columns["view"], "") in layout.frontal


def _of_rows(path: Path, name: str, rows: list[Row], split: str | None, layout: Layout) -> Sample:
    def cell(key: str) -> str:
        return next(
            (rows[0][c] for c in layout.columns.get(key, "").split("|") if c in rows[0]), ""
        )

    match = re.search(layout.patient, name) if layout.patient else None
    age = _between(cell("born"), cell("date")) if "born" in layout.columns else years(cell("age"))
    patient = match[0] if match else cell("patient") or path.stem
    return Sample(
        path,
        name,
        patient,
        _label(rows, layout),
        split,
        (),
        age,
        sex(cell("sex")),
        _spacing(rows[0], layout),
    )


def _between(born: str, date: str) -> float | None:
    """Years from a year of birth ("1950", "1950.0") to a date ("20130215")."""
    known = re.match(r"\d{4}", born) and re.match(r"\d{4}", date)
    return years(str(int(date[:4]) - int(born[:4]))) if known else None


def _label(rows: list[Row], layout: Layout) -> str | None:
    findings, doubt = _findings(rows, layout)
    words = {layout.word(finding) for finding in findings} - set(layout.ignored)
    if "pneumonia" in words:
        return "pneumonia"
    return words.pop() if len(words) == 1 and not doubt else None


def _findings(rows: list[Row], layout: Layout) -> tuple[set[str], bool]:
    """(findings, whether another is uncertain)."""
    if column := layout.columns.get("findings"):
        cell = rows[0].get(column, "").strip("[]")
        parts = cell.split(layout.separator) if layout.separator else [cell]
        return {part.strip(" '\"") for part in parts} - {""}, False
    others = [key for key in rows[0] if key and key not in layout.columns.values()]
    votes = {key: [_vote(row[key]) for row in rows] for key in others}
    found = {
        key for key, given in votes.items() if sum(vote == 1 for vote in given) * 2 > len(given)
    }
    return found, any(
        vote == -1
        for key, given in votes.items()
        for vote in given
        if layout.word(key) not in layout.ignored
    )


def _vote(cell: str) -> int:
    try:
        return round(float(cell or 0))
    except ValueError:
        return 0


def _spacing(row: Row, layout: Layout) -> tuple[float, float] | None:
    """Between rows and between columns, of an image that was scaled from the size in its row."""
    how = layout.spacing
    try:
        one, other = (
            float(row[str(how[a])]) * float(row[str(how[b])]) / int(how["size"])
            for a, b in (("row", "height"), ("column", "width"))
        )
    except (KeyError, ValueError):
        return None
    return (one, other) if one > 0 and other > 0 else None


def _with_true_spacing(samples: tuple[Sample, ...], layout: Layout) -> tuple[Sample, ...]:
    """Without spacing where the images are not of the size that they were published in."""
    if not layout.spacing or not samples:
        return samples
    try:
        height, width = read(samples[0].file)[0].shape[1:3]
    except UnreadableImage:
        height = width = 0
    return (
        samples
        if height == width == layout.spacing["size"]
        else tuple(replace(s, spacing_mm=None) for s in samples)
    )


def _by_names(root: Path, layout: Layout) -> Reading:
    """Of a corpus whose folders and files are named for what they are."""
    files = sorted(
        {path for pattern in layout.images for path in root.glob(pattern) if _is_image(path)}
    )
    return Reading(tuple(_of_name(root, path, layout) for path in files), ())


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _of_name(root: Path, path: Path, layout: Layout) -> Sample:
    name, told = path.relative_to(root), layout.parse(path.stem) or {}
    text = _text(root / layout.readings.format(stem=path.stem)) if layout.readings else ""
    gender = re.search(r"sex:\s*([fm])|\b([fm])(?:em)?al", text.split("\n")[0], re.IGNORECASE)
    masks = ([root / place.format(stem=path.stem) for place in places] for places in layout.masks)
    return Sample(
        path,
        name.as_posix(),
        told.get("patient", path.stem),
        layout.word(told.get("label") or path.parent.name),
        layout.splits.get(name.parts[0]),
        next((tuple(m) for m in masks if all(p.is_file() for p in m)), ()),
        years(text),
        sex(gender[1] or gender[2]) if gender else None,
        (layout.spacing_mm[0], layout.spacing_mm[1]) if layout.spacing_mm else None,
    )


def _text(path: Path) -> str:
    return path.read_text("utf-8-sig", errors="replace") if path.is_file() else ""

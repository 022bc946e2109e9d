"""Tables of images, and the words in them: ages, sexes, parts of a split.

A table of one's own has the columns `file`, `label` and `patient`, and any of `split`, `mask`,
`age` and `sex`. Its files lie beside it; several masks are set apart by semicolons; an age is in
years unless a unit follows (27, 027Y, 8M).
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from primis.datasets.sample import Sample
from primis.errors import UsageError

REQUIRED = ("file", "label", "patient")
"""Columns that make a table one of ours."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([ymwd]?)", re.IGNORECASE)
_PER_YEAR = {"": 1.0, "y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_OLDEST = 100
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


class Reading(NamedTuple):
    """What a reader found: samples, and what people should know of them."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


def header_of(table: Path) -> list[str]:
    """Names of the columns, however the table is encoded. Raises UsageError."""
    with _opened(table, errors="replace") as file:
        return [name.strip() for name in next(csv.reader(file), [])]


def rows_of(table: Path, needed: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """The rows, by column; an empty cell is "". Raises UsageError if a needed column is missing."""
    header = header_of(table)
    if lacking := [name for name in needed if name not in header]:
        raise UsageError(
            f'table "{table}" has no column "{lacking[0]}", '
            f'expected "{", ".join(needed)}" with commas between them'
        )
    with _opened(table) as file:
        rows = csv.DictReader(file)
        return [
            {key.strip(): (cell or "").strip() for key, cell in row.items() if isinstance(key, str)}
            for row in rows
        ]


def read_table(table: Path) -> Reading:
    """The samples of a table of one's own. Raises UsageError."""
    rows = rows_of(table, REQUIRED)
    root, samples, missing, unmasked, alone = table.parent, {}, 0, 0, 0
    for line, row in enumerate(rows, 2):
        name = row["file"].replace("\\", "/")
        path = root / name
        if not name or not path.is_file():
            missing += 1
            continue
        if name in samples:
            raise UsageError(f'table "{table}" names "{name}" twice, again in line {line}')
        masks, absent = _masks_of(root, row.get("mask", ""))
        unmasked += absent
        alone += not row["patient"]
        samples[name] = Sample(
            path,
            name,
            row["patient"] or name,
            row["label"] or None,
            _split_of(table, line, row.get("split", "")),
            masks,
            years(row.get("age", "")),
            sex(row.get("sex", "")),
        )
    if not samples:
        raise UsageError(
            f'table "{table}" names {len(rows)} images, '
            "expected at least one of them on disk, from the table's folder"
        )
    notes = [missing_note(missing, len(rows))] if missing else []
    notes += [f"{unmasked} masks in the table are not on disk"] if unmasked else []
    notes += (
        [f"{alone} images have no patient in the table; each is taken for a patient of its own"]
        if alone
        else []
    )
    return Reading(tuple(samples.values()), tuple(notes))


def missing_note(missing: int, total: int) -> str:
    """For people, about images that are not there."""
    return f"{missing} of {total} images in the table are not on disk"


def years(text: str) -> float | None:
    """The first age in a text; None where there is none, or it is above 100: a typing error."""
    if not (match := _AGE.search(text)):
        return None
    age = float(match[1]) / _PER_YEAR[match[2].lower()]
    return age if age <= _OLDEST else None


def sex(text: str) -> str | None:
    """ "F" or "M" of a word for it."""
    first = text.strip()[:1].upper()
    return {"F": "F", "W": "F", "M": "M"}.get(first)


@contextmanager
def _opened(table: Path, errors: str = "strict") -> Iterator[TextIO]:
    zipped = table.suffix == ".gz"
    try:
        with gzip.open(table) if zipped else table.open("rb") as data:
            # with the mark that spreadsheets put first
            yield io.TextIOWrapper(data, "utf-8-sig", errors, newline="")
    except FileNotFoundError:
        raise UsageError(f'table "{table}" does not exist') from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error):
        raise UsageError(
            f'table "{table}" cannot be read, expected UTF-8 text with commas between columns'
        ) from None


def part_of(word: str) -> str | None:
    """ "train", "val" or "test" of a word for it."""
    return _SPLITS.get(word.lower())


def _masks_of(root: Path, cell: str) -> tuple[tuple[Path, ...], int]:
    """(masks on disk, how many are not)."""
    named = [root / name.strip().replace("\\", "/") for name in cell.split(";") if name.strip()]
    there = tuple(path for path in named if path.is_file())
    return there, len(named) - len(there)


def _split_of(table: Path, line: int, word: str) -> str | None:
    if word and part_of(word) is None:
        raise UsageError(
            f'table "{table}" has split "{word}" in line {line}, expected train, val or test'
        )
    return part_of(word)

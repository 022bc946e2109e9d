"""A report on disk: the page, its PDF, every number as JSON, and what they were made of as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from primis.atomic import reason, write_new
from primis.errors import OutputError
from primis.study.report.document import Document
from primis.study.report.html import page
from primis.study.report.pdf import PdfUnavailable, render

Csv = tuple[Sequence[str], Iterable[Sequence[Any]]]
"""(columns, rows)."""


def write(
    document: Document, folder: Path, data: dict[str, Any], csvs: Mapping[str, Csv]
) -> PdfUnavailable | None:
    """index.html, report.pdf, report.json (data) and NAME.csv for each of csvs.

    For their owner alone: pages show patients. All are made before the first is written, and each
    is there whole or not at all. Gives the reason where the PDF alone could not be made. Raises
    OutputError.
    """
    html, missing = page(document), None
    files = {"index.html": html.encode(), "report.json": as_json(data)}
    files |= {f"{name}.csv": as_csv(*table) for name, table in csvs.items()}
    try:
        files |= {"report.pdf": render(html)}
    except PdfUnavailable as error:
        missing = error
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be written: {reason(error)}') from None
    for name, content in files.items():
        write_new(folder / name, content, 0o600)
    return missing


def as_json(data: dict[str, Any]) -> bytes:
    """JSON as its standard has it: what is infinite or no number is null."""
    return (json.dumps(_plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Comma separated, UTF-8, a header; None is an empty cell; numbers at full precision."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row has {len(row)} cells, expected {len(columns)}")
        writer.writerow([cell.item() if isinstance(cell, np.generic) else cell for cell in row])
    return out.getvalue().encode()


def without_arrays(result: Any) -> dict[str, Any]:
    """What a result says in numbers and texts, by name of field; what it is of, image by image, are
    fields that no repr shows, and belongs into a CSV."""
    named = ((field.name, getattr(result, field.name)) for field in fields(result) if field.repr)
    return {name: value for name, value in named if not isinstance(value, np.ndarray)}


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value

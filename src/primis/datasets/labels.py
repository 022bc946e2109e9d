"""Labels of images that are to be shared, from a table: what a release's catalogue seals of each.

The table has a column `file`; every other column is a label. A row belongs to the image whose file
it names, from the table's folder, or to the image that is shared under that very name. Empty cells
are no labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from primis.datasets.tables import rows_of
from primis.errors import UsageError

FILE = "file"

MOST_BYTES = 4096
"""Of an image's labels: the longest make the catalogue larger for all images."""

File = tuple[Path, str]
"""Where a file is, and what it is shared as."""


@dataclass(frozen=True)
class Labels:
    """What a table says of images. note: what a person should know of it, or nothing."""

    _by_file: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict, repr=False)
    note: str = ""

    def of(self, file: Path, name: str) -> dict[str, str]:
        """By column; empty where there is no row."""
        return self._by_file.get((str(file.resolve()), name), {})


def read_labels(table: Path, files: Sequence[File]) -> Labels:
    """The labels of files. Raises UsageError for a table that has none of them, that names one
    twice or by a name of several, and for labels that take more than `MOST_BYTES`."""
    rows = rows_of(table, (FILE,))
    places, names = {_entry(file): (file, name) for file, name in files}, _Names(files)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for line, row in enumerate(rows, 2):
        said = row[FILE].replace("\\", "/")
        match = places.get(_entry(table.parent / said)) or names.get(said, table, line)
        if not said or match is None:
            continue
        key = (str(match[0].resolve()), match[1])
        if key in found:
            raise UsageError(f'table "{table}" names "{said}" twice, again in line {line}')
        found[key] = _labels(row, table, line)
    if not found:
        raise UsageError(
            f'table "{table}" names none of the images that are shared, expected their files or '
            f'names in column "{FILE}"'
        )
    return Labels(found, _note(table, len(rows), len(found), len(files)))


class _Names:
    """Files by the names that they are shared under."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files: dict[str, list[File]] = {}
        for file in files:
            self._files.setdefault(file[1], []).append(file)

    def get(self, said: str, table: Path, line: int) -> File | None:
        """Raises UsageError for a name of several files."""
        matching = self._files.get(str(PurePosixPath(said)), [])
        if len(matching) > 1:
            raise UsageError(
                f'table "{table}" names "{said}" in line {line}, and {len(matching)} images have '
                "that name: expected a path from the table's folder"
            )
        return matching[0] if matching else None


def _entry(path: Path) -> str:
    """A place, whatever leads to its folder; links of different names are different images."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _labels(row: dict[str, str], table: Path, line: int) -> dict[str, str]:
    labels = {name: text for name, text in row.items() if name and text and name != FILE}
    size = sum(len(name.encode()) + len(text.encode()) for name, text in labels.items())
    if size > MOST_BYTES:
        raise UsageError(
            f'table "{table}" has labels of {size} bytes in line {line}, '
            f"expected at most {MOST_BYTES}"
        )
    return labels


def _note(table: Path, rows: int, found: int, files: int) -> str:
    said = []
    if found < files:
        said.append(f"{files - found} of {files} images have no row and get no labels")
    if found < rows:
        said.append(f"{rows - found} of {rows} rows name no image that is shared")
    return f'table "{table}": {"; ".join(said)}' if said else ""

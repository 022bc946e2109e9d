"""Labels of images that are to be shared, from a table: what a release's catalogue seals of each.

The table has a column `file`; every other column is a label. A row belongs to the image whose file
it names, from the table's folder, or to the image that is shared under that very name. Of a series
any file may be named, and each with the same labels. Empty cells are no labels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from primis.datasets.files import Source
from primis.datasets.tables import rows_of
from primis.errors import UsageError

FILE = "file"

MOST_BYTES = 4096
"""Of an image's labels: the longest make the catalogue larger for all images."""


@dataclass(frozen=True)
class Labels:
    """What a table says of images. note: what a person should know of it, or nothing."""

    _by_file: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict, repr=False)
    note: str = ""

    def of(self, file: Path, name: str) -> dict[str, str]:
        """Of an image by its first file; empty where there is no row."""
        return self._by_file.get((str(file.resolve()), name), {})


def read_labels(table: Path, sources: Sequence[Source]) -> Labels:
    """The labels of images. Raises UsageError for a table that has none of them, that names one
    twice or by a name of several, and for labels that take more than `MOST_BYTES`."""
    rows = rows_of(table, (FILE,))
    places = {_entry(file): source for source in sources for file, _ in source.files}
    names = _Names(sources)
    found: dict[tuple[str, str], dict[str, str]] = {}
    matched = 0
    for line, row in enumerate(rows, 2):
        said = row[FILE].replace("\\", "/")
        match = places.get(_entry(table.parent / said)) or names.get(said, table, line)
        if not said or match is None:
            continue
        matched += 1
        key, labels = (str(match.place.resolve()), match.name), _labels(row, table, line)
        if key in found and not (match.is_series and found[key] == labels):
            raise UsageError(f'table "{table}" names "{said}" twice, again in line {line}')
        found[key] = labels
    if not found:
        raise UsageError(
            f'table "{table}" names none of the images that are shared, expected their files or '
            f'names in column "{FILE}"'
        )
    return Labels(found, _note(table, len(rows), matched, len(found), len(sources)))


class _Names:
    """Images by the names that they or their files are shared under."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources: dict[str, list[Source]] = {}
        for source in sources:
            for name in {source.name, *(name for _, name in source.files)}:
                self._sources.setdefault(name, []).append(source)

    def get(self, said: str, table: Path, line: int) -> Source | None:
        """Raises UsageError for a name of several images."""
        matching = self._sources.get(str(PurePosixPath(said)), [])
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


def _note(table: Path, rows: int, matched: int, found: int, images: int) -> str:
    said = []
    if found < images:
        said.append(f"{images - found} of {images} images have no row and get no labels")
    if matched < rows:
        said.append(f"{rows - matched} of {rows} rows name no image that is shared")
    return f'table "{table}": {"; ".join(said)}' if said else ""

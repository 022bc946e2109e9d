"""A table of several kinds of images, for training one model on all of them.

    python benchmarks/mix.py FOLDER TABLE OUT.csv

FOLDER holds one folder of single images per kind, besides what TABLE (columns file, split) lists.
TABLE's splits stay; of each folder named in KINDS every other image is for testing, of the others
every fifth for validation.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

KINDS = ("ct-2d", "ultrasound-2d")
_REPEAT = 3
"""How often the images of the smaller kinds are listed for training."""

Row = tuple[str, str]
"""File, split."""


def listed(table: Path) -> Iterator[Row]:
    """What the table has."""
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            yield str((table.parent / row["file"]).resolve()), row["split"]


def of_kind(folder: Path) -> Iterator[Row]:
    """The images of a kind."""
    files = sorted(path.resolve() for path in folder.rglob("*") if path.is_file())
    for number, path in enumerate(files[::2]):
        if number % 5 == 4:
            yield str(path), "val"
        else:
            yield from [(str(path), "train")] * _REPEAT
    for path in files[1::2]:
        yield str(path), "test"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "split"))
        writer.writerows(listed(arguments.table))
        for kind in KINDS:
            writer.writerows(of_kind(arguments.folder / kind))
    print(arguments.out)


if __name__ == "__main__":
    main()

"""A table of several kinds of images, for training one model on all of them.

    python benchmarks/mix.py FOLDER TABLE OUT.csv

FOLDER holds one folder of single images per kind, besides what TABLE (columns file, split) lists. TABLE's splits
stay; of each folder named in KINDS every other image is for testing, of the others every fifth for validation.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

KINDS = ("ct-2d", "mri-2d", "ultrasound-2d")
_REPEAT = 3
"""How often the images of the smaller kinds are listed for training."""


def rows(folder: Path, table: Path) -> list[tuple[str, str]]:
    """(file, split) of all kinds."""
    with table.open(newline="") as file:
        found = [
            (str((table.parent / row["file"]).resolve()), row["split"])
            for row in csv.DictReader(file)
        ]
    for kind in KINDS:
        files = sorted(path for path in (folder / kind).rglob("*") if path.is_file())
        kept = files[::2]
        for number, path in enumerate(kept):
            split = "val" if number % 5 == 4 else "train"
            found += [(str(path.resolve()), split)] * (_REPEAT if split == "train" else 1)
        found += [(str(path.resolve()), "test") for path in files[1::2]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "split"))
        writer.writerows(rows(arguments.folder, arguments.table))
    print(arguments.out)


if __name__ == "__main__":
    main()

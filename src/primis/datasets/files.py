"""Images on disk, as lists of files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from primis.errors import UsageError

_HIDDEN = ("DICOMDIR", "Thumbs.db", "desktop.ini")
_NOT_IMAGES = {".csv", ".md", ".txt", ".json", ".toml", ".html", ".pdf", ".xml", ".yaml", ".yml"}


def collect(inputs: Sequence[Path]) -> list[tuple[Path, str]]:
    """(file, name) of all inputs; folders are searched, and what lies in them is named from there.

    Passed over in folders: hidden files and folders, tables and texts, releases.

    Raises UsageError if an input does not exist or there is nothing.
    """
    found: dict[Path, str] = {}
    for path in inputs:
        if path.is_dir():
            for file in _files(path, {path.resolve()}):
                found.setdefault(file, file.relative_to(path).as_posix())
        elif path.exists():
            found.setdefault(path, path.name)
        else:
            raise UsageError(f'image "{path}" does not exist')
    if not found:
        raise UsageError(f'no image in "{", ".join(str(p) for p in inputs)}"')
    return list(found.items())


def _files(folder: Path, seen: set[Path]) -> list[Path]:
    """Files below a folder, but for hidden ones, those that are never images, and releases. seen: folders that a link may
    lead back to."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            ours = (path / "manifest.json").exists() or path.name.endswith(".partial")
            if not ours and (place := path.resolve()) not in seen:
                seen.add(place)
                found += _files(path, seen)
        elif path.name not in _HIDDEN and path.suffix.lower() not in _NOT_IMAGES:
            found.append(path)
    return found


def split_files(data: Path, validation: Path | None = None) -> tuple[list[Path], list[Path]]:
    """(training, validation) files of a folder of images, or of a table with columns `file` and `split`.

    A table's files lie beside it; its splits are `train` and `val`. Of a folder the last tenth is held out,
    in the order of names (so that a patient's images, if named alike, stay together), unless `validation`
    is a folder of its own. Raises UsageError where either is empty.
    """
    if data.suffix.lower() == ".csv":
        training, held_out = _of_split(data, "train"), [] if validation else _of_split(data, "val")
    else:
        files = [path for path, _ in collect([data])]
        cut = len(files) - (0 if validation else max(1, len(files) // 10))
        training, held_out = files[:cut], files[cut:]
    if validation is not None:
        held_out = [path for path, _ in collect([validation])]
    judged = {path.resolve() for path in held_out}
    training = [path for path in training if path.resolve() not in judged]
    if not training:
        raise UsageError(f'"{data}" has nothing to train on besides what it is judged by')
    return training, held_out


def _of_split(table: Path, split: str) -> list[Path]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
            rows = list(csv.DictReader(file))
        files = [table.parent / row["file"] for row in rows if row["split"] == split and row["file"]]
    except FileNotFoundError:
        raise UsageError(f'table "{table}" does not exist') from None
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise UsageError(f'table "{table}" has no columns "file" and "split", with commas between them') from None
    if not files:
        raise UsageError(f'table "{table}" has no row of split "{split}"')
    if missing := [path for path in files if not path.exists()]:
        raise UsageError(f'table "{table}" names {len(missing)} file(s) that do not exist, first "{missing[0]}"')
    return files

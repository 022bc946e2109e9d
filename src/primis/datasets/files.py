"""Images on disk, as lists of files."""

from __future__ import annotations

import contextlib
import csv
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from primis.errors import UsageError

_HIDDEN = ("DICOMDIR", "Thumbs.db", "desktop.ini")
_NOT_IMAGES = {".csv", ".md", ".txt", ".json", ".toml", ".html", ".pdf", ".xml", ".yaml", ".yml"}


File = tuple[Path, str]
"""Where a file is, and what it is shared as."""


@dataclass(frozen=True, slots=True)  # there may be many
class Source:
    """What becomes one image. name: what it is shared as. files: one of that name, or those of a
    series, in the order of its frames."""

    name: str
    files: tuple[File, ...]

    @classmethod
    def of(cls, file: File) -> Source:
        """Of one file."""
        return cls(file[1], (file,))

    @property
    def is_series(self) -> bool:
        """Whether it is of several files."""
        return len(self.files) > 1

    @property
    def place(self) -> Path:
        """Where its first file is."""
        return self.files[0][0]

    def __str__(self) -> str:
        """For messages."""
        return f'series "{self.name}"' if self.is_series else f'image "{self.place}"'


def collect(inputs: Sequence[Path]) -> list[File]:
    """(file, name) of all inputs; folders are searched, and what lies in them is named from there.

    Passed over in folders: hidden files and folders, tables and texts, releases. What cannot be
    taken is listed like an image, folders that cannot be searched too: `imaging.files.read` then
    says why. A file that is reached in several ways is listed once, under its first name; links of
    different names to one file are several images. Of several
    inputs one that does not exist is listed as well: the others are not lost to it.

    Raises UsageError if no input exists or there is nothing.
    """
    found, missing = _Found(), []
    for path in inputs:
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            for file in _files(path, {os.path.realpath(path)}):
                name = file.relative_to(path).as_posix()
                found.add(file, name if file != path else str(path))
        else:
            found.add(path, path.name)
            if mode is None and _is_missing(path):
                missing.append(path)
    if missing and len(found.files) == len({os.path.realpath(path) for path in missing}):
        raise UsageError(f'image "{missing[0]}" does not exist')
    if not found.files:
        raise UsageError(f'no image in "{", ".join(str(p) for p in inputs)}"')
    return found.files


class _Found:
    """Files, each once."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self._seen: set[tuple[str, ...]] = set()

    def add(self, path: Path, name: str) -> None:
        entry = (os.path.join(os.path.realpath(path.parent), path.name),)
        target = (os.path.realpath(path), name)
        if not self._seen & {entry, target}:
            self.files.append((path, name))
        self._seen |= {entry, target}


def _mode(path: Path) -> int | None:
    """What it is, links followed; None where it is nothing, or nobody may look."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None


def _is_missing(path: Path) -> bool:
    """Whether nothing has this name; False where that cannot be told, as behind a closed folder."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _files(folder: Path, seen: set[str]) -> list[Path]:
    """Files below a folder, but for hidden ones, those that are never images, and releases.

    The folder itself where it cannot be searched. seen: folders that a link may lead back to.
    """
    try:
        names = sorted(os.listdir(folder))
        for name in names[:1]:  # to list names is one right, to reach what they name another
            with contextlib.suppress(FileNotFoundError):
                (folder / name).lstat()
    except OSError:
        return [folder]
    found = []
    for path in (folder / name for name in names if not name.startswith(".")):
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            place = os.path.realpath(path)
            if not _is_release(path) and place not in seen:
                seen.add(place)
                found += _files(path, seen)
        elif path.name not in _HIDDEN and path.suffix.lower() not in _NOT_IMAGES:
            found.append(path)
    return found


def _is_release(folder: Path) -> bool:
    """Whether a folder is a release, or one that is being made."""
    return folder.name.endswith(".partial") or _mode(folder / "manifest.json") is not None


def split_files(data: Path, validation: Path | None = None) -> tuple[list[Path], list[Path]]:
    """(training, validation) files of a folder of images, or of a table of `file` and `split`.

    A table's files lie beside it; its splits are `train` and `val`. Of a folder the last tenth is
    held out, in the order of names (so that a patient's images, if named alike, stay together),
    unless `validation` is a folder of its own. Raises UsageError where either is empty.
    """
    if data.suffix.lower() == ".csv":
        training, held_out = _of_split(data, "train"), [] if validation else _of_split(data, "val")
    else:
        files = [path for path, _ in collect([data])]
        cut = len(files) - (0 if validation else max(1, len(files) // 10))
        training, held_out = files[:cut], files[cut:]
    if validation is not None:
        held_out = [path for path, _ in collect([validation])]
    judged = {os.path.realpath(path) for path in held_out}
    training = [path for path in training if os.path.realpath(path) not in judged]
    if not training:
        raise UsageError(f'"{data}" has nothing to train on besides what it is judged by')
    return training, held_out


def _of_split(table: Path, split: str) -> list[Path]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
            rows = list(csv.DictReader(file))
        files = [
            table.parent / row["file"] for row in rows if row["split"] == split and row["file"]
        ]
    except FileNotFoundError:
        raise UsageError(f'table "{table}" does not exist') from None
    except (KeyError, UnicodeDecodeError, csv.Error):
        raise UsageError(
            f'table "{table}" has no columns "file" and "split", with commas between them'
        ) from None
    if not files:
        raise UsageError(f'table "{table}" has no row of split "{split}"')
    if missing := [path for path in files if not path.exists()]:
        raise UsageError(
            f'table "{table}" names {len(missing)} file(s) that do not exist, first "{missing[0]}"'
        )
    return files

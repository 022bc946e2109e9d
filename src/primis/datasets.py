"""Images on disk, as lists of files and as arrays to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from primis.errors import UnreadableImage, UsageError
from primis.imaging.files import read

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
            for file in _files(path):
                found.setdefault(file, file.relative_to(path).as_posix())
        elif path.exists():
            found.setdefault(path, path.name)
        else:
            raise UsageError(f'image "{path}" does not exist')
    if not found:
        raise UsageError(f'no image in "{", ".join(str(p) for p in inputs)}"')
    return list(found.items())


def _files(folder: Path) -> list[Path]:
    """Files below a folder, but for hidden ones, those that are never images, and releases."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            ours = (path / "manifest.json").exists() or path.name.endswith(".partial")
            found += [] if ours else _files(path)
        elif path.name not in _HIDDEN and path.suffix.lower() not in _NOT_IMAGES:
            found.append(path)
    return found


def grey_frames(path: Path, *, least: int) -> list[np.ndarray]:
    """Every grey frame under a folder, (height, width) as stored; files that are no images are passed over.

    Raises UsageError if none is at least `least` pixels on each side.
    """
    frames = []
    for file, _ in collect([path]):
        try:
            image, _ = read(file)
        except UnreadableImage:
            continue
        if image.shape[3] == 1 and min(image.shape[1:3]) >= least:
            frames += list(image.pixels[..., 0])
    if not frames:
        raise UsageError(f'"{path}" has no grey image of at least {least} x {least} pixels')
    return frames

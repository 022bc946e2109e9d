"""Grey frames of image files, as arrays to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from primis.errors import UnreadableImage, UsageError
from primis.imaging.files import read


class Frame(NamedTuple):
    """A grey frame (height, width) as stored, and its range."""

    pixels: np.ndarray
    low: int
    high: int


class Frames:
    """The grey frames of many files, read when they are wanted and kept while they fit in `memory`
    bytes.

    least: pixels of the shorter side; what is smaller, coloured or no image is passed over.
    """

    def __init__(self, files: Sequence[Path], *, least: int, memory: int = 2 << 30) -> None:
        self.files = list(files)
        self._least, self._left = least, memory
        self._kept: dict[int, list[Frame]] = {}
        if not any(self._of(number) for number in range(len(self.files))):
            raise UsageError(
                f"no grey image of at least {least} x {least} pixels among {len(files)}, "
                f'first "{self.files[0]}"'
            )

    def draw(self, rng: np.random.Generator) -> Frame:
        """A frame, each file as likely as any other."""
        while True:
            if frames := self._of(int(rng.integers(len(self.files)))):
                return frames[int(rng.integers(len(frames)))]

    def some(self, count: int) -> list[Frame]:
        """About `count` frames, each of another file, spread evenly over all files."""
        step = max(1, len(self.files) // count)
        return [
            frames[len(frames) // 2]
            for number in range(0, len(self.files), step)
            if (frames := self._of(number))
        ]

    def _of(self, number: int) -> list[Frame]:
        if (kept := self._kept.get(number)) is not None:
            return kept
        frames = self._read(self.files[number])
        size = sum(frame.pixels.nbytes for frame in frames)
        if size <= self._left:
            self._kept[number] = frames
            self._left -= size
        return frames

    def _read(self, path: Path) -> list[Frame]:
        try:
            image, _ = read(path)
        except UnreadableImage:
            return []
        if image.shape[3] != 1 or min(image.shape[1:3]) < self._least:
            return []
        return [
            Frame(p, int(p.min()), int(p.max())) for p in image.pixels[..., 0] if p.min() < p.max()
        ]

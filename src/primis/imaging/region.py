"""A region: a rectangle of pixels in some frames of an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from primis.errors import NoRegion, UsageError

_TEXT = re.compile(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})(?:,(\d{1,9})(?:-(\d{1,9}))?)?")
_EXPECTED = "expected x,y,width,height or x,y,width,height,first-last"


@dataclass(frozen=True)
class Region:
    """Pixels of some frames of an image.

    x, y: column and row of the first pixel, from 0; width, height: in pixels, at least 1. first,
    last: frames, from 0, the last one included; None for the image's last.
    """

    x: int
    y: int
    width: int
    height: int
    first: int = 0
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Region:
        """From `x,y,width,height`, of all frames, or with `,first-last` or `,frame` after it.
        Raises UsageError."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise UsageError(f'region "{text}" is none, {_EXPECTED}')
        x, y, width, height, first, last = (None if g is None else int(g) for g in found.groups())
        sides = (x or 0, y or 0, width or 0, height or 0)
        region = (
            cls(*sides) if first is None else cls(*sides, first, first if last is None else last)
        )
        return region._sound(text)

    @classmethod
    def of(cls, given: Region | str | Sequence[int]) -> Region:
        """From (x, y, width, height), or with first and last frame, or text. Raises UsageError."""
        if isinstance(given, Region):
            return given
        if isinstance(given, str):
            return cls.parse(given)
        values = tuple(given)
        if len(values) not in (4, 6) or not all(isinstance(v, int) and v >= 0 for v in values):
            raise UsageError(f'region "{values}" is none, {_EXPECTED}')
        return cls(*values)._sound(str(values))

    def __str__(self) -> str:
        frames = "" if self.last is None else f",{self.first}-{self.last}"
        return f"{self.x},{self.y},{self.width},{self.height}{frames}"

    def within(self, frames: int, height: int, width: int) -> Region:
        """The part of it that lies in an image. Raises NoRegion where none does."""
        last = frames - 1 if self.last is None else min(self.last, frames - 1)
        if self.x >= width or self.y >= height or self.first > last:
            raise NoRegion(
                f'region "{self}" lies outside of the image, which has {frames} frame(s) of '
                f"{width} x {height} pixels"
            )
        across, down = min(self.width, width - self.x), min(self.height, height - self.y)
        return replace(self, width=across, height=down, last=last)

    def holds(self, other: Region) -> bool:
        """Whether another lies in it; one whose last frame is None may have any frames."""
        inside = (
            other.x >= self.x
            and other.y >= self.y
            and other.x + other.width <= self.x + self.width
            and other.y + other.height <= self.y + self.height
        )
        if other.last is None or self.last is None:
            return inside
        return inside and self.first <= other.first and other.last <= self.last

    def _sound(self, said: str) -> Region:
        if min(self.width, self.height) < 1:
            raise UsageError(f'region "{said}" has no pixels, expected sides of at least 1')
        if self.last is not None and self.last < self.first:
            raise UsageError(f'region "{said}" has no frames, expected the first before the last')
        return self

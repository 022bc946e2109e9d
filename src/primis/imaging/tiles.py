"""Windows over an image that is too large to hold at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """One stretch of an axis. outer: what to read; inner: what of it to keep, relative to outer;
    place: where the kept part belongs."""

    outer: slice
    inner: slice
    place: slice


def windows(length: int, size: int, halo: int) -> Iterator[Window]:
    """Cover 0..length in stretches of `size`, each read with up to `halo` more on either side."""
    for start in range(0, length, size):
        stop = min(start + size, length)
        low, high = max(0, start - halo), min(length, stop + halo)
        yield Window(slice(low, high), slice(start - low, stop - low), slice(start, stop))

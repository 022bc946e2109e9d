"""How many frames of an image to code together, by how alike neighbours are.

On a few runs of frames the transform along the frames is tried with each G. What top-S would then
drop is about the error of the image, since the transform is orthonormal: the same entries take
about the same bytes, and the error tells which G makes the most of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from primis.bundle.header import Header
from primis.codec import Codec, Done, Scale
from primis.imaging.image import Image
from primis.imaging.padding import Padding, filled_frames
from primis.imaging.stretch import Stretch
from primis.sharing.frames import each_frame
from primis.sharing.groups import (
    GROUPS,
    along_frames,
    at_once,
    group_of,
    in_groups,
    may_group,
    range_of,
)

WORTH = 0.025
"""A larger G has to take this part off the squared error, 0.1 dB: whoever reads one frame opens all
of its group."""

_RUNS = 6
_STEPS = 10
_MOST_SAMPLES = 1 << 24
"""Of a group: its coefficients are held in memory."""


def choose_group(
    image: Image, header: Header, codec: Codec, padding: Padding | None, stretch: Stretch | None
) -> int:
    """G for an image: 1, 2, 4 or 8."""
    if not may_group(header) or not codec.architecture.over_image:
        return 1
    frame = header.geometry.samples // header.geometry.frames
    sizes = [group for group in GROUPS if group == 1 or group * frame <= _MOST_SAMPLES]
    if len(sizes) == 1:
        return 1
    trial = _Trial(image, header, codec, padding, stretch, sizes)
    runs = _runs(header.geometry.frames, sizes[-1])
    threads = at_once(sizes[-1], header, codec)
    errors = sum(each_frame(trial.errors, runs, len(runs), at_once=threads), np.zeros(1))
    best = 0
    for number in range(1, len(sizes)):
        if errors[number] < (1 - WORTH) * errors[best]:
            best = number
    return sizes[best]


def _runs(count: int, length: int) -> list[range]:
    """Groups of the largest size, evenly spread over all frames."""
    whole = max(1, count // length)
    chosen = {int(whole * (2 * k + 1) / (2 * _RUNS)) for k in range(_RUNS)}
    return [group_of(number * length, length, count) for number in sorted(chosen)]


class _Trial(NamedTuple):
    """An image of which some runs are tried. sizes: each G that may be chosen."""

    image: Image
    header: Header
    codec: Codec
    padding: Padding | None
    stretch: Stretch | None
    sizes: list[int]

    def errors(self, _: int, run: range, done: Done) -> np.ndarray:
        """(sizes,) About the sum of squared errors of a run, for each G."""
        frames = list(filled_frames(self.image, self.padding, run))
        if self.stretch is not None:
            frames = [self.stretch.apply(frame) for frame in frames]
        scale = Scale(*range_of(frames))
        z = [self.codec.encode(frame, scale=scale)[0] for frame in frames]
        each = np.array([self._dropped(z, group) for group in self.sizes])
        return each * scale.width**2

    def _dropped(self, z: list[np.ndarray], group: int) -> float:
        """Of a run whose frames are coded by so many."""
        parts = in_groups(z, group)
        return sum(_beyond(along_frames(part), len(part) * self.header.entries) for part in parts)


def _beyond(z: np.ndarray, entries: int) -> float:
    """The energy of all coefficients but the largest."""
    energy = np.square(z).reshape(-1)
    total = float(energy.sum(dtype=np.float64))
    large = energy[:0]
    for step in range(_STEPS):  # most are tiny, and many alike: partition is slow on all of them
        large = energy[energy > total / energy.size / 16**step]
        if len(large) > entries:
            large.partition(len(large) - entries - 1)
            large = large[-entries:]
            break
    return max(total - float(large.sum(dtype=np.float64)), 0.0)

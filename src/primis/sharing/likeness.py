"""How many frames of an image to code together, by how alike neighbours are.

A transform along the frames pays where what it leaves is smaller: it is tried on a few runs of
frames. What an image takes with each G is about the sum of log2(1 + |z| / t) over its coefficients.
"""

from __future__ import annotations

import numpy as np

from primis.bundle.header import Header
from primis.codec import Codec, Scale
from primis.imaging.image import Image
from primis.imaging.padding import Padding, filled_frames
from primis.imaging.stretch import Stretch
from primis.sharing.groups import GROUPS, along_frames, group_of, may_group, range_of

WORTH = 0.015
"""A larger G has to save this part of what the smaller takes: whoever reads one frame opens all of
its group."""

_RUNS = 3
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
    costs = np.zeros(len(sizes))
    for run in _runs(header.geometry.frames, sizes[-1]):
        frames = list(filled_frames(image, padding, run))
        costs += _costs(
            frames if stretch is None else [*map(stretch.apply, frames)], sizes, header, codec
        )
    best = 0
    for number in range(1, len(sizes)):
        if costs[number] < (1 - WORTH) * costs[best]:
            best = number
    return sizes[best]


def _runs(count: int, length: int) -> list[range]:
    """Groups of the largest size, evenly spread over all frames."""
    whole = max(1, count // length)
    chosen = {int(whole * (2 * k + 1) / (2 * _RUNS)) for k in range(_RUNS)}
    return [group_of(number * length, length, count) for number in sorted(chosen)]


def _costs(frames: list[np.ndarray], sizes: list[int], header: Header, codec: Codec) -> np.ndarray:
    """(sizes,) About what a run of frames takes, in bits, for each G."""
    scale = Scale(*range_of(frames))
    z = [codec.encode(frame, scale=scale)[0] for frame in frames]
    threshold = codec.architecture.plain_selection(
        np.concatenate(z), len(z) * header.entries
    ).threshold
    return np.array([_bits(z, group, threshold) for group in sizes])


def _bits(z: list[np.ndarray], group: int, threshold: float) -> float:
    groups = (along_frames(z[at : at + group]) for at in range(0, len(z), group))
    return sum(
        float(np.log2(1 + np.abs(part) / threshold).sum(dtype=np.float64)) for part in groups
    )

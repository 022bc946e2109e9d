"""Groups of neighbouring frames, coded together: what they have alike is coded once.

    z of each frame --DCT along the frames--> z by frequency --selection--> Z   one budget, range, t
    Z --what it stands for, inverse DCT--> q of a frame --codec--> frame

Groups start at frame 0, G, 2G ...; the last may be shorter (docs/format.md, section 6, Groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np

from primis.bundle.header import Header
from primis.bundle.settings import Protection
from primis.codec import Codec, Done, Scale, silent
from primis.codes.atoms import dct_matrix
from primis.codes.sparse import SparseCode
from primis.errors import UsageError

GROUPS = (1, 2, 4, 8)
"""What G may be; 1: each frame alone."""

_AT_WORK = 1 << 25
"""Samples."""


def may_group(header: Header) -> bool:
    """Whether G of a bundle may be over 1, as far as its header tells."""
    settings = header.settings
    keyed = settings.protection is Protection.KEYED
    return keyed and not settings.exact_bits and header.geometry.frames > 1


def require_group(group: int, header: Header, codec: Codec) -> None:
    """Raise UsageError for a G that a bundle cannot have."""
    alone = not may_group(header) or not codec.architecture.over_image
    if group not in GROUPS or (group > 1 and alone):
        expected = "1" if alone else "1, 2, 4 or 8"
        raise UsageError(f'group "{group}" was asked for, expected {expected}')


def group_of(frame: int, group: int, count: int) -> range:
    """The frames that are coded with one of `count`, itself included. group: G."""
    start = frame // group * group
    return range(start, min(start + group, count))


def at_once(group: int, header: Header, codec: Codec) -> int:
    """How many groups to work on at once: as many as there are threads, fewer where frames are so
    large that this would take much more memory than as many frames do."""
    frame = header.geometry.samples // header.geometry.frames
    return max(codec.threads // group, min(codec.threads, _AT_WORK // (group * frame)), 1)


class Touched(NamedTuple):
    """A group of which frames are wanted. wanted: (place among all that are wanted, frame)."""

    frames: range
    wanted: list[tuple[int, int]]


def touched(wanted: Iterable[int], group: int, count: int) -> list[Touched]:
    """The groups of `count` frames that hold those that are wanted, in their order."""
    found = groupby(enumerate(wanted), key=lambda numbered: numbered[1] // group)
    return [Touched(group_of(number * group, group, count), list(each)) for number, each in found]


def in_groups(frames: Iterable[np.ndarray], group: int) -> Iterator[tuple[np.ndarray, ...]]:
    """All frames, those that are coded together at a time. group: G."""
    each = iter(frames)
    while together := tuple(islice(each, group)):
        yield together


def range_of(frames: Sequence[np.ndarray]) -> tuple[int, int]:
    """The least and the largest sample of all of them."""
    return min(int(frame.min()) for frame in frames), max(int(frame.max()) for frame in frames)


def along_frames(z: Sequence[np.ndarray]) -> np.ndarray:
    """(n · c, LM, h, w) float32: z (c, LM, h, w) of n frames transformed along them, the planes of
    the lowest frequency first."""
    if len(z) == 1:
        return z[0]
    matrix = dct_matrix(len(z)).astype(np.float32)
    return np.tensordot(matrix, np.stack(z), 1).reshape(-1, *z[0].shape[1:])


@dataclass(frozen=True, eq=False)
class GroupCode:
    """The code of a group. code: levels (n · c, LM, h, w); count: n; scale: of all its frames."""

    code: SparseCode
    count: int
    scale: Scale

    @cached_property
    def _coefficients(self) -> np.ndarray:
        """(n, c, LM, h, w)"""
        levels = self.code.levels
        return self.code.coefficients.reshape(self.count, -1, *levels.shape[1:])

    def decode(
        self,
        number: int,
        codec: Codec,
        size: tuple[int, int],
        dtype: np.dtype,
        opened_maps: int | None = None,
        done: Done = silent,
    ) -> np.ndarray:
        """A frame (H, W, c), counted from the first of the group; the rest as of `Codec.decode`.

        The same to the last bit, whatever other frames are decoded.
        """
        if self.count == 1:
            return codec.decode(self.code, self.scale, size, dtype, opened_maps, done)
        q, step = self.coefficients_of(number), self.code.threshold
        return codec.decode_coefficients(q, step, self.scale, size, dtype, opened_maps, done)

    def coefficients_of(self, number: int) -> np.ndarray:
        """What the code stands for in one frame: (c, LM, h, w) float32."""
        weights = dct_matrix(self.count).astype(np.float32)[:, number]
        q = weights[0] * self._coefficients[0]
        for weight, of_frequency in zip(weights[1:], self._coefficients[1:], strict=True):
            q += weight * of_frequency
        return q

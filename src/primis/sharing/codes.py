"""The true code of an image as arrays, so that models can learn from it in place of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from primis.codec import Codec, Scale
from primis.codes.layout import Layout
from primis.codes.sparse import SparseCode


@dataclass(frozen=True, eq=False)
class Codes:
    """The true code Z of an image: what its pixels are decoded from.

    levels: (frames, c, atoms, h, w) int16, whole numbers, most of them zero. c planes are grey, or
    brightness and differences of colour; atoms go from coarse to fine, and at tier preview they are
    those of the first code map alone; h x w positions. thresholds: (frames,) float32, what one step
    of the levels stands for, in grey levels. centres: (frames,) float32, the grey level that zero
    stands for. stride: pixels from one position to the next. atoms_per_map: M. offset: a level n
    stands for |n| + offset steps. group: how many neighbouring frames, from the first of the image
    on, were coded together: where it is over 1, what stands in place of the k-th frame of a group
    is the k-th frequency of an orthonormal DCT-II along its frames.

    Padding was filled in before the image was encoded, so a code knows none. Where a window is
    stretched, as that of a CT is, grey levels are stretched ones.
    """

    levels: np.ndarray = field(repr=False)
    thresholds: np.ndarray = field(repr=False)
    centres: np.ndarray = field(repr=False)
    stride: int
    atoms_per_map: int
    offset: float
    group: int
    _layout: Layout = field(repr=False)

    @classmethod
    def of(
        cls, frames: Sequence[tuple[SparseCode, Scale]], codec: Codec, atoms: int, group: int
    ) -> Codes:
        """Of frames as they are opened. atoms: how many are opened, from the first; group: G."""
        scales = [scale for _, scale in frames]
        steps = [code.threshold * scale.width for code, scale in frames]
        return cls(
            np.stack([code.levels[:, :atoms] for code, _ in frames]),
            np.array(steps, np.float32),
            np.array([scale.centre for scale in scales], np.float32),
            codec.preset.stride,
            codec.preset.atoms_per_map,
            codec.offset,
            group,
            codec.layout,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(frames, c, atoms, h, w)."""
        return self.levels.shape

    def values(self) -> np.ndarray:
        """What the levels stand for, in grey levels: (frames, c, atoms, h, w) float32.

        These are the coefficients that the decoder is given, of a group still by frequency along
        its frames. With the default weights atom 0 is a
        small picture of the frame: at each position its mean, less the centre, times the stride.
        """
        steps = self.thresholds[:, None, None, None, None]
        offsets = np.float32(self.offset) * np.sign(self.levels)
        values = ((self.levels + offsets) * steps).astype(np.float32)
        return np.stack([self._layout.restore_dc(frame) for frame in values])

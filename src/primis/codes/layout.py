"""The atoms of a code as the coder sees them: what each stands for, and which are coded together.

Two kinds: `FrequencyLayout`, atoms of a cosine transform with a DC plane (preset `default`), and
`LearnedLayout`, atoms without order (preset `paper`). A layout without a DC plane has an empty one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from primis.codes.atoms import atom_frequencies
from primis.codes.dc_plane import DC_BLOCK, restore_dc, split_dc, transform_dc

_BORDERS = (1, 4, 10, 16, 24, 34, 48, 68, 96, 136, 188)
_DC_BORDERS = (0, 1, 3, 6)
_FIRST_FLAGGED = 24
_LEARNED_GROUP = 64


@dataclass(frozen=True)
class Layout(ABC):
    """L code maps of M atoms, in groups."""

    code_maps: int
    atoms_per_map: int

    @property
    def atoms(self) -> int:
        """LM."""
        return self.code_maps * self.atoms_per_map

    @property
    @abstractmethod
    def groups(self) -> tuple[range, ...]:
        """Atoms that are coded together, from coarse to fine; without the DC plane."""

    @abstractmethod
    def flagged(self, group: range) -> bool:
        """Whether a flag says at each position if the group has any entry there."""

    @property
    @abstractmethod
    def nearness(self) -> np.ndarray:
        """(LM, LM) float32: how near two atoms are in frequency, 0 to 16; 16 to itself."""

    @property
    @abstractmethod
    def direction(self) -> np.ndarray:
        """(2, LM) float32: share of the vertical and of the horizontal frequency, in 16ths."""

    @property
    @abstractmethod
    def dc(self) -> Layout:
        """The layout of the DC plane's stack, which is coded before all groups."""

    @property
    def has_dc(self) -> bool:
        """Whether atom 0 is a DC plane."""
        return bool(self.dc.groups)

    @abstractmethod
    def split_dc(self, levels: np.ndarray) -> np.ndarray:
        """The stack of the DC plane of levels (LM, h, w), a copy."""

    @abstractmethod
    def transform_dc(self, z: np.ndarray) -> np.ndarray:
        """z (c, LM, h, w), or its first atoms, with the DC planes transformed; z may be changed."""

    @abstractmethod
    def restore_dc(self, q: np.ndarray) -> np.ndarray:
        """Inverse of `transform_dc`."""

    def split(self) -> tuple[range, range]:
        """The atoms that tier `preview` opens (the first code map), and those of `diagnostic`.

        Raises ValueError unless the border between them is one of a group.
        """
        first = self.atoms_per_map
        if self.code_maps > 1 and not any(group.start == first for group in self.groups):
            raise ValueError(f"a first code map of {first} atoms cuts a group of the coder")
        return range(first), range(first, self.atoms)


class FrequencyLayout(Layout):
    """Atoms are frequencies of a cosine transform; the first of them is the DC plane."""

    @cached_property
    def groups(self) -> tuple[range, ...]:
        borders = [b for b in _BORDERS if b < self.atoms] + [self.atoms]
        return tuple(range(low, high) for low, high in pairwise(borders))

    def flagged(self, group: range) -> bool:
        return group.start >= _FIRST_FLAGGED

    @cached_property
    def nearness(self) -> np.ndarray:
        return _nearness(self._frequencies)

    @cached_property
    def direction(self) -> np.ndarray:
        u, v = self._frequencies.T
        total = np.maximum(u + v, 1)
        return np.stack([16 * u // total, 16 * v // total]).astype(np.float32)

    @property
    def dc(self) -> Layout:
        return _DC

    def split_dc(self, levels: np.ndarray) -> np.ndarray:
        return split_dc(levels[0])

    def transform_dc(self, z: np.ndarray) -> np.ndarray:
        z[:, 0] = [transform_dc(plane) for plane in z[:, 0]]
        return z

    def restore_dc(self, q: np.ndarray) -> np.ndarray:
        q[:, 0] = [restore_dc(plane) for plane in q[:, 0]]
        return q

    @property
    def _frequencies(self) -> np.ndarray:
        return atom_frequencies(round(self.atoms**0.5))


class LearnedLayout(Layout):
    """Atoms are learned and have no order among them; there is no DC plane."""

    @cached_property
    def groups(self) -> tuple[range, ...]:
        step = min(_LEARNED_GROUP, self.atoms_per_map)
        borders = [*range(0, self.atoms, step), self.atoms]
        return tuple(range(low, high) for low, high in pairwise(borders))

    def flagged(self, group: range) -> bool:
        return False

    @cached_property
    def nearness(self) -> np.ndarray:
        return (16 * np.eye(self.atoms)).astype(np.float32)

    @cached_property
    def direction(self) -> np.ndarray:
        return np.zeros((2, self.atoms), np.float32)

    @property
    def dc(self) -> Layout:
        return _NOTHING

    def split_dc(self, levels: np.ndarray) -> np.ndarray:
        return np.zeros((0, 1, 1), levels.dtype)

    def transform_dc(self, z: np.ndarray) -> np.ndarray:
        return z

    def restore_dc(self, q: np.ndarray) -> np.ndarray:
        return q


class _DCLayout(FrequencyLayout):
    """The frequencies of a block of the DC plane, coded like atoms of their own."""

    groups = tuple(range(low, high) for low, high in pairwise([*_DC_BORDERS, DC_BLOCK**2]))

    def flagged(self, group: range) -> bool:
        return False


class _Nothing(LearnedLayout):
    """No atoms."""

    groups = ()


_DC, _NOTHING = _DCLayout(1, DC_BLOCK**2), _Nothing(1, 0)


def _nearness(frequency: np.ndarray) -> np.ndarray:
    """round(16 / distance²) up to a distance of 3."""
    f = frequency.astype(np.int64)
    distance = ((f[:, None] - f[None]) ** 2).sum(axis=2)
    least = np.maximum(distance, 1)
    return np.where(distance <= 9, (32 + least) // (2 * least), 0).astype(np.float32)

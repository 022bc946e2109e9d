"""The atoms: which frequency each stands for, in which groups they are coded, and the means of blocks,
which are transformed once more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

MEAN_BLOCK = 4
"""Positions of a block of means, in each direction."""

_BORDERS = (1, 4, 10, 16, 24, 34, 48, 68, 96, 136, 188)
_MEAN_BORDERS = (0, 1, 3, 6)
_FIRST_FLAGGED = 24
_LEARNED_GROUP = 64


@cache
def atom_frequencies(stride: int) -> np.ndarray:
    """(stride², 2) vertical and horizontal frequency of each atom, by u² + v², then u."""
    u, v = np.divmod(np.arange(stride * stride), stride)
    order = np.lexsort((u, u * u + v * v))
    frequencies = np.stack([u[order], v[order]], axis=1)
    frequencies.setflags(write=False)
    return frequencies


@cache
def dct_matrix(n: int) -> np.ndarray:
    """Orthonormal DCT-II, (n frequencies, n samples)."""
    k = np.arange(n)
    basis = np.cos(np.pi * np.outer(k, 2 * k + 1) / (2 * n)) * np.sqrt(2 / n)
    basis[0] = np.sqrt(1 / n)
    basis.setflags(write=False)
    return basis


@cache
def mean_matrix(length: int) -> np.ndarray:
    """Orthonormal (length, length) float32: DCTs of MEAN_BLOCK along an axis of positions, a shorter one at the end."""
    matrix = np.zeros((length, length), np.float32)
    for start in range(0, length, MEAN_BLOCK):
        stop = min(start + MEAN_BLOCK, length)
        matrix[start:stop, start:stop] = dct_matrix(stop - start)
    matrix.setflags(write=False)
    return matrix


def transform_means(plane: np.ndarray) -> np.ndarray:
    """The means (h, w) transformed by blocks, as `mean_matrix` says, along rows and columns."""
    return _by_blocks(_by_blocks(plane, inverse=False).T, inverse=False).T


def restore_means(plane: np.ndarray) -> np.ndarray:
    """Inverse of `transform_means`."""
    return _by_blocks(_by_blocks(plane, inverse=True).T, inverse=True).T


def _by_blocks(plane: np.ndarray, *, inverse: bool) -> np.ndarray:
    out = np.empty_like(plane)
    whole = plane.shape[1] // MEAN_BLOCK * MEAN_BLOCK
    for part in (slice(0, whole), slice(whole, None)):
        length = MEAN_BLOCK if part.stop else plane.shape[1] - whole
        if plane[:, part].size:
            matrix = dct_matrix(length).astype(plane.dtype)
            blocks = plane[:, part].reshape(len(plane), -1, length) @ (
                matrix if inverse else matrix.T
            )
            out[:, part] = blocks.reshape(len(plane), -1)
    return out


@dataclass(frozen=True)
class Layout:
    """The atoms of a code, as the coder sees them.

    means: whether atoms are frequencies, of which the first is transformed once more (preset `default`);
    else they are learned, without order (preset `paper`).
    """

    code_maps: int
    atoms_per_map: int
    means: bool

    @property
    def atoms(self) -> int:
        """LM."""
        return self.code_maps * self.atoms_per_map

    @cached_property
    def groups(self) -> tuple[range, ...]:
        """Atoms that are coded together, from coarse to fine; the mean is not among them."""
        if self.means:
            borders = [b for b in _BORDERS if b < self.atoms] + [self.atoms]
        else:
            step = min(_LEARNED_GROUP, self.atoms_per_map)
            borders = [*range(0, self.atoms, step), self.atoms]
        return tuple(range(low, high) for low, high in pairwise(borders))

    def flagged(self, group: range) -> bool:
        """Whether a flag says at each position if the group has any entry there."""
        return self.means and group.start >= _FIRST_FLAGGED

    @cached_property
    def nearness(self) -> np.ndarray:
        """(LM, LM) how near two atoms are in frequency, 0 to 16; 16 to itself."""
        if self.means:
            return _nearness(atom_frequencies(round(self.atoms**0.5)))
        return (16 * np.eye(self.atoms)).astype(np.float32)

    @cached_property
    def direction(self) -> np.ndarray:
        """(2, LM) share of the vertical and of the horizontal frequency, in 16ths."""
        if not self.means:
            return np.zeros((2, self.atoms), np.float32)
        u, v = atom_frequencies(round(self.atoms**0.5)).T
        return np.stack([16 * u // np.maximum(u + v, 1), 16 * v // np.maximum(u + v, 1)]).astype(
            np.float32
        )

    def split(self) -> tuple[range, range]:
        """The atoms that tier `preview` opens (the first code map) and those that `diagnostic` adds.

        Raises ValueError unless the border between them is one of a group.
        """
        if self.code_maps > 1 and not any(
            group.start == self.atoms_per_map for group in self.groups
        ):
            raise ValueError(
                f"a first code map of {self.atoms_per_map} atoms cuts a group of the coder"
            )
        return range(self.atoms_per_map), range(self.atoms_per_map, self.atoms)


class _MeanLayout(Layout):
    """The 16 frequencies of a block of means, coded like atoms of their own."""

    groups = tuple(range(low, high) for low, high in pairwise([*_MEAN_BORDERS, MEAN_BLOCK**2]))

    def flagged(self, group: range) -> bool:
        return False


MEAN_LAYOUT = _MeanLayout(1, MEAN_BLOCK**2, True)


def _nearness(frequency: np.ndarray) -> np.ndarray:
    """round(16 / distance²) up to a distance of 3."""
    f = frequency.astype(np.int64)
    distance = ((f[:, None] - f[None]) ** 2).sum(axis=2)
    nearness = np.where(
        distance <= 9, (32 + np.maximum(distance, 1)) // (2 * np.maximum(distance, 1)), 0
    )
    return nearness.astype(np.float32)


def split_means(plane: np.ndarray) -> np.ndarray:
    """Transformed means (h, w) -> (16, ceil(h/4), ceil(w/4)), by frequency; zero where there is no position."""
    rows, columns = (-(-side // MEAN_BLOCK) for side in plane.shape)
    pad = [(0, n * MEAN_BLOCK - side) for n, side in zip((rows, columns), plane.shape, strict=True)]
    blocks = np.pad(plane, pad).reshape(rows, MEAN_BLOCK, columns, MEAN_BLOCK).transpose(1, 3, 0, 2)
    u, v = atom_frequencies(MEAN_BLOCK).T
    return np.ascontiguousarray(blocks[u, v])


def join_means(cube: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Inverse of `split_means`."""
    blocks = np.zeros((MEAN_BLOCK, MEAN_BLOCK, *cube.shape[1:]), cube.dtype)
    u, v = atom_frequencies(MEAN_BLOCK).T
    blocks[u, v] = cube
    plane = blocks.transpose(2, 0, 3, 1).reshape(
        cube.shape[1] * MEAN_BLOCK, cube.shape[2] * MEAN_BLOCK
    )
    return np.ascontiguousarray(plane[: shape[0], : shape[1]])

"""The DC plane: atom 0 of preset `default`, the mean of each block of pixels.

Neighbouring means are alike, so the plane (h, w) is transformed once more, in blocks of
DC_BLOCK x DC_BLOCK positions. For the coder its levels are a stack (16, ceil(h/4), ceil(w/4)) with
a plane for each frequency of such a block, in the order of `atom_frequencies`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from primis.codes.atoms import atom_frequencies, dct_matrix

DC_BLOCK = 4
"""Positions of a block of the DC plane, in each direction."""


@cache
def dc_matrix(length: int) -> np.ndarray:
    """Orthonormal (length, length) float32: DCTs of DC_BLOCK along an axis, the last shorter."""
    matrix = np.zeros((length, length), np.float32)
    for start in range(0, length, DC_BLOCK):
        stop = min(start + DC_BLOCK, length)
        matrix[start:stop, start:stop] = dct_matrix(stop - start)
    matrix.setflags(write=False)
    return matrix


def transform_dc(plane: np.ndarray) -> np.ndarray:
    """The DC plane (h, w) transformed by blocks, as `dc_matrix` says, along rows and columns."""
    return _by_blocks(_by_blocks(plane, inverse=False).T, inverse=False).T


def restore_dc(plane: np.ndarray) -> np.ndarray:
    """Inverse of `transform_dc`."""
    return _by_blocks(_by_blocks(plane, inverse=True).T, inverse=True).T


def _by_blocks(plane: np.ndarray, *, inverse: bool) -> np.ndarray:
    out = np.empty_like(plane)
    whole = plane.shape[1] // DC_BLOCK * DC_BLOCK
    for part in (slice(0, whole), slice(whole, None)):
        length = DC_BLOCK if part.stop else plane.shape[1] - whole
        if plane[:, part].size:
            matrix = dct_matrix(length).astype(plane.dtype)
            blocks = plane[:, part].reshape(len(plane), -1, length)
            out[:, part] = (blocks @ (matrix if inverse else matrix.T)).reshape(len(plane), -1)
    return out


def split_dc(plane: np.ndarray) -> np.ndarray:
    """Transformed DC plane (h, w) -> stack by frequency; zero where there is no position."""
    rows, columns = (-(-side // DC_BLOCK) for side in plane.shape)
    pad = [(0, n * DC_BLOCK - side) for n, side in zip((rows, columns), plane.shape, strict=True)]
    blocks = np.pad(plane, pad).reshape(rows, DC_BLOCK, columns, DC_BLOCK).transpose(1, 3, 0, 2)
    u, v = atom_frequencies(DC_BLOCK).T
    return np.ascontiguousarray(blocks[u, v])


def join_dc(stack: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `split_dc`."""
    blocks = np.zeros((DC_BLOCK, DC_BLOCK, *stack.shape[1:]), stack.dtype)
    u, v = atom_frequencies(DC_BLOCK).T
    blocks[u, v] = stack
    rows, columns = (side * DC_BLOCK for side in stack.shape[1:])
    plane = blocks.transpose(2, 0, 3, 1).reshape(rows, columns)
    return np.ascontiguousarray(plane[: shape[0], : shape[1]])

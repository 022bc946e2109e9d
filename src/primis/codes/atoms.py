"""The atoms of the cosine transform: which frequency each stands for, and in which order."""

from __future__ import annotations

from functools import cache

import numpy as np


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

"""The order of the atoms: which frequency each stands for, from coarse to fine."""

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

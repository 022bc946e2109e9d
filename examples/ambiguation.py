"""Eq. (1)-(2): decoys hide a support of 8 entries among 64; the support takes them out again."""

import numpy as np

from primis import ambiguate, purify

rng = np.random.default_rng(0)
levels = np.zeros((1, 64, 1, 1), np.int16)  # one position with 64 atoms
levels[0, rng.choice(64, 8, replace=False)] = rng.integers(1, 9, (8, 1, 1))

public = ambiguate(levels, decoys=24)  # Z_p = Z + N
print(f"S_x = {np.count_nonzero(levels)}, S_p = {np.count_nonzero(public)}")
assert (purify(public, levels != 0) == levels).all()

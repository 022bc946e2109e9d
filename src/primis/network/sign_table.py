"""The table of signs (`ContextModel.signs`): how neighbours tell the sign of a level, fitted to
codes.

For each atom and pass a logistic regression without a constant, since an image and its negative are
alike; mirrored neighbours share a weight, since an image and its mirror image are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primis.codes.layout import Layout
from primis.codes.probabilities import LOGIT_UNIT, PASSES, SIGNED, SIGNED_LIMIT, TABLE_LIMIT

_STEPS = 12  # of Newton's method
_RIDGE = 1.0
_REACH = 2  # places that a neighbour is away, at most


def fit_signs(codes: Sequence[np.ndarray], layout: Layout) -> np.ndarray:
    """(LM, PASSES, len(SIGNED)) int32 for codes like these, each levels (LM, h, w)."""
    table = np.zeros((layout.atoms, PASSES, len(SIGNED)), np.int32)
    first = 1 if layout.has_dc else 0
    for atom in range(first, layout.atoms):
        planes = [_seen(levels[atom]) for levels in codes]
        seen, minus, passes = (np.concatenate(parts) for parts in zip(*planes, strict=True))
        for number in range(PASSES):
            here = passes == number
            weights = _fit(seen[here].astype(np.float64), minus[here])
            whole = np.round(LOGIT_UNIT * weights)
            table[atom, number] = np.clip(whole, -TABLE_LIMIT, TABLE_LIMIT)
    return table


def _seen(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each entry of one atom (h, w): SIGNED (n, 5), whether it is negative (n,), its pass (n,).

    What a pass does not know counts as zero.
    """
    padded = np.pad(np.clip(plane, -SIGNED_LIMIT, SIGNED_LIMIT).astype(np.int8), _REACH)
    y, x = np.nonzero(plane)
    passes = np.array([[0, 2], [3, 1]])[y % 2, x % 2]

    def at(down: int, across: int) -> np.ndarray:
        found: np.ndarray = padded[y + _REACH + down, x + _REACH + across]
        return found

    beside, corners = passes >= 2, passes % 2 == 1
    sums = (
        (at(0, -1) + at(0, 1)) * beside,
        (at(-1, 0) + at(1, 0)) * beside,
        (at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)) * corners,
        at(0, -2),
        at(-2, 0),
    )
    return np.stack(sums, axis=1), plane[y, x] < 0, passes


def _fit(seen: np.ndarray, minus: np.ndarray) -> np.ndarray:
    """(5,) weights under which the signs are likeliest."""
    weights = np.zeros(seen.shape[1])
    ridge = _RIDGE * np.eye(len(weights))
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(seen @ weights, -30, 30)))
        slope = seen.T @ (likely - minus) + _RIDGE * weights
        curvature = (seen * (likely * (1 - likely))[:, None]).T @ seen + ridge
        weights -= np.linalg.solve(curvature, slope)
    return weights

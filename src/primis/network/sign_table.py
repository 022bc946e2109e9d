"""The table of signs (`ContextModel.signs`): how neighbours tell the sign of a level, fitted to
codes.

For each atom and pass a logistic regression without a constant, since an image and its negative are
alike; mirrored neighbours share a weight, since an image and its mirror image are. The weights
change with the density of the code: the fewer entries, the more their neighbours tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primis.codes.coder import density_of
from primis.codes.layout import Layout
from primis.codes.probabilities import LOGIT_UNIT, PASSES, SIGNED, SIGNED_LIMIT, TABLE_LIMIT

_STEPS = 12  # of Newton's method
_RIDGE = 1.0
_REACH = 2  # places that a neighbour is away, at most
_DENSITIES = 64  # units of the density that the change is told for


def fit_signs(codes: Sequence[np.ndarray], layout: Layout) -> np.ndarray:
    """(LM, PASSES, len(SIGNED), 2) int32 for codes like these, each levels (LM, h, w)."""
    table = np.zeros((layout.atoms, PASSES, len(SIGNED), 2), np.int32)
    for atoms in layout.split():
        densities = [density_of(levels[atoms.start : atoms.stop]) for levels in codes]
        for atom in atoms[1:] if layout.has_dc and not atoms.start else atoms:
            table[atom] = _fit_atom([levels[atom] for levels in codes], densities)
    return table


def _fit_atom(planes: list[np.ndarray], densities: list[int]) -> np.ndarray:
    """(PASSES, len(SIGNED), 2) of one atom, from its planes (h, w) and their densities."""
    found = [_seen(plane) for plane in planes]
    seen, minus, passes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    density = np.repeat(densities, [len(part[1]) for part in found]) / _DENSITIES
    sums = np.stack([seen, seen * density[:, None]], axis=2)
    table = np.zeros((PASSES, len(SIGNED), 2))
    for number in range(PASSES):
        here = passes == number
        weights = _fit(sums[here].reshape(-1, 2 * len(SIGNED)), minus[here])
        table[number] = np.round(LOGIT_UNIT * weights).reshape(-1, 2)
    return np.clip(table, -TABLE_LIMIT, TABLE_LIMIT)


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
    """Weights of sums (n, k) under which the signs are likeliest: (k,)."""
    weights = np.zeros(seen.shape[1])
    ridge = _RIDGE * np.eye(len(weights))
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(seen @ weights, -30, 30)))
        slope = seen.T @ (likely - minus) + _RIDGE * weights
        curvature = (seen * (likely * (1 - likely))[:, None]).T @ seen + ridge
        weights -= np.linalg.solve(curvature, slope)
    return weights

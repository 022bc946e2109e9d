"""How two masks agree: overlap, and distances of their contours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Overlap(Generic[T]):
    """How a predicted mask P agrees with the true one T, both of one size.

    dice 2 |P and T| / (|P| + |T|), 0 to 1, higher is better; 1 where both are empty jaccard |P and
    T| / |P or T|, likewise false_negative |T without P| / |T|: part of the organ that was missed; 0
    where T is empty false_positive |P without T| / |not T|: part of the rest that was marked; 0
    where T is everything false_discovery |P without T| / |P|: part of the marked that is wrong; 0
    where P is empty. Of the two, only this agrees with the Dice that the paper gives beside its
    false positives mean_distance, sd_distance of the distances from each contour pixel of either
    mask to the nearest of the other's hausdorff the largest of them hausdorff_95 the 95th
    percentile from either side, the larger one

    Distances are lower when better; 0 where both masks are empty, and where one is, the diagonal of
    the image (SD 0).
    """

    dice: T
    jaccard: T
    false_negative: T
    false_positive: T
    false_discovery: T
    mean_distance: T
    sd_distance: T
    hausdorff: T
    hausdorff_95: T

    def each(self) -> tuple[T, ...]:
        """In order."""
        counted = self.dice, self.jaccard, self.false_negative, self.false_positive
        distances = self.mean_distance, self.sd_distance, self.hausdorff, self.hausdorff_95
        return *counted, self.false_discovery, *distances


def overlap(
    truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)
) -> Overlap[float]:
    """All measures of two masks (H, W) bool; spacing: of rows and columns, which gives distances
    their unit.
    """
    both, either = int((truth & guess).sum()), int((truth | guess).sum())
    t, p = int(truth.sum()), int(guess.sum())
    return Overlap(
        2 * both / (t + p) if either else 1.0,
        both / either if either else 1.0,
        _share(t - both, t),
        _share(p - both, truth.size - t),
        _share(p - both, p),
        *_distances(truth, guess, spacing),
    )


def _share(some: int, whole: int) -> float:
    return some / whole if whole else 0.0


def _distances(
    truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, float]
) -> tuple[float, float, float, float]:
    from monai.metrics.utils import get_edge_surface_distance

    if not truth.any() or not guess.any():
        far = (
            float(np.hypot(*(np.array(truth.shape) * spacing)))
            if truth.any() or guess.any()
            else 0.0
        )
        return far, 0.0, far, far
    masks = torch.from_numpy(guess), torch.from_numpy(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of what it does itself
        _, sides, _ = get_edge_surface_distance(*masks, spacing=list(spacing), symmetric=True)
    pooled = torch.cat(sides).double()
    far_95 = max(float(torch.quantile(side.double(), 0.95)) for side in sides)
    return float(pooled.mean()), float(pooled.std(correction=0)), float(pooled.max()), far_95

"""What networks do on each version: the measures of each cell of the grid, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from primis.attacks.learning import middle, redrawn, resampled
from primis.metrics.estimate import Estimate
from primis.study.names import Pair
from primis.study.segmentation.measure import SegmentationResult
from primis.study.segmentation.overlap import Overlap
from primis.study.versions import ORIGINAL


@dataclass(frozen=True)
class Cell:
    """What networks trained on one version do on another.

    measures: means over test images (of the mean over seeds), sd over images. difference: in Dice,
    from the same networks on original images; from_originals: from networks trained and tested on
    originals. Intervals are by resampling patients, in pairs for differences; for from_originals,
    where the networks differ too, seeds are drawn anew as well.
    """

    measures: Overlap[Estimate]
    difference: Estimate
    from_originals: Estimate


Grid = dict[Pair, Cell]


@lru_cache(maxsize=16)
def metrics(result: SegmentationResult) -> Grid:
    """How each network does on each version."""
    versions, tested, dice = result.versions, result.tested, result.values.dice
    rng = np.random.default_rng(0)
    people = np.zeros(len(result.persons)), result.persons
    blocks = [w / w.sum(1, keepdims=True) for w in resampled(*people)]
    weights = np.concatenate(blocks)  # (r, n)
    retrained = np.concatenate([redrawn(dice, rng) @ w.T for w in blocks], 2)  # (T, V, r)
    mean, first, own = dice.mean(2), versions.index(ORIGINAL), tested.index(ORIGINAL)

    def estimate(x: np.ndarray, draws: np.ndarray | None = None) -> Estimate:
        bounds = middle(weights @ x if draws is None else draws)
        sd = float(x.std(ddof=1)) if len(x) > 1 else None
        return Estimate(float(x.mean()), *bounds, len(x), sd)

    grid: Grid = {}
    for (t, learned), (v, judged) in product(enumerate(versions), enumerate(tested)):
        measures = Overlap(*(estimate(each[t, v].mean(0)) for each in result.values.each()))
        same = estimate(mean[t, v] - mean[t, own])
        apart = retrained[t, v] - retrained[first, own]
        far = estimate(mean[t, v] - mean[first, own], apart)
        grid[Pair(learned, judged)] = Cell(measures, same, far)
    return grid

"""What networks do on each version: the measures of each cell of the grid, with their intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import cast

import numpy as np

from primis.attacks.learning import middle, redrawn, resampled
from primis.metrics.estimate import Estimate
from primis.study.classification.measure import TaskResult
from primis.study.names import Pair
from primis.study.versions import ORIGINAL

_CHANCE = 0.5
_TELLING = 0.05


@dataclass(frozen=True)
class Cell:
    """What networks trained on one version do on another; sd: over seeds, everything else of their
    mean probability.

    auc, sensitivity and specificity of three classes are means over one class against the rest;
    by_class: their AUCs. difference: in AUC from the same networks on original images;
    from_originals: from networks that were trained and tested on originals. Intervals are by
    resampling patients within each class, in pairs for differences; for from_originals, where the
    networks differ too, seeds are drawn anew as well.
    """

    auc: Estimate
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    by_class: tuple[Estimate, ...]
    difference: Estimate
    from_originals: Estimate


Grid = dict[Pair, Cell]


@lru_cache(maxsize=16)
def metrics(result: TaskResult) -> Grid:
    """What each network does on each version."""
    scores, labels = result.scores.astype(np.float64), result.labels
    once = np.ones((1, len(labels)))
    value = _over(scores.mean(2), lambda p: measures(once, p, labels)[0])  # (T, V, m)
    seeds = _over(scores, lambda p: measures(once, p, labels)[0])  # (T, V, seeds, m)
    draws, retrained = _draws(scores, labels, result.persons)  # (T, V, r, m), (T, V, r)
    first, own = result.versions.index(ORIGINAL), result.tested.index(ORIGINAL)

    def estimate(cell: tuple[int, int], m: int) -> Estimate:
        return _estimate(value[cell][m], draws[cell][:, m], seeds[cell][:, m], len(labels))

    def loss(cell: tuple[int, int], other: tuple[int, int], auc: np.ndarray) -> Estimate:
        aucs = seeds[cell][:, 0] - seeds[other][:, 0]
        lost = value[cell][0] - value[other][0]
        return _estimate(lost, auc[cell] - auc[other], aucs, len(labels))

    grid: Grid = {}
    for (t, learned), (v, judged) in product(enumerate(result.versions), enumerate(result.tested)):
        auc, accuracy, sensitivity, specificity, *by_class = (
            estimate((t, v), m) for m in range(value.shape[-1])
        )
        same = loss((t, v), (t, own), draws[..., 0])
        far = loss((t, v), (first, own), retrained)
        grid[Pair(learned, judged)] = Cell(
            auc, accuracy, sensitivity, specificity, tuple(by_class), same, far
        )
    return grid


def measures(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(r, m): AUC, accuracy, sensitivity, specificity, all 0 to 1, and of more than two classes the
    AUC of each.

    weights: (r, n), how often each image counts; probabilities: (n, classes); labels: (n,). AUC:
    the probability that an image of the class scores above one of the rest, ties half. Sensitivity:
    named among those of the class; specificity: not named among the rest. Two classes: of the
    second; more: the mean over all.
    """
    count = probabilities.shape[1]
    judged = range(count) if count > 2 else [1]
    named = probabilities.argmax(1)

    def share(hit: np.ndarray, among: np.ndarray) -> np.ndarray:
        return cast(np.ndarray, (weights @ (hit & among)) / (weights @ among))

    aucs = np.stack([weighted_auc(weights, probabilities[:, c], labels == c) for c in judged], 1)
    columns = [
        aucs.mean(1),
        share(named == labels, np.ones(len(labels), bool)),
        np.mean([share(named == c, labels == c) for c in judged], 0),
        np.mean([share(named != c, labels != c) for c in judged], 0),
    ]
    return np.column_stack([*columns, aucs] if count > 2 else columns)


def weighted_auc(weights: np.ndarray, scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(r,) areas under the ROC curve, where image i counts weights[r, i] times."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    yes, no = (
        np.add.reduceat((weights * side)[:, order], starts, axis=1)
        for side in (positive, ~positive)
    )
    below = np.cumsum(no, 1) - no  # (r, distinct scores)
    return cast(np.ndarray, (yes * (below + no / 2)).sum(1) / (yes.sum(1) * no.sum(1)))


def confounds(result: TaskResult) -> str | None:
    """A caution where the corpus alone tells the classes apart; None where it does not."""
    labels = result.labels
    auc = float(measures(np.ones((1, len(labels))), result.by_corpus, labels)[0, 0])
    if auc < _CHANCE + _TELLING:
        return None
    parts = [
        f"{name} from {' and '.join(f'{corpus} ({n})' for corpus, n in corpora.items())}"
        for name, corpora in result.origins.items()
    ]
    return (
        f"Task {result.number} is confounded: {', '.join(parts)}. A guess by corpus alone, blind "
        f"to the image, has an AUC of {auc:.2f}. Networks can learn whatever differs between the "
        "corpora (age of the patients, scanner, compression), so these numbers say whether "
        "versions agree, not how well disease is detected."
    )


def _draws(
    scores: np.ndarray, labels: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measures of resampled images, and AUCs where the seeds are drawn anew as well."""
    rng = np.random.default_rng(0)
    draws, retrained = [], []
    for weights in resampled(labels, patients):
        measured = partial(measures, weights, labels=labels)
        draws.append(_over(scores.mean(2), measured))
        retrained.append(_over(redrawn(scores, rng), measured)[..., 0])
    return np.concatenate(draws, 2), np.concatenate(retrained, 2)


def _estimate(value: float, draws: np.ndarray, seeds: np.ndarray, n: int) -> Estimate:
    return Estimate(
        float(value), *middle(draws), n, float(seeds.std(ddof=1)) if len(seeds) > 1 else None
    )


def _over(scores: np.ndarray, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A measure of each (n, classes) at the end of an array."""
    flat = [measure(p) for p in scores.reshape(-1, *scores.shape[-2:])]
    return np.stack(flat).reshape(*scores.shape[:-2], *flat[0].shape)

"""Estimates with their intervals: means, proportions and areas under the ROC curve.

Every interval is two-sided, at 95 %. A p-value is two-sided: the probability of a result at least
this extreme if there is no effect. groups: which values belong together (images of one patient,
say) and are resampled together; by default none do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from math import factorial

import numpy as np
from scipy import stats

from primis.metrics.estimate import Estimate

_LEVEL = 0.95
_RESAMPLES = 2000
_PERMUTATIONS = 40_000


def mean_of(
    values: Sequence[float] | np.ndarray,
    groups: np.ndarray | None = None,
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> Estimate:
    """The mean, by Student's t over groups; a single group has no finite interval.

    least, most: the bounds of a single value, beyond which no interval reaches.
    """
    x = np.asarray(values, np.float64)
    mean, sd = float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else 0.0
    sums = np.bincount(_numbered(groups, len(x)), x - mean)
    n, reach = len(sums), float("inf")
    if n > 1:
        error = float(np.sqrt(n / (n - 1) * (sums**2).sum())) / len(x)
        reach = float(stats.t.ppf((1 + _LEVEL) / 2, n - 1)) * error
    return Estimate(mean, max(mean - reach, least), min(mean + reach, most), len(x), sd)


def share_of(hits: int, trials: int) -> Estimate:
    """A proportion, 0 to 1, by Clopper and Pearson (exact)."""
    interval = stats.binomtest(hits, trials).proportion_ci(_LEVEL, method="exact")
    return Estimate(hits / trials, float(interval.low), float(interval.high), trials)


def auc_of(
    scores: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> Estimate:
    """The probability that a positive scores above a negative (ties count half); 0.5 is chance.

    By resampling, within each class unless there are groups.

    Raises ValueError where a class is missing.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    classes = scores[labels], scores[~labels]
    if not len(classes[0]) or not len(classes[1]):
        raise ValueError(
            f"labels have {len(classes[0])} positives and {len(classes[1])} negatives, "
            "expected some of each"
        )
    rng = np.random.default_rng(seed)
    if groups is None:
        drawn = [
            _auc(*(rng.choice(part, len(part)) for part in classes)) for _ in range(_RESAMPLES)
        ]
    else:
        picks = (pick for pick in _resampled(groups, rng) if 0 < labels[pick].sum() < len(pick))
        drawn = [_auc(scores[pick][labels[pick]], scores[pick][~labels[pick]]) for pick in picks]
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(_auc(*classes), float(low), float(high), len(scores))


def own_over_others(
    likeness: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
) -> Estimate:
    """The probability that two outputs fit their own images better than each other's.

    0.5 is chance.

    likeness: (n, n), how like the output for image i (row) is to image j. Whatever an output or an
    image has by itself (brightness, difficulty) cancels when s_ii + s_jj is compared with s_ij +
    s_ji. The interval is by resampling images or groups of them, since pairs that share one are not
    independent.
    """
    own = np.diag(likeness)
    margin = own[:, None] + own[None, :] - likeness - likeness.T
    wins = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
    n = len(wins)
    off = ~np.eye(n, dtype=bool)
    rng = np.random.default_rng(seed)
    drawn = []
    for pick in _resampled(_numbered(groups, n), rng):
        pairs = pick[:, None] != pick[None, :]
        if pairs.any():
            drawn.append(wins[np.ix_(pick, pick)][pairs].mean())
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(float(wins[off].mean()), float(low), float(high), n)


def matching_p(likeness: np.ndarray, *, seed: int = 0) -> float:
    """Two-sided p-value of a permutation test: does the true matching of outputs (rows) with images
    (columns) fit better than a random one? Exact, whatever an output or an image has by itself.
    Fewer than 8 images cannot be significant.
    """
    rows = np.arange(len(likeness))

    def fit(columns: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(likeness[rows, columns].mean(axis=axis))

    return _permuted(rows, fit, seed)


def fixed_points_p(hits: int, n: int) -> float:
    """The probability that a random matching of n with n is right at least `hits` times."""
    right = (
        sum((-1) ** j / factorial(j) for j in range(n - k + 1)) / factorial(k)
        for k in range(hits, n + 1)
    )
    return min(1.0, max(0.0, sum(right)))


def grouping_p(likeness: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> float:
    """Two-sided p-value of a permutation test: are members of the same group more alike than those
    of random groups? likeness: (n, n).
    """
    same = (groups[:, None] == groups[None]) & ~np.eye(len(groups), dtype=bool)
    own, other = np.nonzero(same)

    def mean(order: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(likeness[order[..., own], order[..., other]].mean(axis=-1))

    return _permuted(np.arange(len(groups)), mean, seed)


def _permuted(order: np.ndarray, statistic: Callable[..., np.ndarray], seed: int) -> float:
    """The p-value of a statistic (columns, axis) of the order, among random orders."""
    test = stats.permutation_test(
        (order,),
        statistic,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _numbered(groups: np.ndarray | None, n: int) -> np.ndarray:
    """The group of each of n values, from 0."""
    return np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]


def _resampled(groups: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Positions of all members of as many groups as there are, drawn with replacement.

    Again and again.
    """
    numbers = _numbered(groups, len(groups))
    members = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    for _ in range(_RESAMPLES):
        yield np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])


def _auc(positive: np.ndarray, negative: np.ndarray) -> float:
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float(
        (ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative))
    )

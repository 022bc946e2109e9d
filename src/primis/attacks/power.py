"""What a test of this size can detect: the smallest effect that it finds with 80 % power.

Each is computed from the audit's own numbers: the spread of its tables, its intervals, how many
images and classes it has. Tests are two-sided at the corrected threshold (`result.P_THRESHOLD`).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from primis.attacks.result import MARGINS, P_THRESHOLD, Unit
from primis.metrics.estimate import Estimate
from primis.metrics.statistics import fixed_points_p

POWER = 0.8
_Z = float(stats.norm.isf(P_THRESHOLD / 2) + stats.norm.ppf(POWER))
_WIDTH = 2 * float(stats.norm.ppf(0.975))
_TIES = 1e-9


def matched_gain(table: np.ndarray) -> float | None:
    """Mean gain of own over others, in the units of the table (n, n), that `matching_p` detects.

    Under random matchings the mean of n cells, one a row and column, has the variance
    sum(d^2) / (n^2 (n - 1)), d: the table less the means of its rows and columns (Hoeffding 1951).
    """
    n = len(table)
    if n < 2:
        return None
    spread = _centred(table)
    sd = float(np.sqrt((spread**2).sum() / (n - 1))) / n
    return None if sd < _TIES else _Z * sd * n / (n - 1)


def matched_area(table: np.ndarray) -> float | None:
    """The probability that two outputs fit their own images better than each other's."""
    gain, n = matched_gain(table), len(table)
    if gain is None:
        return None
    spread = _centred(table)
    own = np.diag(spread)
    margins = (own[:, None] + own[None] - spread - spread.T)[~np.eye(n, dtype=bool)]
    return _beyond_chance(float(stats.norm.cdf(2 * gain / max(float(margins.std()), _TIES))) - 0.5)


def classes_area(positives: int, negatives: int) -> float | None:
    """The area under the ROC curve that Mann and Whitney's test detects."""
    if not positives or not negatives:
        return None
    sd = ((positives + negatives + 1) / (12 * positives * negatives)) ** 0.5
    return _beyond_chance(_Z * sd)


def interval_area(estimate: Estimate) -> float | None:
    """The area that a test with an interval of this width detects."""
    width = estimate.high - estimate.low
    return None if width < _TIES else _beyond_chance(_Z * width / _WIDTH)


def right_choices(n: int) -> float | None:
    """The share of right first choices among n candidates that a binomial test detects."""
    counts = np.arange(n + 1)
    return _share(n, stats.binom.sf(counts - 1, n, 1 / n))


def right_matches(n: int) -> float | None:
    """The share of a matching of n with n that must be right to be detected."""
    return _share(n, np.array([fixed_points_p(hits, n) for hits in range(n + 1)]))


def at_least(unit: Unit, effect: float | None) -> float | None:
    """An effect, or the margin that it must exceed to count."""
    return None if effect is None else max(effect, MARGINS[unit])


def _share(n: int, p_of_hits: np.ndarray) -> float | None:
    enough = np.flatnonzero(p_of_hits < P_THRESHOLD)
    if not len(enough):
        return None
    return float(stats.beta.ppf(POWER, int(enough[0]), n - int(enough[0]) + 1))


def _beyond_chance(effect: float) -> float | None:
    area = 0.5 + max(effect, MARGINS[Unit.AUC])
    return area if area < 1 else None


def _centred(table: np.ndarray) -> np.ndarray:
    """The table less the means of its rows and columns."""
    rows, columns = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    centred: np.ndarray = table - rows - columns + table.mean()
    return centred

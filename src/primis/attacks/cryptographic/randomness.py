"""Whether published bytes are as random as they should be to whoever lacks the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from primis.attacks.harness import Holds, View
from primis.attacks.result import P_THRESHOLD, Gain, Kind, Result, Unit
from primis.metrics.estimate import Estimate

NAME = "bytes that are not random"
_FAILED = P_THRESHOLD


@dataclass(frozen=True)
class Randomness:
    """p: the least of the p-values of the tests, times how many there are (Bonferroni, at most 1);
    shared: the longest run of bytes that two bundles have in common at the same place of a sealed
    or masked section; chance: how long such a run is at most, but in one of ten thousand audits."""

    p: float
    test: str
    shared: int
    chance: int


def randomness(views: Sequence[View]) -> Randomness:
    """Of what should be random without the key: bytes, bits, neighbouring bytes, repeats."""
    data = [view.data for view in views]
    joined = np.concatenate(data)
    tests = {
        "values of bytes": stats.chisquare(np.bincount(joined, minlength=256)).pvalue,
        "bits": stats.binomtest(int(np.unpackbits(joined).sum()), 8 * len(joined)).pvalue,
        "neighbouring bytes": _serial(joined),
        "bytes at the same place": _same_place(data),
    }
    least = min(tests, key=lambda name: tests[name])
    rows = np.stack([row[: min(len(d) for d in data)] for row in data])
    shared = (
        max(_longest(rows[i] == rows[j]) for i in range(len(rows)) for j in range(i))
        if len(rows) > 1
        else 0
    )
    chances = max(len(rows) * (len(rows) - 1) / 2 * rows.shape[1], 1)
    return Randomness(
        min(1.0, float(tests[least]) * len(tests)),
        least,
        shared,
        int(np.ceil(np.log(chances * 1e4) / np.log(256))),
    )


def _serial(joined: np.ndarray) -> float:
    r = float(np.corrcoef(joined[:-1].astype(float), joined[1:].astype(float))[0, 1])
    return float(2 * stats.norm.sf(abs(np.arctanh(r)) * (len(joined) - 4) ** 0.5))


def _same_place(data: list[np.ndarray]) -> float:
    """Equal bytes at equal places of neighbouring bundles, against one in 256."""
    pairs = [(a[: min(len(a), len(b))], b[: min(len(a), len(b))]) for a, b in pairwise(data)]
    trials = sum(len(a) for a, _ in pairs)
    return (
        float(stats.binomtest(sum(int((a == b).sum()) for a, b in pairs), trials, 1 / 256).pvalue)
        if trials
        else 1.0
    )


def _longest(same: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def randomness_result(views: Sequence[View]) -> Result:
    """Tests of the published bytes, and repeats between bundles."""
    seen = randomness(views)
    longest = Estimate(seen.shared, seen.shared, seen.shared, len(views))
    repeats = Gain(
        "bytes in a row that two bundles share",
        Unit.COUNT,
        float(seen.chance),
        longest,
        0.0 if seen.shared > seen.chance else 1.0,
        seen.chance + 1.0,
    )
    failed = Estimate(float(seen.p < _FAILED), 0, 1, 4)
    uneven = Gain("tests of randomness failed", Unit.COUNT, 0.0, failed, seen.p)
    note = f"least p of four tests, corrected: {seen.p:.2g} ({seen.test})"
    return Result(NAME, Kind.CRYPTOGRAPHIC, "", Holds.CODES, (repeats, uneven), note=note)

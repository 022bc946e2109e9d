"""What a bundle tells without being opened: lengths, and bytes that are not as random as they should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from primis.attacks.protocol import Case
from primis.bundle.header import Header


@dataclass(frozen=True)
class Lengths:
    """sections: those whose length differs between images of one geometry and one choice of settings; images: how many
    there were that another could be compared with; bits: what the lengths tell of which image it is, at most."""

    sections: tuple[str, ...]
    images: int
    bits: float


def of_header(header: Header) -> tuple[object, dict[str, int]]:
    """(what anyone may know, bytes of each section)."""
    return (header.geometry, header.settings), {
        section.name: section.bytes for section in header.sections
    }


def lengths(images: Sequence[tuple[object, dict[str, int]]]) -> Lengths:
    """Compare the lengths of images about which the same is known."""
    groups: dict[object, list[dict[str, int]]] = {}
    for known, sections in images:
        groups.setdefault(known, []).append(sections)
    several = [rows for rows in groups.values() if len(rows) > 1]
    differ = tuple(
        name
        for name in images[0][1]
        if any(len({row[name] for row in rows}) > 1 for rows in several)
    )
    total = sum(len(rows) for rows in several)
    bits = (
        sum(len(rows) / total * _entropy([tuple(row.values()) for row in rows]) for rows in several)
        if total
        else 0.0
    )
    return Lengths(differ, total, bits)


def _entropy(rows: list[tuple[int, ...]]) -> float:
    _, counts = np.unique(np.array(rows), axis=0, return_counts=True)
    return float(stats.entropy(counts, base=2))


@dataclass(frozen=True)
class Randomness:
    """p: the least of the p-values of the tests, times how many there are (Bonferroni, at most 1); shared: the longest run
    of bytes that two bundles have in common at the same place of a sealed or masked section; chance: how long such a run
    is expected to be, at most, in one of ten thousand audits."""

    p: float
    test: str
    shared: int
    chance: int


def randomness(cases: Sequence[Case]) -> Randomness:
    """Of what should be random to whoever lacks the key: bytes, bits, pairs of neighbouring bytes, repeats between bundles."""
    data = [case.view.data for case in cases]
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

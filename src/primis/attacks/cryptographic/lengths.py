"""What the lengths of a bundle's sections tell without its being opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from primis.attacks.harness import Holds
from primis.attacks.result import Gain, Kind, Result, Unit
from primis.bundle.header import Header
from primis.metrics.estimate import Estimate


@dataclass(frozen=True)
class Lengths:
    """sections: those whose length differs between images of one geometry and one choice of
    settings; images: how many there were that another could be compared with; bits: what the
    lengths tell of which image it is, at most."""

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


def lengths_result(images: Sequence[tuple[object, dict[str, int]]]) -> Result:
    """Parts whose length depends on content."""
    seen = lengths(images)
    what = f"parts whose length differs, of {seen.images} bundles alike in geometry and settings"
    count = len(seen.sections)
    note = ""
    if count:
        told = f"{seen.bits:.1f} bits of which image it is"
        note = f"lengths differ in {', '.join(seen.sections)}: {told}"
    if not seen.images:
        note = "nothing to compare: no two images are alike in geometry and settings"
    estimate = Estimate(count, count, count, seen.images)
    detectable = 1.0 if seen.images else None
    gain = Gain(what, Unit.COUNT, 0.0, estimate, 0.0 if count else 1.0, detectable)
    return Result("lengths", Kind.CRYPTOGRAPHIC, "", Holds.CODES, (gain,), note=note)

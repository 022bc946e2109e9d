"""What each party sees of a judged image, beside the image itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from primis.attacks.harness import Harness, Holds, JudgedCase
from primis.attacks.suite import Outcome
from primis.metrics.fidelity import best_fit, psnr

_THE_MEAN = 0.98
"""Correlation with the mean of other images from which a picture is no more than that mean."""


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures of one image, each with its caption, (H, W) on the grey scale from low, black, to
    high, white."""

    cells: list[tuple[str, np.ndarray]]
    low: float
    high: float


def rows_of(
    harness: Harness,
    outcomes: Sequence[Outcome],
    dark: Collection[str] = (),
    *,
    shown: int,
    best: int | None = None,
) -> list[Row]:
    """The first judged images and what each party sees of them. dark: names of those whose low
    samples are bright; best: how many attackers, by default all."""
    rows = []
    for number, case in enumerate(harness.judged[:shown]):
        low, high = float(case.pixels.min()), float(case.pixels.max())
        if case.name in dark:
            low, high = high, low
        rows.append(Row(sights(harness, outcomes, number, best), low, high))
    return rows


def sights(
    harness: Harness, outcomes: Sequence[Outcome], number: int, most: int | None = None
) -> list[tuple[str, np.ndarray]]:
    """(caption, picture) of one judged image: itself, what the key's holder sees, the guesses of
    attackers without its keys (all, or the best of those that learned something, if any did), and
    what needs no code."""
    case, mean = harness.judged[number], harness.mean_image
    seen = [
        ("the image", case.pixels),
        (_told("authorised", case, case.authorised), case.authorised),
    ]
    for outcome in _drawn(outcomes, most):
        picture = outcome.pictures[number]
        seen.append((_told(outcome.result.attack, case, picture) + _aside(picture, mean), picture))
    without = best_fit(mean, case.pixels)
    return [*seen, (_told("without any code (mean of other images)", case, without), without)]


def _drawn(outcomes: Sequence[Outcome], most: int | None) -> list[Outcome]:
    """Of attackers who lack the keys: a preview is no success of its holder's."""
    drawn = [o for o in outcomes if o.pictures and o.result.holds != Holds.PREVIEW]
    if most is None:
        return drawn
    learned = [outcome for outcome in drawn if outcome.result.broken]
    return sorted(learned or drawn, key=_psnr, reverse=True)[:most]


def _psnr(outcome: Outcome) -> float:
    drawn = outcome.result.reconstruction
    return float("-inf") if drawn is None else drawn.fidelity.psnr.value


def _told(name: str, case: JudgedCase, picture: np.ndarray) -> str:
    db = psnr(case.pixels, picture, case.full)
    return f"{name}: {'the same' if db == float('inf') else f'{db:.1f} dB'}"


def _aside(picture: np.ndarray, mean: np.ndarray) -> str:
    """That an attacker's picture shows nothing of this image."""
    if np.ptp(picture) < 1e-6 * max(abs(float(picture.mean())), 1.0):
        return ", one grey level"
    if not np.ptp(mean):
        return ""
    alike = float(np.corrcoef(picture.ravel(), mean.ravel())[0, 1])
    return ", the mean of other patients' images" if alike > _THE_MEAN else ""

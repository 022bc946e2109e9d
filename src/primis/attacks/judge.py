"""Scores what attacks propose, against floors that the same attack sets itself. Pairs targets with
their truth, which no attacker sees.

An image: the judge grants brightness and contrast (the best affine fit), so what counts is
structure. Its floors are the mean of the attacker's images and the same attack's guess from
*another* image's bundle: whatever it knows without the right code, the floor knows too. At level
`keyed` own and other bundles are alike, so an attack that gains is evidence of a leak, however
clever it is. Besides, over all pairs of images: does a guess fit its own image better?

Supports: the area under the ROC curve of true against decoy among public entries; where no entry
lies open, of an image's true entries against others, by its own bundle and by those of other
images. Re-identification: the share of right first choices. Attributes: area under the ROC curve.
Intervals are over patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

from primis.attacks.harness import (
    AttributeAttack,
    BesideAttack,
    Harness,
    ImageAttack,
    JudgedCase,
    LinkAttack,
    SupportAttack,
    View,
)
from primis.attacks.power import (
    at_least,
    classes_area,
    interval_area,
    matched_area,
    matched_gain,
    right_choices,
    right_matches,
)
from primis.attacks.result import (
    FIDELITY,
    FidelityMetrics,
    Gain,
    Reconstruction,
    Result,
    SupportMetrics,
    Unit,
)
from primis.errors import PrimisError
from primis.metrics.fidelity import best_fit, fidelity, psnr
from primis.metrics.statistics import (
    auc_of,
    fixed_points_p,
    matching_p,
    mean_of,
    own_over_others,
    share_of,
)

_BESIDE = 24
Guess = TypeVar("Guess", np.ndarray, float)


class Drawn(NamedTuple):
    """A result, and the guesses behind it, each fitted to its image, for pictures."""

    result: Result
    pictures: list[np.ndarray]


class _Cross(NamedTuple):
    """Guesses (rows) against images (columns): own on the diagonal, the mean of the others."""

    own: np.ndarray
    other: np.ndarray


def judge_images(attack: ImageAttack, harness: Harness) -> Drawn:
    """Draws each target once, and compares every guess with every image."""
    world, cases = harness.world(attack.holds), harness.judged
    guesses = _each(attack.name, harness, lambda view: attack.guess(world, view))
    shown = [best_fit(guess, case.pixels) for guess, case in zip(guesses, cases, strict=True)]
    table = psnr_table(guesses, cases)
    support = _support(attack, harness) if isinstance(attack, SupportAttack) else None
    gains = _image_gains(table, harness.patients)
    metrics = _reconstruction(table, shown, harness, support.metrics if support else None)
    return Drawn(_result(attack, [*gains, *([support.gain] if support else [])], metrics), shown)


def _image_gains(table: np.ndarray, patients: np.ndarray) -> list[Gain]:
    p, cross = matching_p(table), _cross(table)
    gained = mean_of(cross.own - cross.other, patients)
    told = own_over_others(table, patients)
    least = at_least(Unit.DB, matched_gain(table))
    what = "PSNR over the same attack on another image's code"
    return [
        Gain(what, Unit.DB, 0.0, gained, p, least),
        Gain("own image told from another's", Unit.AUC, 0.5, told, p, matched_area(table)),
    ]


def _reconstruction(
    table: np.ndarray,
    shown: Sequence[np.ndarray],
    harness: Harness,
    support: SupportMetrics | None,
) -> Reconstruction:
    cross, mean, patients = _cross(table), harness.mean_image, harness.patients
    flat = np.array([psnr(c.pixels, best_fit(mean, c.pixels), c.full) for c in harness.judged])
    best = flat if flat.mean() >= cross.other.mean() else cross.other
    return Reconstruction(
        mean_fidelity(harness.judged, shown),
        mean_of(cross.other, patients),
        mean_of(flat, patients),
        mean_of(cross.own - best, patients),
        support,
    )


def _cross(table: np.ndarray) -> _Cross:
    own = np.diag(table)
    return _Cross(own, (table.sum(axis=0) - own) / max(len(table) - 1, 1))


def _result(
    attack: ImageAttack | BesideAttack, gains: Sequence[Gain], metrics: Reconstruction
) -> Result:
    return Result(attack.name, attack.kind, attack.source, attack.holds, tuple(gains), metrics)


def judge_beside(attack: BesideAttack, harness: Harness) -> Drawn:
    """An attacker who holds tier preview. The floor: the same attack, with another image's code
    beside the right preview."""
    cases, patients = harness.judged[:_BESIDE], harness.patients[:_BESIDE]
    world, shown, columns = harness.world(attack.holds), [], []
    for number, case in enumerate(cases):
        harness.report(f"{attack.name}: judged", number, len(cases))
        preview = harness.preview(case)
        proposed = (attack.guess_beside(world, other.view, preview) for other in cases)
        guesses = [best_fit(guess, case.pixels) for guess in proposed]
        shown.append(guesses[number])
        columns.append([psnr(case.pixels, guess, case.full) for guess in guesses])
    table = np.array(columns).T  # (code, preview and image)
    cross = _cross(table)
    gain = Gain(
        "PSNR over the same attack beside another image's code",
        Unit.DB,
        0.0,
        mean_of(cross.own - cross.other, patients),
        matching_p(table),
        at_least(Unit.DB, matched_gain(table)),
    )
    metrics = Reconstruction(mean_fidelity(cases, shown), mean_of(cross.other, patients))
    return Drawn(_result(attack, [gain], metrics), shown)


def mean_fidelity(cases: Sequence[JudgedCase], pictures: Sequence[np.ndarray]) -> FidelityMetrics:
    """Means over cases of how near each picture (H, W) is to its image."""
    pairs = zip(cases, pictures, strict=True)
    each = [fidelity(case.pixels, picture, case.full) for case, picture in pairs]
    patients = np.array([case.patient for case in cases])
    means = {name: mean_of([getattr(one, name) for one in each], patients) for name in FIDELITY}
    return FidelityMetrics(**means)


def psnr_table(guesses: Sequence[np.ndarray], cases: Sequence[JudgedCase]) -> np.ndarray:
    """(n, n) dB: the guess from bundle i (row), at its best brightness and contrast, against image
    j (column)."""
    rows = np.stack([_unit(guess) for guess in guesses])
    columns = np.stack([_unit(case.pixels) for case in cases])
    likeness = np.clip((rows @ columns.T).astype(np.float64), 0, 1)
    variance = np.array([case.pixels.astype(np.float64).var() for case in cases])
    full = np.array([case.full for case in cases])
    table: np.ndarray = 10 * np.log10(full**2 / np.maximum(variance * (1 - likeness**2), 1e-6))
    return table


def judge_links(attack: LinkAttack, harness: Harness, candidates: Sequence[np.ndarray]) -> Result:
    """candidates: for each of the first targets, the image that belongs to it, as the attacker has
    it."""
    n, world = len(candidates), harness.world(attack.holds)
    score = attack.score(world, world.targets[:n], candidates)
    hits = round(sum(_first_choice(row, own) for own, row in enumerate(score)))
    choices = share_of(hits, n)
    what = f"right first choices among {n}"
    if attack.matches:
        p, least = fixed_points_p(hits, n), right_matches(n)
        gains = [Gain(what, Unit.SHARE, 1 / n, choices, p, least)]
    else:
        p = float(stats.binomtest(hits, n, 1 / n, alternative="greater").pvalue)
        told = own_over_others(score, harness.patients[:n])
        apart = ("own image told from another's", Unit.AUC, 0.5, told)
        gains = [
            Gain(what, Unit.SHARE, 1 / n, choices, p, right_choices(n)),
            Gain(*apart, matching_p(score), matched_area(score)),
        ]
    return Result(attack.name, attack.kind, attack.source, attack.holds, tuple(gains))


def judge_attribute(
    attack: AttributeAttack, harness: Harness, ceiling: np.ndarray | None = None
) -> Result:
    """ceiling: scores by the same reader of what the key's holder has."""
    world, trait, cases = harness.world(attack.holds), attack.trait, harness.judged
    scores = np.array(_each(attack.name, harness, lambda view: attack.score(world, view)))
    known = np.array([trait in case.traits for case in cases])
    positive = np.array([case.traits.get(trait) == attack.positive for case in cases])
    labels, patients = positive[known], harness.patients[known]
    gain = told_apart(attack.positive, scores[known], labels, patients)
    authorised = None if ceiling is None else auc_of(ceiling[known], labels, patients)
    return Result(
        attack.name, attack.kind, attack.source, attack.holds, (gain,), authorised=authorised
    )


def told_apart(
    what: str, scores: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> Gain:
    """Two classes by their scores: area under the ROC curve, and Mann and Whitney's test."""
    p = float(stats.mannwhitneyu(scores[labels], scores[~labels]).pvalue)
    least = classes_area(int(labels.sum()), int((~labels).sum()))
    area = auc_of(scores, labels, groups)
    return Gain(f"{what} told from others", Unit.AUC, 0.5, area, p, least)


def _each(name: str, harness: Harness, call: Callable[[View], Guess]) -> list[Guess]:
    out: list[Guess] = []
    for number, case in enumerate(harness.judged):
        harness.report(f"{name}: judged", number, len(harness.judged))
        out.append(call(case.view))
        if not np.isfinite(out[-1]).all():  # a diverged network learns nothing, and proves nothing
            raise PrimisError(
                f'attack "{name}" gave no numbers: its training diverged, try more or fewer steps'
            )
    return out


def _unit(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit norm, flat; a flat image stays zero."""
    flat = image.astype(np.float32).ravel()
    flat = flat - flat.mean(dtype=np.float64).astype(np.float32)
    return flat / max(float(np.linalg.norm(flat)), 1e-9)


class _Support(NamedTuple):
    gain: Gain
    metrics: SupportMetrics


class _Scored(NamedTuple):
    """areas: (n, n), scores for image i (row) against the true entries of image j (column);
    recovered, by_chance: of each image, as of SupportMetrics."""

    areas: np.ndarray
    recovered: list[float]
    by_chance: list[float]


def _support(attack: SupportAttack, harness: Harness) -> _Support:
    areas, recovered, by_chance = _scored(attack, harness)
    cross, patients = _cross(areas), harness.patients
    own = mean_of(cross.own, patients)
    beyond = mean_of(0.5 + cross.own - cross.other, patients)
    if not harness.open_code:  # which are true cannot be seen, but where they lie could be known
        what = "true entries told from others, beyond what other images' bundles tell"
        effect = matched_gain(areas)
        least = None if effect is None else 0.5 + max(effect, 0.02)
        gain = Gain(what, Unit.AUC, 0.5, beyond, matching_p(areas), least)
        return _Support(gain, SupportMetrics(own, beyond))
    p = float(stats.ttest_1samp(cross.own, 0.5).pvalue) if np.ptp(cross.own) else 1.0
    if not np.ptp(cross.own) and cross.own[0] != 0.5:
        p = 0.0
    gain = Gain("true entries told from decoys", Unit.AUC, 0.5, own, p, interval_area(own))
    told = SupportMetrics(own, beyond, mean_of(recovered, patients), mean_of(by_chance, patients))
    return _Support(gain, told)


def _scored(attack: SupportAttack, harness: Harness) -> _Scored:
    world = harness.world(attack.holds)
    truths = np.stack([(case.levels != 0).ravel() for case in harness.judged])
    scored = _Scored(np.empty((len(truths), len(truths))), [], [])
    for i, case in enumerate(harness.judged):
        there = np.flatnonzero(case.view.public)
        score = attack.score(world, case.view).ravel()[there]
        scored.areas[i] = _areas(score, truths[:, there])
        true = truths[i, there]
        best = true[np.argsort(-score, kind="stable")[: int(true.sum())]]
        scored.recovered.append(float(best.mean()) if len(best) else 0.0)
        scored.by_chance.append(float(true.mean()))
    return scored


def _areas(scores: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each row of truths (n, places), ties counting half; 0.5 where a
    class is missing."""
    ranks, positives = stats.rankdata(scores), truths.sum(axis=1)
    pairs = positives * (len(scores) - positives)
    area = (truths @ ranks - positives * (positives + 1) / 2) / np.maximum(pairs, 1)
    return np.where(pairs > 0, area, 0.5)


def _first_choice(row: np.ndarray, own: int) -> float:
    """1 if the own candidate has the highest score, a part of it where several share it."""
    best = row == row.max()
    return float(best[own]) / float(best.sum())

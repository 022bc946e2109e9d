"""Scores what attacks propose, against floors that the same attack sets itself.

An image: the judge grants brightness and contrast (the best affine fit), so what counts is structure. Its floors are
the mean training image and the same attack's guess from *another* image's bundle: whatever it knows without the
right code, the floor knows too. At level `keyed` own and other bundles are alike, so an attack that gains is
evidence of a leak, however clever it is. Besides, over all pairs of images: does a guess fit its own image better?

Supports: the area under the ROC curve of true against decoy among public entries; where no entry lies open, of an image's true
entries against others, by its own bundle and by those of other images. Links: the share of right first choices. Labels: area
under the ROC curve. Intervals are over patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from primis.attacks.protocol import (
    BesideAttack,
    Case,
    ImageAttack,
    LabelAttack,
    LinkAttack,
    SupportAttack,
    World,
    preview_of,
)
from primis.errors import PrimisError
from primis.metrics.fidelity import best_fit, fidelity, psnr
from primis.metrics.statistics import (
    Estimate,
    auc_of,
    fixed_points_p,
    matching_p,
    mean_of,
    own_over_others,
    share_of,
)

MARGINS = {"dB": 0.1, "AUC": 0.02, "share": 0.0, "count": 0.0}
"""What counts as a gain, beyond doubt: in PSNR, in an area under the ROC curve, in a share of right answers; any byte."""

DOUBT, LOOKS = 0.01, 90
"""How often a release in which nothing is to be found may be blamed; no more gains than LOOKS share it (Bonferroni)."""

_BESIDE = 24


@dataclass(frozen=True)
class Gain:
    """By how much an attack beats chance or its floor. what: the measure; unit: a key of MARGINS; chance: what
    knowing nothing gives; estimate: with its 95 % interval; p: the chance of as much where there is nothing."""

    what: str
    unit: str
    chance: float
    estimate: Estimate
    p: float

    @property
    def found(self) -> bool:
        """Whether it is beyond the margin and beyond doubt. An area below chance tells as much as one above."""
        beyond = self.estimate.value - self.chance
        return (
            self.p < DOUBT / LOOKS
            and (abs(beyond) if self.unit == "AUC" else beyond) > MARGINS[self.unit]
        )


@dataclass(frozen=True)
class Finding:
    """What one attack reached. figures: what tables show, by name; note: what a reader must know besides."""

    attack: str
    kind: str
    source: str
    holds: str
    gains: tuple[Gain, ...]
    figures: dict[str, Estimate] = field(default_factory=dict)
    note: str = ""

    @property
    def broken(self) -> bool:
        """Whether the attacker learned something of the images."""
        return any(gain.found for gain in self.gains)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {
            "broken": self.broken,
            "gains": [asdict(g) | {"found": g.found} for g in self.gains],
        }

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Finding:
        """Inverse of `as_dict`."""
        gains = [
            Gain(g["what"], g["unit"], g["chance"], Estimate(**g["estimate"]), g["p"])
            for g in body["gains"]
        ]
        figures = {name: Estimate(**figure) for name, figure in body["figures"].items()}
        rest = {name: body[name] for name in ("attack", "kind", "source", "holds", "note")}
        return cls(gains=tuple(gains), figures=figures, **rest)


def judge_images(attack: ImageAttack, world: World) -> tuple[Finding, list[np.ndarray]]:
    """Also returns the guesses, each fitted to its image, for pictures."""
    guesses = _each(attack.name, world, lambda view: attack.guess(world, view))
    shown = [best_fit(guess, case.pixels) for guess, case in zip(guesses, world.test, strict=True)]
    table = psnr_table(guesses, world)
    own, n = np.diag(table), len(table)
    other = (table.sum(axis=0) - own) / max(n - 1, 1)
    flat = np.array(
        [psnr(c.pixels, best_fit(world.mean_image, c.pixels), c.full) for c in world.test]
    )
    best = flat if flat.mean() >= other.mean() else other
    figures = mean_fidelity(world.test, shown)
    figures |= {
        "floor: mean image": mean_of(flat, world.patients),
        "floor: another image's code": mean_of(other, world.patients),
        "gain over the best without the code": mean_of(own - best, world.patients),
    }
    p, patients = matching_p(table), world.patients
    gains = [Gain("PSNR over the same attack on another image's code", "dB", 0.0, mean_of(own - other, patients), p),
             Gain("own image told from another's", "AUC", 0.5, own_over_others(table, patients), p)]  # fmt: skip
    if isinstance(attack, SupportAttack):
        area, share = _support(attack, world)
        gains.append(area)
        figures |= share
    return Finding(attack.name, "image", attack.source, attack.holds, tuple(gains), figures), shown


def judge_beside(attack: BesideAttack, world: World) -> tuple[Finding, list[np.ndarray]]:
    """An attacker who holds tier preview. The floor: the same attack, with another image's code beside the right preview."""
    cases = world.test[:_BESIDE]
    columns = []
    for number, case in enumerate(cases):
        world.report(f"{attack.name}: judged", number, len(cases))
        preview = preview_of(world, case)
        guesses = [
            best_fit(attack.guess_beside(world, other.view, preview), case.pixels)
            for other in cases
        ]
        columns.append(
            (guesses[number], [psnr(case.pixels, guess, case.full) for guess in guesses])
        )
    table = np.array([column for _, column in columns]).T  # (code, preview and image)
    own, n = np.diag(table), len(table)
    other = (table.sum(axis=0) - own) / max(n - 1, 1)
    gained = mean_of(own - other, world.patients[: len(cases)])
    gain = Gain(
        "PSNR over the same attack beside another image's code",
        "dB",
        0.0,
        gained,
        matching_p(table),
    )
    shown = [fit for fit, _ in columns]
    figures = mean_fidelity(cases, shown)
    figures |= {
        "floor: tier preview, another image's code": mean_of(other, world.patients[: len(cases)])
    }
    return Finding(attack.name, "image", attack.source, attack.holds, (gain,), figures), shown


def mean_fidelity(cases: Sequence[Case], pictures: Sequence[np.ndarray]) -> dict[str, Estimate]:
    """The paper's measures of Table 4: means over cases of how near each picture (H, W) is to its image."""
    found = [
        fidelity(case.pixels, picture, case.full)
        for case, picture in zip(cases, pictures, strict=True)
    ]
    patients = np.array([case.patient for case in cases])
    return {
        name: mean_of([getattr(f, name) for f in found], patients)
        for name in ("mae", "me", "rmse", "psnr", "ssim")
    }


def psnr_table(guesses: Sequence[np.ndarray], world: World) -> np.ndarray:
    """(n, n) dB: the guess from bundle i (row), at its best brightness and contrast, against image j (column)."""
    rows, columns = (
        np.stack([_unit(image) for image in images])
        for images in (guesses, [c.pixels for c in world.test])
    )
    likeness = np.clip((rows @ columns.T).astype(np.float64), 0, 1)
    variance = np.array([case.pixels.astype(np.float64).var() for case in world.test])
    full = np.array([case.full for case in world.test])
    table: np.ndarray = 10 * np.log10(full**2 / np.maximum(variance * (1 - likeness**2), 1e-6))
    return table


def judge_links(attack: LinkAttack, world: World, candidates: Sequence[np.ndarray]) -> Finding:
    """candidates: for each of the first views, the image that belongs to it, as the attacker has it."""
    score = attack.score(world, [case.view for case in world.test[: len(candidates)]], candidates)
    n = len(candidates)
    hits = round(sum(_first_choice(row, own) for own, row in enumerate(score)))
    p = (
        fixed_points_p(hits, n)
        if attack.matches
        else float(stats.binomtest(hits, n, 1 / n, alternative="greater").pvalue)
    )
    gains = [Gain(f"right first choices among {n}", "share", 1 / n, share_of(hits, n), p)]
    if not attack.matches:
        likelier = own_over_others(score, world.patients[:n])
        gains.append(Gain("own image told from another's", "AUC", 0.5, likelier, matching_p(score)))
    return Finding(attack.name, "link", attack.source, attack.holds, tuple(gains))


def judge_labels(attack: LabelAttack, world: World, ceiling: np.ndarray | None = None) -> Finding:
    """ceiling: scores by the same reader of what the key's holder has."""
    scores = np.array(_each(attack.name, world, lambda view: attack.score(world, view)))
    known = np.array([attack.trait in case.traits for case in world.test])
    labels = np.array([case.traits.get(attack.trait) == attack.positive for case in world.test])[
        known
    ]
    patients = world.patients[known]
    figures = (
        {} if ceiling is None else {"ceiling: authorised": auc_of(ceiling[known], labels, patients)}
    )
    gain = told_apart(attack.positive, scores[known], labels, patients)
    return Finding(attack.name, "label", attack.source, attack.holds, (gain,), figures)


def told_apart(
    what: str, scores: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> Gain:
    """Two classes by their scores: area under the ROC curve, and Mann and Whitney's test."""
    p = float(stats.mannwhitneyu(scores[labels], scores[~labels]).pvalue)
    return Gain(f"{what} told from others", "AUC", 0.5, auc_of(scores, labels, groups), p)


def counted(attack: str, holds: str, what: str, hits: int, trials: int, note: str = "") -> Finding:
    """An attack of which a single success is one too many."""
    gain = Gain(what, "count", 0.0, Estimate(hits, hits, hits, trials), 0.0 if hits else 1.0)
    return Finding(attack, "count", "", holds, (gain,), {}, note)


def _each(name: str, world: World, call: Any) -> list[Any]:
    out = []
    for number, case in enumerate(world.test):
        world.report(f"{name}: judged", number, len(world.test))
        out.append(call(case.view))
        if not np.isfinite(out[-1]).all():  # a diverged network finds nothing, and proves nothing
            raise PrimisError(
                f'attack "{name}" gave no numbers: its training diverged, try other --steps'
            )
    return out


def _unit(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit norm, flat; a flat image stays zero."""
    flat = image.astype(np.float32).ravel()
    flat = flat - flat.mean(dtype=np.float64).astype(np.float32)
    return flat / max(float(np.linalg.norm(flat)), 1e-9)


def _support(attack: SupportAttack, world: World) -> tuple[Gain, dict[str, Estimate]]:
    truths = np.stack([(case.levels != 0).ravel() for case in world.test])
    table, share, chance = np.empty((len(truths), len(truths))), [], []
    for i, case in enumerate(world.test):
        there = np.flatnonzero(case.view.public)
        score = attack.score(world, case.view).ravel()[there]
        table[i] = _areas(score, truths[:, there])
        true = truths[i, there]
        count = int(true.sum())
        share.append(
            float(true[np.argsort(-score, kind="stable")[:count]].mean()) if count else 0.0
        )
        chance.append(float(true.mean()))
    own, n, patients = np.diag(table), len(table), world.patients
    beyond = 0.5 + own - (table.sum(axis=0) - own) / max(n - 1, 1)
    figures = {
        "support AUC": mean_of(own, patients),
        "support AUC beyond the prior": mean_of(beyond, patients),
    }
    if (
        not world.open_code
    ):  # which entries are true cannot be seen, but where they lie could be known
        what = "true entries told from others, beyond what other images' bundles tell"
        return Gain(what, "AUC", 0.5, mean_of(beyond, patients), matching_p(table)), figures
    figures |= {"support recovered": mean_of(share, patients), "chance": mean_of(chance, patients)}
    p = float(stats.ttest_1samp(own, 0.5).pvalue) if np.ptp(own) else float(own[0] == 0.5)
    return Gain("true entries told from decoys", "AUC", 0.5, mean_of(own, patients), p), figures


def _areas(scores: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each row of truths (n, places), ties counting half; 0.5 where a class is missing."""
    ranks, positives = stats.rankdata(scores), truths.sum(axis=1)
    pairs = positives * (len(scores) - positives)
    area = (truths @ ranks - positives * (positives + 1) / 2) / np.maximum(pairs, 1)
    return np.where(pairs > 0, area, 0.5)


def _first_choice(row: np.ndarray, own: int) -> float:
    """1 if the own candidate has the highest score, a part of it where several share it."""
    best = row == row.max()
    return float(best[own]) / float(best.sum())

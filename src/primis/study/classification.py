"""Can disease be told from restored images as from originals? Networks trained on each version of the images, tested on all.

A class is named by the one that has the largest probability. The loss weighs all classes alike, so this is a threshold of
0.5 for two; a threshold of its own, chosen on a validation split of some dozens of images, would be chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from primis.attacks.learning import (
    SPLITS,
    Learner,
    Pairs,
    Recipe,
    infer,
    middle,
    redrawn,
    resampled,
    standardised,
    stepwise,
    trained,
)
from primis.errors import UsageError
from primis.metrics.part import Keep, Part, Progress, make_anew, silent
from primis.metrics.statistics import Estimate
from primis.study.versions import ORIGINAL

_LEAST = 4
_CHANCE = 0.5
_TELLING = 0.05

SMALL = Learner(
    "small", 128, Recipe(epochs=20, steps=280, batch=16, rate=3e-3, decay=0.1), (0, 1, 2)
)
FULL = Learner("densenet121", 224, Recipe(epochs=30, steps=10_000, batch=32, rate=1e-3), (0, 1, 2))
QUICK = Learner("small", 48, Recipe(epochs=4, steps=40, batch=16, rate=1e-2), (0,))


@dataclass(frozen=True)
class Task:
    """A question of the paper's, by its number. groups: the labels that make up each class; of two classes the second is
    the positive one. name: short, for files."""

    number: int
    name: str
    groups: tuple[tuple[str, ...], ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return tuple(" + ".join(group) for group in self.groups)

    @property
    def title(self) -> str:
        """For people."""
        return (
            " | ".join(self.classes)
            if len(self.groups) > 2
            else f"{self.classes[1]} against {self.classes[0]}"
        )


TASKS = (
    Task(1, "normal-bacterial-viral", (("normal",), ("bacterial",), ("viral",))),
    Task(2, "bacterial-viral", (("viral",), ("bacterial",))),
    Task(3, "covid-viral", (("viral",), ("covid",))),
    Task(4, "covid-pneumonia", (("viral", "bacterial"), ("covid",))),
    Task(5, "normal-both", (("normal",), ("viral", "bacterial"))),
    Task(6, "normal-viral", (("normal",), ("viral",))),
    Task(7, "normal-bacterial", (("normal",), ("bacterial",))),
    Task(8, "normal-covid", (("normal",), ("covid",))),
    Task(9, "normal-pneumonia", (("normal",), ("pneumonia",))),
)
"""The paper's eight, and a ninth for corpora that know pneumonia only as such."""


@dataclass(frozen=True, eq=False)
class Examples:
    """images: (n, h, w) of each version, the originals among them; the rest: one entry an image. splits: train, val or
    test, no patient in two of them; origins: the corpus."""

    images: Mapping[str, np.ndarray]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    patients: tuple[str, ...]
    origins: tuple[str, ...]

    def __post_init__(self) -> None:
        if ORIGINAL not in self.images:
            raise UsageError(
                f'images have versions "{", ".join(self.images)}", expected "{ORIGINAL}" among them'
            )
        lengths = {len(images) for images in self.images.values()}
        lengths |= {len(told) for told in (self.labels, self.splits, self.patients, self.origins)}
        if len(lengths) > 1:
            raise UsageError(f"examples have {sorted(lengths)} entries, expected as many of each")


@dataclass(frozen=True)
class Cell:
    """What networks trained on one version do on another; sd: over seeds, everything else of their mean probability.

    auc, sensitivity and specificity of three classes are means over one class against the rest; by_class: their AUCs.
    difference: in AUC from the same networks on original images; from_originals: from networks that were trained and
    tested on originals. Intervals are by resampling patients within each class, in pairs for differences; for
    from_originals, where the networks differ too, seeds are drawn anew as well.
    """

    auc: Estimate
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    by_class: tuple[Estimate, ...]
    difference: Estimate
    from_originals: Estimate


def learner() -> Learner:
    """DenseNet-121 where there is a GPU, a small relative of it elsewhere."""
    return FULL if torch.cuda.is_available() else SMALL


def applies(task: Task, examples: Examples) -> bool:
    """Whether each class has a few images in each split."""
    return _lack(task, examples) is None


def cross_grid(
    task: Task, examples: Examples, versions: Sequence[str], learner: Learner, progress: Progress = silent, *,
    tested: Sequence[str] | None = None, keep: Keep = make_anew,
) -> Part:  # fmt: skip
    """A network for each version and seed, and what it says of the test images of each of `tested`, by default the same;
    of a version that is only tested, no other images are looked at.

    Arrays: scores (train version, test version, seed, test image, class), probabilities; labels (test image,); patients
    (test image,), numbered; by_corpus (test image, class): how common each class is among the training images of the
    same corpus, which is all that a guess by corpus knows.

    keep: where each single training is put; it must belong to these examples and this learner.
    Raises UsageError where a class has too few images.
    """
    if lack := _lack(task, examples):
        raise UsageError(lack)
    tested = list(tested or versions)
    classes = _classes(task, examples)
    rows = {
        split: np.flatnonzero((classes >= 0) & (np.array(examples.splits) == split))
        for split in SPLITS
    }
    steps = learner.recipe.length(len(rows["train"]))
    total = len(versions) * len(learner.seeds) * steps
    scores: list[np.ndarray] = []
    best: list[int] = []
    for version in versions:
        for seed in learner.seeds:
            what = f"task {task.number}, trained on {version}, seed {seed}"
            report = stepwise(progress, what, len(scores) * steps, total)
            make = partial(
                _train, task, examples, classes, rows, version, tested, learner, seed, report
            )
            part = keep(f"classification {what}", make)
            scores.append(part.arrays["scores"])
            best.append(part.body["best"])
    shape = len(versions), len(learner.seeds), len(tested), len(rows["test"]), len(task.groups)
    body = {
        "number": task.number, "title": task.title, "classes": list(task.classes), "versions": list(versions),
        "tested": tested, "learner": asdict(learner), "best": best, "counts": _counts(task, classes, rows),
        "patients": {split: len(set(_persons(examples, rows[split]))) for split in SPLITS},
        "origins": _origins(task, examples, classes),
    }  # fmt: skip
    arrays = {
        "scores": np.stack(scores).reshape(shape).transpose(0, 2, 1, 3, 4).astype(np.float32),
        "labels": classes[rows["test"]],
        "patients": np.unique(_persons(examples, rows["test"]), return_inverse=True)[1],
        "by_corpus": _by_corpus(task, examples, classes, rows),
    }
    return Part(body, arrays)


@lru_cache(maxsize=16)
def metrics(part: Part) -> dict[tuple[str, str], Cell]:
    """What each network does on each version, by (version trained on, version tested on)."""
    scores, labels = part.arrays["scores"].astype(np.float64), part.arrays["labels"]
    versions, tested = part.body["versions"], part.body["tested"]
    once = np.ones((1, len(labels)))
    mean = scores.mean(2)  # (T, V, n, c)
    value = _over(mean, lambda p: measures(once, p, labels)[0])  # (T, V, m)
    seeds = _over(scores, lambda p: measures(once, p, labels)[0])  # (T, V, seeds, m)
    draws, retrained = _draws(scores, labels, part.arrays["patients"])  # (T, V, r, m), (T, V, r)
    first, own = versions.index(ORIGINAL), tested.index(ORIGINAL)

    def estimate(cell: tuple[int, int], m: int) -> Estimate:
        return _estimate(value[cell][m], draws[cell][:, m], seeds[cell][:, m], len(labels))

    def loss(cell: tuple[int, int], other: tuple[int, int], auc: np.ndarray) -> Estimate:
        aucs = seeds[cell][:, 0] - seeds[other][:, 0]
        return _estimate(
            value[cell][0] - value[other][0], auc[cell] - auc[other], aucs, len(labels)
        )

    return {
        (trained_on, tested_on): Cell(
            estimate((t, v), 0), estimate((t, v), 1), estimate((t, v), 2), estimate((t, v), 3),
            tuple(estimate((t, v), m) for m in range(4, value.shape[-1])),
            loss((t, v), (t, own), draws[..., 0]), loss((t, v), (first, own), retrained),
        )
        for t, trained_on in enumerate(versions) for v, tested_on in enumerate(tested)
    }  # fmt: skip


def measures(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(r, m): AUC, accuracy, sensitivity, specificity, all 0 to 1, and of more than two classes the AUC of each.

    weights: (r, n), how often each image counts; probabilities: (n, classes); labels: (n,). AUC: the chance that an image of
    the class scores above one of the rest, ties half. Sensitivity: named among those of the class; specificity: not
    named among the rest. Two classes: of the second; more: the mean over all.
    """
    count = probabilities.shape[1]
    judged = range(count) if count > 2 else [1]
    named = probabilities.argmax(1)

    def share(hit: np.ndarray, among: np.ndarray) -> np.ndarray:
        return cast(np.ndarray, (weights @ (hit & among)) / (weights @ among))

    aucs = np.stack([weighted_auc(weights, probabilities[:, c], labels == c) for c in judged], 1)
    figures = [
        aucs.mean(1),
        share(named == labels, np.ones(len(labels), bool)),
        np.mean([share(named == c, labels == c) for c in judged], 0),
        np.mean([share(named != c, labels != c) for c in judged], 0),
    ]
    return np.column_stack([*figures, aucs] if count > 2 else figures)


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


def confounds(part: Part) -> str | None:
    """A caution where the corpus alone tells the classes apart; None where it does not."""
    labels, guess = part.arrays["labels"], part.arrays["by_corpus"]
    auc = float(measures(np.ones((1, len(labels))), guess, labels)[0, 0])
    if auc < _CHANCE + _TELLING:
        return None
    parts = [
        f"{name} from {' and '.join(f'{corpus} ({n})' for corpus, n in corpora.items())}"
        for name, corpora in part.body["origins"].items()
    ]
    return (
        f"Task {part.body['number']} is confounded: {', '.join(parts)}. A guess by corpus alone, blind to the image, has an AUC "
        f"of {auc:.2f}. Networks can learn whatever differs between the corpora (age of the patients, scanner, compression), "
        f"so these figures say whether versions agree, not how well disease is found."
    )


def _lack(task: Task, examples: Examples) -> str | None:
    classes = _classes(task, examples)
    for split in SPLITS:
        for c, name in enumerate(task.classes):
            n = int(np.sum((classes == c) & (np.array(examples.splits) == split)))
            if n < _LEAST:
                return f'task {task.number}: class "{name}" has {n} images in split "{split}", expected {_LEAST} at least'
    return None


def _classes(task: Task, examples: Examples) -> np.ndarray:
    """(n,) the class of each image, -1 for none."""
    of = {label: c for c, group in enumerate(task.groups) for label in group}
    return np.array([of.get(label, -1) for label in examples.labels])


def _train(
    task: Task, examples: Examples, classes: np.ndarray, rows: Mapping[str, np.ndarray], version: str, versions: Sequence[str],
    learner: Learner, seed: int, report: Callable[[int], None],
) -> Part:  # fmt: skip
    pairs = {
        split: Pairs(
            standardised(examples.images[version][rows[split]]),
            torch.from_numpy(classes[rows[split]]),
        )
        for split in ("train", "val")
    }
    weight = 1 / torch.bincount(pairs["train"].y).float()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target, weight=weight.to(output.device))

    make = lambda: network(learner.network, len(task.groups))  # noqa: E731
    net, course = trained(
        make, loss, pairs["train"], pairs["val"], learner.recipe, seed=seed, report=report
    )
    tests = (standardised(examples.images[other][rows["test"]]) for other in versions)
    scores = torch.stack([infer(net, test, learner.recipe.batch).softmax(1) for test in tests])
    return Part({"losses": list(course.losses), "best": course.best}, {"scores": scores.numpy()})


def network(name: str, classes: int) -> nn.Module:
    """`densenet121`, or `small`: the same with four short blocks and few channels, 15,000 weights."""
    from monai.networks.nets import DenseNet, DenseNet121

    if name == "densenet121":
        return cast(nn.Module, DenseNet121(spatial_dims=2, in_channels=1, out_channels=classes))
    if name == "small":
        return cast(
            nn.Module,
            DenseNet(
                2, 1, classes, init_features=16, growth_rate=8, block_config=(2, 2, 2, 2), bn_size=2
            ),
        )
    raise UsageError(f'network "{name}" is unknown, expected "densenet121" or "small"')


def _counts(
    task: Task, classes: np.ndarray, rows: Mapping[str, np.ndarray]
) -> dict[str, dict[str, int]]:
    return {
        split: {name: int(np.sum(classes[rows[split]] == c)) for c, name in enumerate(task.classes)}
        for split in SPLITS
    }


def _persons(examples: Examples, rows: np.ndarray) -> list[str]:
    return [f"{examples.origins[i]} {examples.patients[i]}" for i in rows]


def _origins(task: Task, examples: Examples, classes: np.ndarray) -> dict[str, dict[str, int]]:
    """How many images of each class come from each corpus."""
    origins = np.array(examples.origins)
    return {
        name: {
            str(o): int(n)
            for o, n in zip(*np.unique(origins[classes == c], return_counts=True), strict=True)
        }
        for c, name in enumerate(task.classes)
    }


def _by_corpus(
    task: Task, examples: Examples, classes: np.ndarray, rows: Mapping[str, np.ndarray]
) -> np.ndarray:
    origins, count = np.array(examples.origins), len(task.groups)
    shares = {}
    for origin in np.unique(origins[rows["test"]]):
        seen = classes[rows["train"]][origins[rows["train"]] == origin]
        shares[origin] = (
            np.bincount(seen, minlength=count) / len(seen)
            if len(seen)
            else np.full(count, 1 / count)
        )
    return np.stack([shares[origin] for origin in origins[rows["test"]]])


def _draws(
    scores: np.ndarray, labels: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measures of resampled images, and AUCs where the seeds are drawn anew as well."""
    rng = np.random.default_rng(0)
    draws, retrained = [], []
    for weights in resampled(labels, patients):
        draws.append(_over(scores.mean(2), lambda p: measures(weights, p, labels)))  # noqa: B023
        retrained.append(_over(redrawn(scores, rng), lambda p: measures(weights, p, labels)[:, 0]))  # noqa: B023
    return np.concatenate(draws, 2), np.concatenate(retrained, 2)


def _estimate(value: float, draws: np.ndarray, seeds: np.ndarray, n: int) -> Estimate:
    return Estimate(
        float(value), *middle(draws), n, float(seeds.std(ddof=1)) if len(seeds) > 1 else None
    )


def _over(scores: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A figure of each (n, classes) at the end of an array."""
    flat = [figure(p) for p in scores.reshape(-1, *scores.shape[-2:])]
    return np.stack(flat).reshape(*scores.shape[:-2], *flat[0].shape)

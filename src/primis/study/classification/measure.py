"""Can disease be told from restored images as from originals? Networks trained on each version of
the images, tested on all.

A class is named by the one that has the largest probability. The loss weighs all classes alike, so
this is a threshold of 0.5 for two; a threshold of its own, chosen on a validation split of some
dozens of images, would be chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, product
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from primis.attacks.learning import (
    SPLITS,
    Course,
    Learner,
    Pairs,
    infer,
    standardised,
    stepwise,
    trained,
)
from primis.datasets.corpus import Corpus
from primis.errors import UsageError
from primis.metrics.part import Keep, make_anew
from primis.metrics.progress import Progress, silent
from primis.study.classification.tasks import TASKS, Task, labelled
from primis.study.sized import Sized, trained_and_tested
from primis.study.splits import PerSplit
from primis.study.study import BASELINES, Picked, Study
from primis.study.versions import ORIGINAL, Versions

_LEAST = 4


@dataclass(frozen=True, eq=False)
class Examples:
    """images: (n, h, w) of each version, the originals among them; the rest: one entry an image.

    splits: train, val or test, no patient in two of them; origins: the corpus.
    """

    images: Mapping[str, np.ndarray]
    names: tuple[str, ...]
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
        columns = self.names, self.labels, self.splits, self.patients, self.origins
        lengths |= {len(column) for column in columns}
        if len(lengths) > 1:
            raise UsageError(f"examples have {sorted(lengths)} entries, expected as many of each")


@dataclass(frozen=True, eq=False)
class TaskResult:
    """What all networks say of the test images of a task.

    versions: that networks are trained on; tested: that they are tested on. best: the epoch that
    was kept of each training. counts: images of each class. origins: how many images of each class
    come from each corpus. names: of the test images. scores: (train version, test version, seed,
    test image, class), probabilities. labels: (test image,). persons: (test image,), patients,
    numbered. by_corpus: (test image, class), how common each class is among the training images of
    the same corpus, which is all that a guess by corpus knows.
    """

    number: int
    title: str
    classes: tuple[str, ...]
    versions: tuple[str, ...]
    tested: tuple[str, ...]
    learner: Learner
    best: tuple[int, ...]
    counts: PerSplit[dict[str, int]]
    patients: PerSplit[int]
    origins: dict[str, dict[str, int]]
    names: tuple[str, ...]
    scores: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    persons: np.ndarray = field(repr=False)
    by_corpus: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Trained:
    """One network: its course, and its probabilities (test version, test image, class)."""

    course: Course
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class _Job:
    """A task on some examples. rows: of a split; classes: (n,) of each image, -1 for none."""

    task: Task
    examples: Examples
    learner: Learner
    tested: Sequence[str]
    classes: np.ndarray
    rows: PerSplit[np.ndarray]


class Measured(NamedTuple):
    """The result of a task, and the corpora that its images are from."""

    result: TaskResult
    corpora: list[Corpus]


def measure_study(study: Study) -> list[Measured]:
    """Each task that the corpora can answer, each network trained on originals and at each S_x.

    Raises UsageError where there is none.
    """
    versions = study.versions(study.plan.presets, BASELINES[:1])
    known: dict[tuple[str, ...], Sized] = {}
    made = []
    for task in TASKS:
        corpora = labelled(study.corpora, task.groups)
        names = tuple(corpus.name for corpus in corpora)
        sized = known.setdefault(names, Sized(study, versions, trained_and_tested(versions)[0]))
        if (result := _of_task(study, task, corpora, versions, sized)) is not None:
            made.append(Measured(result, corpora))
    if not made:
        raise UsageError("no task of the paper has a few images of each class in each split")
    return made


def _of_task(
    study: Study, task: Task, corpora: Sequence[Corpus], versions: Versions, sized: Sized
) -> TaskResult | None:
    """None where a class has too few images."""
    labels = set(chain.from_iterable(task.groups))
    pairs = chain.from_iterable(product([corpus], corpus.samples) for corpus in corpora)
    samples = [(corpus, sample) for corpus, sample in pairs if sample.label in labels]
    blank = {ORIGINAL: np.zeros((len(samples), 1, 1))}
    if not applies(task, _examples(samples, blank)):
        return None
    learn, test = trained_and_tested(versions)
    learner, report = study.plan.classifier, study.telling(f"classification, task {task.number}")

    def make() -> TaskResult:
        readable, images = sized.of(samples, learner.side)
        examples = _examples(readable, images)
        return cross_grid(task, examples, learn, learner, report, tested=test, keep=study.parts.get)

    return study.part(f"task {task.number}", make, TaskResult)


def _examples(samples: Sequence[Picked], images: Mapping[str, np.ndarray]) -> Examples:
    return Examples(
        images,
        tuple(f"{corpus.name}/{s.name}" for corpus, s in samples),
        tuple(s.label or "" for _, s in samples),
        tuple(s.split or "" for _, s in samples),
        tuple(s.patient for _, s in samples),
        tuple(corpus.name for corpus, _ in samples),
    )


def applies(task: Task, examples: Examples) -> bool:
    """Whether each class has a few images in each split."""
    return _lack(task, examples) is None


def cross_grid(
    task: Task,
    examples: Examples,
    versions: Sequence[str],
    learner: Learner,
    progress: Progress = silent,
    *,
    tested: Sequence[str] | None = None,
    keep: Keep = make_anew,
) -> TaskResult:
    """A network for each version and seed, and what it says of the test images of each of `tested`.

    tested: by default the same versions; of one that is only tested, no other images are looked at.
    keep: where each single training is put; it must belong to these examples and this learner.
    Raises UsageError where a class has too few images.
    """
    if lack := _lack(task, examples):
        raise UsageError(lack)
    classes = _classes(task, examples)
    splits = np.array(examples.splits)
    rows = PerSplit.of(lambda split: np.flatnonzero((classes >= 0) & (splits == split)))
    job = _Job(task, examples, learner, list(tested or versions), classes, rows)
    steps = learner.recipe.length(len(rows.train))
    total = len(versions) * len(learner.seeds) * steps
    networks: list[Trained] = []
    for version, seed in product(versions, learner.seeds):
        what = f"task {task.number}, trained on {version}, seed {seed}"
        report = stepwise(progress, what, len(networks) * steps, total)
        make = partial(_train, job, version, seed, report)
        networks.append(keep(f"classification {what}", make, Trained))
    return _gathered(job, versions, networks)


def _gathered(job: _Job, versions: Sequence[str], networks: Sequence[Trained]) -> TaskResult:
    task, rows, classes = job.task, job.rows, job.classes
    shape = len(versions), len(job.learner.seeds), len(job.tested), len(rows.test), len(task.groups)
    scores = np.stack([network.scores for network in networks]).reshape(shape)
    persons = rows.each(lambda part: _persons(job.examples, part))
    return TaskResult(
        number=task.number,
        title=task.title,
        classes=task.classes,
        versions=tuple(versions),
        tested=tuple(job.tested),
        learner=job.learner,
        best=tuple(network.course.best for network in networks),
        counts=rows.each(lambda part: _counts(job, part)),
        patients=persons.each(lambda names: len(set(names))),
        origins=_origins(task, job.examples, classes),
        names=tuple(job.examples.names[row] for row in rows.test),
        scores=scores.transpose(0, 2, 1, 3, 4).astype(np.float32),
        labels=classes[rows.test],
        persons=np.unique(persons.test, return_inverse=True)[1],
        by_corpus=_by_corpus(job),
    )


def _lack(task: Task, examples: Examples) -> str | None:
    classes = _classes(task, examples)
    for split in SPLITS:
        for c, name in enumerate(task.classes):
            n = int(np.sum((classes == c) & (np.array(examples.splits) == split)))
            if n < _LEAST:
                return (
                    f'task {task.number}: class "{name}" has {n} images in split "{split}", '
                    f"expected {_LEAST} at least"
                )
    return None


def _classes(task: Task, examples: Examples) -> np.ndarray:
    """(n,) the class of each image, -1 for none."""
    of = {label: c for c, group in enumerate(task.groups) for label in group}
    return np.array([of.get(label, -1) for label in examples.labels])


def _train(job: _Job, version: str, seed: int, report: Callable[[int], None]) -> Trained:
    def pairs(rows: np.ndarray) -> Pairs:
        images = standardised(job.examples.images[version][rows])
        return Pairs(images, torch.from_numpy(job.classes[rows]))

    learn, judge = pairs(job.rows.train), pairs(job.rows.val)
    weight = 1 / torch.bincount(learn.y).float()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target, weight=weight.to(output.device))

    def make() -> nn.Module:
        return network(job.learner.network, len(job.task.groups))

    recipe = job.learner.recipe
    net, course = trained(make, loss, learn, judge, recipe, seed=seed, report=report)
    tests = (standardised(job.examples.images[other][job.rows.test]) for other in job.tested)
    scores = torch.stack([infer(net, test, recipe.batch).softmax(1) for test in tests])
    return Trained(course, scores.numpy())


def network(name: str, classes: int) -> nn.Module:
    """`densenet121`, or `small`: the same with four short blocks, few channels, 15,000 weights."""
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


def _counts(job: _Job, rows: np.ndarray) -> dict[str, int]:
    named = enumerate(job.task.classes)
    return {name: int(np.sum(job.classes[rows] == c)) for c, name in named}


def _persons(examples: Examples, rows: np.ndarray) -> list[str]:
    return [f"{examples.origins[i]} {examples.patients[i]}" for i in rows]


def _origins(task: Task, examples: Examples, classes: np.ndarray) -> dict[str, dict[str, int]]:
    """How many images of each class come from each corpus."""
    origins = np.array(examples.origins)
    counts = {}
    for c, name in enumerate(task.classes):
        found = np.unique(origins[classes == c], return_counts=True)
        counts[name] = {str(origin): int(n) for origin, n in zip(*found, strict=True)}
    return counts


def _by_corpus(job: _Job) -> np.ndarray:
    origins, count = np.array(job.examples.origins), len(job.task.groups)
    learned, judged = job.rows.train, job.rows.test
    shares = {}
    for origin in np.unique(origins[judged]):
        seen = job.classes[learned][origins[learned] == origin]
        even = np.full(count, 1 / count)
        shares[origin] = np.bincount(seen, minlength=count) / len(seen) if len(seen) else even
    return np.stack([shares[origin] for origin in origins[judged]])

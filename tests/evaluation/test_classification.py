"""Classification: measures against scikit-learn, networks that see a shadow, cautions, tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as metrics_of

from primis.attacks.learning import (
    Learner,
    Pairs,
    Recipe,
    augmented,
    resampled,
    squared,
    standardised,
    trained,
)
from primis.errors import UsageError
from primis.imaging.phantom import draw_phantom
from primis.metrics.part import Parts
from primis.metrics.typed import from_arrays, to_arrays
from primis.study.classification.grid import Cell, confounds, measures, metrics, weighted_auc
from primis.study.classification.measure import Examples, TaskResult, applies, cross_grid
from primis.study.classification.report import curve, section
from primis.study.classification.tasks import TASKS
from primis.study.names import Pair
from primis.study.paper.printed import Cell as PaperCell
from primis.study.paper.printed import Scores
from primis.study.plan import CLASSIFIERS
from primis.study.report.document import Figure, Table, Text
from primis.study.report.write import without_arrays

QUICK = CLASSIFIERS.quick
SIDE = 48
SHARES = {"train": 24, "val": 8, "test": 16}
VERSIONS = ("original", "S_x = 4", "blank")
LEARNER = replace(QUICK, seeds=(0, 1))
BINARY = TASKS[6]


def chest(seed: int, label: str) -> np.ndarray:
    """A phantom, with a shadow in one lung where it is ill: bacterial low, viral high."""
    image = squared(draw_phantom(96, seed=seed), SIDE, 0, 4095)
    centre = {"bacterial": 30, "viral": 14}.get(label)
    if centre:
        y, x = np.mgrid[:SIDE, :SIDE]
        image += 0.5 * np.exp(-((y - centre) ** 2 + (x - 14) ** 2) / 20)
    return image


def corpus(
    labels: tuple[str, ...] = ("normal", "bacterial"), origins: dict[str, str] | None = None
) -> Examples:
    rows = [
        (split, label) for split, count in SHARES.items() for label in labels for _ in range(count)
    ]
    original = np.stack([chest(seed, label) for seed, (_, label) in enumerate(rows)])
    noise = np.random.default_rng(0).normal(size=original.shape)
    images = {"original": original, "S_x = 4": original + 0.02 * noise, "blank": noise}
    named = tuple(label for _, label in rows)
    return Examples(
        images,
        tuple(f"image {i}" for i in range(len(rows))),
        named,
        tuple(split for split, _ in rows),
        tuple(f"p{i // 2}" for i in range(len(rows))),
        tuple((origins or {}).get(label, "here") for label in named),
    )


@pytest.fixture(scope="module")
def examples() -> Examples:
    return corpus()


@pytest.fixture(scope="module")
def part(examples: Examples) -> TaskResult:
    return cross_grid(BINARY, examples, VERSIONS, LEARNER)


@pytest.fixture(scope="module")
def grid(part: TaskResult) -> dict[Pair, Cell]:
    return metrics(part)


def test_auc_with_weights_and_ties_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 6, 40) / 5, np.arange(40) % 3 == 0
    weights = rng.integers(0, 4, (7, 40)).astype(float)
    expected = [metrics_of.roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    assert np.allclose(weighted_auc(weights, scores, positive), expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_measures_are_those_of_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(60) % classes
    p = rng.dirichlet(np.ones(classes), 60) + 0.4 * np.eye(classes)[labels]
    p /= p.sum(1, keepdims=True)
    named = p.argmax(1)
    judged = range(classes) if classes > 2 else [1]
    auc = metrics_of.roc_auc_score(labels, p if classes > 2 else p[:, 1], multi_class="ovr")
    hits = [metrics_of.recall_score(labels == c, named == c) for c in judged]
    spared = [metrics_of.recall_score(labels != c, named != c) for c in judged]
    found = measures(np.ones((1, 60)), p, labels)[0]
    assert np.allclose(
        found[:4], [auc, metrics_of.accuracy_score(labels, named), np.mean(hits), np.mean(spared)]
    )
    each = [metrics_of.roc_auc_score(labels == c, p[:, c]) for c in judged] if classes > 2 else []
    assert np.allclose(found[4:], each)


def test_resampling_draws_whole_patients_within_their_class() -> None:
    strata, patients = np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 6, 5, 7, 7])
    drawn = np.concatenate(list(resampled(strata, patients)))
    assert drawn.shape == (2000, 6)
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 4] == drawn[:, 5]).all()
    assert (drawn[:, 0] + drawn[:, 2] == 2).all() and (drawn[:, 3] + drawn[:, 4] == 2).all()
    assert not (
        drawn[:, 0] == drawn[:, 3]
    ).all()  # the same number, but of another class: drawn by itself
    assert np.array_equal(drawn, np.concatenate(list(resampled(strata, patients))))


def test_many_images_of_few_patients_have_wider_intervals(part: TaskResult) -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 60)
    score = np.repeat(rng.normal(size=12), 10) + 0.8 * labels + 0.01 * rng.normal(size=120)
    scores = np.stack([1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))], 1)[None, None, None]
    one = ("original",)
    drawn = replace(part, versions=one, tested=one, scores=scores, labels=labels)
    few = metrics(replace(drawn, persons=np.arange(120) // 10))
    many = metrics(replace(drawn, persons=np.arange(120)))

    def width(cells) -> float:
        auc = cells[Pair("original", "original")].auc
        return auc.high - auc.low

    assert width(few) > 1.3 * width(many)


def test_the_shadow_is_found_and_not_on_blank_images(grid: dict[Pair, Cell]) -> None:
    assert grid[Pair("original", "original")].auc.value > 0.95
    assert grid[Pair("S_x = 4", "original")].auc.value > 0.95
    assert grid[Pair("original", "blank")].auc.low < 0.6
    assert grid[Pair("blank", "original")].auc.value < 0.95
    assert grid[Pair("original", "blank")].difference.high < 0
    assert grid[Pair("original", "S_x = 4")].difference.low > -0.2


def test_estimates_hold_together(part: TaskResult, grid: dict[Pair, Cell]) -> None:
    n = 2 * SHARES["test"]
    assert part.scores.shape == (3, 3, 2, n, 2)
    assert np.allclose(part.scores.sum(-1), 1, atol=1e-5)
    for (t, _), cell in grid.items():
        for found in (cell.auc, cell.accuracy, cell.sensitivity, cell.specificity, cell.difference):
            assert found.low <= found.value + 1e-9 and found.high >= found.value - 1e-9
            assert found.n == n and found.sd is not None
        assert cell.accuracy.value == pytest.approx(
            (cell.sensitivity.value + cell.specificity.value) / 2
        )  # classes are as large
        assert cell.difference.value == pytest.approx(
            cell.auc.value - grid[Pair(t, "original")].auc.value
        )
        assert cell.from_originals.value == pytest.approx(
            cell.auc.value - grid[Pair("original", "original")].auc.value
        )
    own = grid[Pair("S_x = 4", "original")].difference
    assert (own.value, own.low, own.high) == (0, 0, 0)


def test_a_stopped_run_goes_on_and_a_run_repeats(
    examples: Examples, part: TaskResult, tmp_path: Path
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if "trained on blank" in what:
            raise KeyboardInterrupt

    parts = Parts(tmp_path, {"plan": 1})
    with pytest.raises(KeyboardInterrupt):
        cross_grid(BINARY, examples, VERSIONS, LEARNER, stop, keep=parts.get)
    seen = []
    again = cross_grid(
        BINARY, examples, VERSIONS, LEARNER, lambda *step: seen.append(step), keep=parts.get
    )
    assert {what for what, _, _ in seen} == {
        f"task 7, trained on blank, seed {seed}" for seed in (0, 1)
    }
    assert seen[-1][1] == seen[-1][2]
    assert np.array_equal(again.scores, part.scores)
    assert without_arrays(again) == without_arrays(part)


def test_training_keeps_a_late_epoch_and_leaves_the_generator_alone() -> None:
    x = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pairs = Pairs(x, (x.mean((1, 2, 3)) > 0).long())
    make = lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))  # noqa: E731
    before = torch.random.get_rng_state()
    steps: list[int] = []
    recipe = Recipe(epochs=9, steps=30, batch=5, rate=1e-2)
    network, course = trained(
        make, torch.nn.functional.cross_entropy, pairs, pairs, recipe, seed=0, report=steps.append
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert (
        steps == list(range(1, 31)) and len(course.losses) == 8
    )  # 7 epochs of 4 steps, and the end
    assert course.best >= 4 and course.losses[course.best] == min(course.losses[4:])
    with torch.no_grad():
        loss = float(torch.nn.functional.cross_entropy(network(pairs.x), pairs.y))
    assert loss == pytest.approx(course.losses[course.best], rel=1e-5)


def test_augmentation_moves_a_little_and_never_mirrors_unless_told() -> None:
    x = torch.zeros(200, 1, 32, 32)
    x[:, :, 10:16, 4:10] = 1
    recipe = Recipe(1, 1, 1, 1e-3)
    columns = torch.arange(32.0)

    def place(images: torch.Tensor) -> torch.Tensor:
        return (images.sum((1, 2)) * columns).sum(1) / images.sum((1, 2, 3))

    moved, mask = augmented(x, x, recipe, torch.Generator().manual_seed(0))
    assert place(moved).max() < 16 and place(moved).std() > 0.3
    assert torch.equal(mask, (moved > 0.5).float())
    mirrored, _ = augmented(x, x, replace(recipe, flip=True), torch.Generator().manual_seed(0))
    assert 0.3 < float((place(mirrored) > 16).float().mean()) < 0.7


def test_images_are_brought_to_the_networks_size_and_scale() -> None:
    frame = np.tile(np.arange(60, dtype=np.uint16), (40, 1)) + 100
    small = squared(frame, 20, 100, 159)
    assert small.shape == (20, 20) and small.dtype == np.float32
    assert small.mean() == pytest.approx(0.5, abs=1e-4) and small[:, 0].mean() < 0.03
    x = standardised(np.stack([small, 5 * small + 3]))
    assert torch.allclose(x[0], x[1], atol=1e-5) and float(x[0].std()) == pytest.approx(1)


def test_three_classes_and_the_caution_where_the_corpus_tells() -> None:
    labels = ("normal", "bacterial", "viral")
    apart = corpus(labels, {"viral": "elsewhere"})
    quick = Learner("small", SIDE, replace(QUICK.recipe, steps=4), (0,))
    one = cross_grid(TASKS[0], apart, ["original"], quick)
    cell = metrics(one)[Pair("original", "original")]
    assert len(cell.by_class) == 3 and cell.auc.sd is None
    assert cell.auc.value == pytest.approx(np.mean([of.value for of in cell.by_class]))
    caution = confounds(one)
    assert caution and "viral from elsewhere (48)" in caution and "AUC of 0.83" in caution
    telling = cross_grid(TASKS[5], apart, ["original"], quick)
    assert "AUC of 1.00" in (confounds(telling) or "")
    assert confounds(cross_grid(TASKS[6], apart, ["original"], quick)) is None
    shown = section({6: telling, 7: cross_grid(TASKS[6], apart, ["original"], quick)}, {})
    cautions = [block for block in shown.blocks if isinstance(block, Text) and block.caution]
    assert len(cautions) == 2  # once at the top, once beside its own figure
    tables = [
        block for block in shown.blocks if isinstance(block, Table) and "AUC (" in block.title
    ]
    assert tables[0].columns[2:] == ("Task 6, confounded", "Task 7")


def test_a_task_needs_images_of_each_class_in_each_split(examples: Examples) -> None:
    assert applies(BINARY, examples) and not applies(TASKS[7], examples)
    with pytest.raises(UsageError, match='task 8: class "covid" has 0 images in split "train"'):
        cross_grid(TASKS[7], examples, ["original"], QUICK)
    with pytest.raises(UsageError, match='expected "original" among them'):
        replace(examples, images={"S_x = 4": examples.images["S_x = 4"]})
    with pytest.raises(UsageError, match="expected as many of each"):
        replace(examples, labels=examples.labels[:-1])


def test_networks_by_name() -> None:
    from primis.study.classification.measure import network

    for name in ("small", "densenet121"):
        assert network(name, 3)(torch.zeros(2, 1, 64, 64)).shape == (2, 3)
    with pytest.raises(UsageError, match='network "vgg" is unknown'):
        network("vgg", 2)


def test_the_roc_curve_passes_through_known_points() -> None:
    p = np.array([0.1, 0.4, 0.35, 0.8])
    drawn = curve(np.stack([1 - p, p], 1), np.array([0, 0, 1, 1]))
    assert drawn[0] == 0.5 and drawn[99] == 0.5 and drawn[101] == 1 and drawn[-1] == 1


def test_the_section_shows_every_pair_and_what_was_lost(
    part: TaskResult, grid: dict[Pair, Cell]
) -> None:
    stored = from_arrays(to_arrays(part), TaskResult)
    paper = Scores({PaperCell(7, "original", "S_x = 4"): 0.81}, {}, {}, {})
    shown = section({7: stored}, {"data": "phantoms"}, paper)
    tables = [block for block in shown.blocks if isinstance(block, Table)]
    figures = [block for block in shown.blocks if isinstance(block, Figure)]
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    auc = next(table for table in tables if table.title.startswith("AUC"))
    assert auc.facts["data"] == "phantoms" and auc.facts["n tested"] == "7: 32"
    assert [row[:2] for row in auc.rows if row[0]] == [(t, v) for t in VERSIONS for v in VERSIONS]
    assert auc.rows[auc.rows.index(("", "the paper", "0.81")) - 1][:2] == ("original", "S_x = 4")
    found = grid[Pair("original", "original")].auc
    assert auc.rows[0][2] == f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    loss = next(table for table in tables if "same networks" in table.title)
    row = next(i for i, row in enumerate(loss.rows) if row[:2] == ("original", "blank"))
    assert (row, 2) in loss.bold and loss.rows[row][2].startswith("−")
    assert len(figures) == 2 and all(figure.png.startswith(b"\x89PNG") for figure in figures)
    assert "Supplemental Fig. 8" in figures[1].title and "trained on blank" in figures[1].alt

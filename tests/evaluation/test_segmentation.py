"""Segmentation: measures by hand and against MONAI, U-Nets that find an ellipse, tables."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_iou

from primis.attacks.learning import squared
from primis.errors import UsageError
from primis.metrics.part import Parts
from primis.metrics.typed import from_arrays, to_arrays
from primis.study.names import Pair
from primis.study.paper.printed import Outlines, Printed
from primis.study.plan import SEGMENTERS
from primis.study.report.document import Figure, Table, Text
from primis.study.segmentation.grid import Cell, metrics
from primis.study.segmentation.measure import Examples, SegmentationResult, cross_grid, network
from primis.study.segmentation.overlap import overlap
from primis.study.segmentation.report import section

QUICK = SEGMENTERS.quick
SIDE = 48
SHARES = {"train": 24, "val": 6, "test": 8}
VERSIONS = ("original", "blank")
LEARNER = replace(QUICK, seeds=(0, 1))


def box(top: int, left: int, shape: tuple[int, int] = (40, 50), side: int = 10) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def ellipse(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipse in noise, and its mask, on a canvas of another size each time."""
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(70, 90)), int(rng.integers(90, 120))
    y, x = np.mgrid[:height, :width]
    centre, reach = (
        rng.uniform(0.4, 0.6, 2) * (height, width),
        rng.uniform(0.15, 0.25, 2) * (height, width),
    )
    mask = ((y - centre[0]) / reach[0]) ** 2 + ((x - centre[1]) / reach[1]) ** 2 < 1
    return (0.3 + 0.4 * mask + 0.05 * rng.normal(size=mask.shape)).astype(np.float32), mask


def corpus() -> Examples:
    splits = tuple(split for split, count in SHARES.items() for _ in range(count))
    pairs = [ellipse(seed) for seed in range(len(splits))]
    original = np.stack([squared(image, SIDE) for image, _ in pairs])
    blank = np.random.default_rng(0).normal(size=original.shape)
    names = tuple(f"image {i:02d}" for i in range(len(splits)))
    return Examples(
        {"original": original, "blank": blank},
        [mask for _, mask in pairs],
        names,
        splits,
        tuple(f"p{i // 2}" for i in range(len(splits))),
        (None,) * len(splits),
    )


@pytest.fixture(scope="module")
def examples() -> Examples:
    return corpus()


@pytest.fixture(scope="module")
def part(examples: Examples) -> SegmentationResult:
    return cross_grid(examples, VERSIONS, LEARNER)


@pytest.fixture(scope="module")
def grid(part: SegmentationResult) -> dict[Pair, Cell]:
    return metrics(part)


def test_measures_by_hand() -> None:
    found = overlap(box(10, 10), box(10, 15))  # half of each is shared
    assert (found.dice, found.jaccard) == (0.5, pytest.approx(1 / 3))
    assert (found.false_negative, found.false_positive, found.false_discovery) == (
        0.5,
        50 / 1900,
        0.5,
    )
    assert found.hausdorff == 5
    same = overlap(box(3, 4), box(3, 4))
    assert astuple(same) == (1, 1, 0, 0, 0, 0, 0, 0, 0)
    inner = overlap(
        box(10, 10, side=12), box(11, 11, side=10)
    )  # a rim of one pixel: corners are sqrt 2 away from corners
    distances = np.array([1.0] * 40 + [2**0.5] * 4 + [1.0] * 36)
    assert inner.mean_distance == pytest.approx(distances.mean())
    assert inner.sd_distance == pytest.approx(distances.std(), abs=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 0.7)])
def test_measures_agree_with_monai(spacing: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    truth, guess = box(5, 5, side=20), box(9, 12, side=22)
    guess[rng.integers(40, size=6), rng.integers(50, size=6)] = True
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (guess, truth)]
    found = overlap(truth, guess, spacing)
    kind = {"include_background": True, "spacing": list(spacing)}
    assert found.hausdorff == pytest.approx(
        float(compute_hausdorff_distance(*pair, **kind)), rel=1e-5
    )
    assert found.hausdorff_95 == pytest.approx(
        float(compute_hausdorff_distance(*pair, percentile=95, **kind)), rel=1e-5
    )
    average = float(compute_average_surface_distance(*pair, symmetric=True, **kind))
    assert found.mean_distance == pytest.approx(average, rel=1e-5)
    assert found.jaccard == pytest.approx(float(compute_iou(*pair)))


def test_empty_masks_have_defined_measures() -> None:
    nothing, some = np.zeros((30, 40), bool), box(2, 2, (30, 40))
    missed = overlap(some, nothing)
    assert astuple(missed) == (0, 0, 1, 0, 0, 50, 0, 50, 50)  # the diagonal of 30 x 40
    assert overlap(some, nothing, (0.5, 0.5)).hausdorff == 25
    invented = overlap(nothing, some)
    assert (
        invented.dice,
        invented.false_negative,
        invented.false_discovery,
        invented.hausdorff,
    ) == (0, 0, 1, 50)
    assert astuple(overlap(nothing, nothing)) == (1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert overlap(~nothing, ~nothing).false_positive == 0


def test_the_organ_is_found_and_not_on_blank_images(grid: dict[Pair, Cell]) -> None:
    assert grid[Pair("original", "original")].measures.dice.value > 0.85
    assert grid[Pair("original", "blank")].measures.dice.value < 0.7
    assert grid[Pair("original", "blank")].difference.high < -0.1
    assert grid[Pair("blank", "blank")].from_originals.high < 0


def test_masks_are_as_large_as_their_images(examples: Examples, part: SegmentationResult) -> None:
    assert all(each.shape == (2, 2, 2, SHARES["test"]) for each in part.values.each())
    assert all(np.isfinite(each).all() for each in part.values.each())
    assert len(part.shown) == 4
    for shown in part.shown:
        row = examples.names.index(shown.name)
        shape = examples.masks[row].shape
        assert examples.splits[row] == "test"
        assert shown.masks.shape == (2, 2, *shape)
        assert shown.picture.shape == shape and shown.picture.dtype == np.uint8
        test = [r for r, split in enumerate(examples.splits) if split == "test"].index(row)
        again = overlap(examples.masks[row], shown.masks[0, 0])
        assert np.allclose(again.each(), [each[0, 0, 0, test] for each in part.values.each()])


def test_distances_are_in_millimetres_where_all_spacings_are_known(examples: Examples) -> None:
    short = replace(LEARNER, seeds=(0,), recipe=replace(QUICK.recipe, steps=12))
    n = len(examples.names)
    known = replace(examples, spacing_mm=((0.5, 0.5),) * n)
    some = replace(examples, spacing_mm=((0.5, 0.5),) * (n - 1) + (None,))
    parts = {
        name: cross_grid(of, ["original"], short)
        for name, of in (("px", examples), ("mm", known), ("some", some))
    }
    assert [part.unit for part in parts.values()] == ["px", "mm", "px"]
    px, mm, some_ = (np.stack(parts[name].values.each()) for name in ("px", "mm", "some"))
    counted = 5  # dice to false_discovery; distances follow
    assert np.allclose(mm[counted:], px[counted:] / 2, rtol=1e-5)
    assert np.array_equal(mm[:counted], px[:counted])
    assert np.array_equal(some_, px)


def test_pictures_of_ones_own_are_shown(examples: Examples) -> None:
    row = examples.shown[0]
    own = np.full(examples.masks[row].shape, 7, np.uint8)
    short = replace(LEARNER, seeds=(0,), recipe=replace(QUICK.recipe, steps=2))
    part = cross_grid(replace(examples, pictures={examples.names[row]: own}), ["original"], short)
    assert np.array_equal(part.shown[0].picture, own) and part.shown[1].picture.std() > 1


def test_estimates_hold_together(part: SegmentationResult, grid: dict[Pair, Cell]) -> None:
    dice = part.values.dice.mean(2)  # (T, V, n)
    cell = grid[Pair("original", "blank")]
    assert cell.measures.dice.value == pytest.approx(dice[0, 1].mean())
    assert cell.measures.dice.sd == pytest.approx(dice[0, 1].std(ddof=1))
    assert cell.measures.dice.low <= cell.measures.dice.value <= cell.measures.dice.high
    assert cell.difference.value == pytest.approx((dice[0, 1] - dice[0, 0]).mean())
    assert grid[Pair("blank", "original")].from_originals.value == pytest.approx(
        (dice[1, 0] - dice[0, 0]).mean()
    )
    own = grid[Pair("blank", "original")].difference
    assert (own.value, own.low, own.high) == (0, 0, 0)


def test_a_stopped_run_goes_on_and_a_run_repeats(
    examples: Examples, part: SegmentationResult, tmp_path: Path
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if "trained on blank, seed 1" in what:
            raise KeyboardInterrupt

    parts = Parts(tmp_path, {"plan": 1})
    with pytest.raises(KeyboardInterrupt):
        cross_grid(examples, VERSIONS, LEARNER, stop, keep=parts.get)
    seen = []
    again = cross_grid(examples, VERSIONS, LEARNER, lambda *step: seen.append(step), keep=parts.get)
    assert {what for what, _, _ in seen} == {"segmentation, trained on blank, seed 1"}
    assert seen[-1][1] == seen[-1][2]
    ours, theirs = to_arrays(again), to_arrays(part)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_what_does_not_fit_is_refused(examples: Examples) -> None:
    with pytest.raises(UsageError, match='expected "original" among them'):
        replace(examples, images={"S_x = 4": examples.images["original"]})
    with pytest.raises(UsageError, match="expected as many of each"):
        replace(examples, names=examples.names[:-1])
    with pytest.raises(UsageError, match='no image with a mask is in split "val"'):
        replace(examples, splits=("train",) * (len(examples.names) - 1) + ("test",))
    with pytest.raises(UsageError, match='network "vnet" is unknown'):
        network("vnet")
    assert network("unet")(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)


def test_the_section_shows_every_pair_and_what_was_lost(
    part: SegmentationResult, grid: dict[Pair, Cell]
) -> None:
    stored = from_arrays(to_arrays(part), SegmentationResult)
    printed = Outlines(*[Printed(0.02, 0.04, 0.01, 0.03)] * 6)
    shown = section(stored, {"data": "ellipses"}, {Pair("original", "original"): printed})
    mean, bounds, loss = [block for block in shown.blocks if isinstance(block, Table)]
    assert all(
        len(row) == len(table.columns) for table in (mean, bounds, loss) for row in table.rows
    )
    assert (
        mean.facts["data"] == "ellipses"
        and "test 8 (4 patients)" in mean.facts["images with masks"]
    )
    assert [row[:2] for row in mean.rows if row[0]] == [(t, v) for t in VERSIONS for v in VERSIONS]
    dice = grid[Pair("original", "original")].measures.dice
    assert mean.rows[0][2] == f"{dice.value:.3f} ± {dice.sd:.3f}"
    assert bounds.rows[0][2] == f"{dice.low:.3f} to {dice.high:.3f}"
    paper = dict(zip(mean.columns, mean.rows[1], strict=True))
    assert (paper["Dice"], paper["False discovery"], paper["False positive"]) == (
        "0.02 ± 0.04",
        "0.02 ± 0.04",
        "–",
    )
    assert bounds.rows[1][2] == "0.01 to 0.03"
    row = next(i for i, row in enumerate(loss.rows) if row[:2] == ("original", "blank"))
    assert (row, 2) in loss.bold and loss.rows[row][2].startswith("−")
    figure = next(block for block in shown.blocks if isinstance(block, Figure))
    assert figure.png.startswith(b"\x89PNG") and part.shown[0].name in figure.alt


def test_the_section_tells_of_empty_masks(part: SegmentationResult) -> None:
    text = lambda empty: section(replace(part, empty=empty), {}).blocks[0]  # noqa: E731
    for empty, told in ((0, False), (3, True)):
        block = text(empty)
        assert isinstance(block, Text) and ("3 predicted masks were empty" in block.text) is told

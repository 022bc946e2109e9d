"""Segmentation for readers: the paper's Table 3, Supplemental Table 4 and Fig. 9."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from primis.metrics.estimate import Estimate
from primis.study.chapter import Chapter
from primis.study.names import Pair
from primis.study.paper import tables as beside_paper
from primis.study.paper.printed import Outlines, Printed
from primis.study.paper.tables import Ours
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png
from primis.study.report.numbers import interval, plain, with_interval, with_sd
from primis.study.report.write import Csv, without_arrays
from primis.study.segmentation.grid import Grid, metrics
from primis.study.segmentation.measure import SegmentationResult, Shown, measure_study
from primis.study.segmentation.overlap import Overlap
from primis.study.study import Study
from primis.study.versions import ORIGINAL

Paper = Mapping[Pair, Outlines[Printed]]
"""The paper's own numbers.

Its false positives are the part of the marked that is wrong, here called false discovery: nothing
else agrees with its Dice.
"""


class _Column(NamedTuple):
    """A measure, in the order of Overlap."""

    head: str
    name: str
    digits: int = 3
    is_distance: bool = False


_COLUMNS = (
    _Column("Dice", "dice"),
    _Column("Jaccard", "jaccard"),
    _Column("False negative", "false_negative"),
    _Column("False positive", "false_positive"),
    _Column("False discovery", "false_discovery"),
    _Column("Mean surface distance", "mean_distance", 2, True),
    _Column("SD of surface distance", "sd_distance", 2, True),
    _Column("Hausdorff distance", "hausdorff", 2, True),
    _Column("95 % Hausdorff distance", "hausdorff_95", 2, True),
)
_HOW = (
    "Each U-Net was trained on one version of the training images and tested on every version of "
    "the test images. Dice and Jaccard as usual; false negative: missed part of the organ; false "
    "positive: marked part of all that is not organ; false discovery: wrong part of what was "
    "marked, which is what the paper's false positives must be, going by its Dice. Surface "
    "distances are from each contour pixel of either mask to the nearest of the other's. The "
    "network's probabilities are interpolated to the image's own size and cut at 0.5 there; "
    "distances are in {unit}. {empty}Mean and SD are over test images, each the mean over seeds; "
    "intervals are at 95 %, by resampling patients, and the seeds as well where networks are "
    "compared that were trained apart."
)
_EMPTY = "{n} predicted masks were empty: Dice 0, distances the diagonal of the image. "
_UNITS = {"mm": "mm", "px": "pixels of the image, whose spacing is not known"}
_WIDTH = 7.2  # inches that a page has room for
_FONT = 6.5
_TRUTH = "red"
_COLOURS = ("magenta", "lime", "cyan", "yellow", "orange", "white")


def chapter(study: Study) -> Chapter:
    """Table 3, Supp. Table 4, Fig. 9."""
    result, corpora = measure_study(study)
    facts = study.of(corpora, result.counts.test)
    grid = metrics(result)
    data = {f"{pair.trained_on} -> {pair.tested_on}": cell for pair, cell in grid.items()}
    rows = {pair: _as_printed(cell.measures) for pair, cell in grid.items()}
    said = (
        "false positive is the part of the marked that is wrong, as the paper's must be, going by "
        "its Dice"
    )
    return Chapter(
        (section(result, facts),),
        data | without_arrays(result) | {"shown": [shown.name for shown in result.shown]},
        {"segmentation": _per_image(result)},
        Ours(segmentation=beside_paper.Measured(rows, facts | {"here": said})),
    )


def _as_printed(e: Overlap[Estimate]) -> Outlines[Estimate | None]:
    """As the paper counts them."""
    missed = e.false_negative, e.false_discovery
    return Outlines(e.dice, e.jaccard, *missed, e.mean_distance, e.sd_distance)


def _per_image(result: SegmentationResult) -> Csv:
    """Of each test image, means over seeds."""
    means = [each.mean(2) for each in result.values.each()]
    rows = []
    pairs = product(enumerate(result.versions), enumerate(result.tested))
    for (t, learned), (v, judged) in pairs:
        columns = [mean[t, v] for mean in means]
        images = zip(result.names, *columns, strict=True)
        rows += [(learned, judged, *row) for row in images]
    return ("trained on", "tested on", "image", *(column.name for column in _COLUMNS)), rows


def section(
    result: SegmentationResult, facts: dict[str, str], paper: Paper | None = None
) -> Section:
    """All tables and figures."""
    grid, paper = metrics(result), paper or {}
    facts = facts | _facts(result)
    empty = _EMPTY.format(n=result.empty) if result.empty else ""
    blocks: list[Block] = [
        Text(_HOW.format(unit=_UNITS[result.unit], empty=empty)),
        Text(_verdict(grid)),
        _means(result, grid, facts, paper),
        _intervals(result, grid, facts, paper),
        _differences(grid, facts),
        _overlays(result, facts),
    ]
    return Section("segmentation", "Segmentation of restored images", tuple(blocks))


def _facts(result: SegmentationResult) -> dict[str, str]:
    counts, patients, learner = result.counts, result.patients, result.learner
    n = (
        f"train {counts.train} ({patients.train} patients), val {counts.val} ({patients.val} "
        f"patients), test {counts.test} ({patients.test} patients)"
    )
    network = (
        f"{learner.network} U-Net at {learner.side} x {learner.side}, {len(learner.seeds)} seed(s)"
    )
    return {"images with masks": n, "network": network}


def _verdict(grid: Grid) -> str:
    restored = {pair.trained_on for pair in grid} - {ORIGINAL}
    cells = {pair: cell for pair, cell in grid.items() if pair.tested_on in restored}
    worse = sum(cell.difference.high < 0 for cell in cells.values())
    within = sum(_holds(grid, pair) for pair in cells)
    own = Pair(ORIGINAL, ORIGINAL)
    worst = min(cells, key=lambda pair: cells[pair].difference.value, default=own)
    loss = plain(-grid[worst].difference.value, 4)
    return (
        "On restored images the mean Dice lies within or above the interval of the same networks "
        f"on original images in {within} of {len(cells)} pairs; in {worse} the loss is significant "
        f"(the 95 % interval of the paired difference lies below 0). The largest loss is {loss}, "
        f"trained on {worst.trained_on} and tested on {worst.tested_on}."
    )


def _holds(grid: Grid, pair: Pair) -> bool:
    """Within or above the interval of the same networks on originals."""
    same = grid[Pair(pair.trained_on, ORIGINAL)].measures.dice
    return grid[pair].measures.dice.value >= same.low


def _means(result: SegmentationResult, grid: Grid, facts: dict[str, str], paper: Paper) -> Table:
    rows: list[tuple[str, ...]] = []
    for pair, cell in grid.items():
        values = zip(cell.measures.each(), _COLUMNS, strict=True)
        rows.append((*pair, *(with_sd(e.value, e.sd, column.digits) for e, column in values)))
        if theirs := paper.get(pair):
            rows.append(_paper_row(with_sd(p.mean, p.sd) for p in theirs.each()))
    title = "Segmentation, mean ± SD (the paper's Table 3)"
    return Table(title, _heads(result), tuple(rows), facts)


def _intervals(
    result: SegmentationResult, grid: Grid, facts: dict[str, str], paper: Paper
) -> Table:
    rows: list[tuple[str, ...]] = []
    for pair, cell in grid.items():
        values = zip(cell.measures.each(), _COLUMNS, strict=True)
        rows.append((*pair, *(interval(e.low, e.high, column.digits) for e, column in values)))
        if theirs := paper.get(pair):
            rows.append(_paper_row(interval(p.low, p.high) for p in theirs.each()))
    title = "Segmentation, 95 % intervals (the paper's Supplemental Table 4)"
    return Table(title, _heads(result), tuple(rows), facts)


def _heads(result: SegmentationResult) -> tuple[str, ...]:
    heads = (f"{c.head}, {result.unit}" if c.is_distance else c.head for c in _COLUMNS)
    return "Trained on", "Tested on", *heads


def _paper_row(texts: Iterable[str]) -> tuple[str, ...]:
    """Under _COLUMNS: what the paper calls false positives is false discovery."""
    dice, jaccard, missed, wrong, *distances = texts
    return "", "the paper", dice, jaccard, missed, "–", wrong, *distances, "–", "–"


def _differences(grid: Grid, facts: dict[str, str]) -> Table:
    """Bold where the loss is significant."""
    rows: list[tuple[str, ...]] = []
    bold = set()
    for i, (pair, cell) in enumerate(grid.items()):
        line = cell.difference, cell.from_originals
        own = "–" if pair.tested_on == ORIGINAL else with_interval(line[0], 4)
        far = "–" if set(pair) == {ORIGINAL} else with_interval(line[1], 4)
        rows.append((*pair, own, far))
        bold |= {(i, j) for j, e in enumerate(line, 2) if e.high < 0}
    columns = (
        "Trained on",
        "Tested on",
        "From the same networks on original images",
        "From networks trained and tested on originals",
    )
    title = "Difference in Dice, in pairs (bold: below 0)"
    return Table(title, columns, tuple(rows), facts, frozenset(bold))


def _overlays(result: SegmentationResult, facts: dict[str, str]) -> Figure:
    names = ", ".join(shown.name for shown in result.shown)
    named = enumerate(result.versions)
    colours = ", ".join(f"{_colour(i)}: {version}" for i, version in named)
    title = (
        f"Contours by version, over the original image; {_TRUTH}: true, {colours} (the paper's "
        "Fig. 9)"
    )
    alt = (
        f"Original images {names} with the true contour and those predicted; a column for each "
        "version trained on."
    )
    return Figure(title, _overlay_png(result), alt, facts)


def _overlay_png(result: SegmentationResult) -> bytes:
    """A row for each image, a column for each version trained on, a contour for each of the same
    versions tested on.
    """
    from matplotlib.figure import Figure as Canvas

    versions, count = result.versions, len(result.shown)
    side = _WIDTH / max(3, len(versions))
    heights = [shown.picture.shape[0] / shown.picture.shape[1] for shown in result.shown]
    size = side * len(versions), side * sum(heights) + 0.6
    canvas = Canvas(size, dpi=200, layout="constrained")
    ratios = {"height_ratios": heights}
    panels = canvas.subplots(count, len(versions), squeeze=False, gridspec_kw=ratios)
    for i, (row, shown) in enumerate(zip(panels, result.shown, strict=True)):
        for t, panel in enumerate(row):
            _overlay(panel, result, shown, t)
            panel.set_title(f"trained on {versions[t]}" if i == 0 else "", fontsize=_FONT)
    _legend(canvas, versions)
    return png(canvas)


def _overlay(panel: Any, result: SegmentationResult, shown: Shown, t: int) -> None:
    panel.imshow(shown.picture, cmap="gray")
    for number, version in enumerate(result.versions):
        mask = shown.masks[t, result.tested.index(version)]
        _contour(panel, mask, _colour(number))
    _contour(panel, shown.truth, _TRUTH)
    panel.set_axis_off()


def _legend(canvas: Any, versions: tuple[str, ...]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=_TRUTH, label="true")]
    lines += [
        Line2D([], [], color=_colour(i), label=f"tested on {v}") for i, v in enumerate(versions)
    ]
    style = {"facecolor": "0.4", "labelcolor": "white", "fontsize": _FONT}
    canvas.legend(handles=lines, loc="outside lower center", ncols=3, **style)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _contour(panel: Any, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        panel.contour(mask, [0.5], colors=[colour], linewidths=0.6)

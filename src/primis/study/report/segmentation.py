"""Segmentation for readers: the paper's Table 3, Supplemental Table 4 and Fig. 9."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from primis.metrics.part import Part
from primis.metrics.statistics import Estimate
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png
from primis.study.report.numbers import interval, plain, with_interval
from primis.study.segmentation import MEASURES, Cell, metrics
from primis.study.versions import ORIGINAL

Grid = dict[tuple[str, str], Cell]


class Printed(Protocol):
    """A figure of the paper: mean, SD and interval at 95 %."""

    @property
    def mean(self) -> float: ...
    @property
    def sd(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


Paper = Mapping[tuple[str, str], Mapping[str, Printed]]
"""The paper's own figures, by (version trained on, version tested on), then by measure. Its false positives are the part of the
marked that is wrong, here called false discovery: nothing else is in keeping with its Dice."""

_HEADS = {
    "dice": "Dice", "jaccard": "Jaccard", "false_negative": "False negative", "false_positive": "False positive",
    "false_discovery": "False discovery", "mean_distance": "Mean surface distance", "sd_distance": "SD of surface distance",
    "hausdorff": "Hausdorff distance", "hausdorff_95": "95 % Hausdorff distance",
}  # fmt: skip
_DIGITS = {"dice": 3, "jaccard": 3, "false_negative": 3, "false_positive": 3, "false_discovery": 3}
_IN_PAPER = {"false_discovery": "false_positive", "false_positive": ""}
_HOW = (
    "Each U-Net was trained on one version of the training images and tested on every version of the test images. Dice and "
    "Jaccard as usual; false negative: missed part of the organ; false positive: marked part of all that is not organ; false "
    "discovery: wrong part of what was marked, which is what the paper's false positives must be, going by its Dice. Surface "
    "distances are from each contour pixel of either mask to the nearest of the other's. The network's probabilities are "
    "interpolated to the image's own size and cut at 0.5 there; distances are in {unit}. {empty}Mean and SD are over test "
    "images, each the mean over seeds; intervals are at 95 %, by resampling patients, and the seeds as well where "
    "networks are compared that were trained apart."
)
_EMPTY = "{n} predicted masks were empty: Dice 0, distances the diagonal of the image. "
_UNITS = {"mm": "mm", "px": "pixels of the image, whose spacing is not known"}
_WIDTH = 7.2  # inches that a page has room for
_FONT = 6.5
_TRUTH = "red"
_COLOURS = ("magenta", "lime", "cyan", "yellow", "orange", "white")


def section(part: Part, facts: dict[str, str], paper: Paper | None = None) -> Section:
    """All tables and figures of segmentation.cross_grid."""
    grid, paper = metrics(part), paper or {}
    facts = facts | _facts(part)
    empty = _EMPTY.format(n=part.body["empty"]) if part.body["empty"] else ""
    blocks: list[Block] = [
        Text(_HOW.format(unit=_UNITS[part.body["unit"]], empty=empty)),
        Text(_verdict(grid)),
        _table(
            "Segmentation, mean ± SD (the paper's Table 3)", part, grid, facts, paper, spread=True
        ),
        _table(
            "Segmentation, 95 % intervals (the paper's Supplemental Table 4)",
            part,
            grid,
            facts,
            paper,
            spread=False,
        ),
        _differences(grid, facts),
        _overlays(part, facts),
    ]
    return Section("segmentation", "Segmentation of restored images", tuple(blocks))


def _facts(part: Part) -> dict[str, str]:
    body, learner = part.body, part.body["learner"]
    n = ", ".join(
        f"{split} {count} ({body['patients'][split]} patients)"
        for split, count in body["counts"].items()
    )
    network = f"{learner['network']} U-Net at {learner['side']} x {learner['side']}, {len(learner['seeds'])} seed(s)"
    return {"images with masks": n, "network": network}


def _verdict(grid: Grid) -> str:
    trained = {t for t, _ in grid}
    cells = {
        pair: cell for pair, cell in grid.items() if pair[1] != ORIGINAL and pair[1] in trained
    }
    worse = sum(cell.difference.high < 0 for cell in cells.values())
    worst, cell = min(
        cells.items(),
        key=lambda item: item[1].difference.value,
        default=((ORIGINAL,) * 2, grid[ORIGINAL, ORIGINAL]),
    )
    within = sum(
        cell.measures["dice"].value >= grid[t, ORIGINAL].measures["dice"].low
        for (t, _), cell in cells.items()
    )
    return (
        f"On restored images the mean Dice lies within or above the interval of the same networks on original images in {within} "
        f"of {len(cells)} pairs; in {worse} the loss is clear of chance (the interval of the paired difference lies below 0). "
        f"The largest loss is {plain(-cell.difference.value, 4)}, trained on {worst[0]} and tested on {worst[1]}."
    )


def _table(
    title: str, part: Part, grid: Grid, facts: dict[str, str], paper: Paper, *, spread: bool
) -> Table:
    """spread: mean ± SD, else the interval."""
    unit = part.body["unit"]
    heads = (name if m in _DIGITS else f"{name}, {unit}" for m, name in _HEADS.items())
    rows = []
    for pair, cell in grid.items():
        rows.append(
            (
                *pair,
                *(_shown(m, cell.measures[m].value, cell.measures[m], spread) for m in MEASURES),
            )
        )
        if printed := paper.get(pair):
            found = (printed.get(_IN_PAPER.get(m, m)) for m in MEASURES)
            texts = (
                "–" if p is None else _shown(m, p.mean, p, spread, 2)
                for m, p in zip(MEASURES, found, strict=True)
            )
            rows.append(("", "the paper", *texts))
    return Table(title, ("Trained on", "Tested on", *heads), tuple(rows), facts)


def _shown(
    measure: str, mean: float, found: Estimate | Printed, spread: bool, digits: int | None = None
) -> str:
    digits = digits or _DIGITS.get(measure, 2)
    if not spread:
        return interval(found.low, found.high, digits)
    return plain(mean, digits) + (f" ± {plain(found.sd, digits)}" if found.sd is not None else "")


def _differences(grid: Grid, facts: dict[str, str]) -> Table:
    """Bold where the loss is clear of chance."""
    found = [(cell.difference, cell.from_originals) for cell in grid.values()]
    rows = tuple(
        (
            *pair,
            "–" if pair[1] == ORIGINAL else with_interval(own, 4),
            "–" if set(pair) == {ORIGINAL} else with_interval(all_, 4),
        )
        for pair, (own, all_) in zip(grid, found, strict=True)
    )
    bold = frozenset(
        (i, j + 2) for i, line in enumerate(found) for j, e in enumerate(line) if e.high < 0
    )
    columns = (
        "Trained on",
        "Tested on",
        "From the same networks on original images",
        "From networks trained and tested on originals",
    )
    return Table("Difference in Dice, in pairs (bold: below 0)", columns, rows, facts, bold)


def _overlays(part: Part, facts: dict[str, str]) -> Figure:
    shown = part.body["shown"]
    colours = ", ".join(
        f"{_COLOURS[i % len(_COLOURS)]}: {version}"
        for i, version in enumerate(part.body["versions"])
    )
    title = f"Contours by version, over the original image; {_TRUTH}: true, {colours} (the paper's Fig. 9)"
    alt = f"Original images {', '.join(shown)} with the true contour and those predicted; a column for each version trained on."
    return Figure(title, _overlay_png(part), alt, facts)


def _overlay_png(part: Part) -> bytes:
    """A row for each image, a column for each version trained on, a contour for each of the same versions tested on."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

    versions, count = part.body["versions"], len(part.body["shown"])
    side = _WIDTH / max(3, len(versions))
    heights = [np.divide(*part.arrays[f"picture {i}"].shape) for i in range(count)]
    canvas = Canvas(
        (side * len(versions), side * sum(heights) + 0.6), dpi=200, layout="constrained"
    )
    panels = canvas.subplots(
        count, len(versions), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for i, row in enumerate(panels):
        for t, panel in enumerate(row):
            panel.imshow(part.arrays[f"picture {i}"], cmap="gray")
            for v, version in enumerate(versions):
                mask = part.arrays[f"masks {i}"][t, part.body["tested"].index(version)]
                _contour(panel, mask, _COLOURS[v % len(_COLOURS)])
            _contour(panel, part.arrays[f"truth {i}"], _TRUTH)
            panel.set_axis_off()
            if i == 0:
                panel.set_title(f"trained on {versions[t]}", fontsize=_FONT)
    named = [
        ("true", _TRUTH),
        *((f"tested on {v}", _COLOURS[i % len(_COLOURS)]) for i, v in enumerate(versions)),
    ]
    lines = [Line2D([], [], color=colour, label=name) for name, colour in named]
    canvas.legend(
        handles=lines,
        loc="outside lower center",
        ncols=3,
        fontsize=_FONT,
        facecolor="0.4",
        labelcolor="white",
    )
    return png(canvas)


def _contour(panel: object, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        panel.contour(mask, [0.5], colors=[colour], linewidths=0.6)  # type: ignore[attr-defined]

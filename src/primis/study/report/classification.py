"""Classification for readers: the paper's Table 2, Supplemental Tables 1 to 3, Fig. 7 and Supplemental Figs 2 to 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from primis.metrics.part import Part
from primis.metrics.statistics import Estimate
from primis.study.classification import Cell, confounds, metrics
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png
from primis.study.report.numbers import plain, with_interval
from primis.study.versions import ORIGINAL

Paper = Mapping[str, Mapping[tuple[int, str, str], float]]
"""The paper's own figures, by measure ("auc"), then by task, version trained on and version tested on."""

Grid = dict[tuple[str, str], Cell]

_TITLES = {
    "auc": "AUC (the paper's Table 2)",
    "accuracy": "Accuracy (the paper's Supplemental Table 1)",
    "sensitivity": "Sensitivity (the paper's Supplemental Table 2)",
    "specificity": "Specificity (the paper's Supplemental Table 3)",
}
_HOW = (
    "Each network was trained on one version of the training images and tested on every version of the test images. Figures are "
    "of the mean probability over seeds; intervals are at 95 %, by resampling the patients tested within each class (where all "
    "are told apart this finds no doubt, though so few images leave some), and the seeds as well where networks are compared "
    "that were trained apart. Of two classes the first named in a task is the positive one; of three, AUC, sensitivity and "
    "specificity are means over each against the rest. An image is put in the class of the largest probability; the loss weighs "
    "all classes alike, so for two this is a threshold of 0.5, which is not fitted to any version."
)
_WIDTH = 7.2  # inches that a page has room for
_FONT = 6.5
_ACROSS = 3
_FALSE_ALARMS = np.linspace(0, 1, 201)


def section(
    parts: Mapping[int, Part], facts: dict[str, str], paper: Paper | None = None
) -> Section:
    """All tables and figures of classification.cross_grid, of each task by its number."""
    parts = dict(sorted(parts.items()))
    grids = {number: metrics(part) for number, part in parts.items()}
    cautions = {number: caution for number, part in parts.items() if (caution := confounds(part))}
    heads = {
        number: f"Task {number}, confounded" if number in cautions else f"Task {number}"
        for number in parts
    }
    told = facts | _facts(parts, cautions)
    blocks: list[Block] = [
        Text(_HOW),
        *(Text(caution, caution=True) for caution in cautions.values()),
        Text(_verdict(grids)),
    ]
    blocks.append(_tasks(parts, cautions, facts))
    blocks += [
        _table(title, measure, heads, grids, told, (paper or {}).get(measure, {}))
        for measure, title in _TITLES.items()
    ]
    blocks += [
        _differences(heads, grids, told, "difference"),
        _differences(heads, grids, told, "from_originals"),
    ]
    blocks.append(_figure_7(heads, parts, grids, told))
    for number, part in parts.items():
        blocks.append(_pairs(number, part, grids[number], facts | _facts({number: part}, cautions)))
        blocks += [Text(cautions[number], caution=True)] if number in cautions else []
    return Section("classification", "Classification of restored images", tuple(blocks))


def _facts(parts: Mapping[int, Part], cautions: Mapping[int, str]) -> dict[str, str]:
    """What belongs under every table and figure, in short; the rest is in the table of tasks."""
    of = {
        number: f"{number}: {sum(part.body['counts']['test'].values())}"
        for number, part in parts.items()
    }
    facts = {
        "tasks": "; ".join(f"{number}: {part.body['title']}" for number, part in parts.items()),
        "n tested": "; ".join(of.values()),
        "network": "; ".join(dict.fromkeys(_network(part) for part in parts.values())),
    }
    if confounded := [str(number) for number in parts if number in cautions]:
        facts["confounded"] = (
            f"{', '.join(confounded)}: the corpus alone tells the classes apart; see the caution"
        )
    return facts


def _network(part: Part) -> str:
    learner = part.body["learner"]
    return f"{learner['network']} at {learner['side']} x {learner['side']}, seeds {', '.join(map(str, learner['seeds']))}"


def _tasks(parts: Mapping[int, Part], cautions: Mapping[int, str], facts: dict[str, str]) -> Table:
    columns = (
        "Task",
        "Classes",
        "Training images",
        "Validation images",
        "Test images",
        "Patients tested",
        "Corpus tells the class",
    )
    rows = []
    for number, part in parts.items():
        counts = (
            ", ".join(f"{name} {n}" for name, n in of.items())
            for of in part.body["counts"].values()
        )
        patients = str(part.body["patients"]["test"])
        rows.append(
            (
                str(number),
                part.body["title"],
                *counts,
                patients,
                "yes" if number in cautions else "no",
            )
        )
    return Table("Classification tasks", columns, tuple(rows), facts)


def _verdict(grids: Mapping[int, Grid]) -> str:
    """How many cells are as good as originals, counted in three ways."""
    trained = {t for grid in grids.values() for t, _ in grid}
    cells = [
        (grid, *pair)
        for grid in grids.values()
        for pair in grid
        if pair[1] != ORIGINAL and pair[1] in trained
    ]
    within = sum(_holds(grid[t, v].auc, grid[t, ORIGINAL].auc) for grid, t, v in cells)
    worse = sum(grid[t, v].difference.high < 0 for grid, t, v in cells)
    own = [(grid, v) for grid in grids.values() for t, v in grid if t == v != ORIGINAL]
    kept = sum(_holds(grid[v, v].auc, grid[ORIGINAL, ORIGINAL].auc) for grid, v in own)
    return (
        f"On restored images the AUC lies within or above the interval of the same networks on original images in {within} of "
        f"{len(cells)} pairs; in {worse} the loss is clear of chance (the interval of the paired difference lies below 0; "
        f"about one in forty would by chance). Trained and tested on the same restored version, it lies within or above the "
        f"interval of originals throughout in {kept} of {len(own)}."
    )


def _holds(found: Estimate, reference: Estimate) -> bool:
    """Within or above the interval."""
    return found.value >= reference.low


def _table(
    title: str, measure: str, heads: Mapping[int, str], grids: Mapping[int, Grid], facts: dict[str, str],
    paper: Mapping[tuple[int, str, str], float],
) -> Table:  # fmt: skip
    rows = []
    for t, v in next(iter(grids.values())):
        rows.append(
            (t, v, *(with_interval(getattr(grid[t, v], measure)) for grid in grids.values()))
        )
        printed = [paper.get((number, t, v)) for number in grids]
        if any(figure is not None for figure in printed):
            rows.append(
                ("", "the paper", *("–" if figure is None else plain(figure) for figure in printed))
            )
    return Table(title, _columns(heads), tuple(rows), facts)


def _differences(
    heads: Mapping[int, str], grids: Mapping[int, Grid], facts: dict[str, str], which: str
) -> Table:
    """Bold where the loss is clear of chance."""
    own = which == "difference"
    pairs = [
        (t, v)
        for t, v in next(iter(grids.values()))
        if (v != ORIGINAL if own else (t, v) != (ORIGINAL, ORIGINAL))
    ]
    found = [[getattr(grid[pair], which) for grid in grids.values()] for pair in pairs]
    rows = tuple(
        (*pair, *(with_interval(e, 3) for e in line))
        for pair, line in zip(pairs, found, strict=True)
    )
    bold = frozenset(
        (i, j + 2) for i, line in enumerate(found) for j, e in enumerate(line) if e.high < 0
    )
    reference = (
        "the same networks on original images"
        if own
        else "networks trained and tested on originals"
    )
    return Table(
        f"Difference in AUC from {reference}, in pairs (bold: below 0)",
        _columns(heads),
        rows,
        facts,
        bold,
    )


def _columns(heads: Mapping[int, str]) -> tuple[str, ...]:
    return "Trained on", "Tested on", *heads.values()


def _figure_7(
    heads: Mapping[int, str],
    parts: Mapping[int, Part],
    grids: Mapping[int, Grid],
    facts: dict[str, str],
) -> Figure:
    panels = [(f"{heads[n]}:\n{part.body['title']}", part, ORIGINAL) for n, part in parts.items()]
    alt = "; ".join(f"task {n}: {_aucs(grid, ORIGINAL)}" for n, grid in grids.items())
    title = "Receiver operating characteristic of networks trained on original images (the paper's Fig. 7)"
    return Figure(
        title,
        _roc_png(panels, [grids[n] for n in parts]),
        f"ROC curves. AUC by version tested on, {alt}.",
        facts,
    )


def _pairs(number: int, part: Part, grid: Grid, facts: dict[str, str]) -> Figure:
    versions = part.body["versions"]
    printed = f" (the paper's Supplemental Fig. {number + 1})" if number <= 8 else ""
    title = f"Task {number}, {part.body['title']}: receiver operating characteristic by version trained on{printed}"
    alt = "; ".join(f"trained on {version}: {_aucs(grid, version)}" for version in versions)
    panels = [(f"Trained on {version}", part, version) for version in versions]
    return Figure(
        title,
        _roc_png(panels, [grid] * len(panels)),
        f"ROC curves. AUC by version tested on, {alt}.",
        facts,
    )


def _aucs(grid: Grid, trained_on: str) -> str:
    return ", ".join(
        f"{v} {plain(cell.auc.value)}" for (t, v), cell in grid.items() if t == trained_on
    )


def _roc_png(panels: Sequence[tuple[str, Part, str]], grids: Sequence[Grid]) -> bytes:
    """A panel for each (title, part, version trained on), a curve for each version tested on."""
    from matplotlib.figure import Figure as Canvas

    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    side = _WIDTH / _ACROSS
    canvas = Canvas((side * across, (side + 0.2) * down + 0.3), dpi=200, layout="constrained")
    axes = canvas.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for panel, (title, part, trained_on), grid in zip(axes, panels, grids, strict=False):
        scores = part.arrays["scores"][part.body["versions"].index(trained_on)].mean(
            1
        )  # (V, n, classes)
        for number, (tested_on, p) in enumerate(zip(part.body["tested"], scores, strict=True)):
            label = f"{tested_on}: {plain(grid[trained_on, tested_on].auc.value)}"
            style, order = (
                ("--", 3) if tested_on == ORIGINAL else ("-", 2)
            )  # dashes on top, so that both are seen
            drawn = curve(p, part.arrays["labels"])
            panel.plot(
                _FALSE_ALARMS, drawn, style, color=f"C{number}", lw=0.9, label=label, zorder=order
            )
        panel.plot([0, 1], [0, 1], ":", color="0.6", lw=0.7)
        panel.set_title(title, fontsize=_FONT)
        panel.set_aspect("equal")
        panel.tick_params(labelsize=_FONT - 1)
        panel.legend(
            fontsize=_FONT - 1.5,
            loc="lower right",
            title="tested on: AUC",
            title_fontsize=_FONT - 1.5,
        )
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    canvas.supxlabel("1 - specificity", fontsize=_FONT)
    canvas.supylabel("sensitivity", fontsize=_FONT)
    return png(canvas)


def curve(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sensitivity at 201 even steps of 1 - specificity, 0 to 1; of three classes the mean of each against the rest."""
    from sklearn.metrics import roc_curve

    count = probabilities.shape[1]
    curves = []
    for c in range(count) if count > 2 else [1]:
        false_alarms, hits, _ = roc_curve(labels == c, probabilities[:, c])
        curves.append(np.interp(_FALSE_ALARMS, false_alarms, hits))
    return np.vstack(curves).mean(0)

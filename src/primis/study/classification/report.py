"""Classification for readers: the paper's Table 2, Supplemental Tables 1 to 3, Fig.

7 and Supplemental Figs 2 to 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np

from primis.metrics.estimate import Estimate
from primis.study.chapter import Chapter
from primis.study.classification.grid import Cell, Grid, confounds, metrics
from primis.study.classification.measure import Measured, TaskResult, measure_study
from primis.study.names import Pair
from primis.study.paper import printed as papers
from primis.study.paper import tables as beside_paper
from primis.study.paper.printed import Scores
from primis.study.paper.tables import Ours
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png
from primis.study.report.numbers import plain, with_interval
from primis.study.report.write import Csv, without_arrays
from primis.study.study import Study
from primis.study.versions import ORIGINAL

Paper = Scores[dict[papers.Cell, float]]
"""The paper's own numbers."""

_PAPER_TASKS = 8


class _Measure(NamedTuple):
    """A table: its title, its value in a cell, and the paper's."""

    title: str
    of: Callable[[Cell], Estimate]
    printed: Callable[[Paper], dict[papers.Cell, float]]


_MEASURES = (
    _Measure("AUC (the paper's Table 2)", lambda cell: cell.auc, lambda paper: paper.auc),
    _Measure(
        "Accuracy (the paper's Supplemental Table 1)",
        lambda cell: cell.accuracy,
        lambda paper: paper.accuracy,
    ),
    _Measure(
        "Sensitivity (the paper's Supplemental Table 2)",
        lambda cell: cell.sensitivity,
        lambda paper: paper.sensitivity,
    ),
    _Measure(
        "Specificity (the paper's Supplemental Table 3)",
        lambda cell: cell.specificity,
        lambda paper: paper.specificity,
    ),
)
_HOW = (
    "Each network was trained on one version of the training images and tested on every version "
    "of the test images. Values are of the mean probability over seeds; intervals are at 95 %, by "
    "resampling the patients tested within each class (where all are told apart such an interval "
    "has no width, which is too narrow for so few images), and the seeds as well where networks "
    "are compared that were trained apart. Of two classes the first named in a task is the "
    "positive one; of three, AUC, sensitivity and specificity are means over each against the "
    "rest. An image is put in the class of the largest probability; the loss weighs all classes "
    "alike, so for two this is a threshold of 0.5, which is not fitted to any version."
)
_WIDTH = 7.2  # inches that a page has room for
_FONT = 6.5
_ACROSS = 3
_FALSE_ALARMS = np.linspace(0, 1, 201)


def chapter(study: Study) -> Chapter:
    """Table 2, Supp.

    Tables 1 to 3, Fig. 7, Supp. Figs. 2 to 9, of the tasks that the data can answer.
    """
    measured = measure_study(study)
    results = {each.result.number: each.result for each in measured}
    facts = _study_facts(study, measured)
    data = {f"task {number}": _data(result) for number, result in results.items()}
    csvs = {"classification": _per_image(results)}
    ours = Ours(classification=beside_paper.Measured(_ours(results), facts))
    return Chapter((section(results, facts),), data, csvs, ours)


def _study_facts(study: Study, measured: Sequence[Measured]) -> dict[str, str]:
    """Tasks take their images from different corpora."""
    taken = []
    for result, corpora in measured:
        names = ", ".join(corpus.name for corpus in corpora)
        taken.append(f"{result.number} from {names}")
    return study.facts(f"task {'; '.join(taken)}", "by task")


def _data(result: TaskResult) -> dict[str, object]:
    """For report.json."""
    grid = metrics(result)
    cells = {f"{pair.trained_on} -> {pair.tested_on}": cell for pair, cell in grid.items()}
    return cells | without_arrays(result)


def _ours(results: Mapping[int, TaskResult]) -> Scores[dict[papers.Cell, Estimate]]:
    """Of the paper's tasks."""
    cells: dict[papers.Cell, Cell] = {}
    for number, result in results.items():
        if number <= _PAPER_TASKS:
            grid = metrics(result)
            cells |= {papers.Cell(number, *pair): cell for pair, cell in grid.items()}
    return Scores(*({key: m.of(cell) for key, cell in cells.items()} for m in _MEASURES))


def _per_image(results: Mapping[int, TaskResult]) -> Csv:
    """Mean probability over seeds of each test image and class."""
    rows: list[tuple[object, ...]] = []
    for result in results.values():
        pairs = product(enumerate(result.versions), enumerate(result.tested))
        for (t, learned), (v, judged) in pairs:
            scores = result.scores[t, v].mean(0)
            images = zip(result.names, result.labels, scores, strict=True)
            for name, label, each in images:
                told = result.number, learned, judged, name, result.classes[int(label)]
                rows += [(*told, c, p) for c, p in zip(result.classes, each, strict=True)]
    return ("task", "trained on", "tested on", "image", "truth", "class", "probability"), rows


def section(
    results: Mapping[int, TaskResult], facts: dict[str, str], paper: Paper | None = None
) -> Section:
    """All tables and figures, of each task by its number."""
    results = dict(sorted(results.items()))
    grids = {number: metrics(result) for number, result in results.items()}
    said = ((number, confounds(result)) for number, result in results.items())
    cautions = {number: caution for number, caution in said if caution}
    heads = {
        number: f"Task {number}, confounded" if number in cautions else f"Task {number}"
        for number in results
    }
    told = facts | _facts(results, cautions)
    blocks: list[Block] = [
        Text(_HOW),
        *(Text(caution, caution=True) for caution in cautions.values()),
        Text(_verdict(grids)),
        _tasks(results, cautions, facts),
        *(_table(measure, heads, grids, told, paper) for measure in _MEASURES),
        _differences(heads, grids, told),
        _differences_from_originals(heads, grids, told),
        _figure_7(heads, results, grids, told),
    ]
    for number, result in results.items():
        own = facts | _facts({number: result}, cautions)
        blocks.append(_pairs(result, grids[number], own))
        blocks += [Text(cautions[number], caution=True)] if number in cautions else []
    return Section("classification", "Classification of restored images", tuple(blocks))


def _facts(results: Mapping[int, TaskResult], cautions: Mapping[int, str]) -> dict[str, str]:
    """What belongs under every table and figure, in short; the rest is in the table of tasks."""
    tested = (f"{n}: {sum(result.counts.test.values())}" for n, result in results.items())
    facts = {
        "tasks": "; ".join(f"{number}: {result.title}" for number, result in results.items()),
        "n tested": "; ".join(tested),
        "network": "; ".join(dict.fromkeys(_network(result) for result in results.values())),
    }
    if confounded := [str(number) for number in results if number in cautions]:
        said = f"{', '.join(confounded)}: the corpus alone tells the classes apart; see the caution"
        return facts | {"confounded": said}
    return facts


def _network(result: TaskResult) -> str:
    learner = result.learner
    seeds = ", ".join(map(str, learner.seeds))
    return f"{learner.network} at {learner.side} x {learner.side}, seeds {seeds}"


def _tasks(
    results: Mapping[int, TaskResult], cautions: Mapping[int, str], facts: dict[str, str]
) -> Table:
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
    for number, result in results.items():
        counts = result.counts.each(_listed)
        confounded = "yes" if number in cautions else "no"
        images = counts.train, counts.val, counts.test
        patients = str(result.patients.test)
        rows.append((str(number), result.title, *images, patients, confounded))
    return Table("Classification tasks", columns, tuple(rows), facts)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _verdict(grids: Mapping[int, Grid]) -> str:
    """How many cells are as good as originals, counted in three ways."""
    trained = {pair.trained_on for pair in chain.from_iterable(grids.values())}
    restored = trained - {ORIGINAL}
    within = worse = cells = kept = own = 0
    for grid, pair in _cells(grids):
        cell, same = grid[pair], grid[Pair(pair.trained_on, ORIGINAL)]
        if pair.tested_on not in restored:
            continue
        cells += 1
        within += _holds(cell.auc, same.auc)
        worse += cell.difference.high < 0
        if pair.trained_on == pair.tested_on:
            own += 1
            kept += _holds(cell.auc, grid[Pair(ORIGINAL, ORIGINAL)].auc)
    return (
        "On restored images the AUC lies within or above the interval of the same networks on "
        f"original images in {within} of {cells} pairs; in {worse} the loss is significant (the 95 "
        "% interval of the paired difference lies below 0; about one in forty would by chance). "
        "Trained and tested on the same restored version, it lies within or above the interval of "
        f"originals throughout in {kept} of {own}."
    )


def _cells(grids: Mapping[int, Grid]) -> Iterator[tuple[Grid, Pair]]:
    for grid in grids.values():
        for pair in grid:
            yield grid, pair


def _holds(found: Estimate, reference: Estimate) -> bool:
    """Within or above the interval."""
    return found.value >= reference.low


def _table(
    measure: _Measure,
    heads: Mapping[int, str],
    grids: Mapping[int, Grid],
    facts: dict[str, str],
    paper: Paper | None,
) -> Table:
    printed = measure.printed(paper) if paper else {}
    rows: list[tuple[str, ...]] = []
    for pair in next(iter(grids.values())):
        rows.append((*pair, *(with_interval(measure.of(grid[pair])) for grid in grids.values())))
        theirs = [printed.get(papers.Cell(number, *pair)) for number in grids]
        if any(value is not None for value in theirs):
            cells = ("–" if value is None else plain(value) for value in theirs)
            rows.append(("", "the paper", *cells))
    return Table(measure.title, _columns(heads), tuple(rows), facts)


def _differences(
    heads: Mapping[int, str], grids: Mapping[int, Grid], facts: dict[str, str]
) -> Table:
    pairs = [pair for pair in next(iter(grids.values())) if pair.tested_on != ORIGINAL]
    reference = "the same networks on original images"
    return _lost(reference, pairs, lambda cell: cell.difference, heads, grids, facts)


def _differences_from_originals(
    heads: Mapping[int, str], grids: Mapping[int, Grid], facts: dict[str, str]
) -> Table:
    pairs = [pair for pair in next(iter(grids.values())) if pair != Pair(ORIGINAL, ORIGINAL)]
    reference = "networks trained and tested on originals"
    return _lost(reference, pairs, lambda cell: cell.from_originals, heads, grids, facts)


def _lost(
    reference: str,
    pairs: Sequence[Pair],
    of: Callable[[Cell], Estimate],
    heads: Mapping[int, str],
    grids: Mapping[int, Grid],
    facts: dict[str, str],
) -> Table:
    """Bold where the loss is significant."""
    rows: list[tuple[str, ...]] = []
    bold = set()
    for i, pair in enumerate(pairs):
        line = [of(grid[pair]) for grid in grids.values()]
        rows.append((*pair, *(with_interval(e, 3) for e in line)))
        bold |= {(i, j) for j, e in enumerate(line, 2) if e.high < 0}
    title = f"Difference in AUC from {reference}, in pairs (bold: below 0)"
    return Table(title, _columns(heads), tuple(rows), facts, frozenset(bold))


def _columns(heads: Mapping[int, str]) -> tuple[str, ...]:
    return "Trained on", "Tested on", *heads.values()


class _Panel(NamedTuple):
    """A part of a picture: networks trained on one version, on every version tested."""

    title: str
    result: TaskResult
    grid: Grid
    trained_on: str


def _figure_7(
    heads: Mapping[int, str],
    results: Mapping[int, TaskResult],
    grids: Mapping[int, Grid],
    facts: dict[str, str],
) -> Figure:
    panels = [
        _Panel(f"{heads[n]}:\n{result.title}", result, grids[n], ORIGINAL)
        for n, result in results.items()
    ]
    told = "; ".join(f"task {n}: {_aucs(grid, ORIGINAL)}" for n, grid in grids.items())
    title = (
        "Receiver operating characteristic of networks trained on original images (the paper's "
        "Fig. 7)"
    )
    alt = f"ROC curves. AUC by version tested on, {told}."
    return Figure(title, _roc_png(panels), alt, facts)


def _pairs(result: TaskResult, grid: Grid, facts: dict[str, str]) -> Figure:
    number = result.number
    printed = f" (the paper's Supplemental Fig. {number + 1})" if number <= _PAPER_TASKS else ""
    title = (
        f"Task {number}, {result.title}: receiver operating characteristic by version trained "
        f"on{printed}"
    )
    told = "; ".join(f"trained on {version}: {_aucs(grid, version)}" for version in result.versions)
    panels = [_Panel(f"Trained on {v}", result, grid, v) for v in result.versions]
    alt = f"ROC curves. AUC by version tested on, {told}."
    return Figure(title, _roc_png(panels), alt, facts)


def _aucs(grid: Grid, trained_on: str) -> str:
    cells = ((pair, cell) for pair, cell in grid.items() if pair.trained_on == trained_on)
    return ", ".join(f"{pair.tested_on} {plain(cell.auc.value)}" for pair, cell in cells)


def _roc_png(panels: Sequence[_Panel]) -> bytes:
    """A curve for each version tested on."""
    from matplotlib.figure import Figure as Canvas

    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    side = _WIDTH / _ACROSS
    size = side * across, (side + 0.2) * down + 0.3
    canvas = Canvas(size, dpi=200, layout="constrained")
    axes = canvas.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _draw(ax, panel)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    canvas.supxlabel("1 - specificity", fontsize=_FONT)
    canvas.supylabel("sensitivity", fontsize=_FONT)
    return png(canvas)


def _draw(ax: Any, panel: _Panel) -> None:
    result = panel.result
    scores = result.scores[result.versions.index(panel.trained_on)].mean(1)  # (V, n, classes)
    for number, (tested_on, p) in enumerate(zip(result.tested, scores, strict=True)):
        auc = panel.grid[Pair(panel.trained_on, tested_on)].auc.value
        on_top = tested_on == ORIGINAL  # and dashed, so that both are seen
        style: dict[str, Any] = {"ls": "--" if on_top else "-", "zorder": 3 if on_top else 2}
        style |= {"color": f"C{number}", "lw": 0.9, "label": f"{tested_on}: {plain(auc)}"}
        ax.plot(_FALSE_ALARMS, curve(p, result.labels), **style)
    ax.plot([0, 1], [0, 1], ":", color="0.6", lw=0.7)
    ax.set_title(panel.title, fontsize=_FONT)
    ax.set_aspect("equal")
    ax.tick_params(labelsize=_FONT - 1)
    small = _FONT - 1.5
    ax.legend(fontsize=small, loc="lower right", title="tested on: AUC", title_fontsize=small)


def curve(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sensitivity at 201 even steps of 1 - specificity, 0 to 1; of three classes the mean of each
    against the rest.
    """
    from sklearn.metrics import roc_curve

    count = probabilities.shape[1]
    curves = []
    for c in range(count) if count > 2 else [1]:
        false_alarms, hits, _ = roc_curve(labels == c, probabilities[:, c])
        curves.append(np.interp(_FALSE_ALARMS, false_alarms, hits))
    return np.vstack(curves).mean(0)

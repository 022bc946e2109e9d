"""The paper's tables beside this run's: the numbers of each pair side by side.

A difference is this run's number less the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Generic, TypeVar

from primis.metrics.estimate import Estimate
from primis.study.names import PARTS, Pair, PartName
from primis.study.paper.printed import Cell, Errors, Outlines, Printed, Scores, Source, paper
from primis.study.report.document import Block, Section, Table, Text
from primis.study.report.numbers import interval, known_interval, plain, signed, with_sd

T = TypeVar("T")
Facts = dict[str, str]


@dataclass(frozen=True)
class Measured(Generic[T]):
    """This run's side of a table.

    rows: keyed as the paper's; facts: what stands under its tables.
    """

    rows: T
    facts: Facts = field(default_factory=dict)


ErrorRows = Mapping[str, Errors[Estimate | None]]
ScoreRows = Scores[dict[Cell, Estimate]]
OutlineRows = Mapping[Pair, Outlines[Estimate | None]]


@dataclass(frozen=True)
class Ours:
    """This run's results, part by part; None where a part was not measured.

    r_squared, texture: by version; texture is the share of features with an ICC above 0.75.
    """

    fidelity: Measured[ErrorRows] | None = None
    r_squared: Measured[Mapping[str, float]] | None = None
    classification: Measured[ScoreRows] | None = None
    segmentation: Measured[OutlineRows] | None = None
    texture: Measured[Mapping[str, float]] | None = None
    attacks: Measured[ErrorRows] | None = None

    def with_(self, other: Ours) -> Ours:
        """This, and what the other has measured besides."""
        found = {f.name: value for f in fields(other) if (value := getattr(other, f.name))}
        return replace(self, **found)


_SIGNED = "ME"
"""The measure that the two do not mean alike."""

_WHOSE = "paper\nhere\ndifference"


def section(ours: Ours, asked: Collection[PartName] = PARTS) -> Section:
    """Each of the paper's tables beside ours, of the parts that were asked for."""
    tables: dict[PartName, Callable[[], list[Block]]] = {
        PartName.FIDELITY: lambda: [*_fidelity(ours.fidelity), *_r_squared(ours.r_squared)],
        PartName.CLASSIFICATION: lambda: _classification(ours.classification),
        PartName.SEGMENTATION: lambda: _segmentation(ours.segmentation),
        PartName.TEXTURE: lambda: _texture(ours.texture),
        PartName.ATTACKS: lambda: _attacks(ours.attacks),
    }
    blocks: list[Block] = [Text(_HOW), Text(_SPARSITY)]
    for part, table in tables.items():
        blocks += table() if part in asked else []
    return Section("paper", "The paper beside this run", tuple(blocks))


_HOW = (
    "Each table sets a number that the paper printed beside the one of this run. Data, sizes and "
    "training differ, so a difference is no verdict: what is under each table says on what either "
    "was measured. Intervals are at 95 %, and the difference is this run's number less the "
    "paper's."
)
_SPARSITY = (
    "The paper's S_x counts the entries kept at every position of each code map; preset paper "
    "does the same. That of preset default is an average over the positions of the image: equal "
    "S_x are not equal bits."
)


def _fidelity(ours: Measured[ErrorRows] | None) -> list[Block]:
    title = "Table 1: restored images against their originals, grey levels of 8 bits"
    printed = paper().fidelity
    blocks = _errors(title, "version", printed.rows, ours, printed.source)
    note = (
        "In the paper ME equals MAE in every row, as a signed mean does only if no error is "
        "negative: no difference is given."
    )
    return [*blocks, Text(note)] if ours else blocks


def _r_squared(ours: Measured[Mapping[str, float]] | None) -> list[Block]:
    here = ours.rows if ours else {}
    rows: list[tuple[str, ...]] = []
    missing: list[str] = []
    for version, theirs in paper().fidelity.r_squared.items():
        if (own := here.get(version)) is None:
            missing.append(version)
        else:
            rows.append((version, plain(theirs, 4), plain(own, 4), signed(own - theirs, 4)))
    title = "Fig. 6: R² of all pixels, original against restored"
    head = ("version", "paper", "here", "difference")
    return _table(title, head, rows, missing, _facts(paper().fidelity.source, ours))


def _classification(ours: Measured[ScoreRows] | None) -> list[Block]:
    facts = _facts(paper().classification.source, ours)
    here = ours.rows if ours else Scores[dict[Cell, Estimate]]({}, {}, {}, {})
    blocks: list[Block] = []
    measures = zip(Scores.labels, Scores.tables, strict=True)
    grids = zip(paper().classification.rows.each(), here.each(), strict=True)
    for (label, table), (printed, found) in zip(measures, grids, strict=True):
        blocks += _scores(f"{table}: {label}", printed, found, facts)
    tasks = {cell.task for found in here.each() for cell in found}
    return [*_tasks(tasks), *blocks] if tasks else blocks


def _scores(
    what: str, printed: dict[Cell, float], found: dict[Cell, Estimate], facts: Facts
) -> list[Block]:
    known = [cell for cell in printed if cell in found]
    tasks = sorted({cell.task for cell in known})
    rows = []
    for pair in dict.fromkeys(Pair(cell.trained_on, cell.tested_on) for cell in known):
        cells = [Cell(task, *pair) for task in tasks]
        rows.append((*pair, _WHOSE, *(_lines(printed[cell], found.get(cell)) for cell in cells)))
    title = f"{what} of classification by the version trained on and the version tested on"
    head = ("trained on", "tested on", "", *(f"task {task}" for task in tasks))
    gap = len(printed) - len(known)
    missing = [f"{gap} of its {len(printed)} cells"] if gap else []
    return _table(title, head, rows, missing, facts)


def _tasks(found: set[int]) -> list[Block]:
    """What the numbers of the tasks stand for, and which to distrust."""
    tasks = paper().classification.tasks
    listed = ". ".join(f"Task {number}: {task}" for number, task in enumerate(tasks, 1))
    told = Text(f"The paper's classification tasks, with its numbers of patients. {listed}.")
    covid = [
        number
        for number, task in enumerate(tasks, 1)
        if any("COVID" in name for name in task.classes)
    ]
    caution = (
        f"Tasks {', '.join(map(str, covid[:-1]))} and {covid[-1]} set COVID-19 against other "
        "classes. In public collections the COVID-19 images are mostly of adults, and the normal, "
        "bacterial and viral ones of children: where that is so, a classifier can tell age and "
        "scanner instead of disease, and a high value says little, in either row."
    )
    return [told, Text(caution, caution=True)] if found & set(covid) else [told]


def _segmentation(ours: Measured[OutlineRows] | None) -> list[Block]:
    theirs, here = paper().segmentation.rows, ours.rows if ours else {}
    facts = _facts(paper().segmentation.source, ours)
    pairs = [pair for pair in theirs if pair in here]
    means, intervals = [], []
    for pair in pairs:
        both = list(zip(theirs[pair].each(), here[pair].each(), strict=True))
        means.append((*pair, _WHOSE, *(_lines(p.mean, e, p.sd) for p, e in both)))
        ranges = (f"{interval(p.low, p.high)}\n{_interval(e)}" for p, e in both)
        intervals.append((*pair, "paper\nhere", *ranges))
    head = ("trained on", "tested on", "", *Outlines.labels)
    title = (
        "Table 3: segmentation of the lungs by the version trained on and the version tested on, "
        "mean ± SD"
    )
    missing = [f"trained on {a}, tested on {b}" for a, b in theirs if (a, b) not in pairs]
    blocks = _table(title, head, means, missing, facts)
    title = "Supplemental Table 4: the same, intervals"
    return [*blocks, Table(title, head, tuple(intervals), facts)] if pairs else blocks


def _texture(ours: Measured[Mapping[str, float]] | None) -> list[Block]:
    said, here = paper().texture.rows, ours.rows if ours else {}
    versions = paper().fidelity.rows
    rows = [
        (version, said.get(version, "nothing"), f"{100 * here[version]:.0f} %")
        for version in versions
        if version in here
    ]
    title = "Fig. 8: features of texture that are reproduced with an ICC above 0.75"
    missing = [version for version in versions if version not in here]
    facts = _facts(paper().texture.source, ours)
    blocks = _table(title, ("version", "paper says", "share here"), rows, missing, facts)
    note = Text(
        "The paper draws a heat map and writes of most features at S_x = 8 and 16: it has no "
        "number to take a difference from."
    )
    return [*blocks, note] if rows else blocks


def _attacks(ours: Measured[ErrorRows] | None) -> list[Block]:
    title = (
        "Table 4: images drawn by the paper's four networks from what is published, grey levels "
        "of 8 bits"
    )
    printed = paper().attacks
    blocks = _errors(title, "network", printed.rows, ours, printed.source)
    key = min(paper().fidelity.rows.items(), key=lambda row: row[1].psnr.mean)
    above = sum(row.psnr.mean > key[1].psnr.mean for row in printed.rows.values())
    note = (
        "A lower error or a higher likeness is a better attack. The judge of this run grants "
        "every attacker the brightness and contrast that fit best, so its ME is zero, and its "
        "errors are smaller than the same images would have in the paper. The paper has no number "
        "for what can be drawn without the code: its own do not tell whether a network learned "
        f"anything. Its holder of the key sees {plain(key[1].psnr.mean)} dB at {key[0]}, less than "
        f"{above} of its attackers."
    )
    return [*blocks, Text(note)] if ours else blocks


def _errors(
    title: str,
    kind: str,
    printed: Mapping[str, Errors[Printed]],
    ours: Measured[ErrorRows] | None,
    source: Source,
) -> list[Block]:
    """A row for each name and measure."""
    here = ours.rows if ours else {}
    rows, missing = [], [name for name in printed if name not in here]
    for name in (name for name in printed if name in here):
        for label, p, e in zip(Errors.labels, printed[name].each(), here[name].each(), strict=True):
            if e is None:
                missing.append(f"{label} of {name}")
                continue
            paired = with_sd(p.mean, p.sd), interval(p.low, p.high), with_sd(e.value, e.sd)
            apart = "–" if label == _SIGNED else signed(e.value - p.mean)
            rows.append((name, label, *paired, _interval(e), apart))
    head = (kind, "measure", "paper", "interval", "here", "interval", "difference")
    return _table(title, head, rows, missing, _facts(source, ours))


def _table(
    title: str,
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    missing: Sequence[str],
    facts: Facts,
) -> list[Block]:
    """The table, and what of the paper's is not in it."""
    short = title.split(":", maxsplit=1)[0]
    if not rows:
        return [Text(f"{short} is left out: this run has no results for it.")]
    table = Table(title, head, tuple(rows), facts)
    left_out = f"Left out of {short}, since this run has no results for it: {'; '.join(missing)}."
    return [table, Text(left_out)] if missing else [table]


def _facts(source: Source, ours: Measured[T] | None) -> Facts:
    """What either was measured on."""
    return source.facts | (ours.facts if ours else {})


def _interval(e: Estimate | None) -> str:
    return known_interval(e) if e else "–"


def _lines(theirs: float, here: Estimate | None, sd: float | None = None) -> str:
    """Paper, here and difference, one below the other."""
    if here is None:
        return f"{with_sd(theirs, sd)}\n–\n–"
    own = with_sd(here.value, None if sd is None else here.sd)
    return f"{with_sd(theirs, sd)}\n{own}\n{signed(here.value - theirs)}"

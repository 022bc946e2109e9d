"""The paper's tables beside this run's: the figures of `paper.toml`, and a section that sets each pair side by side.

A version is a text: "original", or "S_x = 4". A difference is this run's figure less the paper's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from primis.metrics.statistics import Estimate
from primis.study.report.document import Block, Section, Table, Text
from primis.study.report.numbers import interval, plain, signed, with_sd

Measures = Mapping[str, Estimate]

NAMES = {
    "mae": "MAE", "me": "ME", "rmse": "RMSE", "psnr": "PSNR, dB", "ssim": "SSIM", "dice": "Dice", "jaccard": "Jaccard",
    "false_negative": "false negative", "false_positive": "false positive", "mean_distance": "mean surface distance",
    "sd_distance": "SD of surface distance", "auc": "AUC", "accuracy": "accuracy", "sensitivity": "sensitivity",
    "specificity": "specificity",
}  # fmt: skip
"""Measures as their columns are headed."""

TABLES = {
    "auc": "Table 2",
    "accuracy": "Supplemental Table 1",
    "sensitivity": "Supplemental Table 2",
    "specificity": "Supplemental Table 3",
}
"""Where the paper has a measure of classification."""


@dataclass(frozen=True)
class Printed:
    """A figure of the paper: mean, SD and interval at 95 %."""

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Task:
    """Classes, and how many patients each had."""

    classes: dict[str, int]

    def __str__(self) -> str:
        return ", ".join(f"{name} ({count:,})" for name, count in self.classes.items())


Pair = tuple[str, str]
"""(trained on, tested on), versions."""


@dataclass(frozen=True)
class Paper:
    """All figures. fidelity: by version and measure; correlation: R² by version; classification: by measure, then by
    (task, trained on, tested on), tasks counted from 1; segmentation: by pair and measure; attacks: by network and measure;
    texture: what the text says of a version; measures: of segmentation; tested: how many images intervals fit, by part;
    facts: data, n and split, by part."""

    fidelity: dict[str, dict[str, Printed]]
    correlation: dict[str, float]
    tasks: tuple[Task, ...]
    classification: dict[str, dict[tuple[int, str, str], float]]
    segmentation: dict[Pair, dict[str, Printed]]
    attacks: dict[str, dict[str, Printed]]
    texture: dict[str, str]
    measures: tuple[str, ...]
    tested: dict[str, int]
    facts: dict[str, dict[str, str]] = field(repr=False)


@cache
def paper() -> Paper:
    """Read from the package."""
    body = tomllib.loads(files("primis.study.report").joinpath("paper.toml").read_text("utf-8"))
    seg = body["segmentation"]
    return Paper(
        fidelity=_rows(body["fidelity"]), attacks=_rows(body["attacks"]), correlation=body["correlation"]["rows"],
        tasks=tuple(Task(task["classes"]) for task in body["classification"]["tasks"]),
        classification={
            measure: {(task, train, test): value for train, test, *values in rows for task, value in enumerate(values, 1)}
            for measure, rows in body["classification"]["rows"].items()
        },
        segmentation={(r[0], r[1]): dict(zip(seg["measures"], (Printed(*x) for x in r[2:]), strict=True)) for r in seg["rows"]},
        texture=body["texture"]["rows"], measures=tuple(seg["measures"]),
        tested={name: part["tested"] for name, part in body.items() if "tested" in part},
        facts={name: {k: part[k] for k in ("data", "n", "split") if k in part} for name, part in body.items()},
    )  # fmt: skip


def _rows(part: dict[str, Any]) -> dict[str, dict[str, Printed]]:
    return {
        name: {m: Printed(*row[m]) for m in part["measures"]} for name, row in part["rows"].items()
    }


@dataclass(frozen=True)
class Ours:
    """This run's figures, keyed as `Paper`'s; what it lacks is empty. correlation: R² by version; classification: by
    measure (auc, accuracy, sensitivity, specificity); texture: the share of features with an ICC above 0.75; facts: by part
    (fidelity, classification, segmentation, texture, attacks), what to print under its tables."""

    fidelity: Mapping[str, Measures] = field(default_factory=dict)
    correlation: Mapping[str, float] = field(default_factory=dict)
    classification: Mapping[str, Mapping[tuple[int, str, str], Estimate]] = field(
        default_factory=dict
    )
    segmentation: Mapping[Pair, Measures] = field(default_factory=dict)
    texture: Mapping[str, float] = field(default_factory=dict)
    attacks: Mapping[str, Measures] = field(default_factory=dict)
    facts: Mapping[str, dict[str, str]] = field(default_factory=dict)


def section(ours: Ours) -> Section:
    """Each of the paper's tables beside ours."""
    blocks: list[Block] = [
        Text(
            "Each table sets a figure that the paper printed above the one that this run found. Data, sizes and training differ, "
            "so a difference is no verdict: what is under each table says on what either was measured. Intervals are at 95 %, "
            "and the difference is this run's figure less the paper's."
        ),
        Text(
            "The paper's S_x counts the entries kept at every position of each code map; preset paper does the same. "
            "That of preset default is an average over the positions of the image: equal S_x are not equal bits."
        ),
    ]
    for part in (_fidelity, _correlation, _classification, _segmentation, _texture, _attacks):
        blocks += part(ours)
    return Section("paper", "The paper beside this run", tuple(blocks))


def _fidelity(ours: Ours) -> list[Block]:
    title = "Table 1: restored images against their originals, grey levels of 8 bits"
    blocks = _measured(title, "version", paper().fidelity, ours.fidelity, _facts("fidelity", ours))
    note = "In the paper ME equals MAE in every row, as a signed mean does only if no error is negative: no difference is given."
    return [*blocks, Text(note)] if ours.fidelity else blocks


def _correlation(ours: Ours) -> list[Block]:
    rows, missing = [], []
    for version, theirs in paper().correlation.items():
        if (here := ours.correlation.get(version)) is None:
            missing.append(version)
        else:
            rows.append((version, plain(theirs, 4), plain(here, 4), signed(here - theirs, 4)))
    title = "Fig. 6: R² of all pixels, original against restored"
    return _found(
        title, ("version", "paper", "here", "difference"), rows, missing, _facts("fidelity", ours)
    )


def _classification(ours: Ours) -> list[Block]:
    blocks: list[Block] = []
    for measure, table in TABLES.items():
        theirs, here = paper().classification[measure], ours.classification.get(measure, {})
        known = [key for key in theirs if key in here]
        numbers, pairs = (
            sorted({n for n, *_ in known}),
            dict.fromkeys((train, test) for _, train, test in known),
        )
        rows = [
            (*pair, _WHOSE, *(_lines(theirs[n, *pair], here.get((n, *pair))) for n in numbers))
            for pair in pairs
        ]
        title = f"{table}: {NAMES[measure]} of classification by the version trained on and the version tested on"
        head = ("trained on", "tested on", "", *(f"task {n}" for n in numbers))
        gap = len(theirs) - len(known)
        blocks += _found(
            title,
            head,
            rows,
            [f"{gap} of its {len(theirs)} cells"] if gap else [],
            _facts("classification", ours),
        )
    found = {n for cells in ours.classification.values() for n, *_ in cells}
    return [*_tasks(found), *blocks] if found else blocks


def _tasks(found: set[int]) -> list[Block]:
    """What the numbers of the tasks stand for, and which to distrust."""
    listed = ". ".join(f"Task {number}: {task}" for number, task in enumerate(paper().tasks, 1))
    told = Text(f"The paper's classification tasks, with its numbers of patients. {listed}.")
    covid = [
        n
        for n, task in enumerate(paper().tasks, 1)
        if any("COVID" in name for name in task.classes)
    ]
    caution = (
        f"Tasks {', '.join(map(str, covid[:-1]))} and {covid[-1]} set COVID-19 against other classes. In public collections the "
        "COVID-19 images are mostly of adults, and the normal, bacterial and viral ones of children: where that is so, a "
        "classifier can tell age and scanner instead of disease, and a high figure says little, in either row."
    )
    return [told, Text(caution, caution=True)] if found & set(covid) else [told]


def _segmentation(ours: Ours) -> list[Block]:
    theirs, here = paper().segmentation, ours.segmentation
    pairs = [pair for pair in theirs if here.get(pair)]
    measures = [m for m in paper().measures if any(m in here[pair] for pair in pairs)]
    missing = [f"trained on {a}, tested on {b}" for a, b in theirs if (a, b) not in pairs]
    missing += [NAMES[m] for m in paper().measures if m not in measures] if pairs else []
    means, intervals = [], []
    for pair in pairs:
        both = [(theirs[pair][m], here[pair].get(m)) for m in measures]
        means.append((*pair, _WHOSE, *(_lines(p.mean, e, p.sd) for p, e in both)))
        ranges = (
            f"{interval(p.low, p.high)}\n{interval(e.low, e.high) if e else '–'}" for p, e in both
        )
        intervals.append((*pair, "paper\nhere", *ranges))
    head, facts = (
        ("trained on", "tested on", "", *(NAMES[m] for m in measures)),
        _facts("segmentation", ours),
    )
    title = "Table 3: segmentation of the lungs by the version trained on and the version tested on, mean ± SD"
    blocks = _found(title, head, means, missing, facts)
    return (
        [*blocks, Table("Supplemental Table 4: the same, intervals", head, tuple(intervals), facts)]
        if pairs
        else blocks
    )


def _texture(ours: Ours) -> list[Block]:
    said, known = (
        paper().texture,
        [version for version in paper().fidelity if version in ours.texture],
    )
    rows = [
        (version, said.get(version, "nothing"), f"{100 * ours.texture[version]:.0f} %")
        for version in known
    ]
    title = "Fig. 8: features of texture that are reproduced with an ICC above 0.75"
    missing = [version for version in paper().fidelity if version not in known]
    blocks = _found(
        title, ("version", "paper says", "share here"), rows, missing, _facts("texture", ours)
    )
    note = Text(
        "The paper draws a heat map and writes of most features at S_x = 8 and 16: it has no number to take a difference from."
    )
    return [*blocks, note] if rows else blocks


def _attacks(ours: Ours) -> list[Block]:
    title = "Table 4: images drawn by the paper's four networks from what is published, grey levels of 8 bits"
    blocks = _measured(title, "network", paper().attacks, ours.attacks, _facts("attacks", ours))
    version, key = min(paper().fidelity.items(), key=lambda row: row[1]["psnr"].mean)
    above = sum(row["psnr"].mean > key["psnr"].mean for row in paper().attacks.values())
    note = (
        "A lower error or a higher likeness is a better attack. The judge of this run grants every attacker the brightness and "
        "contrast that fit best, so its ME is zero, and its errors are smaller than the same images would have in the paper. "
        "The paper has no figure for what can be drawn without the code: its own do not tell whether a network found anything. "
        f"Its holder of the key sees {plain(key['psnr'].mean)} dB at {version}, less than {above} of its attackers."
    )
    return [*blocks, Text(note)] if ours.attacks else blocks


_WHOSE = "paper\nhere\ndifference"
_APART = ("me",)
"""Measures that the two do not mean alike."""


def _measured(
    title: str,
    kind: str,
    theirs: Mapping[str, Mapping[str, Printed]],
    here: Mapping[str, Measures],
    facts: dict[str, str],
) -> list[Block]:
    """One row for each name and measure."""
    rows, missing = [], [name for name in theirs if not here.get(name)]
    for name, measure, p in (
        (name, *item) for name, row in theirs.items() if name not in missing for item in row.items()
    ):
        if (e := here[name].get(measure)) is None:
            missing.append(f"{NAMES[measure]} of {name}")
            continue
        difference = "–" if measure in _APART else signed(e.value - p.mean)
        printed, found = (
            (with_sd(p.mean, p.sd), interval(p.low, p.high)),
            (with_sd(e.value, e.sd), interval(e.low, e.high)),
        )
        rows.append((name, NAMES[measure], *printed, *found, difference))
    return _found(
        title,
        (kind, "measure", "paper", "interval", "here", "interval", "difference"),
        rows,
        missing,
        facts,
    )


def _found(
    title: str,
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    missing: Sequence[str],
    facts: dict[str, str],
) -> list[Block]:
    """The table, and what of the paper's is not in it."""
    short = title.split(":", maxsplit=1)[0]
    if not rows:
        return [Text(f"{short} is left out: this run has no figures for it.")]
    table = Table(title, head, tuple(rows), facts)
    return (
        [
            table,
            Text(
                f"Left out of {short}, since this run has no figures for it: {'; '.join(missing)}."
            ),
        ]
        if missing
        else [table]
    )


def _facts(part: str, ours: Ours) -> dict[str, str]:
    """What either was measured on."""
    return {f"paper's {name}": text for name, text in paper().facts[part].items()} | dict(
        ours.facts.get(part, {})
    )


def _lines(theirs: float, here: Estimate | None, sd: float | None = None) -> str:
    """Paper, here and difference, one below the other."""
    if here is None:
        return f"{with_sd(theirs, sd)}\n–\n–"
    return f"{with_sd(theirs, sd)}\n{with_sd(here.value, None if sd is None else here.sd)}\n{signed(here.value - theirs)}"

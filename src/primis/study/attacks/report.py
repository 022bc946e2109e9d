"""What the attack suite reached against each mechanism.

The paper's Table 4 and Fig. 10, every other attack, and the controls.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from primis.attacks.mechanism import Attacked
from primis.attacks.result import FIDELITY, MARGINS, FidelityMetrics, Kind, Result, Unit
from primis.audit.pictures import Row, rows_of
from primis.audit.wording import shown
from primis.metrics.estimate import Estimate
from primis.study.attacks.measure import Measured, measure_study
from primis.study.chapter import Chapter
from primis.study.names import MechanismName
from primis.study.paper import tables as beside_paper
from primis.study.paper.printed import Errors
from primis.study.paper.tables import Ours
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png
from primis.study.report.numbers import interval, plain, with_sd
from primis.study.study import Study

_DIGITS = {"mae": 2, "me": 2, "rmse": 2, "psnr": 2, "ssim": 3}
_HEADS = ("MAE", "ME", "RMSE", "PSNR, dB", "SSIM")
_SHOWN, _BEST = 2, 4
_ABREAST, _INCHES = 7, 7.2
"""Pictures beside each other on a sheet, and its width."""
_POINTS = 5.5
_LINE = 1.25 * _POINTS / 72
"""Inches of a line of a title."""


def chapter(study: Study) -> Chapter:
    """Table 4 and Fig. 10, and the rest of the suite, for each mechanism."""
    measured = measure_study(study)
    sections = [_section(each) for each in measured]
    data = {str(each.name): _data(each.attacked) for each in measured}
    return Chapter(tuple(sections), data, {}, Ours(attacks=_ours(measured)))


def _section(each: Measured) -> Section:
    attacked = each.attacked
    rows = rows_of(attacked.harness, attacked.outcomes, each.dark, shown=_SHOWN, best=_BEST)
    return section(
        each.title,
        attacked.results,
        attacked.ceiling,
        rows,
        controls=attacked.checks,
        facts=each.facts,
    )


def _data(attacked: Attacked) -> dict[str, object]:
    """For report.json."""
    return {
        "ceiling": asdict(attacked.ceiling),
        "controls": [result.as_dict() for result in attacked.checks],
        "results": [result.as_dict() for result in attacked.results],
    }


def _ours(measured: Sequence[Measured]) -> beside_paper.Measured[beside_paper.ErrorRows]:
    """Of the paper's mechanism where it was attacked, else of the first."""
    papers = [each for each in measured if each.name == MechanismName.PAPER]
    each = (papers or list(measured))[0]
    facts = each.facts | {"mechanism here": each.title}
    return beside_paper.Measured(by_network(each.attacked.results), facts)


def section(
    mechanism: str,
    findings: Sequence[Result],
    ceiling: FidelityMetrics | None,
    rows: Sequence[Row] = (),
    *,
    controls: Sequence[Result] = (),
    facts: dict[str, str] | None = None,
) -> Section:
    """ceiling: mae, me, rmse, psnr and ssim of what the key's holder sees; rows: an image and what
    each party sees of it.
    """
    facts = facts or {}
    networks = [finding for finding in findings if _of_paper(finding)]
    others = [finding for finding in findings if finding not in networks]
    blocks: list[Block] = [_verdict(mechanism, findings, controls), Text(_HOW)]
    if networks:
        blocks.append(_table_4(mechanism, networks, ceiling, facts))
    if rows:
        blocks.append(_figure_10(mechanism, rows, facts))
    if images := [finding for finding in others if finding.kind is Kind.RECONSTRUCTION]:
        blocks.append(_images(mechanism, images, facts))
    if rest := [finding for finding in others if finding.kind is not Kind.RECONSTRUCTION]:
        title = f"Attacks on links, labels, keys, lengths and bytes, {mechanism}"
        blocks.append(_gains(title, rest, "learned something", facts))
    if controls:
        title = (
            f"Controls, {mechanism}: mechanisms known to be broken, "
            "which the same attackers must detect"
        )
        blocks.append(_gains(title, controls, "found", facts))
    anchor = re.sub(r"\W+", "-", f"attacks {mechanism}".lower()).strip("-")
    return Section(anchor, f"Attacks: {mechanism}", tuple(blocks))


def _figure_10(mechanism: str, rows: Sequence[Row], facts: dict[str, str]) -> Figure:
    alt = f"{len(rows)} images, each beside what its key's holder and the attackers see of it."
    return Figure(f"Fig. 10: what each party sees, {mechanism}", sheet(rows), alt, facts)


def by_network(
    findings: Sequence[Result], form: str = "on the decoded public image"
) -> dict[str, Errors[Estimate | None]]:
    """The errors of the paper's networks, by name; the form that the paper attacked by default."""
    networks = [f for f in findings if _of_paper(f) and f.attack.endswith(form)]
    return {
        finding.attack.removesuffix(form).strip(): Errors(*_measures(finding).values())
        for finding in networks
    }


def _measures(finding: Result) -> dict[str, Estimate]:
    """The measures of fidelity, by name; none of an attack that draws no image."""
    drawn = finding.reconstruction
    return {} if drawn is None else {name: getattr(drawn.fidelity, name) for name in FIDELITY}


def sheet(rows: Sequence[Row]) -> bytes:
    """Pictures with their captions, a row for each image, as PNG."""
    from matplotlib.figure import Figure as Canvas

    lines = [(row, [row.cells[i] for i in part]) for row in rows for part in _parts(len(row.cells))]
    across = max(len(cells) for _, cells in lines)

    def title(caption: str) -> str:
        return textwrap.fill(caption, 120 // across)

    tallest = max(title(caption).count("\n") + 1 for _, cells in lines for caption, _ in cells)
    height = _INCHES / across + 0.08 + _LINE * tallest
    canvas = Canvas((_INCHES, len(lines) * height), dpi=200, layout="constrained")
    for line, (row, cells) in zip(
        canvas.subplots(len(lines), across, squeeze=False), lines, strict=True
    ):
        for axes in line:
            axes.set_axis_off()
        for axes, (caption, picture) in zip(line, cells, strict=False):
            ends, colours = sorted((row.low, row.high)), "gray" if row.low <= row.high else "gray_r"
            axes.imshow(
                np.asarray(picture, np.float32),
                cmap=colours,
                vmin=ends[0],
                vmax=max(ends[1], ends[0] + 1e-9),
            )
            axes.set_title(title(caption), fontsize=_POINTS, pad=3)
    return png(canvas)


def _parts(count: int) -> list[np.ndarray]:
    """Indices in lines of about the same length."""
    return np.array_split(np.arange(count), -(-count // _ABREAST))


_HOW = (
    "An attacker owns other patients' images, shares them with the program itself, and is judged "
    "on images that it never saw. It is granted the best brightness and contrast, so ME is zero "
    "and what counts is structure. Its floor is the same attack given another image's bundle, and "
    "the mean of other patients' images, which needs no bundle; its ceiling is what the key's "
    f"holder sees. It learned something where it gains more than {MARGINS[Unit.DB]} dB, or "
    f"{MARGINS[Unit.AUC]} of an area under the ROC curve, or any count, significantly, over that "
    "floor: a low likeness alone shows nothing, and neither does a high one."
)


def _of_paper(finding: Result) -> bool:
    """Whether it is one of the paper's four networks."""
    return finding.source.endswith("Table 4")


def _verdict(mechanism: str, findings: Sequence[Result], controls: Sequence[Result]) -> Text:
    missed = [control.attack for control in controls if not control.broken]
    if missed:
        return Text(
            f"The attackers missed controls that they must detect ({', '.join(missed)}): this "
            "proves nothing.",
            caution=True,
        )
    broken = sum(finding.broken for finding in findings)
    if broken:
        return Text(
            f"{broken} of {len(findings)} attacks on {mechanism} learned something of the images.",
            caution=True,
        )
    none = f"None of {len(findings)} attacks on {mechanism} learned anything of the images."
    found = f" The same attackers detected all {len(controls)} controls." if controls else ""
    return Text(
        f"{none}{found} That says what these attackers could do with this time and these images, "
        "and nothing of others."
    )


def _table_4(
    mechanism: str,
    networks: Sequence[Result],
    ceiling: FidelityMetrics | None,
    facts: dict[str, str],
) -> Table:
    """mean ± SD, and the interval below it."""
    rows = [
        (
            f.attack,
            *(_cell(_measures(f).get(name), digits) for name, digits in _DIGITS.items()),
            _cell(f.reconstruction.other_code if f.reconstruction else None),
            _said(f),
        )
        for f in networks
    ]
    floors = [f.reconstruction.mean_image for f in networks if f.reconstruction]
    if (floor := next((e for e in floors if e is not None), None)) is not None:
        cells = [_cell(floor) if name == "psnr" else "–" for name in _DIGITS]
        rows.append(("floor: mean of other images, no bundle", *cells, "–", "–"))
    if ceiling:
        cells = [_cell(getattr(ceiling, name), d) for name, d in _DIGITS.items()]
        rows.append(("ceiling: the key's holder", *cells, "–", "–"))
    title = (
        f"Table 4: the paper's four networks against {mechanism}, grey levels of 8 bits, "
        "mean ± SD and interval"
    )
    head = ("attacker", *_HEADS, "PSNR on another image's bundle, dB", "learned something")
    return Table(title, head, tuple(rows), facts, _marked(networks, len(head) - 1))


def _images(mechanism: str, findings: Sequence[Result], facts: dict[str, str]) -> Table:
    """The attacks on an image that are not the paper's."""
    rows: list[tuple[str, ...]] = []
    for f in findings:
        gain, own, support = (f.gains[i].estimate if i < len(f.gains) else None for i in range(3))
        cells = (
            _cell(_measures(f).get("psnr")),
            _cell(_measures(f).get("ssim"), 3),
            _with_interval(gain),
            _with_interval(own),
            _with_interval(support),
        )
        rows.append((f.attack, f.holds, *cells, _said(f)))
    title = f"Other attacks on the image, {mechanism}, with intervals"
    head = (
        "attack",
        "its attacker holds",
        "PSNR, dB",
        "SSIM",
        "gain over another image's bundle, dB",
        "own image told from another's, AUC",
        "true entries told from others, AUC",
        "learned something",
    )
    return Table(title, head, tuple(rows), facts, _marked(findings, len(head) - 1))


def _gains(title: str, findings: Sequence[Result], verdict: str, facts: dict[str, str]) -> Table:
    """A row for each measure of an attack."""
    rows: list[tuple[str, ...]] = []
    bold = set()
    head = ("attack", "its attacker holds", "measure", "reached", "interval", "by chance", verdict)
    for finding in findings:
        for gain in finding.gains:
            text = {n: value.replace("-", "−") for n, value in shown(gain)._asdict().items()}
            if gain.detected:
                bold.add((len(rows), len(head) - 1))
            said = "yes" if gain.detected else "no"
            rows.append(
                (
                    finding.attack,
                    finding.holds,
                    gain.what,
                    text["reached"],
                    text["range"],
                    text["chance"],
                    said,
                )
            )
    return Table(title, head, tuple(rows), facts, frozenset(bold))


def _marked(findings: Sequence[Result], column: int) -> frozenset[tuple[int, int]]:
    return frozenset((row, column) for row, finding in enumerate(findings) if finding.broken)


def _said(finding: Result) -> str:
    return "yes" if finding.broken else "no"


def _cell(e: Estimate | None, digits: int = 2) -> str:
    if e is None:
        return "–"
    return f"{with_sd(e.value, e.sd, digits)}\n{interval(e.low, e.high, digits)}"


def _with_interval(e: Estimate | None, digits: int = 2) -> str:
    return "–" if e is None else f"{plain(e.value, digits)}\n{interval(e.low, e.high, digits)}"

"""Fidelity for readers: Table 1, other codecs at the same bits, and the CSV tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from primis.metrics.estimate import Estimate
from primis.metrics.statistics import mean_of
from primis.network.presets import PAPER
from primis.study.chapter import Chapter
from primis.study.fidelity import pictures
from primis.study.fidelity.measure import (
    BITS,
    MAE,
    ME,
    ME_PAPER,
    MEASURES,
    PSNR,
    RMSE,
    SSIM,
    FidelityResult,
    Measure,
    Measured,
    Restored,
    measure_study,
)
from primis.study.paper import tables as beside_paper
from primis.study.paper.printed import Errors, Printed, paper
from primis.study.paper.tables import Ours
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.numbers import LEAST_FOR_INTERVAL, with_sd
from primis.study.report.write import Csv
from primis.study.study import Study

Paper = Mapping[str, Errors[Printed]]
"""The paper's Table 1, by the name of the version that it stands beside."""

_COLUMNS = (BITS, MAE, ME, ME_PAPER, RMSE, PSNR, SSIM)
_BESIDE = (BITS, MAE, RMSE, PSNR, SSIM)


def chapter(study: Study) -> Chapter:
    """Each corpus with each preset; the pictures of all share one scale of differences."""
    found = measure_study(study)
    limit = pictures.limit_of([each.result for each in found])
    sections = [_section(number, each, limit) for number, each in enumerate(found, 1)]
    data = {_title(each): _data(each.result) for each in found}
    csvs = {f"fidelity-{each.corpus}-{each.preset}": _per_image(each.result) for each in found}
    return Chapter(tuple(sections), data, csvs, _ours(found[0]) if found else Ours())


def _title(each: Measured) -> str:
    return f"{each.corpus}, preset {each.preset}"


def _section(number: int, each: Measured, limit: float) -> Section:
    printed = _printed() if each.preset == PAPER.name else {}
    blocks = section(each.result, each.facts, printed, limit=limit).blocks
    return Section(
        f"fidelity-{number}", f"Fidelity of restored images: {_title(each)}", tuple(blocks)
    )


def _printed() -> Paper:
    """For preset `paper`, whose S_x counts as the paper's does."""
    return {f"preset paper, {version}": row for version, row in paper().fidelity.rows.items()}


def _data(result: FidelityResult) -> dict[str, object]:
    """For report.json."""
    return {
        "n": result.n,
        "r_squared": {version.name: version.r_squared for version in result.versions},
        "measures": {version.name: _means(version) for version in result.versions},
    }


def _means(version: Restored) -> dict[str, Estimate]:
    means = ((measure.name, measure.mean(version.values)) for measure in MEASURES)
    return {name: mean for name, mean in means if mean is not None}


def _ours(each: Measured) -> Ours:
    rows = {
        version.name: Errors(*(m.mean(version.values) for m in (MAE, ME, RMSE, PSNR, SSIM)))
        for version in each.result.versions
    }
    known = {v.name: v.r_squared for v in each.result.versions if v.r_squared is not None}
    return Ours(
        fidelity=beside_paper.Measured(rows, each.facts),
        r_squared=beside_paper.Measured(known, each.facts),
    )


def _per_image(result: FidelityResult) -> Csv:
    rows = []
    for version in result.versions:
        columns = [measure.of(version.values) for measure in MEASURES]
        rows += [(version.name, *row) for row in zip(result.images, *columns, strict=True)]
    return ("version", "image", *(measure.name for measure in MEASURES)), rows


def section(
    result: FidelityResult,
    facts: dict[str, str],
    paper: Paper | None = None,
    *,
    limit: float | None = None,
) -> Section:
    """All tables and figures. The first group of versions is the one that Table 1 is of.

    limit: where the colours of differences end, in grey levels; by default as these pictures ask
    for.
    """
    groups: dict[str, list[int]] = {}
    for number, version in enumerate(result.versions):
        groups.setdefault(version.group, []).append(number)
    first = next(iter(groups.values()))
    blocks: list[Block] = [*_texts(result), _table_1(result, first, facts, paper or {})]
    if len(groups) > 1:
        blocks.append(_beside(result, first, facts))
    blocks += _figures(result, groups, limit or pictures.limit_of([result]), facts)
    return Section("fidelity", "Fidelity of restored images", tuple(blocks))


def _figures(
    result: FidelityResult, groups: Mapping[str, Sequence[int]], limit: float, facts: dict[str, str]
) -> list[Figure]:
    figures = [
        pictures.examples(result, group, members, limit, facts)
        for group, members in groups.items()
        if any(example.differences[list(members)].any() for example in result.examples)
    ]
    if any(version.differs for version in result.versions):
        figures.append(pictures.histograms(result, facts))
    return [*figures, pictures.boxes(result, facts)]


def _texts(result: FidelityResult) -> list[Block]:
    said = "; ".join(f"{m.label}{f' ({m.unit})' if m.unit else ''}: {m.meaning}" for m in MEASURES)
    texts: list[Block] = [
        Text(
            f"{said}. Grey levels of 255 are 1/255 of an image's full scale: the grey levels "
            "themselves where it has 8 bits."
        ),
        Text(
            "The paper's mean error equals its mean absolute error in every row, so it is without "
            "signs, and does not say whether images get brighter or darker. Both are given."
        ),
    ]
    if result.n < LEAST_FOR_INTERVAL:
        few = f"n = {result.n}: too few images for an interval, which needs {LEAST_FOR_INTERVAL}."
        texts.append(Text(few, caution=True))
    some = [version.name for version in result.versions if _some_identical(version)]
    if some:
        texts.append(
            Text(
                f"Some images are identical in {', '.join(some)}; their PSNR is infinite, and left "
                "out of its mean."
            )
        )
    return texts


def _some_identical(version: Restored) -> bool:
    infinite = np.isinf(version.values.psnr)
    return bool(0 < infinite.sum() < len(infinite))


def _table_1(
    result: FidelityResult, members: Sequence[int], facts: dict[str, str], paper: Paper
) -> Table:
    rows: list[tuple[str, ...]] = []
    for version in (result.versions[number] for number in members):
        means = [(measure, measure.mean(version.values)) for measure in _COLUMNS]
        rows.append((version.name, "mean ± SD", *(_mean(e, m) for m, e in means)))
        rows.append(("", "95 % interval", *(_interval(e, m) for m, e in means)))
        if printed := paper.get(version.name):
            rows.append(("", "the paper", *_paper_cells(printed)))
    columns = ("Version", "", *(_head(measure) for measure in _COLUMNS))
    title = f"Fidelity of restored images, n = {result.n} (the paper's Table 1)"
    return Table(title, columns, tuple(rows), facts)


def _paper_cells(printed: Errors[Printed]) -> tuple[str, ...]:
    """Under _COLUMNS; what the paper calls ME is ours without signs."""
    me, *others = (printed.me, printed.mae, printed.rmse, printed.psnr, printed.ssim)
    mae, rmse, psnr, ssim = (with_sd(p.mean, p.sd) for p in others)
    return "–", mae, "–", with_sd(me.mean, me.sd), rmse, psnr, ssim


def _beside(result: FidelityResult, first: Sequence[int], facts: dict[str, str]) -> Table:
    """Each S_x of the first group beside all others made for it."""
    ours = {result.versions[number].sparsity: result.versions[number] for number in first}
    others = [version for n, version in enumerate(result.versions) if n not in first]
    rows: list[tuple[str, ...]] = []
    bold = set()
    for sparsity, own in ours.items():
        bold.add((len(rows), 0))
        rows.append(_beside_row(own, None))
        rows += [_beside_row(other, own) for other in others if other.sparsity == sparsity]
    rows += [_beside_row(other, None) for other in others if other.sparsity not in ours]
    heads = (_head(measure) for measure in _BESIDE)
    columns = ("Version", *heads, "PSNR of primis less its own, dB")
    title = (
        "Beside other codecs at the same bits, and other models (mean ± SD; differences are "
        "paired, with their 95 % interval)"
    )
    return Table(title, columns, tuple(rows), facts, frozenset(bold))


def _beside_row(version: Restored, own: Restored | None) -> tuple[str, ...]:
    cells = (_mean(measure.mean(version.values), measure) for measure in _BESIDE)
    return (version.name, *cells, "–" if own is None else _gain(own, version))


def _gain(own: Restored, other: Restored) -> str:
    difference = own.values.psnr - other.values.psnr
    if not np.isfinite(difference).all():
        return "–"
    e = mean_of(difference)
    if e.n < LEAST_FOR_INTERVAL:
        return f"{e.value:+.2f}"
    return f"{e.value:+.2f} ({e.low:+.2f} to {e.high:+.2f})"


def _mean(e: Estimate | None, measure: Measure) -> str:
    if e is None:
        return "∞"
    sd = "" if e.n < 2 else f" ± {_number(e.sd or 0.0, measure).lstrip('+')}"
    return _number(e.value, measure) + sd


def _interval(e: Estimate | None, measure: Measure) -> str:
    if e is None or e.n < LEAST_FOR_INTERVAL:
        return "–"
    return f"{_number(e.low, measure)} to {_number(e.high, measure)}"


def _number(value: float, measure: Measure) -> str:
    digits = measure.digits
    value = round(value, digits) + 0.0  # no minus before a zero
    return f"{value:+.{digits}f}" if measure is ME and value else f"{value:.{digits}f}"


def _head(measure: Measure) -> str:
    return f"{measure.label}, dB" if measure.unit == "dB" else measure.label

"""Fidelity for readers: Table 1, other codecs at the same bits, examples with differences, joint histograms, box plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from primis.metrics.part import Part
from primis.metrics.statistics import Estimate, mean_of
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png, typeset
from primis.study.restoration import LEVELS, MEASURES

Paper = Mapping[str, Mapping[str, str]]
"""The paper's own figures: texts by version and measure, {"S_x = 4": {"mae": "9.35 ± 8.19"}}."""

_DIGITS = {"mae": 2, "me": 3, "me_paper": 2, "rmse": 2, "psnr": 2, "ssim": 4, "bits": 3}
_COLUMNS = ("bits", "mae", "me", "me_paper", "rmse", "psnr", "ssim")
_BESIDE = ("bits", "mae", "rmse", "psnr", "ssim")
_BOXES = ("mae", "me", "rmse", "psnr", "ssim", "bits")
_WIDTH, _HEIGHT = 7.2, 9.4  # inches that a page has room for
_FONT = 7.5
_ACROSS = 3


def section(part: Part, facts: dict[str, str], paper: Paper | None = None) -> Section:
    """All tables and figures of restoration.measure. The first group of versions is the one that Table 1 is of."""
    groups: dict[str, list[int]] = {}
    for number, group in enumerate(part.body["groups"]):
        groups.setdefault(group, []).append(number)
    first = next(iter(groups.values()))
    blocks: list[Block] = [*_texts(part), _table_1(part, first, facts, paper or {})]
    if len(groups) > 1:
        blocks.append(_beside(part, first, facts))
    limit = _limit(part, first)
    for group, members in groups.items():
        if part.body["shown"] and any(
            part.arrays[f"difference_{n}"][members].any() for n in range(len(part.body["shown"]))
        ):
            blocks.append(_examples(part, group, members, limit, facts))
    if part.arrays["measures"][..., list(MEASURES).index("mae")].any():
        blocks.append(_histograms(part, facts))
    blocks.append(_boxes(part, facts))
    return Section("fidelity", "Fidelity of restored images", tuple(blocks))


def _texts(part: Part) -> list[Block]:
    said = "; ".join(
        f"{name}{f' ({unit})' if unit else ''}: {what}" for name, unit, what in MEASURES.values()
    )
    texts: list[Block] = [
        Text(f"{said}. Grey levels of 255 are 1/255 of an image's full scale: the grey levels themselves where it has 8 bits."),
        Text("The paper's mean error equals its mean absolute error in every row, so it is without signs, and tells nothing of "
             "whether images get brighter or darker. Both are given."),
    ]  # fmt: skip
    psnr = part.arrays["measures"][..., list(MEASURES).index("psnr")]
    some = [
        name
        for name, row in zip(part.body["versions"], psnr, strict=True)
        if 0 < np.isinf(row).sum() < len(row)
    ]
    if some:
        texts.append(
            Text(
                f"Some images are identical in {', '.join(some)}; their PSNR is infinite, and left out of its mean."
            )
        )
    return texts


def _table_1(part: Part, members: Sequence[int], facts: dict[str, str], paper: Paper) -> Table:
    rows = []
    for number in members:
        name = part.body["versions"][number]
        found = [_estimate(part, number, measure) for measure in _COLUMNS]
        rows.append(
            (name, "mean ± SD", *(_mean(e, m) for e, m in zip(found, _COLUMNS, strict=True)))
        )
        rows.append(
            ("", "95 % interval", *(_interval(e, m) for e, m in zip(found, _COLUMNS, strict=True)))
        )
        if name in paper:
            rows.append(("", "the paper", *(paper[name].get(measure, "–") for measure in _COLUMNS)))
    columns = ("Version", "", *(_head(measure) for measure in _COLUMNS))
    return Table(
        f"Fidelity of restored images, n = {part.body['n']} (the paper's Table 1)",
        columns,
        tuple(rows),
        facts,
    )


def _beside(part: Part, first: Sequence[int], facts: dict[str, str]) -> Table:
    """Each S_x of the first group beside all others made for it."""
    body = part.body
    ours = {body["sparsities"][number]: number for number in first}
    others = [number for number in range(len(body["versions"])) if number not in first]
    rows, bold = [], set()
    for sparsity, own in ours.items():
        same = [own, *(number for number in others if body["sparsities"][number] == sparsity)]
        for number in same:
            rows.append(_beside_row(part, number, own))
            if number == own:
                bold.add((len(rows) - 1, 0))
    rows += [
        _beside_row(part, number, None)
        for number in others
        if body["sparsities"][number] not in ours
    ]
    columns = (
        "Version",
        *(_head(measure) for measure in _BESIDE),
        "PSNR of primis less its own, dB",
    )
    title = "Beside other codecs at the same bits, and other models (mean ± SD; differences are paired, with their 95 % interval)"
    return Table(title, columns, tuple(rows), facts, frozenset(bold))


def _beside_row(part: Part, number: int, own: int | None) -> tuple[str, ...]:
    cells = [_mean(_estimate(part, number, measure), measure) for measure in _BESIDE]
    gain = "–"
    if own is not None and own != number:
        column = list(MEASURES).index("psnr")
        difference = (
            part.arrays["measures"][own, :, column] - part.arrays["measures"][number, :, column]
        )
        if np.isfinite(difference).all():
            e = mean_of(difference)
            gain = f"{e.value:+.2f} ({e.low:+.2f} to {e.high:+.2f})"
    return (part.body["versions"][number], *cells, gain)


def _finite(part: Part, number: int, measure: str) -> np.ndarray:
    values = part.arrays["measures"][number, :, list(MEASURES).index(measure)]
    return values[np.isfinite(values)]


def _estimate(part: Part, number: int, measure: str) -> Estimate | None:
    """None where every value is infinite: all images are identical."""
    values = _finite(part, number, measure)
    return mean_of(values) if len(values) else None


def _mean(e: Estimate | None, measure: str) -> str:
    if e is None:
        return "∞"
    return f"{_number(e.value, measure)} ± {_number(e.sd or 0.0, measure).lstrip('+')}"


def _interval(e: Estimate | None, measure: str) -> str:
    if e is None or not np.isfinite([e.low, e.high]).all():
        return "–"
    return f"{_number(e.low, measure)} to {_number(e.high, measure)}"


def _number(value: float, measure: str) -> str:
    digits = _DIGITS[measure]
    value = round(value, digits) + 0.0  # no minus before a zero
    return f"{value:+.{digits}f}" if measure == "me" and value else f"{value:.{digits}f}"


def _head(measure: str) -> str:
    name, unit, _ = MEASURES[measure]
    return f"{name}, {unit}" if unit == "dB" else name


def _limit(part: Part, members: Sequence[int]) -> float:
    """Where the colours of differences end, in grey levels: 99.5 % of the first group's lie within."""
    shown = [
        np.abs(part.arrays[f"difference_{n}"][list(members)]).ravel()
        for n in range(len(part.body["shown"]))
    ]
    return max(1.0, float(np.ceil(np.quantile(np.concatenate(shown), 0.995)))) if shown else 1.0


def _examples(
    part: Part, group: str, members: list[int], limit: float, facts: dict[str, str]
) -> Figure:
    """Pairs of rows, an image and its differences from the original; a column for each version."""
    from matplotlib.figure import Figure as Canvas

    count, across = len(part.body["shown"]), max(len(members), _ACROSS) + 1
    originals = [part.arrays[f"original_{n}"] for n in range(count)]
    aspects = [o.shape[0] / o.shape[1] for o in originals]
    around = 0.35 * count + 0.8
    cell = min(_WIDTH / across, (_HEIGHT - around) / (2 * sum(aspects)))
    canvas = Canvas(figsize=(cell * across, 2 * cell * sum(aspects) + around), layout="constrained")
    axes = canvas.subplots(
        2 * count, across, squeeze=False, height_ratios=[a for a in aspects for _ in range(2)]
    )
    colours: Any = None
    for n, original in enumerate(originals):
        _picture(axes[2 * n, 0], original, "original" if n == 0 else "")
        for column, number in enumerate(members, 1):
            name = typeset(part.body["versions"][number]) if n == 0 else ""
            _picture(axes[2 * n, column], part.arrays[f"example_{n}"][number], name)
            colours = axes[2 * n + 1, column].imshow(
                part.arrays[f"difference_{n}"][number],
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
            )
            measured = dict(
                zip(MEASURES, part.arrays["measures"][number, part.body["shown"][n]], strict=True)
            )
            axes[2 * n + 1, column].set_xlabel(
                f"{measured['psnr']:.1f} dB, SSIM {measured['ssim']:.3f}", fontsize=_FONT - 1
            )
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
        ax.set_frame_on(ax.has_data())
    bar = canvas.colorbar(
        colours, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.01, extend="both"
    )
    bar.set_label("restored − original, grey levels of 255", fontsize=_FONT)
    bar.ax.tick_params(labelsize=_FONT)
    title = f"Originals, restored images and their differences, {group} (the paper's Fig. 5)"
    alt = (
        f"{count} images, spread evenly over the split, not chosen by eye: originals, versions of {group}, and the "
        f"differences, blue where darker and red where brighter; colours end at ±{limit:g} grey levels in all figures."
    )
    return Figure(title, png(canvas), alt, facts)


def _picture(ax: Any, levels: np.ndarray, name: str) -> None:
    ax.imshow(levels, cmap="gray", vmin=0, vmax=LEVELS, interpolation="nearest")
    ax.set_title(name, fontsize=_FONT)


def _histograms(part: Part, facts: dict[str, str]) -> Figure:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure as Canvas

    differ = np.flatnonzero(part.arrays["measures"][..., list(MEASURES).index("mae")].any(axis=1))
    names, squares = (
        [part.body[key][number] for number in differ] for key in ("versions", "r_squared")
    )
    counts = part.arrays["histogram"][differ]
    down = -(-len(names) // _ACROSS)
    canvas = Canvas(figsize=(_WIDTH, min(2.4 * down + 0.3, _HEIGHT)), layout="constrained")
    axes = canvas.subplots(down, _ACROSS, squeeze=False)
    norm = LogNorm(1, counts.max())
    mesh: Any = None
    for ax, name, count, r in zip(axes.ravel(), names, counts, squares, strict=False):
        mesh = ax.imshow(
            np.ma.masked_equal(count.T, 0),
            origin="lower",
            cmap="viridis",
            norm=norm,
            interpolation="nearest",
        )
        ax.set_title(typeset(name), fontsize=_FONT)
        ax.text(
            0.04, 0.96, f"$R^2$ = {_r_squared(r)}", transform=ax.transAxes, va="top", fontsize=_FONT
        )
    for ax in axes.ravel():
        ax.set_visible(ax.has_data())
        ax.set(xticks=[0, 64, 128, 192, 255], yticks=[0, 64, 128, 192, 255])
        ax.tick_params(labelsize=_FONT - 1)
    canvas.supxlabel("original, grey levels of 255", fontsize=_FONT)
    canvas.supylabel("restored", fontsize=_FONT)
    bar = canvas.colorbar(mesh, ax=axes, aspect=40, pad=0.02)
    bar.set_label("pixels", fontsize=_FONT)
    bar.ax.tick_params(labelsize=_FONT)
    said = "; ".join(f"{name}: {_r_squared(r)}" for name, r in zip(names, squares, strict=True))
    title = "Joint histograms of original and restored pixels, with the squared correlation R² (the paper's Fig. 6)"
    return Figure(
        title,
        png(canvas),
        f"How often a level of the original became which; logarithmic colours. R²: {said}.",
        facts,
    )


def _r_squared(value: float | None) -> str:
    """Never "1.0000" for what is less."""
    if value is None:
        return "undefined"
    return f"{value:.4f}" if value < 0.99995 or value == 1 else f"{value:.7f}"


def _boxes(part: Part, facts: dict[str, str]) -> Figure:
    from matplotlib import colormaps
    from matplotlib.figure import Figure as Canvas

    names, groups = part.body["versions"], list(dict.fromkeys(part.body["groups"]))
    colours = [colormaps["tab10"](groups.index(group) % 10) for group in part.body["groups"]]
    canvas = Canvas(figsize=(_WIDTH, 2 * (0.22 * len(names) + 0.7)), layout="constrained")
    axes = canvas.subplots(2, 3, sharey=True)
    for ax, measure in zip(axes.ravel(), _BOXES, strict=True):
        values = [_finite(part, number, measure) for number in range(len(names))]
        drawn = ax.boxplot(values, orientation="horizontal", patch_artist=True, widths=0.6, flierprops={"markersize": 2},
                           medianprops={"color": "black"})  # fmt: skip
        for box, colour in zip(drawn["boxes"], colours, strict=True):
            box.set(facecolor=colour, alpha=0.6)
        name, unit, _ = MEASURES[measure]
        ax.set_xlabel(
            name + (f", {unit}" if unit and unit not in name and measure != "bits" else ""),
            fontsize=_FONT,
        )
        ax.set_yticks(range(1, len(names) + 1), [typeset(name) for name in names])
        ax.tick_params(labelsize=_FONT - 0.5)
        ax.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    title = "Measures of fidelity over images (the paper's Supplemental Fig. 1)"
    alt = ("Box plots: quartiles and median; whiskers to the last value within 1.5 interquartile ranges; beyond, outliers. "
           "Identical images have no PSNR to draw.")  # fmt: skip
    return Figure(title, png(canvas), alt, facts)

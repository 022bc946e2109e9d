"""Pictures of fidelity: examples with their differences (Fig.

5), joint histograms (Fig. 6), box plots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from primis.study.fidelity.measure import (
    BITS,
    LEVELS,
    MAE,
    ME,
    PSNR,
    RMSE,
    SSIM,
    Example,
    FidelityResult,
    Measure,
    Restored,
)
from primis.study.report.document import Figure
from primis.study.report.drawing import png, typeset

_BOXES = (MAE, ME, RMSE, PSNR, SSIM, BITS)
_WIDTH, _HEIGHT = 7.2, 9.0  # inches that a page has for a picture
_FONT = 7.5
_ACROSS = 3
_WITHIN = 0.995


def limit_of(results: Sequence[FidelityResult]) -> float:
    """Where the colours of differences end, in grey levels: 99.5 % of all that are shown lie
    within.
    """
    examples = (example for result in results for example in result.examples)
    shown = [np.abs(example.differences).ravel() for example in examples]
    if not shown:
        return 1.0
    return max(1.0, float(np.ceil(np.quantile(np.concatenate(shown), _WITHIN))))


def examples(
    result: FidelityResult, group: str, members: Sequence[int], limit: float, facts: dict[str, str]
) -> Figure:
    """Pairs of rows, an image and its differences from the original; a column for each version."""
    from matplotlib.figure import Figure as Canvas

    aspects = [e.original.shape[0] / e.original.shape[1] for e in result.examples]
    across, around = max(len(members), _ACROSS) + 1, 0.35 * len(aspects) + 0.8
    cell = min(_WIDTH / across, (_HEIGHT - around) / (2 * sum(aspects)))
    size = cell * across, 2 * cell * sum(aspects) + around
    canvas = Canvas(figsize=size, layout="constrained")
    ratios = [float(ratio) for ratio in np.repeat(aspects, 2)]
    axes = canvas.subplots(len(ratios), across, squeeze=False, height_ratios=ratios)
    drawn: Any = None
    for n, example in enumerate(result.examples):
        names = [typeset(result.versions[member].name) if n == 0 else "" for member in members]
        _picture(axes[2 * n, 0], example.original, "original" if n == 0 else "")
        for column, (member, name) in enumerate(zip(members, names, strict=True), 1):
            _picture(axes[2 * n, column], example.restored[member], name)
            drawn = _difference(axes[2 * n + 1, column], result, example, member, limit)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
        ax.set_frame_on(ax.has_data())
    _bar(canvas, drawn, axes)
    title = f"Originals, restored images and their differences, {group} (the paper's Fig. 5)"
    ends = {"colours end at": f"±{limit:g} grey levels, in every such picture of the report"}
    alt = (
        f"{len(aspects)} images, spread evenly over the split, not chosen by eye: originals, "
        f"versions of {group}, and the differences, blue where darker and red where brighter."
    )
    return Figure(title, png(canvas), alt, facts | ends)


def _picture(ax: Any, levels: np.ndarray, name: str) -> None:
    ax.imshow(levels, cmap="gray", vmin=0, vmax=LEVELS, interpolation="nearest")
    ax.set_title(name, fontsize=_FONT)


def _difference(
    ax: Any, result: FidelityResult, example: Example, member: int, limit: float
) -> Any:
    """A picture of differences, over what was measured of the image."""
    scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    drawn = ax.imshow(example.differences[member], **scale)
    values = result.versions[member].values
    psnr, ssim = values.psnr[example.number], values.ssim[example.number]
    ax.set_xlabel(f"{psnr:.1f} dB, SSIM {ssim:.3f}", fontsize=_FONT - 1)
    return drawn


def _bar(canvas: Any, drawn: Any, axes: np.ndarray) -> None:
    where = {"location": "bottom", "shrink": 0.5, "aspect": 40, "pad": 0.01}
    bar = canvas.colorbar(drawn, ax=axes, extend="both", **where)
    bar.set_label("restored − original, grey levels of 255", fontsize=_FONT)
    bar.ax.tick_params(labelsize=_FONT)


def histograms(result: FidelityResult, facts: dict[str, str]) -> Figure:
    """A panel for each version that differs from the original."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure as Canvas

    differ = [version for version in result.versions if version.differs]
    down = -(-len(differ) // _ACROSS)
    size = _WIDTH, min(2.4 * down + 0.3, _HEIGHT)
    canvas = Canvas(figsize=size, layout="constrained")
    axes = canvas.subplots(down, _ACROSS, squeeze=False)
    norm = LogNorm(1, max(version.histogram.max() for version in differ))
    drawn = [
        _histogram(ax, version, norm) for ax, version in zip(axes.ravel(), differ, strict=False)
    ]
    for ax in axes.ravel():
        ax.set_visible(ax.has_data())
        ax.set(xticks=[0, 64, 128, 192, 255], yticks=[0, 64, 128, 192, 255])
        ax.tick_params(labelsize=_FONT - 1)
    canvas.supxlabel("original, grey levels of 255", fontsize=_FONT)
    canvas.supylabel("restored", fontsize=_FONT)
    bar = canvas.colorbar(drawn[0], ax=axes, aspect=40, pad=0.02)
    bar.set_label("pixels", fontsize=_FONT)
    bar.ax.tick_params(labelsize=_FONT)
    said = "; ".join(f"{version.name}: {_r_squared(version.r_squared)}" for version in differ)
    title = (
        "Joint histograms of original and restored pixels, with the squared correlation R² (the "
        "paper's Fig. 6)"
    )
    alt = f"How often a level of the original became which; logarithmic colours. R²: {said}."
    return Figure(title, png(canvas), alt, facts)


def _histogram(ax: Any, version: Restored, norm: Any) -> Any:
    counts = np.ma.masked_equal(version.histogram.T, 0)
    drawn = ax.imshow(counts, origin="lower", cmap="viridis", norm=norm, interpolation="nearest")
    ax.set_title(typeset(version.name), fontsize=_FONT)
    said = f"$R^2$ = {_r_squared(version.r_squared)}"
    ax.text(0.04, 0.96, said, transform=ax.transAxes, va="top", fontsize=_FONT)
    return drawn


def _r_squared(value: float | None) -> str:
    """Never "1.0000" for what is less."""
    if value is None:
        return "undefined"
    return f"{value:.4f}" if value < 0.99995 or value == 1 else f"{value:.7f}"


def boxes(result: FidelityResult, facts: dict[str, str]) -> Figure:
    """A panel for each measure, a box for each version, a colour for each group."""
    from matplotlib.figure import Figure as Canvas

    names = [typeset(version.name) for version in result.versions]
    size = _WIDTH, 2 * (0.22 * len(names) + 0.7)
    canvas = Canvas(figsize=size, layout="constrained")
    axes = canvas.subplots(2, 3, sharey=True)
    for ax, measure in zip(axes.ravel(), _BOXES, strict=True):
        _box(ax, result, measure)
        ax.set_yticks(range(1, len(names) + 1), names)
        ax.tick_params(labelsize=_FONT - 0.5)
        ax.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    title = "Measures of fidelity over images (the paper's Supplemental Fig. 1)"
    alt = (
        "Box plots: quartiles and median; whiskers to the last value within 1.5 interquartile "
        "ranges; beyond, outliers. Identical images have no PSNR to draw."
    )
    return Figure(title, png(canvas), alt, facts)


def _box(ax: Any, result: FidelityResult, measure: Measure) -> None:
    from matplotlib import colormaps

    groups = list(dict.fromkeys(version.group for version in result.versions))
    values = [measure.finite(version.values) for version in result.versions]
    style = {"patch_artist": True, "widths": 0.6, "flierprops": {"markersize": 2}}
    drawn = ax.boxplot(values, orientation="horizontal", medianprops={"color": "black"}, **style)
    for box, version in zip(drawn["boxes"], result.versions, strict=True):
        colour = colormaps["tab10"](groups.index(version.group) % 10)
        box.set(facecolor=colour, alpha=0.6)
    short = not measure.unit or measure is BITS
    ax.set_xlabel(measure.label if short else f"{measure.label}, {measure.unit}", fontsize=_FONT)

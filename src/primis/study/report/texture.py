"""Texture for readers: classes of reproducibility, errors by family, heat maps of every feature (the paper's Fig. 8)."""

from __future__ import annotations

from typing import Any

import numpy as np

from primis.metrics.part import Part
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png, typeset
from primis.study.texture import CLASSES, FAMILIES, count_classes

_SMALL = 10.0
"""RE in % under which the paper calls a feature well recovered."""

_PANELS: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "icc": ("ICC(A,1)", "viridis", (0.0, *CLASSES.values())),
    "re": ("RE, %", "RdBu_r", (-50.0, -25.0, 0.0, 25.0, 50.0)),
    "are": ("ARE, %", "magma_r", (0.0, 10.0, 25.0, 50.0)),
}
"""Of a heat map: title, colours, the values that are marked, from end to end."""

_WIDTH, _HEIGHT = 7.2, 9.8  # inches
_FONT = 5.5


def section(part: Part, facts: dict[str, str]) -> Section:
    """All tables and figures of texture.measure."""
    blocks: list[Block] = [
        *_texts(part),
        _classes(part, facts),
        _errors(part, facts),
        _heat_maps(part, facts),
    ]
    return Section("texture", "Texture: radiomic features of the lungs", tuple(blocks))


def _texts(part: Part) -> list[Block]:
    body = part.body
    n, resampled, features = body["n"], body["resampled"], len(body["features"])
    spacing = {
        0: "The pixel spacing of these images is unknown, so pixels were taken as they are; the paper's were 1 x 1 mm",
        n: "Images were resampled to 1 x 1 mm, as in the paper",
    }.get(
        resampled,
        f"{resampled} of {n} images were resampled to 1 x 1 mm; of the others the pixel spacing is unknown",
    )
    texts: list[Block] = [
        Text(f"{features} features by PyRadiomics within the lung mask, in 2-D, 64 grey-level bins between the mask's own ends. "
             f"{spacing}."),
        Text("ICC is ICC(A,1): two-way, absolute agreement, single measurement, of a version and the original; 1 is perfect. "
             "Relative error RE = (version − original) / |original| in %, averaged over images, and ARE of absolute values; best "
             "is 0. Images where the original's value is 0 are left out of both. Where it is near 0 (skewness, cluster shade) "
             "both are large whatever the image, so medians over features stand beside means."),
    ]  # fmt: skip
    zeros = [
        f"{name} ({count})"
        for name, count in zip(body["features"], part.arrays["zeros"], strict=True)
        if count
    ]
    if zeros:
        texts.append(
            Text(f"Features that are 0 in an original, and in how many of {n}: {', '.join(zeros)}.")
        )
    undefined = int(np.isnan(part.arrays["icc"]).any(axis=0).sum())
    if undefined:
        texts.append(
            Text(
                f"{undefined} feature(s) have no ICC in some version, as they do not vary; these are not counted."
            )
        )
    if body["left_out"]:
        texts.append(
            Text(
                f"{len(body['left_out'])} image(s) whose mask gives no features were left out.",
                caution=True,
            )
        )
    return texts


def _members(part: Part) -> dict[str, np.ndarray]:
    """Places of the features of each family, and of all."""
    families = np.array(part.body["families"])
    return {label: np.flatnonzero(families == name) for name, label in FAMILIES.items()} | {
        "all": np.arange(len(families))
    }


def _classes(part: Part, facts: dict[str, str]) -> Table:
    members = _members(part)
    rows = []
    for name, icc, low, share in zip(
        part.body["versions"],
        part.arrays["icc"],
        part.arrays["icc_low"],
        part.body["share_excellent"],
        strict=True,
    ):
        counts = [
            " / ".join(str(count) for count in count_classes(icc[places]).values())
            for places in members.values()
        ]
        sure = int(np.count_nonzero(low > CLASSES["good"]))
        rows.append((name, *counts, "–" if share is None else f"{100 * share:.0f} %", str(sure)))
    borders = list(CLASSES.values())
    ends = " / ".join(f"{name} (ICC ≤ {end:.2f})" for name, end in list(CLASSES.items())[:-1])
    title = f"Features by reproducibility: {ends} / excellent, n = {part.body['n']} images (the paper's Fig. 8)"
    sizes = [f"{label} ({len(places)})" for label, places in members.items()]
    columns = (
        "Version",
        *sizes,
        f"ICC > {borders[2]:.2f}",
        f"95 % interval above {borders[2]:.2f}",
    )
    return Table(title, columns, tuple(rows), facts)


def _errors(part: Part, facts: dict[str, str]) -> Table:
    """A row for each version and measure, a column for each family."""
    members = _members(part)
    rows = []
    for name, re, are in zip(
        part.body["versions"], part.arrays["re"], part.arrays["are"], strict=True
    ):
        measures = {
            "mean RE": [_percent(re[places], np.mean, "+") for places in members.values()],
            "mean ARE": [_percent(are[places], np.mean) for places in members.values()],
            "median ARE": [_percent(are[places], np.median) for places in members.values()],
            f"|RE| < {_SMALL:g} %": [_small(re[places]) for places in members.values()],
        }
        for number, (measure, cells) in enumerate(measures.items()):
            rows.append((name if number == 0 else "", measure, *cells))
    title = (
        "Relative errors of features in %, over the features of each family (the paper's Fig. 8)"
    )
    return Table(title, ("Version", "", *members), tuple(rows), facts)


def _percent(values: np.ndarray, over: Any, sign: str = "") -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "–"
    value = float(f"{over(known):.3g}") + 0.0
    sign = sign if value else ""
    return f"{value:{sign}.3g}" if abs(value) < 1000 else f"{value:{sign}.0f}"


def _small(re: np.ndarray) -> str:
    known = re[np.isfinite(re)]
    return f"{np.count_nonzero(np.abs(known) < _SMALL)} of {len(known)}"


def _heat_maps(part: Part, facts: dict[str, str]) -> Figure:
    """Three panels side by side, a row for each feature, a column for each version."""
    from matplotlib.figure import Figure as Canvas

    features, families = part.body["features"], np.array(part.body["families"])
    borders = np.flatnonzero(families[1:] != families[:-1]) + 0.5
    canvas = Canvas(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = canvas.subplots(1, len(_PANELS), sharey=True)
    for ax, (name, (title, colours, marks)) in zip(axes, _PANELS.items(), strict=True):
        drawn = ax.imshow(
            part.arrays[name].T,
            cmap=colours,
            vmin=marks[0],
            vmax=marks[-1],
            aspect="auto",
            interpolation="nearest",
        )
        ax.set_facecolor("0.7")  # where it is undefined
        ax.set_title(title, fontsize=_FONT + 2)
        ax.set_xticks(
            range(len(part.body["versions"])),
            [typeset(v) for v in part.body["versions"]],
            rotation=90,
        )
        ax.set_yticks(range(len(features)), [_label(feature) for feature in features])
        ax.tick_params(labelsize=_FONT, length=1.5)
        for border in borders:
            ax.axhline(border, color="black", linewidth=0.8)
        ends = "min" if name == "icc" else "both" if name == "re" else "max"
        bar = canvas.colorbar(
            drawn, ax=ax, location="bottom", aspect=15, pad=0.01, extend=ends, ticks=marks
        )
        bar.ax.tick_params(labelsize=_FONT + 0.5)
    title = f"ICC, relative and absolute relative error of {len(features)} features (the paper's Fig. 8)"
    alt = ("Heat maps, a row for each feature and a column for each version: ICC from dark (0 or less) to bright (1), RE from "
           "blue (-50 % or less) to red (50 % or more), ARE from bright (0) to dark (50 % or more). Lines part the families; "
           "grey is undefined.")  # fmt: skip
    return Figure(title, png(canvas), alt, facts)


def _label(feature: str) -> str:
    """As people read it: GLCM JointEnergy."""
    family, name = feature.split("_", 1)
    return f"{FAMILIES[family]} {name}"

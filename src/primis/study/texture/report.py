"""Texture for readers: classes of reproducibility, errors by family, heat maps of every feature
(the paper's Fig. 8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from primis.study.chapter import Chapter
from primis.study.paper import tables as beside_paper
from primis.study.paper.tables import Ours
from primis.study.report.document import Block, Figure, Section, Table, Text
from primis.study.report.drawing import png, typeset
from primis.study.report.write import Csv
from primis.study.study import Study
from primis.study.texture.measure import (
    CLASSES,
    FAMILIES,
    TextureResult,
    TextureVersion,
    count_classes,
    measure_study,
)

_SMALL = 10.0
"""RE in % under which the paper calls a feature well recovered."""

_EXCELLENT = sorted(CLASSES.values())[-2]
"""An ICC above this is excellent."""


class _Panel(NamedTuple):
    """A heat map: its values (features,) of a version, its colours, the values marked from end to
    end, and which ends go on.
    """

    title: str
    of: Callable[[TextureVersion], np.ndarray]
    colours: str
    marks: tuple[float, ...]
    extend: str


_PANELS = (
    _Panel("ICC(A,1)", lambda v: v.icc, "viridis", (0.0, *CLASSES.values()), "min"),
    _Panel("RE, %", lambda v: v.re, "RdBu_r", (-50.0, -25.0, 0.0, 25.0, 50.0), "both"),
    _Panel("ARE, %", lambda v: v.are, "magma_r", (0.0, 10.0, 25.0, 50.0), "max"),
)

_WIDTH, _HEIGHT = 7.2, 9.0  # inches that a page has for a picture
_FONT = 5.5


def chapter(study: Study) -> Chapter:
    """Fig. 8, on the test images that have a mask."""
    result, corpora = measure_study(study)
    facts = study.of(corpora, result.n)
    known = ((version.name, version.classes.share_excellent) for version in result.versions)
    shares = {name: share for name, share in known if share is not None}
    ours = Ours(texture=beside_paper.Measured(shares, facts))
    csvs = {"texture": _per_feature(result)}
    return Chapter((section(result, facts),), _data(result), csvs, ours)


def _data(result: TextureResult) -> dict[str, Any]:
    """For report.json."""
    return {
        "versions": [version.name for version in result.versions],
        "groups": [version.group for version in result.versions],
        "features": result.features,
        "families": result.families,
        "n": result.n,
        "resampled": result.resampled,
        "left_out": result.left_out,
        "classes": [version.classes for version in result.versions],
        "share_excellent": [version.classes.share_excellent for version in result.versions],
        "icc": [version.icc for version in result.versions],
        "re": [version.re for version in result.versions],
        "are": [version.are for version in result.versions],
    }


def _per_feature(result: TextureResult) -> Csv:
    rows = []
    for v in result.versions:
        columns = v.icc, v.icc_low, v.icc_high, v.re, v.are
        rows += [(v.name, *row) for row in zip(result.features, *columns, strict=True)]
    return ("version", "feature", "ICC", "ICC low", "ICC high", "RE %", "ARE %"), rows


def section(result: TextureResult, facts: dict[str, str]) -> Section:
    """All tables and figures."""
    blocks: list[Block] = [
        *_texts(result),
        _classes(result, facts),
        _errors(result, facts),
        _heat_maps(result, facts),
    ]
    return Section("texture", "Texture: radiomic features of the lungs", tuple(blocks))


def _spacing(result: TextureResult) -> str:
    if not result.resampled:
        return (
            "The pixel spacing of these images is unknown, so pixels were taken as they are; the "
            "paper's were 1 x 1 mm"
        )
    if result.resampled == result.n:
        return "Images were resampled to 1 x 1 mm, as in the paper"
    return (
        f"{result.resampled} of {result.n} images were resampled to 1 x 1 mm; of the others the "
        "pixel spacing is unknown"
    )


def _texts(result: TextureResult) -> list[Block]:
    texts: list[Block] = [
        Text(
            f"{len(result.features)} features by PyRadiomics within the lung mask, in 2-D, 64 "
            f"grey-level bins between the mask's own ends. {_spacing(result)}."
        ),
        Text(
            "ICC is ICC(A,1): two-way, absolute agreement, single measurement, of a version and "
            "the original; 1 is perfect. Relative error RE = (version − original) / |original| "
            "in %, averaged over images, and ARE of absolute values; best is 0. Images where the "
            "original's value is 0 are left out of both. Where it is near 0 (skewness, cluster "
            "shade) both are large whatever the image, so medians over features stand beside "
            "means."
        ),
    ]
    if any("texture" in version.group for version in result.versions):
        said = (
            "With texture: restored with noise that has the statistics of what "
            "was lost. It is for measuring texture: the image itself is less like the original."
        )
        texts.append(Text(said))
    named = zip(result.features, result.zeros, strict=True)
    if zeros := [f"{name} ({count})" for name, count in named if count]:
        said = f"Features that are 0 in an original, and in how many of {result.n}: "
        texts.append(Text(f"{said}{', '.join(zeros)}."))
    missing = np.isnan([version.icc for version in result.versions]).any(axis=0)
    if undefined := int(missing.sum()):
        said = "feature(s) have no ICC in some version, as they do not vary; these are not counted."
        texts.append(Text(f"{undefined} {said}"))
    if result.left_out:
        said = f"{len(result.left_out)} image(s) whose mask gives no features were left out."
        texts.append(Text(said, caution=True))
    return texts


def _members(result: TextureResult) -> dict[str, np.ndarray]:
    """Places of the features of each family, and of all."""
    families = np.array(result.families)
    members = {label: np.flatnonzero(families == name) for name, label in FAMILIES.items()}
    return members | {"all": np.arange(len(families))}


def _classes(result: TextureResult, facts: dict[str, str]) -> Table:
    members = _members(result)
    rows = []
    for version in result.versions:
        counts = (count_classes(version.icc[places]).each() for places in members.values())
        cells = (" / ".join(map(str, each)) for each in counts)
        share = version.classes.share_excellent
        sure = int(np.count_nonzero(version.icc_low > _EXCELLENT))
        told = "–" if share is None else f"{100 * share:.0f} %"
        rows.append((version.name, *cells, told, str(sure)))
    ends = " / ".join(f"{name} (ICC ≤ {end:.2f})" for name, end in list(CLASSES.items())[:-1])
    title = (
        f"Features by reproducibility: {ends} / excellent, n = {result.n} images "
        "(the paper's Fig. 8)"
    )
    sizes = (f"{label} ({len(places)})" for label, places in members.items())
    limit = f"{_EXCELLENT:.2f}"
    columns = ("Version", *sizes, f"ICC > {limit}", f"95 % interval above {limit}")
    return Table(title, columns, tuple(rows), facts)


def _errors(result: TextureResult, facts: dict[str, str]) -> Table:
    """A row for each version and measure, a column for each family."""
    members = _members(result)
    rows: list[tuple[str, ...]] = []
    for v in result.versions:
        res = [v.re[places] for places in members.values()]
        ares = [v.are[places] for places in members.values()]
        rows += [
            (v.name, "mean RE", *(_percent(each, np.mean, "+") for each in res)),
            ("", "mean ARE", *(_percent(each, np.mean) for each in ares)),
            ("", "median ARE", *(_percent(each, np.median) for each in ares)),
            ("", f"|RE| < {_SMALL:g} %", *(_small(each) for each in res)),
        ]
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


def _heat_maps(result: TextureResult, facts: dict[str, str]) -> Figure:
    """Panels side by side, a row for each feature, a column for each version."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = canvas.subplots(1, len(_PANELS), sharey=True)
    for ax, panel in zip(axes, _PANELS, strict=True):
        _heat_map(canvas, ax, result, panel)
    title = (
        f"ICC, relative and absolute relative error of {len(result.features)} features (the "
        "paper's Fig. 8)"
    )
    alt = (
        "Heat maps, a row for each feature and a column for each version: ICC from dark (0 or "
        "less) to bright (1), RE from blue (-50 % or less) to red (50 % or more), ARE from bright "
        "(0) to dark (50 % or more). Lines part the families; grey is undefined."
    )
    return Figure(title, png(canvas), alt, facts)


def _heat_map(canvas: Any, ax: Any, result: TextureResult, panel: _Panel) -> None:
    values = np.stack([panel.of(version) for version in result.versions], axis=1)
    scale: dict[str, Any] = {"cmap": panel.colours, "vmin": panel.marks[0], "vmax": panel.marks[-1]}
    drawn = ax.imshow(values, aspect="auto", interpolation="nearest", **scale)
    ax.set_facecolor("0.7")  # where it is undefined
    ax.set_title(panel.title, fontsize=_FONT + 2)
    names = [typeset(version.name) for version in result.versions]
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(result.features)), [_label(feature) for feature in result.features])
    ax.tick_params(labelsize=_FONT, length=1.5)
    families = np.array(result.families)
    for border in np.flatnonzero(families[1:] != families[:-1]) + 0.5:
        ax.axhline(border, color="black", linewidth=0.8)
    where: dict[str, Any] = {"location": "bottom", "aspect": 15, "pad": 0.01}
    bar = canvas.colorbar(drawn, ax=ax, extend=panel.extend, ticks=panel.marks, **where)
    bar.ax.tick_params(labelsize=_FONT + 0.5)


def _label(feature: str) -> str:
    """As people read it: GLCM JointEnergy."""
    family, name = feature.split("_", 1)
    return f"{FAMILIES[family]} {name}"

"""What the paper printed: the numbers of `paper.toml`, as types.

A version is a text: "original", or "S_x = 4".
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from primis.study.names import Pair

T = TypeVar("T")


class Printed(NamedTuple):
    """A number of the paper: mean, SD and interval at 95 %."""

    mean: float
    sd: float
    low: float
    high: float


class Cell(NamedTuple):
    """A cell of the tables of classification; tasks are counted from 1."""

    task: int
    trained_on: str
    tested_on: str


@dataclass(frozen=True)
class Errors(Generic[T]):
    """The measures of Tables 1 and 4."""

    labels: ClassVar = ("MAE", "ME", "RMSE", "PSNR, dB", "SSIM")

    mae: T
    me: T
    rmse: T
    psnr: T
    ssim: T

    def each(self) -> tuple[T, ...]:
        """In the order of the labels."""
        return self.mae, self.me, self.rmse, self.psnr, self.ssim


@dataclass(frozen=True)
class Outlines(Generic[T]):
    """The measures of Table 3."""

    labels: ClassVar = (
        "Dice",
        "Jaccard",
        "false negative",
        "false positive",
        "mean surface distance",
        "SD of surface distance",
    )

    dice: T
    jaccard: T
    false_negative: T
    false_positive: T
    mean_distance: T
    sd_distance: T

    def each(self) -> tuple[T, ...]:
        """In the order of the labels."""
        overlaps = self.dice, self.jaccard, self.false_negative, self.false_positive
        return *overlaps, self.mean_distance, self.sd_distance


@dataclass(frozen=True)
class Scores(Generic[T]):
    """The measures of Table 2 and Supplemental Tables 1 to 3."""

    labels: ClassVar = ("AUC", "accuracy", "sensitivity", "specificity")
    tables: ClassVar = (
        "Table 2",
        "Supplemental Table 1",
        "Supplemental Table 2",
        "Supplemental Table 3",
    )

    auc: T
    accuracy: T
    sensitivity: T
    specificity: T

    def each(self) -> tuple[T, ...]:
        """In the order of the labels."""
        return self.auc, self.accuracy, self.sensitivity, self.specificity


@dataclass(frozen=True)
class Source:
    """What a table of the paper was measured on. tested: how many images its intervals fit."""

    data: str
    n: str | None = None
    split: str | None = None
    tested: int | None = None

    @property
    def facts(self) -> dict[str, str]:
        """As they stand under a table."""
        told = {"data": self.data, "n": self.n, "split": self.split}
        return {f"paper's {name}": text for name, text in told.items() if text is not None}


@dataclass(frozen=True)
class Task:
    """Classes, and how many patients each had."""

    classes: dict[str, int]

    def __str__(self) -> str:
        return ", ".join(f"{name} ({count:,})" for name, count in self.classes.items())


@dataclass(frozen=True)
class Fidelity:
    """Table 1, by version, and R² of Fig. 6."""

    source: Source
    rows: dict[str, Errors[Printed]]
    r_squared: dict[str, float]


@dataclass(frozen=True)
class Classification:
    """Table 2, Supplemental Tables 1 to 3."""

    source: Source
    tasks: tuple[Task, ...]
    rows: Scores[dict[Cell, float]]


@dataclass(frozen=True)
class Segmentation:
    """Table 3 and Supplemental Table 4."""

    source: Source
    rows: dict[Pair, Outlines[Printed]]


@dataclass(frozen=True)
class Texture:
    """What the text says of a version: Fig. 8 has no numbers."""

    source: Source
    rows: dict[str, str]


@dataclass(frozen=True)
class Attacks:
    """Table 4, by network."""

    source: Source
    rows: dict[str, Errors[Printed]]


@dataclass(frozen=True)
class Paper:
    """All tables."""

    fidelity: Fidelity = field(repr=False)
    classification: Classification = field(repr=False)
    segmentation: Segmentation = field(repr=False)
    texture: Texture = field(repr=False)
    attacks: Attacks = field(repr=False)


ScoreRow = tuple[str, str, float, float, float, float, float, float, float, float]
"""Of the file: trained on, tested on, tasks 1 to 8."""

OutlineRow = tuple[str, str, Printed, Printed, Printed, Printed, Printed, Printed]
"""Of the file: trained on, tested on, and the measures of Outlines."""


@dataclass(frozen=True)
class _ClassificationFile:
    source: Source
    tasks: tuple[Task, ...]
    rows: Scores[list[ScoreRow]]


@dataclass(frozen=True)
class _SegmentationFile:
    source: Source
    rows: list[OutlineRow]


@dataclass(frozen=True)
class _File:
    """paper.toml, as it is written."""

    fidelity: Fidelity
    classification: _ClassificationFile
    segmentation: _SegmentationFile
    texture: Texture
    attacks: Attacks


@cache
def paper() -> Paper:
    """Read from the package."""
    text = files("primis.study.paper").joinpath("paper.toml").read_text("utf-8")
    read = msgspec.convert(tomllib.loads(text), _File, strict=False)
    rows = read.classification.rows
    grids = Scores(*(_grid(each) for each in rows.each()))
    outlines = {Pair(row[0], row[1]): Outlines(*row[2:]) for row in read.segmentation.rows}
    return Paper(
        read.fidelity,
        Classification(read.classification.source, read.classification.tasks, grids),
        Segmentation(read.segmentation.source, outlines),
        read.texture,
        read.attacks,
    )


def _grid(rows: list[ScoreRow]) -> dict[Cell, float]:
    cells: dict[Cell, float] = {}
    for trained_on, tested_on, *values in rows:
        cells |= {Cell(task, trained_on, tested_on): v for task, v in enumerate(values, 1)}
    return cells

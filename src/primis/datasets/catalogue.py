"""Published corpora and their layouts, read from catalogue.toml: a new corpus is data, not code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

CLASSES = ("normal", "bacterial", "viral", "covid", "pneumonia", "tuberculosis")
"""This project's words for what several corpora have, in the order in which they are shown."""


@dataclass(frozen=True)
class Layout:
    """A published corpus: what it is, how its folder is recognised, and what its reader needs to
    know.

    recognised: patterns, all of which a folder must hold; "a|b" is either. reader: "findings" (a
    table names the images and what they show) or "names" (files and folders do). adult: of the
    patients, None where ages tell or nobody does. notes: traps of the images, wherever they are
    found. handling: what its reader makes of the layout. names: how a file's name (without suffix)
    gives `patient` and `label`. labels: the corpus' words, in lower case, in this project's.

    For "findings": tables, each with the part of the split that it is; columns: ours -> theirs,
    `beside` being one that is no finding; without a column `findings`, all others are findings of 1
    (there), 0 or blank (not) and -1 (uncertain); separator: between findings in a cell; where:
    patterns of a file's place, with {file}, {split} and {tail} (the file without its first folder),
    "**/" being anywhere; lists: files that name the images of a part; patient: how a file's name
    holds it; ignored: what is no finding; spacing: columns of the size and spacing of what the
    published images, `size` pixels wide and high, were scaled from.

    For "names": images: patterns; splits: folder -> part; masks: sets of patterns with {stem}, the
    first that is there; readings: a text with age and sex; spacing_mm.
    """

    name: str
    title: str
    citation: str
    licence: str
    url: str
    recognised: Sequence[str]
    reader: str
    adult: bool | None = None
    notes: Sequence[str] = ()
    handling: Sequence[str] = ()
    names: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    tables: Sequence[Mapping[str, str]] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    frontal: Sequence[str] = ()
    separator: str = ""
    where: Sequence[str] = ()
    lists: Mapping[str, str] = field(default_factory=dict)
    patient: str = ""
    ignored: Sequence[str] = ()
    spacing: Mapping[str, str | int] = field(default_factory=dict)

    images: Sequence[str] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    masks: Sequence[Sequence[str]] = ()
    readings: str = ""
    spacing_mm: Sequence[float] | None = None

    def fits(self, folder: Path) -> bool:
        """Whether a folder holds all that this layout is recognised by."""
        return all(first_of(folder, patterns) is not None for patterns in self.recognised)

    def word(self, finding: str) -> str:
        """This project's word for one of the corpus', in lower case with blanks."""
        plain = finding.strip().lower().replace("_", " ")
        return self.labels.get(plain, plain)

    def parse(self, stem: str) -> dict[str, str] | None:
        """`patient` and `label`, as far as a file's name tells; None if it is named otherwise."""
        match = next((m for pattern in self.names if (m := re.fullmatch(pattern, stem))), None)
        return match.groupdict() if match else None


@cache
def catalogue() -> dict[str, Layout]:
    """All layouts, by name."""
    text = resources.files("primis.datasets").joinpath("catalogue.toml").read_text("utf-8")
    return {name: Layout(name=name, **body) for name, body in tomllib.loads(text).items()}


def named_like(stems: Sequence[str]) -> Layout | None:
    """The corpus that nine in ten files are named like, None where there is none."""
    for layout in catalogue().values():
        if stems and sum(layout.parse(stem) is not None for stem in stems) >= 0.9 * len(stems):
            return layout
    return None


def first_of(folder: Path, patterns: str) -> Path | None:
    """What fits the first pattern ("a|b") that anything fits; of several the latest version."""
    for pattern in patterns.split("|"):
        if found := sorted(folder.glob(pattern)):
            return found[-1]
    return None

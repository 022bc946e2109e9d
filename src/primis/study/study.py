"""The images of a folder, split by patient, in all their versions; and what was measured of them so far.

Versions are made as they are asked for, and kept; so are parts, each as it is done, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from primis.atomic import own_folder
from primis.attacks.harness import MINUTES, QUICK, Budget
from primis.attacks.learning import SPLITS, Learner
from primis.codec import Codec
from primis.datasets.corpus import Corpus, open_corpora, split
from primis.datasets.sample import Sample
from primis.errors import UnreadableImage
from primis.metrics.part import Part, Parts, Progress, silent
from primis.network.checkpoint import read_checkpoint, shipped
from primis.study import classification, segmentation
from primis.study.versions import LOSSLESS, Versions, version_list

PARTS = ("fidelity", "classification", "segmentation", "texture", "attacks")
RIVALS = ("JPEG 2000", LOSSLESS)

T = TypeVar("T")
_LEAST = 4
_QUICK_IMAGES, _QUICK_ATTACK = 40, (12, 10)


@dataclass(frozen=True)
class Plan:
    """sparsities: S_x; presets: whose images networks are tested on, trained on those of the first; most: images of a corpus, at
    most, evenly spread over each split; slow: images that preset `paper` restores for its row of Table 1, which takes seconds
    for each; mechanisms: which are attacked; owned, judged: images that attackers own and are judged on."""

    sparsities: tuple[float, ...] = (4.0, 8.0, 16.0)
    presets: tuple[str, ...] = ("default",)
    seed: int = 0
    most: int | None = None
    slow: int = 30
    mechanisms: tuple[str, ...] = ("keyed", "sca")
    classifier: Learner = field(default_factory=classification.learner)
    segmenter: Learner = field(default_factory=segmentation.learner)
    budget: Budget = MINUTES
    owned: int = 120
    judged: int = 40

    @property
    def quick(self) -> Plan:
        """All of it on a few images, in minutes: every part runs, nothing is learned well."""
        owned, judged = _QUICK_ATTACK
        most = min(self.most or _QUICK_IMAGES, _QUICK_IMAGES)
        return replace(self, most=most, slow=2, classifier=classification.QUICK, segmenter=segmentation.QUICK, budget=QUICK,
                       owned=owned, judged=judged)  # fmt: skip


class Study:
    """Images, plan, and a folder where what is done is kept. It holds patients' images."""

    def __init__(
        self,
        data: Path,
        plan: Plan,
        kept: Path,
        *,
        layout: str | None = None,
        progress: Progress = silent,
    ) -> None:
        """Raises UsageError where the data holds nothing that fits."""
        self.corpora = [
            _thinned(split(corpus, plan.seed), plan.most)
            for corpus in open_corpora(data, layout=layout)
        ]
        self.plan, self.progress, self._kept = plan, progress, kept
        self.left_out: dict[str, str] = {}
        models = [
            hashlib.sha256(shipped(preset).read_bytes()).hexdigest()
            for preset in ("default", "paper")
        ]
        told: dict[str, Any] = {"plan": repr(plan), "models": models, "of": software()}
        told["images"] = [
            [
                c.name,
                s.name,
                s.patient,
                s.label,
                s.split,
                s.file.stat().st_size,
                s.file.stat().st_mtime_ns,
            ]
            for c in self.corpora
            for s in c.samples
        ]
        own_folder(kept)
        self.parts = Parts(kept / "parts", told)

    def part(self, name: str, make: Callable[[], Part]) -> Part:
        """A part, made now or before, and with it the names of the images that it had to leave out."""

        def made() -> Part:
            before = set(self.left_out)
            part = make()
            new = {key: reason for key, reason in self.left_out.items() if key not in before}
            return Part(part.body | {"unreadable": new}, part.arrays)

        part = self.parts.get(name, made)
        self.left_out |= part.body["unreadable"]
        return part

    @property
    def largest_first(self) -> list[Corpus]:
        """Corpora by how many images they have."""
        return sorted(self.corpora, key=lambda corpus: -len(corpus.samples))

    @cache  # noqa: B019 (a study lives as long as its program)
    def codec(self, preset: str) -> Codec:
        """The shipped model of a preset."""
        return Codec(read_checkpoint(shipped(preset)))

    def versions(self, presets: Sequence[str], rivals: Sequence[str] = ()) -> Versions:
        """The original, each preset at each S_x, each rival at the bits of the first."""
        chosen = version_list(self.plan.sparsities, presets, rivals)
        return Versions(
            self._kept / "versions", {preset: self.codec(preset) for preset in presets}, chosen
        )

    def read(
        self, samples: Sequence[tuple[Corpus, Sample]], what: str, how: Callable[[Sample], T]
    ) -> Iterator[tuple[Corpus, Sample, T]]:
        """What can be read; others are named in `left_out`."""
        for number, (corpus, sample) in enumerate(samples):
            self.progress(what, number, len(samples))
            try:
                found = how(sample)
            except UnreadableImage as error:
                self.left_out[f"{corpus.name}/{sample.name}"] = str(error)
            else:
                yield corpus, sample, found

    def telling(self, what: str) -> Progress:
        """Progress under a name of our own."""
        return lambda _, done, total: self.progress(what, done, total)

    def facts(self, corpora: Sequence[Corpus], part: str, n: int, **more: str) -> dict[str, str]:
        """What stands under a table."""
        named = {
            "data": ", ".join(corpus.name for corpus in corpora),
            "split": f"{part}, by patient",
            "n": str(n),
        }
        return named | more | {"seed": str(self.plan.seed), "software": software()}

    @cached_property
    def about(self) -> dict[str, str]:
        """Facts of the whole run."""
        counts = {
            corpus.name: Counter(sample.split for sample in corpus.samples)
            for corpus in self.corpora
        }
        images = [
            f"{name} {' / '.join(str(count[p]) for p in SPLITS)}" for name, count in counts.items()
        ]
        learners = [f"{name}: {_told(learner)}" for name, learner in
                    (("classification", self.plan.classifier), ("segmentation", self.plan.segmenter))]  # fmt: skip
        return {
            "data": ", ".join(counts), "images (train / val / test)": "; ".join(images), "split": "by patient",
            "seed": str(self.plan.seed), "networks": "; ".join(learners), "software": software(),
        }  # fmt: skip


def spread(items: Sequence[Any], most: int | None) -> list[Any]:
    """At most so many, evenly spaced."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, most).round()]


@cache
def software() -> str:
    """primis, its version and, where it runs from a checkout, its commit."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--exclude",
        "*",
    ]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        found = ""
    return f"primis {installed('primis')}{f', commit {found}' if found else ''}"


def labelled(corpora: Sequence[Corpus], groups: Sequence[Sequence[str]]) -> list[Corpus]:
    """The corpora that can tell some classes apart with the least besides: those that have all of them; where none has, those of
    adults alone, or of children alone, that together have them; else all that have any. A group of labels is a class."""

    def covered(some: Sequence[Corpus]) -> bool:
        return all(
            any(label in corpus.classes for corpus in some for label in group) for group in groups
        )

    having = [c for c in corpora if any(label in c.classes for group in groups for label in group)]
    if whole := [c for c in having if covered([c])]:
        return whole
    alike: list[Callable[[Corpus], bool]] = [lambda c: c.adult is True, lambda c: c.adult is False]
    for fits in alike:
        if covered(some := [c for c in having if fits(c)]):
            return some
    return having if covered(having) else []


def _thinned(corpus: Corpus, most: int | None) -> Corpus:
    """About so many images: the same share of each split and, within it, of each label, but a few of each at least."""
    if most is None or len(corpus.samples) <= most:
        return corpus
    share = most / len(corpus.samples)
    groups: dict[tuple[str | None, str | None], list[Sample]] = {}
    for sample in corpus.samples:
        groups.setdefault((sample.split, sample.label), []).append(sample)
    kept = {
        s.name
        for group in groups.values()
        for s in spread(group, max(_LEAST, round(share * len(group))))
    }
    return replace(corpus, samples=tuple(s for s in corpus.samples if s.name in kept))


def _told(learner: Learner) -> str:
    return f"{learner.network} at {learner.side} x {learner.side}, {learner.recipe.epochs} epochs, {len(learner.seeds)} seed(s)"

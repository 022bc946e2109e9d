"""The images of a folder, split by patient, in all their versions, and what was measured of them.

Versions are made as they are asked for, and kept; so are results, each as it is done, so that a
stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, product
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np

from primis.atomic import own_folder
from primis.attacks.learning import SPLITS, Learner
from primis.codec import Codec
from primis.datasets.corpus import Corpus, open_corpora, split
from primis.datasets.sample import Grey, Sample, read_grey, read_mask
from primis.errors import UnreadableImage, UsageError
from primis.metrics.part import Parts
from primis.metrics.progress import Progress, silent
from primis.network.checkpoint import read_checkpoint, shipped
from primis.network.presets import PRESETS
from primis.study.names import PARTS, PartName
from primis.study.plan import Plan
from primis.study.software import software
from primis.study.versions import LOSSLESS, Versions, version_list

BASELINES = ("JPEG 2000", LOSSLESS)

T = TypeVar("T")
Picked = tuple[Corpus, Sample]
_LEAST = 4


@dataclass(frozen=True, eq=False)
class Kept(Generic[T]):
    """A result, and the images that it had to leave out, each with its reason."""

    result: T
    left_out: dict[str, str]


class Study:
    """Images, plan, and a folder where what is done is kept. It holds patients' images."""

    def __init__(
        self,
        data: Path,
        plan: Plan,
        kept: Path,
        *,
        parts: Sequence[PartName] = PARTS,
        layout: str | None = None,
        progress: Progress = silent,
    ) -> None:
        """parts: which are to be measured; fidelity alone takes too few patients for a split as
        well.

        Raises UsageError where the data holds nothing that fits.
        """
        needed = any(part != PartName.FIDELITY for part in parts)
        self.corpora = [
            _thinned(_parted(corpus, plan.seed, needed=needed), plan.most)
            for corpus in open_corpora(data, layout=layout)
        ]
        self.wanted = tuple(parts)
        self.plan, self.progress, self._kept = plan, progress, kept
        self.left_out: dict[str, str] = {}
        own_folder(kept)
        self.parts = Parts(kept / "parts", self._identity())

    def _identity(self) -> dict[str, Any]:
        """Whatever a result depends on: what was kept for anything else is not taken."""
        weights = [shipped(preset).read_bytes() for preset in PRESETS]
        pairs = chain.from_iterable(product([corpus], corpus.samples) for corpus in self.corpora)
        images = [(c.name, s.name, s.patient, s.label, s.split, *_state(s)) for c, s in pairs]
        models = [hashlib.sha256(data).hexdigest() for data in weights]
        return {"plan": repr(self.plan), "models": models, "of": software(), "images": images}

    def part(self, name: str, make: Callable[[], T], kind: type[T]) -> T:
        """A result, made now or before, and with it the images that it had to leave out."""

        def made() -> Kept[T]:
            before = set(self.left_out)
            result = make()
            new = {key: why for key, why in self.left_out.items() if key not in before}
            return Kept(result, new)

        typed: Any = Kept[kind]  # type: ignore[valid-type]  # a type that is known as it runs
        kept = cast(Kept[T], self.parts.get(name, made, typed))
        self.left_out |= kept.left_out
        return kept.result

    @property
    def largest_first(self) -> list[Corpus]:
        """Corpora by how many images they have."""
        return sorted(self.corpora, key=lambda corpus: -len(corpus.samples))

    @cache  # noqa: B019 (a study lives as long as its program)
    def codec(self, preset: str) -> Codec:
        """The shipped model of a preset."""
        return Codec(read_checkpoint(shipped(preset)))

    def versions(
        self, presets: Sequence[str], baselines: Sequence[str] = (), *, texture: bool = False
    ) -> Versions:
        """The original, each preset at each S_x, each baseline at the bits of the first preset.
        texture: as of `version_list`."""
        chosen = version_list(self.plan.sparsities, presets, baselines, texture=texture)
        codecs = {preset: self.codec(preset) for preset in presets}
        return Versions(self._kept / "versions", codecs, chosen)

    def read(
        self, samples: Sequence[Picked], what: str, how: Callable[[Sample], T]
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

    def facts(self, data: str, n: str, **more: str) -> dict[str, str]:
        """What stands under a table. data: of which corpora; n: of how many images."""
        facts = {"data": data, "split": self.split, "n": n} | more
        facts |= {"seed": str(self.plan.seed), "software": software()}
        return facts | ({"run": "quick"} if self.plan.quick else {})

    def of(self, corpora: Sequence[Corpus], n: int, **more: str) -> dict[str, str]:
        """`facts` of some corpora."""
        return self.facts(", ".join(corpus.name for corpus in corpora), str(n), **more)

    @property
    def split(self) -> str:
        """How images were told apart that networks learn from and that are judged."""
        whole = [c.name for c in self.corpora if not _is_parted(c)]
        if not whole:
            return "test, by patient"
        return "none" if len(whole) == len(self.corpora) else "test, by patient, where there is one"

    @property
    def about(self) -> dict[str, str]:
        """Facts of the whole run."""
        told = {
            "data": ", ".join(corpus.name for corpus in self.corpora),
            "images": "; ".join(f"{c.name} {counted(c)}" for c in self.corpora),
            "split": self.split,
            "seed": str(self.plan.seed),
        }
        networks = {
            PartName.CLASSIFICATION: self.plan.classifier,
            PartName.SEGMENTATION: self.plan.segmenter,
        }
        asked = [f"{part}: {_told(of)}" for part, of in networks.items() if part in self.wanted]
        told |= {"networks": "; ".join(asked)} if asked else {}
        told |= {"run": "quick, a few images: proves nothing"} if self.plan.quick else {}
        return told | {"software": software()}


def counted(corpus: Corpus) -> str:
    """Images in train / val / test, or in all where there is no split."""
    if not _is_parted(corpus):
        return f"{len(corpus.samples)} (no split)"
    counts = Counter(sample.split for sample in corpus.samples)
    return " / ".join(str(counts[part]) for part in SPLITS)


def judged(corpus: Corpus) -> list[Sample]:
    """The test images; all of a corpus that is not split."""
    return [s for s in corpus.samples if s.split in ("test", None)]


def spread(items: Sequence[T], most: int | None) -> list[T]:
    """At most so many, evenly spaced."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[int(k)] for k in np.linspace(0, len(items) - 1, most).round()]


def masked(sample: Sample) -> tuple[Grey, np.ndarray]:
    """An image and its mask, (H, W) of bool."""
    grey = read_grey(sample)
    return grey, read_mask(sample, (grey.pixels.shape[0], grey.pixels.shape[1]))


def _state(sample: Sample) -> tuple[int, int]:
    """Size of the file, and when it was changed."""
    found = sample.file.stat()
    return found.st_size, found.st_mtime_ns


def _is_parted(corpus: Corpus) -> bool:
    return all(sample.split is not None for sample in corpus.samples)


def _parted(corpus: Corpus, seed: int, *, needed: bool) -> Corpus:
    """The corpus, split; whole where it has too few patients and no split is needed."""
    try:
        return split(corpus, seed)
    except UsageError:
        if needed:
            raise
    note = "too few patients for a split: all images are measured"
    samples = tuple(replace(sample, split=None) for sample in corpus.samples)
    return replace(corpus, samples=samples, notes=(*corpus.notes, note))


def _thinned(corpus: Corpus, most: int | None) -> Corpus:
    """About so many images: the same share of each split and, within it, of each label.

    A few of each are kept at least.
    """
    if most is None or len(corpus.samples) <= most:
        return corpus
    share = most / len(corpus.samples)
    groups: dict[tuple[str | None, str | None], list[Sample]] = {}
    for sample in corpus.samples:
        groups.setdefault((sample.split, sample.label), []).append(sample)
    thinned = (spread(group, max(_LEAST, round(share * len(group)))) for group in groups.values())
    names = {sample.name for sample in chain.from_iterable(thinned)}
    return replace(corpus, samples=tuple(s for s in corpus.samples if s.name in names))


def _told(learner: Learner) -> str:
    return (
        f"{learner.network} at {learner.side} x {learner.side}, {learner.recipe.epochs} epochs, "
        f"{len(learner.seeds)} seed(s)"
    )

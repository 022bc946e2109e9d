"""Images at the size of a network, in the versions that it is trained on and tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from primis.attacks.learning import squared
from primis.datasets.corpus import Corpus
from primis.datasets.sample import Grey, Sample, read_grey
from primis.metrics.fidelity import data_range
from primis.study.study import Picked, Study
from primis.study.versions import LOSSLESS, ORIGINAL, Versions

_WHAT = "versions of images"


def trained_and_tested(versions: Versions) -> tuple[list[str], list[str]]:
    """Names of the versions that networks are trained on, and of all that they are tested on.

    Trained on: preset default, S_x rising, then originals.
    """
    own = [v.name for v in versions.list if v.group == "preset default"]
    known = {*own, ORIGINAL, LOSSLESS}
    others = [v.name for v in versions.list if v.name not in known]
    return [*own, ORIGINAL], [*own, ORIGINAL, *others]


class Sized:
    """Makes them as they are asked for. It holds patients' images."""

    def __init__(self, study: Study, versions: Versions, trained: Sequence[str]) -> None:
        self._study, self._versions, self._trained = study, versions, set(trained)
        self._made: dict[tuple[str, str, int], dict[str, np.ndarray] | None] = {}

    def of(
        self, samples: Sequence[Picked], side: int
    ) -> tuple[list[Picked], dict[str, np.ndarray]]:
        """The samples that can be read, and (n, side, side) of each version.

        Zeros stand where a version is for tests alone.
        """
        readable: list[Picked] = []
        rows: list[dict[str, np.ndarray]] = []
        for number, (corpus, sample) in enumerate(samples):
            self._study.progress(_WHAT, number, len(samples))
            key = corpus.name, sample.name, side
            if key not in self._made:
                self._made[key] = self._small(corpus, sample, side)
            if (made := self._made[key]) is not None:
                readable.append((corpus, sample))
                rows.append(made)
        blank = np.zeros((side, side), np.float32)
        names = [version.name for version in self._versions.list]
        return readable, {name: np.stack([row.get(name, blank) for row in rows]) for name in names}

    def _small(self, corpus: Corpus, sample: Sample, side: int) -> dict[str, np.ndarray] | None:
        wanted = [
            version
            for version in self._versions.list
            if sample.split == "test" or version.name in self._trained
        ]
        for _, _, grey in self._study.read([(corpus, sample)], _WHAT, read_grey):
            get = self._versions.get
            made = ((v.name, get(sample.name, grey.pixels, grey.bit_depth, v)[0]) for v in wanted)
            return {name: _at_side(grey, pixels, side) for name, pixels in made}
        return None


def _at_side(grey: Grey, pixels: np.ndarray, side: int) -> np.ndarray:
    """Square, bright where much was absorbed."""
    low = float(grey.pixels.min()) if pixels.dtype.kind == "i" else 0.0
    high = low + data_range(grey.pixels, grey.bit_depth)
    ends = (high, low) if grey.photometric == "MONOCHROME1" else (low, high)
    return squared(pixels, side, *ends)

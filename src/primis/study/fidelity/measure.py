"""How near the versions of many images come to the originals (the paper's Table 1, Figs. 5 and 6).

Errors are in grey levels of 255: in units of 1/255 of each image's full scale, so that images of 8
and of 16 bits can be pooled; for 8 bits these are the grey levels themselves. PSNR and SSIM take
each image's own full scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from primis.datasets.corpus import Corpus
from primis.datasets.sample import Sample, read_grey
from primis.errors import UsageError
from primis.metrics.estimate import Estimate
from primis.metrics.fidelity import data_range, fidelity
from primis.metrics.progress import Progress, silent
from primis.metrics.statistics import mean_of
from primis.network.presets import DEFAULT, PAPER
from primis.study.study import BASELINES, Study, judged, spread
from primis.study.versions import ORIGINAL, Version, Versions

LEVELS = 255
SHOWN = 512
"""Pixels of the longer side of an example, at most."""

_EXAMPLES = 3


@dataclass(frozen=True, eq=False)
class Values:
    """What was measured of a version: an array (n,) each, one value an image."""

    mae: np.ndarray
    me: np.ndarray
    rmse: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray
    bits: np.ndarray


@dataclass(frozen=True)
class Measure:
    """One of the measures. name: for files; label, unit, meaning: for people; digits: behind the
    point.

    least, most: the bounds of a value. of: its values.
    """

    name: str
    label: str
    unit: str
    meaning: str
    digits: int
    least: float
    most: float
    of: Callable[[Values], np.ndarray] = field(repr=False)

    def mean(self, values: Values) -> Estimate | None:
        """Over images; infinite values (identical images) are left out, None where all are."""
        finite = self.finite(values)
        return mean_of(finite, least=self.least, most=self.most) if len(finite) else None

    def finite(self, values: Values) -> np.ndarray:
        """The values that are not infinite."""
        each = self.of(values)
        return each[np.isfinite(each)]


_GREY = "grey levels of 255"

MAE = Measure(
    "mae",
    "MAE",
    _GREY,
    "mean of |restored - original|; lower is better",
    2,
    0,
    LEVELS,
    lambda values: values.mae,
)
ME = Measure(
    "me",
    "ME",
    _GREY,
    "mean of restored - original, signed: 0 where nothing gets brighter or darker",
    3,
    -LEVELS,
    LEVELS,
    lambda values: values.me,
)
ME_PAPER = Measure(
    "me_paper",
    "ME, paper's",
    _GREY,
    "what the paper calls ME: without signs, so it equals MAE in every row",
    2,
    0,
    LEVELS,
    lambda values: values.mae,
)
RMSE = Measure(
    "rmse",
    "RMSE",
    _GREY,
    "root of the mean squared error; lower is better",
    2,
    0,
    LEVELS,
    lambda values: values.rmse,
)
PSNR = Measure(
    "psnr",
    "PSNR",
    "dB",
    "10 log10(full scale² / MSE); higher is better, infinite for identical images",
    2,
    0,
    math.inf,
    lambda values: values.psnr,
)
SSIM = Measure(
    "ssim",
    "SSIM",
    "",
    "structural similarity, -1 to 1; higher is better (Wang et al. 2004, window 7, uniform)",
    4,
    -1,
    1,
    lambda values: values.ssim,
)
BITS = Measure(
    "bits",
    "bits/pixel",
    "bits per pixel",
    "of the coded supports and values, or of the other codec's file; lower is better",
    3,
    0,
    math.inf,
    lambda values: values.bits,
)
MEASURES = (MAE, ME, ME_PAPER, RMSE, PSNR, SSIM, BITS)


@dataclass(frozen=True, eq=False)
class Restored:
    """A version of all images.

    histogram: (256, 256), pixels by original and restored level. r_squared: squared correlation of
    all pixels, None where images are flat.
    """

    name: str
    group: str
    sparsity: float | None
    values: Values
    histogram: np.ndarray = field(repr=False)
    r_squared: float | None

    @property
    def differs(self) -> bool:
        """Whether any image is not identical to its original."""
        return bool(self.values.mae.any())


@dataclass(frozen=True, eq=False)
class Example:
    """Pictures of one image, small enough to print.

    number: which image. original: (h, w), restored: (versions, h, w), grey levels as uint8.
    differences: (versions, h, w), restored - original, in grey levels of 255.
    """

    number: int
    original: np.ndarray
    restored: np.ndarray
    differences: np.ndarray


@dataclass(frozen=True, eq=False)
class FidelityResult:
    """All measures of all versions but the original. images: their names."""

    images: tuple[str, ...]
    versions: tuple[Restored, ...]
    examples: tuple[Example, ...]

    @property
    def n(self) -> int:
        """How many images."""
        return len(self.images)


class Original(NamedTuple):
    """An image to restore.

    key: its name; pixels: (H, W), as stored; bit_depth: meaningful bits of a sample; inside: (H,
    W), where it is measured, None for everywhere: padding says nothing of quality.
    """

    key: str
    pixels: np.ndarray
    bit_depth: int
    inside: np.ndarray | None = None


class Measured(NamedTuple):
    """The result of one corpus and preset, and the facts that belong under it."""

    corpus: str
    preset: str
    result: FidelityResult
    facts: dict[str, str]


def measure_study(study: Study) -> list[Measured]:
    """Each corpus with preset `default` and its baselines, and some of its images with preset
    `paper`.
    """
    return [found for corpus in study.largest_first for found in _of_corpus(study, corpus)]


def _of_corpus(study: Study, corpus: Corpus) -> Iterator[Measured]:
    samples = judged(corpus)
    for preset, baselines, chosen in (
        (DEFAULT.name, BASELINES, samples),
        (PAPER.name, (), spread(samples, study.plan.slow)),
    ):
        versions = study.versions((preset,), baselines)
        result = _restored(study, corpus, chosen, versions, preset)
        yield Measured(corpus.name, preset, result, study.of([corpus], result.n))


def _restored(
    study: Study, corpus: Corpus, samples: Sequence[Sample], versions: Versions, preset: str
) -> FidelityResult:
    what = f"fidelity, {corpus.name}, preset {preset}"

    def images() -> Iterator[Original]:
        for _, sample, grey in study.read([(corpus, s) for s in samples], what, read_grey):
            yield Original(sample.name, grey.pixels, grey.bit_depth, grey.inside)

    def make() -> FidelityResult:
        return measure(images(), versions, len(samples), progress=study.telling(what))

    return study.part(what, make, FidelityResult)


def measure(
    images: Iterable[Original],
    versions: Versions,
    total: int,
    *,
    examples: int = _EXAMPLES,
    progress: Progress = silent,
) -> FidelityResult:
    """All measures of all versions. total: how many images come; examples: how many are shown,
    evenly spread.

    Raises UsageError where there is nothing to measure.
    """
    chosen = [version for version in versions.list if version.through != ORIGINAL]
    pools = [_Pool() for _ in chosen]
    names: list[str] = []
    shown = {round(x) for x in np.linspace(0, total - 1, examples)} if total else set()
    kept: list[Example] = []
    for number, image in enumerate(images):
        restored = [
            versions.get(image.key, image.pixels, image.bit_depth, version) for version in chosen
        ]
        names.append(image.key)
        for pool, (out, bits) in zip(pools, restored, strict=True):
            pool.add(image, out, bits)
        if number in shown:
            kept.append(_example(number, image, [out for out, _ in restored]))
        progress("fidelity", number + 1, total)
    if not names or not chosen:
        raise UsageError(
            "fidelity has nothing to measure, expected at least one image and one version"
        )
    found = tuple(pool.result(version) for pool, version in zip(pools, chosen, strict=True))
    return FidelityResult(tuple(names), found, tuple(kept))


def _values(image: Original, restored: np.ndarray, bits: float) -> tuple[float, ...]:
    """In the order of Values."""
    full = data_range(image.pixels, image.bit_depth)
    found = fidelity(image.pixels, restored, full, image.inside)
    unit = LEVELS / full
    return found.mae * unit, found.me * unit, found.rmse * unit, found.psnr, found.ssim, bits


def to_levels(pixels: np.ndarray, image: Original) -> np.ndarray:
    """Grey levels of 255, as fractions, of any version of an image."""
    low = 0 if image.pixels.dtype.kind == "u" else int(image.pixels.min())
    return (pixels.astype(np.float64) - low) * (LEVELS / data_range(image.pixels, image.bit_depth))


class _Pool:
    """All images of a version: measures, how often which level became which, sums for R²."""

    def __init__(self) -> None:
        self._values: list[tuple[float, ...]] = []
        self._histogram = np.zeros((LEVELS + 1, LEVELS + 1), np.int64)
        self._sums = np.zeros(6)

    def add(self, image: Original, restored: np.ndarray, bits: float) -> None:
        self._values.append(_values(image, restored, bits))
        inside = slice(None) if image.inside is None else image.inside
        x, y = (to_levels(pixels, image)[inside].ravel() for pixels in (image.pixels, restored))
        cells = np.clip(np.round([x, y]), 0, LEVELS).astype(np.int64)
        self._histogram += np.bincount(
            cells[0] * (LEVELS + 1) + cells[1], minlength=(LEVELS + 1) ** 2
        ).reshape(LEVELS + 1, -1)
        self._sums += [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y]

    def result(self, version: Version) -> Restored:
        values = Values(*np.array(self._values).T)
        return Restored(
            version.name, version.group, version.sparsity, values, self._histogram, self._r_squared
        )

    @property
    def _r_squared(self) -> float | None:
        """Of the pooled pixels, not of the histogram's cells; None where one side is flat."""
        n, x, y, xx, yy, xy = self._sums
        spread = (n * xx - x * x) * (n * yy - y * y)
        return float((n * xy - x * y) ** 2 / spread) if spread > 0 else None


def _example(number: int, image: Original, restored: Sequence[np.ndarray]) -> Example:
    """Levels are means of blocks, differences the largest of each."""
    step = -(-max(image.pixels.shape) // SHOWN)
    original = to_levels(image.pixels, image)
    levels = [to_levels(out, image) for out in restored]
    differences = np.stack([_largest(_blocks(x - original, step)) for x in levels])
    small = [
        np.clip(np.round(_blocks(x, step).mean(axis=(1, 3))), 0, LEVELS).astype(np.uint8)
        for x in (original, *levels)
    ]
    return Example(number, small[0], np.stack(small[1:]), differences.astype(np.float32))


def _blocks(pixels: np.ndarray, step: int) -> np.ndarray:
    """(H, W) -> (h, step, w, step), without what is left at the border."""
    h, w = pixels.shape[0] // step, pixels.shape[1] // step
    return pixels[: h * step, : w * step].reshape(h, step, w, step)


def _largest(blocks: np.ndarray) -> np.ndarray:
    """The value of each block that is furthest from zero, so that printing small hides no error."""
    high, low = blocks.max(axis=(1, 3)), blocks.min(axis=(1, 3))
    return np.where(high >= -low, high, low)

"""Radiomic features of the lungs in versions of an image (the paper's Fig. 8), by PyRadiomics.

93 features: first order 18, GLCM 24, GLSZM 16, NGTDM 5, GLRLM 16, GLDM 14; within the mask, in 2-D,
grey levels in 64 bins between the mask's least and greatest. Images are resampled to 1 x 1 mm
(B-spline; masks by nearest neighbour) where the pixel spacing is known; pixels stay as they are
where it is not.

    relative error RE = 100 (version - original) / |original| in %, its absolute value ARE; means
    over images ICC(A,1): two-way, absolute agreement, single measurement, of version and original
    (McGraw and Wong 1996)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np

from primis.datasets.corpus import Corpus
from primis.errors import InputError, TextureUnavailable, UsageError
from primis.metrics.part import Keep, make_anew
from primis.metrics.progress import Progress, silent
from primis.study.study import BASELINES, Study, masked
from primis.study.versions import ORIGINAL, Version, Versions

FAMILIES = {
    "firstorder": "first order",
    "glcm": "GLCM",
    "glszm": "GLSZM",
    "ngtdm": "NGTDM",
    "glrlm": "GLRLM",
    "gldm": "GLDM",
}
"""As PyRadiomics names them, and as people do."""

CLASSES = {"poor": 0.40, "fair": 0.60, "good": 0.75, "excellent": 1.0}
"""The paper's classes of reproducibility, by the greatest ICC of each."""

_BINS = 64
_SPACING_MM = 1.0
_LEAST = 3  # images that an ICC needs


class Masked(NamedTuple):
    """An image and where its lungs are.

    key: its name among the kept results; pixels, mask: (H, W), mask non-zero in the lung;
    spacing_mm: between rows and between columns, None where unknown.
    """

    key: str
    pixels: np.ndarray
    bit_depth: int
    mask: np.ndarray
    spacing_mm: tuple[float, float] | None = None


def features(
    pixels: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float] | None = None
) -> dict[str, float]:
    """The 93 features by name, "glcm_Contrast"; nan where PyRadiomics gives none.

    Raises TextureUnavailable without PyRadiomics; InputError where the mask does not fit or holds
    no region.
    """
    if mask.shape != pixels.shape:
        raise InputError(
            f"a mask has {mask.shape[0]} x {mask.shape[1]} pixels, "
            f"expected {pixels.shape[0]} x {pixels.shape[1]}"
        )
    extract = _extractor(spacing_mm is not None)
    import SimpleITK

    image, region = (
        SimpleITK.GetImageFromArray(x[None])
        for x in (pixels.astype(np.int32), (mask != 0).astype(np.uint8))
    )
    for volume in (image, region):
        rows, columns = spacing_mm or (_SPACING_MM, _SPACING_MM)
        volume.SetSpacing((columns, rows, _SPACING_MM))
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            found = extract.execute(image, region)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"a mask of {np.count_nonzero(mask)} pixels gives no features: {error}"
        ) from None
    return {
        name.removeprefix("original_"): float(value)
        for name, value in found.items()
        if name.startswith("original_")
    }


def require_pyradiomics() -> None:
    """Raises TextureUnavailable where it is not installed."""
    _extractor(False)


@cache
def _extractor(resample: bool) -> Any:
    try:
        from radiomics.featureextractor import RadiomicsFeatureExtractor
    except ModuleNotFoundError:
        raise TextureUnavailable(
            "texture needs PyRadiomics, which is not installed: pip install 'primis[texture]'"
        ) from None
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    settings: dict[str, Any] = {
        "binCount": _BINS,
        "force2D": True,
        "force2Ddimension": 0,
        "minimumROISize": 2,
    }
    if resample:
        settings |= {
            "resampledPixelSpacing": [_SPACING_MM, _SPACING_MM, 0]
        }  # 0: slices stay as they are
    extractor = RadiomicsFeatureExtractor(**settings)
    extractor.disableAllFeatures()
    for family in FAMILIES:
        extractor.enableFeatureClassByName(family)
    return extractor


@dataclass(frozen=True)
class ClassCounts:
    """How many features are of each of CLASSES."""

    poor: int
    fair: int
    good: int
    excellent: int

    def each(self) -> tuple[int, ...]:
        """In order."""
        return self.poor, self.fair, self.good, self.excellent

    @property
    def share_excellent(self) -> float | None:
        """None where no ICC is defined."""
        total = sum(self.each())
        return self.excellent / total if total else None


@dataclass(frozen=True, eq=False)
class TextureVersion:
    """A version beside the original; an array (features,) each, nan where undefined.

    re, are: means over images, in %.
    """

    name: str
    group: str
    icc: np.ndarray
    icc_low: np.ndarray
    icc_high: np.ndarray
    re: np.ndarray
    are: np.ndarray

    @property
    def classes(self) -> ClassCounts:
        """Of all features."""
        return count_classes(self.icc)


@dataclass(frozen=True, eq=False)
class TextureResult:
    """Features of all versions, their errors and their agreement with the original.

    n: images; resampled: of how many the spacing is known; left_out: images whose mask gives no
    features. versions: all but the original. values: (1 + versions, n, features), the original
    first. zeros: (features,), how many originals are 0 and so left out of re and are.
    """

    features: tuple[str, ...]
    n: int
    resampled: int
    left_out: tuple[str, ...]
    versions: tuple[TextureVersion, ...]
    values: np.ndarray = field(repr=False)
    zeros: np.ndarray = field(repr=False)

    @property
    def families(self) -> tuple[str, ...]:
        """Of each feature."""
        return tuple(name.split("_")[0] for name in self.features)


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Of one image: values (versions, features), the original first."""

    features: tuple[str, ...]
    values: np.ndarray


class Measured(NamedTuple):
    """The result, and the corpora that its images are from."""

    result: TextureResult
    corpora: list[Corpus]


def measure_study(study: Study) -> Measured:
    """On the test images that have a mask. Raises TextureUnavailable without PyRadiomics."""
    require_pyradiomics()
    pairs = chain.from_iterable(product([corpus], corpus.samples) for corpus in study.corpora)
    samples = [(corpus, s) for corpus, s in pairs if s.masks and s.split == "test"]
    versions = study.versions(study.plan.presets, BASELINES[:1], texture=True)
    keep, report = study.parts.get, study.telling("texture")

    def images() -> Iterator[Masked]:
        for corpus, sample, (grey, mask) in study.read(samples, "texture", masked):
            key = f"{corpus.name}/{sample.name}"
            yield Masked(key, grey.pixels, grey.bit_depth, mask, grey.spacing_mm)

    def make() -> TextureResult:
        return measure(images(), versions, len(samples), keep=keep, progress=report)

    result = study.part("texture", make, TextureResult)
    return Measured(result, list({corpus.name: corpus for corpus, _ in samples}.values()))


def measure(
    images: Iterable[Masked],
    versions: Versions,
    total: int,
    *,
    keep: Keep = make_anew,
    progress: Progress = silent,
) -> TextureResult:
    """Features of all versions. total: how many images come.

    Raises UsageError where too few have a mask that gives features.
    """
    rows: list[ImageFeatures] = []
    left_out: list[str] = []
    resampled = 0
    for number, image in enumerate(images):
        make = partial(_of_image, image, versions)
        try:
            rows.append(keep(f"texture {image.key}", make, ImageFeatures))
        except InputError:
            left_out.append(image.key)
        else:
            resampled += image.spacing_mm is not None
        progress("texture", number + 1, total)
    others = [version for version in versions.list if version.through != ORIGINAL]
    if len(rows) < _LEAST or not others:
        raise UsageError(
            f"texture has {len(rows)} image(s) with a mask that gives features, expected at least "
            f"{_LEAST}, and a version besides the original"
        )
    values = np.stack([row.values for row in rows], axis=1)
    compared = [_compared(v, values[0], values[k]) for k, v in enumerate(others, 1)]
    zeros = np.count_nonzero(values[0] == 0, axis=0)
    names = rows[0].features
    return TextureResult(
        names, len(rows), resampled, tuple(left_out), tuple(compared), values, zeros
    )


def _of_image(image: Masked, versions: Versions) -> ImageFeatures:
    order = sorted(versions.list, key=lambda version: version.through != ORIGINAL)
    found = []
    for version in order:
        pixels, _ = versions.get(image.key, image.pixels, image.bit_depth, version)
        found.append(features(pixels, image.mask, image.spacing_mm))
    return ImageFeatures(tuple(found[0]), np.array([list(row.values()) for row in found]))


def _compared(version: Version, original: np.ndarray, other: np.ndarray) -> TextureVersion:
    """original, other: (n, features)."""
    pairs = zip(original.T, other.T, strict=True)
    value, low, high = np.array([icc(*pair) for pair in pairs]).T
    re, are = relative_errors(original, other)
    return TextureVersion(version.name, version.group, value, low, high, re, are)


def relative_errors(original: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RE and ARE (features,): means over images, in %, of those where the original is not 0."""
    known = np.where(original == 0, np.nan, original)
    relative = 100 * (other - known) / np.abs(known)
    with warnings.catch_warnings(action="ignore"):  # nan is the mean of nothing
        return np.nanmean(relative, axis=0), np.nanmean(np.abs(relative), axis=0)


def icc(original: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """ICC(A,1) of two measurements (n) and its 95 % interval, as pingouin rounds it; nan where the
    original never varies.

    Images where either is not finite are left out.
    """
    import pandas  # type: ignore[import-untyped]
    import pingouin

    pairs = np.stack([original, other], axis=1)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < _LEAST or np.ptp(pairs[:, 0]) == 0:
        return (float("nan"),) * 3
    if np.array_equal(pairs[:, 0], pairs[:, 1]):
        return 1.0, 1.0, 1.0
    n = len(pairs)
    long = pandas.DataFrame(
        {"image": np.repeat(np.arange(n), 2), "version": np.tile([0, 1], n), "value": pairs.ravel()}
    )
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        table = pingouin.intraclass_corr(long, targets="image", raters="version", ratings="value")
    row = next(table[table.Type.isin(("ICC(A,1)", "ICC2"))].itertuples())  # pingouin's two names
    low, high = next(value for value in row if np.size(value) == 2)  # CI95, or CI95%
    return float(row.ICC), float(low), float(high)


def count_classes(values: Sequence[float] | np.ndarray) -> ClassCounts:
    """How many ICC fall in each of CLASSES; what is undefined falls in none."""
    known = np.asarray(values)[np.isfinite(values)]
    borders = list(CLASSES.values())[:-1]
    places = np.searchsorted(borders, known, side="left")  # a border belongs to the class below
    return ClassCounts(*(int(np.count_nonzero(places == place)) for place in range(len(CLASSES))))

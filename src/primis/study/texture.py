"""Radiomic features of the lungs in versions of an image (the paper's Fig. 8), by PyRadiomics.

93 features: first order 18, GLCM 24, GLSZM 16, NGTDM 5, GLRLM 16, GLDM 14; within the mask, in 2-D, grey levels in 64 bins
between the mask's least and greatest. Images are resampled to 1 x 1 mm (B-spline; masks by nearest neighbour) where the
pixel spacing is known; pixels stay as they are where it is not.

    relative error RE = 100 (version - original) / |original| in %, its absolute value ARE; means over images
    ICC(A,1): two-way, absolute agreement, single measurement, of version and original (McGraw and Wong 1996)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from primis.errors import InputError, TextureUnavailable, UsageError
from primis.metrics.part import Keep, Part, Progress, make_anew, silent
from primis.study.versions import ORIGINAL, Versions

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
    """An image and where its lungs are. key: names it among the kept parts; pixels, mask: (H, W), mask non-zero in the lung;
    spacing_mm: between rows and between columns, None where unknown."""

    key: str
    pixels: np.ndarray
    bit_depth: int
    mask: np.ndarray
    spacing_mm: tuple[float, float] | None = None


def features(
    pixels: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float] | None = None
) -> dict[str, float]:
    """The 93 features by name, "glcm_Contrast"; nan where PyRadiomics gives none.

    Raises TextureUnavailable without PyRadiomics; InputError where the mask does not fit or holds no region.
    """
    if mask.shape != pixels.shape:
        raise InputError(
            f"a mask has {mask.shape[0]} x {mask.shape[1]} pixels, expected {pixels.shape[0]} x {pixels.shape[1]}"
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


def measure(
    images: Iterable[Masked],
    versions: Versions,
    total: int,
    *,
    keep: Keep = make_anew,
    progress: Progress = silent,
) -> Part:
    """Features of all versions, their errors and their agreement with the original. total: how many images come.

    body: versions and groups (the original left out), features, families (of a feature each), n, resampled (of how many
    the spacing is known), left_out (keys of images whose mask gives no features), classes (a row for each version, see
    CLASSES), share_excellent (None where no ICC is defined).
    arrays: values (1 + versions, n, features), the original first; icc, icc_low, icc_high, re, are (versions, features), nan
    where undefined; zeros (features), how many originals are 0 and so left out of re and are.
    """
    named = {version.name: version for version in versions.list}
    chosen = [ORIGINAL, *(name for name in named if name != ORIGINAL)]
    rows, left_out, resampled = [], [], 0
    for number, image in enumerate(images):
        try:
            part = keep(f"texture {image.key}", lambda image=image: _of_image(image, versions))  # type: ignore[misc]
        except InputError:
            left_out.append(image.key)
        else:
            rows.append(part)
            resampled += image.spacing_mm is not None
        progress("texture", number + 1, total)
    if len(rows) < _LEAST or len(chosen) < 2:
        raise UsageError(f"texture has {len(rows)} image(s) with a mask that gives features, expected at least {_LEAST}, "
                         "and a version besides the original")  # fmt: skip
    names = rows[0].body["features"]
    values = np.stack([part.arrays["values"] for part in rows], axis=1)
    arrays = {"values": values} | _errors(values) | _agreement(values)
    counts = [count_classes(icc) for icc in arrays["icc"]]
    body = {
        "versions": chosen[1:],
        "groups": [named[name].group for name in chosen[1:]],
        "features": names,
        "families": [name.split("_")[0] for name in names],
        "n": len(rows),
        "resampled": resampled,
        "left_out": left_out,
        "classes": counts,
        "share_excellent": [
            c["excellent"] / sum(c.values()) if sum(c.values()) else None for c in counts
        ],
    }
    return Part(body, arrays)


def _of_image(image: Masked, versions: Versions) -> Part:
    """values (versions, features) of one image, the original first."""
    order = sorted(versions.list, key=lambda version: version.through != ORIGINAL)
    found = [
        features(
            versions.get(image.key, image.pixels, image.bit_depth, version)[0],
            image.mask,
            image.spacing_mm,
        )
        for version in order
    ]
    return Part(
        {"features": list(found[0])}, {"values": np.array([list(row.values()) for row in found])}
    )


def _errors(values: np.ndarray) -> dict[str, np.ndarray]:
    """Means over images, in %, of those where the original is not 0."""
    original = np.where(values[0] == 0, np.nan, values[0])
    relative = 100 * (values[1:] - original) / np.abs(original)
    with warnings.catch_warnings(action="ignore"):  # nan is the mean of nothing
        re, are = np.nanmean(relative, axis=1), np.nanmean(np.abs(relative), axis=1)
    return {"re": re, "are": are, "zeros": np.count_nonzero(values[0] == 0, axis=0)}


def _agreement(values: np.ndarray) -> dict[str, np.ndarray]:
    found = np.array(
        [[icc(values[0, :, f], row[:, f]) for f in range(values.shape[2])] for row in values[1:]]
    )
    return {"icc": found[..., 0], "icc_low": found[..., 1], "icc_high": found[..., 2]}


def icc(original: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """ICC(A,1) of two measurements (n) and its 95 % interval, as pingouin rounds it; nan where the original never varies.

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
    row = table[table["Type"].isin(("ICC(A,1)", "ICC2"))].iloc[0]  # pingouin before and since 0.6
    low, high = row["CI95" if "CI95" in row.index else "CI95%"]
    return float(row["ICC"]), float(low), float(high)


def count_classes(values: Sequence[float] | np.ndarray) -> dict[str, int]:
    """How many ICC fall in each of CLASSES; what is undefined falls in none."""
    known = np.asarray(values)[np.isfinite(values)]
    places = np.searchsorted(
        list(CLASSES.values())[:-1], known, side="left"
    )  # a border belongs to the class below
    return {name: int(np.count_nonzero(places == place)) for place, name in enumerate(CLASSES)}

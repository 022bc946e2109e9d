"""How near the versions of many images come to the originals (the paper's Table 1, Figs. 5 and 6, Supp. Fig. 1).

Errors are in grey levels of 255: in units of 1/255 of each image's full scale, so that images of 8 and of 16 bits can be
pooled; for 8 bits these are the grey levels themselves. PSNR and SSIM take each image's own full scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from primis.errors import UsageError
from primis.metrics.fidelity import data_range, fidelity
from primis.metrics.part import Part, Progress, silent
from primis.study.versions import ORIGINAL, Version, Versions

LEVELS = 255
SHOWN = 512
"""Pixels of the longer side of an example, at most."""

MEASURES = {
    "mae": ("MAE", "grey levels of 255", "mean of |restored - original|; lower is better"),
    "me": (
        "ME",
        "grey levels of 255",
        "mean of restored - original, signed: 0 where nothing gets brighter or darker",
    ),
    "me_paper": (
        "ME, paper's",
        "grey levels of 255",
        "what the paper calls ME: without signs, so it equals MAE in every row",
    ),
    "rmse": ("RMSE", "grey levels of 255", "root of the mean squared error; lower is better"),
    "psnr": (
        "PSNR",
        "dB",
        "10 log10(full scale² / MSE); higher is better, infinite for identical images",
    ),
    "ssim": (
        "SSIM",
        "",
        "structural similarity, -1 to 1; higher is better (Wang et al. 2004, window 7, uniform)",
    ),
    "bits": (
        "bits/pixel",
        "bits per pixel",
        "of the coded supports and values, or of the other codec's file; lower is better",
    ),
}
"""By name: what it is called, its unit, what it is."""


class Original(NamedTuple):
    """An image to restore.

    key: what an error calls it; pixels: (H, W), as stored; bit_depth: meaningful bits of a sample;
    inside: (H, W), where it is measured, None for everywhere: padding says nothing of quality.
    """

    key: str
    pixels: np.ndarray
    bit_depth: int
    inside: np.ndarray | None = None


def measure(
    images: Iterable[Original],
    versions: Versions,
    total: int,
    *,
    examples: int = 3,
    progress: Progress = silent,
) -> Part:
    """All measures of all versions. total: how many images come; examples: how many are kept to show, evenly spread.

    body: versions, groups, sparsities (of a version each), measures, units, n, shown (which images are examples), r_squared
    (None where images are flat).
    arrays: measures (versions, n, measures); histogram (versions, 256, 256), pixels by original and restored level;
    original_i (h, w), example_i (versions, h, w) uint8 and difference_i (versions, h, w), restored - original, in grey
    levels of 255. The original itself is not among the versions. Raises UsageError where there is nothing to measure.
    """
    chosen = [version for version in versions.list if version.through != ORIGINAL]
    pools = [_Pool() for _ in chosen]
    rows: list[list[list[float]]] = []
    shown = sorted({round(x) for x in np.linspace(0, total - 1, examples)}) if total else []
    arrays: dict[str, np.ndarray] = {}
    for number, image in enumerate(images):
        restored = [
            versions.get(image.key, image.pixels, image.bit_depth, version) for version in chosen
        ]
        rows.append([_measures(image, out, bits) for out, bits in restored])
        for pool, (out, _) in zip(pools, restored, strict=True):
            pool.add(image, out)
        if number in shown:
            arrays |= _example(image, [out for out, _ in restored], shown.index(number))
        progress("fidelity", number + 1, total)
    if not rows or not chosen:
        raise UsageError(
            "fidelity has nothing to measure, expected at least one image and one version"
        )
    arrays["measures"] = np.array(rows).transpose(1, 0, 2)
    arrays["histogram"] = np.stack([pool.histogram for pool in pools])
    found = {
        "shown": [x for x in shown if x < len(rows)],
        "r_squared": [pool.r_squared for pool in pools],
    }
    return Part(_body(chosen, len(rows)) | found, arrays)


def _body(versions: Sequence[Version], n: int) -> dict[str, Any]:
    return {
        "versions": [version.name for version in versions],
        "groups": [version.group for version in versions],
        "sparsities": [version.sparsity for version in versions],
        "measures": list(MEASURES),
        "units": {name: unit for name, (_, unit, _) in MEASURES.items()},
        "n": n,
    }


def _measures(image: Original, restored: np.ndarray, bits: float) -> list[float]:
    """In the order of MEASURES."""
    full = data_range(image.pixels, image.bit_depth)
    found = fidelity(image.pixels, restored, full, image.inside)
    unit = LEVELS / full
    return [
        found.mae * unit,
        found.me * unit,
        found.mae * unit,
        found.rmse * unit,
        found.psnr,
        found.ssim,
        bits,
    ]


def to_levels(pixels: np.ndarray, image: Original) -> np.ndarray:
    """Grey levels of 255, as fractions, of any version of an image."""
    low = 0 if image.pixels.dtype.kind == "u" else int(image.pixels.min())
    return (pixels.astype(np.float64) - low) * (LEVELS / data_range(image.pixels, image.bit_depth))


class _Pool:
    """All pixels of all images of a version: how often which level became which, and the sums for R²."""

    def __init__(self) -> None:
        self.histogram = np.zeros((LEVELS + 1, LEVELS + 1), np.int64)
        self._sums = np.zeros(6)

    def add(self, image: Original, restored: np.ndarray) -> None:
        inside = slice(None) if image.inside is None else image.inside
        x, y = (to_levels(pixels, image)[inside].ravel() for pixels in (image.pixels, restored))
        cells = np.clip(np.round([x, y]), 0, LEVELS).astype(np.int64)
        self.histogram += np.bincount(
            cells[0] * (LEVELS + 1) + cells[1], minlength=(LEVELS + 1) ** 2
        ).reshape(LEVELS + 1, -1)
        self._sums += [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y]

    @property
    def r_squared(self) -> float | None:
        """Squared correlation of the pooled pixels, not of the histogram's cells; None where one side is flat."""
        n, x, y, xx, yy, xy = self._sums
        spread = (n * xx - x * x) * (n * yy - y * y)
        return float((n * xy - x * y) ** 2 / spread) if spread > 0 else None


def _example(image: Original, restored: Sequence[np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The pictures of one image, small enough to print: levels are means of blocks, differences the largest of each."""
    step = -(-max(image.pixels.shape) // SHOWN)
    original = to_levels(image.pixels, image)
    levels = [to_levels(out, image) for out in restored]
    differences = np.stack([_largest(_blocks(x - original, step)) for x in levels])
    small = [
        np.clip(np.round(_blocks(x, step).mean(axis=(1, 3))), 0, LEVELS).astype(np.uint8)
        for x in (original, *levels)
    ]
    return {
        f"original_{number}": small[0],
        f"example_{number}": np.stack(small[1:]),
        f"difference_{number}": differences.astype(np.float32),
    }


def _blocks(pixels: np.ndarray, step: int) -> np.ndarray:
    """(H, W) -> (h, step, w, step), without what is left at the border."""
    h, w = pixels.shape[0] // step, pixels.shape[1] // step
    return pixels[: h * step, : w * step].reshape(h, step, w, step)


def _largest(blocks: np.ndarray) -> np.ndarray:
    """The value of each block that is furthest from zero, so that printing small hides no error."""
    high, low = blocks.max(axis=(1, 3)), blocks.min(axis=(1, 3))
    return np.where(high >= -low, high, low)

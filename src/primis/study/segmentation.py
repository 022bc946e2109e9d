"""Are organs outlined on restored images as on originals? U-Nets trained on each version of the images, tested on all.

A network works on squares of one side. Its probabilities are brought back to the image's own size (linear interpolation) and
cut at 0.5 there, so every measure compares masks as large as the image, in millimetres where the spacing of all test
images is known, else in pixels of the image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import lru_cache, partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from primis.attacks.learning import (
    SPLITS,
    Learner,
    Pairs,
    Recipe,
    infer,
    middle,
    redrawn,
    resampled,
    squared,
    standardised,
    stepwise,
    trained,
)
from primis.errors import UsageError
from primis.metrics.part import Keep, Part, Progress, make_anew, silent
from primis.metrics.statistics import Estimate
from primis.study.versions import ORIGINAL

_SHOWN = 4

SMALL = Learner("small", 128, Recipe(epochs=16, steps=850, batch=8, rate=4e-3), (0, 1))
FULL = Learner("unet", 256, Recipe(epochs=60, steps=10_000, batch=16, rate=2e-3), (0, 1))
QUICK = Learner("small", 48, Recipe(epochs=20, steps=60, batch=8, rate=1e-2), (0,))

_NETWORKS: dict[str, tuple[int, ...]] = {
    "small": (8, 16, 32, 64, 128),
    "unet": (32, 64, 128, 256, 512),
}
"""Channels of each level."""


@dataclass(frozen=True)
class Overlap:
    """How a predicted mask P agrees with the true one T, both of one size.

    dice                  2 |P and T| / (|P| + |T|), 0 to 1, higher is better; 1 where both are empty
    jaccard               |P and T| / |P or T|, likewise
    false_negative        |T without P| / |T|: part of the organ that was missed; 0 where T is empty
    false_positive        |P without T| / |not T|: part of the rest that was marked; 0 where T is everything
    false_discovery       |P without T| / |P|: part of the marked that is wrong; 0 where P is empty. Of the two, only this
                          is in keeping with the Dice that the paper gives beside its false positives
    mean_distance, sd_distance
                          of the distances from each contour pixel of either mask to the nearest of the other's
    hausdorff             the largest of them
    hausdorff_95          the 95th percentile from either side, the larger one

    Distances are lower when better; 0 where both masks are empty, and where one is, the diagonal of the image (SD 0).
    """

    dice: float
    jaccard: float
    false_negative: float
    false_positive: float
    false_discovery: float
    mean_distance: float
    sd_distance: float
    hausdorff: float
    hausdorff_95: float


MEASURES = tuple(measure.name for measure in fields(Overlap))


@dataclass(frozen=True, eq=False)
class Examples:
    """images: (n, h, w) of each version at the network's side, the originals among them; the rest: one entry an image.

    masks: (H, W) bool, of each image's own size. splits: train, val or test, no patient in two of them. spacing_mm: of rows
    and columns of the mask, or None. pictures: (H, W) uint8 of images by name, to be shown with contours; those of
    `shown` that lack one are shown as the network sees them.
    """

    images: Mapping[str, np.ndarray]
    masks: Sequence[np.ndarray]
    names: tuple[str, ...]
    splits: tuple[str, ...]
    patients: tuple[str, ...]
    spacing_mm: tuple[tuple[float, float] | None, ...]
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if ORIGINAL not in self.images:
            raise UsageError(
                f'images have versions "{", ".join(self.images)}", expected "{ORIGINAL}" among them'
            )
        lengths = {len(images) for images in self.images.values()}
        lengths |= {
            len(told)
            for told in (self.masks, self.names, self.splits, self.patients, self.spacing_mm)
        }
        if len(lengths) > 1:
            raise UsageError(f"examples have {sorted(lengths)} entries, expected as many of each")
        for split in SPLITS:
            if split not in self.splits:
                raise UsageError(
                    f'no image with a mask is in split "{split}", expected some in each'
                )

    def of(self, split: str) -> np.ndarray:
        """The rows of a split."""
        return np.flatnonzero(np.array(self.splits) == split)

    @property
    def shown(self) -> list[int]:
        """Rows of the test images whose contours are drawn: evenly spaced by name, so nobody picked them."""
        rows = sorted(self.of("test"), key=lambda row: self.names[row])
        step = max(1, len(rows) // _SHOWN)
        return [int(row) for row in rows[step // 2 :: step]][:_SHOWN]

    @property
    def unit(self) -> str:
        """Of distances: mm where the spacing of all test images is known, else px."""
        return "px" if any(self.spacing_mm[row] is None for row in self.of("test")) else "mm"


@dataclass(frozen=True)
class Cell:
    """What networks trained on one version do on another. measures: by name, means over test images (of the mean over
    seeds), sd over images. difference: in Dice, from the same networks on original images; from_originals: from networks
    trained and tested on originals. Intervals are by resampling patients, in pairs for differences; for from_originals, where
    the networks differ too, seeds are drawn anew as well."""

    measures: dict[str, Estimate]
    difference: Estimate
    from_originals: Estimate


def learner() -> Learner:
    """A large U-Net where there is a GPU, a small one elsewhere."""
    return FULL if torch.cuda.is_available() else SMALL


def cross_grid(
    examples: Examples, versions: Sequence[str], learner: Learner, progress: Progress = silent, *,
    tested: Sequence[str] | None = None, keep: Keep = make_anew,
) -> Part:  # fmt: skip
    """A U-Net for each version and seed, and how its masks agree with the true ones, on the test images of each of `tested`,
    by default the same.

    Arrays: measures (train version, test version, seed, test image, measure), named by MEASURES; patients (test image,),
    numbered; for each image shown, `picture i` (H, W), `truth i` (H, W) and `masks i` (train version, test version, H, W)
    by the first seed.

    keep: where each single training is put; it must belong to these examples and this learner.
    """
    tested = list(tested or versions)
    steps = learner.recipe.length(len(examples.of("train")))
    total = len(versions) * len(learner.seeds) * steps
    parts: list[Part] = []
    for version in versions:
        for seed in learner.seeds:
            what = f"segmentation, trained on {version}, seed {seed}"
            report = stepwise(progress, what, len(parts) * steps, total)
            make = partial(_train, examples, version, tested, learner, seed, report)
            parts.append(keep(what, make))
    test = examples.of("test")
    seeds = len(learner.seeds)
    measured = np.stack([part.arrays["measures"] for part in parts])
    arrays = {
        "measures": measured.reshape(len(versions), seeds, *measured.shape[1:]).transpose(
            0, 2, 1, 3, 4
        ),
        "patients": np.unique([examples.patients[row] for row in test], return_inverse=True)[1],
    }
    for i, row in enumerate(examples.shown):
        arrays[f"picture {i}"] = _picture(examples, row)
        arrays[f"truth {i}"] = examples.masks[row]
        arrays[f"masks {i}"] = np.stack([part.arrays[f"masks {i}"] for part in parts[::seeds]])
    body = {
        "versions": list(versions), "tested": tested, "learner": asdict(learner), "unit": examples.unit,
        "measures": list(MEASURES),
        "best": [part.body["best"] for part in parts], "empty": sum(part.body["empty"] for part in parts),
        "counts": {split: len(examples.of(split)) for split in SPLITS},
        "patients": {split: len({examples.patients[row] for row in examples.of(split)}) for split in SPLITS},
        "shown": [examples.names[row] for row in examples.shown],
    }  # fmt: skip
    return Part(body, arrays)


@lru_cache(maxsize=16)
def metrics(part: Part) -> dict[tuple[str, str], Cell]:
    """How each network does on each version, by (version trained on, version tested on)."""
    versions, tested, patients = part.body["versions"], part.body["tested"], part.arrays["patients"]
    values = part.arrays["measures"].mean(2)  # (T, V, n, m)
    dice = part.arrays["measures"][..., MEASURES.index("dice")]  # (T, V, seeds, n)
    rng = np.random.default_rng(0)
    blocks = [w / w.sum(1, keepdims=True) for w in resampled(np.zeros(len(patients)), patients)]
    weights = np.concatenate(blocks)  # (r, n)
    retrained = np.concatenate([redrawn(dice, rng) @ w.T for w in blocks], 2)  # (T, V, r)
    mean, first, own = dice.mean(2), versions.index(ORIGINAL), tested.index(ORIGINAL)

    def estimate(x: np.ndarray, draws: np.ndarray | None = None) -> Estimate:
        bounds = middle(weights @ x if draws is None else draws)
        return Estimate(
            float(x.mean()), *bounds, len(x), float(x.std(ddof=1)) if len(x) > 1 else None
        )

    return {
        (trained_on, tested_on): Cell(
            {name: estimate(values[t, v, :, m]) for m, name in enumerate(MEASURES)},
            estimate(mean[t, v] - mean[t, own]),
            estimate(mean[t, v] - mean[first, own], retrained[t, v] - retrained[first, own]),
        )
        for t, trained_on in enumerate(versions) for v, tested_on in enumerate(tested)
    }  # fmt: skip


def overlap(
    truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)
) -> Overlap:
    """All measures of two masks (H, W) bool; spacing: of rows and columns, which gives distances their unit."""
    both, either = int((truth & guess).sum()), int((truth | guess).sum())
    t, p = int(truth.sum()), int(guess.sum())
    return Overlap(
        2 * both / (t + p) if either else 1.0, both / either if either else 1.0, _part(t - both, t),
        _part(p - both, truth.size - t), _part(p - both, p), *_distances(truth, guess, spacing),
    )  # fmt: skip


def _part(some: int, whole: int) -> float:
    return some / whole if whole else 0.0


def _distances(
    truth: np.ndarray, guess: np.ndarray, spacing: tuple[float, float]
) -> tuple[float, float, float, float]:
    from monai.metrics.utils import get_edge_surface_distance

    if not truth.any() or not guess.any():
        far = (
            float(np.hypot(*(np.array(truth.shape) * spacing)))
            if truth.any() or guess.any()
            else 0.0
        )
        return far, 0.0, far, far
    masks = torch.from_numpy(guess), torch.from_numpy(truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of what it does itself
        _, sides, _ = get_edge_surface_distance(*masks, spacing=list(spacing), symmetric=True)
    pooled = torch.cat(sides).double()
    far_95 = max(float(torch.quantile(side.double(), 0.95)) for side in sides)
    return float(pooled.mean()), float(pooled.std(correction=0)), float(pooled.max()), far_95


def _train(
    examples: Examples,
    version: str,
    versions: Sequence[str],
    learner: Learner,
    seed: int,
    report: Callable[[int], None],
) -> Part:
    from monai.losses import DiceCELoss

    loss = cast(Callable[[Tensor, Tensor], Tensor], DiceCELoss(sigmoid=True))
    learn, judge = (_pairs(examples, version, split) for split in ("train", "val"))
    net, course = trained(
        lambda: network(learner.network),
        loss,
        learn,
        judge,
        learner.recipe,
        seed=seed,
        report=report,
    )
    measured, empty = [], 0
    shown: list[list[np.ndarray]] = [[] for _ in examples.shown]
    for other in versions:
        logits = infer(
            net, standardised(examples.images[other][examples.of("test")]), learner.recipe.batch
        )
        masks = {
            row: _own_size(x, examples.masks[row])
            for row, x in zip(examples.of("test"), logits, strict=True)
        }
        measured.append(
            [
                astuple(overlap(examples.masks[row], mask, _spacing(examples, row)))
                for row, mask in masks.items()
            ]
        )
        empty += sum(not mask.any() for mask in masks.values())
        for kept, row in zip(shown, examples.shown, strict=True):
            kept.append(masks[row])
    arrays = {"measures": np.array(measured)} | {
        f"masks {i}": np.stack(kept) for i, kept in enumerate(shown)
    }
    return Part({"losses": list(course.losses), "best": course.best, "empty": empty}, arrays)


def network(name: str) -> nn.Module:
    """MONAI's U-Net, `small` (408,000 weights) or `unet` (6,500,000)."""
    from monai.networks.nets import UNet

    if name not in _NETWORKS:
        raise UsageError(f'network "{name}" is unknown, expected "small" or "unet"')
    channels = _NETWORKS[name]
    strides = (2,) * (len(channels) - 1)
    return cast(nn.Module, UNet(2, 1, 1, channels, strides, num_res_units=2, norm="batch"))


def _pairs(examples: Examples, version: str, split: str) -> Pairs:
    rows = examples.of(split)
    images = examples.images[version][rows]
    masks = np.stack([squared(examples.masks[row], images.shape[-1]) > 0.5 for row in rows])
    return Pairs(standardised(images), torch.from_numpy(masks[:, None].astype(np.float32)))


def _own_size(logits: Tensor, mask: np.ndarray) -> np.ndarray:
    """(H, W) bool of (1, h, w)."""
    shares = functional.interpolate(
        logits[None].sigmoid(), mask.shape, mode="bilinear", align_corners=False
    )
    return (shares[0, 0] > 0.5).numpy()


def _spacing(examples: Examples, row: int) -> tuple[float, float]:
    known = examples.spacing_mm[row]
    return known if known is not None and examples.unit == "mm" else (1.0, 1.0)


def _picture(examples: Examples, row: int) -> np.ndarray:
    """What contours are drawn on: (H, W) uint8."""
    if (own := examples.pictures.get(examples.names[row])) is not None:
        return own
    small = torch.from_numpy(examples.images[ORIGINAL][row].astype(np.float32))[None, None]
    small = (small - small.min()) / (small.max() - small.min()).clamp_min(1e-6)
    shape = examples.masks[row].shape
    large = functional.interpolate(small, shape, mode="bicubic", align_corners=False)[0, 0]
    return (large.clamp(0, 1) * 255).round().numpy().astype(np.uint8)

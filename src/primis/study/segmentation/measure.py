"""Are organs outlined on restored images as on originals? U-Nets trained on each version of the
images, tested on all.

A network works on squares of one side. Its probabilities are brought back to the image's own size
(linear interpolation) and cut at 0.5 there, so every measure compares masks as large as the image,
in millimetres where the spacing of all test images is known, else in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, product
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from primis.attacks.learning import (
    SPLITS,
    Course,
    Learner,
    Pairs,
    infer,
    squared,
    standardised,
    stepwise,
    trained,
)
from primis.datasets.corpus import Corpus
from primis.datasets.sample import Grey
from primis.errors import UsageError
from primis.metrics.part import Keep, make_anew
from primis.metrics.progress import Progress, silent
from primis.study.segmentation.overlap import Overlap, overlap
from primis.study.sized import Sized, trained_and_tested
from primis.study.splits import PerSplit
from primis.study.study import BASELINES, Picked, Study, masked
from primis.study.versions import ORIGINAL

_SHOWN = 4

_NETWORKS: dict[str, tuple[int, ...]] = {
    "small": (8, 16, 32, 64, 128),
    "unet": (32, 64, 128, 256, 512),
}
"""Channels of each level."""


@dataclass(frozen=True, eq=False)
class Examples:
    """images: (n, h, w) of each version at the network's side, the originals among them; the rest:
    one entry an image.

    masks: (H, W) bool, of each image's own size. splits: train, val or test, no patient in two of
    them. spacing_mm: of rows and columns of the mask, or None. pictures: (H, W) uint8 of images by
    name, to be shown with contours; those of `shown` that lack one are shown as the network sees
    them.
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
        columns = self.masks, self.names, self.splits, self.patients, self.spacing_mm
        lengths = {len(images) for images in self.images.values()}
        lengths |= {len(column) for column in columns}
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
        """Rows of the test images whose contours are drawn: evenly spaced by name, so nobody picked
        them.
        """
        rows = sorted(self.of("test"), key=lambda row: self.names[row])
        step = max(1, len(rows) // _SHOWN)
        return [int(row) for row in rows[step // 2 :: step]][:_SHOWN]

    @property
    def unit(self) -> str:
        """Of distances: mm where the spacing of all test images is known, else px."""
        return "px" if any(self.spacing_mm[row] is None for row in self.of("test")) else "mm"


@dataclass(frozen=True, eq=False)
class Shown:
    """An image with contours.

    picture, truth: (H, W); masks: (train version, test version, H, W), by the first seed.
    """

    name: str
    picture: np.ndarray = field(repr=False)
    truth: np.ndarray = field(repr=False)
    masks: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """How the masks of all networks agree with the true ones.

    versions: that networks are trained on; tested: that they are tested on. best: the epoch that
    was kept of each training. empty: predicted masks without a pixel. unit: of distances. names: of
    the test images. values: an array (train version, test version, seed, test image) of each
    measure. persons: (test image,), patients, numbered.
    """

    versions: tuple[str, ...]
    tested: tuple[str, ...]
    learner: Learner
    best: tuple[int, ...]
    empty: int
    unit: str
    counts: PerSplit[int]
    patients: PerSplit[int]
    names: tuple[str, ...]
    shown: tuple[Shown, ...]
    values: Overlap[np.ndarray] = field(repr=False)
    persons: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Trained:
    """One network: its course; (test version, test image) of each measure; masks (test version, H,
    W) of images shown.
    """

    course: Course
    empty: int
    values: Overlap[np.ndarray]
    masks: tuple[np.ndarray, ...]


class Measured(NamedTuple):
    """The result, and the corpora that its images are from."""

    result: SegmentationResult
    corpora: list[Corpus]


def measure_study(study: Study) -> Measured:
    """On all images with masks. Raises UsageError where a split has none."""
    pairs = chain.from_iterable(product([corpus], corpus.samples) for corpus in study.corpora)
    samples = [(corpus, sample) for corpus, sample in pairs if sample.masks]
    if {sample.split for _, sample in samples} != set(SPLITS):
        raise UsageError("segmentation needs images with masks in each split")
    versions = study.versions(study.plan.presets, BASELINES[:1])
    learn, test = trained_and_tested(versions)
    learner, report = study.plan.segmenter, study.telling("segmentation")

    def make() -> SegmentationResult:
        examples = _examples(study, samples, Sized(study, versions, learn))
        return cross_grid(examples, learn, learner, report, tested=test, keep=study.parts.get)

    result = study.part("segmentation", make, SegmentationResult)
    return Measured(result, list({corpus.name: corpus for corpus, _ in samples}.values()))


def _examples(study: Study, samples: Sequence[Picked], sized: Sized) -> Examples:
    """Of the images that can be read, with their masks."""
    read = {(c.name, s.name): pair for c, s, pair in study.read(samples, "masks", masked)}
    known = [(c, s) for c, s in samples if (c.name, s.name) in read]
    readable, images = sized.of(known, study.plan.segmenter.side)
    greys, masks = zip(*(read[c.name, s.name] for c, s in readable), strict=True)
    names = tuple(f"{corpus.name}/{s.name}" for corpus, s in readable)
    shown = zip(names, readable, greys, strict=True)
    return Examples(
        images,
        masks,
        names,
        tuple(s.split or "" for _, s in readable),
        tuple(f"{corpus.name} {s.patient}" for corpus, s in readable),
        tuple(grey.spacing_mm for grey in greys),
        {name: _displayed(grey) for name, (_, s), grey in shown if s.split == "test"},
    )


def _displayed(grey: Grey) -> np.ndarray:
    """(H, W) uint8, as people look at it."""
    low, high = float(grey.pixels.min()), float(grey.pixels.max())
    scaled = (grey.pixels.astype(np.float32) - low) * (255 / max(high - low, 1))
    return np.round(255 - scaled if grey.photometric == "MONOCHROME1" else scaled).astype(np.uint8)


def cross_grid(
    examples: Examples,
    versions: Sequence[str],
    learner: Learner,
    progress: Progress = silent,
    *,
    tested: Sequence[str] | None = None,
    keep: Keep = make_anew,
) -> SegmentationResult:
    """A U-Net for each version and seed, and how its masks agree with the true ones, on the test
    images of each of `tested`.

    tested: by default the same versions. keep: where each single training is put; it must belong to
    these examples and this learner.
    """
    judged = list(tested or versions)
    steps = learner.recipe.length(len(examples.of("train")))
    total = len(versions) * len(learner.seeds) * steps
    networks: list[Trained] = []
    for version, seed in product(versions, learner.seeds):
        what = f"segmentation, trained on {version}, seed {seed}"
        report = stepwise(progress, what, len(networks) * steps, total)
        make = partial(_train, examples, version, judged, learner, seed, report)
        networks.append(keep(what, make, Trained))
    return _gathered(examples, versions, judged, learner, networks)


def _gathered(
    examples: Examples,
    versions: Sequence[str],
    tested: Sequence[str],
    learner: Learner,
    networks: Sequence[Trained],
) -> SegmentationResult:
    seeds, test = len(learner.seeds), examples.of("test")

    def stacked(each: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(each).reshape(len(versions), seeds, *each[0].shape).swapaxes(1, 2)

    def people(split: str) -> list[str]:
        return [examples.patients[row] for row in examples.of(split)]

    first = networks[::seeds]
    return SegmentationResult(
        versions=tuple(versions),
        tested=tuple(tested),
        learner=learner,
        best=tuple(network.course.best for network in networks),
        empty=sum(network.empty for network in networks),
        unit=examples.unit,
        counts=PerSplit.of(lambda split: len(examples.of(split))),
        patients=PerSplit.of(lambda split: len(set(people(split)))),
        names=tuple(examples.names[row] for row in test),
        shown=tuple(_shown(examples, i, first) for i in range(len(examples.shown))),
        values=Overlap(
            *(stacked(each) for each in zip(*(n.values.each() for n in networks), strict=True))
        ),
        persons=np.unique(people("test"), return_inverse=True)[1],
    )


def _shown(examples: Examples, number: int, networks: Sequence[Trained]) -> Shown:
    row = examples.shown[number]
    masks = np.stack([network.masks[number] for network in networks])
    return Shown(examples.names[row], _picture(examples, row), examples.masks[row], masks)


def _train(
    examples: Examples,
    version: str,
    tested: Sequence[str],
    learner: Learner,
    seed: int,
    report: Callable[[int], None],
) -> Trained:
    from monai.losses import DiceCELoss

    loss = cast(Callable[[Tensor, Tensor], Tensor], DiceCELoss(sigmoid=True))
    learn, judge = (_pairs(examples, version, split) for split in ("train", "val"))
    make = partial(network, learner.network)
    net, course = trained(make, loss, learn, judge, learner.recipe, seed=seed, report=report)
    truths = [examples.masks[row] for row in examples.of("test")]
    spacings = [_spacing(examples, row) for row in examples.of("test")]
    overlaps: list[list[Overlap[float]]] = []
    shown: list[list[np.ndarray]] = [[] for _ in examples.shown]
    empty = 0
    for guesses in _guesses(examples, net, tested, learner.recipe.batch):
        masks = list(guesses.values())
        empty += sum(not mask.any() for mask in masks)
        overlaps.append([overlap(*each) for each in zip(truths, masks, spacings, strict=True)])
        for kept, row in zip(shown, examples.shown, strict=True):
            kept.append(guesses[row])
    table = np.array([[each.each() for each in line] for line in overlaps])  # (V, n, measures)
    values = Overlap(*np.moveaxis(table, -1, 0))
    return Trained(course, empty, values, tuple(np.stack(kept) for kept in shown))


def _guesses(
    examples: Examples, net: nn.Module, tested: Sequence[str], batch: int
) -> Iterator[dict[int, np.ndarray]]:
    """Of each version, the masks of the test images by row, each of its image's own size."""
    rows = examples.of("test")
    for version in tested:
        logits = infer(net, standardised(examples.images[version][rows]), batch)
        pairs = zip(rows, logits, strict=True)
        yield {int(row): _own_size(x, examples.masks[row]) for row, x in pairs}


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

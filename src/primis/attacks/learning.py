"""What classification and segmentation share: a loop that trains a network, and resampling of the
images it is judged by.

The same seed gives the same start, order and augmentation whatever the images are, so networks
trained on two versions of the same images differ by the versions alone. On a CPU a run repeats bit
for bit; on a GPU nearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from primis.metrics.progress import Progress

SPLITS = ("train", "val", "test")

_RESAMPLES = 2000
_BLOCK = 40
_LEVEL = 0.95
_CLIP = 1.0
_SETTLED = 2 / 3
"""Chosen from: before, at a high rate, the loss on a few dozen images is low by chance."""


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, one cycle of the rate, then the weights that did best on
    validation among the epochs of the last third.

    epochs: passes over the images, fewer where they take more than `steps` steps of `batch` images.
    rate: the highest. shift: up to this part of the side; turn: up to so many degrees; zoom: up to
    this part, larger or smaller. flip: also mirrored, which moves a heart to the wrong side, so
    never for chests.
    """

    epochs: int
    steps: int
    batch: int
    rate: float
    decay: float = 1e-2
    shift: float = 0.05
    turn: float = 7.0
    zoom: float = 0.08
    flip: bool = False

    def length(self, images: int) -> int:
        """Steps in all, for so many images."""
        return min(self.epochs * self.a_pass(images), self.steps)

    def a_pass(self, images: int) -> int:
        """Steps of an epoch."""
        return -(-images // self.batch)


@dataclass(frozen=True)
class Learner:
    """Which network, side of the images in pixels, training, and seeds: one run for each."""

    network: str
    side: int
    recipe: Recipe
    seeds: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pairs:
    """x: (n, 1, h, w) standardised images; y: (n,) classes, or (n, 1, h, w) masks of 0 and 1."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Course:
    """Validation loss after each epoch and at the end; best: the epoch that was kept, from 0."""

    losses: tuple[float, ...]
    best: int


def squared(frame: np.ndarray, side: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """(side, side) float32 of a frame (H, W), low..high to 0..1. Both axes are brought to the side,
    so the outline of the frame, which tells one clinic from another, is not seen; area-true where
    it shrinks."""
    x = torch.from_numpy((frame.astype(np.float32) - low) / (high - low))[None, None]
    return functional.interpolate(
        x, (side, side), mode="bilinear", antialias=True, align_corners=False
    )[0, 0].numpy()


def standardised(images: np.ndarray) -> Tensor:
    """(n, 1, h, w) of (n, h, w): each image at mean 0 and SD 1."""
    x = torch.from_numpy(np.ascontiguousarray(images, np.float32))[:, None]
    return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True).clamp_min(1e-6)


def trained(
    make: Callable[[], nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    learn: Pairs,
    judge: Pairs,
    recipe: Recipe,
    *,
    seed: int,
    report: Callable[[int], None] = lambda step: None,
) -> tuple[nn.Module, Course]:
    """A network trained on `learn`, from the late epoch with the lowest loss on `judge`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().to(device())
    faster: Any = network  # the order of samples is, above all on a CPU
    faster.to(memory_format=torch.channels_last)
    draw = torch.Generator().manual_seed(seed)
    steps, epoch = recipe.length(len(learn.x)), recipe.a_pass(len(learn.x))
    optimiser = torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    losses: list[float] = []
    best, weights = -1, network.state_dict()
    for step, rows in zip(range(1, steps + 1), _orders(len(learn.x), epoch, draw), strict=False):
        network.train()
        x, y = augmented(learn.x[rows], learn.y[rows], recipe, draw)
        optimiser.zero_grad()
        loss(network(placed(x)), y.to(device())).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimiser.step()
        cycle.step()
        if step % epoch == 0 or step == steps:
            losses.append(float(loss(infer(network, judge.x, recipe.batch), judge.y)))
            if step >= _SETTLED * steps and (best < 0 or losses[-1] <= losses[best]):
                best, weights = len(losses) - 1, deepcopy(network.state_dict())
        report(step)
    network.load_state_dict(weights)
    return network.eval(), Course(tuple(losses), best)


def _orders(images: int, parts: int, draw: torch.Generator) -> Iterator[Tensor]:
    """Rows of each batch, all images once an epoch; none is left with one image to normalise."""
    while True:
        yield from torch.randperm(images, generator=draw).tensor_split(parts)


def augmented(x: Tensor, y: Tensor, recipe: Recipe, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch moved a little, masks along with it; beyond the edge the edge is repeated."""
    angle, zoom, across, down, mirror = torch.rand(5, len(x), generator=draw) * 2 - 1
    angle = angle * np.pi * recipe.turn / 180
    scale = torch.exp(zoom * np.log1p(recipe.zoom))
    flip = torch.where(mirror < 0, -1.0, 1.0) if recipe.flip else torch.ones(len(x))
    rows = [
        [scale * flip * angle.cos(), -scale * angle.sin(), 2 * recipe.shift * across],
        [scale * flip * angle.sin(), scale * angle.cos(), 2 * recipe.shift * down],
    ]
    moves = torch.stack([torch.stack(row, 1) for row in rows], 1)  # (b, 2, 3)
    grid = functional.affine_grid(moves, list(x.shape), align_corners=False)
    moved = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    if y.ndim == 4:
        y = (functional.grid_sample(y, grid, padding_mode="border", align_corners=False) > 0.5).to(
            y.dtype
        )
    return moved, y


def placed(x: Tensor) -> Tensor:
    """Where the network is, in the order it computes in."""
    return x.to(device(), memory_format=torch.channels_last)


@torch.no_grad()
def infer(network: nn.Module, x: Tensor, batch: int) -> Tensor:
    """The network's output for all images, on the CPU."""
    network.eval()
    return torch.cat([network(placed(part)).cpu() for part in torch.split(x, batch)])


def resampled(strata: np.ndarray, patients: np.ndarray, *, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks (r, n) of how often each image is drawn, 2000 draws in all: patients with replacement,
    as many as there are, within each stratum. The same strata, patients and seed give the same
    draws, so that figures can be compared in pairs.
    """
    rng = np.random.default_rng(seed)
    _, cluster = np.unique(
        [f"{stratum} {patient}" for stratum, patient in zip(strata, patients, strict=True)],
        return_inverse=True,
    )
    groups = [np.unique(cluster[strata == stratum]) for stratum in np.unique(strata)]
    for _ in range(_RESAMPLES // _BLOCK):
        drawn = np.zeros((_BLOCK, int(cluster.max()) + 1))
        for group in groups:
            drawn[:, group] = rng.multinomial(
                len(group), np.full(len(group), 1 / len(group)), _BLOCK
            )
        yield drawn[:, cluster]


def redrawn(figures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, V, ...) of (T, V, seeds, ...): means over seeds drawn anew, version by version."""
    picks = rng.integers(figures.shape[2], size=(len(figures), figures.shape[2]))
    return np.stack([figure[:, pick].mean(1) for figure, pick in zip(figures, picks, strict=True)])


def middle(draws: np.ndarray) -> tuple[float, float]:
    """The bounds of the middle 95 % of resampled figures."""
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def stepwise(progress: Progress, what: str, before: int, total: int) -> Callable[[int], None]:
    """Reports for one of several trainings of `total` steps together, `before` of them done."""
    return lambda step: progress(what, before + step, total)

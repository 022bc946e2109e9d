"""What is trained on, random crops of images, and what is judged by, the middle of some."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from primis.datasets.frames import Frame, Frames
from primis.training.recipe import Recipe, log_uniform

_SIDE = 512


class Batch(NamedTuple):
    """x: (b, 1, patch, patch) in units of its image's range; the rest (b, 1, 1, 1)."""

    x: Tensor
    sparsity: Tensor
    preview: Tensor
    threshold: Tensor


class Patches(Dataset[Batch]):
    """Random crops, flipped and turned, at full bit depth: one epoch of them."""

    def __init__(self, frames: Frames, recipe: Recipe, epoch: int, count: int) -> None:
        self._frames, self._recipe, self._epoch, self._count = frames, recipe, epoch, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        recipe = self._recipe
        rng = np.random.default_rng((recipe.seed, self._epoch, number))
        frame = self._frames.draw(rng)
        y, x = (int(rng.integers(side - recipe.patch + 1)) for side in frame.pixels.shape)
        crop = in_range(frame, slice(y, y + recipe.patch), slice(x, x + recipe.patch))
        crop = np.rot90(crop, int(rng.integers(4)))
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        draws = [
            log_uniform(rng, recipe.sparsity),
            rng.random() < recipe.preview_share,
            log_uniform(rng, recipe.thresholds),
        ]
        sparsity, preview, threshold = (torch.tensor(float(d)).reshape(1, 1, 1) for d in draws)
        x_ = torch.from_numpy(np.ascontiguousarray(crop))[None]
        return Batch(x_, sparsity, preview, threshold)


def in_range(frame: Frame, rows: slice, columns: slice) -> np.ndarray:
    """A part of a frame in units of its range, zero in the middle, float32."""
    part = frame.pixels[rows, columns].astype(np.float32)
    scaled: np.ndarray = (part - (frame.low + frame.high) / 2) / max(frame.high - frame.low, 1)
    return scaled


def whole_images(frames: Frames, stride: int, count: int) -> list[Tensor]:
    """The middle of about `count` images, as tensors (1, H, W) in units of their range."""
    images = []
    for frame in frames.some(count):
        rows, columns = (_middle(side, stride) for side in frame.pixels.shape)
        images.append(torch.from_numpy(in_range(frame, rows, columns))[None])
    return images


def _middle(whole: int, stride: int) -> slice:
    """A part of a side, of at most _SIDE pixels, a multiple of four positions if there are four."""
    block = 4 * stride
    side = min(whole, _SIDE) // block * block or whole // stride * stride
    start = (whole - side) // 2
    return slice(start, start + side)

"""Top-S and the quantiser, for training (the codec does the same on NumPy arrays, `codes/sparse.py`)."""

from __future__ import annotations

import torch
from torch import Tensor


def top_s_threshold(z: Tensor, sparsity: Tensor) -> Tensor:
    """The magnitude that S_x entries per position reach, on average over each image.

    z: (b, LM, h, w); sparsity: (b,), S_x per position. Returns (b, 1, 1, 1).
    """
    magnitudes = z.detach().abs().flatten(1)
    positions = z.shape[2] * z.shape[3]
    keep = (sparsity * positions).round().long().clamp(1, magnitudes.shape[1])
    ordered = magnitudes.sort(dim=1, descending=True).values
    return ordered.gather(1, keep[:, None] - 1)[:, :, None, None]


def quantise(z: Tensor, threshold: Tensor) -> Tensor:
    """Levels sign(z) floor(|z| / t): zero below the threshold, so top-S and rounding are one step."""
    return torch.sign(z) * torch.floor(z.abs() / threshold)

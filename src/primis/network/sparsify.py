"""Top-S, the quantiser and the transform of the DC plane, for training.

The codec does the same on NumPy arrays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from primis.codes.dc_plane import dc_matrix
from primis.codes.sparse import RECONSTRUCTION_OFFSET


def transform_dc(z: Tensor) -> Tensor:
    """Atom 0 of z (b, LM, h, w) transformed once more, by blocks of positions."""
    return _with_dc(z, *(_matrix(z, axis) for axis in (2, 3)))


def restore_dc(z: Tensor) -> Tensor:
    """Inverse of `transform_dc`."""
    return _with_dc(z, *(_matrix(z, axis).T for axis in (2, 3)))


def _matrix(z: Tensor, axis: int) -> Tensor:
    return torch.from_numpy(dc_matrix(z.shape[axis]).copy()).to(z.device)


def _with_dc(z: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return torch.cat([rows @ z[:, :1] @ columns.T, z[:, 1:]], 1)


def top_s_threshold(z: Tensor, sparsity: Tensor) -> Tensor:
    """The magnitude that S_x entries per position reach, on average over each image.

    z: (b, LM, h, w); sparsity: (b,), S_x per position. Returns (b, 1, 1, 1).
    """
    magnitudes = z.detach().abs().flatten(1)
    positions = z.shape[2] * z.shape[3]
    keep = (sparsity * positions).round().long().clamp(1, magnitudes.shape[1])
    most = magnitudes.topk(int(keep.max()), dim=1).values  # in descending order
    return most.gather(1, keep[:, None] - 1)[:, :, None, None]


def quantise(z: Tensor, threshold: Tensor) -> Tensor:
    """Levels sign(z) floor(|z| / t): zero below t, so that top-S and rounding are one step."""
    return torch.sign(z) * torch.floor(z.abs() / threshold)


def dequantise(levels: Tensor) -> Tensor:
    """What levels stand for, in thresholds."""
    return levels + RECONSTRUCTION_OFFSET * torch.sign(levels)


def keep_top_s(z: Tensor, code_maps: int, sparsity: Tensor) -> Tensor:
    """The S_x largest magnitudes of each code map at each position of z (b, LM, h, w), else zero.

    sparsity: (b,) whole numbers. The gradient passes where entries are kept (paper, top-S).
    """
    maps = z.reshape(len(z), code_maps, -1, *z.shape[2:])  # (b, L, M, h, w)
    most_kept = min(int(sparsity.max()), maps.shape[2])
    most = maps.detach().abs().topk(most_kept, dim=2).values  # in descending order
    last = (sparsity.long() - 1).clamp(0, most.shape[2] - 1)[:, None, None, None, None]
    least = most.gather(2, last.expand(-1, code_maps, 1, *z.shape[2:]))
    return torch.where(maps.detach().abs() >= least, maps, torch.zeros_like(maps)).flatten(1, 2)

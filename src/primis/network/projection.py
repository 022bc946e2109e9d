"""The sparsifying transform: one strided convolution to atoms, its transpose back (paper, Fig. 3).

The grouped linear layer of the paper is a convolution whose kernel is as large as its stride, so it
takes images of any size. Decoder and encoder share one kernel (the tied back-projection). It starts as
the orthonormal 2-D DCT, whose atoms are ordered from coarse to fine: code map l holds the atoms
(l-1)M .. lM-1, and so code maps refine one another.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from primis.codes.atoms import atom_frequencies


def dct_atoms(stride: int) -> np.ndarray:
    """Orthonormal DCT-II atoms, (stride², stride, stride), in the order of `atom_frequencies`."""
    k = np.arange(stride)
    basis = np.cos(np.pi * np.outer(k, 2 * k + 1) / (2 * stride))  # (frequency, sample)
    basis[0] *= np.sqrt(1 / stride)
    basis[1:] *= np.sqrt(2 / stride)
    u, v = atom_frequencies(stride).T
    return basis[u][:, :, None] * basis[v][:, None, :]


class Projection(nn.Module):
    """`forward`: image (b, 1, H, W) -> coefficients (b, atoms, H/stride, W/stride); `back` returns."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.kernel = nn.Parameter(torch.from_numpy(dct_atoms(stride)).float()[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.kernel, stride=self.stride)

    def back(self, z: Tensor) -> Tensor:
        return nn.functional.conv_transpose2d(z, self.kernel, stride=self.stride)

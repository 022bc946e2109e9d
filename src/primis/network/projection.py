"""The sparsifying transforms: from feature planes to atoms, and back with the same weights.

`LappedProjection`, preset `default`, x (b,1,H,W) -> z (b,256,h,w):

    x --overlap across block borders--> 16 x 16 DCT --slope: a1 -= s (left - right of a0)--> z

Each step is undone exactly: the overlap is orthonormal (a time-domain lapped transform: Tran, Liang
and Tu, 2003), the DCT too, and the slope is a lifting step, since what a border block's mean does
not know is whether the image rises towards its neighbours. Overlap and slope are learned: 64
numbers and one.

`GroupedProjection`, preset `paper`: one linear layer per feature plane, as a strided convolution
whose transpose leads back (tied weights, paper Fig. 3).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from primis.codes.atoms import atom_frequencies, dct_matrix

_MIXTURE = 0.5  # length of an atom that is no atom of the DCT, before it is learned


def dct_atoms(stride: int) -> np.ndarray:
    """Orthonormal 2-D DCT-II atoms, (stride², stride, stride), ordered as `atom_frequencies`."""
    u, v = atom_frequencies(stride).T
    basis = dct_matrix(stride)
    return basis[u][:, :, None] * basis[v][:, None, :]


def _dealt_atoms(code_maps: int, atoms_per_map: int, stride: int) -> np.ndarray:
    """Where learning begins: (code_maps, atoms_per_map, stride²).

    The atoms of the DCT are dealt out to the maps, so that together they are an orthonormal
    transform. The rest of a map's atoms are mixtures of its own: each frequency (u, v) by a random
    sign and as 1 + u² + v², which evens out what it has in an image, and shorter, so that few of
    them are kept before they are learned.
    """
    rng = np.random.default_rng(0)
    dct = dct_atoms(stride).reshape(stride**2, -1)
    evened = 1 + np.sum(atom_frequencies(stride) ** 2, axis=1)
    dealt = np.empty((code_maps, atoms_per_map, stride**2))
    for number, atoms in enumerate(dealt):
        own = np.arange(number, stride**2, code_maps)[:atoms_per_map]
        weights = rng.standard_normal((atoms_per_map - len(own), len(own))) * evened[own]
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        atoms[: len(own)] = dct[own]
        atoms[len(own) :] = _MIXTURE * weights @ dct[own]
    return dealt


def _full_precision(x: Tensor) -> AbstractContextManager[object]:
    """The transform never runs in half precision: what it loses there is more than a threshold."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()


class LappedProjection(nn.Module):
    """`forward`: image (b, 1, H, W) -> coefficients (b, stride², H/stride, W/stride); `back`
    returns.

    turn, slope: what is learned. kernel, lap: the DCT, and the overlap that `turn` stands for, as
    of the last `freeze`.
    """

    kernel: Tensor
    lap: Tensor

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.turn = nn.Parameter(torch.zeros(stride // 2, stride // 2))
        self.slope = nn.Parameter(torch.zeros(1))
        self.register_buffer("kernel", torch.from_numpy(dct_atoms(stride)).float()[:, None])
        self.register_buffer("lap", torch.eye(stride))
        self.learning = False

    def forward(self, x: Tensor) -> Tensor:
        with _full_precision(x):
            z = nn.functional.conv2d(
                self._overlap(x.float(), self._lap()), self.kernel, stride=self.stride
            )
            return self._lift(z, -1.0)

    def back(self, z: Tensor) -> Tensor:
        with _full_precision(z):
            pixels = self.kernel.flatten(1).T[:, :, None, None]  # of each atom at a position
            blocks = nn.functional.conv2d(self._lift(z.float(), 1.0), pixels)
            x = nn.functional.pixel_shuffle(blocks, self.stride)
            return self._overlap(x, self._lap().T)

    def learn(self) -> None:
        """From here on gradients reach `turn` and `slope`."""
        self.learning = True
        self.requires_grad_(True)

    def freeze(self) -> None:
        """From here on none do, and `lap` is what `turn` stands for."""
        self.learning = False
        self.requires_grad_(False)
        self.lap.copy_(self._learned_lap())

    def _lap(self) -> Tensor:
        return self._learned_lap() if self.learning else self.lap

    def _learned_lap(self) -> Tensor:
        """Orthonormal (stride, stride) across a border: the even half stays, the odd half turns."""
        half = self.stride // 2
        eye = torch.eye(half, device=self.turn.device)
        skew = self.turn - self.turn.T
        turn = torch.linalg.solve(eye + skew, eye - skew)  # Cayley
        flip = torch.flip(eye, [0])
        fold = torch.cat([torch.cat([eye, flip], 1), torch.cat([flip, -eye], 1)], 0) / 2**0.5
        blocks: Tensor = torch.block_diag(eye, turn)  # type: ignore[no-untyped-call]
        return fold @ blocks @ fold

    def _overlap(self, x: Tensor, lap: Tensor) -> Tensor:
        """`lap` on the pixels around each border of two blocks, along rows and then columns."""
        for _ in range(2):
            half = self.stride // 2
            mirrored = torch.cat([x[..., :half].flip(-1), x, x[..., -half:].flip(-1)], -1)
            around = (
                mirrored.reshape(*mirrored.shape[:-1], -1, self.stride) @ lap.T
            )  # (..., borders, stride)
            x = around.flatten(-2)[..., half:-half].transpose(
                -1, -2
            )  # at the image's own border: unchanged
        return x

    def _lift(self, z: Tensor, sign: float) -> Tensor:
        mean = nn.functional.pad(z[:, :1], (1, 1, 1, 1), mode="replicate")
        down = mean[:, :, :-2, 1:-1] - mean[:, :, 2:, 1:-1]
        right = mean[:, :, 1:-1, :-2] - mean[:, :, 1:-1, 2:]
        step = (
            sign * self.slope * torch.cat([right, down], 1)
        )  # atoms 1 and 2: (u, v) = (0, 1) and (1, 0)
        return torch.cat([z[:, :1], z[:, 1:3] + step, z[:, 3:]], 1)


class GroupedProjection(nn.Module):
    """`forward`: planes (b, L, H, W) -> coefficients (b, L M, H/stride, W/stride); `back`: tied."""

    def __init__(self, code_maps: int, atoms_per_map: int, stride: int) -> None:
        super().__init__()
        self.stride, self.groups = stride, code_maps
        atoms = torch.from_numpy(_dealt_atoms(code_maps, atoms_per_map, stride)).float()
        self.kernel = nn.Parameter(atoms.reshape(-1, 1, stride, stride))

    def forward(self, planes: Tensor) -> Tensor:
        return nn.functional.conv2d(planes, self.kernel, stride=self.stride, groups=self.groups)

    def back(self, z: Tensor) -> Tensor:
        return nn.functional.conv_transpose2d(
            z, self.kernel, stride=self.stride, groups=self.groups
        )

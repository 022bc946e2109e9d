"""The losses: what each kind of network minimises, and how it is judged while it is trained.

`RateDistortion`, preset `default`, per step, on patches x with an S_x each:

    transform    z = encode(x);  mean((x - back(keep(z) + noise))²) / t² + lambda x bits(z / t)
    trunk        q = dequantise(quantise(top-S z));  mean((x - decode(q))²) / t²,  t from S_x

The first makes the transform compact: distortion plus rate, for t drawn log-uniform from coarse to
fine, so that no rate is bought at the expense of another. It is orthonormal but for one lifting
step whatever the loss does, so it cannot collapse. The second only adds what lies below the
threshold: fidelity without a bit. A preview's error counts against what its closed maps hold.

`Reconstruction`, preset `paper`, minimises log mean((x - decode(top-S z))²): decibels, so that no
S_x outweighs another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from primis.network.autoencoder import AutoEncoder
from primis.network.grouped import GroupedAutoEncoder
from primis.network.sparsify import (
    dequantise,
    keep_top_s,
    quantise,
    restore_dc,
    top_s_threshold,
    transform_dc,
)
from primis.training.patches import Batch
from primis.training.recipe import Recipe

_LEAST_THRESHOLD = 1e-4
_LEAST_ERROR = 1e-7  # mean square, in units of the range: 70 dB


class Loss(NamedTuple):
    """total: what is minimised; trunk, transform: its parts, for curves."""

    total: Tensor
    trunk: Tensor
    transform: Tensor | None = None


class Objective(ABC):
    """What a network is trained for. judged: S_x at which it is judged while it is trained."""

    judged: tuple[int, ...]

    @abstractmethod
    def loss(self, batch: Batch, step: int, random: torch.Generator) -> Loss:
        """Of a batch, at a step of the optimiser."""

    @abstractmethod
    def restored(self, z: Tensor, sparsity: float) -> Tensor:
        """Coefficients (1, LM, h, w) of an image, sparsified and decoded."""

    @abstractmethod
    def is_of_transform(self, name: str) -> bool:
        """Whether a parameter learns at the transform's own rate."""

    @abstractmethod
    def settle(self) -> None:
        """Make the network what it is when it is used."""


class RateDistortion(Objective):
    """See above."""

    judged = (1, 2, 4, 8, 16, 32)

    def __init__(self, network: AutoEncoder, recipe: Recipe) -> None:
        self._network, self._recipe = network, recipe

    def loss(self, batch: Batch, step: int, random: torch.Generator) -> Loss:
        projection = self._network.projection
        projection.freeze()
        trunk = self._trunk_loss(batch)
        if step >= self._recipe.transform_steps:
            return Loss(trunk, trunk)
        projection.learn()
        transform = self._transform_loss(batch, random)
        return Loss(trunk + torch.log(transform), trunk, transform)

    def restored(self, z: Tensor, sparsity: float) -> Tensor:
        z = transform_dc(z)
        t = _threshold(z, torch.tensor([sparsity], device=z.device))
        q = restore_dc(dequantise(quantise(z, t)) * t)
        return self._network.decode(q, t, torch.ones_like(t))

    def is_of_transform(self, name: str) -> bool:
        return name in ("projection.turn", "projection.slope")

    def settle(self) -> None:
        self._network.projection.freeze()

    def _transform_loss(self, batch: Batch, random: torch.Generator) -> Tensor:
        """Distortion / t² + lambda x bits of a wide-tailed density, per pixel, then position."""
        projection, t = self._network.projection, batch.threshold
        z = transform_dc(projection(batch.x))
        noise = torch.empty_like(z).uniform_(-0.5, 0.5, generator=random) * t
        kept = torch.where(z.detach().abs() > t, z + noise, torch.zeros_like(z))
        distortion = _mean((projection.back(restore_dc(kept)) - batch.x) ** 2) / t.flatten() ** 2
        bits = _mean(torch.log2(1 + (z / t) ** 2)) / 2
        return torch.mean(distortion + self._recipe.rate * bits) * self._network.preset.atoms

    def _trunk_loss(self, batch: Batch) -> Tensor:
        """Squared error in thresholds, so that no S_x outweighs another."""
        network, x = self._network, batch.x
        atoms, maps = network.preset.atoms, network.preset.code_maps
        with torch.no_grad():
            z = transform_dc(network.encode(x))
            t = _threshold(z, batch.sparsity.flatten())
            opened = torch.where(batch.preview > 0, 1 / maps, 1.0)
            is_open = torch.arange(atoms, device=x.device)[None, :, None, None] < opened * atoms
            q = restore_dc(dequantise(quantise(z, t)) * t * is_open)
            positions = z.shape[2] * z.shape[3]
            closed = torch.sum((z / t * ~is_open) ** 2, dim=(1, 2, 3)) / positions
        errors = _mean(((network.decode(q, t, opened) - x) / t) ** 2)
        return torch.mean(errors * atoms / (1 + closed))


class Reconstruction(Objective):
    """Squared error behind top-S at every position of every map (paper, on training)."""

    judged = (4, 8, 16)

    def __init__(self, network: GroupedAutoEncoder, recipe: Recipe) -> None:
        self._network = network

    def loss(self, batch: Batch, step: int, random: torch.Generator) -> Loss:
        z = self._network.encode(batch.x)
        again = self._through(z, batch.sparsity.flatten().round())
        errors = _mean((again - batch.x) ** 2)
        error = torch.mean(torch.log(errors + _LEAST_ERROR))
        return Loss(error, error)

    def restored(self, z: Tensor, sparsity: float) -> Tensor:
        return self._through(z, torch.tensor([sparsity], device=z.device))

    def is_of_transform(self, name: str) -> bool:
        return name == "projection.kernel"

    def settle(self) -> None:
        pass

    def _through(self, z: Tensor, sparsity: Tensor) -> Tensor:
        q = keep_top_s(z, self._network.preset.code_maps, sparsity)
        one = torch.ones(1, 1, 1, 1, device=z.device)
        return self._network.decode(q, one, one)


def objective_of(network: nn.Module, recipe: Recipe) -> Objective:
    """What this network is trained for."""
    if isinstance(network, AutoEncoder):
        return RateDistortion(network, recipe)
    assert isinstance(network, GroupedAutoEncoder)
    return Reconstruction(network, recipe)


def _threshold(z: Tensor, sparsity: Tensor) -> Tensor:
    return top_s_threshold(z, sparsity).clamp_min(_LEAST_THRESHOLD)


def _mean(x: Tensor) -> Tensor:
    """Over all but the batch."""
    return torch.mean(x, dim=(1, 2, 3))

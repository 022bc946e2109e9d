"""What a training does, as numbers: a recipe for each preset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from primis.network.presets import DEFAULT, PAPER

TABLE_STEPS = 3000
"""Steps of the fit of each of the coder's tables, at most."""


class Part(StrEnum):
    """What a training may learn alone, from a model to start with; the rest of it stays."""

    DECODER = "decoder"
    TABLES = "tables"


@dataclass(frozen=True)
class Recipe:
    """What `train` does; the shipped weights used the defaults of `RECIPES`.

    steps: optimiser steps; batch: patches per step and device; patch: their side in pixels.
    minutes: if it is given, as many steps as fit in this time, whatever `steps` says.
    sparsity: S_x is drawn log-uniform from this range for each patch. preview_share: part of the
    patches that keep only the first code map. transform_steps: how long the transform learns, at
    transform_rate.
    thresholds, rate: range of t in units of the image's range, and lambda, for the transform's
    loss. average: decay of the averaged weights that are kept. epoch: steps between checkpoints.
    """

    steps: int = 16000
    batch: int = 16
    patch: int = 128
    learning_rate: float = 2e-3
    sparsity: tuple[float, float] = (0.4, 36.0)
    preview_share: float = 0.15
    transform_steps: int = 1500
    transform_rate: float = 1e-2
    thresholds: tuple[float, float] = (0.02, 0.6)
    rate: float = 0.5
    average: float = 0.998
    epoch: int = 500
    seed: int = 0
    minutes: float | None = None


RECIPES = {
    DEFAULT.name: Recipe(),
    PAPER.name: Recipe(
        steps=3000,
        patch=64,
        batch=8,
        learning_rate=5e-4,
        sparsity=(4, 16),
        preview_share=0,
        transform_steps=3000,
        transform_rate=1e-4,
    ),
}


def log_uniform(rng: np.random.Generator, between: tuple[float, float]) -> float:
    """A draw whose logarithm is uniform."""
    return math.exp(rng.uniform(*np.log(between)))


def rise_and_fall(step: int, steps: int) -> float:
    """A learning rate's factor: up in the first twentieth, down to nothing as half a cosine."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise)))

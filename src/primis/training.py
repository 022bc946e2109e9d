"""Training the shipped weights: loss and loop on one page.

    x --encode--> z --top-S, S_x drawn per patch--> levels --decode--> x^;   loss = mean((x/t - x^)²)

The squared error in units of the threshold is of the same size at every S_x, so no rate outweighs
another, and the weights serve all of them. A preview's error counts against what its closed maps hold.
The transform stays the orthonormal DCT here; the trunk of the decoder is what learns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from primis.codes.sparse import top_s
from primis.codes.support import (
    FEATURES,
    LOGIT_UNIT,
    PASSES,
    SupportModel,
    code_ranges,
    entry_density,
    groups,
    visits,
)
from primis.datasets import grey_frames
from primis.network.autoencoder import AutoEncoder
from primis.network.checkpoint import Checkpoint, write_checkpoint
from primis.network.export import export_graphs
from primis.network.presets import DEFAULT, Preset
from primis.network.sparsify import quantise, top_s_threshold

_ATOMS_PER_ENTRY = 256  # brings the loss near one


@dataclass(frozen=True)
class Recipe:
    """What `train` does; the shipped weights used the defaults.

    steps: optimiser steps; batch: patches per step; patch: their side in pixels.
    sparsity: S_x is drawn log-uniformly from this range. preview_share: part of the patches
    that keep only the first code map. average: decay of the averaged weights that are kept.
    """

    steps: int = 12000
    batch: int = 16
    patch: int = 128
    learning_rate: float = 1e-3
    sparsity: tuple[float, float] = (0.7, 36.0)
    preview_share: float = 0.15
    average: float = 0.998
    seed: int = 0


def train(
    images: Sequence[np.ndarray],
    recipe: Recipe = Recipe(),
    *,
    preset: Preset = DEFAULT,
    on_step: Callable[[int, float, AutoEncoder], None] | None = None,
) -> AutoEncoder:
    """Train on images, each (height, width) of integers, and return the averaged model.

    on_step(step, loss, averaged model) is called after each step.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = AutoEncoder(preset)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.projection.requires_grad_(False)
    averaged = copy.deepcopy(model).requires_grad_(False)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(weights, lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=recipe.steps, pct_start=max(0.05, 2 / recipe.steps)
    )
    for step in range(recipe.steps):
        loss = _loss(model, _patches(images, recipe, rng), recipe, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        _average(averaged, model, min(recipe.average, step / (step + 10)))
        if on_step is not None:
            on_step(step, loss.item(), averaged)
    return averaged


def _loss(model: AutoEncoder, x: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    low, high = np.log(recipe.sparsity)
    sparsity = torch.from_numpy(np.exp(rng.uniform(low, high, len(x)))).float()
    preview = torch.from_numpy(rng.random(len(x)) < recipe.preview_share)[:, None, None, None]
    with torch.no_grad():
        z = model.encode(x)
        t = top_s_threshold(z, sparsity).clamp_min(1e-4)
        levels = quantise(z, t)
        opened = torch.where(preview, 1 / model.preset.code_maps, 1.0).float()
        kept = torch.arange(model.preset.atoms)[None, :, None, None] < opened * model.preset.atoms
        levels = levels * kept
        missing = x / t - model.projection.back(model.encode(x / t) * kept)  # what closed maps hold
        scale = 1 + torch.mean(missing**2, dim=(1, 2, 3)) * _ATOMS_PER_ENTRY
    errors = torch.mean((model.decode(levels, opened) - x / t) ** 2, dim=(1, 2, 3))
    return torch.mean(errors * _ATOMS_PER_ENTRY / scale)


def _patches(images: Sequence[np.ndarray], recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Random crops, flipped and turned, in units of their image's range: (batch, 1, patch, patch)."""
    out = np.empty((recipe.batch, 1, recipe.patch, recipe.patch), np.float32)
    for k in range(recipe.batch):
        image = images[int(rng.integers(len(images)))]
        y = rng.integers(image.shape[0] - recipe.patch + 1)
        x = rng.integers(image.shape[1] - recipe.patch + 1)
        low, high = int(image.min()), int(image.max())
        crop = image[y : y + recipe.patch, x : x + recipe.patch].astype(np.float32)
        crop = np.rot90((crop - (low + high) / 2) / max(high - low, 1), int(rng.integers(4)))
        out[k, 0] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return torch.from_numpy(out).to(memory_format=torch.channels_last)


def _average(averaged: AutoEncoder, model: AutoEncoder, decay: float) -> None:
    with torch.no_grad():
        for kept, now in zip(averaged.parameters(), model.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)


def train_checkpoint(
    data: Path, out: Path, recipe: Recipe = Recipe(), *, on_step: Callable[[int, float, AutoEncoder], None] | None = None
) -> str:
    """Train on all grey images under a folder, fit the support coder's tables, write the model.

    Returns the model's digest.
    """
    frames = grey_frames(data, least=recipe.patch)
    model = train(frames, recipe, on_step=on_step)
    tables = fit_support_model(
        _supports(model, frames, recipe), model.preset.atoms_per_map, steps=min(300, recipe.steps), seed=recipe.seed
    )
    tensors = {name: tensor.contiguous().numpy() for name, tensor in model.state_dict().items()}
    record = asdict(recipe) | {"data": data.name, "frames": len(frames)}
    return write_checkpoint(Checkpoint(model.preset, tensors, tables, record, export_graphs(model)), out)


def _supports(model: AutoEncoder, frames: Sequence[np.ndarray], recipe: Recipe, count: int = 100) -> list[np.ndarray]:
    """Supports of some of the frames, each at an S_x of its own."""
    rng = np.random.default_rng(recipe.seed)
    low, high = np.log(recipe.sparsity)
    supports = []
    for k in rng.permutation(len(frames))[:count]:
        stride = model.preset.stride
        height, width = (min(side // stride, 64) * stride for side in frames[k].shape)
        with torch.no_grad():
            z = model.encode(torch.from_numpy(frames[k][:height, :width].astype(np.float32))[None, None])
        entries = round(z.shape[2] * z.shape[3] * float(np.exp(rng.uniform(low, high))))
        supports.append(top_s(z.numpy(), entries).support[0])
    return supports


def fit_support_model(codes: Sequence[np.ndarray], first: int, *, steps: int = 300, seed: int = 0) -> SupportModel:
    """The integer tables of the support coder, by logistic regression on supports (LM, h, w) of bool.

    codes should span the S_x that will be used. first: atoms of the first code map. Weights are rounded to 1/1024 of a logit.
    """
    logarithm = np.floor(8 * np.log2(1 + np.arange(2048))).astype(np.int32)
    slots = np.arange(-11 * 16, 11 * 16 + 1) / 16
    probability = np.clip(np.round(65536 / (1 + np.exp(-slots))), 1, 65535).astype(np.int32)
    atoms = codes[0].shape[0]
    parts = groups(atoms)
    visits_of = [_observe(code, first, logarithm) for code in codes]
    bias = torch.full((len(PASSES), atoms), -5.0, requires_grad=True)
    density = torch.zeros(atoms, 2, requires_grad=True)
    weights = torch.zeros(len(parts), len(PASSES), FEATURES, 2, requires_grad=True)
    optimiser = torch.optim.Adam([bias, density, weights], lr=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        losses = []
        for visits_one in (visits_of[i] for i in rng.choice(len(codes), 6)):
            for number, own, features, bits, rate in visits_one:
                group, turn = divmod(number, len(PASSES))
                x = torch.from_numpy(features.astype(np.float32)) / 8
                r = rate / 8
                level = bias[turn, own] + density[own, 0] * r + density[own, 1] * r * r
                some = torch.tensordot(weights[group, turn, :, 1], (x > 0).float(), 1)
                score = torch.tensordot(weights[group, turn, :, 0], x, 1) + some + level[:, None, None]
                losses.append(
                    torch.nn.functional.binary_cross_entropy_with_logits(score, torch.from_numpy(bits).float(), reduction="sum")
                )
        loss = torch.stack(losses).sum() / 6e3
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    unit = LOGIT_UNIT
    scaled = torch.stack([density[:, 0] * unit / 8, density[:, 1] * unit], dim=1)
    factors = torch.tensor([1 / 8, 1.0]) * unit
    return SupportModel(_rounded(bias * unit), _rounded(scaled), _rounded(weights * factors), logarithm, probability)


def _rounded(t: Tensor) -> np.ndarray:
    return np.round(t.detach().numpy()).astype(np.int32)


def _observe(support: np.ndarray, first: int, logarithm: np.ndarray) -> list[tuple[int, slice, np.ndarray, np.ndarray, int]]:
    """What the coder sees at each of its visits: (visit, atoms, features, bits, density)."""
    seen = []
    for atoms in code_ranges(support.shape[0], first):
        entries = int(support[atoms.start : atoms.stop].sum())
        if not entries:
            continue
        rate = entry_density(entries, support.shape[1] * support.shape[2])
        known = support.copy()
        known[atoms.start :] = False
        for number, where, features in visits(known, atoms, logarithm):
            known[where] = support[where]
            seen.append((number, where[0], features.astype(np.int16), support[where], rate))
    return seen

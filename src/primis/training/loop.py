"""Training: loss and loop on one page; Lightning runs it on one core, a GPU, or many.

Preset `default`, per step, on patches x with an S_x each:

    transform    z = encode(x);  mean((x - back(keep(z) + noise))²) / t² + lambda x bits(z / t),  t drawn log-uniform
    trunk        q = dequantise(quantise(top-S z));  mean((x - decode(q))²) / t²,  t from S_x

The first makes the transform compact: distortion plus rate, for t from coarse to fine, so that no rate is
bought at the expense of another. It is orthonormal but for one lifting step whatever the loss does, so
it cannot collapse. The second only adds what lies below the threshold: fidelity without a bit. A preview's
error counts against what its closed maps hold. Preset `paper` minimises mean((x - decode(top-S z))²).

Every draw is a function of the seed and the number of the patch, so that a run that was killed and
resumed ends as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from primis.atomic import own_folder, require_ours
from primis.datasets.files import split_files
from primis.datasets.frames import Frames
from primis.errors import ModelError, OutputError, UsageError
from primis.network.autoencoder import AutoEncoder
from primis.network.build import as_network, build
from primis.network.checkpoint import Checkpoint, named, read_checkpoint, write_checkpoint
from primis.network.presets import DEFAULT, Preset
from primis.network.sparsify import (
    dequantise,
    keep_top_s,
    quantise,
    restore_means,
    top_s_threshold,
    transform_means,
)
from primis.network.tables import fit_tables

_JUDGED = (1, 2, 4, 8, 16, 32)
_JUDGED_PER_POSITION = (4, 8, 16)
"""S_x at which a model is judged while it is trained."""

_VALIDATION_IMAGES = 24
_VALIDATION_SIDE = 512
_TABLE_IMAGES = 150


@dataclass(frozen=True)
class Recipe:
    """What `train` does; the shipped weights used the defaults of `RECIPES`.

    steps: optimiser steps; batch: patches per step and device; patch: their side in pixels.
    sparsity: S_x is drawn log-uniformly from this range for each patch. preview_share: part of the
    patches that keep only the first code map. transform_steps: how long the transform learns, at
    transform_rate.
    thresholds, rate: range of t in units of the image's range, and lambda, for the transform's loss.
    average: decay of the averaged weights that are kept. epoch: steps between checkpoints.
    """

    steps: int = 16000
    batch: int = 16
    patch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    sparsity: tuple[float, float] = (0.4, 36.0)
    preview_share: float = 0.15
    transform_steps: int = 1500
    transform_rate: float = 1e-2
    thresholds: tuple[float, float] = (0.02, 0.6)
    rate: float = 0.5
    average: float = 0.998
    epoch: int = 500
    seed: int = 0


RECIPES = {
    "default": Recipe(),
    "paper": Recipe(
        steps=3000,
        patch=64,
        batch=32,
        weight_decay=1e-4,
        sparsity=(4, 16),
        preview_share=0,
        transform_steps=0,
    ),
}


class Batch(NamedTuple):
    """x: (b, 1, patch, patch) in units of its image's range; the rest (b, 1, 1, 1)."""

    x: Tensor
    sparsity: Tensor
    preview: Tensor
    threshold: Tensor


class Patches(Dataset):
    """Random crops, flipped and turned, at full bit depth: one epoch of them."""

    def __init__(self, frames: Frames, recipe: Recipe, epoch: int, count: int) -> None:
        self._frames, self._recipe, self._epoch, self._count = frames, recipe, epoch, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        recipe = self._recipe
        rng = np.random.default_rng((recipe.seed, self._epoch, number))
        image, low, high = self._frames.draw(rng)
        y, x = (rng.integers(side - recipe.patch + 1) for side in image.shape)
        crop = image[y : y + recipe.patch, x : x + recipe.patch].astype(np.float32)
        crop = np.rot90((crop - (low + high) / 2) / max(high - low, 1), int(rng.integers(4)))
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        draws = [
            _log_uniform(rng, recipe.sparsity),
            rng.random() < recipe.preview_share,
            _log_uniform(rng, recipe.thresholds),
        ]
        values = (torch.tensor(float(value)).reshape(1, 1, 1) for value in draws)
        return Batch(torch.from_numpy(np.ascontiguousarray(crop))[None], *values)


def _log_uniform(rng: np.random.Generator, between: tuple[float, float]) -> float:
    return math.exp(rng.uniform(*np.log(between)))


def _rise_and_fall(step: int, steps: int) -> float:
    """A learning rate's factor: up in the first twentieth, down to nothing as half a cosine."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise)))


class Training(L.LightningModule):  # type: ignore[misc]
    """The network with its losses and its schedule."""

    def __init__(
        self, preset: Preset, recipe: Recipe, frames: Frames, validation: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.preset, self.recipe = preset, recipe
        self.network = build(preset)
        self._frames, self._validation = frames, validation
        self._gains: list[tuple[int, float]] = []
        self._sparsities = _JUDGED_PER_POSITION if preset.per_position else _JUDGED

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        transform = [
            p
            for n, p in self.network.named_parameters()
            if n in ("projection.turn", "projection.slope")
        ]
        rest = [
            p
            for n, p in self.network.named_parameters()
            if n not in ("projection.turn", "projection.slope")
        ]
        groups = [{"params": rest, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}]
        rises = [lambda step: _rise_and_fall(step, recipe.steps)]
        if transform:
            groups.append({"params": transform, "lr": recipe.transform_rate})
            rises.append(lambda step: _rise_and_fall(step, recipe.transform_steps))
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rises)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader:
        """The patches of this epoch; the last epoch may be shorter."""
        steps = min(self.recipe.epoch, self.recipe.steps - self.current_epoch * self.recipe.epoch)
        count = max(steps, 1) * self.recipe.batch * self.trainer.world_size
        workers = 8 if torch.cuda.is_available() else 0
        return DataLoader(
            Patches(self._frames, self.recipe, self.current_epoch, count),
            self.recipe.batch,
            num_workers=workers,
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self._validation, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        batch = Batch(*batch)
        if not isinstance(self.network, AutoEncoder):
            loss = self._plain_loss(batch)
            self.log("loss", loss, prog_bar=True)
            return loss
        projection = self.network.projection
        projection.freeze()
        loss = self._trunk_loss(batch)
        self.log("loss", loss, prog_bar=True)
        if self.global_step < self.recipe.transform_steps:
            projection.learn()
            rate_distortion = self._transform_loss(batch)
            self.log("transform", rate_distortion)
            loss = loss + torch.log(rate_distortion)
        return loss

    def _transform_loss(self, batch: Batch) -> Tensor:
        """Distortion / t² + lambda x bits of a wide-tailed density, per pixel and then per position."""
        projection, t = cast(AutoEncoder, self.network).projection, batch.threshold
        z = transform_means(projection(batch.x))
        noise = torch.empty_like(z).uniform_(-0.5, 0.5, generator=self._generator()) * t
        kept = torch.where(z.detach().abs() > t, z + noise, torch.zeros_like(z))
        distortion = (
            torch.mean((projection.back(restore_means(kept)) - batch.x) ** 2, dim=(1, 2, 3))
            / t.flatten() ** 2
        )
        bits = torch.mean(torch.log2(1 + (z / t) ** 2), dim=(1, 2, 3)) / 2
        return torch.mean(distortion + self.recipe.rate * bits) * self.preset.atoms

    def _generator(self) -> torch.Generator:
        seed = (self.recipe.seed * 1_000_003 + self.global_step) * 65_537 + self.global_rank
        return torch.Generator(self.device).manual_seed(seed)

    def _trunk_loss(self, batch: Batch) -> Tensor:
        """Squared error in thresholds, so that no S_x outweighs another."""
        network, x = self.network, batch.x
        atoms = self.preset.atoms
        with torch.no_grad():
            z = transform_means(network.encode(x))  # type: ignore[operator]
            t = top_s_threshold(z, batch.sparsity.flatten()).clamp_min(1e-4)
            opened = torch.where(batch.preview > 0, 1 / self.preset.code_maps, 1.0)
            open_atoms = torch.arange(atoms, device=x.device)[None, :, None, None] < opened * atoms
            q = restore_means(dequantise(quantise(z, t)) * t * open_atoms)
            closed = torch.sum((z / t * ~open_atoms) ** 2, dim=(1, 2, 3)) / (
                z.shape[2] * z.shape[3]
            )
        errors = torch.mean(((network.decode(q, t, opened) - x) / t) ** 2, dim=(1, 2, 3))  # type: ignore[operator]
        return torch.mean(errors * atoms / (1 + closed))

    def _plain_loss(self, batch: Batch) -> Tensor:
        """Mean squared error behind top-S at every position of every map (paper, section on training)."""
        z = self.network.encode(batch.x)  # type: ignore[operator]
        q = keep_top_s(z, self.preset.code_maps, batch.sparsity.flatten().round())
        one = torch.ones_like(batch.sparsity)
        return torch.mean((self.network.decode(q, one, one) - batch.x) ** 2)  # type: ignore[operator]

    def on_validation_epoch_start(self) -> None:
        self._gains = []
        if isinstance(self.network, AutoEncoder):
            self.network.projection.freeze()

    def validation_step(self, x: Tensor, number: int) -> None:
        """PSNR of one image (1, H, W) at each S_x, on its own range."""
        network, x, pictures = as_network(self.network), x[None], []
        z = network.encode(x)
        for sparsity in self._sparsities:
            restored = self._restore(z, torch.tensor([float(sparsity)], device=x.device))
            error = torch.mean((restored - x) ** 2).clamp_min(1e-12)
            self._gains.append((sparsity, -10 * math.log10(error.item())))
            pictures.append(restored)
        if number < 4 and isinstance(self.logger, TensorBoardLogger):
            strip = torch.cat([x, *pictures], dim=3)[0]  # original, then S_x from low to high
            self.logger.experiment.add_image(
                f"restored/{number}", (strip + 0.5).clamp(0, 1), self.global_step
            )

    def _restore(self, z: Tensor, sparsity: Tensor) -> Tensor:
        one = torch.ones(1, 1, 1, 1, device=z.device)
        network = as_network(self.network)
        if self.preset.per_position:
            return network.decode(keep_top_s(z, self.preset.code_maps, sparsity), one, one)
        z = transform_means(z)
        t = top_s_threshold(z, sparsity).clamp_min(1e-4)
        return network.decode(restore_means(dequantise(quantise(z, t)) * t), t, one)

    def on_validation_epoch_end(self) -> None:
        for sparsity in self._sparsities:
            mean = float(np.mean([gain for at, gain in self._gains if at == sparsity]))
            self.log(f"psnr/S_x={sparsity}", mean, sync_dist=True)
        self.log(
            "psnr", float(np.mean([gain for _, gain in self._gains])), prog_bar=True, sync_dist=True
        )


def train(
    frames: Frames,
    validation: Frames,
    recipe: Recipe,
    preset: Preset,
    folder: Path,
    *,
    start: dict[str, np.ndarray] | None = None,
    callbacks: Sequence[Callback] = (),
    **trainer_options: Any,
) -> tuple[nn.Module, bool]:
    """Train, or go on where a run in `folder` stopped; the averaged weights that were best on validation.

    folder takes checkpoints and TensorBoard's curves and pictures. start: weights to begin with.
    trainer_options go to Lightning's Trainer: devices, num_nodes, strategy, precision, accelerator.
    Raises OutputError if what lies in `folder` is not ours or damaged.
    The second result says whether this process should write the outcome (one does, of several).
    """
    _require_own(folder)
    L.seed_everything(recipe.seed, verbose=False)
    module = Training(
        preset, recipe, frames, _whole_images(validation, preset.stride, _VALIDATION_IMAGES)
    )
    if start is not None:
        try:
            module.network.load_state_dict(
                {name: torch.from_numpy(t.copy()) for name, t in start.items()}
            )
        except RuntimeError:
            raise ModelError(
                f'the weights to begin with are not of preset "{preset.name}"'
            ) from None
    keep = ModelCheckpoint(
        folder,
        "best",
        monitor="psnr",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    options: dict[str, Any] = {
        "precision": "bf16-mixed" if torch.cuda.is_available() else "32-true"
    } | trainer_options
    _quiet()
    trainer = L.Trainer(
        max_steps=recipe.steps,
        max_epochs=-1,
        callbacks=[EMAWeightAveraging(decay=recipe.average, use_buffers=False), keep, *callbacks],
        logger=TensorBoardLogger(folder, name=None, version=""),
        gradient_clip_val=1.0,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
        enable_progress_bar=False,
        **options,
    )
    last = folder / "last.ckpt"
    if last.exists():
        _load(last)
    handler = signal.getsignal(signal.SIGINT)
    torch.set_flush_denormal(
        True
    )  # where weights decay to nothing, a processor takes ten times as long
    try:
        trainer.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    except SystemExit:  # how Lightning ends after an interrupt
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
    finally:
        torch.set_flush_denormal(False)
    if not trainer.is_global_zero:
        return module.network, False
    state = _load(folder / "best.ckpt")["state_dict"]
    module.load_state_dict(state)
    network = module.network.cpu().eval()
    if isinstance(network, AutoEncoder):
        network.projection.freeze()
    return network, True


def _whole_images(frames: Frames, stride: int, count: int) -> list[Tensor]:
    """The middle of some images, as tensors (1, H, W) in units of their range."""
    images = []
    for image, low, high in frames.some(count):
        sides = [
            min(side, _VALIDATION_SIDE) // (4 * stride) * 4 * stride or side // stride * stride
            for side in image.shape
        ]
        top, left = ((whole - side) // 2 for whole, side in zip(image.shape, sides, strict=True))
        crop = image[top : top + sides[0], left : left + sides[1]].astype(np.float32)
        images.append(torch.from_numpy((crop - (low + high) / 2) / max(high - low, 1))[None])
    return images


def _quiet() -> None:
    """Lightning's advice is for those who write training loops."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def train_checkpoint(
    data: Path,
    out: Path,
    recipe: Recipe,
    preset: Preset = DEFAULT,
    *,
    validation: Path | None = None,
    start: Path | None = None,
    callbacks: Sequence[Callback] = (),
    on_table: Callable[[int, int], None] | None = None,
    **trainer_options: Any,
) -> str:
    """Train on a folder or table of images, fit the coder's tables, write the model; returns its digest.

    What a stopped run needs to go on lies in `<out>.training`, with TensorBoard's curves and pictures.
    validation: a folder of images to judge by. start: a model to begin with. Empty digest: another
    process writes. Raises UsageError if `<out>.training` belongs to another recipe, ModelError if `start` does
    not fit the preset.
    """
    if preset.fault:
        raise UsageError(f'preset "{preset.name}" cannot be trained for primis: {preset.fault}')
    train_files, held_out = split_files(data, validation)
    begin = read_checkpoint(named(start)) if start else None
    record = asdict(recipe) | {
        "preset": preset.name, "data": _printable(data.name),
        "files": len(train_files), "validation": len(held_out),
        "start": begin.digest if begin else None,
    }  # fmt: skip
    frames, judged = Frames(train_files, least=recipe.patch), Frames(held_out, least=preset.stride)
    folder = out.with_name(out.name + ".training")
    _same_run(folder, record)
    network, writes = train(
        frames, judged, recipe, preset, folder,
        start=begin.network if begin else None, callbacks=callbacks, **trainer_options,
    )  # fmt: skip
    if not writes:
        return ""
    rng = np.random.default_rng(recipe.seed)
    images = [
        (x, _log_uniform(rng, recipe.sparsity))
        for x in _whole_images(frames, preset.stride, _TABLE_IMAGES)
    ]
    tables = fit_tables(
        network, images, steps=min(250, recipe.steps), seed=recipe.seed, on_head=on_table
    )
    tensors = {name: tensor.contiguous().numpy() for name, tensor in network.state_dict().items()}
    return write_checkpoint(Checkpoint(preset, tensors, tables, record), out)


def _same_run(folder: Path, record: dict[str, Any]) -> None:
    """Note what a run in this folder is, or make sure that it is this one, and ours."""
    _require_own(folder)
    note = folder / "recipe.json"
    mine = json.dumps(record, indent=1, sort_keys=True)
    if (folder / "last.ckpt").exists() and (
        not note.exists() or note.read_text("utf-8", "replace") != mine
    ):
        raise UsageError(
            f'"{folder}" holds a run with other data or another recipe: remove it, or choose another -o'
        )
    if not note.exists() or note.read_text("utf-8", "replace") != mine:
        note.write_text(mine)


def _require_own(folder: Path) -> None:
    """Make the folder, or make sure that what a run goes on with is ours. Raises OutputError."""
    own_folder(folder)
    for name in ("recipe.json", "last.ckpt", "best.ckpt"):
        if (folder / name).is_symlink() or (folder / name).exists():
            require_ours(folder / name)


def _load(path: Path) -> dict[str, Any]:
    """A checkpoint of Lightning's: tensors and plain values, nothing is run. Raises OutputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice for who wrote another kind of file
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # its exceptions share no base of their own
        state = None
    if not isinstance(state, dict):
        raise OutputError(f'"{path}" is damaged, or not from "primis train": remove its folder')
    return state


def _printable(name: str) -> str:
    """A file's name as a record may hold it."""
    return "".join(character if character.isprintable() else "?" for character in name)[:200]

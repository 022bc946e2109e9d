"""The loop: Lightning runs it on one core, a GPU, or many; `objective.py` says what is minimised.

Every draw is a function of the seed and the number of the patch, so that a run that was killed and
resumed ends as one that was not. With a budget of time the number of steps follows from the
machine's speed (`clock.py`).
"""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from primis.atomic import own_folder, require_ours
from primis.datasets.frames import Frames
from primis.errors import ModelError, OutputError
from primis.network.build import as_network, build
from primis.network.presets import Preset
from primis.network.tensors import DECODER
from primis.training.clock import Clock
from primis.training.objective import objective_of
from primis.training.patches import Batch, Patches, whole_images
from primis.training.recipe import Recipe, rise_and_fall

RECORD = "recipe.json"
"""What a run is, in its folder."""

_VALIDATION_IMAGES = 24
_PICTURES = 4
_LEAST_ERROR = 1e-12
_LAST, _BEST = "last.ckpt", "best.ckpt"
_FIRST_EPOCH, _EPOCHS_IN_BUDGET = 10, 10
"""With a budget: steps of the first epoch, which measures, and about how many epochs there are."""

_USED = "seconds"
"""Where a checkpoint keeps what its run took."""


class Training(L.LightningModule):
    """The network with its objective and its schedule.

    planned: steps in all, as far as is known now.
    """

    def __init__(
        self,
        preset: Preset,
        recipe: Recipe,
        frames: Frames,
        validation: Sequence[Tensor],
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.planned = recipe, recipe.steps
        self.network = build(preset)
        self.objective = objective_of(self.network, recipe)
        self.clock = clock or Clock(None)
        self._frames, self._validation = frames, validation
        self._psnr: list[tuple[int, float]] = []
        self._since, self._steps_before = 0.0, 0
        self._epoch = recipe.epoch if recipe.minutes is None else _FIRST_EPOCH

    def configure_optimizers(self) -> Any:
        recipe, named = self.recipe, list(self.network.named_parameters())
        transform = [p for name, p in named if self.objective.is_of_transform(name)]
        rest = [p for name, p in named if not self.objective.is_of_transform(name)]
        groups: list[dict[str, Any]] = [{"params": rest, "lr": recipe.learning_rate}]
        rises = [lambda step: rise_and_fall(step, self.planned)]
        if transform:
            groups.append({"params": transform, "lr": recipe.transform_rate})
            rises.append(lambda step: rise_and_fall(step, recipe.transform_steps))
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rises)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch]:
        """The patches of this epoch; the last epoch may be shorter."""
        steps = self._plan()
        count = steps * self.recipe.batch * self.trainer.world_size
        patches = Patches(self._frames, self.recipe, self.current_epoch, count)
        workers = 8 if torch.cuda.is_available() else 0
        return DataLoader(patches, self.recipe.batch, num_workers=workers)

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self._validation, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = self.objective.loss(Batch(*batch), self.global_step, self._generator())
        self.log("loss", loss.trunk, prog_bar=True)
        if loss.transform is not None:
            self.log("transform", loss.transform)
        return loss.total

    def on_train_epoch_start(self) -> None:
        self._since, self._steps_before = time.monotonic(), self.global_step

    def on_validation_epoch_start(self) -> None:
        now = time.monotonic()
        self.clock.note_steps(now - self._since, self.global_step - self._steps_before)
        self._since = now
        self._psnr = []
        self.objective.settle()

    def validation_step(self, x: Tensor, number: int) -> None:
        """PSNR of one image (1, H, W) at each S_x, on its own range."""
        x, pictures = x[None], []
        z = as_network(self.network).encode(x)
        for sparsity in self.objective.judged:
            restored = self.objective.restored(z, float(sparsity))
            error = torch.mean((restored - x) ** 2).clamp_min(_LEAST_ERROR)
            self._psnr.append((sparsity, -10 * math.log10(error.item())))
            pictures.append(restored)
        if number < _PICTURES and isinstance(self.logger, TensorBoardLogger):
            strip = torch.cat([x, *pictures], dim=3)[0]  # original, then S_x from low to high
            name, shown = f"restored/{number}", (strip + 0.5).clamp(0, 1)
            self.logger.experiment.add_image(name, shown, self.global_step)

    def on_validation_epoch_end(self) -> None:
        for sparsity in self.objective.judged:
            mean = float(np.mean([psnr for at, psnr in self._psnr if at == sparsity]))
            self.log(f"psnr/S_x={sparsity}", mean, sync_dist=True)
        mean = float(np.mean([psnr for _, psnr in self._psnr]))
        self.log("psnr", mean, prog_bar=True, sync_dist=True)
        self.clock.note_judgement(time.monotonic() - self._since)

    def on_train_epoch_end(self) -> None:
        """With a budget the run ends once no step fits."""
        left = self._steps_left()
        if left is not None and left <= 0:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_USED] = self.clock.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.clock.used += float(checkpoint.get(_USED, 0.0))

    def _plan(self) -> int:
        """Steps of the epoch that begins; with a budget `planned` is brought up to date."""
        left = self._steps_left()
        if left is None:
            left = self.recipe.steps - self.current_epoch * self.recipe.epoch
        elif self.clock.is_measured:
            self.planned = self.global_step + left
            some = min(max(_FIRST_EPOCH, self.planned // _EPOCHS_IN_BUDGET), self.recipe.epoch)
            self._epoch = some if left >= 2 * some else left
        return max(1, min(self._epoch, left))

    def _steps_left(self) -> int | None:
        """As the first of several processes sees it: all must end at the same step."""
        left = self.clock.steps_left(self.global_step, max(self._epoch, 1))
        return left if left is None else int(self.trainer.strategy.broadcast(left))

    def _generator(self) -> torch.Generator:
        seed = (self.recipe.seed * 1_000_003 + self.global_step) * 65_537 + self.global_rank
        return torch.Generator(self.device).manual_seed(seed)


def train(
    frames: Frames,
    validation: Frames,
    recipe: Recipe,
    preset: Preset,
    folder: Path,
    *,
    start: dict[str, np.ndarray] | None = None,
    only_decoder: bool = False,
    callbacks: Sequence[Callback] = (),
    clock: Clock | None = None,
    **trainer_options: Any,
) -> tuple[nn.Module, bool]:
    """Train, or go on where a run in `folder` stopped.

    Returns the averaged weights that were best on validation, and whether this process should
    write the outcome (one does, of several). folder takes checkpoints and TensorBoard's curves and
    pictures. start: weights to begin with; only_decoder: the rest of them stays as it is, and a
    decoder of other widths begins anew. clock: what a budget of `recipe.minutes` is counted by.
    trainer_options go to Lightning's Trainer: devices, num_nodes, strategy, precision, accelerator.
    Raises OutputError if what lies in `folder` is not ours or damaged.
    """
    require_own(folder)
    L.seed_everything(recipe.seed, verbose=False)
    judged = whole_images(validation, preset.stride, _VALIDATION_IMAGES)
    module = Training(preset, recipe, frames, judged, clock or Clock(recipe.minutes))
    if start is not None:
        _begin_with(module.network, start, preset, only_decoder)
    trainer = _trainer(recipe, folder, callbacks, trainer_options)
    last = folder / _LAST
    if last.exists():
        _load(last)
    _fit(trainer, module, last if last.exists() else None)
    if trainer.is_global_zero:
        module.load_state_dict(_load(folder / _BEST)["state_dict"])
        module.network.cpu().eval()
        module.objective.settle()
    return module.network, trainer.is_global_zero


def _begin_with(
    network: nn.Module, start: dict[str, np.ndarray], preset: Preset, only_decoder: bool
) -> None:
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in start.items()}
    if only_decoder:
        own = network.state_dict()
        anew = any(own[name].shape != state[name].shape for name in own)
        state |= {n: own[n] for n in own if anew and n.startswith(DECODER)}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(DECODER))
    try:
        network.load_state_dict(state)
    except RuntimeError:
        said = f'the weights to begin with are not of preset "{preset.name}"'
        raise ModelError(said) from None


def _trainer(
    recipe: Recipe, folder: Path, callbacks: Sequence[Callback], options: dict[str, Any]
) -> L.Trainer:
    keep = ModelCheckpoint(
        folder,
        Path(_BEST).stem,
        monitor="psnr",
        mode="max",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    average = EMAWeightAveraging(decay=recipe.average, use_buffers=False)
    precision = "bf16-mixed" if torch.cuda.is_available() else "32-true"
    _quiet()
    return L.Trainer(
        max_steps=recipe.steps if recipe.minutes is None else -1,
        max_epochs=-1,
        callbacks=[average, keep, *callbacks],
        logger=TensorBoardLogger(folder, name=None, version=""),
        gradient_clip_val=1.0,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
        enable_progress_bar=False,
        **{"precision": precision} | options,
    )


def _fit(trainer: L.Trainer, module: Training, last: Path | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    # where weights decay to nothing, a processor takes ten times as long without this
    torch.set_flush_denormal(True)
    try:
        trainer.fit(module, ckpt_path=last, weights_only=True)
    except SystemExit:  # how Lightning ends after an interrupt
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
    finally:
        torch.set_flush_denormal(False)


def _quiet() -> None:
    """Lightning's advice is for those who write training loops."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def is_begun(folder: Path) -> bool:
    """Whether a run in this folder has something to go on with."""
    return (folder / _LAST).exists()


def require_own(folder: Path) -> None:
    """Make the folder, or make sure that what a run goes on with is ours. Raises OutputError."""
    own_folder(folder)
    for name in (RECORD, _LAST, _BEST):
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

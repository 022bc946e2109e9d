"""`primis train`: weights for one's own kind of images."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primis.cli.arguments import parse_path, require_between, require_place
from primis.cli.options import MaxPixels
from primis.cli.say import note, say
from primis.errors import OutputError, UsageError
from primis.network.presets import DEFAULT, PRESETS

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import Callback
    from rich.progress import Progress

    from primis.training.recipe import Part, Recipe

EXAMPLES = (
    "primis train xrays -o own.safetensors --minutes 30",
    "primis train table.csv -o own.safetensors --preset paper",
)

_ACCELERATORS = ("auto", "cpu", "gpu")
_MINUTES = (0.5, 60 * 24 * 30)


def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder of images, or a table (CSV) with columns file, split.",
            parser=parse_path,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="New weights (.safetensors).", parser=parse_path
        ),
    ],
    preset: Annotated[
        str, typer.Option(help="default, or the paper's architecture: paper.")
    ] = DEFAULT.name,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Images to validate on. (default: a tenth of DATA, or the table's val)",
            parser=parse_path,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to start from: a file, or default or paper.",
            parser=parse_path,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="PART", help="Learn only the decoder, or tables (the coder's), of --start."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps. (default: the preset's)")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time budget, the coder's tables included; decides the steps."),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Patches per step and device.")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a patch, in pixels.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu.")] = "auto",
    devices: Annotated[int, typer.Option(help="GPUs or processes on each node.")] = 1,
    nodes: Annotated[
        int,
        typer.Option(
            help="Number of machines; start the command on each, as Lightning's guide says."
        ),
    ] = 1,
    max_pixels: MaxPixels = None,
) -> None:
    """Train weights for your own kind of images. If it is stopped, the same command goes on."""
    if os.path.lexists(out):
        raise OutputError(f'"{out}" exists, expected a new file')
    require_place(out)
    if preset not in PRESETS:
        raise UsageError(f'--preset is "{preset}", expected one of {", ".join(PRESETS)}')
    recipe = _recipe(preset, steps, minutes, batch, patch, seed)
    require_between("devices", devices, 1, 1024)
    require_between("nodes", nodes, 1, 1 << 16)
    _require_inputs(data, validation, start)
    part = _part(only)
    if part is not None and start is None:
        raise UsageError("--only needs --start, which the rest is taken from")
    _require_accelerator(accelerator, devices)

    from primis.imaging.image import reading_up_to
    from primis.training.run import train_checkpoint

    one = devices * nodes == 1
    with reading_up_to(max_pixels), _shown(recipe) as shown:
        trained = train_checkpoint(
            data,
            out,
            recipe,
            PRESETS[preset],
            validation=validation,
            start=start,
            callbacks=[shown.callback()],
            progress=shown,
            only=part,
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="auto" if one else "ddp_find_unused_parameters_true",
        )
    if not trained.digest:
        return
    if trained.over:
        note(
            f"it took {trained.seconds / 60:.1f} minutes: "
            "reading the images, a few steps and the coder's tables take more than was asked"
        )
    say(
        f'wrote "{out}", model {trained.digest}; '
        f'curves and pictures: tensorboard --logdir "{out}.training"'
    )


def _recipe(
    preset: str,
    steps: int | None,
    minutes: float | None,
    batch: int | None,
    patch: int | None,
    seed: int,
) -> Recipe:
    """What was asked for, in range; the rest as the preset has it."""
    from primis.training.recipe import RECIPES

    for name, value, low, high in (
        ("steps", steps, 10, 10**8),
        ("batch", batch, 1, 1 << 16),
        ("patch", patch, 64, 1 << 12),
        ("minutes", minutes, *_MINUTES),
        ("seed", seed, 0, 1 << 32),
    ):
        if value is not None:
            require_between(name, value, low, high)
    if steps is not None and minutes is not None:
        raise UsageError("--steps and --minutes are both given, expected one of them")
    if patch is not None and patch % 64:
        raise UsageError(f'--patch is "{patch}", expected a multiple of 64')
    recipe = RECIPES[preset]
    steps = steps or recipe.steps
    return replace(
        recipe,
        seed=seed,
        steps=steps,
        minutes=minutes,
        batch=batch or recipe.batch,
        patch=patch or recipe.patch,
        epoch=min(recipe.epoch, max(10, steps // 4)),
    )


def _part(name: str | None) -> Part | None:
    """What is learned alone, if anything."""
    from primis.training.recipe import Part

    if name is not None and name not in tuple(Part):
        raise UsageError(f'--only is "{name}", expected {" or ".join(Part)}')
    return Part(name) if name else None


def _require_inputs(data: Path, validation: Path | None, start: Path | None) -> None:
    """That what is to be read exists, before anything heavy is loaded."""
    from primis.datasets.files import split_files
    from primis.network.checkpoint import named, read_checkpoint

    split_files(data, validation)
    if start is not None:
        read_checkpoint(named(start))


def _require_accelerator(accelerator: str, devices: int) -> None:
    if accelerator not in _ACCELERATORS:
        raise UsageError(f'--accelerator is "{accelerator}", expected auto, cpu or gpu')
    if accelerator == "gpu":
        import torch

        if (has := torch.cuda.device_count()) < devices:
            raise UsageError(
                f"--accelerator gpu with --devices {devices}, but this machine has {has} GPUs"
            )


class _Shown:
    """A training's progress: a bar, or where there is no terminal a line for each phase."""

    def __init__(self, progress: Progress, recipe: Recipe, *, first: bool) -> None:
        self._progress, self._recipe, self._first = progress, recipe, first
        self._task = progress.add_task("training", total=None)
        self._phase, self._since = "", time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Some of a phase is done; total is 0 where it is not known."""
        if what != self._phase:
            self._begin(what, total)
        self._progress.update(self._task, description=what, completed=done, total=total or None)

    def callback(self) -> Callback:
        """Shows steps, loss and PSNR while Lightning runs."""
        from lightning.pytorch.callbacks import Callback

        show = self._show_step

        class Shown(Callback):
            def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
                show(trainer)

        return Shown()

    def close(self) -> None:
        """The last phase is over."""
        self._begin("", 0)

    def _begin(self, what: str, total: int) -> None:
        now = time.monotonic()
        if self._first and self._progress.disable:
            if self._phase:
                note(f"{self._phase}: done in {now - self._since:.0f} s")
            if what:
                note(f"{what}: {total}" if total else what)
        self._phase, self._since = what, now
        self._progress.reset(self._task)

    def _show_step(self, trainer: Trainer) -> None:
        module: Any = trainer.lightning_module
        planned: int = module.planned
        if self._phase != "training":
            self._begin("training", 0 if self._recipe.minutes else planned)
        if trainer.global_step % 10 and trainer.global_step < planned:
            return
        known = trainer.callback_metrics
        names = [name for name in ("loss", "psnr") if name in known]
        text = "".join(f", {name} {float(known[name]):.4g}" for name in names)
        done = trainer.global_step
        described = f"training{text}"
        self._progress.update(self._task, completed=done, total=planned, description=described)


@contextmanager
def _shown(recipe: Recipe) -> Iterator[_Shown]:
    """On the first of several processes only."""
    from primis.cli.progress import bar

    first = os.environ.get("LOCAL_RANK", "0") == os.environ.get("NODE_RANK", "0") == "0"
    progress = bar()
    progress.disable = progress.disable or not first
    with progress:
        shown = _Shown(progress, recipe, first=first)
        yield shown
        shown.close()

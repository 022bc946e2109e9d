"""A whole training: from a folder of images to a model's file, and what a stopped run needs to go
on.

1 the network's steps, 2 the coder's tables, 3 the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from primis.codes.probabilities import ContextModel
from primis.datasets.files import split_files
from primis.datasets.frames import Frames
from primis.errors import UsageError
from primis.metrics.progress import Progress, silent
from primis.network.architecture import Architecture, architecture_of, fault_of
from primis.network.build import as_network
from primis.network.checkpoint import Checkpoint, named, read_checkpoint, write_checkpoint
from primis.network.presets import DEFAULT, Preset
from primis.network.tables import find_rates, fit_tables
from primis.network.tensors import DECODER
from primis.training.clock import Clock
from primis.training.loop import RECORD, is_begun, require_own, train
from primis.training.patches import whole_images
from primis.training.recipe import TABLE_STEPS, Part, Recipe, log_uniform

_TABLE_IMAGES = 600
_RATED_IMAGES = 60
_LEAST_TABLE_IMAGES, _LEAST_TABLE_STEPS = 10, 10
_STEPS_A_TABLE_STEP = 5
"""Of the network's, for one of the tables': a short training fits them briefly, on few images."""

_IMAGES_A_MINUTE = 5
_TOLERANCE = 1.1


@dataclass(frozen=True)
class Trained:
    """digest: of the model; empty where another process writes it.

    seconds: what all took; over: whether that was more than the budget of minutes allows.
    """

    digest: str
    seconds: float
    over: bool


def train_checkpoint(
    data: Path,
    out: Path,
    recipe: Recipe,
    preset: Preset = DEFAULT,
    *,
    validation: Path | None = None,
    start: Path | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress = silent,
    clock: Clock | None = None,
    only: Part | None = None,
    **trainer_options: Any,
) -> Trained:
    """Train on a folder or table of images, fit the coder's tables, write the model.

    What a stopped run needs to go on lies in `<out>.training`, with TensorBoard's curves and
    pictures. validation: a folder of images to judge by. start: a model to begin with. only: the
    part of it that is learned: the decoder, which may have other widths than the one in `start`, or
    the tables. Raises UsageError if `<out>.training` belongs to another recipe, or without a model
    to take the rest from; ModelError if `start` does not fit the preset.
    """
    if fault := fault_of(preset):
        raise UsageError(f'preset "{preset.name}" cannot be trained for primis: {fault}')
    clock = clock or Clock(recipe.minutes)
    train_files, held_out = split_files(data, validation)
    begin = read_checkpoint(named(start)) if start else None
    if only:
        _require_rest(begin, preset, only)
        recipe = replace(recipe, transform_steps=0)
    record = _record(recipe, preset, data.name, len(train_files), len(held_out), begin)
    progress("reading images", 0, 0)
    frames = Frames(train_files, least=recipe.patch)
    judged = Frames(held_out, least=preset.stride)
    folder = out.with_name(out.name + ".training")
    _same_run(folder, record)
    # 1
    options = {"callbacks": callbacks, "clock": clock, **trainer_options}
    if begin and only is Part.TABLES:
        network, writes, record = _network_of(begin), True, dict(begin.training)
    else:
        weights = begin.network if begin else None
        options |= {"start": weights, "only_decoder": only is Part.DECODER}
        network, writes = train(frames, judged, recipe, preset, folder, **options)
    if not writes:
        return Trained("", clock.seconds, over=False)
    # 2
    if begin and only is Part.DECODER:
        tables = begin.tables
    else:
        first = begin.tables if begin and only is Part.TABLES else None
        tables = _tables(network, frames, architecture_of(preset), recipe, first, clock, progress)
    # 3
    tensors = {name: tensor.contiguous().numpy() for name, tensor in network.state_dict().items()}
    if begin and only is Part.DECODER:  # to the last bit: averaging rounds
        tensors |= {n: held for n, held in begin.network.items() if not n.startswith(DECODER)}
    digest = write_checkpoint(Checkpoint(preset, tensors, tables, record), out)
    minutes, seconds = recipe.minutes, clock.seconds
    return Trained(digest, seconds, minutes is not None and seconds > 60 * minutes * _TOLERANCE)


def _require_rest(start: Checkpoint | None, preset: Preset, only: Part) -> None:
    """That what is not learned comes from a model of this kind."""
    if start is not None:
        ours, theirs = preset, start.preset
        if only is Part.DECODER:  # its widths follow from the preset
            theirs = replace(theirs, widths=ours.widths)
        if ours == theirs:
            return
    raise UsageError(f'{only} alone needs a model of preset "{preset.name}" to start with')


def _record(
    recipe: Recipe,
    preset: Preset,
    data: str,
    files: int,
    held_out: int,
    start: Checkpoint | None,
) -> dict[str, Any]:
    """What a run is, for its folder and for the model."""
    return asdict(recipe) | {
        "preset": preset.name,
        "data": _printable(data),
        "files": files,
        "validation": held_out,
        "start": start.digest if start else None,
    }


def _network_of(checkpoint: Checkpoint) -> nn.Module:
    network = checkpoint.architecture.build()
    network.load_state_dict({n: torch.from_numpy(w) for n, w in checkpoint.network.items()})
    return network.eval()


def _tables(
    network: nn.Module,
    frames: Frames,
    architecture: Architecture,
    recipe: Recipe,
    first: ContextModel | None,
    clock: Clock,
    progress: Progress,
) -> ContextModel:
    """Fitted to codes of training images, as many and as long as the training was long. first:
    tables that name the cost of entries, if there are some."""
    effort = effort_of(recipe)
    rng = np.random.default_rng(recipe.seed)
    images = whole_images(frames, architecture.preset.stride, effort.images)[: effort.images]
    coefficients = []
    for number, x in enumerate(images):
        progress("codes for the tables", number, len(images))
        with torch.inference_mode():
            z = as_network(network).encode(x[None]).numpy().copy()
        z = architecture.layout.transform_dc(z)
        coefficients.append((z, log_uniform(rng, recipe.sparsity)))
    tables = fit_tables(
        architecture,
        coefficients,
        first=first,
        steps=effort.steps,
        seed=recipe.seed,
        seconds=clock.left,
        progress=progress,
    )
    step = max(1, len(coefficients) // _RATED_IMAGES)  # files of one kind lie side by side
    some = [z for z, _ in coefficients[::step]]
    return find_rates(architecture, tables, some, progress)


class Effort(NamedTuple):
    """What is spent on the coder's tables: images, and steps of each table's fit."""

    images: int
    steps: int


def effort_of(recipe: Recipe) -> Effort:
    """In proportion to the training: all of it from 15,000 steps on."""
    if recipe.minutes is not None:  # the clock bounds the steps
        images = min(_TABLE_IMAGES, int(_IMAGES_A_MINUTE * recipe.minutes))
        return Effort(max(_LEAST_TABLE_IMAGES, images), TABLE_STEPS)
    steps = max(_LEAST_TABLE_STEPS, min(TABLE_STEPS, recipe.steps // _STEPS_A_TABLE_STEP))
    return Effort(max(_LEAST_TABLE_IMAGES, _TABLE_IMAGES * steps // TABLE_STEPS), steps)


def _same_run(folder: Path, record: dict[str, Any]) -> None:
    """Note what a run in this folder is, or make sure that it is this one, and ours."""
    require_own(folder)
    note = folder / RECORD
    mine = json.dumps(record, indent=1, sort_keys=True)
    same = note.exists() and note.read_text("utf-8", "replace") == mine
    if is_begun(folder) and not same:
        raise UsageError(
            f'"{folder}" holds a run with other data or another recipe: '
            "remove it, or choose another -o"
        )
    if not same:
        note.write_text(mine)


def _printable(name: str) -> str:
    """A file's name as a record may hold it."""
    return "".join(character if character.isprintable() else "?" for character in name)[:200]

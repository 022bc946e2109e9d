"""How many patches a second each preset trains on, on this machine, in one run.

    python benchmarks/training_speed.py [--steps N] [--threads N]

Phantoms; the recipes' own patches and batches. Megapixels a second is what to compare.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import machine, save
from lightning.pytorch.callbacks import Callback

from primis.datasets.frames import Frames
from primis.imaging.phantom import phantom_dicom
from primis.network.presets import PRESETS
from primis.training.loop import train
from primis.training.recipe import RECIPES

_WARM = 3


class Clock(Callback):  # type: ignore[misc]
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=23)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{seed}.dcm" for seed in range(4)]
        for seed, file in enumerate(files):
            file.write_bytes(phantom_dicom(256, seed=seed))
        for name, preset in PRESETS.items():
            recipe = replace(RECIPES[name], steps=arguments.steps, epoch=arguments.steps)
            clock = Clock()
            frames = Frames(files, least=recipe.patch)
            train(
                frames,
                Frames(files[:1], least=16),
                recipe,
                preset,
                Path(folder) / name,
                callbacks=[clock],
            )
            seconds = (clock.ends[-1] - clock.ends[_WARM - 1]) / (len(clock.ends) - _WARM)
            patches = recipe.batch / seconds
            rows[name] = {
                "patches_per_second": patches,
                "megapixels_per_second": patches * recipe.patch**2 / 1e6,
            }
            print(f"{name:<10}{patches:8.1f} patches/s of {recipe.patch} x {recipe.patch}", end="")
            print(f"{rows[name]['megapixels_per_second']:8.3f} megapixels/s")
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{arguments.threads} thread(s)"
    )
    print(save("training_speed", {"device": device, "presets": rows, "machine": machine()}))


if __name__ == "__main__":
    main()

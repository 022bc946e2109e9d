"""How many patches a second each preset trains on, on this machine, in one run.

    python benchmarks/training_speed.py [--steps N] [--threads N]

Phantoms; the recipes' own patches and batches. Megapixels a second is what to compare.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from common import machine, save
from lightning.pytorch.callbacks import Callback

from primis.datasets.frames import Frames
from primis.imaging.phantom import phantom_dicom
from primis.network.presets import PRESETS, Preset
from primis.training.loop import train
from primis.training.recipe import RECIPES

_WARM = 3
"""Steps before the clock starts."""


@dataclass(frozen=True)
class Rate:
    """Of a training run."""

    patches_per_second: float
    megapixels_per_second: float


class StepEnds(Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Of a step, on average."""
        return (self.ends[-1] - self.ends[_WARM - 1]) / (len(self.ends) - _WARM)


def measured(preset: Preset, files: list[Path], steps: int, folder: Path) -> Rate:
    """Train for so many steps."""
    recipe = replace(RECIPES[preset.name], steps=steps, epoch=steps)
    frames, held_out = Frames(files, least=recipe.patch), Frames(files[:1], least=16)
    clock = StepEnds()
    train(frames, held_out, recipe, preset, folder, callbacks=[clock])
    patches = recipe.batch / clock.seconds
    return Rate(patches, patches * recipe.patch**2 / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=23)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rates = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{seed}.dcm" for seed in range(4)]
        for seed, file in enumerate(files):
            file.write_bytes(phantom_dicom(256, seed=seed))
        for preset in PRESETS.values():
            rate = measured(preset, files, arguments.steps, folder / preset.name)
            rates[preset.name] = asdict(rate)
            print(f"{preset.name:<10}{rate.patches_per_second:8.1f} patches/s", end="")
            print(f"{rate.megapixels_per_second:8.3f} megapixels/s")
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"{arguments.threads} thread(s)"
    print(save("training_speed", {"device": device, "presets": rates, "machine": machine()}))


if __name__ == "__main__":
    main()

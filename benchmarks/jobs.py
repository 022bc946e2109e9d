"""Sharing and restoring on several cores against one.

    python benchmarks/jobs.py [FOLDER] [--images N] [--jobs N]

Images of a folder, or phantoms of 512 x 512 and 12 bits: images a second in one process that has
one core to itself, in N processes on N cores, and how many times as many. results/jobs.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import machine, save

import primis
from primis.datasets.files import collect
from primis.imaging.phantom import phantom_dicom
from primis.jobs.result import Result
from primis.keys.identity import generate, read_signer

_TURNS = 2


def draw(folder: Path, images: int) -> list[Path]:
    """Phantoms, all different."""
    folder.mkdir()
    for seed in range(images):
        (folder / f"{seed:04}.dcm").write_bytes(phantom_dicom(512, seed=seed))
    return sorted(folder.iterdir())


def fastest(call: Callable[[int], list[Result]], cores: int) -> float:
    """Seconds of the fastest turn on so many cores."""
    took = []
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(every)[:cores])
    for turn in range(_TURNS):
        start = time.perf_counter()
        results = call(turn)
        took.append(time.perf_counter() - start)
        if failed := [r.error for r in results if r.error is not None]:
            raise failed[0]
    os.sched_setaffinity(0, every)
    return min(took)


def measure(files: list[Path], folder: Path, jobs: int) -> dict[str, Any]:
    """Images a second, by number of processes."""
    key = folder / "key"
    key.write_text(generate())
    owner = read_signer(key)

    def share(count: int) -> float:
        def call(turn: int) -> list[Result]:
            out = folder / f"release-{count}-{turn}"
            return primis.share(files, out, to=[], owner=owner, jobs=count)

        return len(files) / fastest(call, count)

    def restore(count: int) -> float:
        def call(turn: int) -> list[Result]:
            out = folder / f"restored-{count}-{turn}"
            return primis.restore(folder / "release-1-0", out, identity=key, jobs=count)

        return len(files) / fastest(call, count)

    rates = {
        "share": {count: share(count) for count in (1, jobs)},
        "restore": {count: restore(count) for count in (1, jobs)},
    }
    times = {name: rate[jobs] / rate[1] for name, rate in rates.items()}
    return {"images": len(files), "jobs": jobs, "images_per_second": rates, "times": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CONFIG_HOME"] = name
        files = draw(folder / "in", arguments.images)
        if arguments.folder:
            files = [path for path, _ in collect([arguments.folder])][: arguments.images]
        result = measure(files, folder, arguments.jobs)
    for name, times in result["times"].items():
        rates = ", ".join(f"{k}: {x:.1f}/s" for k, x in result["images_per_second"][name].items())
        print(f"{name}: {rates}; {times:.2f} times as many")
    print(save("jobs", result | {"machine": machine()}))


if __name__ == "__main__":
    main()

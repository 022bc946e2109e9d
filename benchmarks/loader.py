"""Images a second into a torch DataLoader, against restoring the same release as files.

    python benchmarks/loader.py FOLDER [--count N] [--rounds N]

Shares N images of FOLDER, and then, in turn, round by round: restores them in one process; restores
them in two, half each; reads their pixels in a loop in two processes, without writing files; loads
them with a DataLoader of two workers, as pixels and as codes. Each time is that of all images, with
opening the release; that of the loader has the start of its workers too, those of the processes
have not. Medians over the rounds; only ratios in one run count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import machine, save
from torch.utils.data import DataLoader

import primis
from primis.datasets.files import collect
from primis.keys.identity import generate, read_signer

WORKERS = 2


class Place(NamedTuple):
    """A release, a key of it, and the names of its images."""

    release: Path
    key: Path
    names: list[str]


def make(folder: Path, images: Path, count: int) -> Place:
    """A release of the first images of a folder."""
    for key in ("owner.key", "reader.key"):
        (folder / key).write_text(generate())
    reader = read_signer(folder / "reader.key").recipient.text
    files = [path for path, _ in collect([images])]
    files = files[:: max(1, len(files) // count)][:count]
    results = primis.share(
        files, folder / "release", to=reader, owner=folder / "owner.key", measure=False
    )
    names = [result.name for result in results if result.error is None]
    return Place(folder / "release", folder / "reader.key", names)


def restore(place: Place, names: list[str], files: bool, gate: Any) -> None:
    """From when all processes are there until all are done. files: write them, or only read
    pixels."""
    opened = primis.open(place.release, place.key, remember=False)
    opened[names[0]].read()  # what is loaded first is no part of the time
    gate.wait()
    if files:
        with tempfile.TemporaryDirectory(dir=place.release.parent) as out:
            primis.restore(place.release, Path(out) / "out", identity=place.key, images=names)
    else:
        opened = primis.open(place.release, place.key, remember=False)
        for name in names:
            opened[name].read()
    gate.wait()  # ending a process takes time that is not asked for


def restoring(place: Place, processes: int, *, files: bool = True) -> float:
    """Seconds to restore all images, shared out among so many processes."""
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(processes + 1, timeout=600)
    running = [
        context.Process(target=restore, args=(place, place.names[k::processes], files, gate))
        for k in range(processes)
    ]
    for one in running:
        one.start()
    gate.wait()
    since = time.perf_counter()
    gate.wait()
    seconds = time.perf_counter() - since
    for one in running:
        one.join()
    return seconds


def loading(place: Place, item: str) -> float:
    """Seconds to load all images, one in a batch: they may differ in size."""
    since = time.perf_counter()
    dataset: Any = primis.Dataset(place.release, place.key, item=item)
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=None, num_workers=WORKERS, multiprocessing_context="fork"
    )
    count = sum(1 for _ in loader)
    if count != len(place.names):
        raise RuntimeError(f"{count} images were loaded, expected {len(place.names)}")
    return time.perf_counter() - since


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = make(Path(name), given.folder, given.count)
        ways: dict[str, Callable[[], float]] = {
            "restore, one process": partial(restoring, place, 1),
            "restore, two processes": partial(restoring, place, WORKERS),
            "read in a loop, two processes": partial(restoring, place, WORKERS, files=False),
            "DataLoader, two workers": partial(loading, place, "pixels"),
            "DataLoader, two workers, codes": partial(loading, place, "codes"),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, run in ways.items():
                seconds[way].append(run())
    rates = {way: len(place.names) / float(np.median(all_)) for way, all_ in seconds.items()}
    for way, rate in rates.items():
        print(f"{way:<32}{rate:7.2f} images/s")
    facts = {"data": given.folder.name, "images": len(place.names), "rounds": given.rounds}
    print(save("loader", facts | {"images_per_second": rates, "machine": machine()}))


if __name__ == "__main__":
    main()

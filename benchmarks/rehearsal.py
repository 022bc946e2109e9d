"""A release of many small images from end to end: rate, memory, and what each command then takes.

    python benchmarks/rehearsal.py [--images N] [--size S] [--jobs N]

Phantoms of S x S pixels, 12 bits, 200 of them again and again under other names: shares them in one
process, opens the release, restores one by its id, grants, gives new secrets, and lists it again.
Sharing and new secrets are interrupted in the middle and gone on with. New secrets are given three
times: in one process, in N (as many as cores), and in two shards. Each step runs in a process of
its own, whose time and largest memory are measured, without that of processes that it starts. While
it shares, images a second and memory in use are noted after each tenth. results/rehearsal.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import primis

if TYPE_CHECKING:
    from primis.jobs.result import Result

# what a step needs is imported where it runs: opening is to be measured without the rest

_STATUS = Path("/proc/self/status")
_JOBS = "REHEARSAL_JOBS"
_IMAGES = 160_000
_DISTINCT = 200
"""Phantoms that are drawn; the others are these under other names."""


@dataclass(frozen=True)
class Row:
    """After a tenth: images done, images per second in it, MiB of memory in use."""

    done: int
    rate: float
    mib: float


@dataclass
class Log:
    """Notes a row after each tenth. until: how many are done when it interrupts."""

    until: int
    rows: list[Row] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)
    since: float = 0.0
    gone_on: float = 0.0

    def note(self, result: Result, done: int, total: int) -> None:
        """As `share` calls it after each image."""
        if result.error is not None:
            raise result.error
        if result.resumed:
            return
        now = time.perf_counter()
        if not self.since:
            self.since = now
            self.gone_on = now - self.begun
        tenth = max(1, total // 10)
        if done % tenth == 0:
            self.rows.append(Row(done, tenth / (now - self.since), resident()))
            print(f"{done:7} images  {self.rows[-1].rate:6.1f}/s", file=sys.stderr, flush=True)
            self.since = now
        if done == self.until:
            raise KeyboardInterrupt


def resident() -> float:
    """MiB of memory in use."""
    return _memory("VmRSS")


def _memory(name: str) -> float:
    """MiB. (What getrusage calls the largest memory in use counts that of the parent.)"""
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def share(folder: Path, until: int = 0) -> dict[str, Any]:
    """until: after how many images it is interrupted. first: seconds to the first image that was
    not done before."""
    from primis.keys.identity import read_signer

    log = Log(until)
    owner = read_signer(folder / "key")
    with suppress(KeyboardInterrupt):
        primis.share(
            folder / "in", folder / "release", to=[], owner=owner, measure=False, on_result=log.note
        )
    return {"rows": [asdict(row) for row in log.rows], "first": log.gone_on}


def share_half(folder: Path) -> dict[str, Any]:
    return share(folder, len(list((folder / "in").glob("*/*"))) // 2)


def open_release(folder: Path) -> dict[str, Any]:
    primis.open(folder / "release", folder / "key", remember=False)
    return {}


def list_names(folder: Path) -> dict[str, Any]:
    release = primis.open(folder / "release", folder / "key", remember=False)
    return {"images": len([image.name for image in release])}


def restore_one(folder: Path) -> dict[str, Any]:
    bundle = next(os.scandir(folder / "release/bundles")).name.removesuffix(".primis")
    results = primis.restore(
        folder / "release", folder / "one", identity=folder / "key", images=[bundle]
    )
    return {"restored": len([r for r in results if r.error is None])}


def grant(folder: Path) -> dict[str, Any]:
    from primis.keys.identity import generate, read_signer

    (folder / "other").write_text(generate())
    to = read_signer(folder / "other").recipient.text
    return {"grants": len(primis.grant(folder / "release", to=to, owner=folder / "key"))}


def rekey(folder: Path, **how: Any) -> dict[str, Any]:
    done = primis.rekey(folder / "release", owner=folder / "key", **how)
    return {"renewed": len(done.renewed), "sealed": done.images}


def rekey_in_processes(folder: Path) -> dict[str, Any]:
    jobs = int(os.environ[_JOBS])
    return rekey(folder, jobs=jobs) | {"jobs": jobs}


def rekey_half(folder: Path) -> dict[str, Any]:
    from primis.jobs.rekey.run import rekey as give_new_secrets
    from primis.keys.identity import read_signer
    from primis.release.reader import Release

    def interrupt(what: str, done: int, total: int) -> None:
        if done >= total // 2:
            raise KeyboardInterrupt

    signer = read_signer(folder / "key")
    with suppress(KeyboardInterrupt):
        give_new_secrets(Release(folder / "release"), signer, progress=interrupt)
    return {}


PHASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "share, half": share_half,
    "share, the rest": share,
    "open": open_release,
    "restore one": restore_one,
    "grant": grant,
    "rekey, half": rekey_half,
    "rekey, the rest": rekey,
    "rekey, processes": rekey_in_processes,
    "rekey, shard 1/2": partial(rekey, shard="1/2"),
    "rekey, shard 2/2": partial(rekey, shard="2/2"),
    "rekey, finish": partial(rekey, finish=True),
    "list": list_names,
}


def run_phase(name: str, folder: Path) -> None:
    """In this process: prints seconds, the largest memory in use, and what came of it, as JSON."""
    at_rest, start = _peak(), time.perf_counter()
    made = PHASES[name](folder)
    took = time.perf_counter() - start
    print(json.dumps({"seconds": took, "peak_mib": _peak(), "at_rest_mib": at_rest} | made))


def _peak() -> float:
    return _memory("VmHWM")


def lay_out(folder: Path, images: int, size: int) -> None:
    """Files under names of their own, a thousand in a folder."""
    from primis.imaging.phantom import phantom_dicom
    from primis.keys.identity import generate

    drawn = [phantom_dicom(size, seed=seed) for seed in range(min(images, _DISTINCT))]
    for number in range(images):
        part = folder / "in" / f"{number // 1000:03}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{number:06}.dcm").write_bytes(drawn[number % len(drawn)])
    (folder / "key").write_text(generate())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=_IMAGES)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        run_phase(arguments.phase, arguments.folder)
        return
    from common import machine, save

    facts: dict[str, Any] = {"images": arguments.images, "size": arguments.size}
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), arguments.images, arguments.size)
        for name in PHASES:
            command = [sys.executable, __file__, "--phase", name, "--folder", folder]
            environment = os.environ | {"XDG_CONFIG_HOME": folder, _JOBS: str(arguments.jobs)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            facts[name] = json.loads(done.stdout.splitlines()[-1])
            took, peak = facts[name]["seconds"], facts[name]["peak_mib"]
            print(f"{name}: {took:.2f} s, {peak:.0f} MiB", flush=True)
    print(save("rehearsal", facts | {"machine": machine()}))


if __name__ == "__main__":
    main()

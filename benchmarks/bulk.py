"""Shares many images and shows that rate and memory stay flat.

    python benchmarks/bulk.py [--images N] [--size S]

The images are phantoms of S x S pixels, 12 bits, all different. Prints images per second and the
memory in use after each tenth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common import machine, save

from primis.bundle.settings import Settings
from primis.imaging.phantom import phantom_dicom
from primis.jobs import share as sharing
from primis.jobs.result import Result
from primis.keys.identity import generate, read_signer

_SETTINGS = Settings(sparsity=4.0)
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Row:
    """After a tenth: images done, images per second in it, MiB of memory in use."""

    done: int
    rate: float
    mib: float


@dataclass
class Log:
    """Notes a row after each tenth."""

    rows: list[Row] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def note(self, result: Result, done: int, total: int) -> None:
        """As `share` calls it after each image."""
        tenth = max(1, total // 10)
        if done % tenth:
            return
        now = time.perf_counter()
        row = Row(done, tenth / (now - self.since), resident())
        print(f"{row.done:5} images  {row.rate:6.2f} images/s  {row.mib:6.0f} MiB", flush=True)
        self.rows.append(row)
        self.since = now


def resident() -> float:
    """MiB of memory in use."""
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def share_phantoms(folder: Path, images: int, size: int) -> list[Row]:
    """Share phantoms in a folder."""
    (folder / "in").mkdir()
    for seed in range(images):
        (folder / "in" / f"{seed:04}.dcm").write_bytes(phantom_dicom(size, seed=seed))
    (folder / "key").write_text(generate())
    signer, log = read_signer(folder / "key"), Log()
    sharing.share([folder / "in"], folder / "out", [], signer, _SETTINGS, on_result=log.note)
    return log.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = share_phantoms(Path(folder), arguments.images, arguments.size)
    facts = {"images": arguments.images, "size": arguments.size, "machine": machine()}
    print(save("bulk", facts | {"rows": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()

"""Shares many images and shows that rate and memory stay flat.

    python benchmarks/bulk.py [--images N] [--size S]

The images are phantoms of S x S pixels, 12 bits, all different. Prints images per second and the
memory in use after each tenth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from common import machine, save

from primis.bundle.settings import Settings
from primis.imaging.phantom import phantom_dicom
from primis.jobs import share as sharing
from primis.jobs.result import Result
from primis.keys.identity import generate, read_signer


def resident() -> float:
    """MiB of memory in use."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for seed in range(arguments.images):
            (folder / "in" / f"{seed:04}.dcm").write_bytes(phantom_dicom(arguments.size, seed=seed))
        (folder / "key").write_text(generate())
        clock = time.perf_counter()

        def seen(result: Result, done: int, total: int) -> None:
            nonlocal clock
            if done % (total // 10) == 0:
                now = time.perf_counter()
                rows.append(
                    {"done": done, "rate": (total // 10) / (now - clock), "mib": resident()}
                )
                print(
                    "{done:5} images  {rate:6.2f} images/s  {mib:6.0f} MiB".format(**rows[-1]),
                    flush=True,
                )
                clock = now

        settings = Settings(
            sparsity=4.0, decoys=4.0, protection="keyed", support_bits=2.75, value_bits=4.0
        )
        sharing.share(
            [folder / "in"],
            folder / "out",
            [],
            read_signer(folder / "key"),
            settings,
            on_result=seen,
        )
    print(
        save(
            "bulk",
            {
                "images": arguments.images,
                "size": arguments.size,
                "rows": rows,
                "machine": machine(),
            },
        )
    )


if __name__ == "__main__":
    main()

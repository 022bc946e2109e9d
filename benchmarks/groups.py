"""What coding neighbouring slices together gains.

    python benchmarks/groups.py SERIES ... [--sparsity S_x ...]

A series is a folder of DICOM files of one series, or a file of several frames. It is shared with
each frame alone, with groups of 2, 4 and 8, and with the group that primis chooses. The budget is
constant, so the bytes are the same; PSNR is that of `info`. To say what that is worth in bytes,
each frame is coded alone at larger S_x too: the bytes at which it has the PSNR of the chosen group
lie between measured points, on a logarithmic scale, and are at least those of the largest of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import Keys, machine, one_thread, save
from rich.progress import track

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.datasets.files import collect
from primis.imaging.image import Image
from primis.jobs.share.source import Reading, gather, read_source
from primis.sharing.groups import GROUPS
from primis.sharing.opened import OpenedBundle
from primis.sharing.share import share_image

_MORE = (1.25, 1.6, 2.2)
"""Times S_x, for what frames alone take."""

_HEADER = 1 << 20


@dataclass(frozen=True)
class Point:
    """bytes: of the code of a frame."""

    group: int
    bytes: int
    psnr: float
    seconds: float


def point(image: Image, sparsity: float, group: int | None, codec: Codec) -> Point:
    """An image shared with a group, None for the one that primis chooses."""
    keys, start = Keys.new(), perf_counter()
    made = share_image(
        image,
        Settings(sparsity=sparsity, exact_bits=0, header_bytes=_HEADER),
        keys.secrets,
        codec,
        bundle_id=keys.bundle_id,
        name="x",
        alone=True,
        measure=True,
        group=group,
    )
    seconds = perf_counter() - start
    if made.quality is None or made.quality.psnr is None:
        raise ValueError("the image is without loss: there is nothing to compare")
    chosen = OpenedBundle.read(made.data, keys.secrets).group
    return Point(chosen, made.header.code_budget, made.quality.psnr, seconds)


def measured(image: Image, sparsity: float, codec: Codec) -> dict[str, Any]:
    """PSNR and seconds by group, the group that is chosen, and what it saves in percent of the
    bytes that frames alone take."""
    groups = {group: point(image, sparsity, group, codec) for group in GROUPS}
    chosen = point(image, sparsity, None, codec)
    alone = [groups[1], *(point(image, more * sparsity, 1, codec) for more in _MORE)]
    sizes = np.log([known.bytes for known in alone])
    needed = float(np.exp(np.interp(chosen.psnr, [known.psnr for known in alone], sizes)))
    return {
        "slices": image.shape[0],
        "bytes": chosen.bytes,
        "psnr": {group: known.psnr for group, known in groups.items()},
        "seconds": {group: round(known.seconds, 2) for group, known in groups.items()},
        "chosen": chosen.group,
        "seconds, chosen": round(chosen.seconds, 2),
        "gained": round(chosen.psnr - groups[1].psnr, 2),
        "saved": round(100 * (1 - chosen.bytes / needed), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("series", nargs="+", type=Path)
    parser.add_argument("--sparsity", type=float, nargs="*", default=[4.0, 8.0])
    arguments = parser.parse_args()
    codec, result = one_thread(), {}
    for place in track(arguments.series, "series"):
        image, _ = read_source(gather(collect([place]))[0], Reading())
        rows = {f"{s:g}": measured(image, s, codec) for s in arguments.sparsity}
        result[place.name.split(".")[0]] = rows
        print(place.name, rows)
    print(save("groups", {"series": result, "machine": machine()}))


if __name__ == "__main__":
    main()

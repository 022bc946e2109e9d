"""Time of each stage of sharing and restoring, and of the baselines, in one run; peak memory.

    python benchmarks/speed.py FOLDER [--count N]

Each stage runs on the same images in turn, one thread; the medians over images are compared.
Baselines: preset `paper` (encode, decode), OpenJPEG and JPEG XL near the same PSNR, age on the
bytes of the bundle. Peak memory is of a process of its own that shares and restores one image of
4096 x 4096, less what it takes at rest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import imagecodecs
import numpy as np
import pyrage
from baselines import jpeg_2000, jpeg_xl
from common import Keys, load, machine, one_thread, save
from tables import is_restoring

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.codes.ambiguation import ambiguate
from primis.codes.coder import decode_code, encode_code
from primis.codes.selection import entry_odds
from primis.codes.sparse import SparseCode
from primis.imaging.files import render
from primis.imaging.image import Derivation, Image
from primis.imaging.phantom import draw_phantom
from primis.keys.tier import Tier
from primis.network.presets import DEFAULT, PAPER
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image, restore_image
from primis.study.versions import entries

SETTINGS = Settings(sparsity=8.0)
_PAPER_SPARSITY = 4
"""Of each code map."""
_LARGE = 4096
_PROCESS = Path("/proc/self")

T = TypeVar("T")


@dataclass
class Times:
    """Seconds by stage, one for each image."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def of(self, stage: str, call: Callable[[], T]) -> T:
        """The value of a call; its time goes under `stage`."""
        start = time.perf_counter()
        value = call()
        self.seconds.setdefault(stage, []).append(time.perf_counter() - start)
        return value

    @property
    def medians(self) -> dict[str, float]:
        """By stage, without the first image, which warms up."""
        return {stage: float(np.median(all_[1:])) for stage, all_ in self.seconds.items()}


def measure(image: Image, codec: Codec, paper: Codec, times: Times) -> None:
    """Every stage once, on one image."""
    measure_stages(image, codec, times)
    data = measure_whole(image, codec, times)
    measure_paper(image, paper, times)
    measure_age(data, times)
    measure_baselines(np.ascontiguousarray(np.squeeze(image.pixels[0])), times)


def measure_stages(image: Image, codec: Codec, times: Times) -> None:
    """What sharing and restoring are made of."""
    height, width = image.shape[1:3]
    z, scale = times.of("encode", lambda: codec.encode(image.pixels[0]))
    count = entries(codec, z, SETTINGS.sparsity)
    code = times.of("choose entries", lambda: codec.sparsify(z, count))
    streams = times.of("code", lambda: coded(code, codec))
    layout, tables = codec.layout, codec.checkpoint.tables
    odds = times.of("odds of decoys (sca)", lambda: entry_odds(code.levels, layout, tables))
    times.of("ambiguate (sca)", lambda: ambiguate(code.levels, count, odds=odds))
    times.of("purify (decode the code)", lambda: decoded(streams, code, codec))
    dtype = image.pixels.dtype
    times.of("decode", lambda: codec.decode(code, scale, (height, width), dtype))
    times.of("write the file", lambda: render(image, Derivation("", 1.0, "", "")))


def coded(code: SparseCode, codec: Codec) -> list[tuple[bytes, bytes]]:
    """Support and values, tier by tier."""
    layout, tables = codec.layout, codec.checkpoint.tables
    return [encode_code(code.levels[0], atoms, layout, tables) for atoms in layout.split()]


def decoded(streams: list[tuple[bytes, bytes]], code: SparseCode, codec: Codec) -> np.ndarray:
    """The levels again."""
    layout, tables = codec.layout, codec.checkpoint.tables
    levels = code.levels[0]
    known = np.zeros_like(levels)
    for atoms, (support, values) in zip(layout.split(), streams, strict=True):
        count = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
        known = decode_code(support, values, known, atoms, count, layout, tables)
    return known


def measure_whole(image: Image, codec: Codec, times: Times) -> bytes:
    """Sharing and restoring; the bundle."""
    keys = Keys.new()
    data = times.of("share, whole", lambda: keys.share(image, SETTINGS, codec)).data

    def restore() -> None:
        opened = OpenedBundle.read(data, keys.secrets)
        restore_image(opened, Tier.DIAGNOSTIC, lambda digest: codec, group="g")

    times.of("restore, whole", restore)
    return data


def measure_paper(image: Image, paper: Codec, times: Times) -> None:
    """Preset `paper`."""
    height, width = image.shape[1:3]
    z, scale = times.of("preset paper: encode", lambda: paper.encode(image.pixels[0]))
    code = paper.sparsify(z, entries(paper, z, _PAPER_SPARSITY))
    dtype = image.pixels.dtype
    times.of("preset paper: decode", lambda: paper.decode(code, scale, (height, width), dtype))


def measure_age(data: bytes, times: Times) -> None:
    """What encrypting a bundle takes."""
    key = pyrage.x25519.Identity.generate()
    recipients = [key.to_public()]
    sealed = times.of("age: encrypt the bundle", lambda: pyrage.encrypt(data, recipients))
    times.of("age: decrypt the bundle", lambda: pyrage.decrypt(sealed, [key]))


def measure_baselines(frame: np.ndarray, times: Times) -> None:
    """OpenJPEG and JPEG XL, at qualities near the PSNR of S_x = 8."""
    packed = times.of("OpenJPEG: encode", lambda: jpeg_2000(frame, 43.5, threads=1))
    times.of("OpenJPEG: decode", partial(imagecodecs.jpeg2k_decode, packed))
    packed = times.of("JPEG XL: encode", lambda: jpeg_xl(frame, 1.3, threads=1))
    times.of("JPEG XL: decode", partial(imagecodecs.jpegxl_decode, packed))


class Peak(NamedTuple):
    """MiB beyond what the program takes at rest, after sharing and after restoring besides."""

    share: float
    share_and_restore: float

    @classmethod
    def measure(cls) -> Peak:
        """Of this process, sharing and restoring one large image."""
        codec, keys = one_thread(), Keys.new()
        pixels = np.tile(draw_phantom(512), (_LARGE // 512, _LARGE // 512))[None, ..., None]
        image = Image(np.ascontiguousarray(pixels), 12, "MONOCHROME2", "tiff", None, b"{}")
        (_PROCESS / "clear_refs").write_text("5")  # the peak starts anew from what is in use
        rest = memory("VmRSS")
        data = keys.share(image, SETTINGS, codec).data
        shared = memory("VmHWM")
        opened = OpenedBundle.read(data, keys.secrets)
        decode_image(opened, Tier.DIAGNOSTIC, lambda digest: codec)
        return cls(shared - rest, memory("VmHWM") - rest)

    @classmethod
    def apart(cls) -> Peak:
        """The same, of a process of its own."""
        command = [sys.executable, __file__, "--peak"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return cls(*(float(x) for x in done.stdout.split()))


def memory(name: str) -> float:
    """MiB of this process, as Linux counts them."""
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def show(medians: dict[str, float], megapixels: float) -> None:
    """What a person wants to see first."""
    print(f"  {'':<26}{'':>11}  s/megapixel   x OpenJPEG   x preset paper")
    for stage, seconds in medians.items():
        other = "OpenJPEG: decode" if is_restoring(stage) else "OpenJPEG: encode"
        beside = [medians[other]]
        if paper := medians.get(f"preset paper: {stage}"):
            beside.append(paper)
        ratios = "".join(f"{seconds / x:12.2f}" for x in beside)
        print(f"  {stage:<26}{1e3 * seconds:8.1f} ms  {seconds / megapixels:11.3f}{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=15)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(*Peak.measure())
        return
    if arguments.folder is None:
        parser.error("FOLDER is missing")
    codec, paper, times = one_thread(DEFAULT.name), one_thread(PAPER.name), Times()
    images = [image for _, image in load(arguments.folder)[: arguments.count + 1]]
    for image in images:
        measure(image, codec, paper, times)
    height, width = images[0].shape[1:3]
    data, count = arguments.folder.name, len(images) - 1
    print(f"{data}: {count} images of {height} x {width}, one thread, medians")
    show(times.medians, height * width / 1e6)
    peak = Peak.apart()
    print(f"  peak memory, {_LARGE} x {_LARGE}, 12 bits: share {peak.share:.0f} MiB, ", end="")
    print(f"then restore {peak.share_and_restore:.0f} MiB")
    facts = {"data": data, "images": count, "seconds": times.medians, "machine": machine()}
    print(save("speed", facts | {"peak_mib": {"side": _LARGE, **peak._asdict()}}))


if __name__ == "__main__":
    main()

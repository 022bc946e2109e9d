"""Bits beside JPEG 2000 and JPEG XL image by image, at the PSNR that each image has at S_x.

    python benchmarks/matched.py FOLDER [--every N] [--sparsity S_x ...]

`rate_distortion.py` compares means at equal mean PSNR. There a baseline codes every image to one
quality and primis every image with one S_x, which favours primis: quality spread over images is
cheaper on average. Here each image is compared at its own PSNR, and neither gains. `in age` counts
the baseline's file as age encrypts it, `published` all files of a release of these images that one
recipient can open, over the number of images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from baselines import BASELINES, in_age
from common import load, machine, save
from rich.progress import track

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.jobs.share.run import share
from primis.keys.identity import generate, parse_recipient, read_signer
from primis.metrics.fidelity import data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.study.versions import code_bits, code_of

_QUALITIES = {
    "JPEG 2000": BASELINES["JPEG 2000"].qualities,
    "JPEG XL": (0.15, 0.4, 0.8, 1.5, 3, 6, 12),
}

Row = dict[str, float]
"""PSNR in dB, and bits per pixel by what they are of."""


@dataclass(frozen=True)
class Curve:
    """Bytes of a baseline's file, and of it in an age file, over PSNR, rising."""

    psnr: np.ndarray
    plain: np.ndarray
    in_age: np.ndarray

    @classmethod
    def of(cls, name: str, frame: np.ndarray, scale: float) -> Curve:
        """Of a frame (H, W) at each of the qualities."""
        baseline = BASELINES[name]
        files = [baseline.encode(frame, quality) for quality in _QUALITIES[name]]
        points = [(psnr(frame, baseline.decode(f), scale), len(f), in_age(f)) for f in files]
        return cls(*np.array(sorted(points)).T)

    def at(self, decibels: float, sizes: np.ndarray) -> float:
        """Bits at a PSNR, between the measured points on a logarithmic scale."""
        return 8 * float(np.exp(np.interp(decibels, self.psnr, np.log(sizes))))


def compared(image: Image, codec: Codec, sparsities: list[float]) -> dict[float, Row]:
    """By S_x: an image's PSNR, and the bits of primis and of the baselines at it."""
    frame = np.ascontiguousarray(image.pixels[0, ..., 0])
    scale = data_range(image.pixels, image.bit_depth)
    curves = {name: Curve.of(name, frame, scale) for name in _QUALITIES}
    z, grey = codec.encode(image.pixels[0])
    rows = {}
    for sparsity in sparsities:
        code = code_of(z, frame.shape, codec, sparsity)
        restored = codec.decode(code, grey, (frame.shape[0], frame.shape[1]), frame.dtype)
        reached = psnr(image.pixels[0], restored, scale)
        key, values = (bits / frame.size for bits in code_bits(code, codec))
        row = {"psnr": reached, "key": key, "values": values, "bits": key + values}
        for name, curve in curves.items():
            row[name] = curve.at(reached, curve.plain) / frame.size
            row[f"{name} in age"] = curve.at(reached, curve.in_age) / frame.size
        rows[sparsity] = row
    return rows


def published(files: Sequence[Path], sparsity: float) -> float:
    """Bytes of a whole release of these files, for each of them."""
    with TemporaryDirectory() as folder:
        owner, reader = (read_signer(_key(Path(folder), name)) for name in ("owner", "reader"))
        out = Path(folder) / "release"
        to = [parse_recipient(reader.recipient.text)]
        results = share(files, out, to, owner, Settings(sparsity=sparsity))
        if failed := [result.name for result in results if result.error]:
            raise SystemExit(f"could not share {', '.join(failed)}")
        return sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / len(files)


def _key(folder: Path, name: str) -> Path:
    path = folder / f"{name}.key"
    path.touch(0o600)
    path.write_text(generate())
    return path


def means(rows: list[Row]) -> Row:
    """Of each field over the images."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--sparsity", type=float, nargs="*", default=[4.0, 8.0, 16.0])
    arguments = parser.parse_args()
    codec = Codec(read_checkpoint(shipped()))
    named = load(arguments.folder, arguments.every)
    images = [image for _, image in named]
    found = [compared(image, codec, arguments.sparsity) for image in track(images, "images")]
    result = {f"{s:g}": means([rows[s] for rows in found]) for s in arguments.sparsity}
    pixels = float(np.mean([image.pixels[0, ..., 0].size for image in images]))
    files = [arguments.folder / name for name, _ in named]
    for sparsity in track(arguments.sparsity, "releases"):
        result[f"{sparsity:g}"]["published"] = 8 * published(files, sparsity) / pixels
    print(f"{arguments.folder.name}: {len(images)} images; bits per pixel at each image's own PSNR")
    for sparsity, row in result.items():
        told = "  ".join(f"{name} {value:.4f}" for name, value in row.items())
        print(f"  S_x = {sparsity:<4}{told}")
    facts = {"data": arguments.folder.name, "images": len(images)}
    print(save("matched", facts | {"rows": result, "machine": machine()}))


if __name__ == "__main__":
    main()

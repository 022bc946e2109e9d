"""Bits beside JPEG 2000 and JPEG XL image by image, at the PSNR that each image has at S_x.

    python benchmarks/matched.py FOLDER [--every N] [--sparsity S_x ...]

`rate_distortion.py` compares means at equal mean PSNR. There a baseline codes every image to one
quality and primis every image with one S_x, which favours primis: quality spread over images is
cheaper on average. Here each image is compared at its own PSNR, and neither gains. `in age` counts
the baseline's file as age encrypts it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from baselines import BASELINES, in_age
from common import load, machine, save
from rich.progress import track

from primis.codec import Codec
from primis.imaging.image import Image
from primis.metrics.fidelity import data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.study.versions import code_bits, entries

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
        code = codec.sparsify(z, entries(codec, z, sparsity))
        restored = codec.decode(code, grey, (frame.shape[0], frame.shape[1]), frame.dtype)
        reached = psnr(image.pixels[0], restored, scale)
        row = {"psnr": reached, "bits": sum(code_bits(code, codec)) / frame.size}
        for name, curve in curves.items():
            row[name] = curve.at(reached, curve.plain) / frame.size
            row[f"{name} in age"] = curve.at(reached, curve.in_age) / frame.size
        rows[sparsity] = row
    return rows


def means(rows: list[Row]) -> Row:
    """Of each field over the images."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--sparsity", type=float, nargs="*", default=[3.0, 6.0, 8.0, 16.0])
    arguments = parser.parse_args()
    codec = Codec(read_checkpoint(shipped()))
    images = [image for _, image in load(arguments.folder, arguments.every)]
    found = [compared(image, codec, arguments.sparsity) for image in track(images, "images")]
    result = {f"{s:g}": means([rows[s] for rows in found]) for s in arguments.sparsity}
    print(f"{arguments.folder.name}: {len(images)} images; bits per pixel at each image's own PSNR")
    for sparsity, row in result.items():
        told = "  ".join(f"{name} {value:.4f}" for name, value in row.items())
        print(f"  S_x = {sparsity:<4}{told}")
    facts = {"data": arguments.folder.name, "images": len(images)}
    print(save("matched", facts | {"rows": result, "machine": machine()}))


if __name__ == "__main__":
    main()

"""Bits beside JPEG 2000 and JPEG XL image by image, at the PSNR that each image has at S_x.

    python benchmarks/matched.py FOLDER [--every N] [--sparsity S_x ...]

`rate_distortion.py` compares means at equal mean PSNR. There a rival codes every image to one quality and primis every
image with one S_x, which favours primis: quality spread over images is cheaper on average. Here each image is
compared at its own PSNR, and neither gains. `in age` counts the rival's file as age encrypts it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imagecodecs
import numpy as np
import pyrage
from common import load, machine, save
from rich.progress import track

from primis.codec import Codec
from primis.codes.coder import encode_code
from primis.metrics.fidelity import data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped

_RIVALS = {
    "JPEG 2000": (
        lambda x, q: imagecodecs.jpeg2k_encode(x, level=q),
        imagecodecs.jpeg2k_decode,
        tuple(range(26, 56, 2)),
    ),
    "JPEG XL": (
        lambda x, q: imagecodecs.jpegxl_encode(x, distance=q, effort=7),
        imagecodecs.jpegxl_decode,
        (0.15, 0.4, 0.8, 1.5, 3, 6, 12),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--sparsity", type=float, nargs="*", default=[3.0, 6.0, 8.0, 16.0])
    arguments = parser.parse_args()
    codec = Codec(read_checkpoint(shipped()))
    layout, tables = codec.layout, codec.checkpoint.tables
    recipient = pyrage.x25519.Identity.generate().to_public()
    rows: dict[float, list[dict[str, float]]] = {s: [] for s in arguments.sparsity}
    images = [image for _, image in load(arguments.folder, arguments.every)]
    for image in track(images, description="images"):
        frame, scale = (
            np.ascontiguousarray(image.pixels[0, ..., 0]),
            data_range(image.pixels, image.bit_depth),
        )
        curves = {}
        for name, (encode, decode, settings) in _RIVALS.items():
            files = [encode(frame, float(setting)) for setting in settings]
            curves[name] = sorted(
                (
                    psnr(frame, decode(file), scale),
                    len(file),
                    len(pyrage.encrypt(file, [recipient])),
                )
                for file in files
            )
        z, grey = codec.encode(image.pixels[0])
        for sparsity in arguments.sparsity:
            code = codec.sparsify(z, round(sparsity * z[0, 0].size))
            streams = [
                encode_code(code.levels[0], atoms, layout, tables) for atoms in layout.split()
            ]
            reached = psnr(
                image.pixels[0], codec.decode(code, grey, frame.shape, frame.dtype), scale
            )
            row = {
                "psnr": reached,
                "bits": 8 * sum(len(part) for pair in streams for part in pair) / frame.size,
            }
            for name, curve in curves.items():
                quality, plain, in_age = (np.array(column) for column in zip(*curve, strict=True))
                row[name] = (
                    8 * float(np.exp(np.interp(reached, quality, np.log(plain)))) / frame.size
                )
                row[f"{name} in age"] = (
                    8 * float(np.exp(np.interp(reached, quality, np.log(in_age)))) / frame.size
                )
            rows[sparsity].append(row)
    result = {
        f"{s:g}": {name: float(np.mean([row[name] for row in found])) for name in found[0]}
        for s, found in rows.items()
    }
    print(f"{arguments.folder.name}: {len(images)} images; bits per pixel at each image's own PSNR")
    for sparsity, mean in result.items():
        print(
            f"  S_x = {sparsity:<4}"
            + "  ".join(f"{name} {value:.4f}" for name, value in mean.items())
        )
    print(
        save(
            "matched",
            {
                "data": arguments.folder.name,
                "images": len(images),
                "rows": result,
                "machine": machine(),
            },
        )
    )


if __name__ == "__main__":
    main()

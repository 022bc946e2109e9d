"""Fidelity and sizes at several S_x, beside JPEG 2000 and JPEG XL inside age files.

    python benchmarks/fidelity.py FOLDER [--every N] [--name NAME]

Prints one row per S_x: PSNR and SSIM (mean and SD over the images), bits per pixel of the sealed
supports as published (with their index) and before padding, of the public code, and what JPEG 2000 and
JPEG XL in an age file need for the same mean PSNR. PSNR and SSIM use the full scale of the bit depth
(signed samples: the image's own range); colour and multi-frame images are taken as a whole, SSIM over
the first frame.
"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

import imagecodecs
import numpy as np
import pyrage
from common import load, machine, save
from skimage.metrics import structural_similarity

from primis.bundle.layout import Settings, read_bundle
from primis.codec import Codec
from primis.codes.support import code_ranges, encode_support
from primis.evaluation.fidelity import data_range, psnr
from primis.imaging.image import Image
from primis.keys.seal import Secret, image_secret, release_secrets
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.image_bundle import decode_image, share_image

SPARSITIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SUPPORT_BITS = 2.75


def one(image: Image, sparsity: float, codec: Codec) -> dict[str, float]:
    """Share and restore one image; what it costs and how near it comes."""
    bundle_id = secrets.token_hex(16)
    opened = {t: image_secret(s, bundle_id) for t, s in release_secrets(Secret.new(), "original").items()}
    settings = Settings(sparsity, "keyed", sparsity, SUPPORT_BITS)
    shared = share_image(image, settings, opened, codec, bundle_id=bundle_id, name="x")
    header, parts = read_bundle(shared.data, "x")
    scale, pixels = data_range(image.pixels, image.bit_depth), image.pixels.shape[0] * image.shape[1] * image.shape[2]
    row = {"kept": shared.kept}
    for tier in ("preview", "diagnostic"):
        restored, _ = decode_image(header, parts, opened, tier, lambda digest: codec)
        row[f"psnr_{tier}"] = psnr(image.pixels, restored.pixels, scale)
    first, again = (x.pixels[0].astype(np.float64) for x in (image, restored))
    row["ssim"] = float(structural_similarity(first, again, data_range=scale, channel_axis=2, win_size=7))
    row["sealed_supports"] = 8 * (len(parts["supports"]) + len(parts["index"])) / pixels
    row["supports"] = _support_bits(image, sparsity, codec) / pixels
    row["public"] = 8 * len(parts["public"]) / pixels
    row["bundle"] = 8 * len(shared.data) / pixels
    return row


def _support_bits(image: Image, sparsity: float, codec: Codec) -> float:
    """Bits of the coded supports of all frames, whole planes at once, unpadded."""
    total = 0
    for frame in image.pixels:
        z, _ = codec.encode(frame)
        code = codec.sparsify(z, round(sparsity * z.shape[0] * z.shape[2] * z.shape[3]))
        for plane in code.support:
            for atoms in code_ranges(len(plane), codec.preset.atoms_per_map):
                total += 8 * len(encode_support(plane, atoms, codec.checkpoint.support))
    return total


def rivals(images: list[Image]) -> dict[str, list[tuple[float, float]]]:
    """(mean PSNR, mean bits per pixel) of JPEG 2000 and JPEG XL in an age file, over a range of qualities."""
    recipient = pyrage.x25519.Identity.generate().to_public()
    if not images:  # the rivals here take unsigned samples only
        return {}
    codecs = {
        "jpeg2000": (lambda x, q: imagecodecs.jpeg2k_encode(x, level=q), imagecodecs.jpeg2k_decode, np.arange(30, 56, 3)),
        "jpegxl": (
            lambda x, q: imagecodecs.jpegxl_encode(x, distance=q, effort=7),
            imagecodecs.jpegxl_decode,
            (0.15, 0.3, 0.6, 1, 2, 3.5, 6, 10, 15),
        ),
    }
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, (encode, decode, qualities) in codecs.items():
        for quality in qualities:
            rows = []
            for image in images:
                frame = np.ascontiguousarray(np.squeeze(image.pixels[0]))
                data = encode(frame, float(quality))
                bits = 8 * len(pyrage.encrypt(data, [recipient])) / (image.shape[1] * image.shape[2])
                rows.append((psnr(frame, decode(data), data_range(image.pixels, image.bit_depth)), bits))
            curves.setdefault(name, []).append(tuple(np.mean(rows, axis=0).tolist()))
    return curves


def bits_at(curve: list[tuple[float, float]], quality: float) -> float | None:
    """Bits per pixel at a PSNR, between the measured points; None outside them."""
    points = sorted(curve)
    if not points[0][0] <= quality <= points[-1][0]:
        return None
    return float(np.exp(np.interp(quality, [p for p, _ in points], [np.log(b) for _, b in points])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--name", default="fidelity")
    arguments = parser.parse_args()
    named = load(arguments.folder, arguments.every)
    images = [image for _, image in named]
    codec = Codec(read_checkpoint(shipped()))
    curves = rivals([i for i in images if i.pixels.dtype.kind == "u"])
    table = []
    print(f"{arguments.folder.name}: {len(images)} images; bits per pixel")
    print("S_x   PSNR          SSIM            preview  supports sealed  public  bundle | JPEG 2000  JPEG XL in age at that PSNR")
    for sparsity in SPARSITIES:
        rows = [one(image, sparsity, codec) for image in images]
        mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
        spread = {f"{k}_sd": float(np.std([r[k] for r in rows], ddof=1)) for k in ("psnr_diagnostic", "ssim")}
        beside = {name: bits_at(curve, mean["psnr_diagnostic"]) for name, curve in curves.items()}
        table.append({"sparsity": sparsity, **mean, **spread, **beside})
        m = table[-1]
        others = "  ".join("   -   " if v is None else f"{v:7.3f}" for v in beside.values())
        print(
            f"{sparsity:4g}  {m['psnr_diagnostic']:.2f} ± {m['psnr_diagnostic_sd']:.2f}  {m['ssim']:.4f} ± {m['ssim_sd']:.4f}"
            f"  {m['psnr_preview']:.2f}    {m['supports']:.4f}   {m['sealed_supports']:.4f}"
            f"  {m['public']:.3f}   {m['bundle']:.3f}  | {others}",
            flush=True,
        )
    facts = {"data": arguments.folder.name, "images": len(images), "every": arguments.every, "model": codec.checkpoint.digest}
    print(save(arguments.name, facts | {"machine": machine(), "rows": table, "curves": curves}))


if __name__ == "__main__":
    main()

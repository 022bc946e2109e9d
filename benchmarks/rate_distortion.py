"""Fidelity against size: both presets beside JPEG, JPEG 2000, JPEG XL and lossless JPEG XL.

    python benchmarks/rate_distortion.py FOLDER [--model NAME=FILE ...] [--every N] [--range full|own]
        [--sparsity S_x ...] [--rivals NAME ...] [--name NAME]

For each S_x: bits of the key (the coded supports), of the key for those who have the public code of level
`sca`, and of the true values; bytes of the public section with S_n = S_x, of the sealed supports with their
index, and of the whole bundle at level `keyed`; PSNR, SSIM and MS-SSIM of tier diagnostic and PSNR of
preview. For a rival at each quality: bits, bits inside an age file, the same measures. One schema, one plot.
What an earlier run has measured on the same images is kept; remove its result to measure anew.
"""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pyrage
import torch
from common import RESULTS, load, machine, save
from rich.progress import track
from skimage.metrics import structural_similarity
from tables import LEVELS, at
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from primis.bundle.container import read_bundle
from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.keys.seal import Secret, image_secret, release_secrets
from primis.keys.tier import Tier
from primis.metrics.fidelity import data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image
from primis.sharing.share import share_image
from primis.study.versions import code_bits, entries, nominal_sparsity

SPARSITIES = {True: (0.5, 1, 2, 3, 4, 8, 16, 32), False: (4, 8, 16)}
ROOM = {True: (2.75, 4.0), False: (8.0, 12.0)}
"""Support bits and value bits, by whether top-S works over the image."""


def quality(original: np.ndarray, other: np.ndarray, scale: float) -> dict[str, float]:
    """PSNR in dB, SSIM (7 x 7, as scikit-image), MS-SSIM where the image is large enough; (H, W, c)."""
    a, b = (x.astype(np.float64) for x in (original, other))
    row = {
        "psnr": psnr(a, b, scale),
        "ssim": float(structural_similarity(a, b, data_range=scale, channel_axis=2, win_size=7)),
    }
    if min(a.shape[:2]) > 176:
        pair = (torch.from_numpy(np.moveaxis(x, 2, 0))[None].float() for x in (b, a))
        row["ms_ssim"] = float(
            multiscale_structural_similarity_index_measure(*pair, data_range=scale)
        )
    return row


def ours(image: Image, sparsity: float, codec: Codec, scale: float) -> dict[str, float]:
    """Share and restore one image; what it costs and how near it comes. Bits per pixel."""
    bundle_id = secrets.token_hex(16)
    opened = {
        t: image_secret(s, bundle_id) for t, s in release_secrets(Secret.new(), "original").items()
    }
    nominal = nominal_sparsity(codec, sparsity)
    settings = Settings(nominal, "keyed", nominal, *ROOM[codec.preset.per_position])
    shared = share_image(image, settings, opened, codec, alone=True, bundle_id=bundle_id, name="x")
    header, parts = read_bundle(shared.data, "x")
    pixels = image.pixels.shape[0] * image.shape[1] * image.shape[2]
    restored = decode_image(
        OpenedBundle(header, parts, opened), Tier("diagnostic"), lambda digest: codec
    )
    preview = decode_image(
        OpenedBundle(header, parts, opened), Tier("preview"), lambda digest: codec
    )
    row = quality(image.pixels[0], restored.pixels[0], scale) | _bits(
        image, sparsity, codec, pixels
    )
    row["psnr"] = psnr(image.pixels, restored.pixels, scale)
    row["psnr_preview"] = psnr(image.pixels, preview.pixels, scale)
    row["kept"] = shared.kept
    row["public_bytes"] = len(parts["public"]) / pixels
    row["sealed"] = 8 * (len(parts["supports"]) + len(parts["index"])) / pixels
    row["bundle"] = 8 * len(shared.data) / pixels
    return row


def _bits(image: Image, sparsity: float, codec: Codec, pixels: int) -> dict[str, float]:
    """Bits per pixel of the key and of the true values; whole planes at once."""
    coefficients = (codec.encode(frame)[0] for frame in image.pixels)
    counted = [
        code_bits(codec.sparsify(z, entries(codec, z, sparsity)), codec) for z in coefficients
    ]
    key, values = (sum(column) / pixels for column in zip(*counted, strict=True))
    return {"key": key, "values": values, "bits": key + values}


RIVALS: dict[str, tuple[Callable, Callable, tuple[float, ...]]] = {
    "JPEG": (
        lambda x, q: imagecodecs.jpeg8_encode(x, level=int(q)),
        imagecodecs.jpeg8_decode,
        (10, 20, 35, 50, 65, 80, 90, 95),
    ),
    "JPEG 2000": (
        lambda x, q: imagecodecs.jpeg2k_encode(x, level=q),
        imagecodecs.jpeg2k_decode,
        tuple(range(26, 56, 2)),
    ),
    "JPEG XL": (
        lambda x, q: imagecodecs.jpegxl_encode(x, distance=q, effort=7),
        imagecodecs.jpegxl_decode,
        (0.15, 0.3, 0.6, 1, 2, 3.5, 6, 10, 15),
    ),
    "JPEG XL, lossless": (
        lambda x, q: imagecodecs.jpegxl_encode(x, lossless=True, effort=7),
        imagecodecs.jpegxl_decode,
        (0,),
    ),
}


def rival(name: str, setting: float, images: list[tuple[Image, float]]) -> dict[str, float] | None:
    """Means over all frames of all images at one quality; None if it cannot code them."""
    encode, decode, _ = RIVALS[name]
    recipient, rows = pyrage.x25519.Identity.generate().to_public(), []
    for image, scale in images:
        for frame in image.pixels:
            squeezed = np.ascontiguousarray(
                np.squeeze(frame, axis=2) if frame.shape[2] == 1 else frame
            )
            offset = int(squeezed.min()) if squeezed.dtype.kind == "i" else 0
            unsigned = (
                (squeezed.astype(np.int32) - offset).astype(np.uint16)
                if squeezed.dtype.kind == "i"
                else squeezed
            )
            try:
                data = encode(unsigned, setting)
                again = decode(data).astype(np.float64).reshape(frame.shape) + offset
            except (ValueError, RuntimeError):
                return None
            pixels = frame.shape[0] * frame.shape[1]
            bits = {
                "bits": 8 * len(data) / pixels,
                "bits_in_age": 8 * len(pyrage.encrypt(data, [recipient])) / pixels,
            }
            rows.append(quality(frame, again, scale) | bits)
    return mean(rows) | {"setting": setting}


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each field, and the standard deviation of the fidelity; PSNR over the images that are not identical."""
    known = {k: [r[k] for r in rows if k in r] for k in rows[0]}
    known["psnr"] = [x for x in known["psnr"] if np.isfinite(x)] or [float("inf")]
    out = {k: float(np.mean(v)) for k, v in known.items()}
    return out | {
        f"{k}_sd": float(np.std(known[k], ddof=1)) for k in ("psnr", "ssim") if len(known[k]) > 1
    }


def finite(point: dict[str, float]) -> bool:
    """Whether the images differ: of identical ones PSNR is infinite, null in JSON."""
    return point["psnr"] is not None and bool(np.isfinite(point["psnr"]))


def plot(curves: list[dict], path: Path) -> None:
    """PSNR over bits per pixel; of ours the key alone too."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for curve in curves:
        points = [p for p in curve["points"] if finite(p)]
        if len(points) < 2:
            continue
        if "model" in curve:
            (line,) = axes.plot(
                [p["bits"] for p in points],
                [p["psnr"] for p in points],
                "o-",
                label=f"{curve['codec']}: key + values",
            )
            axes.plot(
                [p["key"] for p in points],
                [p["psnr"] for p in points],
                "o:",
                color=line.get_color(),
                label="key alone",
            )
        else:
            axes.plot(
                [p["bits"] for p in points], [p["psnr"] for p in points], "--", label=curve["codec"]
            )
    axes.set(xscale="log", xlabel="bits per pixel", ylabel="PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")


def show(curves: list[dict]) -> None:
    """What a person wants to see first."""
    for curve in curves:
        if "model" not in curve:
            continue
        print(f"{curve['codec']}, model {curve['model'][:12]}; bits per pixel")
        print(
            "S_x    PSNR          SSIM    MS-SSIM preview  key     values  together  public bytes  sealed  bundle"
        )
        for p in curve["points"]:
            print(
                f"{p['setting']:4g}  {p['psnr']:.2f} ± {p.get('psnr_sd', 0):.2f}  {p['ssim']:.4f}  {p.get('ms_ssim', 0):.4f}  "
                f"{p['psnr_preview']:.2f}  {p['key']:.4f}  {p['values']:.4f}  {p['bits']:.4f}    "
                f"{p['public_bytes']:.4f}        {p['sealed']:.4f}  {p['bundle']:.4f}"
            )
    print("bits per pixel at " + ", ".join(f"{x} dB" for x in LEVELS))
    for curve in curves:
        for field in ("key", "bits", "bundle", "bits_in_age"):
            if field in curve["points"][0]:
                values = (at(curve["points"], x, field) for x in LEVELS)
                print(
                    f"  {curve['codec']:<20}{field:<18}"
                    + "  ".join("   -   " if v is None else f"{v:.4f}" for v in values)
                )


def points_of(
    codec: Codec, name: str, images: list[tuple[Image, float]], chosen: list[float] | None
) -> list[dict[str, float]]:
    """A model's points, one for each S_x."""
    points = []
    for sparsity in track(chosen or SPARSITIES[codec.architecture.over_image], description=name):
        points.append(
            mean([ours(image, sparsity, codec, scale) for image, scale in images])
            | {"setting": sparsity}
        )
    return points


def measured(name: str, facts: dict) -> dict[tuple[str, str | None], dict]:
    """Curves that an earlier run on the same images has left; a changed model is measured anew."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {"curves": []}
    same = all(before.get(key) == value for key, value in facts.items())
    return (
        {(curve["codec"], curve.get("model")): curve for curve in before["curves"]} if same else {}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="start with this image")
    parser.add_argument("--range", choices=("full", "own"), default="full")
    parser.add_argument("--sparsity", type=float, nargs="*", help="S_x instead of the usual ones")
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), default=list(RIVALS))
    parser.add_argument("--name", default="rate_distortion")
    arguments = parser.parse_args()
    models = [m.split("=", 1) for m in arguments.model] or [
        ("default", str(shipped())),
        ("paper", str(shipped("paper"))),
    ]
    images = []
    for _, image in load(arguments.folder, 1)[arguments.first :: arguments.every]:
        own = float(max(int(image.pixels.max()) - int(image.pixels.min()), 1))
        images.append(
            (image, own if arguments.range == "own" else data_range(image.pixels, image.bit_depth))
        )
    facts = {
        "schema": 1,
        "data": arguments.folder.name,
        "images": len(images),
        "every": arguments.every,
    }
    facts |= {"first": arguments.first, "range": arguments.range}
    known = measured(arguments.name, facts)
    curves = []
    for name, file in models:
        codec = Codec(read_checkpoint(Path(file)))
        curve = known.get((f"primis {name}", codec.checkpoint.digest))
        curves.append(
            curve
            or {
                "codec": f"primis {name}",
                "model": codec.checkpoint.digest,
                "points": points_of(codec, name, images, arguments.sparsity),
            }
        )
    for name in arguments.rivals:
        curve = known.get((name, None))
        rows = (
            [rival(name, setting, images) for setting in track(RIVALS[name][2], description=name)]
            if curve is None
            else []
        )
        if curve or any(rows):
            curves.append(curve or {"codec": name, "points": [row for row in rows if row]})
    show(curves)
    path = save(arguments.name, facts | {"machine": machine(), "curves": curves})
    plot(curves, path.with_suffix(".png"))
    print(path)


if __name__ == "__main__":
    main()

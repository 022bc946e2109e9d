"""Fidelity against size: both presets beside JPEG, JPEG 2000, JPEG XL and lossless JPEG XL.

    python benchmarks/rate_distortion.py FOLDER [--model NAME=FILE ...] [--every N]
        [--range full|own] [--sparsity S_x ...] [--baselines NAME ...] [--name NAME]

For each S_x: bits of the key (the coded supports) and of the true values; bytes of the public
section with S_n = S_x, bits of the sealed supports with their index, and of the whole bundle at
level `keyed`; PSNR, SSIM and MS-SSIM of tier diagnostic and PSNR of preview. For a baseline at each
quality: bits, bits inside an age file, the same metrics. One schema, one plot. What an earlier run
has measured on the same images is kept; remove its result to measure anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from baselines import BASELINES, in_age
from common import RESULTS, Keys, load, machine, save
from rich.progress import track
from skimage.metrics import structural_similarity
from tables import LEVELS, at
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from primis.bundle.container import read_bundle
from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.imaging.padding import filled_frames, find_padding
from primis.keys.tier import Tier
from primis.metrics.fidelity import data_range, psnr
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image
from primis.study.versions import code_bits, entries, nominal_sparsity

SPARSITIES = {True: (0.5, 1, 2, 3, 4, 8, 16, 32), False: (4, 8, 16)}
_MS_SSIM_SIDE = 176
"""Pixels of a side that MS-SSIM needs more than."""

Point = dict[str, float]
"""What was measured at one setting, by name."""
Curve = dict[str, Any]
"""codec, its points, and of primis the digest of its model."""


class Scaled(NamedTuple):
    """An image, and the range that PSNR is to."""

    image: Image
    scale: float


def quality(original: np.ndarray, other: np.ndarray, scale: float) -> Point:
    """Of frames (H, W, c): PSNR in dB, SSIM (7 x 7), MS-SSIM where the image is large enough."""
    a, b = (x.astype(np.float64) for x in (original, other))
    similarity = structural_similarity(a, b, data_range=scale, channel_axis=2, win_size=7)
    row = {"psnr": psnr(a, b, scale), "ssim": float(similarity)}
    if min(a.shape[:2]) > _MS_SSIM_SIDE:
        row["ms_ssim"] = ms_ssim(a, b, scale)
    return row


def ms_ssim(a: np.ndarray, b: np.ndarray, scale: float) -> float:
    """Multi-scale SSIM of frames (H, W, c), 0 to 1, higher is better: Wang et al. 2003."""
    planes = [torch.from_numpy(np.moveaxis(x, 2, 0))[None].float() for x in (b, a)]
    measured = multiscale_structural_similarity_index_measure(
        planes[0], planes[1], data_range=scale
    )
    return float(measured)


def ours(image: Image, sparsity: float, codec: Codec, scale: float) -> Point:
    """Share and restore one image; what it costs and how near it comes. Bits per pixel."""
    keys, nominal = Keys.new(), nominal_sparsity(codec, sparsity)
    settings = Settings(sparsity=nominal)
    shared = keys.share(image, settings, codec)
    opened = OpenedBundle(*read_bundle(shared.data, "x"), keys.secrets)
    restored, preview = (
        decode_image(opened, tier, lambda digest: codec) for tier in (Tier.DIAGNOSTIC, Tier.PREVIEW)
    )
    pixels = image.pixels.shape[0] * image.shape[1] * image.shape[2]
    row = quality(image.pixels[0], restored.pixels[0], scale)
    row |= code_size(image, sparsity, codec, pixels)
    row["psnr"] = psnr(image.pixels, restored.pixels, scale)
    row["psnr_preview"] = psnr(image.pixels, preview.pixels, scale)
    if shared.kept is not None:
        row["kept"] = shared.kept
    row["public_bytes"] = len(opened.parts["public"]) / pixels
    row["sealed"] = 8 * len(opened.parts["index"]) / pixels
    row["bundle"] = 8 * len(shared.data) / pixels
    return row


def code_size(image: Image, sparsity: float, codec: Codec, pixels: int) -> Point:
    """Bits per pixel of the key and of the true values; whole planes at once."""
    counted = []
    for frame in image.pixels:
        z, _ = codec.encode(frame)
        counted.append(code_bits(codec.sparsify(z, entries(codec, z, sparsity)), codec))
    key, values = (sum(column) / pixels for column in zip(*counted, strict=True))
    return {"key": key, "values": values, "bits": key + values}


def baseline(name: str, setting: float, images: Sequence[Scaled]) -> Point | None:
    """Means over all frames of all images at one quality; None if it cannot code them."""
    try:
        rows = [
            baseline_frame(name, setting, frame, scale)
            for image, scale in images
            for frame in image.pixels
        ]
    except (ValueError, RuntimeError):
        return None
    return mean(rows) | {"setting": setting}


def baseline_frame(name: str, setting: float, frame: np.ndarray, scale: float) -> Point:
    """One frame (H, W, c) through a baseline; it takes samples from zero."""
    signed = frame.dtype.kind == "i"
    offset = int(frame.min()) if signed else 0
    samples = (frame.astype(np.int32) - offset).astype(np.uint16) if signed else frame
    one_channel = frame.shape[2] == 1
    squeezed = np.ascontiguousarray(samples[..., 0] if one_channel else samples)
    data = BASELINES[name].encode(squeezed, setting)
    decoded = BASELINES[name].decode(data).astype(np.float64).reshape(frame.shape) + offset
    pixels = frame.shape[0] * frame.shape[1]
    size = {"bits": 8 * len(data) / pixels, "bits_in_age": 8 * in_age(data) / pixels}
    return quality(frame, decoded, scale) | size


def mean(rows: list[Point]) -> Point:
    """Mean of each field, and the standard deviation of PSNR and SSIM.

    PSNR: over the images that are not identical.
    """
    known = {name: [row[name] for row in rows if name in row] for name in rows[0]}
    known["psnr"] = [x for x in known["psnr"] if np.isfinite(x)] or [float("inf")]
    out = {name: float(np.mean(values)) for name, values in known.items()}
    for name in ("psnr", "ssim"):
        if len(known[name]) > 1:
            out[f"{name}_sd"] = float(np.std(known[name], ddof=1))
    return out


def finite(point: dict[str, Any]) -> bool:
    """Whether the images differ: of identical ones PSNR is infinite, null in JSON."""
    return point["psnr"] is not None and bool(np.isfinite(point["psnr"]))


def plot(curves: Sequence[Curve], path: Path) -> None:
    """PSNR over bits per pixel; of ours the key alone too."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for curve in curves:
        points = [p for p in curve["points"] if finite(p)]
        if len(points) < 2:
            continue
        bits, decibels = [p["bits"] for p in points], [p["psnr"] for p in points]
        if "model" not in curve:
            axes.plot(bits, decibels, "--", label=curve["codec"])
            continue
        (line,) = axes.plot(bits, decibels, "o-", label=f"{curve['codec']}: key + values")
        key, colour = [p["key"] for p in points], line.get_color()
        axes.plot(key, decibels, "o:", color=colour, label="key alone")
    axes.set(xscale="log", xlabel="bits per pixel", ylabel="PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")


def show(curves: Sequence[Curve]) -> None:
    """What a person wants to see first."""
    for curve in curves:
        if "model" in curve:
            show_ours(curve)
    print("bits per pixel at " + ", ".join(f"{x} dB" for x in LEVELS))
    for curve in curves:
        for field in ("key", "bits", "bundle", "bits_in_age"):
            if field in curve["points"][0]:
                values = [at(curve["points"], x, field) for x in LEVELS]
                told = "  ".join("   -   " if v is None else f"{v:.4f}" for v in values)
                print(f"  {curve['codec']:<20}{field:<18}{told}")


_COLUMNS = {
    "setting": "4g",
    "psnr": ".2f",
    "psnr_sd": ".2f",
    "ssim": ".4f",
    "ms_ssim": ".4f",
    "psnr_preview": ".2f",
    "key": ".4f",
    "values": ".4f",
    "bits": ".4f",
    "public_bytes": ".4f",
    "sealed": ".4f",
    "bundle": ".4f",
}


def show_ours(curve: Curve) -> None:
    """Point by point."""
    print(f"{curve['codec']}, model {curve['model'][:12]}; bits per pixel")
    print("".join(f"{name:>13}" for name in _COLUMNS))
    for point in curve["points"]:
        cells = [f"{point.get(name, 0):{form}}" for name, form in _COLUMNS.items()]
        print("".join(f"{cell:>13}" for cell in cells))


def measured(name: str, facts: dict[str, Any]) -> dict[tuple[str, str | None], Curve]:
    """Curves that an earlier run on the same images has left; a changed model is measured anew."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {"curves": []}
    if not all(before.get(key) == value for key, value in facts.items()):
        return {}
    return {(curve["codec"], curve.get("model")): curve for curve in before["curves"]}


def curve_of(codec: Codec, name: str, images: Sequence[Scaled], sparsities: list[float]) -> Curve:
    """A model's points, one for each S_x."""
    points = []
    for sparsity in track(sparsities, description=name):
        rows = [ours(image, sparsity, codec, scale) for image, scale in images]
        points.append(mean(rows) | {"setting": sparsity})
    return {"codec": name, "model": codec.checkpoint.digest, "points": points}


def baseline_curve(name: str, images: Sequence[Scaled]) -> Curve:
    """A baseline's points, one for each quality at which it can code the images."""
    qualities = track(BASELINES[name].qualities, description=name)
    rows = [baseline(name, quality, images) for quality in qualities]
    return {"codec": name, "points": [row for row in rows if row]}


def scaled(image: Image, *, own: bool) -> Scaled:
    """Padding filled, for all codecs alike. own: PSNR is to the image's own range, else to full
    scale."""
    frames = np.stack(list(filled_frames(image, find_padding(image))))
    image = replace(image, pixels=frames, padding_range=None)
    span = float(max(int(image.pixels.max()) - int(image.pixels.min()), 1))
    return Scaled(image, span if own else data_range(image.pixels, image.bit_depth))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="start with this image")
    parser.add_argument("--range", choices=("full", "own"), default="full")
    parser.add_argument("--sparsity", type=float, nargs="*", help="S_x instead of the usual ones")
    parser.add_argument("--baselines", nargs="*", choices=list(BASELINES), default=list(BASELINES))
    parser.add_argument("--name", default="rate_distortion")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    models = [model.split("=", 1) for model in arguments.model]
    models = models or [["default", str(shipped())], ["paper", str(shipped("paper"))]]
    chosen = load(arguments.folder)[arguments.first :: arguments.every]
    images = [scaled(image, own=arguments.range == "own") for _, image in chosen]
    facts: dict[str, Any] = {"schema": 1, "data": arguments.folder.name, "images": len(images)}
    facts |= {name: getattr(arguments, name) for name in ("every", "first", "range")}
    known, curves = measured(arguments.name, facts), []
    for name, file in models:
        codec = Codec(read_checkpoint(Path(file)))
        title = f"primis {name}"
        curve = known.get((title, codec.checkpoint.digest))
        sparsities = arguments.sparsity or list(SPARSITIES[codec.architecture.over_image])
        curves.append(curve or curve_of(codec, title, images, sparsities))
    curves += [known.get((b, None)) or baseline_curve(b, images) for b in arguments.baselines]
    curves = [curve for curve in curves if curve["points"]]
    show(curves)
    path = save(arguments.name, facts | {"machine": machine(), "curves": curves})
    plot(curves, path.with_suffix(".png"))
    print(path)


if __name__ == "__main__":
    main()

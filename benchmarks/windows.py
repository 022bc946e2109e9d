"""Images of a wide range of grey levels: what a reader sees in a narrow window, and what helps.

    python benchmarks/windows.py DATA [--sparsity S_x ...] [--every N]

DATA holds `dicom/ct-head`, `dicom/mr-t1`, `dicom/radiograph` and `nifti/`. PSNR `full` is that of
`info`, on the image's own range outside padding. `window`: source and restored are clipped to the
window, whose width is the peak; `inside` counts those pixels alone whose source lies in it. The
bytes are those that S_x gives, so PSNR is compared at fixed bytes; `exact` are the bytes besides.

Cases: a CT head series in the brain's window (W 80, L 40); the same with 0.2 % of its pixels in
metal stripes of +3071 HU; a CT angiogram; activity with a hot spot 40 times as bright, each slice
on its own slope, as PET has it; radiographs of 10 to 12 bits in 16; MR moved to 30,000 and up; two
values in 16 bits.

Remedies: `quantiles`, what lies beyond 0.5 % and 99.5 % kept exactly, like padding; `stretch s`,
the declared window and a tenth on either side take s times their width on a piecewise linear curve;
`histogram`, a curve half equalised by the root of the histogram; `clipped`, the window alone, which
no curve can beat there.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from common import machine, one_thread, save
from rich.progress import track

from primis.codec import Codec
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.imaging.levels import find_levels
from primis.imaging.padding import Padding, fill_padding, find_padding, pack_padding
from primis.metrics.fidelity import psnr_of_mse
from primis.study.versions import code_of

_HOT, _METAL, _METAL_SHARE = 40, 3071, 0.002
_TAILS = (0.5, 99.5)
_BINS, _MIX = 64, 0.6
_DECLARED = (-15.0, 85.0)
"""W 100, L 35, as most slices of the CT series declare."""


class Picture(NamedTuple):
    """A frame (H, W) with its padding filled; tissue: where it is none; window, declared: in grey
    levels, what is looked at and what the file says will be."""

    pixels: np.ndarray
    tissue: np.ndarray
    window: tuple[float, float]
    declared: tuple[float, float]


class Plan(NamedTuple):
    """What is coded: the pixels, on a curve (grey levels, what stands for them); `exact`: pixels
    kept beside the code (H, W), and the bytes that they take."""

    pixels: np.ndarray
    curve: tuple[np.ndarray, np.ndarray]
    exact: np.ndarray | None = None
    size: int = 0


def plain(picture: Picture) -> Plan:
    """As it is."""
    return Plan(picture.pixels, (ends := _ends(picture.pixels), ends))


def _ends(pixels: np.ndarray) -> np.ndarray:
    return np.array([pixels.min(), max(pixels.max(), pixels.min() + 1)], float)


def clipped(picture: Picture) -> Plan:
    """The window alone."""
    low, high = picture.window
    margin = (high - low) / 16
    pixels = np.clip(picture.pixels, np.floor(low - margin), np.ceil(high + margin))
    return plain(picture._replace(pixels=pixels))


def quantiles(picture: Picture) -> Plan:
    """The tails are filled like padding and kept exactly."""
    low, high = np.percentile(picture.pixels[picture.tissue], _TAILS)
    tails = picture.tissue & ((picture.pixels < low) | (picture.pixels > high))
    if not tails.any():
        return plain(picture)
    pixels = picture.pixels.astype(np.int16 if picture.pixels.min() < 0 else np.uint16)
    padding = Padding(tails[None], pixels[tails][:, None], None)
    image = Image(pixels[None, ..., None], 16, "MONOCHROME2", "png")
    filled = fill_padding(image, padding).pixels[0, ..., 0]
    size = len(zlib.compress(pack_padding(padding)[1], 9))
    return plain(picture._replace(pixels=filled))._replace(exact=tails, size=size)


def stretched(times: float) -> Callable[[Picture], Plan]:
    """The declared window takes so many times its width."""

    def plan(picture: Picture) -> Plan:
        ends, (low, high) = _ends(picture.pixels), picture.declared
        knots = np.unique(np.clip([ends[0], low, high, ends[1]], *ends))
        middles = (knots[1:] + knots[:-1]) / 2
        slopes = np.where((middles > low) & (middles < high), times, 1.0)
        heights = np.concatenate([[0], np.cumsum(slopes * np.diff(knots))])
        return Plan(picture.pixels, (knots, heights))

    return plan


def histogram(picture: Picture) -> Plan:
    """The curve rises with the root of the histogram, and a little everywhere."""
    low, high = _ends(picture.pixels)
    edges = np.linspace(low, high, _BINS + 1)
    share = np.sqrt(np.histogram(picture.pixels[picture.tissue], edges)[0])
    rise = (1 - _MIX) / _BINS + _MIX * share / share.sum()
    heights = (edges[-1] - edges[0]) * np.concatenate([[0], np.cumsum(rise)])
    return Plan(picture.pixels, (edges, heights))


REMEDIES: dict[str, Callable[[Picture], Plan]] = {
    "plain": plain,
    "quantiles": quantiles,
    **{f"stretch {times}": stretched(times) for times in (2, 3, 4, 8)},
    "histogram": histogram,
    "clipped": clipped,
}


def restored(picture: Picture, plan: Plan, sparsity: float, codec: Codec) -> np.ndarray:
    """The picture (H, W) as it comes back at S_x, its budget filled."""
    grey, height = plan.curve
    on_curve = np.interp(plan.pixels.astype(float), grey, height)
    low, high = on_curve.min(), on_curve.max()
    centre, width = (low + high) / 2, max(high - low, 1.0)
    pad = [(0, -side % codec.preset.stride) for side in on_curve.shape]
    planes = np.pad((on_curve - centre) / width, pad, mode="edge")[None].astype(np.float32)
    code = code_of(codec.analyse(planes), on_curve.shape, codec, sparsity)
    shape = (on_curve.shape[0], on_curve.shape[1])
    frame = codec.synthesise(code.coefficients, code.threshold, shape)[..., 0].astype(float)
    out = np.round(np.interp(frame * width + centre, height, grey))
    return out if plan.exact is None else np.where(plan.exact, picture.pixels, out)


def compared(pictures: list[Picture], remedy: str, sparsity: float, codec: Codec) -> dict[str, Any]:
    """PSNR over all pixels of all pictures, in dB, and the bytes of what is exact, a picture."""
    sums = {name: np.zeros(2) for name in ("window", "inside", "full")}
    exact = 0
    for picture in pictures:
        plan = REMEDIES[remedy](picture)
        exact += plan.size
        for name, errors in _errors(picture, restored(picture, plan, sparsity, codec)).items():
            sums[name] += errors.sum(), errors.size
    tissue = [_ends(picture.pixels[picture.tissue]) for picture in pictures]
    full = max(ends[1] for ends in tissue) - min(ends[0] for ends in tissue)
    peaks = {"window": 1.0, "inside": 1.0, "full": float(full)}
    rows = {name: psnr_of_mse(sums[name][0] / sums[name][1], peaks[name]) for name in sums}
    return rows | {"exact": exact / len(pictures)}


def _errors(picture: Picture, other: np.ndarray) -> dict[str, np.ndarray]:
    """Squared errors of the pixels that count; in the window relative to its width."""
    source, (low, high) = picture.pixels.astype(float), picture.window
    seen = ((np.clip(source, low, high) - np.clip(other, low, high)) / (high - low)) ** 2
    inside = picture.tissue & (source >= low) & (source <= high)
    full = (source - other) ** 2
    return {"window": seen[picture.tissue], "inside": seen[inside], "full": full[picture.tissue]}


def pictures_of(image: Image, window: tuple[float, float], declared: tuple[float, float]) -> Any:
    """The frames of an image, each with the same windows."""
    padding = find_padding(image)
    filled = fill_padding(image, padding).pixels[..., 0]
    masks = np.zeros(filled.shape, bool) if padding is None else padding.mask
    return [Picture(f, ~m, window, declared) for f, m in zip(filled, masks, strict=True)]


def ct_head(data: Path) -> Iterator[Picture]:
    """W 80, L 40 in Hounsfield units; slope and intercept are those of the file."""
    for path in sorted((data / "dicom/ct-head").glob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        slope, offset = float(header.RescaleSlope), float(header.RescaleIntercept)
        windows = (_stored(w, slope, offset) for w in ((0.0, 80.0), _DECLARED))
        yield from pictures_of(read(path)[0], *windows)


def _stored(window: tuple[float, float], slope: float, offset: float) -> tuple[float, float]:
    return (window[0] - offset) / slope, (window[1] - offset) / slope


def with_metal(picture: Picture) -> Picture:
    """Two crossed lines of metal."""
    pixels, side = picture.pixels.copy(), picture.pixels.shape[0]
    count = round(_METAL_SHARE * pixels.size / 2)
    along, start = np.arange(count), (side - count) // 2
    pixels[side // 2, start + along] = _METAL
    pixels[start + along, start + along] = _METAL
    return picture._replace(pixels=pixels, tissue=picture.tissue | (pixels == _METAL))


def ct_angiogram(data: Path) -> list[Picture]:
    """8 bits with a slope: W 80, L 40 are 36 of their levels."""
    path = data / "nifti/CT_AVM.nii.gz"
    image, slope = read(path)[0], 563.2 / 255
    return pictures_of(image, _stored((0.0, 80.0), slope, 0), _stored((0.0, 85.0), slope, 0))


def pet(data: Path) -> Iterator[Picture]:
    """An MR volume in place of activity: a tenth of the hottest is what readers look at."""
    frames = read(data / "nifti/MR_Gd.nii.gz")[0].pixels[24:120, ..., 0].astype(float)
    rows, columns = np.ogrid[: frames.shape[1], : frames.shape[2]]
    for number, frame in enumerate(frames):
        hot = (rows - 120) ** 2 + (columns - 80) ** 2 < (4 + number % 5) ** 2
        activity = np.where(hot, (_HOT - number % 7) * 255.0, frame)
        slope = activity.max() / 32767
        window = (0.0, 255 / slope)
        pixels = np.round(activity / slope).astype(np.uint16)
        yield Picture(pixels, np.ones(pixels.shape, bool), window, window)


def without_window(image: Image, offset: int = 0) -> list[Picture]:
    """The window is the range."""
    pixels = image.pixels.astype(np.int32) + offset
    window = (float(pixels.min()), float(pixels.max()))
    return [Picture(f, np.ones(f.shape, bool), window, window) for f in pixels[..., 0]]


def cases(data: Path, every: int) -> dict[str, list[Picture]]:
    """By name; every n-th slice of a series."""
    head = list(ct_head(data))[::every]
    radiographs = sorted((data / "dicom/radiograph").glob("RG3_JPLL.dcm"))
    mr = sorted((data / "dicom/mr-t1").glob("*.dcm"))[::every]
    return {
        "ct-head": head,
        "ct-head with metal": [with_metal(picture) for picture in head],
        "CT_AVM": ct_angiogram(data)[:: 4 * every],
        "PET": list(pet(data))[:: 4 * every],
        "radiograph": [p for path in radiographs for p in without_window(read(path)[0])],
        "mr-t1 from 30,000": [p for path in mr for p in without_window(read(path)[0], 30_000)],
    }


def two_values() -> bool:
    """Whether an image of two values far apart in 16 bits is kept exactly."""
    pixels = np.zeros((1, 64, 64, 1), np.uint16)
    pixels[0, 20:40, 20:40] = 65535
    return find_levels(pixels) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sparsity", type=float, nargs="*", default=[4.0, 8.0, 16.0])
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    codec, result = one_thread(), {}
    found = cases(arguments.data, arguments.every)
    for name, pictures in track(found.items(), "cases"):
        whole = pictures[0].window == pictures[0].declared and name != "PET"
        remedies = ["plain", "quantiles", "histogram"] if whole else list(REMEDIES)
        result[name] = {
            f"{sparsity:g}": {r: compared(pictures, r, sparsity, codec) for r in remedies}
            for sparsity in arguments.sparsity
        }
        for sparsity, rows in result[name].items():
            for remedy, row in rows.items():
                told = "  ".join(f"{key} {value:.2f}" for key, value in row.items())
                print(f"{name}, S_x = {sparsity}, {remedy}: {told}", flush=True)
    facts = {"cases": result, "two values exact": two_values()}
    print(save("windows", facts | {"machine": machine()}))


if __name__ == "__main__":
    main()

"""A series as one bundle against JPEG 2000 of its slices, and what a long one takes.

    python benchmarks/series.py FOLDER ... [--sparsity S_x ...] [--long N]

Each folder holds the files of a DICOM series, or one NIfTI volume. `bundle` is all of a bundle but
the header of the file, which JPEG 2000 has none of; `header` is that. JPEG 2000 codes each slice,
its padding filled as primis fills it, at the PSNR that the slice has in the bundle: on the range of
the series, outside padding. `in age` counts all of these in one age file.

--long makes a series of N slices of the first folder's, again and again, shifted by some pixels and
moved along the patient, shares it and restores it with the command line, and tells seconds and the
largest memory in use. results/series.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from baselines import in_age, jpeg_2000
from common import Keys, machine, one_thread, save
from matched import Curve
from pydicom.uid import UID
from rich.progress import track

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.datasets.files import collect
from primis.imaging.image import Image
from primis.imaging.padding import filled_frames, find_padding
from primis.jobs.share.source import Reading, gather, read_source
from primis.metrics.fidelity import psnr_of_mse
from primis.release.budgets import Budgets, Need
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image

_STEP_MM = 0.6
"""Between the slices of a long series."""

_SHIFTS = 17
_DECIBELS = range(28, 80, 2)


def read_series(folder: Path) -> Image:
    """The image of most frames in a folder."""
    sources = gather(collect([folder]))
    return max(
        (read_source(source, Reading())[0] for source in sources), key=lambda image: image.shape[0]
    )


class Slices:
    """The frames of a series as they are compared: padding filled, errors outside of it."""

    def __init__(self, image: Image) -> None:
        padding = find_padding(image)
        self.filled = list(filled_frames(image, padding))
        self._inside = np.ones(image.shape[:3], bool) if padding is None else ~padding.mask
        counted = image.pixels[self._inside]
        self.range = float(int(counted.max()) - int(counted.min()))
        self.curves = [self._curve(k) for k in track(range(image.shape[0]), "JPEG 2000")]

    def squared(self, k: int, decoded: np.ndarray) -> np.ndarray:
        """Errors of a frame (H, W, 1), squared."""
        return np.square(self.filled[k].astype(float) - decoded)[self._inside[k]]

    def psnr(self, k: int, decoded: np.ndarray) -> float:
        """Of a frame (H, W, 1)."""
        return psnr_of_mse(float(np.mean(self.squared(k, decoded))), self.range)

    def _curve(self, k: int) -> Curve:
        """The codec counts decibels from the largest number of 16 bits."""
        frame = self.filled[k][..., 0].astype(np.int32)
        low = int(frame.min())
        samples, more = (frame - low).astype(np.uint16), 20 * np.log10(65535 / self.range)
        points = []
        for decibels in _DECIBELS:
            file = jpeg_2000(samples, decibels + more)
            back = imagecodecs.jpeg2k_decode(file).astype(np.int32) + low
            points.append((self.psnr(k, back[..., None]), len(file), 0))
        return Curve(*np.array(sorted(points)).T)


def compared(image: Image, slices: Slices, codec: Codec, sparsity: float) -> dict[str, float]:
    """Bytes of the bundle, and of JPEG 2000 at each slice's PSNR."""
    settings = Budgets.choose(Settings(sparsity=sparsity), [Need.of(image, "x", 0)]).settings
    keys = Keys.new()
    shared = keys.share(image, settings, codec)
    bundle = OpenedBundle.read(shared.data, keys.secrets)
    decoded = decode_image(bundle, max(keys.secrets), lambda digest: codec).pixels
    reached = [slices.psnr(k, frame) for k, frame in enumerate(decoded)]
    errors = np.concatenate([slices.squared(k, frame) for k, frame in enumerate(decoded)])
    header = len(bundle.parts["header"])
    pairs = zip(slices.curves, reached, strict=True)
    whole = sum(curve.at(decibels, curve.plain) / 8 for curve, decibels in pairs)
    return {
        "psnr": psnr_of_mse(float(np.mean(errors)), slices.range),
        "bundle": len(shared.data) - header,
        "header": header,
        "JPEG 2000": whole,
        "JPEG 2000 in age": in_age(bytes(round(whole))),
    }


def long_series(folder: Path, out: Path, count: int) -> None:
    """Files of a series of so many slices."""
    files = [path for path, _ in collect([folder])]
    for k in range(count):
        made = pydicom.dcmread(files[k * len(files) // count])
        made.PixelData = np.roll(made.pixel_array, k % _SHIFTS, 0).tobytes()
        made.ImagePositionPatient, made.InstanceNumber = [0, 0, _STEP_MM * k], k + 1
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.{k + 1}")
        made.save_as(out / f"{k:04}.dcm")


def measured(*command: str) -> dict[str, float]:
    """Seconds of a command of primis, and the largest memory in use, MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([Path(sys.executable).with_name("primis"), *command, "--quiet"])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"primis {command[0]} failed")
    return {"seconds": time.perf_counter() - start, "peak_mib": used.ru_maxrss / 1024}


def measure_long(folder: Path, count: int) -> dict[str, Any]:
    """Share and restore a long series, beside the cores that there are."""
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        os.environ["XDG_CONFIG_HOME"] = scratch
        (place / "in").mkdir()
        long_series(folder, place / "in", count)
        keys, release = str(place / "key"), str(place / "release")
        measured("keygen", "-o", keys)
        share = measured("share", str(place / "in"), "--to", f"{keys}.pub", "-o", release)
        restore = measured("restore", release, "-i", keys, "-o", str(place / "out"))
    return {"slices": count, "cores": os.cpu_count(), "share": share, "restore": restore}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--sparsity", type=float, nargs="*", default=[4.0, 8.0, 16.0])
    parser.add_argument("--long", type=int, default=0)
    told = parser.parse_args(arguments)
    codec, rows = one_thread(), {}
    for folder in told.folders:
        image = read_series(folder)
        slices = Slices(image)
        found = {f"{s:g}": compared(image, slices, codec, s) for s in told.sparsity}
        rows[folder.name] = {"shape": list(image.shape), "rows": found}
        for sparsity, row in found.items():
            shown = "  ".join(f"{name} {value:.0f}" for name, value in row.items())
            print(f"{folder.name} {image.shape}  S_x = {sparsity}  {shown}", flush=True)
    facts = {"series": rows, "machine": machine()}
    if told.long:
        facts["long"] = measure_long(told.folders[0], told.long)
        print(facts["long"])
    print(save("series", facts))


if __name__ == "__main__":
    main()

"""Time to share and to restore an image, as ratios to JPEG 2000 and JPEG XL in an age file, in one run.

    python benchmarks/speed.py FOLDER [--count N]

Each stage is run on the same images in turn; the medians over images are compared. One thread.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pyrage
from common import load, machine, save

from primis.bundle.layout import Settings
from primis.codec import Codec, OnnxEngine
from primis.codes.ambiguation import ambiguate
from primis.codes.support import code_ranges, encode_support
from primis.imaging.files import render
from primis.imaging.image import Derivation, Image
from primis.keys.seal import Secret, image_secret, release_secrets
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.image_bundle import restore_image, share_image


def timed(times: dict[str, list[float]], name: str, call: Callable[[], object]) -> object:
    """The value of a call; its time goes under `name`."""
    start = time.perf_counter()
    value = call()
    times.setdefault(name, []).append(time.perf_counter() - start)
    return value


def measure(image: Image, codec: Codec, key: pyrage.x25519.Identity, times: dict[str, list[float]]) -> None:
    """Every stage once, on one image."""
    frame = np.ascontiguousarray(np.squeeze(image.pixels[0]))
    settings, bundle_id = Settings(4.0, "keyed", 4.0, 2.75), secrets.token_hex(16)
    opened = {t: image_secret(s, bundle_id) for t, s in release_secrets(Secret.new(), "original").items()}
    z, scale = timed(times, "encode", lambda: codec.encode(image.pixels[0]))  # type: ignore[misc]
    code = timed(times, "top-S", lambda: codec.sparsify(z, 4 * z.shape[2] * z.shape[3]))
    ranges = code_ranges(codec.preset.atoms, codec.preset.atoms_per_map)
    timed(times, "code supports", lambda: [encode_support(code.support[0], r, codec.checkpoint.support) for r in ranges])
    timed(times, "ambiguate", lambda: ambiguate(code.levels, 4 * z.shape[2] * z.shape[3]))
    share = lambda: share_image(image, settings, opened, codec, bundle_id=bundle_id, name="x")  # noqa: E731
    data = timed(times, "share", share).data  # type: ignore[attr-defined]
    timed(times, "decode", lambda: codec.decode(code, scale, frame.shape, frame.dtype))
    timed(times, "write the file", lambda: render(image, Derivation("", 1.0, "", "")))
    timed(times, "restore", lambda: restore_image(data, opened, "diagnostic", lambda _: codec, group="g"))
    for name, encode, decode in (
        ("JPEG 2000 + age", lambda: imagecodecs.jpeg2k_encode(frame, level=38.5), imagecodecs.jpeg2k_decode),
        (
            "JPEG XL + age",
            lambda: imagecodecs.jpegxl_encode(frame, distance=3.0, effort=7, numthreads=1),
            imagecodecs.jpegxl_decode,
        ),
    ):
        sealed = timed(times, f"{name}, in", lambda e=encode: pyrage.encrypt(e(), [key.to_public()]))
        timed(times, f"{name}, out", lambda d=decode, s=sealed: d(pyrage.decrypt(s, [key])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=15)
    arguments = parser.parse_args()
    checkpoint = read_checkpoint(shipped())
    codec = Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
    key = pyrage.x25519.Identity.generate()
    times: dict[str, list[float]] = {}
    images = [image for _, image in load(arguments.folder, 1)[: arguments.count + 1]]
    for image in images:
        measure(image, codec, key, times)
    median = {name: float(np.median(values[1:])) for name, values in times.items()}
    pixels = images[0].shape[1] * images[0].shape[2]
    print(
        f"{arguments.folder.name}: {len(images) - 1} images of {images[0].shape[1]} x {images[0].shape[2]}, one thread, medians"
    )
    for name, seconds in median.items():
        out = name.endswith("out") or name in ("decode", "write the file", "restore")
        base = median["JPEG 2000 + age, out" if out else "JPEG 2000 + age, in"]
        print(f"  {name:<22}{1e3 * seconds:8.1f} ms  {1e6 * seconds / pixels:6.3f} s/megapixel  {seconds / base:6.2f}")
    print(save("speed", {"data": arguments.folder.name, "images": len(images) - 1, "seconds": median, "machine": machine()}))


if __name__ == "__main__":
    main()

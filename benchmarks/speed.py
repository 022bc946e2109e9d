"""Time of each stage of sharing and restoring, and of the rivals, in one run; peak memory.

    python benchmarks/speed.py FOLDER [--count N]

Each stage runs on the same images in turn, one thread; the medians over images are compared. Rivals: preset
`paper` (encode, decode), OpenJPEG and JPEG XL near the same PSNR, age on the bytes of the bundle. Peak
memory is of a process of its own that shares and restores one image of 4096 x 4096, less what it takes at rest.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pyrage
from common import load, machine, save

from primis.bundle.settings import Settings
from primis.codec import Codec, OnnxEngine
from primis.codes.ambiguation import ambiguate
from primis.codes.coder import decode_code, encode_code
from primis.codes.selection import entry_odds
from primis.imaging.files import render
from primis.imaging.image import Derivation, Image
from primis.imaging.phantom import draw_phantom
from primis.keys.seal import Secret, image_secret, release_secrets
from primis.keys.tier import Tier
from primis.network.checkpoint import read_checkpoint, shipped
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import decode_image, restore_image
from primis.sharing.share import share_image

SETTINGS = Settings(sparsity=8.0, decoys=8.0, protection="keyed", support_bits=2.75, value_bits=4.0)
_LARGE = 4096


def timed(times: dict[str, list[float]], name: str, call: Callable[[], object]) -> object:
    """The value of a call; its time goes under `name`."""
    start = time.perf_counter()
    value = call()
    times.setdefault(name, []).append(time.perf_counter() - start)
    return value


def new_secrets(bundle_id: str) -> dict[str, Secret]:
    """Fresh ones, at every tier."""
    return {
        t: image_secret(s, bundle_id) for t, s in release_secrets(Secret.new(), "original").items()
    }


def measure(
    image: Image,
    codec: Codec,
    paper: Codec | None,
    key: pyrage.x25519.Identity,
    times: dict[str, list[float]],
) -> None:
    """Every stage once, on one image."""
    frame = np.ascontiguousarray(np.squeeze(image.pixels[0]))
    bundle_id = secrets.token_hex(16)
    opened = new_secrets(bundle_id)
    z, scale = timed(times, "encode", lambda: codec.encode(image.pixels[0]))  # type: ignore[misc]
    code = timed(times, "choose entries", lambda: codec.sparsify(z, 8 * z.shape[2] * z.shape[3]))
    levels, layout, tables = code.levels[0], codec.layout, codec.checkpoint.tables
    streams = timed(
        times,
        "code",
        lambda: [encode_code(levels, atoms, layout, tables) for atoms in layout.split()],
    )
    odds = timed(times, "odds of decoys (sca)", lambda: entry_odds(code.levels, layout, tables))
    timed(
        times,
        "ambiguate (sca)",
        lambda: ambiguate(code.levels, 8 * z.shape[2] * z.shape[3], odds=odds),
    )  # type: ignore[arg-type]

    def share():
        return share_image(
            image, SETTINGS, opened, codec, alone=True, bundle_id=bundle_id, name="x"
        )

    data = timed(times, "share, whole", share).data  # type: ignore[attr-defined]

    def purify() -> None:
        known = np.zeros_like(levels)
        for atoms, stream in zip(layout.split(), streams, strict=True):
            entries = int(np.count_nonzero(levels[atoms.start : atoms.stop]))
            known = decode_code(*stream, known, atoms, entries, layout, tables)

    timed(times, "purify (decode the code)", purify)
    timed(times, "decode", lambda: codec.decode(code, scale, frame.shape, frame.dtype))
    timed(times, "write the file", lambda: render(image, Derivation("", 1.0, "", "")))
    timed(
        times,
        "restore, whole",
        lambda: restore_image(
            OpenedBundle.read(data, opened), Tier("diagnostic"), lambda _: codec, group="g"
        ),
    )
    if paper is not None:
        z, scale = timed(times, "preset paper: encode", lambda: paper.encode(image.pixels[0]))  # type: ignore[misc]
        code = paper.sparsify(z, 4 * 4 * z.shape[2] * z.shape[3])
        timed(
            times,
            "preset paper: decode",
            lambda: paper.decode(code, scale, frame.shape, frame.dtype),
        )
    sealed = timed(
        times, "age: encrypt the bundle", lambda: pyrage.encrypt(data, [key.to_public()])
    )
    timed(times, "age: decrypt the bundle", lambda: pyrage.decrypt(sealed, [key]))
    for name, encode, decode in (
        (
            "OpenJPEG",
            lambda: imagecodecs.jpeg2k_encode(frame, level=43.5, numthreads=1),
            imagecodecs.jpeg2k_decode,
        ),
        (
            "JPEG XL",
            lambda: imagecodecs.jpegxl_encode(frame, distance=1.3, effort=7, numthreads=1),
            imagecodecs.jpegxl_decode,
        ),
    ):
        packed = timed(times, f"{name}: encode", encode)
        timed(times, f"{name}: decode", lambda d=decode, p=packed: d(p))


def peak() -> None:
    """Share and restore one large image; print the peak memory beyond what importing takes, in MiB."""
    checkpoint = read_checkpoint(shipped())
    codec, bundle_id = Codec(checkpoint, OnnxEngine(checkpoint, threads=1)), secrets.token_hex(16)
    pixels = np.tile(draw_phantom(512), (_LARGE // 512, _LARGE // 512))[None, ..., None]
    image = Image(np.ascontiguousarray(pixels), 12, "MONOCHROME2", "tiff", None, b"{}")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    rest, opened = _memory("VmRSS"), new_secrets(bundle_id)
    data = share_image(
        image, SETTINGS, opened, codec, alone=True, bundle_id=bundle_id, name="x"
    ).data
    shared = _memory("VmHWM")

    decode_image(OpenedBundle.read(data, opened), Tier.DIAGNOSTIC, lambda _: codec)
    print(shared - rest, _memory("VmHWM") - rest)


def _memory(field: str) -> float:
    """MiB of this process, as Linux counts them."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=15)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        return peak()
    codec = Codec(checkpoint := read_checkpoint(shipped()), OnnxEngine(checkpoint, threads=1))
    paper = None
    if shipped("paper").exists():
        paper = Codec(other := read_checkpoint(shipped("paper")), OnnxEngine(other, threads=1))
    key = pyrage.x25519.Identity.generate()
    times: dict[str, list[float]] = {}
    images = [image for _, image in load(arguments.folder, 1)[: arguments.count + 1]]
    for image in images:
        measure(image, codec, paper, key, times)
    median = {name: float(np.median(values[1:])) for name, values in times.items()}
    height, width = images[0].shape[1:3]
    print(
        f"{arguments.folder.name}: {len(images) - 1} images of {height} x {width}, one thread, medians"
    )
    print(f"  {'':<26}{'':>11}  s/megapixel   x OpenJPEG   x preset paper")
    for name, seconds in median.items():
        out = any(word in name for word in ("decode", "restore", "write", "purify", "decrypt"))
        ratios = [seconds / median[f"OpenJPEG: {'decode' if out else 'encode'}"]]
        ratios += (
            [seconds / median[f"preset paper: {name}"]] if f"preset paper: {name}" in median else []
        )
        shown = "".join(f"{ratio:12.2f}" for ratio in ratios)
        print(
            f"  {name:<26}{1e3 * seconds:8.1f} ms  {1e6 * seconds / (height * width):11.3f}{shown}"
        )
    done = subprocess.run(
        [sys.executable, __file__, "--peak"], capture_output=True, text=True, check=True
    )
    memory = [float(x) for x in done.stdout.split()]
    print(
        f"  peak memory, {_LARGE} x {_LARGE}, 12 bits: share {memory[0]:.0f} MiB, then restore {memory[1]:.0f} MiB"
    )
    facts = {
        "data": arguments.folder.name,
        "images": len(images) - 1,
        "seconds": median,
        "machine": machine(),
    }
    print(
        save(
            "speed",
            facts
            | {"peak_mib": {"side": _LARGE, "share": memory[0], "share_and_restore": memory[1]}},
        )
    )
    return None


if __name__ == "__main__":
    main()

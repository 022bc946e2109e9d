"""What smaller tiles cost, and what they save whoever reads a region of an image.

    python benchmarks/tiles.py FOLDER MAMMOGRAM [--every N] [--tiles PIXELS ...]

For each size of tile: bytes and PSNR of images of FOLDER, and of MAMMOGRAM, at S_x = 8. Of the
mammogram also what is fetched for a tenth of it, 0.32 of its height and width, at places drawn at
random: by the holder of a grant of that region, and by the holder of a grant of all, who gets the
very pixels of the whole. Then how near the region that a grant of it opens comes to the whole, in
its border of 16 pixels and inside, at random places and with its border along tiles.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Keys, load, machine, one_thread, save
from rich.progress import track

from primis.bundle.container import profiles_of
from primis.bundle.ranged import RangedBytes, Span
from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.imaging.region import Region
from primis.keys.grant import ImageKeys
from primis.keys.tier import Tier
from primis.metrics.fidelity import data_range
from primis.sharing.opened import OpenedBundle
from primis.sharing.partial import fetch_region
from primis.sharing.region import open_region, read_region
from primis.sharing.restore import decode_image
from primis.sharing.share import share_image

_SPARSITY = 8.0
_SIDE = 0.1**0.5
_PLACES, _DECODED = 32, 8
_BORDER = 16
_SEED = 20240131


def shared(image: Image, tile: int, codec: Codec) -> tuple[OpenedBundle, bytes, float | None]:
    """A bundle as it lies in a release, opened, its bytes, and its PSNR in dB."""
    keys, settings = Keys.new(), Settings(sparsity=_SPARSITY, tile=tile)
    made = share_image(
        image,
        settings,
        keys.secrets,
        codec,
        bundle_id=keys.bundle_id,
        name="x",
        measure=True,
    )
    profiles = profiles_of([made.header.profile])
    bundle = OpenedBundle.read(made.data, keys.secrets, profiles)
    return bundle, made.data, None if made.quality is None else made.quality.psnr


def places(height: int, width: int, count: int) -> Iterator[Region]:
    """Regions of a tenth of an image, anywhere in it."""
    rng = np.random.default_rng(_SEED)
    h, w = round(_SIDE * height), round(_SIDE * width)
    for _ in range(count):
        yield Region(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)


def along(region: Region, tile: int) -> Region:
    """The nearest region whose border lies along tiles."""
    x, y = (round(at / tile) * tile for at in (region.x, region.y))
    w, h = (max(round(side / tile), 1) * tile for side in (region.width, region.height))
    return Region(x, y, w, h)


def fetched(bundle: OpenedBundle, data: bytes, keys: ImageKeys, region: Region) -> tuple[int, int]:
    """Bytes and requests that reading a region takes."""
    sizes: list[int] = []

    def fetch(spans: Sequence[Span]) -> list[bytes]:
        sizes.extend(span.end - span.start for span in spans)
        return [data[span.start : span.end] for span in spans]

    profiles = profiles_of([bundle.header.profile])
    file = RangedBytes(len(data), fetch)
    fetch_region(Tier.DIAGNOSTIC, file, "x", profiles, keys, region, None)
    return sum(sizes), len(sizes)


def reading(bundle: OpenedBundle, data: bytes) -> dict[str, float]:
    """Mean bytes and requests over places, for the holder of a region and of all."""
    _, height, width, _ = bundle.header.geometry.shape
    found = []
    for region in places(height, width, _PLACES):
        part = open_region(bundle, region, Tier.DIAGNOSTIC)
        of_part = fetched(bundle, data, part, region)
        found.append((*of_part, *fetched(bundle, data, bundle.secrets, region)))
    names = ("region_bytes", "region_requests", "whole_bytes", "whole_requests")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def edges(bundle: OpenedBundle, codec: Codec, tile: int) -> dict[str, float]:
    """PSNR in dB of regions against the whole, both decoded: borders and insides."""
    whole = decode_image(bundle, Tier.DIAGNOSTIC, lambda _: codec)
    scale = data_range(whole.pixels, whole.bit_depth)
    _, height, width, _ = bundle.header.geometry.shape
    errors: dict[str, list[tuple[float, int]]] = {}
    for region in places(height, width, _DECODED):
        for name, wanted in (("anywhere", region), ("along_tiles", along(region, tile))):
            inside, border = _errors(bundle, codec, whole, wanted)
            errors.setdefault(f"{name}_inside", []).append(inside)
            errors.setdefault(f"{name}_border", []).append(border)
    means = {n: sum(e for e, _ in es) / sum(c for _, c in es) for n, es in errors.items()}
    return {n: 10 * float(np.log10(scale**2 / max(m, 1e-12))) for n, m in means.items()}


def _errors(
    bundle: OpenedBundle, codec: Codec, whole: Image, wanted: Region
) -> tuple[tuple[float, int], tuple[float, int]]:
    """Sum of squared errors and number of pixels, inside of a region and in its border."""
    opened = open_region(bundle, wanted, Tier.DIAGNOSTIC)
    part = OpenedBundle.of(bundle.header, bundle.parts, opened)
    pixels = read_region(part, Tier.DIAGNOSTIC, lambda _: codec)[0].pixels[0].astype(np.float64)
    r = opened.region
    error = (pixels - whole.pixels[0, r.y : r.y + r.height, r.x : r.x + r.width]) ** 2
    inner = error[_BORDER:-_BORDER, _BORDER:-_BORDER]
    return (inner.sum(), inner.size), (error.sum() - inner.sum(), error.size - inner.size)


def measured(images: list[Image], mammogram: Image, tile: int, codec: Codec) -> dict[str, Any]:
    """Everything for one size of tile."""
    made = [shared(image, tile, codec) for image in track(images, f"tile {tile}")]
    bundle, data, reached = shared(mammogram, tile, codec)
    return {
        "tile": tile,
        "bytes": float(np.mean([len(each) for _, each, _ in made])),
        "psnr": float(np.mean([quality for _, _, quality in made])),
        "mammogram": {
            "bytes": len(data),
            "psnr": reached,
            "tiles": bundle.header.geometry.tile_count,
            **reading(bundle, data),
            **edges(bundle, codec, tile),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("mammogram", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--tiles", type=int, nargs="*", default=[64, 128, 256, 512, 1024])
    arguments = parser.parse_args()
    codec = one_thread()
    images = [image for _, image in load(arguments.folder, arguments.every)]
    mammogram = read(arguments.mammogram)[0]
    points = [measured(images, mammogram, tile, codec) for tile in arguments.tiles]
    facts = {
        "data": arguments.folder.name,
        "images": len(images),
        "sparsity": _SPARSITY,
        "mammogram": list(mammogram.shape[1:3]),
        "places": _PLACES,
    }
    for point in points:
        print(point)
    print(save("tiles", facts | {"points": points, "machine": machine()}))


if __name__ == "__main__":
    main()

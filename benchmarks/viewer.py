"""The viewer in Chromium: what it downloads, how long it takes, and what a large image needs.

    python benchmarks/viewer.py

Needs Node.js and Chromium; builds the viewer first. Phantoms on a local release: seconds from the
key to the first preview and to the diagnostic image in a fresh browser profile; a warm read of
512 x 512 (files at hand: verified, unsealed, decoded) beside the same in Python on one core, in the
same run; an image of 3000 x 2500 and 16
bits, with the peak memory of its tab; and requests to hosts other than the page's and the
release's. results/viewer.json.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pydicom
from common import machine, save

import primis
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.keys.identity import generate, read_signer
from primis.release.reader import Release
from primis.viewer import assets
from primis.viewer.files import ReleaseFiles
from primis.viewer.server import Server, Site

VIEWER = Path(__file__).parents[1] / "viewer"
DIST = VIEWER / "dist"
HEIGHT, WIDTH, BITS = 2500, 3000, 16
READS = 15


def large_dicom() -> bytes:
    """A phantom of 16 bits, as a flat detector has them."""
    pixels = draw_phantom(WIDTH, seed=1)[:HEIGHT].astype(np.uint16) << 4
    data_set = pydicom.dcmread(io.BytesIO(phantom_dicom(64, seed=1)))
    data_set.Rows, data_set.Columns, data_set.PixelData = HEIGHT, WIDTH, pixels.tobytes()
    data_set.BitsStored, data_set.HighBit = BITS, BITS - 1
    data_set.WindowCenter, data_set.WindowWidth = 1 << 15, 1 << 16
    out = io.BytesIO()
    data_set.save_as(out)
    return out.getvalue()


@contextmanager
def viewed(place: Path) -> Iterator[str]:
    """What `primis view` serves, without a key; its address."""
    release = Release(place)
    files = ReleaseFiles(release)
    site = Site(assets.viewer_files(), files, place=str(place), signer=release.manifest.signer)
    with Server(site) as server, served(server):
        yield server.url


class _Open(SimpleHTTPRequestHandler):
    """A folder for pages of every host; Python's server knows no ranges."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "Range")
        super().end_headers()

    def do_OPTIONS(self) -> None:
        """What a browser asks beforehand."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def published(place: Path) -> Iterator[str]:
    """A release on a web host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Open, directory=str(place)))
    with server, served(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[None]:
    """Until the block ends."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()


def python_reads(place: Path, key: Path) -> list[float]:
    """Seconds of warm reads of tier diagnostic on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with primis.open(place, key, remember=False) as release:
            image = next(iter(release))
            image.read("diagnostic")
            times = []
            for _ in range(READS):
                start = time.perf_counter()
                image.read("diagnostic")
                times.append(time.perf_counter() - start)
        return times
    finally:
        os.sched_setaffinity(0, cores)


def downloads() -> dict[str, int]:
    """Bytes of the viewer as a host sends them, compressed by gzip where that helps."""
    sizes: dict[str, int] = {}
    for path in sorted(DIST.rglob("*")):
        if path.is_file() and "LEGAL" not in path.name and "licences" not in path.parts:
            data = path.read_bytes()
            sizes[path.relative_to(DIST).as_posix()] = min(len(data), len(gzip.compress(data, 9)))
    [weights] = [sizes[name] for name in sizes if name.endswith(f"{_default_digest()}.safetensors")]
    page = sum(size for name, size in sizes.items() if not name.startswith("assets/weights/"))
    return {"without_weights": page, "weights": weights, "with_weights": page + weights}


def _default_digest() -> str:
    from primis.network.checkpoint import read_checkpoint, shipped
    from primis.network.presets import DEFAULT

    return read_checkpoint(shipped(DEFAULT.name)).digest


def measure(folder: Path) -> dict[str, Any]:
    """All of it, in a folder of our own."""
    key = folder / "a.key"
    key.write_text(generate())
    owner = read_signer(key)
    for name, data in (("one", phantom_dicom(512, seed=1)), ("large", large_dicom())):
        (folder / f"{name}.dcm").write_bytes(data)
        primis.share(folder / f"{name}.dcm", folder / name, to=owner.recipient.text, owner=owner)
    with ExitStack() as stack:
        page = stack.enter_context(viewed(folder / "one"))
        large = stack.enter_context(viewed(folder / "large"))
        release = stack.enter_context(published(folder / "one"))
        before = python_reads(folder / "one", key)
        asked = {"page": page, "large": large, "release": release, "key": str(key)}
        told = in_browser(asked)
        after = python_reads(folder / "one", key)
    return summary(told, before + after)


def in_browser(asked: dict[str, str]) -> dict[str, Any]:
    """What viewer/tests/e2e/bench.mjs measures."""
    ended = subprocess.run(
        ["node", "tests/e2e/bench.mjs"],
        cwd=VIEWER,
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def summary(told: dict[str, Any], python: list[float]) -> dict[str, Any]:
    """Medians; of the warm reads the fastest, since other work can only slow them."""
    cold, large, warm, ours = told["cold"], told["large"], min(told["warm"]), min(python)
    return {
        "browser": f"Chromium {told['version']}",
        "download_bytes": downloads(),
        "first_image_s": {
            name: median(times[name] for times in cold)
            for name in ("listed", "preview", "diagnostic")
        },
        "warm_read_512": {"browser_s": warm, "python_s": ours, "ratio": warm / ours},
        "large": {
            "shape": [HEIGHT, WIDTH],
            "bits": BITS,
            "preview_s": large["preview"],
            "diagnostic_s": large["diagnostic"],
            "peak_bytes_of_the_tab": large["memory"],
        },
        "peak_bytes_of_a_tab_512": median(times["memory"] for times in cold),
        "requests_elsewhere": told["elsewhere"],
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    subprocess.run(["npm", "run", "build"], cwd=VIEWER, check=True, stdout=subprocess.DEVNULL)
    assets.STATIC = DIST
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = folder
        result = measure(Path(folder))
    print(json.dumps(result, indent=1))
    print(save("viewer", result | {"machine": machine()}))


if __name__ == "__main__":
    main()

"""A release in a bucket that is 60 ms away, against the same release in a folder.

    python benchmarks/remote.py [--images N] [--latency MS]

Phantoms of 512 x 512, 12 bits, in an S3 server (moto) on this machine that waits before each
answer: seconds to send the release, to restore all of it from the bucket and from the folder, and
requests and bytes for one preview beside an original. results/remote.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import machine, save

import primis
from primis.imaging.phantom import phantom_dicom
from primis.keys.identity import generate, read_signer

_ADDRESS = "localhost"


@dataclass
class Counter:
    """Requests and bytes of answers since it was reset."""

    requests: int = 0
    sent: int = 0

    def reset(self) -> None:
        self.requests = self.sent = 0


@contextmanager
def bucket(latency: float, counter: Counter) -> Iterator[str]:
    """An S3 server that is far away, with an empty bucket."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    service = DomainDispatcherApplication(create_backend_app)

    def far(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        time.sleep(latency)
        body = list(service(environ, start))
        counter.requests += 1
        counter.sent += sum(map(len, body))
        return body

    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(_ADDRESS, 0, far, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://{_ADDRESS}:{server.server_port}"
    os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
    try:
        yield "s3://bucket"
    finally:
        server.shutdown()


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(folder: Path, images: int, latency: float) -> dict[str, Any]:
    """All of it, in a folder of our own."""
    xrays = folder / "xrays"
    xrays.mkdir()
    for seed in range(images):
        (xrays / f"{seed}.dcm").write_bytes(phantom_dicom(512, seed=seed))
    key = folder / "a.key"
    key.write_text(generate())
    owner, counter = read_signer(key), Counter()
    to = owner.recipient.text
    with bucket(latency, counter) as root:
        here, there = folder / "here", f"{root}/there"
        local = seconds(lambda: primis.share(xrays, here, to=to, owner=owner, measure=False))
        remote = seconds(lambda: primis.share(xrays, there, to=to, owner=owner, measure=False))
        opened = seconds(lambda: len(primis.open(there, key)))
        from_folder = seconds(lambda: primis.restore(here, folder / "a", identity=key))
        from_bucket = seconds(lambda: primis.restore(there, folder / "b", identity=key))
        beside = f"{root}/beside"
        few = sorted(xrays.iterdir())[:4]
        primis.share(few, beside, to=to, owner=owner, with_original=True, measure=False)
        counter.reset()
        release = primis.open(beside, key, remember=False)
        name = release._opened.release.ids[0]  # by id: the catalogue is not needed
        preview = seconds(lambda: release[name].read("preview"))
    return {
        "images": images,
        "latency_ms": 1000 * latency,
        "share_to_folder_s": local,
        "share_to_bucket_s": remote,
        "open_s": opened,
        "restore_from_folder_s": from_folder,
        "restore_from_bucket_s": from_bucket,
        "restore_ratio": from_bucket / from_folder,
        "preview": {"requests": counter.requests, "bytes": counter.sent, "seconds": preview},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--latency", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = os.environ["PRIMIS_WORK"] = folder
        result = measure(Path(folder), arguments.images, arguments.latency / 1000)
    for name, value in result.items():
        print(f"{name}: {value if not isinstance(value, float) else round(value, 3)}")
    print(save("remote", result | {"machine": machine()}))


if __name__ == "__main__":
    main()

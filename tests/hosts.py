"""Hosts on loopback for the tests: a web server, with or without ranges, that counts what is asked
of it and can be told to misbehave; and an S3 server (moto)."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass
class WebHost:
    """Serves a folder. ranges: whether it knows them. asked: the path of each request, in order;
    sent: bytes of all bodies. latency: seconds before each answer. misbehave: may answer in place
    of it, with (handler, path), and returns whether it did. alter: what becomes of each body.
    headers: of all answers."""

    folder: Path
    ranges: bool = True
    scheme: str = "http"
    latency: float = 0.0
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    port: int = 0
    misbehave: Callable[[BaseHTTPRequestHandler, str], bool] = lambda handler, path: False
    alter: Callable[[str, bytes], bytes] = lambda path, body: body
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def forget(self) -> None:
        """Start counting anew."""
        self.asked.clear()
        self.sent = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, host: WebHost, *given: object) -> None:
        self.host = host
        super().__init__(*given)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        host, path = self.host, self.path.lstrip("/")
        host.asked.append(path)
        time.sleep(host.latency)
        if host.misbehave(self, path):
            return
        file = host.folder / path
        if not file.is_file():
            self.answer(404, b"")
            return
        body = host.alter(path, file.read_bytes())
        asked = self.headers.get("Range")
        if asked is None or not host.ranges:
            self.answer(200, body)
            return
        start, end = map(int, asked.removeprefix("bytes=").split("-"))
        part = body[start : end + 1]
        span = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        self.answer(206, part, {"Content-Range": span})

    def do_OPTIONS(self) -> None:
        """What a browser asks before it lets a page of another host ask."""
        self.answer(204, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (self.host.headers | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.host.sent += len(body)
        self.wfile.write(body)


@contextmanager
def web_host(
    folder: Path, *, ranges: bool = True, certificate: ssl.SSLContext | None = None
) -> Iterator[WebHost]:
    """A web server for as long as the block runs."""
    host = WebHost(folder, ranges, "https" if certificate else "http")
    server = ThreadingHTTPServer(("localhost", 0), partial(_Handler, host))
    server.daemon_threads = True
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    host.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def s3_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with an empty bucket, the environment set for it; gives the bucket's URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    address = f"http://localhost:{server.get_host_and_port()[1]}"
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
    }.items():
        monkeypatch.setenv(name, value)
    import urllib.request

    for method, path in (("POST", "moto-api/reset"), ("PUT", "bucket")):
        asked = urllib.request.Request(f"{address}/{path}", method=method)
        urllib.request.urlopen(asked).close()
    try:
        yield "s3://bucket"
    finally:
        server.stop()

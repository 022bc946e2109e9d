"""The exported viewer on one host and a release on another, as a hospital would have them."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.hosts import WebHost, web_host

ALLOWED = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Expose-Headers": "Content-Range, Content-Length",
}
"""What docs/how-to/view.md asks of the host of a release."""


@contextmanager
def viewer_host(folder: Path) -> Iterator[str]:
    """Serves the files that `primis view --export` wrote; the address of its page."""
    with web_host(folder) as host:
        host.misbehave = _with_types
        yield by_number(host)


def _with_types(handler: BaseHTTPRequestHandler, path: str) -> bool:
    """As web hosts do: index.html for a folder, and a media type with every file."""
    host: WebHost = handler.host  # type: ignore[attr-defined]
    file = host.folder / (urlsplit(path).path or "index.html")
    if not file.is_file():
        return False
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {"Content-Type": kind, "X-Content-Type-Options": "nosniff"}
    handler.answer(200, file.read_bytes(), headers)  # type: ignore[attr-defined]
    return True


@contextmanager
def release_host(release: Path, *, ranges: bool = True) -> Iterator[WebHost]:
    """Serves a release to pages of every host."""
    with web_host(release, ranges=ranges) as host:
        host.headers = dict(ALLOWED)
        yield host


def by_number(host: WebHost) -> str:
    """Its address, as the viewer's policy has it."""
    return f"http://127.0.0.1:{host.port}"


def link_to(viewer: str, host: WebHost) -> str:
    """The viewer's address with that of a release."""
    return f"{viewer}/?release={quote(by_number(host), safe='')}"

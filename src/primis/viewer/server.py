"""The viewer on loopback: its pages, a release and a key, for one browser of one person.

Three others can reach the port, and each lacks something:

    another user of the machine    the token, 128 random bits at the start of every path
    a page of another site         the token; no CORS header lets it read an answer, and requests
                                   that a browser marks as another site's are refused
    a site whose name leads here   its own name in Host, where only loopback's are answered
                                   (DNS rebinding)

The page's address names `localhost`, which is two addresses: the port of ::1 is taken, too.

The system chooses the port unless one is given: on a port that is known in advance, somebody else
can install a service worker first, which then sees all that the browser requests from that origin.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from errno import EADDRNOTAVAIL
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from threading import BoundedSemaphore
from typing import Any

from primis.atomic import open_regular, reason
from primis.errors import AccessError, NotThere, OutputError, PrimisError, StoreError
from primis.viewer.assets import INDEX
from primis.viewer.files import OCTETS, Body, ReleaseFiles
from primis.viewer.key import HandedOver, OneKey

LOOPBACK = "127.0.0.1"
NAME = "localhost"
"""What a browser calls loopback: passkeys belong to a name, and never to a number."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
TEXT = "text/plain; charset=utf-8"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": TEXT,
    ".gz": "application/gzip",  # not as an encoding: the page unpacks it
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SECONDS = 60
"""A connection on which nothing moves for so long is closed."""

_MOST_CONNECTIONS = 64


class Site:
    """What lies behind the token: the viewer's files by their addresses, the release below
    `release/`, `config.json`, and `key` once. place: of the release, as it was given."""

    def __init__(
        self,
        files: Mapping[str, Path],
        release: ReleaseFiles,
        *,
        place: str,
        signer: str,
        key: OneKey | None = None,
    ) -> None:
        self._files, self._release, self._key = dict(files), release, key
        config = {"release": "release", "place": place, "signer": signer, "key": key is not None}
        self._config = json.dumps(config).encode()

    def body(self, address: str, *, take: bool) -> Body:
        """What an address gives. take: it is fetched, not only asked about. Raises NotThere,
        HandedOver, and what `ReleaseFiles.body` raises."""
        folder, sign, key = address.partition("/")
        if folder == "release" and sign:
            return self._release.body(key)
        if address == "config.json":
            return Body.of(self._config, _KINDS[".json"])
        if address == "key" and self._key is not None:
            if take:
                return Body.of(self._key.take())
            self._key.require_there()
            return Body.of(b"")
        path = self._files.get(address or INDEX)
        if path is None:
            raise NotThere("this address", "there is nothing")
        return _file(path)


def _file(path: Path) -> Body:
    def read(start: int, end: int) -> bytes:
        with open_regular(path) as file:
            file.seek(start)
            return file.read(end - start)

    try:
        return Body(path.stat().st_size, _KINDS.get(path.suffix, OCTETS), read)
    except OSError as error:
        raise StoreError(path.name, reason(error)) from None


class Server(ThreadingHTTPServer):
    """Serves a site on loopback. port: None for one that the system chooses. Raises OutputError
    where it is not available. tell: is told what went wrong while a file was sent."""

    allow_reuse_address = os.name == "posix"  # elsewhere it lets others listen on the same port
    daemon_threads = True
    _held: socket.socket | None = None

    def __init__(
        self,
        site: Site,
        port: int | None = None,
        tell: Callable[[str], None] = lambda said: None,
    ) -> None:
        self.site, self.tell = site, tell
        self._token = secrets.token_urlsafe(16)
        self._free = BoundedSemaphore(_MOST_CONNECTIONS)
        try:
            super().__init__((LOOPBACK, port or 0), _Handler)
        except OSError as error:
            raise OutputError(
                f'port "{port or 0}" of {LOOPBACK} is not available: {reason(error)}, '
                "expected a free one"
            ) from None
        self.hosts = {f"{LOOPBACK}:{self.server_port}", f"{NAME}:{self.server_port}"}

    @property
    def url(self) -> str:
        """Where the page is; whoever knows it can fetch what is served."""
        return f"http://{NAME}:{self.server_port}/{self._token}/"

    def address(self, path: str) -> str | None:
        """What follows the token in the path of a request; None without the token."""
        before, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
        known = hmac.compare_digest(before.encode(errors="replace"), self._token.encode())
        return rest if known and path.startswith(f"/{self._token}/") else None

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As above; then another may come."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any
    ) -> None:
        """A browser that goes away costs nothing, and no traceback shows what was served."""

    def server_bind(self) -> None:
        """Without asking for the machine's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]
        self._held = _held_port(self.server_port)

    def server_close(self) -> None:
        """Both loopbacks are free again."""
        super().server_close()
        if self._held is not None:
            self._held.close()


def _held_port(port: int) -> socket.socket | None:
    """The same port of ::1, taken and never answered: for the name localhost a browser tries that
    first, and another user who listened there would get the token. None where there is no ::1.
    Raises OSError where somebody has the port."""
    try:
        held = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        held.bind(("::1", port))
    except OSError as error:
        held.close()
        if error.errno == EADDRNOTAVAIL:
            return None
        raise
    return held


class _Refused(Exception):
    """A request that is answered with a status and a line."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.headers = status, headers


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD. Logs nothing: paths hold the token."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _SECONDS
    server: Server

    def do_GET(self) -> None:
        """A file, or a range of it."""
        self._answer(fetch=True)

    def do_HEAD(self) -> None:
        """What GET would say of a file, without the file."""
        self._answer(fetch=False)

    def _answer(self, *, fetch: bool) -> None:
        try:
            self._require_loopback()
            address = self.server.address(self.path)
            if address is None:
                raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
            self._require_own_page(address)
            body = self.server.site.body(address, take=fetch)
            if fetch:
                self._send(body)
            else:
                self._start(HTTPStatus.OK, body.kind, body.size)
        except _Refused as refused:
            self._say(refused.status, str(refused), refused.headers)
        except PrimisError as error:
            self._say(_status(error), str(error))
        except ConnectionError:
            raise
        except Exception as error:
            self.server.tell(f"unexpected {type(error).__name__} while a file was sent")
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, f"unexpected {type(error).__name__}")

    def _require_loopback(self) -> None:
        """Raise _Refused for what was sent to another name, and for what is more than a path."""
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "expected the name of loopback as host")
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body is never read
            raise _Refused(HTTPStatus.BAD_REQUEST, "expected a request without a body")

    def _require_own_page(self, address: str) -> None:
        """Raise _Refused for what a browser sends for another site's page. Such a page, the one on
        disk that the browser is started with, leads to the viewer's page and to nothing else."""
        site = self.headers.get("Sec-Fetch-Site", "none")
        opens_page = address == "" and self.headers.get("Sec-Fetch-Mode") == "navigate"
        if site not in ("none", "same-origin") and not opens_page:
            raise _Refused(HTTPStatus.FORBIDDEN, "expected a request of the viewer's own page")

    def _send(self, body: Body) -> None:
        asked = self.headers.get("Range")
        start, end = (0, body.size) if asked is None else _range(asked, body.size)
        parts = body.parts(start, end)
        first = next(parts, b"")  # before anything is said: it may fail
        headers, status = {}, HTTPStatus.OK
        if asked is not None:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{body.size}"
        self._start(status, body.kind, end - start, headers)
        self.wfile.write(first)
        try:
            for part in parts:
                self.wfile.write(part)
        except PrimisError as error:  # too late for a status: the page sees a file cut short
            self.close_connection = True
            self.server.tell(str(error))

    def _start(
        self, status: HTTPStatus, kind: str, size: int, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        given = {"Content-Type": kind, "Content-Length": str(size), "Accept-Ranges": "bytes"}
        for name, value in (given | HEADERS | dict(headers or {})).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _say(self, status: HTTPStatus, line: str, headers: Mapping[str, str] | None = None) -> None:
        """An answer of one line of text."""
        text = "".join(c for c in line if c.isprintable()).encode(errors="replace") + b"\n"
        self._start(status, TEXT, len(text), headers)
        if self.command != "HEAD":
            self.wfile.write(text)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself: what is no HTTP, and other methods."""
        self.close_connection = True
        if code == HTTPStatus.NOT_IMPLEMENTED:
            allowed = {"Allow": "GET, HEAD"}
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", allowed)
        else:
            self._say(HTTPStatus(code), "expected a request of HTTP/1.1")

    def version_string(self) -> str:
        """Of the server, for anyone."""
        return "primis"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _range(text: str, size: int) -> tuple[int, int]:
    """The one range that is asked for of so many bytes. Raises _Refused."""
    asked = _RANGE.fullmatch(text)
    first, last = asked.groups() if asked else ("", "")
    if first:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    else:
        start, end = max(0, size - int(last or 0)), size
    if start >= end:
        raise _Refused(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"expected one range within {size} bytes",
            **{"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _status(error: PrimisError) -> HTTPStatus:
    if isinstance(error, NotThere):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, HandedOver):
        return HTTPStatus.GONE
    if isinstance(error, AccessError):  # another signer or state than was opened
        return HTTPStatus.CONFLICT
    return HTTPStatus.BAD_GATEWAY

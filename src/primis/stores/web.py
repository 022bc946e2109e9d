"""Releases on a web host, read by HTTP or HTTPS. It lists nothing and is not written to.

Certificates are always verified. A redirect to another host is refused: whoever was asked is who
answers. A host that serves no ranges sends whole files instead, which is told once.
"""

from __future__ import annotations

import random
import ssl
import time
import urllib.request
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, LocationValueError, SSLError

from primis.errors import HostError, NotThere, StoreError
from primis.stores.store import (
    AT_ONCE,
    CONNECT_SECONDS,
    LONGEST_PAUSE,
    MOST_FILES,
    READ_SECONDS,
    TRIES,
    Found,
    Range,
    at_once,
    require_length,
)

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, 500, 502, 503, 504}
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_MOVED = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 3
_PIECE = 1 << 16
_SLOWEST = 10_000
"""Bytes a second: an answer that comes more slowly, after READ_SECONDS, is given up."""


class _TryAgain(Exception):
    """The host did not answer as it should, and may do so the next time."""


class WebStore:
    """A folder of a web host."""

    lists = False

    def __init__(self, url: str) -> None:
        self.place = url.rstrip("/")
        self.tell: Callable[[str], None] = lambda said: None
        self.ranges = True
        self._host = urlsplit(self.place)
        self._pool = _pool(self.place, self._host.scheme, self._host.hostname or "")

    def __repr__(self) -> str:
        return f"WebStore({self.place!r})"

    def __reduce__(self) -> tuple[type[WebStore], tuple[str]]:
        return WebStore, (self.place,)

    def get(self, key: str, most: int) -> Found:
        """See `Store`."""
        url = self._url(key)
        answer = self._answer(url, None, most)
        if len(answer.data) > most:
            raise StoreError(url, f"it has more than {most} bytes")
        return answer

    def get_ranges(self, key: str, ranges: Sequence[Range], size: int) -> list[bytes]:
        """See `Store`."""
        if not ranges:
            return []
        url, head = self._url(key), b""
        if self.ranges:
            head = self._answer(url, ranges[0], ranges[0].length).data
        if self.ranges:
            rest = at_once(lambda r: self._answer(url, r, r.length).data, ranges[1:])
            parts = [head, *rest]
        else:  # as may just have turned out
            whole = self.get(key, size).data
            parts = [whole[r.start : r.end] for r in ranges]
        return [require_length(part, r, url) for part, r in zip(parts, ranges, strict=True)]

    def put(self, key: str, data: bytes) -> None:
        """Raises StoreError."""
        raise StoreError(self._url(key), "a web host is only read from here")

    def put_new(self, key: str, data: bytes) -> None:
        """Raises StoreError."""
        self.put(key, data)

    def replace(self, key: str, data: bytes, tag: str) -> None:
        """Raises StoreError."""
        self.put(key, data)

    def list(self, folder: str, most: int = MOST_FILES) -> dict[str, int]:
        """Raises HostError."""
        raise HostError(self._url(folder), "a web host lists no files")

    def delete(self, key: str) -> None:
        """Raises StoreError."""
        self.put(key, b"")

    def _url(self, key: str) -> str:
        return f"{self.place}/{quote(key)}"

    def _answer(self, url: str, wanted: Range | None, most: int) -> Found:
        """One file or range, tried several times. At most one byte more than `most`."""
        for number in range(1, TRIES + 1):
            try:
                return self._once(url, wanted, most)
            except SSLError as error:
                raise HostError(url, f"no secure connection: {_why_insecure(error)}") from None
            except (LocationParseError, LocationValueError):
                raise HostError(url, "it is no URL") from None
            except (HTTPError, _TryAgain, OSError, ValueError) as error:
                why = _why(error)
            if number < TRIES:
                self.tell(f'"{self.place}" {why}: trying again ({number + 1} of {TRIES})')
                time.sleep(min(LONGEST_PAUSE, 0.5 * 2**number) * random.uniform(0.5, 1))
        raise HostError(url, f"the host {why} ({TRIES} tries)")

    def _once(self, url: str, wanted: Range | None, most: int) -> Found:
        headers = {"Accept-Encoding": "identity"}
        if wanted is not None:
            headers["Range"] = f"bytes={wanted.start}-{wanted.end - 1}"
        response = self._follow(url, headers)
        try:
            if not self._require_sound(response, url, wanted):
                return Found(b"", "")
            data = _read(response, most)
            tag = response.headers.get("ETag", "")
            if len(data) <= most and response.length_remaining:
                raise _TryAgain("went away in the middle of a file")
        finally:
            response.close()
        return Found(data, tag)

    def _follow(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """An answer, after redirects within the host."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._pool.request(
                "GET", url, headers=headers, redirect=False, retries=False, preload_content=False
            )
            if response.status not in _MOVED:
                return response
            response.close()
            try:
                target = urljoin(url, response.headers.get("Location", ""))
                self._require_same_host(url, target)
            except ValueError:
                raise HostError(url, "it redirects to what is no URL") from None
            url = target
        raise HostError(url, "it redirects without end")

    def _require_same_host(self, url: str, target: str) -> None:
        to = urlsplit(target)
        upgraded = (self._host.scheme, to.scheme) == ("http", "https")
        same = to.hostname == self._host.hostname and (to.scheme == self._host.scheme or upgraded)
        if not same:
            raise HostError(
                url, f'it redirects to "{to.scheme}://{to.netloc}", another host: refused'
            )

    def _require_sound(
        self, response: urllib3.BaseHTTPResponse, url: str, wanted: Range | None
    ) -> bool:
        """Whether the body is what was asked for: not so where a host has just shown that it serves
        no ranges. Its words are told nowhere: they may be anything."""
        status = response.status
        if status in _GONE:
            raise NotThere(url, "the host has no such file")
        if status in _BUSY:
            raise _TryAgain(f"answers {status}")
        if status == HTTPStatus.PARTIAL_CONTENT and wanted is not None:
            span = f"bytes {wanted.start}-{wanted.end - 1}/"
            if response.headers.get("Content-Range", "").startswith(span):
                return True
            raise _TryAgain("sends another range than it was asked for")
        if status != HTTPStatus.OK:
            raise HostError(url, f"the host refuses it ({status} {_phrase(status)})")
        if wanted is None:
            return True
        if self.ranges:
            self.ranges = False
            self.tell(f'"{self.place}" serves no ranges: whole files are fetched')
        return False


def _read(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """At most one byte more than `most`. Raises _TryAgain where it trickles in."""
    parts, length, start = [], 0, time.monotonic()
    while length <= most:
        part = response.read(min(_PIECE, most + 1 - length), decode_content=False)
        if not part:
            break
        parts.append(part)
        length += len(part)
        if time.monotonic() - start > READ_SECONDS + length / _SLOWEST:
            raise _TryAgain("does not answer in time")
    return b"".join(parts)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "is no status that HTTP knows"


def _pool(place: str, scheme: str, host: str) -> urllib3.PoolManager:
    """Connections, by the proxy of the environment where there is one. Raises StoreError."""
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
    proxy = urllib.request.getproxies().get(scheme)
    if not proxy or urllib.request.proxy_bypass(host):
        return urllib3.PoolManager(maxsize=AT_ONCE, timeout=timeout)
    named = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
    if named.scheme not in ("http", "https"):
        raise StoreError(place, f"{scheme.upper()}_PROXY names a proxy of a kind not known here")
    headers = urllib3.make_headers(proxy_basic_auth=named.auth) if named.auth else None
    plain = f"{named.scheme}://{named.netloc}"
    return urllib3.ProxyManager(plain, maxsize=AT_ONCE, timeout=timeout, proxy_headers=headers)


def _why_insecure(error: SSLError) -> str:
    cause = error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate does not verify ({cause.verify_message})"
    return str(cause)


def _why(error: Exception) -> str:
    """What a host did, for people."""
    if isinstance(error, _TryAgain):
        return str(error)
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "is not known by that name"
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # a timeout too, as urllib3 has it
        return "cannot be reached"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "does not answer in time"
    if isinstance(error, urllib3.exceptions.ProtocolError | ValueError):
        return "went away in the middle of a file"
    return "cannot be reached"

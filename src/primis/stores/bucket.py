"""Releases in a bucket of an object store: S3 and what speaks it, GCS, Azure; by obstore.

Credentials come from the environment, as obstore takes them (AWS_ACCESS_KEY_ID,
GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...), and are never told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from primis.errors import Changed, HostError, NotThere, StoreError
from primis.stores.store import (
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

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

_CODE = re.compile(r"<Code>(\w+)</Code>|\bcode: \"(\w+)\"")
_STATUS = re.compile(r"status code: (\d{3} [A-Z][\w ]+)")
_KNOWN = {
    "NoSuchBucket": "there is no such bucket",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "InvalidAccessKeyId": "the host does not know these credentials",
    "SignatureDoesNotMatch": "the host does not accept these credentials",
    "AccessDenied": "these credentials have no right to it",
}


class BucketStore:
    """A prefix of a bucket, such as s3://bucket/release."""

    lists = False

    def __init__(self, url: str) -> None:
        self.place = url.rstrip("/")
        self.tell: Callable[[str], None] = lambda said: None
        self._store = _open(self.place)

    def __repr__(self) -> str:
        return f"BucketStore({self.place!r})"

    def __reduce__(self) -> tuple[type[BucketStore], tuple[str]]:
        return BucketStore, (self.place,)

    def get(self, key: str, most: int) -> Found:
        """See `Store`."""
        import obstore

        with self._errors(key) as url:
            found = obstore.get(self._store, key)
            data = b"" if found.meta["size"] > most else _read(found, most)
            if max(found.meta["size"], len(data)) > most:
                raise StoreError(url, f"it has more than {most} bytes")
            return Found(data, found.meta["e_tag"] or "")

    def get_ranges(self, key: str, ranges: Sequence[Range], size: int) -> list[bytes]:
        """See `Store`."""
        return at_once(lambda wanted: self._range(key, wanted), ranges)

    def _range(self, key: str, wanted: Range) -> bytes:
        import obstore

        with self._errors(key) as url:
            span = {"range": (wanted.start, wanted.end)}
            found = obstore.get(self._store, key, options=span)  # type: ignore[arg-type]
            return require_length(_read(found, wanted.length), wanted, url)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self._put(key, data, "overwrite")

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store`."""
        self._put(key, data, "create")

    def replace(self, key: str, data: bytes, tag: str) -> None:
        """See `Store`."""
        self._put(key, data, {"e_tag": tag})

    def _put(self, key: str, data: bytes, mode: Any) -> None:
        import obstore

        with self._errors(key):
            obstore.put(self._store, key, data, mode=mode)

    def list(self, folder: str, most: int = MOST_FILES) -> dict[str, int]:
        """See `Store`."""
        import obstore

        files: dict[str, int] = {}
        with self._errors(folder) as url:
            for number, page in enumerate(obstore.list(self._store, prefix=folder)):
                names = ((one["path"].removeprefix(f"{folder}/"), one["size"]) for one in page)
                files.update((name, size) for name, size in names if "/" not in name)
                if len(files) > most or number > most:
                    raise HostError(url, f"the host lists more than {most} files")
        return files

    def delete(self, key: str) -> None:
        """See `Store`."""
        import obstore

        try:
            with self._errors(key):
                obstore.delete(self._store, key)
        except NotThere:
            pass

    @contextmanager
    def _errors(self, key: str) -> Iterator[str]:
        """What obstore raises, in our words. Gives the file's URL."""
        from obstore import exceptions as theirs

        url = f"{self.place}/{key}"
        try:
            yield url
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise HostError(url, _KNOWN["NoSuchBucket"]) from None
            raise NotThere(url, "the bucket has no such file") from None
        except theirs.AlreadyExistsError:
            raise Changed(url, "it is there already") from None
        except theirs.PreconditionError:
            raise Changed(url, "it was changed meanwhile") from None
        except (theirs.BaseError, OSError, ValueError) as error:
            raise HostError(url, _why(str(error))) from None


def _read(found: GetResult, most: int) -> bytes:
    """At most a piece more than `most` bytes, whatever the host sends."""
    parts, length = [], 0
    for part in found.stream(min_chunk_size=1):
        parts.append(bytes(part))
        length += len(part)
        if length > most:
            break
    return b"".join(parts)


def _open(url: str) -> ObjectStore:
    """Raises StoreError."""
    try:
        import obstore.store
    except ModuleNotFoundError:
        raise StoreError(
            url, 'obstore is not installed: pip install "primis[remote]" brings it'
        ) from None
    try:
        return obstore.store.from_url(
            url,
            client_options={
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=READ_SECONDS),
                "timeout": timedelta(hours=1),
            },
            retry_config={
                "max_retries": TRIES - 1,
                "retry_timeout": timedelta(seconds=4 * READ_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=500),
                    "max_backoff": timedelta(seconds=LONGEST_PAUSE),
                    "base": 2,
                },
            },
        )
    except Exception as error:  # whatever it makes of the URL and the environment
        raise StoreError(url, _why(str(error))) from None


def _why(said: str) -> str:
    """One line of what obstore says, which goes on for pages and may quote what was sent."""
    code = next((a or b for a, b in _CODE.findall(said)), "")
    if code in _KNOWN:
        return f"{_KNOWN[code]} ({code})"
    if status := _STATUS.search(said):
        return f"the host refuses it ({code or status[1].strip()})"
    if "BadScheme" in said:
        return "its endpoint is http:// and not https://: AWS_ALLOW_HTTP=true allows that"
    if "certificate" in said:
        return "no secure connection: its certificate does not verify"
    if "kind: Timeout" in said or "timed out" in said:
        return "the host does not answer in time"
    if "error sending request" in said or "dns" in said.lower():
        return "the host cannot be reached"
    first = said.splitlines()[0] if said else ""
    return re.sub(r"\s+in [\d.]+\S*s\b.*", "", first)[:200] or "it cannot be opened"

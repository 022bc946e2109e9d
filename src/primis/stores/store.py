"""The one seam to where releases lie: files by their keys, whole or in ranges.

A key is a relative path of plain letters, such as "grants/index.json".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

from primis.errors import HostError

AT_ONCE = 16
"""Requests to a host at the same time."""

CONNECT_SECONDS, READ_SECONDS = 10, 30
"""A host that does not answer, or sends nothing more, for so long is tried again."""

TRIES = 5
LONGEST_PAUSE = 8
"""Seconds between two tries, at most."""

MOST_FILES = 1 << 21
"""Of a folder that are listed."""

MOST_AHEAD = 1 << 28
"""Bytes that are fetched ahead, unless a single file has more."""

T = TypeVar("T")
U = TypeVar("U")


class Range(NamedTuple):
    """Bytes of a file, from `start` up to and without `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """In bytes."""
        return self.end - self.start


class Found(NamedTuple):
    """A file as it was read. tag: of this very state, for `Store.replace`."""

    data: bytes
    tag: str


class Store(Protocol):
    """Files by their keys. Methods raise StoreError: NotThere where there is no such file,
    HostError where the host is at fault and the next file would fail as well.

    place: for people. lists: whoever may read may list. tell: is told what people should hear.
    """

    place: str
    lists: bool
    tell: Callable[[str], None]

    def get(self, key: str, most: int) -> Found:
        """A file of at most so many bytes."""

    def get_ranges(self, key: str, ranges: Sequence[Range], size: int) -> list[bytes]:
        """Parts of a file of `size` bytes, each of its full length."""

    def put(self, key: str, data: bytes) -> None:
        """A file that is there whole or not at all, in place of another."""

    def put_new(self, key: str, data: bytes) -> None:
        """The same where there is none. Raises Changed where there is."""

    def replace(self, key: str, data: bytes, tag: str) -> None:
        """The same in place of the state of this tag. Raises Changed where another is there."""

    def list(self, folder: str, most: int = MOST_FILES) -> dict[str, int]:
        """Names of the files right below a folder, and their bytes. Raises HostError where the host
        lists nothing, or more than anyone would put there."""

    def delete(self, key: str) -> None:
        """Remove a file, where there is one."""


def at_once(call: Callable[[T], U], items: Sequence[T], most: int = AT_ONCE) -> list[U]:
    """What a call gives for each, several at the same time: waiting for a host takes longer than
    its work."""
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(most, len(items))) as threads:
        return list(threads.map(call, items))


def ahead(
    call: Callable[[T], U], items: Iterable[T], size: Callable[[T], int] = lambda item: 0
) -> Iterator[Future[U]]:
    """What a call gives for each, in order, while the next ones are being asked for. What it raises
    is raised by `result()`. size: bytes of an item, to hold few of them at a time."""
    threads = ThreadPoolExecutor(AT_ONCE)
    asked: deque[tuple[Future[U], int]] = deque()
    held = 0
    try:
        for item in items:
            held += size(item)
            asked.append((threads.submit(call, item), size(item)))
            while len(asked) > 2 * AT_ONCE or (held > MOST_AHEAD and len(asked) > 1):
                one, freed = asked.popleft()
                held -= freed
                yield one
        while asked:
            yield asked.popleft()[0]
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    threads.shutdown(wait=False)


def require_length(data: bytes, wanted: Range, what: str) -> bytes:
    """Raise HostError where a range came short, or too long."""
    if len(data) != wanted.length:
        raise HostError(
            what,
            f"{len(data)} bytes came for bytes {wanted.start} to {wanted.end - 1}, "
            f"expected {wanted.length}",
        )
    return data

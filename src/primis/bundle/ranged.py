"""Bytes of a bundle that are fetched when they are first read, in as few requests as that goes.

Nothing here verifies them: a bundle that is not read whole has no digest to go by. Its seals do
instead: each sealed part authenticates the head and the profile, and an index record holds a digest
of its values (docs/format.md, section 2).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from primis.errors import BadBundle

SLACK = 4096
"""Bytes that are fetched though nobody asked for them, rather than by a request more."""

MOST_SPANS = 64
"""Of one request for parts; beyond them all that lies between is fetched too."""


class Span(NamedTuple):
    """Bytes from `start` up to and without `end`."""

    start: int
    end: int


class Bytes(Protocol):
    """What bytes and what is fetched have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> bytes: ...


Fetch = Callable[[Sequence[Span]], Sequence[bytes]]


class RangedBytes:
    """A file of `size` bytes. fetch: gets parts of it. In another process only what was fetched
    before can be read."""

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size, self._fetch = size, fetch
        self._chunks: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return f"RangedBytes({sum(len(data) for _, data in self._chunks)} of {self._size})"

    def __reduce__(self) -> tuple[object, ...]:
        return _fetched, (self._size, self._chunks)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: slice) -> bytes:
        start, end, _ = index.indices(self._size)
        if end <= start:
            return b""
        self.want([Span(start, end)])
        whole = bytearray(end - start)
        for at, data in self._chunks:
            low, high = max(at, start), min(at + len(data), end)
            if low < high:
                whole[low - start : high - start] = data[low - at : high - at]
        return bytes(whole)

    def want(self, spans: Iterable[Span], slack: int = SLACK, most: int = MOST_SPANS) -> None:
        """Fetch what is missing of these, all at once. slack, most: as of SLACK, MOST_SPANS."""
        gaps = (gap for span in spans for gap in self._gaps(span))
        missing = _merged(gaps, slack, most)
        if missing:
            for span, data in zip(missing, self._fetch(missing), strict=True):
                insort(self._chunks, (span.start, data))

    def part(self, start: int, length: int) -> Part:
        """A part, which is not fetched yet."""
        return Part(self, start, length)

    def _gaps(self, span: Span) -> Iterable[Span]:
        at = span.start
        for start, data in self._chunks:
            if start >= span.end:
                break
            if start > at:
                yield Span(at, start)
            at = max(at, start + len(data))
        if at < span.end:
            yield Span(at, span.end)


@dataclass(frozen=True)
class Part:
    """A section of a bundle that is fetched when it is read."""

    _file: RangedBytes
    _start: int
    _length: int

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: slice) -> bytes:
        start, end, _ = index.indices(self._length)
        return self._file[self._start + start : self._start + end]


def _merged(spans: Iterable[Span], slack: int, most: int) -> list[Span]:
    """In order, and those that lie near each other as one."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start - merged[-1].end <= slack:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    if len(merged) > most:
        return [Span(merged[0].start, merged[-1].end)]
    return merged


def _fetched(size: int, chunks: list[tuple[int, bytes]]) -> RangedBytes:
    file = RangedBytes(size, _refuse)
    file._chunks = chunks
    return file


def _refuse(spans: Sequence[Span]) -> Sequence[bytes]:
    raise BadBundle(f"bytes {spans[0].start} to {spans[0].end - 1} of a bundle were not fetched")

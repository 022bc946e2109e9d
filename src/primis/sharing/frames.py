"""The frames of an image, or groups of them, as many at once as there are threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from primis.codec import Done, silent, within

T = TypeVar("T")
Frame = TypeVar("Frame")


def steps(items: Collection[T], done: Done) -> Iterator[tuple[Done, T]]:
    """Each of some items, and who is told how far the work on it is."""
    for number, item in enumerate(items):
        yield within(done, number / len(items), (number + 1) / len(items)), item


def each_frame(
    call: Callable[[int, Frame, Done], T],
    frames: Iterable[Frame],
    count: int,
    *,
    at_once: int = 1,
    done: Done = silent,
) -> Iterator[T]:
    """call(number, frame, done) of each of `count` frames; no more than `at_once` and the next are
    held. done: is told how far all of them are."""
    if min(at_once, count) < 2:
        for number, frame in enumerate(frames):
            yield call(number, frame, within(done, number / count, (number + 1) / count))
        return
    pool = ThreadPoolExecutor(at_once)
    at_work: deque[Future[T]] = deque()
    ready = 0

    def first() -> T:
        nonlocal ready
        result, ready = at_work.popleft().result(), ready + 1
        done(ready / count)
        return result

    try:
        for number, frame in enumerate(frames):
            at_work.append(pool.submit(call, number, frame, silent))
            if len(at_work) > at_once:
                yield first()
        while at_work:
            yield first()
    finally:
        pool.shutdown(cancel_futures=True)

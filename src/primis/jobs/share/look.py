"""A pass over the files, before anything is encoded: what each needs decides the budgets of the
release, and what cannot be read is known. A slice that cannot is taken out of its series."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from threading import Event, Lock
from typing import NamedTuple, TypeVar

from primis.bundle.settings import Settings
from primis.datasets.files import Source
from primis.errors import InputError, Rounded
from primis.imaging.apart import WORKERS, end
from primis.imaging.image import BURNED_IN, Image
from primis.jobs.journal import Journal, Record
from primis.jobs.result import unexpected
from primis.jobs.share.source import Reading, joined, key, read_slices, read_source, stamp_of
from primis.release.budgets import Need

_SOON = 0.05
"""Seconds."""

_AHEAD = 8
"""Files for each thread that are asked for at once."""

T = TypeVar("T")
Needs = dict[Source, Need | InputError]
"""What each image needs, or why it cannot be shared."""

_one_series = Lock()
"""Only one is held in memory at a time."""


@dataclass(frozen=True)
class Options:
    """with_original: seal the files too. max_pixels: None for the reader's default. measure: seal
    what each image loses. psnr: that S_x is to be chosen for, None to take it from the settings.
    exact: refuse files whose samples are rounded when they are read. lossless: seal every sample as
    it is. minimal: of headers only what is needed to show the image. frames_alone: code each frame
    by itself, so that a grant of some opens no others.

    The last six are no settings: those are public.
    """

    settings: Settings
    with_original: bool
    max_pixels: int | None
    measure: bool = True
    psnr: float | None = None
    exact: bool = False
    lossless: bool = False
    minimal: bool = False
    frames_alone: bool = False

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading(self.max_pixels, self.with_original, self.minimal)


class Identifying(NamedTuple):
    """What of the files may identify patients. files: how many, of so many that can be shared, have
    elements in their headers that may; names: of these, and how many files have each, as the first
    file that has them has them; burned_in: how many files say that it is among the pixels."""

    files: int
    of: int
    names: dict[str, int]
    burned_in: int

    @classmethod
    def of_all(cls, needs: Needs) -> Identifying:
        """Of what a pass found."""
        sound = [need.identifying for need in needs.values() if isinstance(need, Need)]
        names = Counter(chain.from_iterable(sound))
        burned_in = names.pop(BURNED_IN, 0)
        return cls(sum(bool({*x} - {BURNED_IN}) for x in sound), len(sound), dict(names), burned_in)


def look(
    sources: Sequence[Source],
    journal: Journal,
    options: Options,
    on_look: Callable[[int, int], None] = lambda done, total: None,
) -> Needs:
    """What each image needs, or why it cannot be shared."""
    before = {key(r): Need.again(*r["need"]) for r in journal.records() if "need" in r}
    stopped = Event()

    def need(source: Source) -> tuple[Record, Needs, bool]:
        """Its stamp, what it needs, and whether an earlier run knew."""
        stamp = stamp_of(source)
        known = before.get(key(stamp | {"name": source.name}))
        if known is not None:
            return stamp, {source: known}, True
        return stamp, _needs(source, options, stopped), False

    needs: Needs = {}
    with closing(_in_threads(need, sources, stopped)) as looked:
        for number, (source, (stamp, found, known)) in enumerate(zip(sources, looked, strict=True)):
            if not known:
                _note(journal, source, stamp, found)
            needs |= found
            on_look(number + 1, len(sources))
    return needs


def _note(journal: Journal, source: Source, stamp: Record, found: Needs) -> None:
    """What was found, for the next run. The whole of a series that was taken apart is done with."""
    for each, need in found.items():
        if isinstance(need, Need):
            own = stamp if each == source else stamp_of(each)
            journal.note(**own, name=each.name, need=need.record)
    if source not in found:
        journal.note(**stamp, name=source.name, failed=True)


def _needs(source: Source, options: Options, stopped: Event) -> Needs:
    """Of an image; of a series and, each for itself, of its files that cannot be read."""
    if not source.is_series:
        return {source: _checked(source, lambda: read_source(source, options.reading), options)}
    with _one_series:
        try:
            sound = read_slices(source, options.reading, stopped.is_set)
        except InputError as error:
            return {source: error}
        bad, rest = Needs(sound.bad), sound.source
        if not sound.files or stopped.is_set():
            return bad
        if len(sound.files) == 1:
            return bad | _needs(Source.of(rest.files[0]), options, stopped)
        return bad | {rest: _checked(rest, lambda: joined(rest, sound.files), options)}


def _checked(
    source: Source, read_it: Callable[[], tuple[Image, bytes]], options: Options
) -> Need | InputError:
    try:
        for name in (source.name, *(name for _, name in source.files)):
            if not is_unicode(name):
                return InputError(f"{source} has a name that is not UTF-8: rename it")
        image, data = read_it()
        if options.exact and image.rounding:
            return Rounded(source.place, image.rounding)
        return Need.of(image, source.name, len(data) if options.with_original else 0)
    except InputError as error:
        return error
    except Exception as error:  # whatever it is, it must not stop the others
        return InputError(f"{source} {unexpected(error, 'read')}")


def is_unicode(name: str) -> bool:
    """Whether a name can be sealed: one of other bytes comes from the system as half surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_threads(
    call: Callable[[Source], T], sources: Sequence[Source], stopped: Event
) -> Generator[T, None, None]:
    """Of each, in order, as many at once as there are processes that decode. stopped: is set where
    that is interrupted."""
    threads = ThreadPoolExecutor(WORKERS)
    asked: deque[Future[T]] = deque()
    try:
        for source in sources:
            asked.append(threads.submit(call, source))
            if len(asked) > _AHEAD * WORKERS:
                yield asked[0].result()
                asked.popleft()
        while asked:
            yield asked[0].result()
            asked.popleft()
    except BaseException:  # an interruption ends the decoders, so no thread waits for one
        stopped.set()
        threads.shutdown(wait=False, cancel_futures=True)
        running = [one for one in asked if not one.cancelled()]
        end()
        while wait(running, _SOON).not_done:  # one that was about to read starts another decoder
            end()
        end()
        raise
    threads.shutdown()

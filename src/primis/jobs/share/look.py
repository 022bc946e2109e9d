"""A pass over the files, before anything is encoded: what each needs decides the budgets of the
release, and what cannot be read is known."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from primis.bundle.settings import Settings
from primis.errors import InputError, Rounded
from primis.imaging.apart import WORKERS, end
from primis.imaging.files import read
from primis.imaging.image import BURNED_IN
from primis.jobs.journal import Journal, Record
from primis.jobs.result import unexpected
from primis.release.budgets import Need

_SOON = 0.05
"""Seconds."""

_AHEAD = 8
"""Files for each thread that are asked for at once."""

T = TypeVar("T")
File = tuple[Path, str]
"""Where a file is, and what it is shared as."""

Needs = dict[File, Need | InputError]
"""What each file needs, or why it cannot be shared."""


@dataclass(frozen=True)
class Options:
    """with_original: seal the files too. max_pixels: None for the reader's default. measure: seal
    what each image loses. psnr: that S_x is to be chosen for, None to take it from the settings.
    exact: refuse files whose samples are rounded when they are read. lossless: seal every sample as
    it is.

    The last four are no settings: those are public.
    """

    settings: Settings
    with_original: bool
    max_pixels: int | None
    measure: bool = True
    psnr: float | None = None
    exact: bool = False
    lossless: bool = False


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
    files: Sequence[File],
    journal: Journal,
    options: Options,
    on_look: Callable[[int, int], None] = lambda done, total: None,
) -> Needs:
    """What each file needs, or why it cannot be shared."""
    before = {key(r): Need.again(*r["need"]) for r in journal.records() if "need" in r}

    def need(file: Path, name: str) -> tuple[Record, Need | InputError, bool]:
        """Its stamp, what it needs, and whether an earlier run knew."""
        stamp = stamp_of(file)
        known = before.get(key(stamp | {"name": name}))
        if known is not None:
            return stamp, known, True
        return stamp, _need(file, name, options), False

    needs: Needs = {}
    with closing(_in_threads(need, files)) as looked:
        for (file, name), (stamp, found, known) in zip(files, looked, strict=True):
            if isinstance(found, Need) and not known:
                journal.note(**stamp, name=name, need=found.record)
            needs[file, name] = found
            on_look(len(needs), len(files))
    return needs


def _need(file: Path, name: str, options: Options) -> Need | InputError:
    try:
        if not is_unicode(name):
            return InputError(f'image "{file}" has a name that is not UTF-8: rename it')
        image, source = read(file, max_pixels=options.max_pixels)
        if options.exact and image.rounding:
            return Rounded(file, image.rounding)
        return Need.of(image, name, len(source) if options.with_original else 0)
    except InputError as error:
        return error
    except Exception as error:  # whatever it is, it must not stop the others
        return InputError(f'image "{file}" {unexpected(error, "read")}')


def is_unicode(name: str) -> bool:
    """Whether a name can be sealed: one of other bytes comes from the system as half surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_threads(call: Callable[..., T], files: Sequence[File]) -> Generator[T, None, None]:
    """Of each file, in order, as many at once as there are processes that decode."""
    threads = ThreadPoolExecutor(WORKERS)
    asked: deque[Future[T]] = deque()
    try:
        for file in files:
            asked.append(threads.submit(call, *file))
            if len(asked) > _AHEAD * WORKERS:
                yield asked[0].result()
                asked.popleft()
        while asked:
            yield asked[0].result()
            asked.popleft()
    except BaseException:  # an interruption ends the decoders, so no thread waits for one
        threads.shutdown(wait=False, cancel_futures=True)
        running = [one for one in asked if not one.cancelled()]
        end()
        while wait(running, _SOON).not_done:  # one that was about to read starts another decoder
            end()
        end()
        raise
    threads.shutdown()


def stamp_of(file: Path) -> Record:
    """Tells whether a file is still as it was."""
    try:
        stat = file.stat()
        return {"file": str(file.resolve()), "size": stat.st_size, "mtime": stat.st_mtime_ns}
    except OSError:
        return {"file": str(file), "size": -1, "mtime": -1}  # reading it says why


def key(record: Record) -> bytes:
    """Tells files apart, and states of a file."""
    told = "\n".join(str(record[name]) for name in ("file", "size", "mtime", "name"))
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()

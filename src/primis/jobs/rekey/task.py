"""Some bundles to seal anew, or to read back: picklable tasks, and workers that depend on nothing
else. A task holds the secrets of its images, never those of the release."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from primis.atomic import sync_folder, write_new
from primis.bundle.container import Profiles, read_bundle
from primis.bundle.manifest import Entry
from primis.codec import Done, silent
from primis.errors import BadBundle, PrimisError, WorkerError
from primis.jobs.executors.executor import Executor
from primis.jobs.result import lost, unexpected
from primis.keys.seal import TierSecrets
from primis.release.reader import bundle_key, read_listed
from primis.sharing.opened import OpenedBundle
from primis.sharing.reseal import reseal
from primis.stores.local import LocalStore
from primis.stores.store import at_once

_MOST, _MOST_BYTES = 64, 4 << 20
"""Bundles of a task, and their bytes: some tens of milliseconds of work."""

_TASKS = 8
"""For each worker, where there are few bundles: so that none is idle for long."""

_WRITTEN = 4
"""Files that are written at the same time: a disk answers a while after it was asked."""

T = TypeVar("T")


def shared_out(executor: Executor, bundles: int, size: int) -> tuple[int, int]:
    """How many bundles go together, and about how many tasks that makes. size: bytes of all."""
    full = max(bundles // _MOST, size // _MOST_BYTES)
    each = max(1, min(_MOST, bundles // (_TASKS * executor.count(full))))
    return each, max(full, -(-bundles // each))


def in_tasks(things: Iterable[T], each: int, size: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """So many that are worked on together, or fewer where they are large."""
    held, held_bytes = list[T](), 0
    for thing in things:
        held.append(thing)
        held_bytes += size(thing)
        if len(held) >= each or held_bytes >= _MOST_BYTES:
            yield tuple(held)
            held, held_bytes = [], 0
    if held:
        yield tuple(held)


@dataclass(frozen=True, slots=True)
class Anew:
    """A bundle, and what it becomes. entry: as it is listed; old, new: its secrets; after: its new
    id. data: its bytes, None where the worker reads them."""

    entry: Entry
    old: TierSecrets = field(repr=False)
    after: str
    new: TierSecrets = field(repr=False)
    data: bytes | None = field(default=None, repr=False)


SealTask = tuple[Anew, ...]


@dataclass(frozen=True)
class Sealed:
    """What came of a task: the first of its bundles, up to one that cannot be sealed, and why.
    data: their bytes, until they are written."""

    entries: Sequence[Entry] = ()
    data: Sequence[bytes] = field(default=(), repr=False)
    error: PrimisError | None = None

    def written(self, out: LocalStore) -> Sealed:
        """Written into a folder."""
        if not self.data:
            return self
        try:
            made = list(zip(self.entries, self.data, strict=True))
            at_once(partial(_write, out), made, _WRITTEN)
            sync_folder(out.path(bundle_key(self.entries[0].id)).parent)
        except PrimisError as error:
            return Sealed(error=error)
        return replace(self, data=())


def _write(out: LocalStore, made: tuple[Entry, bytes]) -> None:
    entry, data = made
    write_new(out.path(bundle_key(entry.id)), data, sync=False)


@dataclass(frozen=True)
class SealWorker:
    """A Worker (`executors`). source: where bundles are read that come without their bytes, None
    where all bring them; out: the folder of the new state. On other machines neither is at hand:
    bytes come and go."""

    profiles: Profiles = field(repr=False)
    source: LocalStore | None
    out: LocalStore

    def __call__(self, task: SealTask, done: Done = silent) -> Sealed:
        """The bundles sealed anew, and written."""
        return self._seal(task).written(self.out)

    def lost(self, task: SealTask, tries: int) -> Sealed:
        """See Worker."""
        return Sealed(error=_lost([bundle.entry for bundle in task], tries))

    def size(self, task: SealTask) -> int:
        """See Worker."""
        return sum(bundle.entry.size for bundle in task)

    def sent(self, task: SealTask) -> SealTask:
        """With the bytes of its bundles. Raises BadBundle."""
        return tuple(replace(bundle, data=self._read(bundle)) for bundle in task)

    def elsewhere(self, task: SealTask, machine: str) -> Sealed:
        """See Worker. Not written yet."""
        return self._seal(task)

    def _seal(self, task: SealTask) -> Sealed:
        made = list[tuple[Entry, bytes]]()
        error: PrimisError | None = None
        for bundle in task:
            try:
                data = self._seal_one(bundle)
            except PrimisError as why:
                error = why
            except Exception as why:
                said = unexpected(why, "sealed anew")
                error = BadBundle(f'bundle "{bundle.entry.id}" {said}')
            if error is not None:
                break
            made.append((Entry.of(bundle.after, data), data))
        return Sealed([entry for entry, _ in made], [data for _, data in made], error)

    def _seal_one(self, bundle: Anew) -> bytes:
        data = self._read(bundle)
        opened = OpenedBundle.read(data, bundle.old, self.profiles, bundle.entry.id)
        return reseal(opened, bundle.new, bundle.after)

    def _read(self, bundle: Anew) -> bytes:
        if bundle.data is not None:
            return bundle.data
        assert self.source is not None
        return read_listed(self.source, bundle.entry)


ReadTask = tuple[Entry, ...]
Wrong = dict[str, PrimisError]
"""Why bundles are not as they are listed, by id; of those that are it says nothing."""


@dataclass(frozen=True)
class ReadWorker:
    """A Worker for bundles of a folder on this machine, each read to its last byte."""

    profiles: Profiles = field(repr=False)
    source: LocalStore

    def __call__(self, task: ReadTask, done: Done = silent) -> Wrong:
        """Compare them with what is listed."""
        wrong: Wrong = {}
        for entry in task:
            try:
                read_bundle(read_listed(self.source, entry), entry.id, self.profiles)
            except PrimisError as error:
                wrong[entry.id] = error
            except Exception as error:
                wrong[entry.id] = BadBundle(f'bundle "{entry.id}" {unexpected(error, "read")}')
        return wrong

    def lost(self, task: ReadTask, tries: int) -> Wrong:
        """See Worker."""
        error = _lost(task, tries)
        return {entry.id: error for entry in task}

    def size(self, task: ReadTask) -> int:
        """See Worker."""
        return sum(entry.size for entry in task)

    def sent(self, task: ReadTask) -> ReadTask:
        """See Worker."""
        return task

    def elsewhere(self, task: ReadTask, machine: str) -> Wrong:
        """See Worker."""
        return self(task)


def _lost(entries: Sequence[Entry], tries: int) -> WorkerError:
    of = f'bundle "{entries[0].id}"'
    if len(entries) > 1:
        of = f'one of {len(entries)} bundles, "{entries[0].id}" among them,'
    return WorkerError(f"{of} {lost(tries)}")

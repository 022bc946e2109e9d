"""What was sealed, read back from the disk by the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from primis.bundle.container import Profiles
from primis.bundle.manifest import Entry
from primis.errors import PrimisError
from primis.jobs.executors.executor import Executor
from primis.jobs.rekey.task import ReadTask, ReadWorker, in_tasks, shared_out
from primis.metrics.progress import Progress
from primis.stores.local import LocalStore


@dataclass(frozen=True)
class Reading:
    """Compares bundles in a folder with what is listed of them."""

    folder: Path
    profiles: Profiles
    executor: Executor
    progress: Progress

    def wrong(
        self, what: str, entries: Iterable[Entry], images: int, size: int
    ) -> Iterator[tuple[str, PrimisError]]:
        """Ids of those that differ, and why, as they are read. what: is done, for people. size:
        about the bytes of all."""
        each, tasks = shared_out(self.executor, images, size)
        worker = ReadWorker(self.profiles, LocalStore(self.folder))
        work = self._tasks(what, entries, images, each)
        with closing(self.executor.here().run(worker, work, tasks)) as outcomes:
            for _, found in outcomes:
                yield from found.items()

    def _tasks(
        self, what: str, entries: Iterable[Entry], images: int, each: int
    ) -> Iterator[tuple[int, ReadTask]]:
        done = 0
        for number, part in enumerate(in_tasks(entries, each, lambda entry: entry.size)):
            self.progress(what, done, images)
            yield number, part
            done += len(part)

"""In this process, one task after the other."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from primis.codec import Done, silent
from primis.jobs.executors.executor import Outcome, Task, Worker


class Serial:
    """The simplest Executor; the network uses all cores."""

    def count(self, total: int) -> int:
        """See Executor."""
        return 1

    def here(self) -> Serial:
        """See Executor."""
        return self

    def run(
        self,
        worker: Worker[Task, Outcome],
        tasks: Iterator[tuple[int, Task]],
        total: int,
        done: Done = silent,
    ) -> Generator[tuple[int, Outcome], None, None]:
        """See Executor."""
        for number, task in tasks:
            yield number, worker(task, done)

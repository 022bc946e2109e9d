"""The seam between a coordinator and whatever works on its tasks."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol, TypeVar

from primis.codec import Done, silent

TRIES = 3
"""A task whose worker dies is tried again; after so many deaths it is reported."""

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
Outcome_co = TypeVar("Outcome_co", covariant=True)


class Worker(Protocol[Task, Outcome_co]):
    """Works on tasks of one kind, one after the other; it never raises. A copy that is unpickled
    uses a single thread."""

    def __call__(self, task: Task, done: Done = silent) -> Outcome_co:
        """done: is told how far it is."""

    def lost(self, task: Task, tries: int) -> Outcome_co:
        """What to report of a task whose worker died so many times."""

    def size(self, task: Task) -> int:
        """About the bytes that are read for a task."""

    def sent(self, task: Task) -> Task:
        """The task as another machine understands it."""

    def elsewhere(self, task: Task, machine: str) -> Outcome_co:
        """The same as a call, on another machine, whose name is told where it matters."""


class Executor(Protocol):
    """Runs a worker on tasks."""

    def count(self, total: int) -> int:
        """How many of so many tasks are worked on at once."""

    def here(self) -> Executor:
        """What runs tasks that need this machine's disk: itself, or another."""

    def run(
        self,
        worker: Worker[Task, Outcome],
        tasks: Iterator[tuple[int, Task]],
        total: int,
        done: Done = silent,
    ) -> Generator[tuple[int, Outcome], None, None]:
        """(number, outcome) of each numbered task, as they complete.

        Tasks are taken as they are needed, by the thread that iterates, and few are held at a time.
        total: how many there are. done: is told how far the task at work is, where only one is.
        Closing the iterator ends all work at once.

        Raises WorkerError where nothing can be worked on at all.
        """

"""Worker processes on this machine, each with a pipe of its own.

    coordinator                                                  worker: program.py
    the worker, then a task after the other; pickled  ------------------------->  worker(task)
    <---------------------------------------------  an outcome for each; pickled

What a worker does when it dies, whatever it does, so concerns one task: there is no queue and no
lock that processes share. (Pools that have some, such as pebble's or that of the standard library,
stand still or end where a worker is killed that waits for a task or sends an outcome.) Nor is the
caller's main module imported again, so a script needs no guard.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple

from primis.codec import Done, cores, silent
from primis.errors import WorkerError
from primis.jobs.executors.executor import TRIES, Outcome, Task, Worker
from primis.jobs.executors.serial import Serial

_PROGRAM = "primis.jobs.executors.program"
_WORTH = 6
"""Images for each worker that are worth starting one, where nobody said how many to start: it takes
as long as two or three ordinary images."""

_IN_FLIGHT = 2
"""Tasks for each worker: the next is there when one is done."""

_TICK = 0.5
"""Seconds between two looks for Ctrl-C, on systems where waiting holds it up."""

_ENDS_BY_ITSELF = 20
"""Workers that die before any task is done, after which no more are started."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Processes:
    """An Executor.

    workers: how many processes; None for as many as cores, fewer where there is little to do.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def count(self, total: int) -> int:
        """How many to start for so many tasks; 1 for this process alone. See Executor."""
        if self._workers is not None:
            return max(1, min(self._workers, total))
        if os.environ.get("PRIMIS_DEBUG"):  # an error is to be seen where it arises
            return 1
        return max(1, min(cores(), total // _WORTH))

    def here(self) -> Processes:
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
        count = self.count(total)
        if count == 1:
            yield from Serial().run(worker, tasks, total, done)
            return
        pool: _Pool[Task, Outcome] = _Pool(worker, count)
        try:
            yield from pool.run(tasks)
        finally:
            pool.end()


class _Died(Exception):
    """A worker ended before it answered."""


class _Reply(NamedTuple):
    outcome: Any


class _Pool(Generic[Task, Outcome]):
    """Threads that each serve one worker process."""

    def __init__(self, worker: Worker[Task, Outcome], count: int) -> None:
        self._worker, self._count = worker, count
        self._todo: SimpleQueue[tuple[int, Task] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, _Reply | None]] = SimpleQueue()
        recipe = pickle.dumps(worker, pickle.HIGHEST_PROTOCOL)
        self._processes = [_Process(recipe) for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(process,), daemon=True)
            for process in self._processes
        ]
        for thread in self._threads:
            thread.start()

    def run(self, tasks: Iterator[tuple[int, Task]]) -> Generator[tuple[int, Outcome], None, None]:
        """The outcome of each. A task whose worker died goes to another when all others were given
        out: by then there may be more memory."""
        at_work: dict[int, Task] = {}
        again: deque[tuple[int, Task]] = deque()
        deaths: Counter[int] = Counter()
        any_done = False
        while True:
            while len(at_work) < _IN_FLIGHT * self._count:
                given = next(tasks, None) or (again.popleft() if again else None)
                if given is None:
                    break
                at_work[given[0]] = given[1]
                self._todo.put(given)
            if not at_work:
                return
            number, reply = self._next()
            task = at_work.pop(number)
            if reply is not None:
                any_done = True
                yield number, reply.outcome
                continue
            deaths[number] += 1
            if not any_done and deaths.total() >= _ENDS_BY_ITSELF:
                raise WorkerError(
                    f"{deaths.total()} worker processes ended by themselves and none did its work: "
                    "expected memory and rights to start them"
                )
            if deaths[number] < TRIES:
                again.append((number, task))
            else:
                yield number, self._worker.lost(task, TRIES)

    def end(self) -> None:
        """End all processes at once."""
        for process in self._processes:
            process.end()
        for _ in self._threads:
            self._todo.put(None)

    def _next(self) -> tuple[int, _Reply | None]:
        while True:
            with contextlib.suppress(Empty):
                return self._done.get(timeout=_TICK)

    def _serve(self, process: _Process) -> None:
        while (given := self._todo.get()) is not None:
            number, task = given
            try:
                self._done.put((number, _Reply(process.ask(task))))
            except _Died:
                self._done.put((number, None))


class _Process:
    """A process that is started when it is asked, and again after it died."""

    def __init__(self, recipe: bytes) -> None:
        self._recipe = recipe
        self._lock, self._ended = threading.Lock(), False
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: Any) -> Any:
        """The outcome of a task. Raises _Died."""
        try:
            process, is_new = self._running()
            assert process.stdin and process.stdout
            if is_new:
                process.stdin.write(self._recipe)
            pickle.dump(task, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except Exception:  # whatever stands there where a process died while it wrote
            self._stop()
            raise _Died from None

    def end(self) -> None:
        """End it at once, for good."""
        with self._lock:
            self._ended = True
        self._stop()

    def _running(self) -> tuple[subprocess.Popen[bytes], bool]:
        """The process, and whether it was started just now."""
        with self._lock:
            if self._ended:
                raise _Died
            is_new = self._process is None
            self._process = self._process or _start()
            return self._process, is_new

    def _stop(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what it was to be sent
                pipe.close()  # type: ignore[union-attr]


def _start() -> subprocess.Popen[bytes]:
    """In a group of its own: Ctrl-C is for the coordinator, which ends the group, and so the
    decoder that a worker may have started."""
    environment = {name: x for name, x in os.environ.items() if name != "PRIMIS_PASSPHRASE"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("PRIMIS_DEBUG") else subprocess.DEVNULL,
        env=environment | _ONE_THREAD,
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()

"""What an audit runs, and in which order, here or in many processes (`jobs/executors`)."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from primis.attacks.controls import control_trainers, controls
from primis.attacks.harness import Budget, Harness, View
from primis.attacks.suite import Job, Outcome, cryptographic_jobs, jobs, keep, kept, trainers
from primis.audit.schedule import Schedule, cost_of, decide
from primis.bundle.header import Header
from primis.codec import Codec, Done, OnnxEngine
from primis.codec import silent as unheard
from primis.errors import WorkerError
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.jobs.result import lost
from primis.metrics.part import Part, Parts
from primis.metrics.progress import Progress, silent
from primis.network.checkpoint import Checkpoint


class Made(NamedTuple):
    """seconds: that it took."""

    outcome: Outcome
    seconds: float


@dataclass(eq=False)
class Attackers:
    """A Worker (`executors`): a task is the name of a control or an attack, and what comes of it is
    what it made, or the error that ended it. enough: whether there are images to learn from."""

    harness: Harness
    again: Sequence[View]
    headers: Sequence[Header]
    enough: bool

    @cached_property
    def controls(self) -> list[Job]:
        """In order."""
        harness = self.harness
        budget = harness.budget if self.enough else None
        return controls(harness.codec, harness.settings, budget, harness.report)

    @cached_property
    def attacks(self) -> list[Job]:
        """In order."""
        if not self.enough:
            return list(cryptographic_jobs(self.harness, self.headers))
        return list(jobs(self.harness, self.again, self.headers))

    @cached_property
    def _by_name(self) -> dict[str, Job]:
        return {job.name: job for job in (*self.controls, *self.attacks)}

    def named(self, *, trains: bool) -> list[str]:
        """Those that train networks, or those that do not."""
        return [name for name, job in self._by_name.items() if job.trains == trains]

    def __reduce__(self) -> tuple[Callable[..., Attackers], tuple[Any, ...]]:
        harness = self.harness
        cases = (harness.owned, harness.judged)
        known = (harness.settings, *cases, harness.budget, harness.seed, harness.likely)
        rest = (self.again, self.headers, self.enough)
        return _single_threaded, (harness.codec.checkpoint, known, *rest)

    def __call__(self, task: str, done: Done = unheard) -> Made | Exception:
        """See Worker."""
        start = time.monotonic()
        self.harness.report(task, 0, 1)
        try:
            return Made(self._by_name[task].run(), time.monotonic() - start)
        except Exception as error:
            return _sendable(error, task)

    def lost(self, task: str, tries: int) -> Made | Exception:
        """See Worker."""
        return WorkerError(f'"{task}" {lost(tries)}')

    def size(self, task: str) -> int:
        """See Worker."""
        return 0

    def sent(self, task: str) -> str:
        """See Worker."""
        return task

    def elsewhere(self, task: str, machine: str) -> Made | Exception:
        """See Worker."""
        return self(task)


def _single_threaded(checkpoint: Checkpoint, known: tuple[Any, ...], *rest: Any) -> Attackers:
    codec = Codec(checkpoint, OnnxEngine(checkpoint, threads=1))
    return Attackers(Harness(codec, *known), *rest)


def _sendable(error: Exception, task: str) -> Exception:
    """The error as another process can read it; some of other libraries cannot be."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(f'"{task}" failed with {type(error).__name__}')
    return error


@dataclass(frozen=True, eq=False)
class Ran:
    """budget: with the steps that were decided; schedule: None where steps were given."""

    controls: list[Outcome]
    attacks: list[Outcome]
    budget: Budget
    schedule: Schedule | None


@dataclass(eq=False)
class Course:
    """start: of the audit, in monotonic seconds; minutes: that it may take, None where the budget
    has the steps."""

    attackers: Attackers
    executor: Executor
    start: float
    minutes: float | None
    _judging: float = 0.0

    def run(self, parts: Parts, progress: Progress) -> Ran:
        """Every control and attack: first those that take no steps, then the others."""
        first = self.attackers
        if not first.enough:  # nothing that is worth a process
            self.executor = Serial()
        done = self._outcomes(first, parts, progress, trains=False)
        schedule = self._schedule(parts, progress) if first.enough and self.minutes else None
        budget = first.harness.budget
        if schedule:
            budget = replace(budget, steps=schedule.steps)
        then = replace(first, harness=replace(first.harness, budget=budget))
        under = parts.under(f"{budget.steps} steps")
        done |= self._outcomes(then, under, progress, trains=True)
        named = [[done[job.name] for job in part] for part in (first.controls, first.attacks)]
        return Ran(named[0], named[1], budget, schedule)

    def _outcomes(
        self, attackers: Attackers, parts: Parts, progress: Progress, *, trains: bool
    ) -> dict[str, Outcome]:
        names = attackers.named(trains=trains)
        done = {name: outcome for name in names if (outcome := kept(parts, name)) is not None}
        left = [name for name in names if name not in done]
        together = self.executor.count(len(left)) > 1
        with closing(self.executor.run(attackers, iter(enumerate(left)), len(left))) as outcomes:
            for number, made in outcomes:
                if isinstance(made, Exception):
                    raise made
                done[left[number]] = keep(parts, left[number], made.outcome)
                if made.outcome.pictures and not trains:
                    self._judging = min(self._judging or made.seconds, made.seconds)
                if together:
                    progress("attacking", len(done), len(names))
        return done

    def _schedule(self, parts: Parts, progress: Progress) -> Schedule:
        """Decided now, or when the audit was started."""
        part = parts.get("schedule", lambda: Part(asdict(self._decide(progress))))
        return Schedule(**part.body)

    def _decide(self, progress: Progress) -> Schedule:
        assert self.minutes is not None
        harness = replace(self.attackers.harness, report=silent)
        tried = [(attack, harness) for attack in trainers(harness)]
        tried += control_trainers(harness.codec, harness.settings, harness.budget)
        workers = self.executor.count(len(tried))
        costs = []
        with _as_a_worker(workers):
            for number, (attack, on) in enumerate(tried):
                progress("measuring how long a step takes", number, len(tried))
                costs.append(cost_of(attack, on, self._judging))
        return decide(self.minutes, time.monotonic() - self.start, costs, workers)


@contextmanager
def _as_a_worker(workers: int) -> Iterator[None]:
    """With as many threads as each of so many processes has."""
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if workers > 1 else threads)
        yield
    finally:
        torch.set_num_threads(threads)

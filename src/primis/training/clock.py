"""The time that a training may take: how many steps fit in it, and what is left for the tables.

The time of a step and of a judgement is measured as the training goes, so that the budget is kept
on a machine whose speed changes. What an earlier run took, before it was stopped, counts.
"""

from __future__ import annotations

import time

_TABLES = 0.25
"""Part of the budget that is kept for the coder's tables."""

_LEAST_STEPS = 10


class Clock:
    """Counts from when it is made.

    minutes: the budget, None for none. used: seconds that earlier runs took.
    """

    def __init__(self, minutes: float | None, used: float = 0.0) -> None:
        self._budget = None if minutes is None else 60 * minutes
        self._start, self.used = time.monotonic(), used
        self._step, self._judgement = 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Taken so far, earlier runs included."""
        return self.used + time.monotonic() - self._start

    @property
    def left(self) -> float | None:
        """Seconds of the budget; None without one."""
        return None if self._budget is None else self._budget - self.seconds

    @property
    def is_measured(self) -> bool:
        """Whether the time of a step is known."""
        return self._step > 0

    def note_steps(self, seconds: float, steps: int) -> None:
        """An epoch's steps took so long."""
        self._step = seconds / max(steps, 1)

    def note_judgement(self, seconds: float) -> None:
        """Judging the network once took so long."""
        self._judgement = seconds

    def steps_left(self, done: int, epoch: int) -> int | None:
        """Steps that still fit, with a judgement after each `epoch` of them; None without a budget.

        Before anything is measured it is `epoch`.
        """
        if self._budget is None:
            return None
        if not self.is_measured:
            return epoch
        free = (1 - _TABLES) * self._budget - self.seconds
        per_step = self._step + self._judgement / epoch
        return max(int(free / per_step), _LEAST_STEPS - done, 0)

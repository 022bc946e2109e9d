"""How many steps each network is trained for, so that an audit ends when its owner wants it to.

What takes no steps runs first, so its time is known, not guessed. Then each network is tried for a
few steps on this machine and these images; what is left of the budget is divided by what one step
of all of them takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from primis.attacks.harness import (
    Attack,
    BesideAttack,
    Harness,
    ImageAttack,
    SupportAttack,
    preview_of,
)

LEAST_STEPS, MOST_STEPS = 60, 2000
"""With fewer steps networks miss the controls, so that an audit proves nothing; more teach them
nothing new."""
MINUTES = 10.0
"""How long an audit takes unless told otherwise."""

_TRIED, _FEW, _BESIDE = 7, 8, 24
_UNEVEN = 1.25
"""What several workers take, against equal parts of what one takes: the longest attack may be the
last, and each worker starts by itself."""


class Cost(NamedTuple):
    """Seconds. fixed: whatever the steps are; step: of each step."""

    fixed: float
    step: float


@dataclass(frozen=True)
class Schedule:
    """steps: of every network; minutes: the budget; expected: minutes from start to end, as they
    were expected when the steps were decided; fixed: of these, minutes whatever the steps are."""

    steps: int
    minutes: float
    expected: float
    fixed: float

    @property
    def kept(self) -> bool:
        """Whether the budget was expected to be enough."""
        return self.expected <= 1.1 * self.minutes

    @property
    def note(self) -> str:
        """Why the budget is not kept, "" where it is."""
        if self.kept:
            return ""
        return (
            f"{self.minutes:g} minutes are too few: "
            f"{self.fixed:.1f} go whatever the steps are, and networks need {LEAST_STEPS} steps "
            f"to be trusted; {self.expected:.1f} were expected"
        )


def decide(minutes: float, spent: float, costs: Iterable[Cost], workers: int = 1) -> Schedule:
    """spent: seconds since the start. workers: that share the work."""
    known = list(costs)
    share = 1.0 if workers == 1 else _UNEVEN / workers
    step = share * sum(cost.step for cost in known)
    fixed = spent + share * sum(cost.fixed for cost in known)
    wanted = (60 * minutes - fixed) / step if step else MOST_STEPS
    steps = int(min(max(wanted, LEAST_STEPS), MOST_STEPS))
    return Schedule(steps, minutes, (fixed + steps * step) / 60, fixed / 60)


def cost_of(attack: Attack, harness: Harness, judging: float = 0.0) -> Cost:
    """By trying it on a few images. judging: seconds that the judge takes besides the guesses."""
    clock: list[float] = []
    budget = replace(harness.budget, steps=_TRIED)
    own = harness.owned[:_FEW]
    world = replace(
        harness.world(attack.holds).owning(own),
        budget=budget,
        report=lambda what, done, total: clock.append(time.perf_counter()),
    )
    start = time.perf_counter()
    attack.fit(world)
    clock.append(time.perf_counter())
    trained = clock[-_TRIED - 1 :]
    paces = [after - before for before, after in pairwise(trained)]
    prepared = (trained[0] - start) * len(harness.owned) / max(len(own), 1)
    fixed = prepared + _guesses(attack, harness) * _guess_time(attack, harness) + judging
    return Cost(fixed, statistics.median(paces[2:]))


def _guesses(attack: Attack, harness: Harness) -> int:
    """How often the judge asks."""
    judged = len(harness.judged)
    if isinstance(attack, BesideAttack):
        return min(judged, _BESIDE) ** 2
    return judged * (2 if isinstance(attack, SupportAttack) else 1)


def _guess_time(attack: Attack, harness: Harness) -> float:
    world = harness.world(attack.holds)
    start = time.perf_counter()
    if isinstance(attack, BesideAttack):
        case = harness.owned[0]
        preview = preview_of(case.levels, case.threshold, world.preset)
        attack.guess_beside(world, case.view, preview)
    elif isinstance(attack, ImageAttack):
        attack.guess(world, harness.owned[0].view)
    return time.perf_counter() - start

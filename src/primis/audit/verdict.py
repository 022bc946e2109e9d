"""May this release be published? What an audit says, and why, as values.

do not publish   an attack learned something, or the level is one that leaks
cannot say       the attackers missed a control, or no image could be attacked
publish          nothing was detected; what could have been missed is in `limits`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from primis.attacks.result import Result, Unit


class Decision(StrEnum):
    """What the owner is told."""

    PUBLISH = "publish"
    DO_NOT_PUBLISH = "do not publish"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True)
class Limit:
    """The smallest effects that the attacks would have detected with 80 % power, from that of the
    sharpest test to that of the bluntest; blind: how many tests can detect none at this size."""

    unit: Unit
    least: float
    most: float
    blind: int = 0


@dataclass(frozen=True)
class Verdict:
    """detected: attacks that learned something, of how many; missed: controls that the attackers
    did not break; leaky: whether the level leaks, whatever was detected; attacked: whether there
    were images enough for attackers that learn; limits: what could have been missed."""

    detected: tuple[str, ...]
    attacks: int
    missed: tuple[str, ...] = ()
    leaky: bool = False
    attacked: bool = True
    limits: tuple[Limit, ...] = ()

    @property
    def decision(self) -> Decision:
        """An attack that learned something counts, whatever its attackers missed elsewhere."""
        if self.detected or self.leaky:
            return Decision.DO_NOT_PUBLISH
        if self.missed or not self.attacked:
            return Decision.CANNOT_SAY
        return Decision.PUBLISH

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against publishing."""
        return not (self.detected or self.leaky or self.missed)

    @property
    def sentence(self) -> str:
        """The decision and why, for people."""
        return " ".join([*self._against(), *self._doubtful()]) or self._nothing()

    def _against(self) -> list[str]:
        told = []
        if self.detected:
            count = f"{len(self.detected)} of {self.attacks}"
            told.append(f"{count} attacks learned something of the images.")
        elif self.leaky:
            told.append(
                "Level sca leaks the image to anyone, also where this audit did not show it."
            )
        return [*told, "Do not publish this release."] if told else []

    def _doubtful(self) -> list[str]:
        if not self.missed:
            return []
        names = ", ".join(self.missed)
        if self.detected or self.leaky:
            return [f"The attackers missed controls ({names}), so there may be more."]
        return [f"This audit proves nothing: its attackers missed controls ({names})."]

    def _nothing(self) -> str:
        none = f"None of {self.attacks} attacks learned anything of the images"
        if self.attacked:
            return f"{none}."
        return f"{none}, but they tried keys, lengths and bytes only: no image was attacked."


def reach(
    controls: Sequence[Result], results: Sequence[Result], *, leaky: bool, attacked: bool
) -> Verdict:
    """The verdict on a release whose attacks and controls had these results."""
    return Verdict(
        tuple(result.attack for result in results if result.broken),
        len(results),
        tuple(control.attack for control in controls if not control.broken),
        leaky,
        attacked,
        limits_of(results),
    )


def limits_of(results: Sequence[Result]) -> tuple[Limit, ...]:
    """Of each unit; counts need none, since a single success is detected."""
    units = (Unit.DB, Unit.AUC, Unit.SHARE)
    limits = (_limit(unit, results) for unit in units)
    return tuple(limit for limit in limits if limit is not None)


def _limit(unit: Unit, results: Sequence[Result]) -> Limit | None:
    gains = [gain for result in results for gain in result.gains if gain.unit is unit]
    known = [gain.detectable for gain in gains if gain.detectable is not None]
    if not known:
        return None
    return Limit(unit, min(known), max(known), len(gains) - len(known))

"""Gains and limits in words for people: what was reached, what it had to pass, what could have been
missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from primis.attacks.result import MARGINS, P_THRESHOLD, Gain, Unit
from primis.audit.verdict import Limit


class Shown(NamedTuple):
    """range: the 95 % interval, "" where there is none; threshold: what the row had to pass, after
    the correction for the number of tests; detectable: from where on it would have been
    detected."""

    reached: str
    range: str
    chance: str
    p: str
    threshold: str
    detectable: str


def shown(gain: Gain) -> Shown:
    """A gain in its unit."""
    e, unit = gain.estimate, gain.unit
    chance = told(gain.chance, unit)
    least = "–" if gain.detectable is None else told(gain.detectable, unit)
    if unit is Unit.COUNT:
        return Shown(told(e.value, unit), "", chance, "–", f"more than {chance}", least)
    span = f"{told(e.low, unit)} to {told(e.high, unit)}"
    return Shown(told(e.value, unit), span, chance, _p(gain.p), _threshold(gain), least)


def told(value: float, unit: Unit) -> str:
    """A value in its unit."""
    if unit is Unit.SHARE:
        return f"{100 * value:.0f} %"
    if unit is Unit.COUNT:
        return f"{value:.0f}"
    return f"{round(value, 2) + 0.0:+.2f} dB" if unit is Unit.DB else f"{value:.3f}"


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.1e}"


def _threshold(gain: Gain) -> str:
    margin = MARGINS[gain.unit]
    passed = f"p < {P_THRESHOLD:.2g}"
    if gain.unit is Unit.AUC:
        low, high = gain.chance - margin, gain.chance + margin
        return f"{passed}, and below {low:.2f} or above {high:.2f}"
    return f"{passed}, and above {told(gain.chance + margin, gain.unit)}"


_MISSED = {
    Unit.DB: "a gain in PSNR below {}",
    Unit.AUC: "an area under the ROC curve below {}",
    Unit.SHARE: "a share of right choices below {}",
}


def missed(limits: Sequence[Limit]) -> str:
    """What an audit of this size could have missed, in a sentence."""
    if not limits:
        return ""
    parts = [_MISSED[limit.unit].format(_between(limit)) for limit in limits]
    text = f"With 80 % power it detects no less: it could have missed {'; '.join(parts)}."
    blind = sum(limit.blind for limit in limits)
    if blind:
        plural = "s" if blind > 1 else ""
        text += f" {blind} test{plural} could have detected nothing at this size."
    return text


def _between(limit: Limit) -> str:
    least, most = told(limit.least, limit.unit), told(limit.most, limit.unit)
    return most if least == most else f"{least} to {most}, by attack"

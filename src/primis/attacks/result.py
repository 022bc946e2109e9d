"""What the judge says of an attack: typed metrics, the tests behind them, and whether it learned.

A release in which there is nothing to detect is blamed in at most 1 of 100 audits: the
family-wise error rate, which the tests of all attacks share (Bonferroni).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from primis.metrics.estimate import Estimate

FAMILY_ERROR_RATE = 0.01
"""How often a release in which there is nothing to detect may be blamed."""
NUMBER_OF_TESTS = 90
"""At most so many tests of an audit share it."""
P_THRESHOLD = FAMILY_ERROR_RATE / NUMBER_OF_TESTS
"""What the p-value of a single test must stay below."""


class Kind(StrEnum):
    """What an attacker is after, in the field's words."""

    RECONSTRUCTION = "reconstruction"
    REIDENTIFICATION = "re-identification"
    ATTRIBUTE = "attribute inference"
    MEMBERSHIP = "membership inference"
    CRYPTOGRAPHIC = "cryptographic"


class Unit(StrEnum):
    """Of a gain: PSNR, an area under the ROC curve, a share of right answers, a number of cases."""

    DB = "dB"
    AUC = "AUC"
    SHARE = "share"
    COUNT = "count"


MARGINS = {Unit.DB: 0.1, Unit.AUC: 0.02, Unit.SHARE: 0.0, Unit.COUNT: 0.0}
"""What a gain must exceed besides, to count: smaller ones are of no use to an attacker."""


@dataclass(frozen=True)
class Gain:
    """By how much an attack beats chance or its floor. what: the measure; chance: what knowing
    nothing gives; estimate: with its 95 % interval; p: two-sided p-value, the probability of a
    result at least this extreme if there is no effect; detectable: the smallest value that a test
    of this size detects with 80 % power, None where it is not known."""

    what: str
    unit: Unit
    chance: float
    estimate: Estimate
    p: float
    detectable: float | None = None

    @property
    def detected(self) -> bool:
        """Whether it is significant and beyond the margin. An area below chance tells as much as
        one above."""
        beyond = self.estimate.value - self.chance
        size = abs(beyond) if self.unit is Unit.AUC else beyond
        return self.p < P_THRESHOLD and size > MARGINS[self.unit]

    @property
    def unclear(self) -> bool:
        """Whether its own interval excludes chance, though it is not detected: one of many tests
        is expected to look like this if there is no effect."""
        if self.detected or self.unit is Unit.COUNT:
            return False
        return not self.estimate.low <= self.chance <= self.estimate.high


@dataclass(frozen=True)
class FidelityMetrics:
    """The paper's measures of Table 4: how near the pictures are to their images."""

    mae: Estimate
    me: Estimate
    rmse: Estimate
    psnr: Estimate
    ssim: Estimate


@dataclass(frozen=True)
class SupportMetrics:
    """How well true entries are told from others. auc: area under the ROC curve; beyond_prior:
    beyond what other images' bundles tell; recovered: part of the likeliest entries, as many as
    there are true ones, that are true; by_chance: the same for a random choice. The last two are
    None where no entry lies open."""

    auc: Estimate
    beyond_prior: Estimate
    recovered: Estimate | None = None
    by_chance: Estimate | None = None


@dataclass(frozen=True)
class Reconstruction:
    """fidelity: of the guesses; other_code: PSNR of the same attack given another image's code, its
    floor; mean_image: PSNR of the mean of other patients' images, which needs no code; over_floor:
    gain over the better of the two, in dB. The last two are None for the holder of tier preview."""

    fidelity: FidelityMetrics
    other_code: Estimate
    mean_image: Estimate | None = None
    over_floor: Estimate | None = None
    support: SupportMetrics | None = None


@dataclass(frozen=True)
class Result:
    """What one attack reached. reconstruction: of attacks that draw images; authorised: the AUC of
    the same reader given what the key's holder has; note: what a reader must know besides."""

    attack: str
    kind: Kind
    source: str
    holds: str
    gains: tuple[Gain, ...]
    reconstruction: Reconstruction | None = None
    authorised: Estimate | None = None
    note: str = ""

    @property
    def broken(self) -> bool:
        """Whether the attacker learned something of the images."""
        return any(gain.detected for gain in self.gains)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        gains = [asdict(gain) | {"detected": gain.detected} for gain in self.gains]
        return asdict(self) | {"broken": self.broken, "gains": gains}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Result:
        """Inverse of `as_dict`."""
        drawn = body["reconstruction"]
        return cls(
            body["attack"],
            Kind(body["kind"]),
            body["source"],
            body["holds"],
            tuple(_gain(gain) for gain in body["gains"]),
            None if drawn is None else _reconstruction(drawn),
            _estimate(body["authorised"]),
            body["note"],
        )


def counted(attack: str, holds: str, what: str, hits: int, trials: int, note: str = "") -> Result:
    """A cryptographic attack, of which a single success is one too many."""
    estimate = Estimate(hits, hits, hits, trials)
    gain = Gain(what, Unit.COUNT, 0.0, estimate, 0.0 if hits else 1.0, 1.0 if trials else None)
    return Result(attack, Kind.CRYPTOGRAPHIC, "", holds, (gain,), note=note)


def _gain(body: dict[str, Any]) -> Gain:
    estimate = Estimate(**body["estimate"])
    unit, detectable = Unit(body["unit"]), body.get("detectable")
    return Gain(body["what"], unit, body["chance"], estimate, body["p"], detectable)


def _reconstruction(body: dict[str, Any]) -> Reconstruction:
    support = body["support"]
    return Reconstruction(
        FidelityMetrics(**_estimates(body["fidelity"])),
        Estimate(**body["other_code"]),
        _estimate(body["mean_image"]),
        _estimate(body["over_floor"]),
        None if support is None else SupportMetrics(**_estimates(support)),
    )


def _estimates(body: dict[str, Any]) -> dict[str, Any]:
    return {name: _estimate(value) for name, value in body.items()}


def _estimate(body: dict[str, Any] | None) -> Estimate | None:
    return None if body is None else Estimate(**body)


FIDELITY = tuple(field.name for field in fields(FidelityMetrics))
"""Names of the measures of fidelity, in the order of Table 4."""

"""A way of sharing, and what the whole suite makes of it on images of one shape: for benchmarks and
reports.

    keyed   preset default, S_x = 8: what `share` does unless told otherwise
    sca     the same, its code in the open among decoys that lie where entries are likely
    paper   preset paper, S_x = 16 of each code map, S_n = 48: level sca with decoys laid evenly, as
            the paper has it

All images belong to one release; attackers who hold the software share theirs once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from primis.attacks.controls import controls
from primis.attacks.harness import Budget, Harness, Sharer
from primis.attacks.judge import mean_fidelity
from primis.attacks.result import FidelityMetrics, Result
from primis.attacks.suite import Outcome, jobs, outcomes
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.keys.seal import Secret, release_secrets
from primis.metrics.part import Parts
from primis.metrics.progress import Progress, silent
from primis.network.presets import DEFAULT, PAPER


@dataclass(frozen=True)
class Mechanism:
    """name: for people; preset: whose code; likely: as of World."""

    name: str
    preset: str
    settings: Settings
    likely: bool = True


MECHANISMS = {
    "keyed": Mechanism("level keyed", DEFAULT.name, Settings(protection=Protection.KEYED)),
    "sca": Mechanism("level sca", DEFAULT.name, Settings(protection=Protection.SCA, code_bits=4.0)),
    "paper": Mechanism(
        "the paper's mechanism, preset paper",
        PAPER.name,
        Settings(sparsity=64.0, decoys=192.0, protection=Protection.SCA, code_bits=8.0),
        likely=False,
    ),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to share, and what is known of it."""

    image: Image = field(repr=False)
    name: str
    patient: str = field(repr=False)
    traits: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Attacked:
    """checks: results of the controls; ceiling: what the key's holder sees."""

    harness: Harness
    checks: list[Result]
    outcomes: list[Outcome]
    ceiling: FidelityMetrics

    @property
    def results(self) -> list[Result]:
        """Of each attack."""
        return [outcome.result for outcome in self.outcomes]


def attack(
    mechanism: Mechanism,
    train: Sequence[Subject],
    test: Sequence[Subject],
    codec: Codec,
    budget: Budget,
    parts: Parts,
    progress: Progress = silent,
) -> Attacked:
    """Share, then run every control and every attack; results are kept as they come, so `parts`
    must belong to this plan."""

    def report(what: str, done: int, total: int) -> None:
        progress(f"{mechanism.name}: {what}", done, total)

    settings = mechanism.settings
    sharer = Sharer(settings, codec, mechanism.likely, release_secrets(Secret.new(), "original"))
    again = int(settings.protection == Protection.KEYED)
    own, judged = [], []
    for number, s in enumerate(train):
        report("sharing", number, len(train) + len(test))
        own.append(sharer.owned(s.image, s.name, patient=s.patient, traits=s.traits, again=again))
    for number, s in enumerate(test):
        report("sharing", len(train) + number, len(train) + len(test))
        judged.append(sharer.judged(s.image, s.name, patient=s.patient, traits=s.traits))
    harness = Harness(codec, settings, own, judged, budget, likely=mechanism.likely, report=report)
    alone = Sharer(settings, codec, mechanism.likely)
    seconds = [alone.view(s.image, s.name) for s in test]
    checks = [done.result for done in outcomes(parts, controls(codec, settings, budget, report))]
    made = list(outcomes(parts, jobs(harness, seconds)))
    ceiling = mean_fidelity(judged, [case.authorised for case in judged])
    return Attacked(harness, checks, made, ceiling)

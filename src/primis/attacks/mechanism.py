"""A way of sharing, and what the whole suite makes of it on images of one shape: for benchmarks and reports.

    keyed   preset default, S_x = 8, S_n = 8: what `share` does unless told otherwise
    sca     the same, its code in the open among decoys that lie where entries are likely
    paper   preset paper, S_x = 16 of each code map, S_n = 48: level sca with decoys laid evenly, as the paper has it

All images belong to one release; attackers who hold the software share theirs once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from primis.attacks.controls import controls
from primis.attacks.judge import Finding, mean_fidelity
from primis.attacks.protocol import Budget, Case, World, share_case
from primis.attacks.suite import Result, jobs, result
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.imaging.image import Image
from primis.keys.seal import Secret, release_secrets
from primis.metrics.part import Parts, Progress, silent
from primis.metrics.statistics import Estimate
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
    "sca": Mechanism(
        "level sca", DEFAULT.name, Settings(protection=Protection.SCA, support_bits=4.0)
    ),
    "paper": Mechanism(
        "the paper's mechanism, preset paper",
        PAPER.name,
        Settings(sparsity=64.0, decoys=192.0, protection=Protection.SCA, support_bits=8.0),
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
    """checks: what the controls found; ceiling: what the key's holder sees, by measure."""

    world: World
    checks: list[Finding]
    results: list[Result]
    ceiling: dict[str, Estimate]

    @property
    def findings(self) -> list[Finding]:
        """Of each attack."""
        return [result.finding for result in self.results]


def attack(
    mechanism: Mechanism, train: Sequence[Subject], test: Sequence[Subject], codec: Codec, budget: Budget, parts: Parts,
    progress: Progress = silent,
) -> Attacked:  # fmt: skip
    """Share, then run every control and every attack; findings are kept as they come, so `parts` must belong to this plan."""
    settings, release = mechanism.settings, release_secrets(Secret.new(), "original")
    again = int(settings.protection == "keyed")

    def share(subjects: Sequence[Subject], *, judged: bool) -> list[Case]:
        cases = []
        for number, s in enumerate(subjects):
            progress(f"{mechanism.name}: sharing", number, len(subjects))
            cases.append(share_case(
                s.image, settings, codec, name=s.name, patient=s.patient, traits=s.traits, judged=judged, release=release,
                likely=mechanism.likely, again=0 if judged else again,
            ))  # fmt: skip
        return cases

    world = World(
        codec,
        settings,
        share(train, judged=False),
        share(test, judged=True),
        budget,
        likely=mechanism.likely,
    )
    world.report = lambda what, done, total: progress(f"{mechanism.name}: {what}", done, total)
    seconds = [
        share_case(s.image, settings, codec, name=s.name, likely=mechanism.likely).view
        for s in test
    ]
    checks = []
    for number, (name, control) in enumerate(named := controls(codec, settings, budget)):
        progress(f"{mechanism.name}: {name}", number, len(named))
        checks.append(result(parts, name, control).finding)
    results = [result(parts, name, job) for name, job in jobs(world, seconds)]
    seen = [case.authorised for case in world.test if case.authorised is not None]
    return Attacked(world, checks, results, mean_fidelity(world.test, seen))

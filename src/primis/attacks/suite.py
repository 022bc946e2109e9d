"""Every attack on one harness, in order, one result each; what one learned serves the next.

The floor of each attack is its own (`judge.py`), so an attack may run on any level; those that have
nothing to read on one are left out there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from primis.attacks.attribute_inference import PictureReader, Reader, positive_class, tells
from primis.attacks.cryptographic import keys, randomness
from primis.attacks.cryptographic.lengths import lengths_result, of_header
from primis.attacks.harness import (
    Attack,
    BesideAttack,
    Harness,
    Holds,
    ImageAttack,
    OwnedCase,
    View,
)
from primis.attacks.judge import (
    Drawn,
    judge_attribute,
    judge_beside,
    judge_images,
    judge_links,
    told_apart,
)
from primis.attacks.power import interval_area
from primis.attacks.reconstruction.generative import GenerativePrior
from primis.attacks.reconstruction.networks import Dense, Finer, Iterated, Marker, Regressor
from primis.attacks.reconstruction.simple import COUNTED, SIMPLE, Everything, Twice
from primis.attacks.reconstruction.translators import FORMS, PAPERS, REFINED, Refined
from primis.attacks.reidentification import (
    ALTERATIONS,
    Encoded,
    Matched,
    SharedAgain,
    altered,
    attack_for,
    patient_likeness,
)
from primis.attacks.result import Kind, Result
from primis.bundle.container import read_bundle
from primis.bundle.header import Header
from primis.metrics.part import Part, Parts
from primis.metrics.statistics import grouping_p

_SHOWN = 6
_AS_IT_IS = "as it is"
_SAME_PATIENT = "same patient, two codes"


@dataclass(frozen=True, eq=False)
class Outcome:
    """A result, and what the attacker saw of the first judged cases: (H, W) each, fitted to the
    image's grey levels."""

    result: Result
    pictures: list[np.ndarray] = field(default_factory=list)


class Job(NamedTuple):
    """An attack that waits to be run. trains: whether it takes the steps of the budget, or builds
    on an attack that does."""

    name: str
    run: Callable[[], Outcome]
    trains: bool = False


@dataclass
class _Learned:
    """Networks that others build on, trained once each."""

    harness: Harness
    networks: dict[str, ImageAttack] = field(default_factory=dict)
    painter: ImageAttack | None = None

    def fitted(self, attack: ImageAttack) -> ImageAttack:
        """The attack, having learned; the rest may be forgotten."""
        if attack.name in self.networks:
            return self.networks[attack.name]
        attack.fit(self.harness.world(attack.holds))
        if isinstance(attack, Marker | Regressor):
            self.networks[attack.name] = attack
        return attack

    def marker(self) -> Marker:
        """The support network."""
        attack = self.fitted(Marker())
        assert isinstance(attack, Marker)
        return attack

    def fitted_painter(self) -> ImageAttack:
        """A network that learned from half of the attackers' images."""
        if self.painter is None:
            self.painter = painter_for(self.harness)
            own, _ = halves(self.harness.owned)
            self.painter.fit(self.harness.world(self.painter.holds).owning(own))
        return self.painter


def painter_for(harness: Harness) -> ImageAttack:
    """What draws the pictures that attributes are read from."""
    return Marker() if harness.open_code else Regressor()


def jobs(
    harness: Harness, seconds: Sequence[View] = (), headers: Sequence[Header] = ()
) -> Iterator[Job]:
    """Every attack. seconds: the judged images shared once more by their owner, where that was
    done; headers: of all bundles whose lengths are compared, by default of the judged ones."""
    learned = _Learned(harness)
    yield from _reconstructions(learned, seconds)
    yield from _reidentifications(harness, seconds)
    yield from _attributes(learned)
    yield from cryptographic_jobs(harness, headers)


def trainers(harness: Harness) -> list[Attack]:
    """A new one of each attack that takes the steps of the budget, as often as it does."""
    networks: list[Attack] = [Marker(), Regressor(), Finer()]
    networks += [kind(form) for form in FORMS for kind in PAPERS]
    if harness.open_code:
        networks.append(PAPERS[0](FORMS[0]))  # the same network reads what the support network sees
    if any(_shows(harness, trait, positive) for trait, positive in _traits(harness)):
        networks.append(painter_for(harness))
    return networks


def _reconstructions(learned: _Learned, seconds: Sequence[View]) -> Iterator[Job]:
    harness = learned.harness
    counts = [kind() for kind in (*SIMPLE, *COUNTED)]
    for attack in (Everything(), *counts, Dense(), Marker(), Regressor(), GenerativePrior()):
        yield _image_job(learned, attack)
        if isinstance(attack, Marker) and harness.open_code:
            yield _marker_job(learned, REFINED, Refined)
            yield _marker_job(learned, Iterated.name, Iterated)
    yield Job(Finer.name, lambda: _beside(Finer(), harness), trains=True)
    for form in FORMS:
        for kind in PAPERS:
            yield _image_job(learned, kind(form))
    if seconds:
        pairs = [(c.view, other) for c, other in zip(harness.judged, seconds, strict=True)]
        yield _image_job(learned, Twice(pairs))


def _image_job(learned: _Learned, attack: ImageAttack) -> Job:
    def run() -> Outcome:
        return _outcome(judge_images(learned.fitted(attack), learned.harness))

    return Job(attack.name, run, attack.trains)


def _marker_job(learned: _Learned, name: str, make: Callable[[Marker], ImageAttack]) -> Job:
    def run() -> Outcome:
        return _outcome(judge_images(learned.fitted(make(learned.marker())), learned.harness))

    return Job(name, run, trains=True)


def _beside(attack: BesideAttack, harness: Harness) -> Outcome:
    attack.fit(harness.world(attack.holds))
    return _outcome(judge_beside(attack, harness))


def _outcome(drawn: Drawn) -> Outcome:
    return Outcome(drawn.result, drawn.pictures[:_SHOWN])


def _reidentifications(harness: Harness, seconds: Sequence[View]) -> Iterator[Job]:
    if seconds:
        again = SharedAgain(seconds)
        yield Job(again.name, lambda: Outcome(_linked(again, _AS_IT_IS, harness)))
    for alteration in ALTERATIONS:
        yield _link_job(attack_for(alteration), alteration, harness)
    yield _link_job(Matched(), _AS_IT_IS, harness)
    if _same_patients(harness).any():
        yield Job(_SAME_PATIENT, lambda: Outcome(_patients(harness)))


def _link_job(attack: Encoded, alteration: str, harness: Harness) -> Job:
    return Job(attack.name, lambda: Outcome(_linked(attack, alteration, harness)))


def _linked(attack: Encoded | SharedAgain, alteration: str, harness: Harness) -> Result:
    rng = harness.world(Holds.CODES).rng(f"altered {alteration}")
    cases = harness.judged[: harness.budget.candidates]
    return judge_links(attack, harness, [altered(alteration, case, rng) for case in cases])


def _same_patients(harness: Harness) -> np.ndarray:
    """Which pairs of judged images are of one patient, (pairs,) of bool; empty where all are."""
    patients = harness.patients
    same = (patients[:, None] == patients[None])[np.triu_indices(len(patients), 1)]
    return np.zeros(0, bool) if same.all() else same


def _patients(harness: Harness) -> Result:
    likeness = patient_likeness(harness.world(Holds.CODES).targets)
    scores = likeness[np.triu_indices(len(likeness), 1)]
    gain = told_apart("pairs of one patient", scores, _same_patients(harness))
    gain = replace(
        gain, p=grouping_p(likeness, harness.patients), detectable=interval_area(gain.estimate)
    )
    note = "pairs that share an image are not independent: the interval is a little too narrow"
    source = "Packhäuser et al. 2022"
    return Result(_SAME_PATIENT, Kind.REIDENTIFICATION, source, Holds.CODES, (gain,), note=note)


def _attributes(learned: _Learned) -> Iterator[Job]:
    for trait, positive in _traits(learned.harness):
        reader = Reader(trait, positive)
        yield _reader_job(learned.harness, reader)
        if _shows(learned.harness, trait, positive):
            yield _picture_job(learned, reader)


def _traits(harness: Harness) -> Iterator[tuple[str, str]]:
    """Traits that can be learned and judged, and the class that a reader is trained to tell."""
    for trait in dict.fromkeys(trait for case in harness.owned for trait in case.traits):
        positive = positive_class(harness.owned, harness.judged, trait)
        if positive is not None:
            yield trait, positive


def _shows(harness: Harness, trait: str, positive: str) -> bool:
    """Whether the half that is left to readers of pictures has enough of both classes."""
    return tells(halves(harness.owned)[1], trait, positive)


def _reader_job(harness: Harness, reader: Reader) -> Job:
    return Job(reader.name, lambda: Outcome(_read(reader, harness, harness.owned)))


def _picture_job(learned: _Learned, told: Reader) -> Job:
    def run() -> Outcome:
        painter, harness = learned.fitted_painter(), learned.harness
        world = harness.world(painter.holds)
        reader = PictureReader(
            told.trait, told.positive, lambda view: painter.guess(world, view), painter.name
        )
        return Outcome(_read(reader, harness, halves(harness.owned)[1]))

    return Job(f"{told.positive}, read from the picture", run, trains=True)


def _read(reader: Reader, harness: Harness, own: Sequence[OwnedCase]) -> Result:
    world = harness.world(reader.holds).owning(own)
    reader.fit(world)
    return judge_attribute(reader, harness, reader.ceiling(world, harness.judged))


def halves(cases: Sequence[OwnedCase]) -> tuple[list[OwnedCase], list[OwnedCase]]:
    """Cases of every other patient, and the rest."""
    first = set(list(dict.fromkeys(case.patient for case in cases))[::2])
    own = [case for case in cases if case.patient in first]
    return own, [case for case in cases if case.patient not in first]


def cryptographic_jobs(harness: Harness, headers: Sequence[Header] = ()) -> Iterator[Job]:
    """Those that need no more than two images: keys, lengths, bytes. headers: as of `jobs`."""
    cases = harness.judged
    compared = headers or [read_bundle(case.view.bundle, case.name)[0] for case in cases]
    views = [case.view for case in cases]
    sizes = [of_header(header) for header in compared]
    yield Job("lengths", lambda: Outcome(lengths_result(sizes)))
    if not harness.open_code:
        yield Job(randomness.NAME, lambda: Outcome(randomness.randomness_result(views)))
    yield Job(keys.STRANGERS, lambda: Outcome(keys.strangers_result(cases)))
    yield Job(keys.LOWER_TIER, lambda: Outcome(keys.lower_tier_result(cases)))
    if not harness.open_code:
        yield Job(keys.KEYSTREAM, lambda: Outcome(keys.keystream_result(keys.pairs(cases))))


def outcomes(parts: Parts, named: Iterable[Job]) -> Iterator[Outcome]:
    """The outcome of each job, made now or before."""
    for job in named:
        yield outcome(parts, job)


def outcome(parts: Parts, job: Job) -> Outcome:
    """The outcome of one job, made now or before."""
    return kept(parts, job.name) or keep(parts, job.name, job.run())


def kept(parts: Parts, name: str) -> Outcome | None:
    """The outcome of the job of that name that an earlier run left, None where there is none."""
    part = parts.kept(name)
    return None if part is None else _outcome_of(part)


def keep(parts: Parts, name: str, made: Outcome) -> Outcome:
    """The outcome, kept for the next run; as that will find it."""
    drawn = enumerate(made.pictures)
    pictures = {f"picture{k}": picture.astype(np.float32) for k, picture in drawn}
    return _outcome_of(parts.get(name, lambda: Part(made.result.as_dict(), pictures)))


def _outcome_of(part: Part) -> Outcome:
    pictures = [part.arrays[key] for key in sorted(part.arrays)]
    return Outcome(Result.from_dict(part.body), pictures)

"""Every attack on one world, in order, one finding each; what one learned serves the next.

The floor of each attack is its own (`judge.py`), so an attack may run on any level; those that have nothing to read on one
are left out there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np

from primis.attacks import keys, sizes
from primis.attacks.adversaries import FORMS, PAPERS, REFINED, Refined
from primis.attacks.generative import GenerativePrior
from primis.attacks.judge import (
    Finding,
    Gain,
    counted,
    judge_beside,
    judge_images,
    judge_labels,
    judge_links,
    told_apart,
)
from primis.attacks.labels import PictureReader, Reader, positive_class, tells
from primis.attacks.linkage import (
    ALTERATIONS,
    Matched,
    SharedAgain,
    altered,
    attack_for,
    patient_likeness,
)
from primis.attacks.networks import Dense, Finer, Iterated, Marker, Regressor
from primis.attacks.protocol import Case, Holds, ImageAttack, View, World
from primis.attacks.simple import COUNTED, SIMPLE, Everything, Twice
from primis.bundle.container import read_bundle
from primis.bundle.header import Header
from primis.metrics.part import Part, Parts
from primis.metrics.statistics import Estimate, grouping_p


@dataclass(frozen=True, eq=False)
class Result:
    """A finding, and what the attacker saw of the first judged cases: (H, W) each, fitted to the image's grey levels."""

    finding: Finding
    pictures: list[np.ndarray] = field(default_factory=list)


Job = Callable[[], Result]

_SHOWN = 6
_PAINTER = "learned from half of the images"


def jobs(
    world: World, seconds: Sequence[View] = (), headers: Sequence[Header] = ()
) -> Iterator[tuple[str, Job]]:
    """(name, job) of each attack. seconds: the judged images shared once more by their owner, where that was done; headers:
    of all bundles whose lengths are compared, by default of the judged ones."""
    learned: dict[str, ImageAttack] = {}

    def marker() -> Marker:
        return cast(Marker, _fitted(Marker(), world, learned))

    for attack in (
        Everything(),
        *(kind() for kind in (*SIMPLE, *COUNTED)),
        Dense(),
        Marker(),
        Regressor(),
        GenerativePrior(),
    ):
        yield attack.name, _image_job(attack, world, learned)
        if isinstance(attack, Marker) and world.open_code:
            yield REFINED, lambda: _judged(Refined(marker()), world, learned)
            yield Iterated.name, lambda: _judged(Iterated(marker()), world, learned)
    yield Finer.name, lambda: _beside(Finer(), world)
    for form in FORMS:
        for kind in PAPERS:
            yield (attack := kind(form)).name, _image_job(attack, world, learned)
    if seconds:
        yield (
            Twice.name,
            _image_job(
                Twice([(c.view, view) for c, view in zip(world.test, seconds, strict=True)]),
                world,
                learned,
            ),
        )
        yield (
            SharedAgain.name,
            lambda: Result(
                judge_links(SharedAgain(seconds), world, _candidates("as it is", world))
            ),
        )
    for kind_ in ALTERATIONS:
        yield attack_for(kind_).name, lambda kind_=kind_: Result(_linked(kind_, world))  # type: ignore[misc]
    yield (
        Matched.name,
        lambda: Result(judge_links(Matched(), world, _candidates("as it is", world))),
    )
    if (patients := _patients(world.test)) is not None:
        yield "same patient, two codes", lambda: Result(patients)
    for trait in dict.fromkeys(trait for case in world.train for trait in case.traits):
        if (positive := positive_class(world.train, world.test, trait)) is not None:
            reader = Reader(trait, positive)
            yield reader.name, lambda reader=reader: Result(_read(reader, world))  # type: ignore[misc]
            if tells(_halves(world.train)[1], trait, positive):
                job = partial(_read_picture, reader, world, learned)
                yield f"{positive}, read from the picture", partial(_as_result, job)
    yield from jobs_without_pictures(world, headers)


def _as_result(job: Callable[[], Finding]) -> Result:
    return Result(job())


def _image_job(attack: ImageAttack, world: World, learned: dict[str, ImageAttack]) -> Job:
    return lambda: _judged(attack, world, learned)


def _fitted(attack: ImageAttack, world: World, learned: dict[str, ImageAttack]) -> ImageAttack:
    if attack.name in learned:
        return learned[attack.name]
    attack.fit(world)
    if isinstance(attack, Marker | Regressor):  # others build on these; the rest may be forgotten
        learned[attack.name] = attack
    return attack


def _judged(attack: ImageAttack, world: World, learned: dict[str, ImageAttack]) -> Result:
    finding, shown = judge_images(_fitted(attack, world, learned), world)
    return Result(finding, shown[:_SHOWN])


def _beside(attack: Finer, world: World) -> Result:
    attack.fit(world)
    finding, shown = judge_beside(attack, world)
    return Result(finding, shown[:_SHOWN])


def _candidates(kind: str, world: World) -> list[np.ndarray]:
    rng = world.rng(f"altered {kind}")
    return [altered(kind, case, rng) for case in world.test[: world.budget.candidates]]


def _linked(kind: str, world: World) -> Finding:
    return judge_links(attack_for(kind), world, _candidates(kind, world))


def _patients(cases: Sequence[Case]) -> Finding | None:
    patients = np.array([case.patient for case in cases])
    pairs = np.triu_indices(len(cases), 1)
    same = (patients[:, None] == patients[None])[pairs]
    if not same.any() or same.all():
        return None
    likeness = patient_likeness(cases)
    gain = replace(
        told_apart("pairs of one patient", likeness[pairs], same), p=grouping_p(likeness, patients)
    )
    note = "pairs that share an image are not independent: the interval is a little too narrow"
    return Finding(
        "same patient, two codes", "link", "Packhäuser et al. 2022", Holds.CODES, (gain,), {}, note
    )


def _read(reader: Reader, world: World) -> Finding:
    reader.fit(world)
    return judge_labels(reader, world, reader.ceiling(world))


def _read_picture(told: Reader, world: World, learned: dict[str, ImageAttack]) -> Finding:
    own, others = _halves(world.train)
    if _PAINTER not in learned:
        learned[_PAINTER] = Marker() if world.open_code else Regressor()
        learned[_PAINTER].fit(replace(world, train=own))
    painter = learned[_PAINTER]
    reader = PictureReader(
        told.trait, told.positive, lambda view: painter.guess(world, view), painter.name
    )
    reader.fit(replace(world, train=others))
    return judge_labels(reader, world, reader.ceiling(world))


def _halves(cases: list[Case]) -> tuple[list[Case], list[Case]]:
    """Cases of every other patient, and the rest."""
    first = set(list(dict.fromkeys(case.patient for case in cases))[::2])
    return [case for case in cases if case.patient in first], [
        case for case in cases if case.patient not in first
    ]


def jobs_without_pictures(
    world: World, headers: Sequence[Header] = ()
) -> Iterator[tuple[str, Job]]:
    """Those that need no more than two images: keys, lengths, bytes. headers: as of `jobs`."""
    cases = world.test
    compared = headers or [read_bundle(case.view.bundle, case.name)[0] for case in cases]
    yield (
        "lengths",
        lambda: Result(lengths_finding([sizes.of_header(header) for header in compared])),
    )
    if not world.open_code:
        yield "bytes that are not random", lambda: Result(randomness_finding(cases))
    yield "keys of other images", lambda: Result(
        counted("keys of other images", Holds.KEYS, "sealed parts opened", *keys.strangers(cases)))  # fmt: skip
    yield "key of a lower tier", lambda: Result(
        counted("key of a lower tier", Holds.PREVIEW, "parts of higher tiers opened", *keys.lower_tier(cases)))  # fmt: skip
    if not world.open_code:
        yield "keystream of a known image", lambda: Result(keystream_finding(keys.pairs(cases)))


def lengths_finding(images: Sequence[tuple[object, dict[str, int]]]) -> Finding:
    """Parts whose length depends on content."""
    found = sizes.lengths(images)
    what = f"parts whose length differs, of {found.images} bundles alike in geometry and settings"
    count = len(found.sections)
    gain = Gain(
        what, "count", 0.0, Estimate(count, count, count, found.images), 0.0 if count else 1.0
    )
    said = (
        f"lengths differ in {', '.join(found.sections)}: {found.bits:.1f} bits of which image it is"
        if count
        else ""
    )
    if not found.images:
        said = "nothing to compare: no two images are alike in geometry and settings"
    return Finding("lengths", "count", "", Holds.CODES, (gain,), {}, said)


def randomness_finding(cases: Sequence[Case]) -> Finding:
    """Tests of the published bytes, and repeats between bundles."""
    found = sizes.randomness(cases)
    longest, beyond = (
        Estimate(found.shared, found.shared, found.shared, len(cases)),
        found.shared > found.chance,
    )
    repeats = Gain(
        "bytes in a row that two bundles share",
        "count",
        float(found.chance),
        longest,
        0.0 if beyond else 1.0,
    )
    p = Estimate(found.p, found.p, found.p, len(cases))
    uneven = Gain(
        "tests of randomness failed",
        "count",
        0.0,
        Estimate(float(found.p < 1e-4), 0, 1, 4),
        found.p,
    )
    return Finding(
        "bytes that are not random",
        "count",
        "",
        Holds.CODES,
        (repeats, uneven),
        {f"least p, {found.test}": p},
    )


def keystream_finding(pairs: Sequence[tuple[Case, Case]]) -> Finding:
    """How many images the keystream of another, which the attacker knows, begins to open."""
    hits = sum(keys.keystream_moved(known, target) > 0 for known, target in pairs)
    return counted("keystream of a known image", Holds.PAIRS, "images opened", hits, len(pairs))


def kept(parts: Parts, named: Iterable[tuple[str, Job]]) -> Iterator[Result]:
    """The result of each job, made now or before."""
    for name, job in named:
        yield result(parts, name, job)


def result(parts: Parts, name: str, job: Job) -> Result:
    """The result of one job, made now or before."""

    def make() -> Part:
        made = job()
        pictures = {
            f"picture{k}": picture.astype(np.float32) for k, picture in enumerate(made.pictures)
        }
        return Part(made.finding.as_dict(), pictures)

    part = parts.get(name, make)
    return Result(Finding.from_dict(part.body), [part.arrays[key] for key in sorted(part.arrays)])

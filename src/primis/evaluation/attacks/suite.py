"""Every attack on one world, in order, one finding each; what one learned serves the next.

The floor of each attack is its own (`judge.py`), so every attack runs on every level; those that make no sense on one
(an image shared twice needs open values to compare) find nothing there, which is the point.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from primis.evaluation.attacks import keys, sizes
from primis.evaluation.attacks.adversaries import FORMS, PAPERS, REFINED, Refined
from primis.evaluation.attacks.generative import GenerativePrior
from primis.evaluation.attacks.judge import Finding, Gain, counted, judge_images, judge_labels, judge_links, told_apart
from primis.evaluation.attacks.labels import PictureReader, Reader, positive_class
from primis.evaluation.attacks.linkage import ALTERATIONS, Matched, SharedAgain, altered, attack_for, patient_likeness
from primis.evaluation.attacks.networks import Iterated, Marker, Regressor
from primis.evaluation.attacks.protocol import Case, Holds, ImageAttack, View, World
from primis.evaluation.attacks.simple import COUNTED, SIMPLE, Everything, Twice
from primis.evaluation.statistics import Estimate, grouping_p
from primis.sharing.output import write_new


@dataclass(frozen=True, eq=False)
class Result:
    """A finding, and what the attacker saw of the first judged cases: (H, W) each, fitted to the image's grey levels."""

    finding: Finding
    pictures: list[np.ndarray] = field(default_factory=list)


Job = Callable[[], Result]


def jobs(world: World, seconds: Sequence[View] = ()) -> Iterator[tuple[str, Job]]:
    """(name, job) of each attack. seconds: the judged images shared once more by their owner, where that was done."""
    learned: dict[str, ImageAttack] = {}
    for attack in (Everything(), *(kind() for kind in (*SIMPLE, *COUNTED)), Marker(), Regressor(), GenerativePrior()):
        yield attack.name, _image_job(attack, world, learned)
        if isinstance(attack, Marker) and world.open_code:
            yield REFINED, lambda: _judged(Refined(_fitted(Marker(), world, learned)), world, learned)  # type: ignore[arg-type]
            yield Iterated.name, lambda: _judged(Iterated(_fitted(Marker(), world, learned)), world, learned)  # type: ignore[arg-type]
    for form in FORMS:
        for kind in PAPERS:
            yield (attack := kind(form)).name, _image_job(attack, world, learned)
    if seconds:
        yield Twice.name, _image_job(Twice([(c.view, view) for c, view in zip(world.test, seconds, strict=True)]), world, learned)
        yield SharedAgain.name, lambda: Result(judge_links(SharedAgain(seconds), world, _candidates("as it is", world)))
    for kind_ in ALTERATIONS:
        yield attack_for(kind_).name, lambda kind_=kind_: Result(_linked(kind_, world))  # type: ignore[misc]
    yield Matched.name, lambda: Result(judge_links(Matched(), world, _candidates("as it is", world)))
    if (patients := _patients(world.test)) is not None:
        yield "same patient, two codes", lambda: Result(patients)
    if (positive := positive_class(world.train, world.test)) is not None:
        yield Reader(positive).name, lambda: Result(_read(Reader(positive), world))
        yield f"{positive}, read from the picture", lambda: Result(_read_picture(positive, world, learned))
    yield from jobs_without_pictures(world)


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
    return Result(finding, shown[:6])


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
    gain = replace(told_apart("pairs of one patient", likeness[pairs], same), p=grouping_p(likeness, patients))
    note = "pairs that share an image are not independent: the interval is a little too narrow"
    return Finding("same patient, two codes", "link", "Packhäuser et al. 2022", Holds.CODES, (gain,), {}, note)


def _read(reader: Reader, world: World) -> Finding:
    reader.fit(world)
    return judge_labels(reader, world, reader.ceiling(world))


def _read_picture(positive: str, world: World, learned: dict[str, ImageAttack]) -> Finding:
    painter = _fitted(Marker() if world.open_code else Regressor(), world, learned)
    reader = PictureReader(positive, lambda view: painter.guess(world, view), painter.name)
    reader.fit(world)
    return judge_labels(reader, world)


def jobs_without_pictures(world: World) -> Iterator[tuple[str, Job]]:
    """Those that need no more than two images: keys, lengths, bytes."""
    cases = world.test
    yield "lengths", lambda: Result(lengths_finding([sizes.of_bundle(case.view.bundle) for case in cases]))
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
    gain = Gain(what, "count", 0.0, Estimate(count, count, count, found.images), 0.0 if count else 1.0)
    said = f"lengths differ in {', '.join(found.sections)}: {found.bits:.1f} bits of which image it is" if count else ""
    return Finding("lengths", "count", "", Holds.CODES, (gain,), {}, said)


def randomness_finding(cases: Sequence[Case]) -> Finding:
    """Tests of the published bytes, and repeats between bundles."""
    found = sizes.randomness(cases)
    longest, beyond = Estimate(found.shared, found.shared, found.shared, len(cases)), found.shared > found.chance
    repeats = Gain("bytes in a row that two bundles share", "count", float(found.chance), longest, 0.0 if beyond else 1.0)
    p = Estimate(found.p, found.p, found.p, len(cases))
    uneven = Gain("tests of randomness failed", "count", 0.0, Estimate(float(found.p < 1e-4), 0, 1, 4), found.p)
    return Finding("bytes that are not random", "count", "", Holds.CODES, (repeats, uneven), {f"least p, {found.test}": p})


def keystream_finding(pairs: Sequence[tuple[Case, Case]]) -> Finding:
    """How many images the keystream of another, which the attacker knows, begins to open."""
    hits = sum(keys.keystream_moved(known, target) > 0 for known, target in pairs)
    return counted("keystream of a known image", Holds.PAIRS, "images opened", hits, len(pairs))


class Store:
    """Findings as they come, in a folder that belongs to one plan."""

    def __init__(self, folder: Path | None, plan: dict[str, object]) -> None:
        self._folder = folder
        self._plan = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def each(self, named: Iterable[tuple[str, Job]]) -> Iterator[Result]:
        """The result of each job, made now or before."""
        for name, job in named:
            yield self.result(name, job)

    def result(self, name: str, job: Job) -> Result:
        """The result of one job."""
        if self._folder is None:
            return job()
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        path = self._folder / f"{self._plan}-{digest}.npz"
        if path.exists():
            with np.load(path) as data:
                pictures = [data[key] for key in sorted(data.files) if key != "finding"]
                return Result(Finding.from_dict(json.loads(str(data["finding"]))), pictures)
        result = job()
        out = io.BytesIO()
        arrays = {f"picture{k}": picture.astype(np.float32) for k, picture in enumerate(result.pictures)}
        np.savez_compressed(out, allow_pickle=False, finding=np.array(json.dumps(result.finding.as_dict())), **arrays)
        write_new(path, out.getvalue(), 0o600)
        return result

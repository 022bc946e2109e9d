"""The attack suite against each mechanism, on images of one shape of the largest corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from primis.attacks.attribute_inference import traits_of
from primis.attacks.mechanism import MECHANISMS, Attacked, Subject, attack
from primis.datasets.corpus import Corpus
from primis.datasets.sample import Sample
from primis.errors import UsageError
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.study.names import MechanismName
from primis.study.study import Study, spread

_LEAST = 8


@dataclass(frozen=True, eq=False)
class Measured:
    """What was reached against a mechanism.

    title: for people; dark: names of images whose low samples are bright.
    """

    name: MechanismName
    title: str
    attacked: Attacked
    dark: frozenset[str]
    facts: dict[str, str]


@dataclass(frozen=True, eq=False)
class Alike:
    """Grey images of one shape. owned, judged: those that attackers own and are judged on."""

    corpus: Corpus
    owned: list[Subject]
    judged: list[Subject]


def measure_study(study: Study) -> list[Measured]:
    """Each mechanism of the plan.

    Raises UsageError where no corpus has enough images of one shape.
    """
    alike = _alike(study)
    return [_of_mechanism(study, name, alike) for name in study.plan.mechanisms]


def _of_mechanism(study: Study, name: MechanismName, alike: Alike) -> Measured:
    mechanism, budget = MECHANISMS[name], study.plan.budget
    attacked = attack(
        mechanism,
        alike.owned,
        alike.judged,
        study.codec(mechanism.preset),
        budget,
        study.parts.under(name),
        study.progress,
    )
    own = {
        "attackers own": f"{len(alike.owned)} images of split train",
        "budget": f"{budget.steps} steps of {budget.batch} images for each network",
    }
    facts = study.of([alike.corpus], len(alike.judged), **own)
    dark = frozenset(s.name for s in alike.judged if s.image.photometric == "MONOCHROME1")
    return Measured(name, mechanism.name, attacked, dark, facts)


def _alike(study: Study) -> Alike:
    """Of the shape that is most common among test images."""
    for corpus in study.largest_first:
        owned = _subjects(study, corpus, "train", study.plan.owned)
        judged = _subjects(study, corpus, "test", study.plan.judged)
        shapes = Counter(subject.image.shape for subject in judged)
        if not shapes:
            continue
        shape = shapes.most_common(1)[0][0]
        alike = Alike(corpus, _of_shape(owned, shape), _of_shape(judged, shape))
        if min(len(alike.owned), len(alike.judged)) >= _LEAST:
            return alike
    raise UsageError(
        f"no corpus has {_LEAST} grey images of one shape in each of its splits train and test"
    )


def _subjects(study: Study, corpus: Corpus, part: str, most: int) -> list[Subject]:
    """Some images of a split: grey ones that are not flat."""
    samples = spread([(corpus, s) for s in corpus.samples if s.split == part], most)
    found = []
    for _, sample, image in study.read(samples, "attacks: reading", _read):
        if image.shape[3] == 1 and np.ptp(image.pixels):
            traits = traits_of(sample.label, sample.sex, sample.age)
            person = f"{corpus.name} {sample.patient}"
            found.append(Subject(image, sample.name, person, traits))
    return found


def _read(sample: Sample) -> Image:
    return read(sample.file)[0]


def _of_shape(subjects: Sequence[Subject], shape: tuple[int, ...]) -> list[Subject]:
    return [subject for subject in subjects if subject.image.shape == shape]

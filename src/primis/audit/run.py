"""Attack a release with all that the suite has, within minutes, on its owner's own images.

1  open the release with the owner's key: that is how the harness knows what is true
2  a part of the images, by patient, is what the attackers own; they are judged on the rest
3  controls that must be broken: an audit whose attackers are blind is no audit
4  every attack of the suite; a result each, kept as it comes, so that a stopped audit goes on. What
   takes no training comes first, then the steps of the networks are decided (`schedule.py`)
5  a page and a JSON, with a verdict (`verdict.py`)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from primis.attacks.harness import (
    MINUTES,
    Budget,
    Harness,
    JudgedCase,
    OwnedCase,
    Sharer,
    View,
)
from primis.audit.cases import LEAST_JUDGED, Opened, alike, open_cases, read_table, split
from primis.audit.course import Attackers, Course, Ran
from primis.audit.facts import facts, public
from primis.audit.pictures import rows_of
from primis.audit.report import Report
from primis.bundle.settings import Protection
from primis.codec import Codec
from primis.imaging.image import Image
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.serial import Serial
from primis.keys.identity import Signer
from primis.metrics.part import Parts
from primis.metrics.progress import Progress, silent
from primis.network.checkpoint import find_checkpoint
from primis.release.reader import Release

_SHOWN, _BEST = 4, 2


def audit(
    release: Release,
    signer: Signer,
    *,
    originals: Path | None = None,
    table: Path | None = None,
    models: tuple[Path, ...] = (),
    budget: Budget = MINUTES,
    minutes: float | None = None,
    folder: Path | None = None,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> Report:
    """Attack a release. originals: the folder it was shared from, by the same names; else the
    restored images stand for them. table: CSV with columns file, and some of patient, label, sex,
    age. minutes: decides the steps of the budget. folder: where results are kept as they come.
    executor: what runs the attacks, by default this process.

    Raises UsageError where key, table or originals do not fit the release.
    """
    start = time.monotonic()
    codec = Codec(find_checkpoint(release.manifest.models[0], models))
    told = read_table(table) if table else {}
    headers = {i: release.header(i) for i in release.ids}
    chosen = alike(headers)
    opened = open_cases(release, chosen, signer, codec, originals, told, progress)
    own, judged = split(opened.cases, release.manifest.release)
    enough = _is_enough(own, judged)
    # attackers have no file to seal
    settings = replace(headers[chosen[0]].settings, original_bits=0.0)
    sharer = Sharer(settings, codec)
    again = _shared_again(judged, opened.images, sharer, progress) if enough else []
    owned = _owned(own, opened.images, sharer, progress, again=enough)
    harness = Harness(codec, settings, owned, judged, budget, report=progress)
    attackers = Attackers(harness, again, [*headers.values()], enough)
    course = Course(attackers, executor or Serial(), start, minutes)
    plan = _plan(release, budget, minutes, own, judged)
    done = course.run(Parts(folder, plan), progress)
    told_of = facts(release, harness, originals, opened.unknown, done, enough=enough)
    return _report(told_of, done, harness, opened, public(release, headers), enough=enough)


def _is_enough(own: Sequence[JudgedCase], judged: Sequence[JudgedCase]) -> bool:
    """Whether there are images to learn from and to judge, and several patients: all of one would
    be one observation, without any interval."""
    several = len({case.patient for case in judged}) > 1
    return len(judged) >= LEAST_JUDGED and len(own) >= LEAST_JUDGED and several


def _plan(
    release: Release,
    budget: Budget,
    minutes: float | None,
    own: Sequence[JudgedCase],
    judged: Sequence[JudgedCase],
) -> dict[str, object]:
    """What results that are kept belong to."""
    people = [[case.name, case.patient, dict(case.traits)] for case in (*own, *judged)]
    return {
        "release": release.digest,
        "budget": repr(budget),
        "minutes": minutes,
        "primis": version("primis"),
        "split": [len(own), people],
        "originals": [hashlib.sha256(case.pixels.tobytes()).hexdigest() for case in judged],
    }


def _shared_again(
    cases: Sequence[JudgedCase], images: Mapping[str, Image], sharer: Sharer, progress: Progress
) -> list[View]:
    views = []
    for number, case in enumerate(cases):
        progress("sharing the judged images once more", number, len(cases))
        views.append(sharer.view(images[case.name], case.name))
    return views


def _owned(
    cases: Sequence[JudgedCase],
    images: Mapping[str, Image],
    sharer: Sharer,
    progress: Progress,
    *,
    again: bool,
) -> list[OwnedCase]:
    """Images in the attackers' hands; at level keyed shared once more by them."""
    if not again or sharer.settings.protection != Protection.KEYED:
        return [case.owned() for case in cases]
    owned = []
    for number, case in enumerate(cases):
        progress("sharing the attackers' images once more", number, len(cases))
        owned.append(case.owned((sharer.view(images[case.name], case.name),)))
    return owned


def _report(
    facts: dict[str, str],
    done: Ran,
    harness: Harness,
    opened: Opened,
    public: dict[str, str],
    *,
    enough: bool,
) -> Report:
    """The results, with pictures if images were attacked."""
    images = opened.images
    dark = {c.name for c in harness.judged if images[c.name].photometric == "MONOCHROME1"}
    best = rows_of(harness, done.attacks, dark, shown=_SHOWN, best=_BEST) if enough else []
    every = rows_of(harness, done.attacks, dark, shown=1) if enough else []
    return Report(
        facts,
        [control.result for control in done.controls],
        [attack.result for attack in done.attacks],
        best,
        attacked=enough,
        leaky=harness.open_code,
        every=every,
        public=public,
    )

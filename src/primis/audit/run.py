"""Attack a release with all that the suite has, within minutes, on its owner's own images.

1  open the release with the owner's key: that is how the harness knows what is true
2  a part of the images, by patient, is what the attackers own; they are judged on the rest
3  controls that must be broken: an audit whose attackers are blind is no audit
4  every attack of the suite; a result each, kept as it comes, so that a stopped audit goes on. What
   takes no training comes first, then the steps of the networks are decided (`schedule.py`)
5  a page and a JSON, with a verdict (`verdict.py`)
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import numpy as np

from primis.attacks.attribute_inference import traits_of
from primis.attacks.controls import control_trainers, controls
from primis.attacks.harness import (
    MINUTES,
    WINDOW,
    Budget,
    Harness,
    JudgedCase,
    OwnedCase,
    Sharer,
    View,
    middle,
    open_case,
)
from primis.attacks.suite import Job, Outcome, cryptographic_jobs, jobs, outcome, trainers
from primis.audit.pictures import rows_of
from primis.audit.report import Report
from primis.audit.schedule import Schedule, cost_of, decide
from primis.bundle.container import write_bundle
from primis.bundle.geometry import Geometry
from primis.bundle.header import Header
from primis.bundle.settings import Protection, Settings
from primis.codec import Codec
from primis.datasets.tables import sex, years
from primis.errors import UsageError
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.imaging.padding import filled_frames, find_padding
from primis.keys.identity import Signer
from primis.keys.seal import image_secrets, release_secrets
from primis.keys.tier import Tier
from primis.metrics.part import Part, Parts
from primis.metrics.progress import Progress, silent
from primis.network.checkpoint import find_checkpoint
from primis.release.owner import owner_scope
from primis.release.reader import Release
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import read_image

LEAST_JUDGED = 8
"""Fewer images than this prove nothing: any order of so few is too likely."""
LEAST_SIDE = 7
"""Pixels of a side that pictures are compared by: a window of SSIM."""
_MOST_TRAINED, _MOST_JUDGED = 120, 40
_SHOWN, _BEST = 4, 2
_SIGNS = 0.95
"""Part of the code's signs that the right original has; any other has about half."""


@dataclass(frozen=True)
class Who:
    """What a table or a DICOM header says of an image."""

    patient: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Opened:
    """The images that are attacked, as the harness knows them, and their pixels, by id; unknown: of
    how many nobody knows the patient."""

    cases: list[JudgedCase]
    images: dict[str, Image]
    unknown: int


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
    progress: Progress = silent,
) -> Report:
    """Attack a release. originals: the folder it was shared from, by the same names; else the
    restored images stand for them. table: CSV with columns file, and some of patient, label, sex,
    age. minutes: decides the steps of the budget. folder: where results are kept as they come.

    Raises UsageError where key, table or originals do not fit the release.
    """
    start = time.monotonic()
    codec = Codec(find_checkpoint(release.manifest.models[0], models))
    told = _table(table) if table else {}
    headers = {i: release.header(i) for i in release.ids}
    chosen = _alike(headers)
    opened = _cases(release, chosen, signer, codec, originals, told, progress)
    own, judged = _split(opened.cases, release.manifest.release)
    enough = _is_enough(own, judged)
    # attackers have no file to seal
    settings = replace(headers[chosen[0]].settings, original_bits=0.0)
    sharer = Sharer(settings, codec)
    again = _shared_again(judged, opened.images, sharer, progress) if enough else []
    owned = _owned(own, opened.images, sharer, progress, again=enough)
    harness = Harness(codec, settings, owned, judged, budget, report=progress)
    course = _Course(harness, again, [*headers.values()], enough, start, minutes)
    plan = _plan(release, budget, minutes, own, judged)
    done = course.run(Parts(folder, plan), progress)
    facts = _facts(release, harness, originals, opened.unknown, done, enough=enough)
    return _report(facts, done, harness, opened, _public(release, headers), enough=enough)


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


@dataclass(frozen=True, eq=False)
class _Done:
    """budget: with the steps that were decided; schedule: None where steps were given."""

    controls: list[Outcome]
    attacks: list[Outcome]
    budget: Budget
    schedule: Schedule | None


@dataclass(eq=False)
class _Course:
    """What is run, and in which order. start: monotonic seconds."""

    harness: Harness
    again: Sequence[View]
    headers: Sequence[Header]
    enough: bool
    start: float
    minutes: float | None
    _judging: float = 0.0

    def run(self, parts: Parts, progress: Progress) -> _Done:
        """Every control and attack: first those that take no steps, then the others."""
        checks, attacks = self._jobs(self.harness)
        done = self._outcomes(parts, [j for j in (*checks, *attacks) if not j.trains], progress)
        schedule = self._schedule(parts, progress) if self.enough and self.minutes else None
        budget = self.harness.budget
        if schedule:
            budget = replace(budget, steps=schedule.steps)
        trained_checks, trained = self._jobs(replace(self.harness, budget=budget))
        later = [job for job in (*trained_checks, *trained) if job.trains]
        done |= self._outcomes(parts.under(f"{budget.steps} steps"), later, progress)
        named = [[done[job.name] for job in part] for part in (checks, attacks)]
        return _Done(named[0], named[1], budget, schedule)

    def _jobs(self, harness: Harness) -> tuple[list[Job], list[Job]]:
        """Controls and attacks."""
        learned = harness.budget if self.enough else None
        checks = controls(harness.codec, harness.settings, learned, harness.report)
        if not self.enough:
            return checks, list(cryptographic_jobs(harness, self.headers))
        return checks, list(jobs(harness, self.again, self.headers))

    def _outcomes(
        self, parts: Parts, waiting: Iterable[Job], progress: Progress
    ) -> dict[str, Outcome]:
        done = {}
        for job in waiting:
            start = time.monotonic()
            done[job.name] = outcome(parts, _announced(job, progress))
            if done[job.name].pictures and not job.trains:
                taken = time.monotonic() - start
                self._judging = min(self._judging or taken, taken)
        return done

    def _schedule(self, parts: Parts, progress: Progress) -> Schedule:
        """Decided now, or when the audit was started."""
        part = parts.get("schedule", lambda: Part(asdict(self._decide(progress))))
        return Schedule(**part.body)

    def _decide(self, progress: Progress) -> Schedule:
        assert self.minutes is not None
        harness = self.harness
        tried = [(attack, harness, self._judging) for attack in trainers(harness)]
        small = control_trainers(harness.codec, harness.settings, harness.budget)
        tried += [(attack, on, self._judging) for attack, on in small]
        costs = []
        for number, (attack, on, judging) in enumerate(tried):
            progress("measuring how long a step takes", number, len(tried))
            costs.append(cost_of(attack, on, judging))
        return decide(self.minutes, time.monotonic() - self.start, costs)


def _announced(job: Job, progress: Progress) -> Job:
    """The job, told of when it begins."""

    def run() -> Outcome:
        progress(job.name, 0, 1)
        return job.run()

    return job._replace(run=run)


def _cases(
    release: Release,
    chosen: list[str],
    signer: Signer,
    codec: Codec,
    originals: Path | None,
    known: dict[str, Who],
    progress: Progress,
) -> Opened:
    """All images that were chosen, or as many as an audit takes. Blank ones are left out.

    Raises UsageError where an original is not the image that was shared, or where a table names
    none of the images.
    """
    keys = release_secrets(owner_scope(release, signer).secret, "original")
    most = min(len(chosen), _MOST_TRAINED + _MOST_JUDGED)
    chosen = [chosen[int(k)] for k in np.linspace(0, len(chosen) - 1, most).round()]
    opened, named = Opened([], {}, 0), 0
    for number, bundle_id in enumerate(chosen):
        progress("opening the release", number, most)
        bundle = OpenedBundle(*release.sections(bundle_id), image_secrets(keys, bundle_id))
        restored, said = read_image(bundle, Tier.DIAGNOSTIC, lambda _: codec)
        name = said or bundle_id
        image = _original(originals, name) if originals else restored
        told = known.get(name) or known.get(PurePosixPath(name).name)
        named += told is not None
        who = _merged(told, _who(image))
        case = _case(bundle, codec, image, bundle_id, who, name)
        if originals:
            _require_shared(case, image, bundle.header, codec, originals / name)
        if np.ptp(case.pixels):
            opened.cases.append(case)
            opened.images[bundle_id] = image
            opened = replace(opened, unknown=opened.unknown + (not who.patient))
    if known and not named:
        raise UsageError("the table names none of the images of the release")
    if not opened.cases:
        raise UsageError("all images of the release are blank: there is nothing to attack")
    return opened


def _case(
    bundle: OpenedBundle, codec: Codec, image: Image, bundle_id: str, who: Who, name: str
) -> JudgedCase:
    """The harness's knowledge of one image."""
    data = write_bundle(bundle.header, bundle.whole_parts, alone=True)
    patient = who.patient or name
    return open_case(
        data, bundle.secrets, codec, image, name=bundle_id, patient=patient, traits=who.traits
    )


def _merged(told: Who | None, seen: Who) -> Who:
    """A table's word before the header's."""
    told = told or Who()
    return Who(told.patient or seen.patient, {**seen.traits, **told.traits})


def _require_shared(
    case: JudgedCase, image: Image, header: Header, codec: Codec, path: Path
) -> None:
    """Raise UsageError where an original is not the image that a case was made of."""
    if not _is_shared(case, _as_encoded(image, header), codec):
        raise UsageError(f'original "{path}" is not the image that was shared under this name')


def _as_encoded(image: Image, header: Header) -> np.ndarray:
    """The first frame as it was encoded: without padding, unless it was sealed exactly."""
    padding = None if header.settings.exact_bits else find_padding(image)
    return next(iter(filled_frames(image, padding)))


def _is_shared(case: JudgedCase, frame: np.ndarray, codec: Codec) -> bool:
    """Whether a frame is the one that a case was made of: it has the range and, encoded again, the
    signs of its code."""
    z, scale = codec.encode(frame)
    z = z[0][:, *(middle(side) for side in z.shape[2:])]
    true = case.levels != 0
    same = z.shape == case.levels.shape and (scale.low, scale.high) == (case.low, case.high)
    return same and (
        not true.any() or float(np.mean(np.sign(z[true]) == np.sign(case.levels[true]))) > _SIGNS
    )


def _alike(headers: dict[str, Header]) -> list[str]:
    """The largest group of grey images that can be attacked together: one window of pixels, one
    choice of settings."""
    grey = {i: h for i, h in headers.items() if h.geometry.channels == 1}
    if not grey:
        raise UsageError("the release has no grey image: colour is not attacked yet")
    kinds = {i: (h.settings, _window(h.geometry)) for i, h in grey.items()}
    kinds = {i: kind for i, kind in kinds.items() if min(kind[1]) >= LEAST_SIDE}
    if not kinds:
        raise UsageError(
            f"the release has no grey image of at least {LEAST_SIDE} x {LEAST_SIDE} pixels: "
            "smaller ones cannot be compared"
        )
    common = Counter(kinds.values()).most_common(1)[0][0]
    return [i for i, kind in kinds.items() if kind == common]


def _window(geometry: Geometry) -> tuple[int, int]:
    """Pixels of the attacked part, (H, W)."""
    h, w = (min(pixels, WINDOW * geometry.stride) for pixels in (geometry.height, geometry.width))
    return h, w


def _original(folder: Path, name: str) -> Image:
    path = folder / name
    if not path.is_file():
        raise UsageError(
            f'original "{path}" does not exist, '
            "expected the folder that the release was shared from"
        )
    return read(path)[0]


def _table(path: Path) -> dict[str, Who]:
    """What a table says of each file, by its name and, if it is unique, the last part of it."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if row["file"]]
        last = Counter(PurePosixPath(row["file"]).name for row in rows)
        whole = {row["file"]: _told(row) for row in rows}
        return {
            PurePosixPath(n).name: w for n, w in whole.items() if last[PurePosixPath(n).name] == 1
        } | whole
    except FileNotFoundError:
        raise UsageError(f'table "{path}" does not exist') from None
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error):
        raise UsageError(
            f'table "{path}" has no column "file", with commas between columns'
        ) from None


def _told(row: dict[str, str]) -> Who:
    said = traits_of(row.get("label"), sex(row.get("sex") or ""), years(row.get("age") or ""))
    return Who(row.get("patient") or "", said)


def _who(image: Image) -> Who:
    """Patient, sex and age from a DICOM header: compared only, never written."""
    if image.kind != "dicom":
        return Who()
    import pydicom

    data = pydicom.dcmread(io.BytesIO(image.header), force=True)
    of = str(data.get("PatientSex", ""))
    return Who(
        str(data.get("PatientID", "")),
        traits_of(None, sex(of), years(str(data.get("PatientAge", "")))),
    )


def _split(cases: list[JudgedCase], seed: str) -> tuple[list[JudgedCase], list[JudgedCase]]:
    """(what attackers own, what they are judged on), patients apart; a quarter is judged, half of a
    small release."""
    rng = np.random.default_rng(int(seed, 16))
    patients = list({case.patient: None for case in cases})
    rng.shuffle(patients)
    wanted = min(_MOST_JUDGED, max(len(cases) // 4, min(len(cases) // 2, 20)))
    judged: list[JudgedCase] = []
    for patient in patients:
        own = [case for case in cases if case.patient == patient]
        if len(judged) + len(own) <= 1.25 * wanted:
            judged += own if len(judged) < wanted else []
    if not judged:  # all of one patient: nobody to learn from
        return [], cases
    names = {case.name for case in judged}
    return [case for case in cases if case.name not in names], judged


def _public(release: Release, headers: Mapping[str, Header]) -> dict[str, str]:
    """What anyone reads of a release without a key."""
    manifest = release.manifest
    shapes = Counter(_shape(header.geometry) for header in headers.values())
    settings = dict.fromkeys(_settings(header.settings) for header in headers.values())
    labels = release.labels()
    return {
        "images": f"{len(headers)}",
        "dimensions": ", ".join(f"{count} of {shape}" for shape, count in shapes.most_common()),
        "labels of recipients": ", ".join(labels) or "none",
        "dates": f"last changed {manifest.created}, version {manifest.version}",
        "signer": manifest.signer,
        "model": ", ".join(manifest.models),
        "settings": "; ".join(settings),
    }


def _shape(geometry: Geometry) -> str:
    shape = f"{geometry.width} x {geometry.height}"
    frames = f", {geometry.frames} frames" if geometry.frames > 1 else ""
    return shape + frames + (f", {geometry.channels} channels" if geometry.channels > 1 else "")


def _settings(s: Settings) -> str:
    return f"level {s.protection}, S_x = {s.sparsity:g}, S_n = {s.decoys:g}"


def _report(
    facts: dict[str, str],
    done: _Done,
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


def _facts(
    release: Release,
    harness: Harness,
    originals: Path | None,
    unknown: int,
    done: _Done,
    *,
    enough: bool,
) -> dict[str, str]:
    own, judged, manifest = len(harness.owned), len(harness.judged), release.manifest
    apart = "patients apart"
    if unknown:
        apart += f", but {unknown} files of unknown patients count as one each"
    attackers = f"attackers own {own}, judged on {judged}, {apart}"
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    steps, schedule = done.budget.steps, done.schedule
    budget = f"{steps} steps of {done.budget.batch} images for each network"
    if schedule:
        budget += f", for a budget of {schedule.minutes:g} minutes"
    facts = {
        "release": f"{manifest.release}, signed {manifest.created} by {manifest.signer[:16]}…",
        "level": _settings(harness.settings).removeprefix("level "),
        "images": f"{len(release.ids)} in the release; {attackers}",
        "truth": "the originals" if originals else "the images as restored at tier diagnostic",
        "budget": budget,
        "made with": f"primis {version('primis')}, {now}",
    }
    if left_out := len(release.ids) - own - judged:
        facts["left out"] = (
            f"{left_out} {'image is' if left_out == 1 else 'images are'} left out: blank, in "
            "colour, too small, of another shape or other settings, or more than an audit takes"
        )
    if schedule and schedule.note:
        facts["budget not kept"] = schedule.note
    if not enough:
        facts["note"] = (
            "too few images for attackers that learn, patients apart: at least "
            f"{LEAST_JUDGED} to learn from and {LEAST_JUDGED} to be judged on"
        )
    return facts

"""Attack a release with all that the suite has, within minutes, on its owner's own images.

1  open the release with the owner's key: that is how the harness knows what is true
2  a part of the images, by patient, is what the attackers own; they are judged on the rest
3  controls that must be found broken: an audit whose attackers are blind is no audit
4  every attack of the suite; a finding each, kept as it comes, so that a stopped audit goes on
5  a page and a JSON, with a verdict for each attacker
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import numpy as np

from primis.attacks.controls import controls
from primis.attacks.labels import traits_of
from primis.attacks.protocol import (
    MINUTES,
    WINDOW,
    Budget,
    Case,
    View,
    World,
    middle,
    open_case,
    share_case,
)
from primis.attacks.suite import jobs, jobs_without_pictures, kept
from primis.audit.findings import Report
from primis.audit.pictures import rows_of
from primis.bundle.container import write_bundle
from primis.bundle.geometry import Geometry
from primis.bundle.header import Header
from primis.codec import Codec
from primis.datasets.tables import sex, years
from primis.errors import UsageError
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.keys.identity import Signer
from primis.keys.seal import image_secrets, release_secrets
from primis.keys.tier import Tier
from primis.metrics.part import Parts
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

Progress = Callable[[str, int, int], None]
"""(what, done, of how many)."""


@dataclass(frozen=True)
class Who:
    """What a table or a DICOM header says of an image."""

    patient: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)


def audit(
    release: Release,
    signer: Signer,
    *,
    originals: Path | None = None,
    table: Path | None = None,
    models: tuple[Path, ...] = (),
    budget: Budget = MINUTES,
    folder: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Attack a release. originals: the folder it was shared from, by the same names; else the restored images stand for
    them. table: CSV with columns file, and some of patient, label, sex, age. folder: where findings are kept as they come.

    Raises UsageError where key, table or originals do not fit the release.
    """
    codec = Codec(find_checkpoint(release.manifest.models[0], models))
    told = _table(table) if table else {}
    headers = {i: release.header(i) for i in release.ids}
    chosen = _alike(headers)
    cases, images, unknown = _cases(release, chosen, signer, codec, originals, told, progress)
    train, test = _split(cases, release.manifest.release)
    settings = replace(
        release.header(chosen[0]).settings, original_bits=0.0
    )  # attackers have no file to seal
    enough = len(test) >= LEAST_JUDGED and len(train) >= LEAST_JUDGED

    def share(case: Case) -> View:
        return share_case(images[case.name], settings, codec, name=case.name).view

    if enough and settings.protection == "keyed":
        train = [replace(case, others=(share(case),)) for case in train]
    world = World(codec, settings, train, test, budget, report=progress)
    people = [[case.name, case.patient, dict(case.traits)] for case in (*train, *test)]
    plan: dict[str, object] = {
        "release": release.digest,
        "budget": repr(budget),
        "primis": version("primis"),
        "split": [len(train), people],
    }
    parts = Parts(
        folder,
        plan | {"originals": [hashlib.sha256(case.pixels.tobytes()).hexdigest() for case in test]},
    )
    checks = [
        result.finding
        for result in kept(parts, controls(codec, settings, budget if enough else None))
    ]
    again = [share(case) for case in test] if enough else []
    known = [*headers.values()]
    results = list(
        kept(parts, jobs(world, again, known) if enough else jobs_without_pictures(world, known))
    )
    facts = _facts(release, world, originals, unknown, enough=enough)
    dark = {case.name for case in test if images[case.name].photometric == "MONOCHROME1"}
    rows = rows_of(world, results, dark, shown=_SHOWN, best=_BEST) if enough else []
    every = rows_of(world, results, dark, shown=1) if enough else []
    leaks = settings.protection == "sca"
    return Report(
        facts, checks, [r.finding for r in results], rows, attacked=enough, leaks=leaks, every=every
    )


def _cases(
    release: Release,
    chosen: list[str],
    signer: Signer,
    codec: Codec,
    originals: Path | None,
    known: dict[str, Who],
    progress: Progress,
) -> tuple[list[Case], dict[str, Image], int]:
    """The images that are attacked, as the harness knows them, and their pixels, by id: all that were chosen, or as many
    as an audit takes; and of how many nobody knows the patient. Blank ones are left out.

    Raises UsageError where an original is not the image that was shared, or where a table names none of the images.
    """
    keys = release_secrets(owner_scope(release, signer).secret, "original")
    most = min(len(chosen), _MOST_TRAINED + _MOST_JUDGED)
    chosen = [chosen[int(k)] for k in np.linspace(0, len(chosen) - 1, most).round()]
    cases, images, unknown, named = [], {}, 0, 0
    for number, bundle_id in enumerate(chosen):
        progress("opening the release", number, most)
        own = image_secrets(keys, bundle_id)
        bundle = OpenedBundle(*release.sections(bundle_id), own)
        data = write_bundle(bundle.header, bundle.parts, alone=True)
        restored, said = read_image(bundle, Tier.DIAGNOSTIC, lambda _: codec)
        name = said or bundle_id
        image = _original(originals, name) if originals else restored
        told, seen = known.get(name) or known.get(PurePosixPath(name).name), _who(image)
        named += told is not None
        patient = (told.patient if told else "") or seen.patient
        traits = {**seen.traits, **(told.traits if told else {})}
        case = open_case(
            data,
            own,
            codec,
            image,
            name=bundle_id,
            patient=patient or name,
            traits=traits,
            judged=True,
        )
        if originals and not _is_shared(case, image, codec):
            raise UsageError(
                f'original "{originals / name}" is not the image that was shared under this name'
            )
        if np.ptp(case.pixels):
            cases.append(case)
            images[bundle_id] = image
            unknown += not patient
    if known and not named:
        raise UsageError("the table names none of the images of the release")
    if not cases:
        raise UsageError("all images of the release are blank: there is nothing to attack")
    return cases, images, unknown


def _is_shared(case: Case, image: Image, codec: Codec) -> bool:
    """Whether an image is the one that a case was made of: it has the range and, encoded again, the signs of its code."""
    z, scale = codec.encode(image.pixels[0])
    z = z[0][:, *(middle(side) for side in z.shape[2:])]
    true = case.levels != 0
    same = z.shape == case.levels.shape and (scale.low, scale.high) == (case.low, case.high)
    return same and (
        not true.any() or float(np.mean(np.sign(z[true]) == np.sign(case.levels[true]))) > _SIGNS
    )


def _alike(headers: dict[str, Header]) -> list[str]:
    """The largest group of grey images that can be attacked together: one window of pixels, one choice of settings."""
    grey = {i: h for i, h in headers.items() if h.geometry.channels == 1}
    if not grey:
        raise UsageError("the release has no grey image: colour is not attacked yet")
    kinds = {i: (h.settings, _window(h.geometry)) for i, h in grey.items()}
    kinds = {i: kind for i, kind in kinds.items() if min(kind[1]) >= LEAST_SIDE}
    if not kinds:
        raise UsageError(
            f"the release has no grey image of at least {LEAST_SIDE} x {LEAST_SIDE} pixels: smaller ones cannot be compared"
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
            f'original "{path}" does not exist, expected the folder that the release was shared from'
        )
    return read(path)[0]


def _table(path: Path) -> dict[str, Who]:
    """What a table says of each file, by its name and, where no two share it, by the last part of its name."""
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
    """Patient, sex and age of a DICOM image, as its header names them: never written anywhere, only compared."""
    if image.kind != "dicom":
        return Who()
    import pydicom

    data = pydicom.dcmread(io.BytesIO(image.header), force=True)
    of = str(data.get("PatientSex", ""))
    return Who(
        str(data.get("PatientID", "")),
        traits_of(None, sex(of), years(str(data.get("PatientAge", "")))),
    )


def _split(cases: list[Case], seed: str) -> tuple[list[Case], list[Case]]:
    """(what attackers own, what they are judged on), patients apart; a quarter is judged, half of a small release."""
    rng = np.random.default_rng(int(seed, 16))
    patients = list({case.patient: None for case in cases})
    rng.shuffle(patients)
    wanted = min(_MOST_JUDGED, max(len(cases) // 4, min(len(cases) // 2, 20)))
    judged: list[Case] = []
    for patient in patients:
        own = [case for case in cases if case.patient == patient]
        if len(judged) + len(own) <= 1.25 * wanted:
            judged += own if len(judged) < wanted else []
    if not judged:  # all of one patient: nobody to learn from
        return [], cases
    names = {case.name for case in judged}
    return [case for case in cases if case.name not in names], judged


def _facts(
    release: Release, world: World, originals: Path | None, unknown: int, *, enough: bool
) -> dict[str, str]:
    s, manifest = world.settings, release.manifest
    apart = (
        f"patients apart, but {unknown} files of unknown patients count as one each"
        if unknown
        else "patients apart"
    )
    attackers = f"attackers own {len(world.train)}, judged on {len(world.test)}, {apart}"
    facts = {
        "release": f"{manifest.release}, signed {manifest.created} by {manifest.signer[:16]}…",
        "level": f"{s.protection}, S_x = {s.sparsity:g}, S_n = {s.decoys:g}",
        "model": manifest.models[0][:12],
        "images": f"{len(release.ids)} in the release; {attackers}",
        "truth": "the originals" if originals else "the images as restored at tier diagnostic",
        "budget": f"{world.budget.steps} steps of {world.budget.batch} images for each network",
        "made with": f"primis {version('primis')}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    }
    if left_out := len(release.ids) - len(world.train) - len(world.test):
        facts["left out"] = (
            f"{left_out} images: blank, in colour, too small, of another shape or other settings, or more than an audit takes"
        )
    if not enough:
        facts["note"] = (
            f"too few images for attackers that learn, patients apart: at least {LEAST_JUDGED} to learn from and "
            f"{LEAST_JUDGED} to be judged on"
        )
    return facts

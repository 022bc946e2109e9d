"""The images of a release, as the harness knows them: opened with the owner's key, with what a
table or a header says of each, and dealt to attackers and judge."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from primis.attacks.attribute_inference import traits_of
from primis.attacks.harness import WINDOW, JudgedCase, middle, open_case
from primis.bundle.container import write_bundle
from primis.bundle.geometry import Geometry
from primis.bundle.header import Header
from primis.codec import Codec, Scale
from primis.datasets.tables import sex, years
from primis.errors import UsageError
from primis.imaging.files import read
from primis.imaging.image import Image
from primis.imaging.padding import filled_frames, find_padding
from primis.imaging.stretch import find_stretch
from primis.keys.identity import Signer
from primis.keys.seal import image_secrets, release_secrets
from primis.keys.tier import Tier
from primis.metrics.progress import Progress
from primis.release.owner import owner_scope
from primis.release.reader import Release
from primis.sharing.groups import group_of, range_of
from primis.sharing.opened import OpenedBundle
from primis.sharing.restore import read_image

LEAST_JUDGED = 8
"""Fewer images than this prove nothing: any order of so few is too likely."""
LEAST_SIDE = 7
"""Pixels of a side that pictures are compared by: a window of SSIM."""
_MOST_TRAINED, _MOST_JUDGED = 120, 40
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


def open_cases(
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
            frames = _as_encoded(image, bundle)
            _require_shared(case, frames, codec, originals / name)
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
    case: JudgedCase, frames: Sequence[np.ndarray], codec: Codec, path: Path
) -> None:
    """Raise UsageError where an original is not the image that a case was made of. frames: as of
    `_is_shared`."""
    if not _is_shared(case, frames, codec):
        raise UsageError(f'original "{path}" is not the image that was shared under this name')


def _as_encoded(image: Image, bundle: OpenedBundle) -> list[np.ndarray]:
    """The first frame, and those coded with it, as they were encoded: without padding and
    stretched, unless the image was sealed exactly."""
    if bundle.header.settings.exact_bits:
        return [image.pixels[0]]
    padding = find_padding(image)
    numbers, stretch = group_of(0, bundle.group, len(image.pixels)), find_stretch(image, padding)
    frames = filled_frames(image, padding, numbers)
    return list(frames if stretch is None else map(stretch.apply, frames))


def _is_shared(case: JudgedCase, frames: Sequence[np.ndarray], codec: Codec) -> bool:
    """Whether the first of some frames is the one that a case was made of: together they have its
    range and, encoded again, it has the signs of its code."""
    z, scale = codec.encode(frames[0], scale=Scale(*range_of(frames)))
    z = z[0][:, *(middle(side) for side in z.shape[2:])]
    true = case.levels != 0
    same = z.shape == case.levels.shape and (scale.low, scale.high) == (case.low, case.high)
    return same and (
        not true.any() or float(np.mean(np.sign(z[true]) == np.sign(case.levels[true]))) > _SIGNS
    )


def alike(headers: dict[str, Header]) -> list[str]:
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


def read_table(path: Path) -> dict[str, Who]:
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


def split(cases: list[JudgedCase], seed: str) -> tuple[list[JudgedCase], list[JudgedCase]]:
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

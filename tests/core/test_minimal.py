"""`--header minimal`: what recipients of tier diagnostic still get of a header, and what not."""

from __future__ import annotations

import io
from dataclasses import replace

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as PillowImage

import primis
from primis.cli.options import HeaderKept
from primis.cli.share import header_tier, identified
from primis.imaging.dicom_profile import identifying
from primis.imaging.files import parse_here, render
from primis.imaging.image import Derivation
from primis.imaging.minimal import minimal
from primis.imaging.phantom import phantom_dicom
from primis.jobs.share.look import Identifying
from primis.keys.identity import read_signer
from primis.keys.tier import Tier
from tests.conftest import TINY
from tests.core.test_series import lay_out, slice_file

ORIGIN = Derivation("", 10.0, "seed", "group")
EMPTY = {"PatientName", "PatientID", "StudyDate", "AccessionNumber"}


def as_dicom(data: bytes, derivation: Derivation = ORIGIN) -> pydicom.Dataset:
    image = minimal(parse_here(data))
    return pydicom.dcmread(io.BytesIO(render(image, derivation)))


def test_nothing_that_the_basic_profile_names_has_a_value_but_what_is_made_anew() -> None:
    data = slice_file(5, WindowCenter=40, WindowWidth=80, RescaleIntercept=-1024, RescaleSlope=1)
    image = minimal(parse_here(data))
    assert set(parse_here(data).identifying) >= EMPTY - {"AccessionNumber"}
    from primis.imaging.dicom import read_header

    assert identifying(read_header(image.header)) == ()
    shown = as_dicom(data)
    assert not any(shown[keyword].value for keyword in EMPTY)
    assert (shown.WindowCenter, shown.RescaleIntercept, shown.Modality) == (40, -1024, "CT")
    assert shown.ImagePositionPatient == [0, 0, 5]
    assert shown.PixelSpacing == [1, 1]
    assert not any(element.tag.is_private for element in shown.iterall())


def test_what_people_write_about_pixels_goes_too() -> None:
    written = {
        "WindowCenterWidthExplanation": "Doe, John",
        "PixelSpacingCalibrationDescription": "Doe, John",
        "RescaleType": "Doe, John",
    }
    image = parse_here(slice_file(5, **written))
    assert image.header.count(b"Doe, John") == 3
    assert b"Doe" not in minimal(image).header


def test_uids_are_made_anew_and_tell_nothing_of_the_source() -> None:
    source = pydicom.dcmread(io.BytesIO(slice_file(5)))
    one, other = (as_dicom(slice_file(5), replace(ORIGIN, seed=seed)) for seed in ("a", "b"))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert len({one[keyword].value, other[keyword].value, source[keyword].value}) == 3
    assert "SourceImageSequence" not in one


def test_samples_and_padding_are_as_with_a_whole_header() -> None:
    data = slice_file(5, PixelPaddingValue=0)
    whole, shown = parse_here(data), minimal(parse_here(data))
    assert (shown.pixels == whole.pixels).all()
    assert shown.padding_range == whole.padding_range


def test_nifti_keeps_its_affine_and_loses_its_texts() -> None:
    made = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1, 2, 3, 1]))
    made.header["descrip"] = b"Doe, John 1970"
    made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Doe, John"))
    image = parse_here(made.to_bytes())
    file = render(minimal(image), ORIGIN)
    assert b"Doe" in render(image, ORIGIN)
    assert b"Doe" not in file
    again = nibabel.Nifti1Image.from_bytes(file)
    assert (again.affine == made.affine).all()
    assert len(file) == len(made.to_bytes())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_goes(kind: str) -> None:
    exif = PillowImage.Exif()
    exif[0x010E] = "Doe, John"
    out = io.BytesIO()
    rng = np.random.default_rng(0)
    PillowImage.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(out, kind, exif=exif)
    image = parse_here(out.getvalue())
    assert b"Doe" in render(image, ORIGIN)
    assert b"Doe" not in render(minimal(image), ORIGIN)


def test_the_whole_header_stays_at_tier_original(keys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    files = {f"{z}.dcm": slice_file(z) for z in (0, 5)} | {"chest.dcm": phantom_dicom(48)}
    folder = lay_out(tmp_path / "in", files)
    primis.share(
        folder,
        tmp_path / "release",
        to=read_signer(keys["alice"]).recipient.text,
        owner=keys["owner"],
        model=TINY,
        with_original=True,
        minimal=True,
    )
    release = primis.open(tmp_path / "release", keys["alice"], models=[TINY])
    originals = {name: data for image in release for name, data in image.files().items()}
    assert originals == files
    shown = [
        pydicom.dcmread(io.BytesIO(data))
        for image in release
        for data in image.files("diagnostic").values()
    ]
    assert [one.PatientName for one in shown] == [""] * 3
    assert len({one.SOPInstanceUID for one in shown}) == 3
    assert len({one.StudyInstanceUID for one in shown}) == 2  # the series is one image


@pytest.mark.parametrize(
    ("granted", "kept", "expected"),
    [
        (Tier.PREVIEW, HeaderKept.WHOLE, None),
        (Tier.DIAGNOSTIC, HeaderKept.WHOLE, Tier.DIAGNOSTIC),
        (Tier.DIAGNOSTIC, HeaderKept.MINIMAL, None),
        (Tier.ORIGINAL, HeaderKept.MINIMAL, Tier.ORIGINAL),
    ],
)
def test_share_says_who_gets_what_identifies(granted, kept, expected, capsys) -> None:
    assert header_tier(granted, kept) is expected
    identified(Identifying(1, 2, {"PatientName": 1}, 0), expected)
    said = capsys.readouterr().err
    assert (f"recipients of tier {expected} get them" in said) == (expected is not None)

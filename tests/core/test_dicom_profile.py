"""What of a DICOM header may identify a patient: told by name, never by value."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from primis.imaging.dicom_profile import PRIVATE, _profile
from primis.imaging.files import parse, read
from primis.imaging.image import BURNED_IN
from primis.imaging.phantom import phantom_dicom
from tests.documented import blocks, commands, lay_out_images, reader


def identifying(change=lambda data: None) -> tuple[str, ...]:
    data = pydicom.dcmread(io.BytesIO(phantom_dicom(32)))
    change(data)
    out = io.BytesIO()
    data.save_as(out)
    return parse(out.getvalue()).identifying


def test_the_profile_has_what_the_standard_lists() -> None:
    """Of Table E.1-1 some that every reader knows, and none that says how to show an image."""
    names = {keyword_for_tag(tag) for tag in _profile()}
    assert "" not in names and len(names) > 600
    assert names > {
        "PatientName",
        "PatientID",
        "StudyDate",
        "InstitutionName",
        "DeviceSerialNumber",
    }
    assert not names & {"Rows", "PixelSpacing", "WindowCenter", "Modality", "RescaleSlope"}


def test_names_come_first_and_uids_last() -> None:
    found = identifying()
    assert found[0] == "PatientName"
    assert found[-1].endswith("UID")
    assert not {"Rows", "PixelSpacing", "Modality"} & {*found}


def test_what_is_empty_does_not_identify() -> None:
    def change(data: Dataset) -> None:
        data.PatientName = ""
        data.OtherPatientIDsSequence = []

    assert not {"PatientName", "OtherPatientIDsSequence"} & {*identifying(change)}


def test_what_lies_in_a_sequence_and_what_is_private_counts() -> None:
    def change(data: Dataset) -> None:
        item = Dataset()
        item.PerformingPhysicianName = "Doe^Jane"
        data.ReferencedPatientPhotoSequence = []
        data.ProcedureCodeSequence = [item]
        data.private_block(0x0099, "ours", create=True).add_new(1, "LO", "secret")

    found = identifying(change)
    assert {"PerformingPhysicianName", PRIVATE} <= {*found}
    assert "Doe" not in repr(found) and "secret" not in repr(found)


def test_a_file_that_says_it_was_de_identified_is_believed_but_for_its_pixels() -> None:
    def change(data: Dataset) -> None:
        data.PatientIdentityRemoved = "YES"

    assert identifying(change) == ()

    def burned(data: Dataset) -> None:
        change(data)
        data.BurnedInAnnotation = "YES"

    assert identifying(burned) == (BURNED_IN,)


def test_the_page_on_de_identification_runs_as_it_stands(tmp_path, capsys) -> None:
    """And no name of a patient is left in what is restored."""
    pytest.importorskip("dicognito")
    lay_out_images(tmp_path)
    page = "docs/how-to/de-identify.md"
    [shell], [python] = blocks(page, "sh"), blocks(page, "python")
    [de_identify] = [line for line in shell.splitlines() if line.startswith("python")]
    words = [sys.executable, *de_identify.split()[1:]]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    with reader(tmp_path, capsys) as call:
        call("keygen", "-o", "alice.key")
        [share] = commands(page)
        call(*share.words)
        exec(compile(python, page, "exec"), {})
        again = json.loads(call(*share.words[:-1], "again", "--json"))
        assert again["identifying"]["files"] == 0
        call("restore", "again", "-i", "alice.key", "-o", "restored")
    for path in (tmp_path / "restored").iterdir():
        assert b"Phantom^Chest" not in path.read_bytes()


REAL = Path(__file__).parents[3] / "shared" / "data" / "dicom"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_real_headers_identify_by_name_only() -> None:
    path = next(p for p in sorted(REAL.rglob("*")) if p.is_file() and p.suffix == ".dcm")
    image, _ = read(path)
    assert image.identifying and all(
        name.isidentifier() or name == PRIVATE for name in image.identifying
    )

"""Names of restored files: those that were sealed come from whoever made the release."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from primis.jobs.names import FreeNames, safe_name

ID = "0123456789abcdef" * 2

HOSTILE = (Path(__file__).parents[1] / "hostile_names.txt").read_text("utf-8").splitlines()
HOSTILE += ["x.dcm ", " x.dcm", "\u202egpj.exe", "x\u200b.dcm", "\x1b]0;x\x07.dcm", "a\nb.dcm"]


@pytest.mark.parametrize("kind", ["dicom", "png"])
def test_no_hostile_name_is_restored_as_it_is(kind: str) -> None:
    assert len(HOSTILE) >= 60
    for name in HOSTILE:
        safe = safe_name(name, ID, kind)
        path = PurePosixPath(safe)
        assert safe != name, name
        assert not path.is_absolute()
        for part in path.parts:
            assert part[0] not in ".-~=+@ ", (name, part)
            assert part[-1] not in ". "
            assert part.isprintable()
            assert not set(part) & set("/\\:*?\"<>|$`;&%!^'")
            assert part.partition(".")[0].casefold() not in ("con", "prn", "aux", "nul", "com1")
        assert path.suffix in ({".dcm", ""} if kind == "dicom" else {".png"}), name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("chest.dcm", "dicom"),
        ("series 1/IM000001", "dicom"),
        ("A/B/I0000001", "dicom"),
        ("1.2.840.113619.2.5", "dicom"),
        ("x.IMA", "dicom"),
        ("scan (2), left.JPG", "jpeg"),
        ("Ärzte/Röntgen.png", "png"),
        ("胸部.tiff", "tiff"),
        ("a.b.c.webp", "webp"),
    ],
)
def test_names_of_images_stay(name: str, kind: str) -> None:
    assert safe_name(name, ID, kind) == name


@pytest.mark.parametrize("name", [None, "", "...", "/", "x" * 300 + ".dcm", "/".join("a" * 40)])
def test_a_name_that_cannot_be_used_gives_way_to_the_id(name: str | None) -> None:
    assert safe_name(name, ID, "dicom") == f"{ID}.dcm"


def test_an_ending_of_another_kind_is_changed() -> None:
    assert safe_name("a/chest.png", ID, "dicom") == "a/chest.dcm"
    assert safe_name("chest", ID, "png") == "chest.png"


def test_what_programs_look_for_and_what_primis_makes_is_changed() -> None:
    for name in ("DICOMDIR", "MAKEFILE", "SETUP", "INSTALL"):
        assert safe_name(name, ID, "dicom") == f"{name}.dcm"
    assert safe_name("r.partial/x.dcm", ID, "dicom") == "r.partial_/x.dcm"


def test_no_two_files_get_one_name_in_whatever_case() -> None:
    names = FreeNames(["a/x.dcm"])
    assert names.take("A/X.dcm", ID, "dicom") == "A/X-01234567.dcm"
    assert names.take("A/X.dcm", ID, "dicom") == f"{ID}.dcm"
    assert names.take("A/X.dcm", ID, "dicom") == f"{ID}-1.dcm"  # of a series
    assert names.take("A/X.dcm", ID, "dicom") == f"{ID}-2.dcm"
    assert names.take("a", ID[::-1], "dicom") == "a-fedcba98"  # a folder has it
    assert names.take("a/x.dcm/y.dcm", "f" * 32, "dicom") == "f" * 32 + ".dcm"  # a file has it
    assert names.take("b/x.dcm", ID, "dicom") == "b/x.dcm"

"""Labels from a table: whose they are, who reads them, and what their sizes tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import primis
from primis.bundle.pages import FANOUT
from primis.datasets.files import Source
from primis.datasets.labels import MOST_BYTES, read_labels
from primis.errors import UsageError
from primis.imaging.phantom import phantom_dicom
from primis.jobs.add import add
from primis.jobs.share import task as share_task
from primis.jobs.share.task import share_file
from primis.keys.identity import read_signer
from primis.release.catalogue import Listed, seal_catalogue
from primis.release.reader import Release
from tests.conftest import TINY, VECTORS
from tests.core.test_pages import RELEASE, SECRET
from tests.documented import reader

TABLE = "file,label,patient,note\na.dcm,normal,1,\nb.dcm, viral ,2,è\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three images."""
    (tmp_path / "xrays" / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.dcm", "b.dcm", "deep/c.dcm")):
        (tmp_path / "xrays" / name).write_bytes(phantom_dicom(48, seed=seed))
    return tmp_path / "xrays"


def table_of(place: Path, text: str) -> Path:
    place.write_text(text, "utf-8")
    return place


def shared(folder: Path, keys, out: Path, text: str = TABLE) -> Path:
    table = table_of(folder / "table.csv", text)
    to = read_signer(keys["alice"]).recipient.text
    owner = keys["owner"]
    primis.share(folder, out, to=to, owner=owner, model=TINY, measure=False, labels=table)
    return out


EXPECTED = {
    "a.dcm": {"label": "normal", "patient": "1"},
    "b.dcm": {"label": "viral", "patient": "2", "note": "è"},
    "deep/c.dcm": {},
}


def test_a_recipient_reads_the_labels_of_the_table(folder, keys, tmp_path, caplog) -> None:
    made = shared(folder, keys, tmp_path / "release")
    release = primis.open(made, keys["alice"], models=[TINY])
    assert release.labels == EXPECTED
    assert {image.name: image.labels for image in release} == EXPECTED
    [said] = [record.getMessage() for record in caplog.records]
    assert said.endswith("1 of 3 images have no row and get no labels")
    assert "normal" not in repr(release) + "".join(map(repr, release))


def test_new_keys_and_new_images_leave_labels_as_they_are(folder, keys, signer, tmp_path) -> None:
    made = shared(folder, keys, tmp_path / "release")
    primis.rekey(made, owner=keys["owner"])
    assert primis.open(made, keys["alice"]).labels == EXPECTED
    (tmp_path / "d.dcm").write_bytes(phantom_dicom(48, seed=4))
    table = table_of(tmp_path / "more.csv", "label,file\nbacterial,d.dcm\nnormal,e.dcm\n")
    said: list[str] = []
    files = [tmp_path / "d.dcm"]
    add(Release(made), files, signer, models=(TINY,), labels=table, on_note=said.append)
    assert primis.open(made, keys["alice"]).labels == EXPECTED | {"d.dcm": {"label": "bacterial"}}
    assert said == [f'table "{table}": 1 of 2 rows name no image that is shared']


def test_inspect_shows_labels_to_whoever_may_read_them(folder, keys, tmp_path, capsys) -> None:
    shared(folder, keys, tmp_path / "release")
    with reader(tmp_path, capsys) as call:
        said = call("inspect", "release", "-i", keys["alice"])
        assert "name b.dcm, labels (label viral, note è, patient 2)\n" in said
        facts = json.loads(call("inspect", "release", "-i", keys["alice"], "--json"))
        assert "viral" not in call("inspect", "release")
    assert {x["name"]: x.get("labels", {}) for x in facts["names"]} == EXPECTED


def test_a_label_of_two_lines_passes_for_no_line_of_inspect(folder, keys, tmp_path, capsys) -> None:
    shared(folder, keys, tmp_path / "release", 'file,label\na.dcm,"ill\nsigner: forged"\n')
    with reader(tmp_path, capsys) as call:
        lines = call("inspect", "release", "-i", keys["alice"]).splitlines()
    assert [line for line in lines if "forged" in line and "name a.dcm" in line]
    assert "signer: forged)" not in lines


def test_who_has_no_grant_for_all_of_it_reads_none(folder, keys, signer, tmp_path) -> None:
    made = shared(folder, keys, tmp_path / "release")
    bob = read_signer(keys["bob"]).recipient.text
    primis.grant(made, to=bob, images=["a.dcm"], owner=signer)
    release = primis.open(made, keys["bob"], models=[TINY])
    assert ([image.labels for image in release], release.labels) == ([None], {})
    assert not [path for path in made.rglob("*") if path.is_file() and b"vir" in path.read_bytes()]


def test_a_run_that_goes_on_takes_the_labels_that_it_is_given(
    folder, keys, signer, tmp_path, monkeypatch
) -> None:
    done = []

    def killed(*given):
        if done:
            raise KeyboardInterrupt
        done.append(given)
        return share_file(*given)

    monkeypatch.setattr(share_task, "share_file", killed)
    with pytest.raises(KeyboardInterrupt):
        shared(folder, keys, tmp_path / "release", TABLE.replace("normal", "typing error"))
    monkeypatch.undo()
    made = shared(folder, keys, tmp_path / "release")
    assert primis.open(made, keys["alice"]).labels == EXPECTED


def test_a_row_is_found_by_its_file_or_by_the_name_it_is_shared_under(folder, tmp_path) -> None:
    files = [(folder / "a.dcm", "a.dcm"), (folder / "deep" / "c.dcm", "c.dcm")]
    beside = table_of(folder.parent / "t.csv", "file,x\nxrays/a.dcm,1\nxrays\\deep\\c.dcm,2\n")
    (tmp_path / "far").mkdir()
    far = table_of(tmp_path / "far" / "t.csv", "file,x\nc.dcm,2\na.dcm,1\n")
    for table in (beside, far):
        labels = read_labels(table, [Source.of(file) for file in files])
        assert [labels.of(*file) for file in files] == [{"x": "1"}, {"x": "2"}]
        assert labels.note == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name,label\na.dcm,1\n", 'no column "file"'),
        ("file,label\nz.dcm,1\n", "none of the images"),
        ("file,label\na.dcm,1\na.dcm,1\n", 'names "a.dcm" twice, again in line 3'),
        ("file,label\nsame.dcm,1\n", "2 images have that name"),
        (f"file,label\na.dcm,{'x' * MOST_BYTES}\n", "4101 bytes in line 2, expected at most 4096"),
    ],
)
def test_a_table_that_is_no_use_is_refused_in_one_line(folder, tmp_path, text, why) -> None:
    files = [(folder / "a.dcm", "a.dcm"), (folder / "b.dcm", "same.dcm")]
    files.append((folder / "deep" / "c.dcm", "same.dcm"))
    with pytest.raises(UsageError, match=why) as refused:
        read_labels(table_of(tmp_path / "t.csv", text), [Source.of(file) for file in files])
    assert "\n" not in str(refused.value)


def test_nothing_is_encoded_before_a_bad_table_is_refused(folder, keys, tmp_path) -> None:
    with pytest.raises(primis.PrimisError, match="twice"):
        shared(folder, keys, tmp_path / "release", "file\na.dcm\na.dcm\n")
    assert not list(tmp_path.glob("release*"))


def test_no_size_tells_which_image_has_a_label() -> None:
    plain = Listed("0" * 32, "x" * 40, "png", 1, 64, 64, 1)
    sizes = set()
    for at in (0, 7, FANOUT + 3):
        images = [replace(plain, id=f"{number:032x}") for number in range(2 * FANOUT)]
        images[at] = replace(images[at], labels={"label": "pneumonia, viral", "patient": "17"})
        listing, tree = seal_catalogue(images, SECRET, RELEASE)
        sizes.add((listing.bytes_per_image, *sorted(map(len, tree.pages.values()))))
    assert len(sizes) == 1


def test_the_release_of_the_vectors_has_labels() -> None:
    reader = VECTORS / "keys" / "reader.key"
    release = primis.open(VECTORS / "release", reader, models=[TINY], remember=False)
    assert release.labels == {
        "chest-0.dcm": {"label": "normal", "patient": "a"},
        "chest-1.dcm": {},
        "chest-2.dcm": {"label": "é"},
    }

"""A DICOM series as one image: which files belong together, in which order, and back again."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

import primis
import primis.jobs.share.run as sharing
from primis.errors import DamagedSection, UsageError
from primis.imaging import dicom_series
from primis.imaging.dicom import MAX_HEADER
from primis.imaging.dicom_series import unpack_files
from primis.imaging.image import SERIES
from primis.imaging.phantom import phantom_dicom
from primis.imaging.series import Slice, in_order, remarks, slice_in
from primis.jobs.share.look import look
from primis.keys.identity import read_signer
from tests.conftest import TINY

ORIENTATION = [1, 0, 0, 0, 1, 0]


def slice_file(
    z: float, *, series: int = 1, size: int = 48, seed: int | None = None, **elements: object
) -> bytes:
    """A phantom at a place along the axis of the body, in mm."""
    data_set = pydicom.dcmread(io.BytesIO(phantom_dicom(size, seed=seed or 1)))
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = "1.2.3", f"1.2.3.{series}"
    data_set.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[f"{z} {series} {elements}"])
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.SeriesNumber, data_set.Modality = series, "CT"
    data_set.ImageOrientationPatient, data_set.ImagePositionPatient = ORIENTATION, [0, 0, z]
    data_set.PixelSpacing = [1, 1]
    data_set.add_new(0x00291010, "OB", bytes([int(abs(z)) % 256]) * 10)
    for keyword, value in elements.items():
        setattr(data_set, keyword, value)
        if data_set[keyword].VR == "US or SS":
            data_set[keyword].VR = "US"
    out = io.BytesIO()
    data_set.save_as(out)
    return out.getvalue()


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():  # a second call is of the same files
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def share(keys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(files: dict[str, bytes], out: str = "release", **how):
        folder = lay_out(tmp_path / f"in of {out}", files)
        to = read_signer(keys["alice"]).recipient.text
        return primis.share(
            folder, tmp_path / out, to=to, owner=keys["owner"], model=TINY, measure=False, **how
        )

    return run


@pytest.fixture
def opened(keys, tmp_path):
    return lambda out="release": primis.open(tmp_path / out, keys["alice"], models=[TINY])


@pytest.fixture
def restore(keys, tmp_path):
    def run(out: str = "restored", release: str = "release", **how) -> Path:
        results = primis.restore(
            tmp_path / release, tmp_path / out, identity=keys["alice"], models=[TINY], **how
        )
        assert [r.error for r in results] == [None] * len(results)
        return tmp_path / out

    return run


SHUFFLED = {f"ct/{name}.dcm": z for name, z in zip("dacb", (0.0, 5.0, 10.0, 15.0), strict=True)}
"""Names whose order is not that of their places."""


def shuffled(**elements: object) -> dict[str, bytes]:
    return {
        name: slice_file(z, seed=k + 1, **elements) for k, (name, z) in enumerate(SHUFFLED.items())
    }


def names_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_slices_are_one_image_in_spatial_order(share, opened) -> None:
    [result] = share(shuffled())
    assert (result.error, result.name) == (None, "ct")
    [image] = opened()
    assert (image.name, image.kind, image.frames, image.modality) == ("ct", SERIES, 4, "CT")
    assert image.slices == list(SHUFFLED)
    assert image.read().pixels.shape == (4, 48, 48, 1)


def test_each_file_comes_back_with_its_own_header(share, restore, tmp_path) -> None:
    share(shuffled())
    folder = restore()
    assert names_in(folder) == sorted(SHUFFLED)
    instances, series = set(), set()
    for name, z in SHUFFLED.items():
        before = pydicom.dcmread(tmp_path / "in of release" / name)
        after = pydicom.dcmread(folder / name)
        assert after.ImagePositionPatient == before.ImagePositionPatient == [0, 0, z]
        assert after[0x00291010].value == before[0x00291010].value
        assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
        assert after.pixel_array.shape == (48, 48)
        instances.add(after.SOPInstanceUID)
        series.add(after.SeriesInstanceUID)
    assert (len(instances), len(series)) == (4, 1)


def test_a_slice_is_restored_as_it_would_be_alone(share, restore, tmp_path) -> None:
    """At the quality of its own; what identifies the object is another."""
    share(shuffled(), lossless=True)
    share(shuffled(), "alone", lossless=True, series=False)
    together, alone = restore(), restore("restored alone", "alone")
    for name in SHUFFLED:
        one, other = (pydicom.dcmread(folder / name) for folder in (together, alone))
        assert np.array_equal(one.pixel_array, other.pixel_array)
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            delattr(one, keyword)
            delattr(other, keyword)
        del one.file_meta, other.file_meta
        assert one == other


def test_tier_original_is_the_very_files(share, restore, tmp_path) -> None:
    share(shuffled(), with_original=True)
    folder = restore()
    for name in SHUFFLED:
        assert (folder / name).read_bytes() == (tmp_path / "in of release" / name).read_bytes()


def test_tier_preview_is_one_file_without_names(share, restore) -> None:
    share(shuffled(), tier="preview")
    folder = restore()
    [name] = names_in(folder)
    assert len(name) == 36
    assert pydicom.dcmread(folder / name).NumberOfFrames == 4


def test_what_is_not_of_the_series_stays_an_image_of_its_own(share, opened) -> None:
    files = shuffled()
    files["ct/scout.dcm"] = slice_file(3, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    files["ct/large.dcm"] = slice_file(20, size=64)
    files["ct/radiograph.dcm"] = phantom_dicom(48, seed=9)
    files["pet/1.dcm"], files["pet/2.dcm"] = slice_file(0, series=2), slice_file(5, series=2)
    results = share(files)
    assert sorted(r.name for r in results) == [
        "ct",
        "ct/large.dcm",
        "ct/radiograph.dcm",
        "ct/scout.dcm",
        "pet",
    ]


def test_two_series_in_one_folder_have_names_of_their_own(share, restore) -> None:
    files = {f"{series}-{z}.dcm": slice_file(z, series=series) for series in (3, 4) for z in (0, 5)}
    assert [r.name for r in share(files)] == [f"in of release/series-{k}" for k in (3, 4)]
    assert names_in(restore()) == sorted(files)


def test_a_file_that_cannot_be_read_is_reported_and_the_rest_shared(share, opened) -> None:
    files = shuffled()
    files["ct/c.dcm"] = files["ct/c.dcm"][:-1000]
    whole = {r.name: r for r in share(files)}
    assert set(whole) == {"ct", "ct/c.dcm"}
    assert whole["ct/c.dcm"].error is not None
    assert "slices are missing, about 1" in " ".join(whole["ct"].notes)
    assert len(opened()) == 1


def test_a_slice_that_is_gone_by_the_time_it_is_shared_costs_no_other(
    share, opened, tmp_path, monkeypatch
) -> None:
    def look_then_lose(*given, **how):
        needs = look(*given, **how)
        (tmp_path / "in of release" / "ct" / "c.dcm").unlink()
        return needs

    monkeypatch.setattr(sharing, "look", look_then_lose)
    shared, left_out = share(shuffled())
    assert (shared.error, shared.name, left_out.name) == (None, "ct", "ct/c.dcm")
    assert "c.dcm" in str(left_out.error)
    [image] = opened()
    assert image.slices == [name for name in SHUFFLED if name != "ct/c.dcm"]


def test_a_defect_in_one_slice_does_not_stop_the_others(share, monkeypatch) -> None:
    from primis.jobs.share import source

    plain = source.read

    def broken(path: Path, **how):
        if path.name == "c.dcm":
            raise RuntimeError("a defect")
        return plain(path, **how)

    monkeypatch.setattr(source, "read", broken)
    results = {r.name: r for r in share(shuffled() | {"chest.dcm": phantom_dicom(48)})}
    assert "this is a defect of primis" in str(results["ct/c.dcm"].error)
    assert results["ct"].error is results["chest.dcm"].error is None


def test_no_series_shares_each_file_alone(share, opened) -> None:
    share(shuffled(), series=False)
    assert sorted(image.name for image in opened()) == sorted(SHUFFLED)


def test_the_same_call_goes_on(share, keys, opened) -> None:
    files = shuffled() | {
        "pet/1.dcm": slice_file(0, series=2),
        "pet/2.dcm": slice_file(5, series=2),
    }

    def interrupt(result, done, total) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share(files, on_result=interrupt)
    results = share(files)
    assert sum(r.resumed for r in results) == 1
    assert len(opened()) == 2


def test_shards_keep_a_series_together(share, opened) -> None:
    files = shuffled() | {f"{k}.dcm": phantom_dicom(48, seed=k) for k in range(3)}
    for shard in ("1/2", "2/2"):
        share(files, shard=shard)
    share(files, finish=True)
    assert sorted(image.frames for image in opened()) == [1, 1, 1, 4]


def test_single_files_of_a_series_from_python(share, opened, tmp_path) -> None:
    share(shuffled(), with_original=True)
    [image] = opened()
    source = tmp_path / "in of release"
    assert image.files(frames=1) == {"ct/a.dcm": (source / "ct/a.dcm").read_bytes()}
    assert list(image.files("diagnostic", frames=slice(2, 4))) == ["ct/c.dcm", "ct/b.dcm"]
    with pytest.raises(UsageError, match="series of 4 files"):
        image.file()


def test_labels_of_a_series_stand_at_its_name_or_at_any_file(share, opened, tmp_path) -> None:
    for number, said in enumerate(("ct", "ct/a.dcm", "ct/d.dcm")):
        table = tmp_path / "table.csv"
        table.write_text(f"file,finding\n{said},bleed\n")
        share(shuffled(), f"release {number}", labels=table)
        assert opened(f"release {number}").labels == {"ct": {"finding": "bleed"}}


def test_rekey_keeps_a_series(share, keys, restore, tmp_path) -> None:
    share(shuffled())
    primis.rekey(tmp_path / "release", owner=keys["owner"])
    assert names_in(restore()) == sorted(SHUFFLED)


def test_no_slice_takes_the_place_of_another_when_names_are_made_safe(share, restore) -> None:
    names = [f"scan.{ending}" for ending in ("png", "jpg", "tif", "webp", "dcm")]
    share({name: slice_file(k) for k, name in enumerate([*names, "Scan.DCM"])})
    assert len(names_in(restore())) == 6


def test_files_of_one_name_in_two_folders_have_names_of_their_own(share, keys, tmp_path) -> None:
    for z, folder in ((0, "disc 1"), (5, "disc 2")):
        lay_out(tmp_path / folder, {"a.dcm": slice_file(z), "b.dcm": slice_file(z + 10)})
    to = read_signer(keys["alice"]).recipient.text
    where = [tmp_path / "disc 1", tmp_path / "disc 2"]
    primis.share(where, tmp_path / "out", to=to, owner=keys["owner"], model=TINY, measure=False)
    [image] = primis.open(tmp_path / "out", keys["alice"], models=[TINY])
    assert [*image.files()] == image.slices == ["a.dcm", "a-2.dcm", "b.dcm", "b-2.dcm"]


def test_a_place_after_a_large_element_is_found(tmp_path) -> None:
    data_set = pydicom.dcmread(io.BytesIO(slice_file(5)))
    data_set.add_new(0x00091010, "OB", bytes(1 << 19))
    data_set.save_as(tmp_path / "large.dcm")
    there = slice_in(tmp_path / "large.dcm")
    assert there is not None
    assert there.place == (0, 0, 5)


def test_missing_slices_are_told_whatever_of_headers_is_shared(share) -> None:
    files = {f"{z}.dcm": slice_file(z) for z in (0, 5, 10, 20)}
    [result] = share(files, minimal=True)
    assert [note for note in result.notes if "slices" in note] == [
        "slices are missing, about 1: after slice 3 of 4 the next is 10 mm away, the others 5 mm"
    ]


def test_copies_of_slices_are_told(share) -> None:
    [result] = share({"a/0.dcm": slice_file(0), "a/5.dcm": slice_file(5), "b/0.dcm": slice_file(0)})
    assert "1 of 3 slices are copies of others" in result.notes


def test_headers_that_would_swell_are_refused(share, opened, monkeypatch) -> None:
    share(shuffled())
    monkeypatch.setattr(dicom_series, "MAX_HEADERS", 1000)
    with opened() as release, pytest.raises(DamagedSection):
        next(iter(release)).files("diagnostic")
    with pytest.raises(UsageError, match="no image could be shared"):
        share(shuffled(), "other")


@pytest.mark.parametrize(
    "files",
    [
        [["a", 1], ["a", 1]],
        [["a", 1], [None, 1]],
        [["a", 1.0], ["b", 1.0]],
        [["a", 1e400], ["b", 1]],
        [["a", float("nan")], ["b", 1]],
        [["a", True], ["b", 1]],
        [["a", 3], ["b", -1]],
        [["a", 1]],
        [["a", 1, 1], ["b", 1]],
        [],
        None,
    ],
)
def test_no_other_list_of_files_is_taken(files) -> None:
    assert unpack_files(b'{"files": [["a", 1], ["b", 1]]}\nxy', 2)[0][1] == ("b", b"y")
    with pytest.raises(ValueError, match="not of a series"):
        unpack_files(json.dumps({"files": files}).encode() + b"\nxy", 2)


def test_large_files_that_are_no_slices_are_not_read_to_look_for_series(tmp_path) -> None:
    samples = tmp_path / "samples.tif"
    samples.write_bytes(b"II*\0" + b"\x20\0\x32\0" * 100)
    os.truncate(samples, 1 << 31)
    tracemalloc.start()
    assert slice_in(samples) is None
    assert tracemalloc.get_traced_memory()[1] < 2 * MAX_HEADER
    tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_nothing_is_waited_for_while_series_are_looked_for(share, tmp_path) -> None:
    lay_out(tmp_path / "in of release", shuffled())
    os.mkfifo(tmp_path / "in of release" / "pipe.dcm")
    results = share({})
    assert [r.name for r in results if r.error is not None] == ["pipe.dcm"]


# --- order and remarks ---


def slices_at(*places: Sequence[float], times: Sequence[int] = ()) -> list[Slice]:
    times = times or [0] * len(places)
    return [
        Slice(("a",), "1", tuple(place), (1, 0, 0), (0, 1, 0), (time,))
        for place, time in zip(places, times, strict=True)
    ]


def test_a_series_in_time_is_one_volume_after_the_other() -> None:
    places = [(0, 0, z) for z in (5, 0, 5, 0)]
    assert in_order(slices_at(*places, times=[2, 2, 1, 1])) == [3, 2, 1, 0]


def test_slices_a_hair_apart_are_at_one_place() -> None:
    places = [(0, 0, z) for z in (12.3551, 17.3551, 12.3549, 17.3549)]
    assert in_order(slices_at(*places, times=[1, 1, 2, 2])) == [0, 1, 2, 3]


def test_directions_that_differ_in_their_last_digit_put_no_slice_elsewhere() -> None:
    slices = slices_at(*[(0, 300, z) for z in (5, 0, 5, 0)], times=[2, 2, 1, 1])
    slices[2:] = [replace(one, column=(0, 1, 0.0004)) for one in slices[2:]]
    assert in_order(slices) == [3, 2, 1, 0]


def test_what_a_person_should_know_of_the_places() -> None:
    even = [(0, 0, 5 * k) for k in range(8)]
    assert remarks(slices_at(*even)) == ()
    assert "about 2: after slice 3 of 6" in remarks(slices_at(*even[:3], *even[5:]))[0]
    assert "1 of 8 places have fewer than 2" in remarks(slices_at(*even, *even[:-1]))[0]
    tilted = [(0, 1.5 * k, 5 * k) for k in range(8)]
    assert "sheared by 16.7 degrees" in remarks(slices_at(*tilted))[0]
    uneven = [(0, 0, z) for z in (0, 5, 10, 16)]
    assert "5 to 6 mm apart" in remarks(slices_at(*uneven))[0]


@pytest.mark.parametrize(
    "elements",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"NumberOfFrames": 2},
        {"SeriesInstanceUID": ""},
        {"PhotometricInterpretation": "PALETTE COLOR"},
    ],
)
def test_what_has_no_place_or_no_series_is_no_slice(elements, tmp_path) -> None:
    files = lay_out(tmp_path, {"good": slice_file(0), "other": slice_file(0, **elements)})
    assert slice_in(files / "good") is not None
    assert slice_in(files / "other") is None


@pytest.mark.parametrize("alone", [False, True])
def test_frames_alone_are_not_coded_with_others(share, opened, alone) -> None:
    """Six copies of one slice are as alike as slices can be."""
    files = {f"ct/{k}.dcm": slice_file(5.0 * k, size=96) for k in range(6)}
    share(files, frames_alone=alone)
    [image] = opened()
    assert (image.codes().group == 1) == alone

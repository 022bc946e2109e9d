"""`primis view` and a person: open a release, look, turn, window, save."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from primis.keys.identity import generate, parse_recipient, read_signer
from primis.release.owner import grant
from primis.release.reader import Release
from tests.core.test_recipients import locked_by_age
from tests.viewer.releases import PASSPHRASE, SLICES, Commands, Made, message_of

NAMES = ["chest.dcm", "colour.png", "ct", "mask.png", "negative.dcm"]


@pytest.fixture(scope="module")
def keyless(run: Commands, made: Made) -> Iterator[str]:
    """`primis view` without a key."""
    with run.view(made.release) as url:
        yield url


@pytest.fixture
def opened(new_page, keyless: str, made: Made):
    """The release as Alice sees it."""
    page = new_page(keyless)
    page.call("chooseFile", button="choose a file", path=str(made.key("alice")))
    page.wait_for(".row")
    return page


@pytest.fixture(scope="module")
def restored(run: Commands, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `primis restore` makes of tier diagnostic."""
    out = tmp_path_factory.mktemp("restored") / "out"
    run("restore", made.release, "-i", made.key("alice"), "--tier", "diagnostic", "-o", out)
    return out


# Keys


def test_a_key_file_opens_the_list_with_names_kinds_and_labels(opened) -> None:
    names = [row.splitlines()[0] for row in opened.rows]
    assert names == NAMES
    chest, colour, series = opened.rows[:3]
    assert "256 × 256" in chest and "effusion" in chest
    assert "120 × 120" in colour and "none" in colour
    assert "CT" in series and f"{SLICES} frames" in series
    opened.wait(f"{len(NAMES)} images")
    opened.wait_for(".thumbnail canvas")
    assert any("/bundles/" in url for url in opened.requests)  # those of the worker are recorded


def test_a_key_that_is_handed_over_opens_once(new_page, run, made) -> None:
    with run.view(made.release, "-i", made.key("alice")) as url:
        page = new_page(url)
        page.wait_for(".row")
        page.call("reload")
        page.wait("The key was already handed over")
        assert page.call("count", selector=".row") == 0
        secret = made.key("alice").read_text().strip().splitlines()[-1]
        assert secret not in page.call("stored") and secret not in page.call("url")


def test_a_locked_key_that_is_handed_over_asks_for_its_passphrase(
    new_page, run, made, tmp_path
) -> None:
    locked = tmp_path / "locked.key"
    locked.write_bytes(locked_by_age(*made.key("alice").read_text().splitlines()))
    locked.chmod(0o600)
    with run.view(made.release, "-i", locked) as url:
        page = new_page(url)
        page.call("fill", label="Its passphrase", text="wrong horse")
        page.call("press", key="Enter")
        page.wait("Wrong passphrase for the key file")
        page.call("fill", label="Its passphrase", text="correct horse")
        page.call("press", key="Enter")
        assert len(page.rows) == len(NAMES)


def test_a_passphrase_opens_its_grant_and_another_does_not(new_page, keyless) -> None:
    page = new_page(keyless)
    page.call("clickText", text="Passphrase")
    page.call("fill", label="Passphrase of the grant", text="another one")
    page.call("press", key="Enter")
    page.wait("Wrong passphrase")
    assert page.call("count", selector=".row") == 0
    page.call("fill", label="Passphrase of the grant", text=PASSPHRASE)
    page.call("press", key="Enter")
    page.wait_for(".row")
    page.show("mask.png")
    assert page.canvas().lit > 0
    assert PASSPHRASE not in page.call("stored")


def test_a_key_without_a_grant_is_refused_in_the_words_of_the_command_line(
    new_page, run, made, keyless, tmp_path
) -> None:
    stranger = made.key("stranger")
    _, errors = run("restore", made.release, "-i", stranger, "-o", tmp_path / "x", status=1)
    page = new_page(keyless)
    page.call("chooseFile", button="choose a file", path=str(stranger))
    page.wait("No grant for this key")
    assert message_of(errors) in page.text(".problem")


def test_an_expired_grant_opens_nothing(new_page, keyless, made) -> None:
    key = made.folder / "late.key"
    key.write_text(generate())
    owner, opened = read_signer(made.key("owner")), Release(made.release)
    late = parse_recipient(f"late={read_signer(key).recipient.text}")
    grant(opened, late, owner, not_after=datetime.date(2020, 1, 31))
    page = new_page(keyless)
    page.call("chooseFile", button="choose a file", path=str(key))
    page.wait_for(".thumbnail.failed")
    page.call("clickOn", selector=".row")
    page.wait("The grant has expired")
    assert 'grant "late" expired after 2020-01-31' in page.text(".stage-error")
    assert page.canvas().lit == 0 == page.call("count", selector=".thumbnail canvas")


# Looking


def test_a_radiograph_is_shown_with_its_values_and_its_fidelity(opened, restored) -> None:
    opened.show("chest.dcm")
    right = pydicom.dcmread(restored / "chest.dcm").pixel_array
    for at in ((0.5, 0.5), (0.45, 0.3), (0.6, 0.7)):
        column, row, [value] = opened.value_at(*at)
        assert abs(value - right[row, column]) <= 1
    assert re.search(r"PSNR \d\d\.\d dB", opened.text(".banner"))
    assert "Not for diagnosis" in opened.text(".banner")
    assert opened.canvas().lit > 0.2


def test_an_inverted_radiograph_and_a_colour_image_are_shown_as_what_they_are(
    opened, restored
) -> None:
    opened.show("negative.dcm")
    assert "MONOCHROME1" in opened.text(".written.top-left")
    before = opened.canvas()
    opened.call("press", key="i")
    assert opened.canvas().mean != before.mean
    opened.show("colour.png")
    right = np.asarray(Pillow.open(restored / "colour.png"))
    column, row, values = opened.value_at(0.5, 0.5)
    assert np.abs(np.array(values) - right[row, column]).max() <= 1


def test_wheel_and_keys_scroll_a_series_and_each_frame_is_another(opened, restored) -> None:
    opened.show("ct")
    seen = {opened.canvas().digest: frame_of(opened)}
    opened.call("point", selector=".stage")
    opened.call("wheel", by=40)
    assert wait_for_frame(opened, 4) not in seen
    for key, frame in (("Home", 1), ("ArrowRight", 2), ("End", SLICES)):
        opened.call("press", key=key)
        digest = wait_for_frame(opened, frame)
        assert digest not in seen
        seen[digest] = frame
    column, row, [value] = opened.value_at(0.5, 0.5)
    last = max(slices(restored), key=lambda data: data.ImagePositionPatient[2])
    assert abs(value - last.pixel_array[row, column]) <= 1


def test_presets_drag_and_keys_change_the_window(opened) -> None:
    opened.show("ct")
    soft = opened.canvas()
    assert "SOFT: C 40 W 400" in opened.text(".written.top-left")
    opened.call("select", label="Window", option="1")
    bone = opened.canvas()
    assert "BONE: C 300 W 2000" in opened.text(".written.top-left")
    opened.call("drag", selector=".stage", **{"from": [0.5, 0.5], "to": [0.6, 0.3]})
    dragged = opened.canvas()
    assert "BONE" not in opened.text(".written.top-left")
    assert len({soft.mean, bone.mean, dragged.mean}) == 3
    opened.call("press", key="1")
    assert opened.canvas().digest == soft.digest


def frame_of(page) -> int:
    return int(page.text(".frames output").split(" / ")[0])


def wait_for_frame(page, frame: int) -> int:
    """Until it is shown at its best; the digest of the canvas."""
    page.wait(f"{frame} / {SLICES}")
    page.wait_until_shown()
    return page.canvas().digest


def slices(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in (folder / "ct").glob("*.dcm")]


# Files to keep


def test_the_restored_file_is_what_primis_restores_and_the_original_is_the_original(
    opened, restored, made
) -> None:
    opened.show("chest.dcm")
    saved = opened.save("diagnostic")
    assert saved.name == "chest.dcm"
    found, right = pydicom.dcmread(io.BytesIO(saved.data)), pydicom.dcmread(restored / "chest.dcm")
    apart = found.pixel_array.astype(int) - right.pixel_array
    assert np.abs(apart).max() <= 1
    del found.PixelData, right.PixelData
    assert found == right and found.PatientName == "Phantom^Chest"
    original = opened.save("original")
    assert original.name == "chest.dcm"
    assert original.data == (made.folder / "images" / "chest.dcm").read_bytes()


def test_a_series_is_saved_as_an_archive_of_its_files(opened, made) -> None:
    import zipfile

    opened.show("ct")
    saved = opened.save("original")
    with zipfile.ZipFile(io.BytesIO(saved.data)) as archive:
        found = sorted(archive.read(name) for name in archive.namelist())
    originals = (made.folder / "images" / "ct").iterdir()
    assert saved.name == "ct.zip" and found == sorted(path.read_bytes() for path in originals)

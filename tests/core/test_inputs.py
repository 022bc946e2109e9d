"""What is listed as an input; a file that cannot be taken is one line and never waited for."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from primis.datasets.files import collect, split_files
from primis.errors import NoPixels, UnreadableImage, UsageError
from primis.imaging import files
from primis.imaging.files import read

OUT = io.BytesIO()
PIL.Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).save(OUT, "png")
PNG = OUT.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "q"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        (folder / name).write_bytes(PNG)
    return folder


def names(*inputs: Path) -> list[str]:
    return [name for _, name in collect(inputs)]


def why(path: Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    short = Path(os.path.relpath(path))
    socket.socket(socket.AF_UNIX).bind(str(min(path, short, key=lambda p: len(str(p)))))


ODD = {
    "is a link to nothing": lambda path: path.symlink_to("nowhere"),
    "cannot be read: ": lambda path: path.symlink_to(path),  # a link to itself
    "is a FIFO, expected a file": make_fifo,
    "is a socket, expected a file": make_socket,
    "is a device, expected a file": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
@pytest.mark.parametrize("line", ODD)
def test_what_is_no_file_is_listed_and_refused_in_one_line(folder: Path, line: str) -> None:
    path = folder / "aa.png"
    ODD[line](path)
    assert names(folder) == ["a.png", "aa.png", "b.png", "sub/c.png"]
    assert names(path) == ["aa.png"]
    assert why(path).startswith(f'image "{path}" {line}')


def test_a_folder_that_cannot_be_searched_is_one_line(folder: Path, monkeypatch) -> None:
    barred = folder / "sub"
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), barred))
    assert names(folder) == ["a.png", "b.png", "sub"]
    assert why(barred) == f'folder "{barred}" cannot be searched: Permission denied'


def test_a_folder_whose_files_cannot_be_reached_is_one_line(folder: Path, monkeypatch) -> None:
    barred = folder / "sub"
    monkeypatch.setattr(os, "lstat", refusing(os.lstat, barred / "c.png"))
    monkeypatch.setattr(os, "stat", refusing(os.stat, barred / "c.png"))
    assert names(folder) == ["a.png", "b.png", "sub"]
    assert why(barred) == f'folder "{barred}" cannot be searched: Permission denied'


def refusing(call, barred: Path):
    def instead(path, *rest, **more):
        if str(path) == str(barred):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return call(path, *rest, **more)

    return instead


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs POSIX")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_the_same_with_the_rights_of_another(folder: Path, mode: int) -> None:
    if os.getuid() != 0:
        (folder / "sub").chmod(mode)
        assert names(folder) == ["a.png", "b.png", "sub"]
        (folder / "sub").chmod(0o755)
        return
    code = """
import os, pathlib, sys
from primis.datasets.files import collect
from primis.errors import UnreadableImage
from primis.imaging.files import read_bytes
os.chdir(sys.argv[1])
os.setuid(65534)
print([name for _, name in collect([pathlib.Path(".")])])
try:
    read_bytes(pathlib.Path("sub"))
except UnreadableImage as error:
    print(error)
"""
    (folder / "sub").chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    (folder / "sub").chmod(0o755)
    listed, line = done.stdout.splitlines()
    assert listed == "['a.png', 'b.png', 'sub']"
    assert line == 'folder "sub" cannot be searched: Permission denied'


def test_a_file_that_vanishes_is_one_line(folder: Path) -> None:
    (path, _), *_ = collect([folder])
    path.unlink()
    assert why(path) == f'image "{path}" cannot be read: No such file or directory'


def test_a_folder_in_the_place_of_a_file_is_one_line(folder: Path) -> None:
    assert why(folder) == f'image "{folder}" is a folder, expected a file'


def test_a_large_file_is_not_read(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "_MAX_BYTES", 10)
    assert "bytes, expected at most 10" in why(folder / "a.png")


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    assert "cannot be read" in why(Path("a\0b"))


def test_one_file_under_two_spellings_is_listed_once(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    whole = ["a.png", "b.png", "sub/c.png"]
    assert names(Path("q"), folder) == whole
    assert names(Path("q"), Path("q/../q")) == whole
    assert names(Path("q"), Path("q/a.png"), folder / "a.png") == whole
    assert names(Path("q/a.png"), Path("q")) == whole
    assert names(Path("q"), Path("q/sub")) == whole  # the same file, under its first name
    assert names(Path("q/sub"), Path("q")) == ["c.png", "a.png", "b.png"]


def test_links_under_the_same_name_are_one_image_and_others_are_not(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "a.png").symlink_to(folder / "a.png")
    (folder.parent / "linked").symlink_to(folder)
    assert names(folder, other) == ["a.png", "b.png", "sub/c.png"]
    assert names(folder, folder.parent / "linked") == ["a.png", "b.png", "sub/c.png"]
    (other / "x.png").symlink_to(folder / "a.png")
    (other / "y.png").symlink_to(folder / "a.png")
    assert names(other) == ["a.png", "x.png", "y.png"]


def test_no_link_back_is_followed_twice_and_the_order_is_that_of_names(folder: Path) -> None:
    (folder / "sub" / "back").symlink_to(folder)
    (folder / "0").symlink_to(folder / "sub")
    assert names(folder) == ["0/c.png", "a.png", "b.png"]


def test_releases_are_passed_over_and_never_stop_the_search(folder: Path, monkeypatch) -> None:
    (folder / "release").mkdir()
    (folder / "release" / "manifest.json").touch()
    (folder / "release" / "x.png").write_bytes(PNG)
    assert names(folder) == ["a.png", "b.png", "sub/c.png"]
    monkeypatch.setattr(os, "stat", refusing(os.stat, folder / "sub" / "manifest.json"))
    assert names(folder) == ["a.png", "b.png", "sub/c.png"]


def test_what_is_not_there_is_a_mistake_and_what_is_barred_is_not(
    folder: Path, monkeypatch
) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        collect([folder / "nothing.png"])
    barred = folder / "sub" / "c.png"
    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), barred))
    assert names(barred) == ["c.png"]
    assert why(barred) == f'image "{barred}" cannot be read: Permission denied'


def test_training_takes_a_folder_with_a_link_to_itself(folder: Path) -> None:
    (folder / "loop.png").symlink_to(folder / "loop.png")
    training, held_out = split_files(folder)
    assert len(training) + len(held_out) == 4


def test_one_argument_that_cannot_be_used_does_not_cost_the_others(folder: Path) -> None:
    odd = {
        folder / "nothing.png": "No such file or directory",
        folder / "a.png" / "x.png": "Not a directory",
        folder / ("x" * 300): "File name too long",
    }
    for path, reason in odd.items():
        for inputs in ((path, folder), (folder, path)):
            assert path.name in names(*inputs)
            assert len(names(*inputs)) == 4
        assert why(path) == f'image "{path}" cannot be read: {reason}'
    with pytest.raises(UsageError, match=r'"missing\.png" does not exist'):
        collect([Path("missing.png"), Path("missing.png"), Path("gone.png")])
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r'"missing\.png" does not exist'):
        collect([folder / "empty", Path("missing.png")])


def test_an_empty_file_is_called_empty(folder: Path) -> None:
    for name in ("e.png", "e.dcm"):
        (folder / name).touch()
        assert why(folder / name) == f'image "{folder / name}" is empty'


def test_dicom_without_pixels_is_told_apart(folder: Path) -> None:
    from pydicom.data import get_testdata_file

    path = folder / "report.dcm"
    path.write_bytes(Path(str(get_testdata_file("test-SR.dcm"))).read_bytes())
    with pytest.raises(NoPixels) as caught:
        read(path)
    assert (caught.value.modality, caught.value.path) == ("SR", path)
    assert str(caught.value) == f'image "{path}" is DICOM without pixels (modality "SR")'
    path.write_bytes(b"DICM" + b"x" * 200)
    with pytest.raises(UnreadableImage) as other:
        read(path)
    assert not isinstance(other.value, NoPixels)

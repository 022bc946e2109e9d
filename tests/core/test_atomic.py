"""Work goes on only with what this user left, not with links or what others own or may write in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from primis import atomic
from primis.atomic import keep_named, own_folder, require_ours, sweep, sweep_all, write_new
from primis.errors import OutputError


def made(path: Path, mode: int) -> Path:
    """A file, or a folder where the name ends in "d"."""
    if path.name.endswith("d"):
        path.mkdir()
    else:
        path.write_bytes(b"")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("f", 0o644, None),
        ("f", 0o600, None),
        ("d", 0o755, None),
        ("d", 0o700, None),
        ("f", 0o664, "others may write"),
        ("f", 0o646, "others may write"),
        ("d", 0o775, "others may write"),
        ("d", 0o1777, "others may write"),
    ],
)
def test_modes(tmp_path: Path, name: str, mode: int, words: str | None) -> None:
    tmp_path.chmod(0o755)
    path = made(tmp_path / name, mode)
    if words is None:
        require_ours(path)
    else:
        with pytest.raises(OutputError, match=words):
            require_ours(path)
    assert [found.name for found in tmp_path.rglob("*")] == [name]


def test_nobody_can_write_in_a_folder_that_nobody_can_enter(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    own_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    require_ours(made(folder / "f", 0o664))


def test_links_and_pipes(tmp_path: Path) -> None:
    made(tmp_path / "f", 0o600)
    (tmp_path / "to").symlink_to(tmp_path / "f")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("to", "dangling", "pipe"):
        with pytest.raises(OutputError, match="is a link or a device"):
            require_ours(tmp_path / name)
    with pytest.raises(OutputError, match="cannot be read"):
        require_ours(tmp_path / "missing")


def test_other_owners(tmp_path: Path, monkeypatch) -> None:
    path = made(tmp_path / "f", 0o600)
    us = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: us + 1)
    with pytest.raises(OutputError, match="belongs to another user"):
        require_ours(path)


def test_a_disk_that_keeps_no_modes_can_be_worked_on(tmp_path: Path, monkeypatch) -> None:
    """As on exFAT: whatever mode a file is made with, it shows 0777. The owner still counts."""
    tmp_path.chmod(0o755)
    folder = made(tmp_path / "d", 0o777)
    real, us = os.fstat, os.getuid()

    def shown(handle: int) -> os.stat_result:
        about = real(handle)
        return os.stat_result([about.st_mode | 0o777, *about[1:]])

    monkeypatch.setattr(atomic.os, "fstat", shown)
    require_ours(folder)
    require_ours(made(folder / "f", 0o777))
    monkeypatch.setattr(os, "getuid", lambda: us + 1)
    with pytest.raises(OutputError, match="this disk does not keep who owns a file"):
        require_ours(folder)


def test_where_files_have_no_owners_nothing_is_asked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delattr(os, "getuid")
    require_ours(made(tmp_path / "f", 0o666))


WRITER = """
import os, signal, sys, time
from pathlib import Path
from primis import atomic
def fsync(descriptor):
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.readline()
atomic.os.fsync = fsync
atomic.write_new(Path(sys.argv[1]), b"data")
"""


def writer(path: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), what]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_what_a_killed_process_was_writing_is_swept(tmp_path: Path) -> None:
    with writer(tmp_path / "x", "dies") as process:
        process.wait()
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"data"
    (tmp_path / ".primis-0123456789abcdef.tmp").mkdir()
    (tmp_path / ".primis-fedcba9876543210.tmp").symlink_to(left)
    sweep(tmp_path)
    kept = [".primis-0123456789abcdef.tmp", ".primis-fedcba9876543210.tmp"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


@pytest.mark.skipif(os.name != "posix", reason="needs locks of files")
def test_what_another_process_is_writing_is_not_swept(tmp_path: Path) -> None:
    with writer(tmp_path / "x", "waits") as process:
        assert process.stdout and process.stdout.readline() == "writing\n"
        sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        process.communicate("go on\n")
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_where_there_are_no_locks_only_what_is_old_is_swept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(atomic, "hold", lambda descriptor: None)
    young, old = (tmp_path / f".primis-{digit * 16}.tmp" for digit in "ab")
    for path, age in ((young, 0), (old, 90_000)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [young]
    sweep_all(tmp_path.parent)
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_while_others_sweep(tmp_path: Path) -> None:
    def write(number: int) -> None:
        sweep(tmp_path)
        write_new(tmp_path / str(number), bytes([number]))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(200)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        str(number): bytes([number]) for number in range(200)
    }


def test_what_has_other_names_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    folder, theirs = tmp_path / "folder", tmp_path / "theirs"
    (folder / "deep").mkdir(parents=True)
    theirs.mkdir()
    for path in (folder / "kept", folder / "gone", folder / "deep" / "gone", theirs / "kept"):
        path.write_text("x")
    (folder / "link").symlink_to(theirs)
    keep_named(folder, {"kept", "absent"})
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert (theirs / "kept").exists()

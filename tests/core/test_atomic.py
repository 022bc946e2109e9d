"""Work goes on only with what this user left, not with links or what others own or may write in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from primis import atomic
from primis.atomic import own_folder, require_ours
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

"""Key files: whole or not at all, one for all who try at once, for their owner alone."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from primis.cli import arguments
from primis.cli.arguments import ask_passphrase, default_owner_key, open_signer, take_passphrase
from primis.errors import BadKey, OutputError, UsageError
from primis.keys import key_file
from primis.keys.identity import generate, read_identities, read_signer
from primis.keys.key_file import ReadableByOthers, holds_private_key, why_exposed, write_key_file

posix = pytest.mark.skipif(os.name != "posix", reason="needs file modes")
WAYS = ["unnamed", "linked", "in place"]


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways in which a key file is made, by what the disk can do."""
    if request.param != "unnamed":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param == "in place":
        monkeypatch.setattr(os, "link", no_links)
    return request.param


@pytest.fixture
def no_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk, such as exFAT, on which every file is readable by all."""

    def shown(status: os.stat_result) -> os.stat_result:
        return os.stat_result((status.st_mode | 0o077, *tuple(status)[1:]))

    fstat, lstat, looked = os.fstat, Path.lstat, Path.stat
    monkeypatch.setattr(os, "fstat", lambda file: shown(fstat(file)))
    monkeypatch.setattr(Path, "lstat", lambda path: shown(lstat(path)))
    monkeypatch.setattr(Path, "stat", lambda path, **how: shown(looked(path, **how)))


@pytest.fixture
def run(tmp_path: Path):
    def call(*words: object, status: int = 0, **env: str) -> subprocess.CompletedProcess:
        known = {k: v for k, v in os.environ.items() if not k.startswith(("PRIMIS_", "XDG_"))}
        command = [sys.executable, "-m", "primis.cli", *map(str, words)]
        how = {"capture_output": True, "text": True, "cwd": tmp_path}
        done = subprocess.run(command, check=False, env=known | env, **how)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_made_whole_private_and_only_once(way: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "k"
    write_key_file(path, b"first")
    with pytest.raises(FileExistsError):
        write_key_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(path.parent) == ["k"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


@posix
def test_nothing_is_written_through_a_link(way: str, tmp_path: Path) -> None:
    (tmp_path / "k").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        write_key_file(tmp_path / "k", b"key")
    assert names(tmp_path) == ["k"]


def test_what_fails_leaves_nothing(way: str, tmp_path: Path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_key_file(tmp_path / "k", b"key")
    assert names(tmp_path) == []


def test_first_uses_at_once_make_one_key(way: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(tmp_path / "owner.key"))
    exists, barrier = os.path.lexists, Barrier(4)

    def all_see_none(path: Path) -> bool:
        found = exists(path)
        barrier.wait()
        return found

    monkeypatch.setattr(arguments.os.path, "lexists", all_see_none)
    with ThreadPoolExecutor(4) as pool:
        signers = list(pool.map(lambda _: open_signer(None, make=True).public, range(4)))
    assert set(signers) == {read_signer(tmp_path / "owner.key").public}
    assert names(tmp_path) == ["owner.key"]


@posix
def test_what_a_killed_call_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / ".primis-0123456789abcdef.tmp"
    left.write_bytes(b"a key")
    other, linked = tmp_path / ".primis-mine.tmp", tmp_path / ".primis-fedcba9876543210.tmp"
    other.write_bytes(b"of somebody")
    linked.symlink_to(other)
    write_key_file(tmp_path / "k", b"key")
    assert names(tmp_path) == sorted(["k", other.name, linked.name])


@posix
def test_what_another_call_is_writing_is_not_swept(tmp_path: Path) -> None:
    import fcntl

    busy = tmp_path / ".primis-0123456789abcdef.tmp"
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_key_file(tmp_path / "k", b"key")
        assert busy.exists()


@posix
@pytest.mark.usefixtures("no_modes")
def test_where_modes_do_not_hold_no_key_is_made_unless_allowed(way: str, tmp_path: Path) -> None:
    with pytest.raises(ReadableByOthers, match="keeps no file modes"):
        write_key_file(tmp_path / "k", b"key")
    assert names(tmp_path) == []
    write_key_file(tmp_path / "k", b"key", allow_readable=True)
    assert (tmp_path / "k").read_bytes() == b"key"


@posix
@pytest.mark.usefixtures("no_modes")
def test_the_first_use_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(tmp_path / "owner.key"))
    with pytest.raises(OutputError, match=r"keeps no file modes.*--allow-readable"):
        open_signer(None, make=True)
    assert names(tmp_path) == []


@posix
def test_a_key_that_others_can_read_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    path = tmp_path / "k"
    path.write_text(generate())
    for mode in (0o600, 0o400):
        path.chmod(mode)
        assert why_exposed(path) is None
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        assert why_exposed(path)
    arguments.open_identities([path], False)
    arguments.open_signer(path)
    warned = capsys.readouterr().err.splitlines()
    why = "is open to others (mode 0620), expected 0600: chmod 600"
    assert warned == [f'warning: key file "{path}" {why}'] * 2
    path.chmod(0o600)
    monkeypatch.setattr(key_file.os, "geteuid", lambda: path.stat().st_uid + 1)
    assert "belongs to another user" in (why_exposed(path) or "")


def test_keygen_writes_the_public_key_beside_it_or_nothing(run, tmp_path: Path) -> None:
    said = run("keygen", "-o", "a.key").stdout
    public = (tmp_path / "a.key.pub").read_text()
    assert public == read_signer(tmp_path / "a.key").recipient.text + "\n"
    assert public.strip() in said
    assert '"a.key.pub"' in said
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "a.key.pub").stat().st_mode) == 0o644
    (tmp_path / "b.key.pub").write_text("mine")
    assert '"b.key.pub" exists' in run("keygen", "-o", "b.key", status=1).stderr
    assert names(tmp_path) == ["a.key", "a.key.pub", "b.key.pub"]


def test_keygen_does_not_repeat_a_private_key(run, tmp_path: Path) -> None:
    key = generate().splitlines()[-1]
    openssh = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2g"
    for typed in (key, key.lower(), f"folder/{key}.key", openssh):
        done = run("keygen", "-o", typed, status=2)
        assert typed[20:40].lower() not in (done.stderr + done.stdout).lower()
        assert "make a new one" in done.stderr
    assert names(tmp_path) == []
    for plain in ("alice.key", "private key.pem", "age1.key", "id_ed25519", "/keys/MIIB/x"):
        assert not holds_private_key(plain)
    for read in (read_signer, read_identities):
        with pytest.raises(BadKey) as caught:
            read(Path(key.lower()))
        assert key[20:40].lower() not in str(caught.value).lower()


@posix
def test_an_empty_folder_of_settings_counts_as_unset(tmp_path: Path, monkeypatch) -> None:
    if sys.platform == "darwin":
        pytest.skip("macOS has its own place")
    for name in ("HOME", "PRIMIS_OWNER_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    usual = tmp_path / ".config" / "primis" / "owner.key"
    for given in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", given)
        monkeypatch.setenv("PRIMIS_OWNER_KEY", "")
        assert default_owner_key() == usual
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert default_owner_key() == tmp_path / "other" / "primis" / "owner.key"
    monkeypatch.setenv("PRIMIS_OWNER_KEY", str(tmp_path / "k"))
    assert default_owner_key() == tmp_path / "k"
    open_signer(None, make=True)
    assert names(tmp_path) == ["k"]


def test_a_passphrase_is_taken_out_of_the_environment_and_remembered(monkeypatch) -> None:
    monkeypatch.setattr(arguments, "_remembered", [])
    monkeypatch.setenv("PRIMIS_PASSPHRASE", "correct horse battery")
    assert [ask_passphrase(confirm=c) for c in (True, False)] == ["correct horse battery"] * 2
    code = "import os; print(os.environ.get('PRIMIS_PASSPHRASE'))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout == "None\n"
    monkeypatch.setenv("PRIMIS_PASSPHRASE", "")
    assert take_passphrase() is None
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(UsageError, match="no passphrase"):
        ask_passphrase(confirm=False)


def test_recipients_count_once_and_what_is_left_out_is_printed(tmp_path: Path, capsys) -> None:
    one, two = (generate().splitlines()[1].split()[-1] for _ in range(2))
    path = tmp_path / "keys"
    path.write_text(f"ecdsa-sha2-nistp256 AAAA x\n{one}\n{two}\n")
    found = arguments.parse_recipients([str(path), one])
    assert [r.text for r in found] == [one, two]
    warned = f'warning: recipient "{path}": line 1 is a key of another'
    assert capsys.readouterr().err.startswith(warned)
    with pytest.raises(UsageError, match='"bob-2" is named twice'):
        arguments.parse_recipients([f"bob={path}", f"bob-2={one}"])


@posix
@pytest.mark.usefixtures("no_modes")
def test_no_mode_is_advised_where_there_are_none(tmp_path: Path) -> None:
    write_key_file(tmp_path / "k", b"key", allow_readable=True)
    why = why_exposed(tmp_path / "k") or ""
    assert "is open to others: its disk keeps no file modes" in why
    assert "chmod" not in why
    assert names(tmp_path) == ["k"]

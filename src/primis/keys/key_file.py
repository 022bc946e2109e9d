"""Key files on disk: made whole or not at all, for their owner alone; read with a bound."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from pathlib import Path

from primis.atomic import fresh_mode, hold, sweep, sync_folder, temporary_beside
from primis.errors import BadKey, OutputError

MAX_KEY_FILE = 1 << 20

_OTHERS = 0o077
_TRIES = 5
_POSIX = os.name == "posix" and hasattr(os, "geteuid")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
SECRET_WORDS = (
    "age-secret-key-",
    "age-plugin-",
    "private key--",
    "b3blbnnzac1rzxkt",  # base64 in lower case: an OpenSSH key,
    "mc4caqawbqydk2vw",  # ed25519 in PKCS #8,
    "adanbgkqhkig9w0baqefaasc",  # RSA in PKCS #8,
    "ibaakcaqea",  # RSA in PKCS #1 of 2048,
    "ibaakcayea",  # 3072
    "ibaakcagea",  # and 4096 bits
)
"""What private keys hold in lower case."""


class ReadableByOthers(OutputError):
    """A private key would lie where others can read it."""


def holds_private_key(text: str) -> bool:
    """Whether a private key was typed where something else was expected."""
    lower = text.lower()
    return any(word in lower for word in SECRET_WORDS)


def quoted(path: Path | str) -> str:
    """A path for a message: in quotes, without what a terminal would act on."""
    return '"' + "".join(c if c.isprintable() else "?" for c in str(path)) + '"'


def read_key_file(path: Path, what: str = "key file") -> bytes:
    """What a key file holds; raises BadKey, also where a key was given in place of its file."""
    if holds_private_key(str(path)):
        where = "a private key was given in place of its file"
        raise BadKey(f"{where}; others may have seen it: make a new one")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such file"
        raise BadKey(f"{what} {quoted(path)} cannot be read: {why}") from None
    if len(data) > MAX_KEY_FILE:
        raise BadKey(f"{what} {quoted(path)} has over {MAX_KEY_FILE} bytes, expected keys")
    return data


def why_exposed(path: Path) -> str | None:
    """A line on a private key file that others can read or change, or None."""
    if not _POSIX:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    if status.st_mode & _OTHERS:
        what = f"key file {quoted(path)} is open to others"
        if fresh_mode(path.parent) & _OTHERS:
            return f"{what}: its disk keeps no file modes, expected one that does"
        return f"{what} (mode {stat.S_IMODE(status.st_mode):04o}), expected 0600: chmod 600"
    if status.st_uid != os.geteuid():
        return f"key file {quoted(path)} belongs to another user, who can read and change it"
    return None


def write_key_file(
    path: Path,
    data: bytes,
    mode: int = 0o600,
    *,
    allow_readable: bool = False,
) -> None:
    """A new file under its final name: whole or not at all, and by one of those who try at once.

    Raises FileExistsError where there is a file already, ReadableByOthers where the disk keeps no
    modes and the file was to be private, OutputError where it cannot be written.
    """
    private = mode & _OTHERS == 0 and _POSIX and not allow_readable
    try:
        _make_folder(path.parent)
        sweep(path.parent)
        for write in (_write_unnamed, _write_and_link, _write_in_place):
            if write(path, data, mode, private):
                break
        sync_folder(path.parent)
        if private and path.lstat().st_mode & _OTHERS:  # some disks say so only now
            path.unlink()
            raise _readable(path)
    except FileExistsError:
        raise
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)
        raise OutputError(f"{quoted(path)} cannot be written: {why}") from None


def _write_unnamed(path: Path, data: bytes, mode: int, private: bool) -> bool:
    """A file without a name, then its name: nothing is left if this is killed. False: not here."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return False
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            file = os.open(path.parent, flag | os.O_WRONLY, mode)
        except OSError:
            return False
        try:
            _fill(file, data, mode, private, path)
            return _link(f"/proc/self/fd/{file}", path, folder)
        finally:
            os.close(file)
    finally:
        os.close(folder)


def _write_and_link(path: Path, data: bytes, mode: int, private: bool) -> bool:
    """A temporary file, which the next call sweeps if this one is killed. False: no hard links."""
    for _ in range(_TRIES):
        temporary = temporary_beside(path)
        file = os.open(temporary, _NEW, mode)
        try:
            hold(file)
            _fill(file, data, mode, private, path)
            with contextlib.suppress(FileNotFoundError):  # swept before it was locked: once more
                return _link(str(temporary), path, None)
        finally:
            os.close(file)
            temporary.unlink(missing_ok=True)
    return False


def _write_in_place(path: Path, data: bytes, mode: int, private: bool) -> bool:
    """Under the final name from the start: the others see the file, and wait until it is whole."""
    file = os.open(path, _NEW, mode)
    try:
        _fill(file, data, mode, private, path)
    except BaseException:
        os.close(file)
        path.unlink(missing_ok=True)
        raise
    os.close(file)
    return True


def _fill(file: int, data: bytes, mode: int, private: bool, path: Path) -> None:
    """Write and sync; the mode is looked at before the key is in the file."""
    with contextlib.suppress(OSError):
        if hasattr(os, "fchmod"):
            os.fchmod(file, mode)
    if private and os.fstat(file).st_mode & _OTHERS:
        raise _readable(path)
    with os.fdopen(os.dup(file), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _readable(path: Path) -> ReadableByOthers:
    why = "would be readable by others: its disk keeps no file modes"
    return ReadableByOthers(f"key file {quoted(path)} {why}, expected one that does")


def _link(source: str, path: Path, folder: int | None) -> bool:
    """Give a file its final name. False where there are no hard links."""
    try:
        if folder is None:
            os.link(source, path)
        else:  # with a folder Python asks for linkat, which follows the link in /proc
            os.link(source, path, src_dir_fd=folder, follow_symlinks=True)
    except OSError as error:
        if error.errno in _NO_LINKS or (folder is not None and error.errno == errno.ENOENT):
            return False
        raise
    return True


def _make_folder(folder: Path) -> None:
    """A folder and those above it, each for its owner alone."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def wait_until_written(path: Path, seconds: float = 5.0) -> None:
    """While another process fills a file that it had to make in place, on a disk without links."""
    last = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while path.stat().st_size == 0 and time.monotonic() < last:
            time.sleep(0.05)

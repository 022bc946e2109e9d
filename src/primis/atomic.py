"""Files and folders that are there whole or not at all; and whose they are.

Work that stopped goes on with what it left in a folder. What others may have laid there is not gone
on with: it would decide what is signed, trained or reported.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Container, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from primis.errors import OutputError

PARTIAL = ".partial"
"""How the name of a folder in the making ends."""

_TEMPORARY = re.compile(r"\.primis-[0-9a-f]{16}\.tmp")
_STALE = 86_400
"""Seconds after which a file in the making is taken for left, where the disk has no locks."""

_TRIES = 5
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LOOK = "look what it is, and remove it"


def write_new(path: Path, data: bytes, mode: int = 0o644, *, sync: bool = True) -> None:
    """Write a file that is there whole or not at all. sync: have the disk keep its name at once;
    who writes many does that once for all (`sync_folder`). Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not any(_write_and_replace(path, data, mode) for _ in range(_TRIES)):
            raise OutputError(f'"{path}" cannot be written: another process removes what is made')
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f'"{path}" cannot be written: {reason(error)}') from None


def _write_and_replace(path: Path, data: bytes, mode: int) -> bool:
    """False where the file was swept before it was held."""
    temporary = temporary_beside(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, mode)
    with ExitStack() as held:
        held.callback(_unlink, temporary)
        if hold(descriptor):
            held.callback(os.close, os.dup(descriptor))  # until it has its name
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.replace(temporary, path)
            return True
    return False


def temporary_beside(path: Path) -> Path:
    """A name for a file in the making: that of an image is a patient's."""
    return path.with_name(f".primis-{secrets.token_hex(8)}.tmp")


def hold(descriptor: int) -> bool | None:
    """Keep an open file from being swept; False where another holds it, None where there are no
    such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def open_regular(path: Path) -> IO[bytes]:
    """A file opened for reading. Raises OSError where it is a FIFO, a device or anything else that
    may never end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """A regular file of at most so many bytes. Raises OSError."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


def sync_folder(folder: Path) -> None:
    """Have the disk keep which files a folder has, where the system offers that."""
    with contextlib.suppress(OSError):  # Windows, and some network disks
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what was in the making in a folder when it was killed: regular files of ours that no
    process holds."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if is_temporary(path):
                with contextlib.suppress(OSError):
                    _sweep_one(path)


def is_temporary(path: Path) -> bool:
    """Whether it is in the making."""
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep_all(folder: Path) -> None:
    """The same, also below it and whoever holds them: nobody else writes there now."""
    left = [entry.path for entry in _below(folder) if _TEMPORARY.fullmatch(entry.name)]
    for path in map(Path, left):
        with contextlib.suppress(OSError):
            if _is_left(path):
                path.unlink()


def _below(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All that lies in a folder and in those below it, one after the other: there may be many.
    Links are not followed."""
    unreadable = contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError)
    with unreadable, os.scandir(folder) as found:
        for entry in found:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)


def _is_left(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode) and is_ours(path)


def _sweep_one(path: Path) -> None:
    if not _is_left(path):
        return
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        held = hold(descriptor)
        if held or (held is None and time.time() - path.lstat().st_mtime > _STALE):
            path.unlink()
    finally:
        os.close(descriptor)


def is_ours(path: Path) -> bool:
    """Whether a file, a folder or a link itself is this user's; of all where systems keep no
    owners. Raises OSError."""
    return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()


def finish_folder(partial: Path, out: Path) -> None:
    """Give a complete folder its name. Raises OutputError if that is taken."""
    try:
        if out.exists() or out.is_symlink():
            raise OutputError(f'folder "{out}" exists, expected a new one')
        os.rename(partial, out)
        sync_folder(out.parent)
    except OSError as error:
        raise OutputError(f'"{out}" cannot be written: {reason(error)}') from None


def keep_only(folder: Path, *patterns: str) -> None:
    """Remove what lies in a folder and that no pattern names."""
    kept = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in folder.iterdir():
        if path not in kept:
            remove(path)


def keep_named(folder: Path, names: Container[str]) -> None:
    """Remove what lies in a folder under other names. There may be many."""
    with os.scandir(folder) as found:
        others = [entry.name for entry in found if entry.name not in names]
    for name in others:
        remove(folder / name)


def is_whole(path: Path, sha256: str) -> bool:
    """Whether there is a file of this digest, in hex."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def level(folder: Path, mode: int) -> None:
    """Give a folder and those below it a mode, and all that is in it one time: when each file was
    made would tell of it. The disk keeps all names that are in them by then."""
    now = time.time()
    follow = os.utime not in os.supports_follow_symlinks
    folders = [os.fspath(folder)]
    for entry in _below(folder):
        os.utime(entry.path, (now, now), follow_symlinks=follow)
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry.path)
    for path in folders:
        os.utime(path, (now, now), follow_symlinks=follow)
        with contextlib.suppress(PermissionError):  # a disk that keeps no modes
            os.chmod(path, mode)
        sync_folder(Path(path))


def reason(error: OSError) -> str:
    """Why something could not be written, for people."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return "the disk is full" if full else str(error.strerror or error)


def remove(path: Path) -> None:
    """Remove a file, a link itself, or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> bool:
    """Remove a folder of ours, as far as that goes; whether it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


def own_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, or make sure that one that is there is ours.

    Raises OutputError.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except FileExistsError:
        require_ours(folder)
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be written: {error.strerror}') from None


def require_ours(path: Path) -> None:
    """Raises OutputError where a path is a link, where others own it or may write in it.

    Where a disk keeps no modes (exFAT, some shares) every file looks as if anybody may write: there
    the owner is all that counts. Systems without owners of files (Windows) are left to their own
    rights of access.
    """
    if not hasattr(os, "getuid"):
        return
    try:
        about = path.lstat()
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
            raise OutputError(f'"{path}" is a link or a device, expected your own: {_LOOK}')
        if about.st_uid != os.getuid():
            raise OutputError(f'"{path}" belongs to another user{_owners(path)}: {_LOOK}')
        out_of_reach = stat.S_ISREG(about.st_mode) and _is_closed(path.parent)
    except OSError as error:
        raise OutputError(f'"{path}" cannot be read: {error.strerror}') from None
    if about.st_mode & _BY_OTHERS and not out_of_reach and fresh_mode(path) & _BY_OTHERS == 0:
        raise OutputError(f'others may write in "{path}": {_LOOK}, or forbid it (chmod go-w)')


def require_own_place(folder: Path) -> None:
    """Raise OutputError where anybody may rename and replace what is made in a folder: one that all
    may write in, without the sticky bit that /tmp has. Nothing that is made there can be relied on.
    """
    if not hasattr(os, "getuid"):
        return
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be read: {error.strerror}') from None
    anybody = mode & stat.S_IWOTH and not mode & stat.S_ISVTX
    if anybody and fresh_mode(folder) & _BY_OTHERS == 0:
        raise OutputError(
            f'anybody may write in "{folder}" and replace what is made there: '
            "expected another place, or chmod o-w"
        )


def _is_closed(folder: Path) -> bool:
    """Whether nobody else can enter a folder: the modes of the files in it matter little."""
    about = folder.lstat()
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
    return ours and not about.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _owners(path: Path) -> str:
    about = _probe(path)
    kept = about is None or about.st_uid == os.getuid()
    return "" if kept else " (this disk does not keep who owns a file)"


def fresh_mode(path: Path) -> int:
    """The mode that a file made for us alone has on this disk; 0 where none can be made."""
    about = _probe(path)
    return 0 if about is None else stat.S_IMODE(about.st_mode)


def _probe(path: Path) -> os.stat_result | None:
    """What a file made for us alone looks like at `path`; None if none can be made."""
    folder = path if stat.S_ISDIR(path.lstat().st_mode) else path.parent
    probe = temporary_beside(folder / "probe")
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        return os.fstat(handle)
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            probe.unlink()

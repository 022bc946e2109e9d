"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from pathlib import Path
from typing import IO

from primis.errors import OutputError

PARTIAL = ".partial"
"""How the name of a folder in the making ends."""

_TEMPORARY = ".primis-{}.tmp"
"""How files in the making are called: the name of an image is a patient's."""


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is there whole or not at all. Raises OutputError."""
    temporary = path.with_name(_TEMPORARY.format(secrets.token_hex(8)))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f'"{path}" cannot be written: {reason(error)}') from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    """Remove what `write_new` left below a folder when it was killed."""
    for path in folder.rglob(_TEMPORARY.format("*")):
        if not path.is_dir():
            with contextlib.suppress(OSError):
                path.unlink()


def finish_folder(partial: Path, out: Path) -> None:
    """Give a complete folder its name. Raises OutputError if that is taken."""
    try:
        if out.exists() or out.is_symlink():
            raise OutputError(f'folder "{out}" exists, expected a new one')
        os.rename(partial, out)
        sync_folder(out.parent)
    except OSError as error:
        raise OutputError(f'"{out}" cannot be written: {reason(error)}') from None


def level_times(folder: Path) -> None:
    """Give all files below a folder one time: when each was made would tell of it."""
    now = time.time()
    follow = os.utime not in os.supports_follow_symlinks
    for path in folder.rglob("*"):
        os.utime(path, (now, now), follow_symlinks=follow)


def reason(error: OSError) -> str:
    """Why something could not be written, for people."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return "the disk is full" if full else str(error.strerror or error)


def remove_folder(folder: Path) -> bool:
    """Remove a folder of ours, as far as that goes; whether it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)

"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from pathlib import Path

from primis.errors import OutputError

PARTIAL = ".partial"
"""How the name of a folder in the making ends."""


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that is there whole or not at all. Raises OutputError."""
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f'"{path}" cannot be written: {reason(error)}') from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def finish_folder(partial: Path, out: Path) -> None:
    """Give a complete folder its name. Raises OutputError if that is taken."""
    try:
        if out.exists():
            raise OutputError(f'folder "{out}" exists, expected a new one')
        os.rename(partial, out)
    except OSError as error:
        raise OutputError(f'"{out}" cannot be written: {reason(error)}') from None


def level_times(folder: Path) -> None:
    """Give all files below a folder one time: when each was made would tell of it."""
    now = time.time()
    for path in folder.rglob("*"):
        os.utime(path, (now, now), follow_symlinks=False)


def reason(error: OSError) -> str:
    """Why something could not be written, for people."""
    return "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror or error)


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours, as far as that goes."""
    shutil.rmtree(folder, ignore_errors=True)

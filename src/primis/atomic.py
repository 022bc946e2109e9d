"""What lies where work goes on: whose it is.

Work that stopped goes on with what it left in a folder. What others may have laid there is not gone
on with: it would decide what is signed, trained or reported.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from primis.errors import OutputError

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_LOOK = "look what it is, and remove it"


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
    if about.st_mode & _BY_OTHERS and not out_of_reach and _fresh(path) & _BY_OTHERS == 0:
        raise OutputError(f'others may write in "{path}": {_LOOK}, or forbid it (chmod go-w)')


def _is_closed(folder: Path) -> bool:
    """Whether nobody else can enter a folder: the modes of the files in it matter little."""
    about = folder.lstat()
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
    return ours and not about.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def _owners(path: Path) -> str:
    about = _probe(path)
    kept = about is None or about.st_uid == os.getuid()
    return "" if kept else " (this disk does not keep who owns a file)"


def _fresh(path: Path) -> int:
    """The mode that a file made for us alone has on this disk; 0 where none can be made."""
    about = _probe(path)
    return 0 if about is None else stat.S_IMODE(about.st_mode)


def _probe(path: Path) -> os.stat_result | None:
    """What a file made for us alone looks like at `path`; None if none can be made."""
    folder = path if stat.S_ISDIR(path.lstat().st_mode) else path.parent
    probe = folder / f".probe.{secrets.token_hex(8)}"
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

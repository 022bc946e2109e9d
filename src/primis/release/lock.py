"""One writer at a time: a lock file beside a folder, which says who holds it.

The operating system drops the lock when its holder ends, however it ends. The file is removed by
its last holder.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import portalocker

from primis.atomic import reason, require_own_place
from primis.errors import OutputError

_BEGIN = "primis lock: "
_POLL = 0.1
_LONGEST = 200
_STALE = getattr(errno, "ESTALE", -1)
"""What NFS says of a file that another machine has removed."""


@contextmanager
def locked(
    folder: Path, doing: str, *, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock of a folder, which need not exist.

    doing: for whoever is kept waiting, such as "primis rekey". on_wait: is told once who holds the
    lock, and the lock is waited for; without it a held lock is an OutputError.
    """
    path = folder.with_name(f".{folder.name}.primis-lock")
    require_own_place(folder.parent)
    file = None
    while file is None:
        file = _try(path, folder, on_wait)
        on_wait = on_wait and _silent
        if file is None:
            time.sleep(_POLL)
    try:
        file.seek(0)
        file.truncate()
        file.write(_holder(doing))
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps an open file
            path.unlink()
        file.close()


def _try(path: Path, folder: Path, on_wait: Callable[[str], None] | None) -> IO[str] | None:
    """The lock file, locked; None if another holds it or has just removed it."""
    try:
        file = _open(path)
    except OSError as error:
        raise OutputError(f'"{folder}" cannot be locked by "{path}": {reason(error)}') from None
    try:
        portalocker.lock(file, portalocker.LOCK_EX | portalocker.LOCK_NB)
    except portalocker.AlreadyLocked:
        said = f'"{folder}" is being changed by {_said(file)}'
        file.close()
        if on_wait is None:
            raise OutputError(f"{said}: wait until that is done") from None
        on_wait(said)
        return None
    except (portalocker.LockException, OSError) as error:
        file.close()
        if _STALE in (getattr(error, "errno", None), getattr(error.__cause__, "errno", None)):
            return None
        raise OutputError(f'"{path}" cannot be locked: its disk knows no locks') from None
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False)):
            return file
    file.close()  # its holder removed it between our opening and locking it
    return None


def _open(path: Path) -> IO[str]:
    """Raises OSError; takes nothing for a lock that is a link or that primis did not write."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o600)
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and about.st_nlink <= 1:  # 0: its holder has just removed it
        file = os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
        begin = _BEGIN
        with contextlib.suppress(OSError):  # Windows: whoever holds it
            begin = file.read(len(_BEGIN))
            file.seek(0)
        if begin in ("", _BEGIN):
            return file
        file.close()
    else:
        os.close(descriptor)
    raise OSError(0, "it is no lock of primis: look what it is, and remove it")


def _holder(doing: str) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f'{_BEGIN}"{doing}", process {os.getpid()} on {socket.gethostname()}, since {now}'


def _said(file: IO[str]) -> str:
    """What the holder wrote, if it may be read."""
    text = ""
    with contextlib.suppress(OSError):
        text = "".join(c for c in file.read(_LONGEST) if c.isprintable())
    return text.removeprefix(_BEGIN) or "another process"


def _silent(said: str) -> None:
    pass

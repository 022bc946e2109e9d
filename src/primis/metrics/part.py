"""A finished part of an evaluation, kept as it comes, so that a stopped run goes on where it was.

What is kept is taken from a folder of ours alone, never unpickled, and made anew where damaged.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from primis.atomic import own_folder, require_ours, write_new

Arrays = dict[str, np.ndarray]

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises where a file is not what it wrote."""

Progress = Callable[[str, int, int], None]
"""(what, done, of how many)."""


def silent(what: str, done: int, total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, eq=False)
class Part:
    """body: figures as JSON has them; arrays: what pictures and tables are made of besides, by name."""

    body: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


Keep = Callable[[str, Callable[[], Part]], Part]
"""The part of that name, made now or before: `Parts.get`."""


def make_anew(name: str, make: Callable[[], Part]) -> Part:
    """Nothing is kept."""
    return make()


class Parts:
    """Parts in a folder that belongs to one plan: what was made for another plan is not taken for this one's."""

    def __init__(self, folder: Path | None, plan: dict[str, Any], *, prefix: str = "") -> None:
        self._folder, self._prefix = folder, prefix
        self._told = plan
        self._plan = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]

    def under(self, prefix: str) -> Parts:
        """The same, with a prefix to each name."""
        return Parts(self._folder, self._told, prefix=f"{self._prefix}{prefix}: ")

    def get(self, name: str, make: Callable[[], Part]) -> Part:
        """The part of that name, made now or before."""
        if self._folder is None:
            return make()
        own_folder(self._folder)
        digest = hashlib.sha256(f"{self._prefix}{name}".encode()).hexdigest()
        path = self._folder / f"{self._plan}-{digest[:12]}.npz"
        if kept := _part(kept_arrays(path)):
            return kept
        part = make()
        out = io.BytesIO()
        named = {f"_{name}": array for name, array in part.arrays.items()}
        np.savez_compressed(out, allow_pickle=False, body=np.array(json.dumps(part.body)), **named)
        write_new(path, out.getvalue(), 0o600)
        return part


def _part(kept: Arrays | None) -> Part | None:
    """The part that a file held, if it did."""
    try:
        body = json.loads(str((kept or {})["body"]))
    except (KeyError, ValueError, RecursionError):
        return None
    arrays = {name[1:]: array for name, array in (kept or {}).items() if name.startswith("_")}
    return Part(body, arrays) if isinstance(body, dict) else None


def kept_arrays(path: Path) -> Arrays | None:
    """Arrays of an .npz that an earlier run left, None where there is none or it is damaged.

    Raises OutputError where it is not ours.
    """
    if not path.is_symlink() and not path.exists():
        return None
    require_ours(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except _DAMAGE:
        return None

"""A finished part of an evaluation, kept as it comes, so that a stopped run goes on where it was.

What is kept is taken from a folder of ours alone, never unpickled, and made anew where damaged.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, overload

import numpy as np

from primis.atomic import own_folder, require_ours, write_new
from primis.metrics.typed import Arrays, from_arrays, to_arrays

T = TypeVar("T")

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


@dataclass(frozen=True, eq=False)
class Part:
    """A result without a type of its own. body: as JSON has it; arrays: by name."""

    body: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


class Keep(Protocol):
    """The result of that name and type, made now or before: `Parts.get`."""

    def __call__(self, name: str, make: Callable[[], T], kind: type[T]) -> T: ...


def make_anew(name: str, make: Callable[[], T], kind: type[T]) -> T:
    """Nothing is kept."""
    return make()


class Parts:
    """Results in a folder that belongs to one plan; those of another plan are not taken for it."""

    def __init__(self, folder: Path | None, plan: dict[str, Any], *, prefix: str = "") -> None:
        self._folder, self._prefix = folder, prefix
        self._told = plan
        self._plan = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]

    def under(self, prefix: str) -> Parts:
        """The same, with a prefix to each name."""
        return Parts(self._folder, self._told, prefix=f"{self._prefix}{prefix}: ")

    @overload
    def kept(self, name: str) -> Part | None: ...
    @overload
    def kept(self, name: str, kind: type[T]) -> T | None: ...

    def kept(self, name: str, kind: type[Any] = Part) -> Any:
        """The result of that name that was made before, None where there is none. Raises
        OutputError where it or the folder is not ours."""
        if self._folder is None or not os.path.lexists(self._folder):
            return None
        require_ours(self._folder)
        return from_file(self._path(self._folder, name), kind)

    @overload
    def get(self, name: str, make: Callable[[], Part]) -> Part: ...
    @overload
    def get(self, name: str, make: Callable[[], T], kind: type[T]) -> T: ...

    def get(self, name: str, make: Callable[[], Any], kind: type[Any] = Part) -> Any:
        """The result of that name, made now or before; kind: its type, a frozen dataclass."""
        if self._folder is None:
            return make()
        own_folder(self._folder)
        if (kept := self.kept(name, kind)) is not None:
            return kept
        made = make()
        write_new(self._path(self._folder, name), as_file(made), 0o600)
        return made

    def _path(self, folder: Path, name: str) -> Path:
        digest = hashlib.sha256(f"{self._prefix}{name}".encode()).hexdigest()
        return folder / f"{self._plan}-{digest[:12]}.npz"


def as_file(result: object) -> bytes:
    """A result as an .npz."""
    out = io.BytesIO()
    arrays = cast(dict[str, Any], to_arrays(result))
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def from_file(path: Path, kind: type[T]) -> T | None:
    """The result that an earlier run left, None where there is none or it is damaged.

    Raises OutputError where it is not ours.
    """
    arrays = kept_arrays(path)
    if arrays is None:
        return None
    try:
        return from_arrays(arrays, kind)
    except _DAMAGE:
        return None


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

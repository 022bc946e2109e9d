"""A finished part of an evaluation, kept as it comes, so that a stopped run goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from primis.sharing.output import write_new

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
        path = self._folder / f"{self._plan}-{hashlib.sha256(f'{self._prefix}{name}'.encode()).hexdigest()[:12]}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as data:
                arrays = {key[1:]: data[key] for key in data.files if key.startswith("_")}
                return Part(json.loads(str(data["body"])), arrays)
        part = make()
        out = io.BytesIO()
        named = {f"_{name}": array for name, array in part.arrays.items()}
        np.savez_compressed(out, allow_pickle=False, body=np.array(json.dumps(part.body)), **named)
        write_new(path, out.getvalue(), 0o600)
        return part

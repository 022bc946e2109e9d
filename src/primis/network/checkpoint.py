"""A model as a file: safetensors (no pickle), its manifest in the metadata, named by its digest.

It holds numbers and nothing else. The network's tensors are named as in `tensors.py`, after
"network.", the integer tables of the coder (`codes/probabilities.py`) after "tables."; which there
are, and of what shape, follows from the preset, and a file with one more, one less or another is
refused. The graphs that run them ship with primis (`program.py`). Loading needs NumPy only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from safetensors.numpy import load, save

from primis.atomic import sweep, write_new
from primis.codes.layout import Layout
from primis.codes.probabilities import ContextModel
from primis.errors import ModelError
from primis.network.architecture import Architecture, architecture_of, fault_of
from primis.network.presets import Preset

WEIGHTS = Path(__file__).parent / "weights"

_MOST_BYTES = 256 << 20
_MOST_HEADER = 1 << 20
"""Of a file, and of the JSON at its start; those that ship have 4 MB and 6 kB."""

_MOST_KEYS, _MOST_NUMBERS, _LONGEST_TEXT = 64, 64, 255
"""Of the record of a training: its keys, the numbers of a list, the characters of a text."""


class Domain(NamedTuple):
    """What a model was trained on. images: in words; modalities: what DICOM calls them (PS3.3,
    C.7.3.1.1.1)."""

    images: str
    modalities: frozenset[str]


_DOMAINS = {"cxr-nih.csv": Domain("chest radiographs", frozenset({"CR", "DX"}))}
"""By the data that the record of a training names; see docs/model-card.md."""

_TABLES = tuple(table.name for table in fields(ContextModel))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A preset, its trained tensors, its tables, and how it came about.

    digest: SHA-256 of the file, 64 hex digits; bundles name it. training: data, split, recipe;
    numbers, short texts and lists of numbers.
    """

    preset: Preset
    network: dict[str, np.ndarray] = field(repr=False)
    tables: ContextModel = field(repr=False)
    training: dict[str, Any]
    digest: str = ""

    @cached_property
    def architecture(self) -> Architecture:
        """What follows from the preset."""
        return architecture_of(self.preset)

    @property
    def domain(self) -> Domain | None:
        """What it was trained on, if that is known."""
        return _DOMAINS.get(str(self.training.get("data")))

    @property
    def layout(self) -> Layout:
        """How the coder sees this model's atoms."""
        return self.architecture.layout

    @property
    def fault(self) -> str | None:
        """Why no file may hold it, in a few words; None if one may."""
        if fault := fault_of(self.preset):
            return fault
        if not _is_record(self.training):
            return "its record of the training has other than numbers, short texts and their lists"
        shapes = self.architecture.shapes
        if missing := [name for name in shapes if name not in self.network]:
            return f'tensor "{missing[0]}" is missing'
        if len(self.network) > len(shapes):
            more = len(self.network) - len(shapes)
            return f"it holds {more} tensors that its preset does not have"
        for name, shape in shapes.items():
            tensor = self.network[name]
            if tensor.dtype != np.float32 or tensor.shape != shape:
                return f'tensor "{name}" is not float32 of shape {shape}'
            if not np.isfinite(tensor).all():
                return f'tensor "{name}" has values that are not finite'
        try:
            self.layout.split()
        except ValueError as error:
            return str(error)
        return None if self.tables.fits(self.layout) else "its tables do not fit its preset"


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> str:
    """Write the file, whole or not at all; returns its digest.

    Raises ModelError if nobody could read it again, OutputError where it cannot be written.
    """
    if fault := checkpoint.fault:
        raise ModelError(f'model "{path}" cannot be written: {fault}')
    tensors = {f"network.{name}": np.ascontiguousarray(t) for name, t in checkpoint.network.items()}
    tables = {}
    for name in _TABLES:
        tables[f"tables.{name}"] = np.ascontiguousarray(getattr(checkpoint.tables, name))
    manifest = {"format": 1, "preset": asdict(checkpoint.preset), "training": checkpoint.training}
    data = save(tensors | tables, {"primis": json.dumps(manifest, sort_keys=True)})
    sweep(path.parent)
    write_new(path, data)
    return hashlib.sha256(data).hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Raises ModelError if the file is missing, damaged, another format or more than numbers."""
    return _parse(_read(path), path)


def _read(path: Path) -> bytes:
    """The bytes of a regular file of bounded size."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise ModelError(f'model "{path}" is not a file')
            data = b"" if about.st_size > _MOST_BYTES else file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f'model "{path}" cannot be read: {reason}') from None
    if max(about.st_size, len(data)) > _MOST_BYTES:
        raise ModelError(f'model "{path}" is larger than {_MOST_BYTES >> 20} MiB')
    return data


def _open_at_once(path: str, flags: int) -> int:
    """A pipe that nobody writes to is not waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _Refused(Exception):
    """Why, in a few words."""


def _parse(data: bytes, path: Path) -> Checkpoint:
    """1 the header, 2 its manifest, 3 the preset, 4 the tensors; 5 what the preset demands."""
    refused = f'model "{path}" is damaged or not a primis model of format 1'
    try:
        checkpoint = _unchecked(data)
        if fault := checkpoint.fault:  # 5
            raise _Refused(fault)
    except _Refused as error:
        raise ModelError(f"{refused}: {error}") from None
    except Exception:  # whatever bytes of any kind make JSON, NumPy and safetensors raise
        raise ModelError(refused) from None
    return checkpoint


def _unchecked(data: bytes) -> Checkpoint:
    # 1
    length = int.from_bytes(data[:8], "little")
    if length > _MOST_HEADER:
        raise _Refused(f"its header is larger than {_MOST_HEADER >> 20} MiB")
    head = _strict_json(data[8 : 8 + length])
    # 2
    metadata = head["__metadata__"]
    manifest = _strict_json(metadata["primis"])
    if metadata.keys() != {"primis"} or manifest.keys() != {"format", "preset", "training"}:
        raise _Refused("its manifest has other fields than format, preset and training")
    if type(manifest["format"]) is not int or manifest["format"] != 1:
        raise _Refused("its format is another")
    # 3
    told = manifest["preset"]
    if told.keys() != {f.name for f in fields(Preset)} or not isinstance(told["widths"], list):
        raise _Refused("its preset has other fields than expected")
    preset = Preset(**told | {"widths": tuple(told["widths"])})
    # 4
    tensors: Mapping[str, np.ndarray] = load(data)
    of_network = [name for name in tensors if name.startswith("network.")]
    of_coder = [f"tables.{name}" for name in _TABLES]
    if len(of_network) + len(of_coder) != len(tensors) or not tensors.keys() >= {*of_coder}:
        raise _Refused("it holds other than the tensors of a network and the tables of its coder")
    network = {name.removeprefix("network."): tensors[name] for name in of_network}
    tables = ContextModel(*(tensors[name] for name in of_coder))
    digest = hashlib.sha256(data).hexdigest()
    return Checkpoint(preset, network, tables, manifest["training"], digest)


def _strict_json(text: bytes | str) -> dict[str, Any]:
    """An object of JSON, no name twice and every number finite."""
    found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    if not isinstance(found, dict):
        raise TypeError
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a name stands twice in its header")
    return found


def _no_number(_: str) -> NoReturn:
    raise _Refused("a number of its manifest is not finite")


def _is_record(training: Any) -> bool:
    """Whether it is what a training may say of itself."""
    if not isinstance(training, dict) or len(training) > _MOST_KEYS:
        return False
    return all(_is_text(name) and _is_value(value) for name, value in training.items())


def _is_value(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= _MOST_NUMBERS and all(_is_number(number) for number in value)
    return value is None or isinstance(value, bool) or _is_number(value) or _is_text(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()


def find_checkpoint(digest: str, also: tuple[Path, ...] = ()) -> Checkpoint:
    """The model with this digest, of the shipped ones and the files in `also`.

    Raises ModelError.
    """
    offered = []
    for path in (*also, *sorted(WEIGHTS.glob("*.safetensors"))):
        data = _read(path)
        found = hashlib.sha256(data).hexdigest()
        if found == digest:
            return _parse(data, path)
        offered.append(f"{path.stem} {found[:12]}")
    raise ModelError(
        f'model "{digest[:12]}" is needed, but only these are here: {", ".join(offered) or "none"}'
    )


def named(model: Path) -> Path:
    """A file of weights, or the shipped ones of that name where there is no such file."""
    return shipped(model.name) if not model.exists() and shipped(model.name).exists() else model


def shipped(name: str = "default") -> Path:
    """The file of a model that comes with primis."""
    return WEIGHTS / f"{name}.safetensors"

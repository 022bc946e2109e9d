"""A model as a file: safetensors (no pickle), its manifest in the metadata, named by its digest.

Loading needs NumPy only. The network's tensors are named as in `autoencoder.py`, after "network.";
the integer tables of the coder (`codes/context.py`) after "tables."; the ONNX graphs without
weights (`export.py`), as bytes, after "graph.".
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from primis.codes.atoms import Layout
from primis.codes.context import ContextModel
from primis.errors import ModelError
from primis.network.presets import Preset

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Graph:
    """An ONNX model without weights, and which of the network's tensors it wants."""

    model: bytes = field(repr=False)
    weights: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A preset, its trained tensors, its tables, and how it came about.

    digest: SHA-256 of the file, 64 hex digits; bundles name it. training: data, split, recipe.
    """

    preset: Preset
    network: dict[str, np.ndarray] = field(repr=False)
    tables: ContextModel = field(repr=False)
    training: dict[str, Any]
    graphs: dict[str, Graph] = field(default_factory=dict, repr=False)
    digest: str = ""

    @property
    def layout(self) -> Layout:
        """How the coder sees this model's atoms."""
        return layout_of(self.preset)


def layout_of(preset: Preset) -> Layout:
    """The coder's view of a preset's atoms: frequencies where the transform is lapped, else learned."""
    return Layout(preset.code_maps, preset.atoms_per_map, preset.architecture == "lapped")


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> str:
    """Write the file; returns its digest."""
    tensors = {f"network.{name}": np.ascontiguousarray(t) for name, t in checkpoint.network.items()}
    tensors |= {f"tables.{f.name}": np.ascontiguousarray(getattr(checkpoint.tables, f.name)) for f in fields(ContextModel)}
    tensors |= {f"graph.{name}": np.frombuffer(graph.model, np.uint8) for name, graph in checkpoint.graphs.items()}
    wanted = {name: graph.weights for name, graph in checkpoint.graphs.items()}
    manifest = {"format": 1, "preset": asdict(checkpoint.preset), "training": checkpoint.training, "graphs": wanted}
    data = save(tensors, {"primis": json.dumps(manifest, sort_keys=True)})
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    return hashlib.sha256(data).hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Raises ModelError if the file is missing, damaged or of another format."""
    try:
        data = path.read_bytes()
        tensors = load(data)
        head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        manifest = json.loads(head["__metadata__"]["primis"])
        if manifest["format"] != 1:
            raise ValueError
        preset = Preset(**manifest["preset"] | {"widths": tuple(manifest["preset"]["widths"])})
        tables = ContextModel(*(tensors[f"tables.{f.name}"] for f in fields(ContextModel)))
        lapped = preset.architecture == "lapped"
        sizes = (preset.stride, preset.code_maps, preset.atoms_per_map, preset.blocks, *preset.widths)
        sound = preset.architecture in ("lapped", "grouped") and all(type(n) is int and 0 < n <= 1 << 12 for n in sizes)
        sound = sound and preset.atoms <= 1 << 13 and not (lapped and preset.atoms != preset.stride**2)
        if not sound or not tables.fits(layout_of(preset)):
            raise ValueError
        layout_of(preset).split()
        network = {k.removeprefix("network."): t for k, t in tensors.items() if k.startswith("network.")}
        wanted = manifest["graphs"].items()
        graphs = {name: Graph(tensors[f"graph.{name}"].tobytes(), tuple(weights)) for name, weights in wanted}
    except OSError as error:
        raise ModelError(f'model "{path}" cannot be read: {error.strerror}') from None
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, ZeroDivisionError):
        raise ModelError(f'model "{path}" is damaged or not a primis model of format 1') from None
    return Checkpoint(preset, network, tables, dict(manifest["training"]), graphs, hashlib.sha256(data).hexdigest())


def find_checkpoint(digest: str, also: tuple[Path, ...] = ()) -> Checkpoint:
    """The model with this digest, among the shipped ones and the files in `also`. Raises ModelError."""
    offered = []
    for path in (*also, *sorted(WEIGHTS.glob("*.safetensors"))):
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(f'model "{path}" cannot be read: {error.strerror}') from None
        if found == digest:
            return read_checkpoint(path)
        offered.append(f"{path.stem} {found[:12]}")
    raise ModelError(f'model "{digest[:12]}" is needed, but only these are here: {", ".join(offered) or "none"}')


def named(model: Path) -> Path:
    """A file of weights, or the shipped ones of that name where there is no such file."""
    return shipped(model.name) if not model.exists() and shipped(model.name).exists() else model


def shipped(name: str = "default") -> Path:
    """The file of a model that comes with primis."""
    return WEIGHTS / f"{name}.safetensors"

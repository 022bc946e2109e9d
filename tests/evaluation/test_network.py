"""The network in torch, the shipped graphs and the files of weights are one and the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import save

from primis.codec import Codec, OnnxEngine, TorchEngine
from primis.imaging.phantom import draw_phantom
from primis.network.architecture import architecture_of
from primis.network.build import build
from primis.network.checkpoint import Checkpoint, read_checkpoint, shipped
from primis.network.export import export_graphs
from primis.network.presets import DEFAULT, PAPER, Preset
from primis.network.program import PARTS, PREFIX, graph_file, with_tensors
from tests.conftest import TINY
from tests.core.test_checkpoint import parts_of, refused

LAPPED = Preset("lapped", widths=(5, 7))
GROUPED = Preset("grouped", "grouped", code_maps=4, atoms_per_map=64, widths=(5, 7))
PRESETS = [DEFAULT, PAPER, LAPPED, GROUPED]


def noise(preset: Preset) -> dict[str, np.ndarray]:
    rng, shapes = np.random.default_rng(0), architecture_of(preset).shapes.items()
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_the_shapes_are_those_of_the_network(preset) -> None:
    state = build(preset).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert architecture_of(preset).shapes == shapes


@pytest.mark.parametrize("preset", [LAPPED, GROUPED], ids=lambda preset: preset.name)
def test_the_shipped_graphs_are_what_the_architecture_exports(preset) -> None:
    network, rng = noise(preset), np.random.default_rng(1)
    one = np.full((1, 1, 1, 1), 0.25, np.float32)
    x = rng.normal(size=(1, 1, 48, 80)).astype(np.float32)
    q = rng.normal(size=(1, preset.atoms, 3, 5)).astype(np.float32)
    inputs = {"encode": {"x": x}, "decode": {"q": q, "threshold": one, "opened": one}}
    for name, fresh in export_graphs(preset).items():
        kept = architecture_of(preset).graph(name).read_bytes()
        results = []
        for graph in (fresh, kept):
            whole = with_tensors(graph, name, network)
            session = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
            results.append(session.run(None, inputs[name])[0])
        assert abs(results[0] - results[1]).max() < 1e-5 * abs(results[0]).max()
        offered = {f"{PREFIX}{key}" for key in network if key.startswith(PARTS[name])}
        assert wanted(fresh) == wanted(kept) <= offered


def wanted(graph: bytes) -> set[str]:
    """The tensors that a graph takes and does not hold."""
    model = onnx.load_from_string(graph).graph
    made = {name for node in model.node for name in node.output}
    given = {value.name for value in (*model.input, *model.initializer)}
    return {name for node in model.node for name in node.input} - made - given - {""}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_one_graph_serves_every_width(preset) -> None:
    tables = read_checkpoint(TINY).tables
    model = Checkpoint(preset, noise(preset), tables, {})
    one, other = TorchEngine(model), OnnxEngine(model)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1, 1, 64, 32)).astype(np.float32)
    q = rng.normal(size=(1, preset.atoms, 4, 2)).astype(np.float32)
    for found in (
        [engine.encode(x) for engine in (one, other)],
        [engine.decode(q, 0.5, 0.25) for engine in (one, other)],
    ):
        assert abs(found[0] - found[1]).max() < 1e-5 * abs(found[0]).max()


@pytest.mark.parametrize("preset", [LAPPED, GROUPED], ids=lambda preset: preset.name)
def test_a_program_refers_to_nothing_outside_itself(preset) -> None:
    for name in PARTS:
        graph = architecture_of(preset).graph(name).read_bytes()
        model = onnx.load_from_string(with_tensors(graph, name, noise(preset)))
        assert {node.domain for node in model.graph.node} == {""}
        used = {node.op_type for node in model.graph.node}
        assert not used & {"If", "Loop", "Scan", "SequenceMap"}
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        assert not model.functions


def test_a_graph_in_the_file_is_refused(tmp_path: Path) -> None:
    """As in a file that read the owner's key through a tensor that lies elsewhere."""
    (tmp_path / "owner.key").write_bytes(b"AGE-SECRET-KEY-1" + bytes(40))
    graph = onnx.load_from_string(graph_file("lapped", "decode").read_bytes())
    tensor = graph.graph.initializer.add()
    tensor.name, tensor.data_type = "key", onnx.TensorProto.UINT8
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.dims.append(56)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", str(tmp_path / "owner.key")
    manifest, tensors = parts_of(TINY.read_bytes())
    hostile = tensors | {"graph.decode": np.frombuffer(graph.SerializeToString(), np.uint8)}
    graphs = {"graphs": {"decode": sorted(tensors)}}
    for told in (manifest, manifest | graphs):
        said = refused(tmp_path / "m", save(hostile, {"primis": json.dumps(told)}))
        assert "it holds other than" in said or "other fields" in said


@pytest.mark.parametrize("size", [(16, 16), (48, 16), (250, 333)])
def test_the_engines_agree_within_a_grey_level(size) -> None:
    checkpoint = read_checkpoint(shipped())
    frame = draw_phantom(400, seed=8)[: size[0], : size[1], None]
    one, other = (Codec(checkpoint, engine(checkpoint)) for engine in (TorchEngine, OnnxEngine))
    z, scale = one.encode(frame)
    assert np.allclose(z, other.encode(frame)[0], atol=1e-4)
    code = one.sparsify(z, z.size // 64)
    images = [codec.decode(code, scale, size, frame.dtype).astype(int) for codec in (one, other)]
    assert abs(images[0] - images[1]).max() <= 1


def test_torch_runs_what_the_file_holds() -> None:
    found = read_checkpoint(TINY)
    x = np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)
    assert np.allclose(TorchEngine(found).encode(x), OnnxEngine(found).encode(x), atol=1e-5)

"""The architectures as ONNX graphs without weights: who only shares and restores needs no torch.

`python -m primis.network.export` writes the files in `graphs/` anew: after a change to an
architecture, and only then. The weights are inputs while a graph is made, so that none is folded
into it, and what it wants stands under a checkpoint's own names (`program.py` adds the tensors).
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from primis.network.architecture import architecture_of
from primis.network.build import as_network, build
from primis.network.presets import PRESETS, Preset
from primis.network.program import GRAPHS, PREFIX


class _Encode(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return as_network(self.network).encode(x)


class _Decode(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, q: Tensor, threshold: Tensor, opened: Tensor) -> Tensor:
        return as_network(self.network).decode(q, threshold, opened)


class _Fed(nn.Module):
    """A module whose weights are its last input."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        self._held, self._names = [module], names  # in a list: not a part of this one

    def forward(self, *inputs: Any) -> Tensor:
        weights = dict(zip(self._names, inputs[-1], strict=True))
        return torch.func.functional_call(self._held[0], weights, inputs[:-1])


def export_graphs(preset: Preset) -> dict[str, bytes]:
    """`encode` (x -> z), `decode` (q, threshold, opened -> pixels), for any sides and weights."""
    network = build(preset).eval().requires_grad_(False)
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    x = torch.zeros(1, 1, 3 * preset.stride, 4 * preset.stride)
    q, one = torch.zeros(1, preset.atoms, 3, 4), torch.ones(1, 1, 1, 1)
    inputs = {"q": q, "threshold": one, "opened": one.clone()}
    return {
        "encode": _export(_Encode(network), {"x": x}, "z", (free,)),
        "decode": _export(_Decode(network), inputs, "pixels", (free, None, None)),
    }


def _export(module: nn.Module, inputs: dict[str, Tensor], output: str, dynamic: Any) -> bytes:
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Fed(module, list(weights)),
            (*inputs.values(), tuple(weights.values())),
            dynamo=True,
            input_names=[*inputs, *weights],
            output_names=[output],
            dynamic_shapes=((*dynamic, tuple(None for _ in weights)),),
            opset_version=18,
            verbose=False,
        )
        assert program is not None
        program.optimize()
    return _bare(program.model_proto)


def _bare(model: Any) -> bytes:
    """What computes and nothing else: weights are wanted by name only, notes and shapes go."""
    graph = model.graph
    for field in ("metadata_props", "doc_string", "producer_name", "producer_version"):
        model.ClearField(field)
    graph.ClearField("value_info")
    inputs = [given for given in graph.input if not given.name.startswith(PREFIX)]
    graph.ClearField("input")
    graph.input.extend(inputs)
    for thing in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        thing.ClearField("metadata_props")
        thing.ClearField("doc_string")
    for value in (*graph.input, *graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis and dim.dim_value != 1:
                dim.dim_param = f"{value.name}_{axis}"
    return model.SerializeToString(deterministic=True)


def main() -> None:
    """Write the graphs that ship with primis."""
    GRAPHS.mkdir(exist_ok=True)
    for preset in PRESETS.values():
        for name, graph in export_graphs(preset).items():
            architecture_of(preset).graph(name).write_bytes(graph)


if __name__ == "__main__":
    main()

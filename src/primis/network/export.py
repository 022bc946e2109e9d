"""The network as ONNX graphs without weights, so that those who only share and restore need no torch.

A graph belongs to the architecture: its weights are named as in the checkpoint, which holds both, and
are handed to ONNX Runtime when a session starts.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from primis.network.build import as_network
from primis.network.checkpoint import Graph

_PREFIX = "network."


class _Encode(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return as_network(self.network).encode(x)


class _Decode(_Encode):
    def forward(self, q: Tensor, threshold: Tensor, opened: Tensor) -> Tensor:  # type: ignore[override]
        return as_network(self.network).decode(q, threshold, opened)


def export_graphs(network: nn.Module) -> dict[str, Graph]:
    """`encode` (x -> z) and `decode` (q, threshold, opened -> pixels) as ONNX, for any height and width."""
    preset = as_network(network).preset
    stride = preset.stride
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}  # type: ignore[attr-defined]
    x = torch.zeros(1, 1, 3 * stride, 4 * stride)
    q, one = torch.zeros(1, preset.atoms, 3, 4), torch.ones(1, 1, 1, 1)
    network = network.eval()
    return {
        "encode": _export(_Encode(network), (x,), ["x"], "z", (free,)),
        "decode": _export(_Decode(network), (q, one, one.clone()), ["q", "threshold", "opened"], "pixels", (free, None, None)),
    }


def _export(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], output: str, dynamic: Any) -> Graph:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, inputs, dynamo=True, input_names=names, output_names=[output],
            dynamic_shapes=dynamic, opset_version=18, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.optimize()
    return _without_weights(program.model_proto)


def _without_weights(model: Any) -> Graph:
    """Mark the weights as data that lies elsewhere; small constants stay."""
    from onnx import TensorProto

    weights = []
    for tensor in model.graph.initializer:
        if tensor.name.startswith(_PREFIX):
            weights.append(tensor.name.removeprefix(_PREFIX))
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", "checkpoint"
    for thing in (model, model.graph, *model.graph.node, *model.graph.value_info):
        thing.ClearField("metadata_props")
        if thing is not model:
            thing.ClearField("doc_string")
    return Graph(model.SerializeToString(deterministic=True), tuple(weights))

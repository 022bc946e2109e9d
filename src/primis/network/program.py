"""The network as ONNX Runtime takes it: a shipped graph with a checkpoint's tensors.

A graph is the architecture alone, at any widths (`export.py` writes the files), and comes from the
package, never from a model's file: that holds numbers, and numbers run nothing. The tensors are
added as the graph's initializers. Protocol Buffers make that easy: a message with another of its
type behind it is read as the two merged, so a tensor takes a few bytes in front and no library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

GRAPHS = Path(__file__).parent / "graphs"

PREFIX = "network."
"""Before the name of a tensor, in a graph and in a checkpoint."""

PARTS = {"encode": ("encoder.", "projection."), "decode": ("decoder.", "projection.")}
"""The graphs of an architecture, and which of its tensors each may use."""

_FLOAT = 1
_GRAPH_OF_MODEL, _INITIALIZER_OF_GRAPH = 7, 5
_DIMS, _TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
"""Numbers of the fields in onnx.proto: of ModelProto, GraphProto and TensorProto."""


def graph_file(architecture: str, name: str) -> Path:
    """Where the graph `encode` or `decode` of an architecture lies."""
    return GRAPHS / f"{architecture}-{name}.onnx"


def with_tensors(graph: bytes, name: str, network: Mapping[str, np.ndarray]) -> bytes:
    """A graph `encode` or `decode` with the tensors of a network that are for it."""
    wanted = [key for key in network if key.startswith(PARTS[name])]
    tensors = (_tensor(PREFIX + key, network[key]) for key in wanted)
    added = b"".join(_field(_INITIALIZER_OF_GRAPH, tensor) for tensor in tensors)
    return graph + _field(_GRAPH_OF_MODEL, added)


def _tensor(name: str, tensor: np.ndarray) -> bytes:
    head = b"".join(_number(_DIMS, side) for side in tensor.shape) + _number(_TYPE, _FLOAT)
    return head + _field(_NAME, name.encode()) + _field(_RAW_DATA, tensor.astype("<f4").tobytes())


def _number(number: int, value: int) -> bytes:
    return bytes(_varint(number << 3)) + bytes(_varint(value))


def _field(number: int, content: bytes) -> bytes:
    return bytes(_varint(number << 3 | 2)) + bytes(_varint(len(content))) + content


def _varint(number: int) -> Iterator[int]:
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number

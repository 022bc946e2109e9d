"""Image <-> codes, at any size, in bounded memory. The engine that runs the network is behind one seam.

    frame (H, W, c) --centre, decorrelate--> planes (c, H', W') --engine.encode--> z (c, LM, h, w) --top-S--> Z
    Z --engine.decode, in overlapping windows--> planes --undo--> frame, rounded and clipped to its range

H' and W' are H and W rounded up to the stride by repeating the border. Grey levels are centred on the
middle of the frame's own range; its ends are known to the decoder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from primis.codes.sparse import SparseCode, top_s
from primis.errors import ModelError
from primis.imaging.tiles import windows
from primis.network.checkpoint import Checkpoint

_WINDOW = 48
_HALO = 8
"""Positions of a window, and beyond it: as far as the decoder sees (its test compares with the whole)."""

_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal: brightness and two differences of colour; the error is the same on either side."""


class Engine(Protocol):
    """What runs the network."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        """(n, 1, H, W) float32 -> coefficients (n, LM, h, w) float32."""

    def decode(self, levels: np.ndarray, opened: float) -> np.ndarray:
        """Levels (n, LM, h, w) float32, the part of the maps that is open -> (n, 1, H, W) float32, in thresholds."""


@dataclass(frozen=True)
class Scale:
    """The range of grey levels of a frame, as stored."""

    low: int
    high: int

    @property
    def centre(self) -> float:
        """What zero stands for."""
        return (self.low + self.high) / 2

    @property
    def width(self) -> float:
        """What one stands for."""
        return float(max(self.high - self.low, 1))


class Codec:
    """Encodes and decodes frames with one model."""

    def __init__(self, checkpoint: Checkpoint, engine: Engine | None = None) -> None:
        self.checkpoint = checkpoint
        self.preset = checkpoint.preset
        self._engine = engine or OnnxEngine(checkpoint)

    def encode(self, frame: np.ndarray) -> tuple[np.ndarray, Scale]:
        """Coefficients z (c, LM, h, w) of a frame (H, W, c); `sparsify` makes a code of them."""
        scale = Scale(int(frame.min()), int(frame.max()))
        planes = _decorrelate((frame.astype(np.float32) - np.float32(scale.centre)) / np.float32(scale.width))
        stride = self.preset.stride
        rows, columns = (-(-side // stride) for side in frame.shape[:2])
        pad = [(0, 0), (0, rows * stride - frame.shape[0]), (0, columns * stride - frame.shape[1])]
        planes = np.pad(planes, pad, mode="edge")
        z = np.empty((len(planes), self.preset.atoms, rows, columns), np.float32)
        for plane, out in zip(planes, z, strict=True):
            for w in windows(rows, _WINDOW, 0):
                strip = plane[w.outer.start * stride : w.outer.stop * stride]
                out[:, w.place] = self._engine.encode(strip[None, None])[0]
        return z, scale

    def sparsify(self, z: np.ndarray, entries: int) -> SparseCode:
        """Top-S over the frame: the `entries` largest of z, quantised."""
        return top_s(z, entries)

    def decode(
        self, code: SparseCode, scale: Scale, size: tuple[int, int], dtype: np.dtype, opened_maps: int | None = None
    ) -> np.ndarray:
        """A frame (H, W, c) of `dtype`, H x W = size. opened_maps: how many code maps are known, all by default."""
        maps = self.preset.code_maps if opened_maps is None else opened_maps
        levels = code.levels.copy()
        levels[:, maps * self.preset.atoms_per_map :] = 0
        planes = np.stack([self._decode_plane(plane, maps / self.preset.code_maps) for plane in levels])
        frame = _correlate(planes[:, : size[0], : size[1]] * np.float32(code.threshold))
        grey = np.round(frame.astype(np.float64) * scale.width + scale.centre)
        return np.clip(grey, scale.low, scale.high).astype(dtype)

    def _decode_plane(self, levels: np.ndarray, opened: float) -> np.ndarray:
        """(LM, h, w) -> (H', W') float32 in thresholds, window by window."""
        stride = self.preset.stride
        plane = np.empty((levels.shape[1] * stride, levels.shape[2] * stride), np.float32)
        for rows in windows(levels.shape[1], _WINDOW, _HALO):
            for columns in windows(levels.shape[2], _WINDOW, _HALO):
                part = levels[:, rows.outer, columns.outer].astype(np.float32)[None]
                pixels = self._engine.decode(part, opened)[0, 0]
                plane[_times(rows.place, stride), _times(columns.place, stride)] = pixels[
                    _times(rows.inner, stride), _times(columns.inner, stride)
                ]
        return plane


def _times(part: slice, stride: int) -> slice:
    return slice(part.start * stride, part.stop * stride)


def _decorrelate(frame: np.ndarray) -> np.ndarray:
    """(H, W, c) -> (c, H, W), colours turned into brightness and differences; opacity stays."""
    planes = np.moveaxis(frame, 2, 0)
    if len(planes) < 3:
        return np.ascontiguousarray(planes)
    colours = np.tensordot(_OPPONENT.astype(np.float32), planes[:3], 1)
    return np.concatenate([colours, planes[3:]])


def _correlate(planes: np.ndarray) -> np.ndarray:
    """Inverse of `_decorrelate`."""
    if len(planes) >= 3:
        planes = np.concatenate([np.tensordot(_OPPONENT.T.astype(np.float32), planes[:3], 1), planes[3:]])
    return np.moveaxis(planes, 0, 2)


class OnnxEngine:
    """ONNX Runtime, with the graphs and the weights of a checkpoint. threads: 0 for as many as cores."""

    def __init__(self, checkpoint: Checkpoint, threads: int = 0) -> None:
        if not {"encode", "decode"} <= checkpoint.graphs.keys():
            raise ModelError(f'model "{checkpoint.digest[:12]}" has no graphs for ONNX Runtime')
        self._encode, self._decode = (self._session(checkpoint, name, threads) for name in ("encode", "decode"))

    def encode(self, x: np.ndarray) -> np.ndarray:
        """See Engine."""
        return self._encode.run(None, {"x": np.ascontiguousarray(x)})[0]

    def decode(self, levels: np.ndarray, opened: float) -> np.ndarray:
        """See Engine."""
        known = np.full((1, 1, 1, 1), opened, np.float32)
        return self._decode.run(None, {"levels": np.ascontiguousarray(levels), "opened": known})[0]

    @staticmethod
    def _session(checkpoint: Checkpoint, name: str, threads: int) -> Any:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is loaded: primis contacts nobody
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        graph = checkpoint.graphs[name]
        try:
            tensors = [np.ascontiguousarray(checkpoint.network[weight]) for weight in graph.weights]
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in tensors]
            options.add_external_initializers([f"network.{weight}" for weight in graph.weights], values)
            return onnxruntime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base of their own
            raise ModelError(f'model "{checkpoint.digest[:12]}" cannot be run ({type(error).__name__})') from None


class TorchEngine:
    """torch, for a model that is being trained and to check ONNX Runtime against."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        import torch

        from primis.network.autoencoder import AutoEncoder

        self._torch = torch
        self._model = AutoEncoder(checkpoint.preset).eval()
        try:
            state = {name: torch.from_numpy(t.copy()) for name, t in checkpoint.network.items()}
            self._model.load_state_dict(state)
        except RuntimeError:
            raise ModelError(f'model "{checkpoint.digest[:12]}" does not fit its preset "{checkpoint.preset.name}"') from None
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, x: np.ndarray) -> np.ndarray:
        """See Engine."""
        with self._torch.inference_mode():
            return self._model.encode(self._torch.from_numpy(np.ascontiguousarray(x))).numpy()

    def decode(self, levels: np.ndarray, opened: float) -> np.ndarray:
        """See Engine."""
        torch = self._torch
        with torch.inference_mode():
            known = torch.full((len(levels), 1, 1, 1), opened)
            tensor = torch.from_numpy(np.ascontiguousarray(levels)).to(memory_format=torch.channels_last)
            return self._model.decode(tensor, known).numpy()

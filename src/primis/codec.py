"""Image <-> codes, at any size, in bounded memory. What runs the network is behind one seam.

    frame (H, W, c) --centre, decorrelate--> planes (c, H', W') --engine.encode--> z (c, LM, h, w)
    z --transform the DC plane--> z --selection--> Z
    Z --restore the DC plane--> q --engine.decode--> planes --> frame

The engine works in windows that overlap as far as the network sees, so that the outcome is that of
the whole. H' and W' are H and W rounded up to the stride by repeating the border. Grey levels are
centred on the middle of the frame's own range; its ends are known to the decoder. What depends on
the preset is asked of the model's `Architecture`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np

from primis.codes.selection import TILE, Selector
from primis.codes.sparse import SparseCode
from primis.errors import ModelError
from primis.imaging.tiles import Window, windows
from primis.network.checkpoint import Checkpoint
from primis.network.program import with_tensors

_WINDOW = 64
"""Positions of a window's side, without what the network sees around it."""

_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Orthonormal: brightness and two differences of colour; the error is the same on either side."""

Part = Callable[[slice, slice], np.ndarray]
"""What stands in some rows and columns."""

Done = Callable[[float], None]
"""Is told what share of the work is done, from 0 to 1."""


def silent(share: float) -> None:
    """Tells nobody."""


def within(done: Done, start: float, stop: float) -> Done:
    """For a stretch of the work, from one share of it to another."""
    return lambda share: done(start + share * (stop - start))


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine(Protocol):
    """What runs the network. threads: how many it may take."""

    threads: int

    def encode(self, x: np.ndarray) -> np.ndarray:
        """(n, 1, H, W) float32 -> coefficients (n, LM, h, w) float32."""

    def decode(self, q: np.ndarray, threshold: float, opened: float) -> np.ndarray:
        """Coefficients (n, LM, h, w) float32 -> (n, 1, H, W) float32.

        threshold: t; opened: the part of the code maps that is known.
        """


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
    """Encodes and decodes frames with one model.

    A frame is (H, W, c) of uint8, uint16, int8 or int16; its code has LM atoms at each of h x w
    positions, h = ceil(H / stride), w = ceil(W / stride), for each of c planes.

    checkpoint: the model (`network.checkpoint.read_checkpoint`). engine: what runs it, by default
    ONNX Runtime. Raises ModelError for a model that cannot be run.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine | None = None) -> None:
        self.checkpoint = checkpoint
        self.architecture = checkpoint.architecture
        self.preset, self.layout = checkpoint.preset, checkpoint.layout
        self._engine = engine or OnnxEngine(checkpoint)

    @property
    def threads(self) -> int:
        """How many frames are worth working on at once."""
        return self._engine.threads

    @property
    def offset(self) -> float:
        """What a level stands for beyond itself, in steps; see SparseCode."""
        return self.architecture.offset

    def encode(
        self, frame: np.ndarray, done: Done = silent, scale: Scale | None = None
    ) -> tuple[np.ndarray, Scale]:
        """(z, range of grey levels) of a frame (H, W, c): coefficients (c, LM, h, w) float32, of
        which `sparsify` makes a code. scale: the range, where it is not the frame's own."""
        scale = scale or Scale(int(frame.min()), int(frame.max()))
        stride = self.preset.stride
        rows, columns = (-(-side // stride) for side in frame.shape[:2])

        def part(height: slice, width: slice) -> np.ndarray:
            """Planes of a part of the frame, beyond its end the border again."""
            inside = frame[height, width].astype(np.float32)
            planes = decorrelate((inside - np.float32(scale.centre)) / np.float32(scale.width))
            down = height.stop - height.start - planes.shape[1]
            right = width.stop - width.start - planes.shape[2]
            return np.pad(planes, [(0, 0), (0, down), (0, right)], mode="edge")

        return self._coefficients((frame.shape[2], rows, columns), part, done), scale

    def analyse(self, planes: np.ndarray) -> np.ndarray:
        """Coefficients (c, LM, h, w) of planes (c, H', W'), sides multiples of the stride.

        The planes are in units of their range.
        """
        channels, rows, columns = planes.shape
        shape = (channels, rows // self.preset.stride, columns // self.preset.stride)
        return self._coefficients(shape, lambda height, width: planes[:, height, width])

    def sparsify(self, z: np.ndarray, entries: int) -> SparseCode:
        """Keep at most `entries` of z (c, LM, h, w), as the preset selects them.

        Raises InputError where the preset cannot keep so few.
        """
        return self.architecture.selection(z, entries, self.checkpoint.tables)

    def selector(self, z: np.ndarray, entries: int, tile: int = TILE) -> Selector:
        """Chooses entries of z (c, LM, h, w), about so many, as the preset selects them. tile:
        positions of a side of what is coded on its own."""
        return self.architecture.selector(z, entries, self.checkpoint.tables, tile)

    def decode(
        self,
        code: SparseCode,
        scale: Scale,
        size: tuple[int, int],
        dtype: np.dtype,
        opened_maps: int | None = None,
        done: Done = silent,
    ) -> np.ndarray:
        """The frame (H, W, c) that a code stands for.

        scale: the range of its grey levels. size: (H, W). dtype: of its samples. opened_maps: how
        many code maps are known, from the first; by default all.
        """
        maps = self.preset.code_maps if opened_maps is None else opened_maps
        dc = SparseCode(code.levels[:, :1], code.threshold, code.offset).coefficients

        def part(rows: slice, columns: slice) -> np.ndarray:
            levels = code.levels[:, :, rows, columns]
            q = SparseCode(levels, code.threshold, code.offset).coefficients
            q[:, maps * self.preset.atoms_per_map :] = 0
            return q

        parts = self._pixels(part, dc, code.threshold, maps / self.preset.code_maps, size)
        return self._frame(parts, scale, np.empty((*size, len(dc)), dtype), done)

    def decode_coefficients(
        self,
        q: np.ndarray,
        threshold: float,
        scale: Scale,
        size: tuple[int, int],
        dtype: np.dtype,
        opened_maps: int | None = None,
        done: Done = silent,
    ) -> np.ndarray:
        """The same of what a code stands for: q (c, LM, h, w) float32, zero where it is not known.

        threshold: t, in the same unit.
        """
        maps = self.preset.code_maps if opened_maps is None else opened_maps
        parts = self._pixels(
            lambda rows, columns: q[:, :, rows, columns].copy(),
            q[:, :1].copy(),
            threshold,
            maps / self.preset.code_maps,
            size,
        )
        return self._frame(parts, scale, np.empty((*size, len(q)), dtype), done)

    def synthesise(
        self, q: np.ndarray, threshold: float, size: tuple[int, int], opened: float = 1.0
    ) -> np.ndarray:
        """A frame (H, W, c) float32 in units of its range, zero in the middle.

        q: coefficients (c, LM, h, w); threshold: t, in the same unit; opened: the part of the code
        maps that is known.
        """

        def part(rows: slice, columns: slice) -> np.ndarray:
            return q[:, :, rows, columns].copy()

        frame = np.empty((*size, len(q)), np.float32)
        for place, pixels in self._pixels(part, q[:, :1].copy(), threshold, opened, size):
            frame[place] = pixels
        return frame

    def _coefficients(
        self, shape: tuple[int, int, int], part: Part, done: Done = silent
    ) -> np.ndarray:
        """z (c, LM, h, w), window by window. shape: (c, h, w); part: planes (c, H, W) of pixels."""
        stride = self.preset.stride
        z = np.empty((shape[0], self.preset.atoms, *shape[1:]), np.float32)
        parts = self._windows(shape[1:])
        for number, (rows, columns) in enumerate(parts, start=1):
            planes = part(_times(rows.outer, stride), _times(columns.outer, stride))
            for channel, plane in enumerate(planes):
                found = self._finite(self._engine.encode(plane[None, None])[0])
                z[channel, :, rows.place, columns.place] = found[:, rows.inner, columns.inner]
            done(number / len(parts))
        return self.layout.transform_dc(z)

    def _pixels(
        self, part: Part, dc: np.ndarray, threshold: float, opened: float, size: tuple[int, int]
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """(rows and columns, the pixels there (H, W, c) float32) of a frame, window by window.

        part: coefficients (c, LM, h, w) of positions; dc: atom 0 of all; both ours to change.
        """
        stride = self.preset.stride
        dc = self.layout.restore_dc(dc)
        for rows, columns in self._windows(dc.shape[2:]):
            q = part(rows.outer, columns.outer)
            q[:, :1] = dc[:, :, rows.outer, columns.outer]
            found = (self._engine.decode(plane[None], threshold, opened)[0, 0] for plane in q)
            planes = np.stack([self._finite(plane) for plane in found])
            inner = planes[:, _times(rows.inner, stride), _times(columns.inner, stride)]
            place = (_times(rows.place, stride, size[0]), _times(columns.place, stride, size[1]))
            height, width = (side.stop - side.start for side in place)
            yield place, correlate(inner[:, :height, :width])

    def _frame(
        self,
        parts: Iterator[tuple[tuple[slice, slice], np.ndarray]],
        scale: Scale,
        frame: np.ndarray,
        done: Done,
    ) -> np.ndarray:
        """A frame (H, W, c) filled with the grey levels of its parts."""
        height, width = (-(-side // self.preset.stride) for side in frame.shape[:2])
        count = len(self._windows((height, width)))
        for number, (place, pixels) in enumerate(parts, start=1):
            frame[place] = _grey(pixels, scale, frame.dtype)
            done(number / count)
        return frame

    def _finite(self, values: np.ndarray) -> np.ndarray:
        """Raises ModelError where a network computes what is no number."""
        if not np.isfinite(values).all():
            model = self.checkpoint.digest[:12]
            raise ModelError(f'model "{model}" gives values that are not finite')
        return values

    def _windows(self, shape: tuple[int, ...]) -> list[tuple[Window, Window]]:
        halo = self.architecture.halo
        return list(product(windows(shape[0], _WINDOW, halo), windows(shape[1], _WINDOW, halo)))


def _times(part: slice, stride: int, end: int | None = None) -> slice:
    """Positions as pixels, as far as there are some."""
    stop = part.stop * stride
    return slice(part.start * stride, stop if end is None else min(stop, end))


def _grey(pixels: np.ndarray, scale: Scale, dtype: np.dtype) -> np.ndarray:
    """Units of a frame's range -> its grey levels."""
    grey = np.round(pixels.astype(np.float64) * scale.width + scale.centre)
    return np.clip(grey, scale.low, scale.high).astype(dtype)


def decorrelate(frame: np.ndarray) -> np.ndarray:
    """(H, W, c) -> (c, H, W), colours turned into brightness and differences; opacity stays."""
    planes = np.moveaxis(frame, 2, 0)
    if len(planes) < 3:
        return np.ascontiguousarray(planes)
    colours = np.tensordot(_OPPONENT.astype(np.float32), planes[:3], 1)
    return np.concatenate([colours, planes[3:]])


def correlate(planes: np.ndarray) -> np.ndarray:
    """Inverse of `decorrelate`."""
    if len(planes) >= 3:
        colours = np.tensordot(_OPPONENT.T.astype(np.float32), planes[:3], 1)
        planes = np.concatenate([colours, planes[3:]])
    return np.moveaxis(planes, 0, 2)


class OnnxEngine:
    """ONNX Runtime, with primis' own graphs and a checkpoint's weights.

    threads: 0 for as many as cores.
    """

    def __init__(self, checkpoint: Checkpoint, threads: int = 0) -> None:
        self.threads = threads or cores()
        self._encode, self._decode = (
            self._session(checkpoint, name, threads) for name in ("encode", "decode")
        )
        _keep_in_forks(self)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """See Engine."""
        return self._encode.run(None, {"x": np.ascontiguousarray(x)})[0]

    def decode(self, q: np.ndarray, threshold: float, opened: float) -> np.ndarray:
        """See Engine."""
        inputs = {
            "q": np.ascontiguousarray(q),
            "threshold": _scalar(threshold),
            "opened": _scalar(opened),
        }
        wanted = [given.name for given in self._decode.get_inputs()]
        return self._decode.run(None, {name: inputs[name] for name in wanted})[0]

    @staticmethod
    def _session(checkpoint: Checkpoint, name: str, threads: int) -> Any:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is loaded: primis contacts nobody
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
        try:
            bare = checkpoint.architecture.graph(name).read_bytes()
            graph = with_tensors(bare, name, checkpoint.network)
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception:  # its exceptions share no base of their own
            model = checkpoint.digest[:12]
            raise ModelError(f'model "{model}" cannot be run: ONNX Runtime refuses it') from None


_ENGINES: WeakSet[OnnxEngine] = WeakSet()
_KEPT: list[list[OnnxEngine]] = []


def _keep_in_forks(engine: OnnxEngine) -> None:
    """Let no forked process end a session that it inherits: its threads did not come along, and
    ONNX Runtime crashes, or waits for them for ever, when it is to end them."""
    if not _ENGINES and hasattr(os, "register_at_fork"):
        _register_at_fork()
    _ENGINES.add(engine)


@cache
def _register_at_fork() -> None:
    """Once, when there is a first session."""
    os.register_at_fork(before=lambda: _KEPT.append(list(_ENGINES)), after_in_parent=_KEPT.pop)


class TorchEngine:
    """torch, for a model that is being trained and to check ONNX Runtime against."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        import torch

        self._torch = torch
        module: Any = checkpoint.architecture.build().eval()
        try:
            state = {name: torch.from_numpy(t.copy()) for name, t in checkpoint.network.items()}
            module.load_state_dict(state)
        except RuntimeError:
            model, preset = checkpoint.digest[:12], checkpoint.preset.name
            raise ModelError(f'model "{model}" does not fit its preset "{preset}"') from None
        self.threads = 1
        self._model = module.to(memory_format=torch.channels_last)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """See Engine."""
        with self._torch.inference_mode():
            return self._model.encode(self._torch.from_numpy(np.ascontiguousarray(x))).numpy()

    def decode(self, q: np.ndarray, threshold: float, opened: float) -> np.ndarray:
        """See Engine."""
        torch = self._torch
        with torch.inference_mode():
            tensor = torch.from_numpy(np.ascontiguousarray(q)).to(memory_format=torch.channels_last)
            return self._model.decode(
                tensor, *(torch.from_numpy(_scalar(x)) for x in (threshold, opened))
            ).numpy()


def _scalar(value: float) -> np.ndarray:
    return np.full((1, 1, 1, 1), value, np.float32)

"""The coder's kernel in Python: a small WebAssembly module, run by wasmtime.

`kernel.c` and what it includes are its source, `make kernel` builds `kernel.wasm`, and browsers run
the very same file. It scans a tile, and codes, decodes, prices or observes what it meets. Threads
share no instance; each has one for every model that it uses.
"""

from __future__ import annotations

import atexit
import threading
from ctypes import Structure, addressof, c_int32, c_uint8, c_uint32, c_uint64, sizeof
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from primis.codes.layout import Layout
from primis.codes.probabilities import BITS, EXPONENTS, FEATURES, HIDDEN, PASSES, ContextModel

if TYPE_CHECKING:
    import wasmtime

_INPUTS = 16
"""The features, the density and a constant."""

_ORDER = [0, 1, 2, 5, 6, 7, 9, 10, 11, 15, 12, 13, 3, 4, 8, 14]
"""Inputs as the kernel's tables have them: what atoms of a visit share comes last."""

PRICE_UNIT = 1 << 16
"""Prices are in units of 1/65536 bit."""

FILE = Path(__file__).with_name("kernel.wasm")
_LANES = 8
_PAGE, _ALIGNMENT = 1 << 16, 16
_GROWTH = 1 << 24
"""Bytes of addresses that a memory has beyond itself: as it grows within them it need not move."""

_MOST_KEPT = 1 << 26
"""Bytes of memory that an instance keeps; one that needed more is not used again."""

_LEAST_CAPACITY = 1 << 16
_DC = 4
"""Positions of a side of a block of the DC plane."""


class _Mode(IntEnum):
    ENCODE, DECODE, PRICE, OBSERVE = range(4)


def _words(*names: str) -> list[tuple[str, type]]:
    return [(name, c_uint32) for name in names]


class _Group(Structure):
    _fields_ = _words("first", "atoms", "flagged", "head", "bias", "linear")


class _Stack(Structure):
    _fields_ = _words(
        "atoms",
        "group_count",
        "groups",
        "direction",
        "own",
        "finer",
        "weights",
    )


class _Span(Structure):
    _fields_ = _words("first", "count", "weight")


class _Model(Structure):
    _fields_ = _words(
        "bias",
        "heads",
        "linear",
        "mantissa",
        "signs",
        "logarithm",
        "probability",
        "cost",
    )


class _Coder(Structure):
    _fields_ = [
        *((name, c_uint64) for name in ("low", "high", "at")),
        *_words("data", "size", "capacity", "shifts", "decodes"),
    ]


class _Job(Structure):
    _fields_ = [
        *_words("mode", "height", "width", "first", "stop"),
        ("density", c_int32),
        *_words("stack", "dc", "model", "levels", "public", "prices", "rows"),
        *_words("row_capacity", "row_count"),
        ("price", c_uint64),
        ("support", _Coder),
        ("values", _Coder),
        *_words("work"),
    ]


@dataclass(frozen=True, eq=False)
class Tile:
    """What is coded: `atoms` of levels (LM, h, w); those below them are known, those above unused.

    density: see `entry_density`; public: Z_p (LM, h, w), where the support is coded given it.
    """

    levels: np.ndarray
    atoms: range
    density: int
    public: np.ndarray | None = None


class Streams(NamedTuple):
    """values: empty where the support is coded given the public code."""

    support: bytes
    values: bytes


class Observed(NamedTuple):
    """Decisions that a scan met. head: number of each (n,) int; atom: within its group (n,) int;
    bit: what was decided (n,) bool; features: (n, F) uint8."""

    head: np.ndarray
    atom: np.ndarray
    bit: np.ndarray
    features: np.ndarray


@cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """Memory is taken as it is needed: by default wasmtime reserves gigabytes of addresses. It is
    compiled by this thread: in a forked process those that would help are gone."""
    import wasmtime  # a large library, which listing a release does not need

    config = wasmtime.Config()
    config.memory_reservation = 0
    config.memory_reservation_for_growth = _GROWTH
    config.memory_guard_size = 0
    config.signals_based_traps = False
    config.parallel_compilation = False
    engine = wasmtime.Engine(config)
    atexit.register(_forget)
    return engine, wasmtime.Module(engine, FILE.read_bytes())


def _forget() -> None:
    """At the end, while wasmtime is still there to free what it made."""
    _INSTANCES.kernels.clear()
    _INSTANCES.flat = None
    _compiled.cache_clear()


class _Instance:
    """The module and its memory, which is taken from below and given back with the instance.

    Raises MemoryError where there is none, or more than 4 GiB are needed.
    """

    def __init__(self) -> None:
        import wasmtime

        engine, module = _compiled()
        self._store = wasmtime.Store(engine)
        try:
            exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        except wasmtime.WasmtimeError:
            raise MemoryError from None
        self._memory = _as(wasmtime.Memory, exports["memory"])
        self._run, self._flat = (_as(wasmtime.Func, exports[name]) for name in ("run", "flat"))
        self._free = int(_as(wasmtime.Global, exports["__heap_base"]).value(self._store))

    @property
    def is_large(self) -> bool:
        """Whether its memory has grown beyond what is kept."""
        return self._memory.data_len(self._store) > _MOST_KEPT

    def _put(self, values: np.ndarray, dtype: type | np.dtype | None = None) -> int:
        """Where a copy of an array is, of another type if one is given."""
        dtype = np.dtype(dtype or values.dtype)
        at = self._take(values.size * dtype.itemsize)
        self._view(at, dtype, values.shape)[...] = values
        return at

    def _put_struct(self, struct: Structure) -> int:
        return self._put(np.frombuffer(bytes(struct), np.uint8))

    def _take(self, size: int) -> int:
        """Where so many bytes are free."""
        at = -(-self._free // _ALIGNMENT) * _ALIGNMENT
        self._free = at + size
        missing = self._free - self._memory.data_len(self._store)
        if missing > 0:
            import wasmtime

            try:
                self._memory.grow(self._store, -(-missing // _PAGE))
            except wasmtime.WasmtimeError:
                raise MemoryError from None
        return at

    def _view(self, at: int, dtype: type | np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """What lies in memory; not to be kept, since memory moves when it grows."""
        whole = (c_uint8 * self._memory.data_len(self._store)).from_address(
            addressof(self._memory.data_ptr(self._store).contents)
        )
        return np.ndarray(shape, dtype, whole, at)

    def _get(self, at: int, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        """A copy of what lies in memory."""
        return self._view(at, dtype, shape).copy()

    def _bytes(self, at: int, size: int) -> bytes:
        return self._view(at, np.uint8, (size,)).tobytes()


T = TypeVar("T")


def _as(kind: type[T], export: object) -> T:
    if not isinstance(export, kind):
        raise TypeError(f"the kernel's file exports another than a {kind.__name__}")
    return export


class Flat(_Instance):
    """Codes bits that are ones with one probability."""

    def __init__(self) -> None:
        super().__init__()
        self._start = self._free

    def encode(self, bits: np.ndarray, probability: int) -> bytes:
        """bits: (n,) bool; probability: of a one, 1 to 65535 in 65536ths."""
        capacity = 2 * len(bits) + _ALIGNMENT
        _, done, _ = self._code(_Coder(capacity=capacity), bits, probability, capacity)
        return self._bytes(done.data, done.size)

    def decode(self, data: bytes, count: int, probability: int) -> np.ndarray | None:
        """(count,) bool; None if the stream is damaged."""
        coder = _Coder(size=len(data), decodes=1)
        sound, _, bits = self._code(coder, np.zeros(count, bool), probability, len(data), data)
        return bits if sound else None

    def _code(
        self, coder: _Coder, bits: np.ndarray, probability: int, room: int, data: bytes = b""
    ) -> tuple[bool, _Coder, np.ndarray]:
        self._free = self._start
        coder.data = self._take(room)
        self._view(coder.data, np.uint8, (len(data),))[:] = np.frombuffer(data, np.uint8)
        where, at = self._put(bits, np.uint8), self._put_struct(coder)
        sound = self._flat(self._store, at, where, len(bits), probability)
        done = _Coder.from_buffer_copy(self._bytes(at, sizeof(_Coder)))
        return bool(sound), done, self._get(where, np.uint8, bits.shape) > 0


class Kernel(_Instance):
    """An instance with the tables of one model in its memory."""

    def __init__(self, model: ContextModel, layout: Layout) -> None:
        super().__init__()
        self._dc, *after = self._put_stack(layout.dc, 0, 0, 0)
        self._stack, *_ = self._put_stack(layout, *after)
        self._model = self._put_model(model)
        self._start, self._layout = self._free, layout

    def encode(self, tile: Tile) -> Streams:
        """The streams of a tile."""
        capacity = _LEAST_CAPACITY
        while (found := self._try_encode(tile, capacity)) is None:
            capacity *= 4
        return found

    def decode(self, streams: Streams, tile: Tile) -> np.ndarray | None:
        """Levels (LM, h, w) of a tile whose `atoms` are zero still; None if a stream is damaged."""
        job, levels = self._job(_Mode.DECODE, tile)
        for coder, data in zip((job.support, job.values), streams, strict=True):
            coder.data, coder.size = self._put(np.frombuffer(data, np.uint8)), len(data)
        sound, _ = self._call(job, tile)
        if not sound:
            return None
        found, atoms = tile.levels.astype(np.int16), tile.atoms
        shape = (atoms.stop, *found.shape[1:])
        found[: atoms.stop] = self._view(levels, np.int16, shape)
        return found

    def prices(self, tile: Tile) -> tuple[np.ndarray, int]:
        """What each entry of `atoms` costs, or would cost, more than a zero, and what the streams
        take together, but for their ends.

        (atoms, h, w) int32; a level counts as 1.
        """
        job, _ = self._job(_Mode.PRICE, tile)
        shape = (len(tile.atoms), *tile.levels.shape[1:])
        job.prices = self._take(4 * int(np.prod(shape)))
        _, done = self._call(job, tile)
        return self._get(job.prices, np.int32, shape), int(done.price)

    def observe(self, tile: Tile) -> Observed:
        """The decisions that coding a tile takes."""
        count = 0
        while True:
            job, _ = self._job(_Mode.OBSERVE, tile)
            job.rows, job.row_capacity = self._take(count * (5 + FEATURES)), count
            met = self._call(job, tile)[1].row_count
            if met <= count:
                break
            count = met
        rows = self._get(job.rows, np.uint8, (met, 5 + FEATURES))
        numbers = np.ascontiguousarray(rows[:, :4]).view("<u2").astype(np.int64)
        return Observed(numbers[:, 0], numbers[:, 1], rows[:, 4] > 0, rows[:, 5:])

    def _try_encode(self, tile: Tile, capacity: int) -> Streams | None:
        """None where a stream is longer."""
        job, _ = self._job(_Mode.ENCODE, tile)
        for coder in (job.support, job.values):
            coder.data, coder.capacity = self._take(capacity), capacity
        whole, done = self._call(job, tile)
        if not whole:
            return None
        return Streams(*(self._bytes(c.data, c.size) for c in (done.support, done.values)))

    def _job(self, mode: _Mode, tile: Tile) -> tuple[_Job, int]:
        """A job, and where its levels are; what the last job had is overwritten."""
        self._free = self._start
        stop = tile.atoms.stop
        levels = self._put(tile.levels[:stop], np.int16)
        public = 0 if tile.public is None else self._put(tile.public[:stop], np.int16)
        height, width = tile.levels.shape[1:]
        job = _Job(
            mode=mode,
            height=height,
            width=width,
            first=tile.atoms.start,
            stop=stop,
            density=tile.density,
            stack=self._stack,
            dc=self._dc,
            model=self._model,
            levels=levels,
            public=public,
        )
        return job, levels

    def _call(self, job: _Job, tile: Tile) -> tuple[bool, _Job]:
        """Run a job: whether it went well, and the job as the kernel left it."""
        job.work = self._take(_work(self._layout, *tile.levels.shape[1:]))
        at = self._put_struct(job)
        well = self._run(self._store, at)
        return bool(well), _Job.from_buffer_copy(self._bytes(at, sizeof(_Job)))

    def _put_stack(
        self, layout: Layout, head: int, bias: int, linear: int
    ) -> tuple[int, int, int, int]:
        """Where a stack is; the head, and the rows of biases and linear weights, that follow its
        own."""
        groups = []
        for atoms in layout.groups:
            flagged, count = layout.flagged(atoms), len(atoms)
            groups.append(_Group(atoms.start, count, flagged, head, bias, linear))
            others = EXPONENTS + BITS
            head += PASSES * (1 + flagged) + others
            bias += (PASSES + others) * count + PASSES * flagged
            linear += PASSES * (count + flagged) + others
        stack = _Stack(
            layout.atoms,
            len(groups),
            self._put(np.frombuffer(b"".join(map(bytes, groups)), np.uint8)),
            self._put(layout.direction.astype(np.uint8)),
            *self._put_nearness(layout),
        )
        return self._put_struct(stack), head, bias, linear

    def _put_nearness(self, layout: Layout) -> tuple[int, int, int]:
        """Where the spans are of those near each atom, in its group and in groups to come, and
        their weights."""
        spans = np.zeros((2, layout.atoms, 3), np.uint32)
        weights, count = [np.zeros(0, np.uint16)], 0
        for group in layout.groups:
            for atom in group:
                near = layout.nearness[:, atom].astype(np.uint16)
                finer = np.where(np.arange(layout.atoms) < group.stop, 0, near)
                for kind, row in enumerate((near[group.start : group.stop], finer)):
                    first, span = _span(row)
                    spans[kind, atom] = first, len(span) // _LANES, count
                    weights.append(span)
                    count += len(span)
        return self._put(spans[0]), self._put(spans[1]), self._put(np.concatenate(weights))

    def _put_model(self, model: ContextModel) -> int:
        p = model.probability / 65536
        cost = np.round(-np.log2(np.stack([1 - p, p], axis=1)) * PRICE_UNIT)
        tables = (
            model.bias.astype(np.int32),
            _heads(model),
            _inputs(model.linear),
            model.mantissa.astype(np.int32),
            model.signs.astype(np.int16),
            model.logarithm.astype(np.uint8),
            model.probability.astype(np.uint16),
            cost.astype(np.uint32),
        )
        return self._put_struct(_Model(*(self._put(table) for table in tables)))


def _heads(model: ContextModel) -> np.ndarray:
    """Weights of each head, in bytes: inner [pair of inputs][hidden][2], present, outer.

    (N, bytes) uint8."""
    heads = len(model.inner)
    inner = model.inner[..., _ORDER].reshape(heads, HIDDEN, -1, 2).transpose(0, 2, 1, 3)
    tables = (inner.astype(np.int16), _inputs(model.present), model.outer.astype(np.int32))
    rows = [np.ascontiguousarray(table).reshape(heads, -1) for table in tables]
    return np.concatenate([row.view(np.uint8) for row in rows], axis=1)


def _inputs(weights: np.ndarray) -> np.ndarray:
    """Weights of features (n, F) as those of all inputs, in the kernel's order: (n, 16) int16."""
    padded = np.pad(weights, [(0, 0), (0, _INPUTS - FEATURES)])
    return padded[:, _ORDER].astype(np.int16)


def _span(weights: np.ndarray) -> tuple[int, np.ndarray]:
    """The first of those that are not zero, and all up to the last, in whole lanes."""
    there = np.flatnonzero(weights)
    if not len(there):
        return 0, np.zeros(0, np.uint16)
    first, stop = int(there[0]) // _LANES * _LANES, _whole_lanes(int(there[-1]) + 1)
    span = np.zeros(stop - first, np.uint16)
    known = weights[first:stop]
    span[: len(known)] = known
    return first, span


def _whole_lanes(atoms: int) -> int:
    return -(-atoms // _LANES) * _LANES


def _work(layout: Layout, height: int, width: int) -> int:
    """At least the bytes of memory that a job takes for itself."""
    rows, columns = (-(-side // _DC) for side in (height, width))
    blocks = 8 * _DC**2 * rows * columns  # levels, public levels and prices of the DC plane
    work = _work_of(layout, height, width) + 4 * height * width
    return work + _work_of(layout.dc, rows, columns) + blocks + 16 * 16 * 2


def _work_of(layout: Layout, height: int, width: int) -> int:
    atoms = _whole_lanes(layout.atoms)
    lanes = max((_whole_lanes(len(group)) for group in layout.groups), default=0)
    places, plane = (height + 3) * (width + 2) + 2, height * width
    return places * (2 * atoms + 3 * lanes + 36) + 22 * plane + 40 * lanes + 4 * atoms


class _Instances(threading.local):
    """A thread's kernels."""

    def __init__(self) -> None:
        self.kernels: WeakKeyDictionary[ContextModel, Kernel] = WeakKeyDictionary()
        self.flat: Flat | None = None


_INSTANCES = _Instances()


def kernel_of(model: ContextModel, layout: Layout) -> Kernel:
    """This thread's kernel with these tables."""
    found = _INSTANCES.kernels.get(model)
    if found is None or found.is_large:
        _INSTANCES.kernels.pop(model, None)
        found = _INSTANCES.kernels[model] = Kernel(model, layout)
    return found


def flat() -> Flat:
    """This thread's coder of bits alike."""
    found = _INSTANCES.flat
    if found is None or found.is_large:
        found = _INSTANCES.flat = Flat()
    return found

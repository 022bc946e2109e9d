"""Files are decoded in a process of their own.

Decoders are large, mostly C, C++ and Rust: on some damaged files they end the whole process, fill
its memory or never return. Here that costs one image. A process serves one file after the other; a
few serve several threads. It has limits of memory and time, knows no secret of its parent, writes
nothing to the terminal, and another takes its place when it dies.

    parent                                               child: decoder.py
    length of the file, max_pixels (8 bytes each), file  ------------------------->  parse
    <--------  b"+", length (4 bytes), fields of the image as JSON, header, samples
               b"-" or b"!", length, why there is none; b"!" where it may be its own ruin
               b"0", length, modality of a DICOM object without pixels
               b">", length, why the image is larger than max_pixels
    <--------  b"." where it takes another file, b"x" where it is to be replaced

The parent takes nothing of the reply on trust: a file that took the child over gets no further.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import numpy as np

from primis.errors import NoPixels, TooManyPixels, UnreadableImage
from primis.imaging.image import KINDS, MAX_PIXELS, PHOTOMETRIC, Image, require_size

_PROGRAM = "primis.imaging.files"
SECONDS = 120
WORKERS = min(4, os.cpu_count() or 1)
"""Processes at most; one that is not needed is not started."""
_DTYPES = ("uint8", "uint16", "int8", "int16")
_MAX_TEXT, _MAX_LINE, _MAX_HEADER = 1 << 20, 400, 1 << 28
_CHUNK = 1 << 24
_REFUSALS: dict[bytes, type[UnreadableImage]] = {b"-": UnreadableImage, b">": TooManyPixels}

_PASSED_ON = {
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
    *("PYTHONHOME", "PYTHONUSERBASE", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "APPDATA"),
    *("SYSTEMROOT", "WINDIR", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "TZ"),
}
"""Environment variables that the process gets, besides LC_* and the folders of PYTHONPATH. All
others may be secrets."""

GO_ON, REPLACE = b".", b"x"
DIED = "cannot be decoded: the decoder ended by itself"
DAMAGED = "cannot be decoded: damaged, or of a kind that the decoder does not know"


class _Died(Exception):
    """The process ended, or its reply is none; nothing that it left is used."""


class _NoMemory(Exception):
    """The process met its limit."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """The image in a file's bytes, decoded apart.

    Raises UnreadableImage (without a file name: the caller adds it).
    """
    return _pool().decode(data, max_pixels)


def end() -> None:
    """End all processes. Whoever waits for one gets UnreadableImage."""
    if pool := _pools.pop(os.getpid(), None):
        pool.end()


class _Pool:
    """Workers for as many threads as ask at once, WORKERS at most."""

    def __init__(self) -> None:
        self.lock, self.ended = threading.Lock(), False
        self._turn = threading.Semaphore(WORKERS)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def decode(self, data: bytes, max_pixels: int) -> Image:
        with self._turn:
            with self.lock:  # the one that was used last: a single thread needs a single process
                worker = self._idle.pop() if self._idle else _Worker(self)
                self._busy.append(worker)
            try:
                return worker.decode(data, max_pixels)
            finally:
                with self.lock:
                    self._busy.remove(worker)
                    self._idle.append(worker)

    def end(self) -> None:
        """For good: no process is started in it any more."""
        with self.lock:
            self.ended = True
            for worker in self._idle:
                worker.end()
            for worker in self._busy:
                worker.kill()  # whoever waits for it does the rest

    def let_go(self) -> None:
        """Forget what a fork has of its parent's processes."""
        for worker in (*self._idle, *self._busy):
            worker.let_go()


class _Worker:
    """A process that decodes file after file: starting it takes longer than most of them."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, max_pixels: int) -> Image:
        used = self._process is not None and self._process.poll() is None
        try:
            if used:  # what an earlier file left in ruins is replaced by a new process
                with contextlib.suppress(_Died, _NoMemory):
                    return self._ask(data, max_pixels)
            return self._ask(data, max_pixels)
        except _Died:
            raise UnreadableImage(DIED) from None
        except _NoMemory as error:
            raise UnreadableImage(str(error)) from None

    def kill(self) -> None:
        """End the process at once."""
        if (process := self._process) is not None:
            process.kill()
            process.wait()

    def end(self) -> None:
        """End the process, and what leads to it."""
        self.kill()
        self.let_go()

    def let_go(self) -> None:
        """Forget the process; it ends when nobody else writes to it."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = process.returncode or 0  # whoever started it waits for it

    def _ask(self, data: bytes, max_pixels: int) -> Image:
        process, late, whole = self._running(), threading.Event(), False

        def stop() -> None:
            late.set()
            process.kill()

        watch = threading.Timer(SECONDS, stop)
        watch.daemon = True
        watch.start()
        try:
            assert process.stdin and process.stdout
            write(process.stdin, len(data).to_bytes(8, "big") + max_pixels.to_bytes(8, "big"))
            write(process.stdin, data)
            reply = _reply(process.stdout, max_pixels)
            whole = _read(process.stdout, 1) == GO_ON
        except (OSError, ValueError, KeyError, TypeError, _Died):
            if late.is_set():
                raise UnreadableImage(f"cannot be decoded: took longer than {SECONDS} s") from None
            raise _Died from None
        finally:
            watch.cancel()
            if not whole:  # after an interruption too: the two sides would no longer agree
                self.end()
        if isinstance(reply, UnreadableImage):
            raise reply
        return reply

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.let_go()
            with self._pool.lock:
                if self._pool.ended:
                    raise _Died
                self._process = _start()
        return self._process


def _start() -> subprocess.Popen[bytes]:
    """Raises UnreadableImage where the system starts none."""
    command = [sys.executable, "-P", "-m", _PROGRAM]  # -P: not from the folder one stands in
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=nowhere, env=_environment()
        )
    except OSError as error:
        why = f"the decoder cannot be started: {error.strerror}"
        raise UnreadableImage(f"cannot be decoded: {why}") from None
    _widen(process.stdin)
    _widen(process.stdout)
    return process


_pools: dict[int, _Pool] = {}
"""By process id: after a fork the copy starts its own, and never talks to those of its parent."""


def _pool() -> _Pool:
    here = os.getpid()
    for stranger in [pid for pid in _pools if pid != here]:
        _pools.pop(stranger).let_go()
    return _pools.setdefault(here, _Pool())


atexit.register(end)


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _PASSED_ON or name.startswith("LC_")
    }
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if named := [folder for folder in folders if folder]:  # one without a name: where one stands
        kept["PYTHONPATH"] = os.pathsep.join(named)
    return kept | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")  # they take space


# --- the reply ---


class Fields(NamedTuple):
    """What stands before header and samples."""

    shape: list[int]
    dtype: str
    bit_depth: int
    photometric: str
    kind: str
    spacing_mm: list[float] | None
    padding_range: list[int] | None
    notes: list[str]
    rounding: float
    identifying: list[str]
    header_bytes: int


def _reply(pipe: Any, max_pixels: int) -> Image | UnreadableImage:
    """An image, or why there is none.

    Raises _NoMemory, _Died or what parsing meets.
    """
    kind = bytes(_read(pipe, 1))
    length = int.from_bytes(_read(pipe, 4), "big")
    if length > _MAX_TEXT:
        raise _Died
    text = _read(pipe, length)
    if kind == b"+":
        return _read_image(pipe, json.loads(text), max_pixels)
    line = text.decode(errors="replace")[:_MAX_LINE]
    line = "".join(c if c.isprintable() else " " for c in line) or DAMAGED
    if kind in _REFUSALS:
        return _REFUSALS[kind](line)
    if kind == b"0":
        return NoPixels(line[:16] if line.isalnum() else "unknown")
    raise _NoMemory(line) if kind == b"!" else _Died


def _read_image(pipe: Any, body: Any, max_pixels: int) -> Image:
    fields = Fields(**body)
    frames, height, width, channels = (_whole(side, 0, 1 << 48) for side in fields.shape)
    require_size((frames, height, width, channels), max_pixels)
    if (
        fields.dtype not in _DTYPES
        or fields.kind not in KINDS
        or fields.photometric not in PHOTOMETRIC
    ):
        raise _Died
    dtype = np.dtype(fields.dtype)
    limits = np.iinfo(dtype)
    spacing, padding = fields.spacing_mm, fields.padding_range
    if spacing is not None:
        row, column = (float(x) for x in spacing)
        spacing_mm = (row, column)
    if padding is not None:  # may lie outside of what samples hold: a file declares what it likes
        low, high = (_whole(x, 2 * min(limits.min, -(1 << 15)), 1 << 32) for x in padding)
        padding_range = (low, high)
    notes, identifying = _lines(fields.notes), _lines(fields.identifying)
    header = _read(pipe, _whole(fields.header_bytes, 0, _MAX_HEADER))
    pixels = np.empty((frames, height, width, channels), dtype)
    _fill(pipe, memoryview(pixels).cast("B"))
    return Image(
        pixels,
        _whole(fields.bit_depth, 1, 8 * dtype.itemsize),
        fields.photometric,
        fields.kind,
        None if spacing is None else spacing_mm,
        bytes(header),
        None if padding is None else padding_range,
        notes,
        _rounding(fields.rounding),
        identifying,
    )


def _lines(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise ValueError
    return tuple("".join(c if c.isprintable() else " " for c in x)[:_MAX_LINE] for x in value)


def _rounding(value: Any) -> float:
    if type(value) is not float or not 0 <= value < math.inf:
        raise ValueError
    return value


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError
    return value


def _read(pipe: Any, size: int) -> bytearray:
    data = bytearray(size)
    _fill(pipe, memoryview(data))
    return data


def _fill(pipe: Any, room: memoryview) -> None:
    while room:
        count = pipe.readinto(room[:_CHUNK])
        if not count:
            raise _Died
        room = room[count:]


def _widen(pipe: Any) -> None:
    """Fewer, larger pieces where the system lets a pipe hold more."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)


def write(pipe: Any, data: bytes | memoryview) -> None:
    """All of it; a pipe without a buffer may take a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest[:_CHUNK]) :]

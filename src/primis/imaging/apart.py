"""Files are decoded in a process of their own.

Decoders are large, mostly C, C++ and Rust: on some damaged files they end the whole process, fill
its memory or never return. Here that costs one image. The process has limits of memory and time,
knows no secret of its parent, writes nothing to the terminal, and is started anew when it dies.

    parent                                               child: python -m primis.imaging.files
    length of the file, max_pixels (8 bytes each), file  ------------------------->  parse
    <--------  b"+", length (4 bytes), fields of the image as JSON, header, samples
               b"-" or b"!", length, why there is none; after b"!" the process ends
               b"0", length, modality of a DICOM object without pixels
               b">", length, why the image is larger than max_pixels

The parent takes nothing of the reply on trust: a file that took the child over gets no further.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from primis.errors import NoPixels, TooManyPixels, UnreadableImage
from primis.imaging.image import KINDS, MAX_PIXELS, PHOTOMETRIC, Image, require_size

_PROGRAM = "primis.imaging.files"
_SECONDS = 120
_LIBRARIES = 320 << 20
"""Bytes of address space that Python and the decoders take before they decode anything."""
_BYTES_PER_SAMPLE = 3
"""2 for samples of 16 bits, half as much again for the frame at work; the file comes on top."""
_LEFT_BEHIND = 256 << 20
"""Bytes that earlier files may leave in the process, libraries that they brought included."""
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

_DIED = "cannot be decoded: the decoder ended by itself"
_DAMAGED = "cannot be decoded: damaged, or of a kind that the decoder does not know"


class _Died(Exception):
    """The process ended, or its reply is none; nothing that it left is used."""


class _NoMemory(Exception):
    """The process met its limit."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """The image in a file's bytes, decoded apart.

    Raises UnreadableImage (without a file name: the caller adds it).
    """
    return _decoder().decode(data, max_pixels)


class _Decoder:
    """The process, one for the whole run: starting it takes longer than most images."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, max_pixels: int) -> Image:
        with self._lock:
            used = self._process is not None and self._process.poll() is None
            try:
                if used:  # what an earlier file left in ruins is replaced by a new process
                    with contextlib.suppress(_Died, _NoMemory):
                        return self._ask(data, max_pixels)
                return self._ask(data, max_pixels)
            except _Died:
                raise UnreadableImage(_DIED) from None
            except _NoMemory as error:
                raise UnreadableImage(str(error)) from None

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
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

        watch = threading.Timer(_SECONDS, stop)
        watch.daemon = True
        watch.start()
        try:
            assert process.stdin and process.stdout
            _write(process.stdin, len(data).to_bytes(8, "big") + max_pixels.to_bytes(8, "big"))
            _write(process.stdin, data)
            reply = _reply(process.stdout, max_pixels)
            whole = True
        except (OSError, ValueError, KeyError, TypeError, _Died):
            if late.is_set():
                raise UnreadableImage(f"cannot be decoded: took longer than {_SECONDS} s") from None
            raise _Died from None
        finally:
            watch.cancel()
            if not whole:  # an interruption too: the two sides would no longer agree
                self.end()
        if isinstance(reply, UnreadableImage):
            raise reply
        return reply

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.let_go()
            # -P: nothing is imported from the folder one stands in
            command = [sys.executable, "-P", "-m", _PROGRAM]
            pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
            try:
                self._process = subprocess.Popen(
                    command, bufsize=0, stdin=pipe, stdout=pipe, stderr=nowhere, env=_environment()
                )
            except OSError as error:
                why = f"the decoder cannot be started: {error.strerror}"
                raise UnreadableImage(f"cannot be decoded: {why}") from None
            _widen(self._process.stdin)
            _widen(self._process.stdout)
        return self._process


_decoders: dict[int, _Decoder] = {}
"""By process id: after a fork the copy starts its own, and never talks to that of its parent."""


def _decoder() -> _Decoder:
    here = os.getpid()
    for stranger in [pid for pid in _decoders if pid != here]:
        _decoders.pop(stranger).let_go()
    return _decoders.setdefault(here, _Decoder())


@atexit.register
def _end() -> None:
    if decoder := _decoders.pop(os.getpid(), None):
        decoder.end()


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


class _Fields(NamedTuple):
    """What stands before header and samples."""

    shape: list[int]
    dtype: str
    bit_depth: int
    photometric: str
    kind: str
    spacing_mm: list[float] | None
    padding_range: list[int] | None
    notes: list[str]
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
    line = "".join(c if c.isprintable() else " " for c in line) or _DAMAGED
    if kind in _REFUSALS:
        return _REFUSALS[kind](line)
    if kind == b"0":
        return NoPixels(line[:16] if line.isalnum() else "unknown")
    raise _NoMemory(line) if kind == b"!" else _Died


def _read_image(pipe: Any, body: Any, max_pixels: int) -> Image:
    fields = _Fields(**body)
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
    if not isinstance(fields.notes, list) or not all(isinstance(n, str) for n in fields.notes):
        raise _Died
    notes = tuple(
        "".join(c if c.isprintable() else " " for c in note)[:_MAX_LINE] for note in fields.notes
    )
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
    )


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


def _write(pipe: Any, data: bytes | memoryview) -> None:
    """All of it; a pipe without a buffer may take a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest[:_CHUNK]) :]


# --- the child ---


def serve(parse: Callable[[bytes, int], Image]) -> None:
    """Answer until standard input ends. Nothing but answers goes to where standard output was."""
    replies: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a library that prints
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    requests, size_before = sys.stdin.buffer, _size()
    while len(head := requests.read(16)) == 16:
        size, max_pixels = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
        limit = _limit(size, max_pixels)
        with contextlib.suppress(AttributeError):
            signal.alarm(
                _SECONDS + 10
            )  # where the parent was killed, nobody else ends a decoder that never returns
        kind, answer = _answer(parse, requests.read(size), max_pixels, limit)
        if isinstance(answer, Image):
            _send_image(replies, answer)
        else:
            line = answer.encode(errors="replace")
            _write(replies, kind + len(line).to_bytes(4, "big") + line)
        del answer
        if kind == b"!" or _size() - size_before > _LEFT_BEHIND:
            break  # the next file gets a process that has all its memory
        with contextlib.suppress(AttributeError):
            signal.alarm(0)


def _answer(
    parse: Callable[[bytes, int], Image], data: bytes, max_pixels: int, limit: int
) -> tuple[bytes, Image | str]:
    try:
        return b"+", parse(data, max_pixels)
    except NoPixels as error:
        return b"0", error.modality
    except UnreadableImage as error:
        return b">" if isinstance(error, TooManyPixels) else b"-", str(error)
    except MemoryError:
        return b"!", f"cannot be decoded: does not fit in {limit / (1 << 30):.1f} GiB of memory"
    except Exception:  # decoders raise whatever they like
        return b"-", _DAMAGED
    except (
        BaseException
    ):  # a panic of Rust, an exit: whatever it was doing, it is not to be used again
        return b"!", _DIED


def _limit(size: int, max_pixels: int) -> int:
    """Limit the process to what a file of this size may take. The limit in bytes, kept or not."""
    limit = _LIBRARIES + _BYTES_PER_SAMPLE * max_pixels + 4 * size
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return limit


def _size() -> int:
    """Bytes of address space of this process, where the system tells."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


def _send_image(replies: BinaryIO, image: Image) -> None:
    pixels = np.ascontiguousarray(image.pixels, image.pixels.dtype.newbyteorder("="))
    fields = _Fields(
        list(pixels.shape),
        pixels.dtype.name,
        int(image.bit_depth),
        image.photometric,
        image.kind,
        None if image.spacing_mm is None else [float(x) for x in image.spacing_mm],
        None if image.padding_range is None else [int(x) for x in image.padding_range],
        list(image.notes),
        len(image.header),
    )
    text = json.dumps(fields._asdict()).encode()
    _write(replies, b"+" + len(text).to_bytes(4, "big") + text + image.header)
    _write(replies, memoryview(pixels).cast("B"))

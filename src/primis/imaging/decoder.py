"""The process that decodes for `apart`: within limits of memory and time, unable to print.

It takes nothing of its own account: what to do comes through standard input, and it ends with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from primis.errors import NoPixels, TooManyPixels, UnreadableImage
from primis.imaging.apart import DAMAGED, DIED, GO_ON, REPLACE, SECONDS, Fields, write
from primis.imaging.image import Image

_LIBRARIES = 320 << 20
"""Bytes of address space that Python and the decoders take before they decode anything."""
_BYTES_PER_SAMPLE = 3
"""2 for samples of 16 bits, half as much again for the frame at work; the file comes on top."""
_LEFT_BEHIND = 256 << 20
"""Bytes that earlier files may leave in the process, libraries that they brought included."""


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
            signal.alarm(SECONDS + 10)  # where the parent was killed, nobody else ends it
        kind, answer = _answer(parse, requests.read(size), max_pixels, limit)
        if isinstance(answer, Image):
            _send_image(replies, answer)
        else:
            line = answer.encode(errors="replace")
            write(replies, kind + len(line).to_bytes(4, "big") + line)
        del answer
        # the next file gets a process that has all its memory
        spent = kind == b"!" or _size() - size_before > _LEFT_BEHIND
        write(replies, REPLACE if spent else GO_ON)
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
        return b"-", DAMAGED
    except BaseException:  # a panic of Rust, an exit: it is not to be used again
        return b"!", DIED


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
    fields = Fields(
        list(pixels.shape),
        pixels.dtype.name,
        int(image.bit_depth),
        image.photometric,
        image.kind,
        None if image.spacing_mm is None else [float(x) for x in image.spacing_mm],
        None if image.padding_range is None else [int(x) for x in image.padding_range],
        list(image.notes),
        float(image.rounding),
        list(image.identifying),
        len(image.header),
    )
    text = json.dumps(fields._asdict()).encode()
    write(replies, b"+" + len(text).to_bytes(4, "big") + text + image.header)
    write(replies, memoryview(pixels).cast("B"))

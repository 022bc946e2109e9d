"""Compressed DICOM pixels are decoded in a process of their own.

Decoders written in C and C++ end the whole process, fill its memory or never return on some damaged
files. Here that costs one image: the process is limited, watched and started anew when it dies.

    parent                                  this module as a program
    8 bytes of length, DICOM file  ----->   pydicom
    <-----  8 bytes of length, b"+" and the array as .npy, or b"-" and the name of the error
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import threading

import numpy as np

from primis.errors import UnreadableImage

_SECONDS = 120
_MEMORY = 4 << 30
_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def decode_apart(data: bytes) -> np.ndarray:
    """`pixel_array` of a DICOM file. Raises UnreadableImage with the name of what went wrong."""
    with _lock:
        used = _process is not None and _process.poll() is None
        reply = _ask(data)
        if used and reply[:1] != b"+":  # an earlier file may have left it in ruins: this one gets a new process
            reply = _ask(data)
    if not reply:
        raise UnreadableImage("DecoderDied")
    if reply[:1] == b"-":
        raise UnreadableImage(reply[1:].decode())
    return np.load(io.BytesIO(reply[1:]), allow_pickle=False)


def _ask(data: bytes) -> bytes:
    """The process's reply, nothing if it died. Only a process that has met no error is kept."""
    global _process  # noqa: PLW0603 - one decoder for the whole run: starting it takes longer than most images
    if _process is None or _process.poll() is not None:
        command = [sys.executable, "-P", "-m", "primis.imaging.apart"]  # -P: nothing from the folder one stands in
        _process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    watch = threading.Timer(_SECONDS, _process.kill)
    watch.start()
    reply = b""
    try:
        assert _process.stdin and _process.stdout
        _process.stdin.write(len(data).to_bytes(8, "big") + data)
        _process.stdin.flush()
        size = int.from_bytes(_process.stdout.read(8), "big")
        reply = _process.stdout.read(size)
    except OSError:  # it died while it was written to
        pass
    finally:
        watch.cancel()
        if reply[:1] != b"+":  # an interruption too: the two sides would no longer agree
            _process.kill()
            _process.wait()
    return reply


def _serve() -> None:
    """Answer until standard input ends. Nothing but answers goes to standard output."""
    import signal
    import warnings

    import pydicom

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    while head := sys.stdin.buffer.read(8):
        data = sys.stdin.buffer.read(int.from_bytes(head, "big"))
        out = io.BytesIO()
        try:
            out.write(b"+")
            np.save(out, pydicom.dcmread(io.BytesIO(data), force=True).pixel_array, allow_pickle=False)
        except Exception as error:
            out = io.BytesIO(b"-" + type(error).__name__.encode())
        reply = out.getvalue()
        sys.stdout.buffer.write(len(reply).to_bytes(8, "big") + reply)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()

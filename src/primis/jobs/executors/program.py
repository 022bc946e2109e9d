"""The program of a worker process: it works on one task after the other (see `processes`).

Worker, tasks and outcomes pass through standard input and output, pickled, so that no secret shows
in a list of processes. It ends with its standard input, and with its coordinator in the middle of
a task.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time

_TICK = 1.0
"""Seconds between two looks for the coordinator."""


def serve() -> None:
    """Answer until standard input ends. Nothing but answers goes to where standard output was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints
    requests = sys.stdin.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):  # the coordinator is gone
        worker = pickle.load(requests)
        while True:
            task = pickle.load(requests)
            pickle.dump(worker(task), replies, pickle.HIGHEST_PROTOCOL)
            replies.flush()


def _end_with(coordinator: int) -> None:
    """A task may take minutes, in vain where its coordinator was killed. On Windows it runs on."""
    while os.getppid() == coordinator:
        time.sleep(_TICK)
    os._exit(0)


if __name__ == "__main__":
    serve()
    os._exit(0)  # at once: what the interpreter would tidy up may be a pipe to nobody

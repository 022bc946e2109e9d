"""The workers of a Dask cluster, on this machine or on many.

1  check the scheduler: TLS where it is not on this machine, primis and Python as they are here
2  send the worker once, and tasks in batches of about 64 images
3  a batch whose workers died is sent again image by image; an image whose workers died again, once
   more

What is sent is opaque to the scheduler and shows in no log: pickled, in a parcel without a repr. It
holds secrets of images and never the release's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import pickle
import platform
import secrets
import socket
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from primis.codec import Done, silent
from primis.errors import WorkerError
from primis.jobs.executors.executor import TRIES, Outcome, Task, Worker
from primis.jobs.executors.serial import Serial

if TYPE_CHECKING:
    from distributed import Client, Future

_BATCH, _BATCH_BYTES = 64, 64 << 20
"""Images of a batch, and bytes that are read for them."""

_BATCHES = 4
"""For each thread of the cluster, where there are few images: so that none is idle for long."""

_IN_FLIGHT = 2
_SECONDS = 10
"""To wait for an answer of the scheduler."""


@dataclass(frozen=True)
class _Parcel:
    """Something pickled."""

    data: bytes = field(repr=False)

    @classmethod
    def of(cls, content: Any) -> _Parcel:
        return cls(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))

    def open(self) -> Any:
        return pickle.loads(self.data)


@dataclass
class _Batch:
    """Tasks that are at work together. tries: how often their workers died."""

    tasks: list[tuple[int, Any]]
    tries: int = 0


class Dask:
    """An Executor; made by `cluster`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def count(self, total: int) -> int:
        """See Executor."""
        return max(1, min(total, sum(self._client.nthreads().values())))

    def here(self) -> Serial:
        """See Executor. The machine that a command is given on may not be for much work."""
        return Serial()

    def run(
        self,
        worker: Worker[Task, Outcome],
        tasks: Iterator[tuple[int, Task]],
        total: int,
        done: Done = silent,
    ) -> Generator[tuple[int, Outcome], None, None]:
        """See Executor."""
        from distributed import as_completed

        threads = max(1, sum(self._client.nthreads().values()))
        name = f"primis-{secrets.token_hex(8)}"
        worker_there = self._client.submit(_same, _Parcel.of(worker), key=name, pure=False)
        batches = _batches(worker, tasks, max(1, min(_BATCH, total // (_BATCHES * threads))))
        at_work: dict[Future, _Batch] = {}
        finished: Any = as_completed(with_results=False, raise_errors=False)
        again: list[_Batch] = []

        def give() -> bool:
            batch = next(batches, None) or (again.pop() if again else None)
            if batch is not None:
                parcel = _Parcel.of([(number, worker.sent(task)) for number, task in batch.tasks])
                future = self._client.submit(_work, worker_there, parcel, _versions(), pure=False)
                at_work[future] = batch
                finished.add(future)
            return batch is not None

        try:
            while True:
                while len(at_work) < _IN_FLIGHT * threads and give():
                    pass
                if not at_work:
                    return
                future = next(finished)
                batch = at_work.pop(future)
                outcomes = self._outcomes(future)
                if outcomes is not None:
                    yield from outcomes
                    continue
                batch.tries += 1
                if batch.tries < TRIES:
                    again += [_Batch([task], batch.tries) for task in batch.tasks]
                    continue
                for number, task in batch.tasks:
                    yield number, worker.lost(task, TRIES)
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                self._client.cancel([*at_work, worker_there], force=True)

    def _outcomes(self, future: Future) -> list[tuple[int, Any]] | None:
        """None where workers died. Raises WorkerError."""
        from distributed.scheduler import KilledWorker

        if future.cancelled() or self._client.status != "running":
            raise WorkerError("the Dask scheduler ended: the same call goes on where it stopped")
        error = future.exception()
        if error is None:
            reply = future.result().open()
            if isinstance(reply, str):
                raise WorkerError(reply)
            return list(reply)
        if isinstance(error, KilledWorker):
            return None
        if isinstance(error, ImportError):
            raise WorkerError(f"a Dask worker lacks primis or a package of it: {error}") from None
        raise WorkerError(f"a Dask worker failed with {type(error).__name__}") from None


def _batches(
    worker: Worker[Task, Outcome], tasks: Iterator[tuple[int, Task]], most: int
) -> Iterator[_Batch]:
    held: list[tuple[int, Task]] = []
    size = 0
    for number, task in tasks:
        held.append((number, task))
        size += worker.size(task)
        if len(held) >= most or size >= _BATCH_BYTES:
            yield _Batch(held)
            held, size = [], 0
    if held:
        yield _Batch(held)


# --- on the cluster ---


def _same(parcel: _Parcel) -> _Parcel:
    """The worker, kept where it is needed; computed anew where its machine is lost."""
    return parcel


_opened: dict[int, tuple[_Parcel, Any]] = {}


def _work(worker_there: _Parcel, batch: _Parcel, wanted: str) -> _Parcel:
    """(number, outcome) of each task; a text where this machine has another version."""
    machine = socket.gethostname()
    if (here := _versions()) != wanted:
        return _Parcel.of(f'the Dask worker on "{machine}" has {here}, expected {wanted}')
    kept = _opened.get(id(worker_there))
    if kept is None:
        if len(_opened) > 1:
            _opened.clear()
        kept = _opened[id(worker_there)] = worker_there, worker_there.open()
    return _Parcel.of([(n, kept[1].elsewhere(task, machine)) for n, task in batch.open()])


def _versions() -> str:
    return f"primis {version('primis')} on Python {'.'.join(platform.python_version_tuple()[:2])}"


# --- the scheduler ---


@contextmanager
def cluster(place: str | Client, *, insecure: bool) -> Iterator[Dask]:
    """An executor on a cluster, for as long as it is needed. place: an address, or a client, which
    stays open. Raises WorkerError."""
    from distributed import Client

    if isinstance(place, Client):
        _check(place, insecure=insecure)
        yield Dask(place)
        return
    _require_safe(place, insecure=insecure)
    with _quiet():
        try:
            client = Client(place, timeout=_SECONDS)
        except (OSError, TimeoutError, ValueError, TypeError, AssertionError) as error:
            # the last where its event loop does not start within 10 s
            said = " ".join(str(error).split())[:200]
            why = f": {said}" if place.startswith("tls:") and "certificate" in said else ""
            raise WorkerError(
                f'Dask scheduler "{place}" cannot be reached{why}; expected the address of one '
                "that runs, tls://HOST:PORT, and certificates in Dask's configuration"
            ) from None
        try:
            _check(client, insecure=insecure)
            yield Dask(client)
        finally:
            with contextlib.suppress(Exception):
                client.close(timeout=_SECONDS)


@contextmanager
def _quiet() -> Iterator[None]:
    """Versions that differ are told as an error, once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="distributed")
        yield


def _check(client: Client, *, insecure: bool) -> None:
    """Raises WorkerError."""
    about: Any = client.scheduler_info()
    scheduler: Any = client.scheduler
    for address in (str(scheduler.address), str(about.get("address"))):
        _require_safe(address, insecure=insecure)
    versions: Any = client.get_versions()
    there = versions["scheduler"]["packages"].get("distributed")
    here = versions["client"]["packages"].get("distributed")
    if there != here:
        raise WorkerError(f"the Dask scheduler has distributed {there}, expected {here} as here")
    if not about["workers"]:
        raise WorkerError("the Dask scheduler has no workers, expected at least one")


def _require_safe(address: str, *, insecure: bool) -> None:
    """Raises WorkerError where what is sent could be read on its way."""
    if insecure or address.startswith(("tls://", "inproc://")):
        return
    if not _is_here(urlsplit(address if "://" in address else f"tcp://{address}").hostname or ""):
        raise WorkerError(
            f'Dask scheduler "{address}" is reached without TLS, which would show images and their '
            "secrets to the network: expected tls://HOST:PORT, or a scheduler that listens on "
            "127.0.0.1 alone"
        )


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

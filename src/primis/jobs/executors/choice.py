"""Which executor a caller asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from primis.errors import UsageError
from primis.jobs.executors.executor import Executor
from primis.jobs.executors.processes import Processes
from primis.jobs.executors.serial import Serial

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def executor_for(
    jobs: int | None, dask: str | Client | None = None, *, dask_insecure: bool = False
) -> Iterator[Executor]:
    """An executor for as long as it is needed.

    jobs: processes on this machine; 1 for this one alone, None for as many as cores. dask: the
    address of a scheduler, or a client, in their place. dask_insecure: allow a scheduler on another
    machine without TLS. Raises UsageError and WorkerError.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs}, expected at least 1")
    if dask is None:
        yield Serial() if jobs == 1 else Processes(jobs)
        return
    from primis.jobs.executors.dask import cluster

    with cluster(dask, insecure=dask_insecure) as executor:
        yield executor

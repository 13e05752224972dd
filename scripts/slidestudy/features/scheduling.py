"""Where cohort-wide computations run: threads of this machine, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dask
from threadpoolctl import threadpool_limits

from slidestudy.errors import StudyError

CONNECT_SECONDS = 30
"""How long a cluster's scheduler, and then its first worker, is waited for."""


@contextmanager
def on(scheduler: str, threads: int = 1, patience: float = CONNECT_SECONDS) -> Iterator[None]:
    """Runs the Dask computations of the block on threads or on a cluster.

    Linear algebra keeps to one thread of its own per task here, so that a result does not depend on the number
    of cores.

    Args:
        scheduler: `threads`, or the address of a cluster's scheduler, e.g. `tcp://host:8786`. Its workers must
            see the feature stores under the same paths and find the package `slidestudy`.
        threads: Threads, where threads are used.
        patience: Seconds that the scheduler, and its first worker, are waited for.

    Raises:
        StudyError: The scheduler cannot be reached, it has no worker, or its workers do not find this package.
    """
    with threadpool_limits(1):
        if scheduler == "threads":
            with dask.config.set(scheduler="threads", num_workers=threads):
                yield
        else:
            with _cluster(scheduler, patience):
                yield


@contextmanager
def _cluster(address: str, patience: float) -> Iterator[None]:
    """A client of a cluster, the default of Dask while the block lasts."""
    from distributed import Client

    where = f"dask.scheduler: {address}"
    try:
        client = Client(address, timeout=patience)
    except (OSError, ValueError, TypeError) as error:
        remedy = "start it (dask scheduler), correct the address, or set dask.scheduler to threads"
        raise StudyError(f"the Dask scheduler cannot be reached ({error})", where, remedy) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            raise StudyError("the Dask cluster has no worker", where, f"start one: dask worker {address}") from None
        try:
            # A nested function travels by value: the workers can run it without this package.
            client.run(lambda: __import__("slidestudy.features.cohorts"))
        except ImportError as error:
            remedy = "start the workers in the study's environment, with the folder scripts on PYTHONPATH"
            raise StudyError(f"the Dask workers cannot run this study ({error})", where, remedy) from None
        with dask.config.set(scheduler=client):
            yield

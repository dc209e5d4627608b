"""Where the jobs of a sweep run: processes of this machine, a Dask scheduler, or Ray, by joblib."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ibtrace.errors import ConfigError
from ibtrace.runtime.optional import require
from ibtrace.training.grid import Engine

_EXTRA = "sweep"


def perform(
    work: Callable[..., None],
    tasks: Sequence[tuple[object, ...]],
    engine: Engine,
    address: str | None = None,
    jobs: int | None = None,
) -> None:
    """``work(*task)`` of every task, one at a time in each worker.

    Args:
        work: A function of a module, which the workers can import.
        tasks: Its arguments.
        engine: Which.
        address: Of the scheduler of Dask, or of the cluster of Ray; None starts one here.
        jobs: How many at a time; None for as many as there are cores, or workers at the address.

    Raises:
        Exception: Whatever the engine raises, of a worker that died for instance.
    """
    from joblib import Parallel, cpu_count, delayed

    here = None if address else jobs or cpu_count()
    with _STARTED[engine](address, here):
        # of a cluster with so many workers (-1: all that there are); never two tasks in one
        parallel = Parallel(n_jobs=here or jobs or -1, batch_size=1, pre_dispatch="all")
        parallel(delayed(work)(*task) for task in tasks)


def require_engine(engine: Engine, address: str | None, jobs: int | None) -> None:
    """Raise unless jobs can be done so.

    Args:
        engine: Which.
        address: Of its scheduler.
        jobs: How many at a time.

    Raises:
        ConfigError: If there is no such engine, or it takes no address.
        MissingDependency: If its package is not installed.
    """
    if engine not in _STARTED:
        raise ConfigError(f"--engine must be one of {', '.join(_STARTED)}, got {engine!r}")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more, got {jobs}")
    if engine == "loky" and address is not None:
        raise ConfigError("--address goes with --engine dask or ray; loky's processes are here")
    if engine != "loky":
        require(_EXTRA, _MODULES[engine])


@contextmanager
def _loky(address: str | None, here: int | None) -> Iterator[None]:
    from joblib import parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        yield


@contextmanager
def _dask(address: str | None, here: int | None) -> Iterator[None]:
    from joblib import parallel_config

    distributed = require(_EXTRA, "distributed")
    with _cluster(distributed, address, here) as client:
        threads = {w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values()}
        if max(threads, default=1) > 1:
            warnings.warn(
                "workers of several threads do one job at a time, for torch has one random state "
                "in a process; start them with --nworkers N --nthreads 1",
                stacklevel=2,
            )
        with parallel_config(backend="dask", client=client, wait_for_workers_timeout=60):
            yield


@contextmanager
def _cluster(distributed: Any, address: str | None, here: int | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of one that is started here."""
    if address is not None:
        with distributed.Client(address, set_as_default=False) as client:
            yield client
        return
    own = {"n_workers": here, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**own) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def _ray(address: str | None, here: int | None) -> Iterator[None]:
    from joblib import parallel_config

    ray = require(_EXTRA, "ray")
    require(_EXTRA, "ray.util.joblib").register_ray()
    cores = {} if address else {"num_cpus": here, "include_dashboard": False}
    ray.init(address=address, **cores)
    try:
        with parallel_config(backend="ray"):
            yield
    finally:
        ray.shutdown()


_MODULES = {"dask": "distributed", "ray": "ray"}
_STARTED = {"loky": _loky, "dask": _dask, "ray": _ray}

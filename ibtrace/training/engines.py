"""Where the jobs of a sweep run: processes of this machine, Dask's workers, or Ray's.

loky and Ray are driven by joblib. Dask is by its own client: where a task's workers have died four
times joblib's backend for it waits for ever (joblib 1.6, distributed 2026.8), and a sweep must end.

A worker of Dask or Ray has threads of its own, which draw random numbers (for the pauses between
their messages) from the one state that Python has in a process. So the worker does no job itself:
it starts a process for each.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ibtrace.errors import ConfigError
from ibtrace.runtime.optional import require
from ibtrace.runtime.signals import end_with
from ibtrace.training.grid import Engine

_PATIENCE = 120  # seconds that workers may take to come

Work = Callable[..., None]
Tasks = Sequence[tuple[object, ...]]


@dataclass(frozen=True)
class Workers:
    """What does the jobs of a sweep; a context manager, which stops what was started.

    Args:
        engine: ``loky``, processes of this machine; ``dask`` or ``ray``.
        address: Of the scheduler of Dask, or of the cluster of Ray; None starts one here.
        jobs: How many at a time; None for as many as there are cores, or workers at the address.

    Raises:
        ConfigError: If there is no such engine, or the others do not go with it.
        MissingDependency: If its package is not installed.
    """

    engine: Engine = "loky"
    address: str | None = None
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in _ENGINES:
            known = ", ".join(_ENGINES)
            raise ConfigError(f"--engine must be one of {known}, got {self.engine!r}")
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"--jobs must be 1 or more, got {self.jobs}")
        if self.engine == "loky" and self.address is not None:
            raise ConfigError("--address goes with --engine dask or ray; loky's processes are here")
        if self.engine == "dask" and None not in (self.address, self.jobs):
            raise ConfigError("--jobs does not go with Dask's --address: each worker does a job")
        if self.engine in _MODULES:
            require(self.engine, _MODULES[self.engine])

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.engine == "ray":
            require("ray", "ray").shutdown()

    def perform(self, work: Work, tasks: Tasks) -> None:
        """``work(*task)`` of every task, one at a time in each worker.

        Args:
            work: A function of a module, which the workers can import.
            tasks: Its arguments.

        Raises:
            Exception: Whatever the engine raises, of a worker that died for instance.
        """
        _ENGINES[self.engine](work, tasks, self.address, self.jobs)


def _loky(work: Work, tasks: Tasks, address: str | None, jobs: int | None) -> None:
    from joblib import Parallel, cpu_count, delayed, parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        calls = (delayed(_with_parent)(os.getpid(), work, task) for task in tasks)
        Parallel(n_jobs=jobs or cpu_count(), batch_size=1)(calls)


def _with_parent(parent: int, work: Work, task: tuple[object, ...]) -> None:
    """``work(*task)``, by a process that ends when the one that has begun the sweep does."""
    end_with(parent)
    work(*task)


def _ray(work: Work, tasks: Tasks, address: str | None, jobs: int | None) -> None:
    from joblib import Parallel, cpu_count, delayed, parallel_config

    ray = require("ray", "ray")
    require("ray", "ray.util.joblib").register_ray()
    here = {} if address else {"num_cpus": jobs or cpu_count(), "include_dashboard": False}
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    with parallel_config(backend="ray"):
        Parallel(n_jobs=jobs or -1, batch_size=1)(delayed(apart)(work, task) for task in tasks)


def _dask(work: Work, tasks: Tasks, address: str | None, jobs: int | None) -> None:
    distributed = require("dask", "distributed")
    with _client(distributed, address, jobs) as client:
        client.wait_for_workers(1, timeout=_PATIENCE)
        futures = [client.submit(apart, work, task, pure=False) for task in tasks]
        try:
            client.gather(futures, errors="skip")  # all of them, whatever becomes of one
            for future in futures:
                future.result()
        finally:
            client.cancel(futures)


def apart(work: Work, task: tuple[object, ...]) -> None:
    """``work(*task)`` in a process of its own, which ends when this one does.

    Args:
        work: A function of a module.
        task: Its arguments.

    Raises:
        ChildProcessError: If the process dies.
    """
    command = [sys.executable, "-c", f"from {__name__} import obey; obey()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((work, task)))
        process.stdin.flush()  # it stays open as long as this process lives
        if status := process.wait():
            raise ChildProcessError(f"the process of a job ended with {status}")


def obey() -> None:
    """Do what `apart` has written to this process."""
    work, task = pickle.load(sys.stdin.buffer)

    def follow() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    status = 1
    try:
        work(*task)
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)  # the thread holds the standard input, and an orderly end would wait for it


@contextmanager
def _client(distributed: Any, address: str | None, jobs: int | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of one that is started here."""
    from joblib import cpu_count

    if address is not None:
        with distributed.Client(address, set_as_default=False) as client:
            yield client
        return
    own = {"n_workers": jobs or cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**own) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


_ENGINES = {"loky": _loky, "dask": _dask, "ray": _ray}
_MODULES = {"dask": "distributed", "ray": "ray"}

"""Work in several processes, its results in order as they are done."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


def results(
    function: Callable[..., _Result], tasks: Iterable[tuple[object, ...]], jobs: int
) -> Iterator[_Result]:
    """``function(*task)`` of every task, in order, each as soon as it is there.

    Args:
        function: A function of a module; with more than one process it is pickled by its name.
        tasks: Its arguments.
        jobs: Processes, each with one thread; 1 works in this process.
    """
    grid = list(tasks)
    if jobs == 1:
        for task in grid:
            yield function(*task)
        return
    # spawn: a forked child inherits torch's thread pool in a state that can hang
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_alone)
    futures = [pool.submit(function, *task) for task in grid]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:  # the pool's own cancel_futures is lost if it is collected first
            future.cancel()
        pool.shutdown(wait=False)


def _alone() -> None:
    """Set up a worker: one thread, for it shares its core; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

"""Work in several processes, its results in order as they are done."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


def results(
    function: Callable[..., _Result], tasks: Iterable[tuple[object, ...]], jobs: int
) -> Iterator[_Result]:
    """``function(*task)`` of every task, in order, each as soon as it is there.

    Who stops before the last, by an interrupt as well, stops the processes at once.

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
    others = {*multiprocessing.active_children()}
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_alone)
    futures: list[Future[_Result]] = []
    try:
        with _interrupts_waiting():
            futures += [pool.submit(function, *task) for task in grid]
        for future in futures:
            yield future.result()
    finally:
        if not all(future.done() for future in futures):
            for worker in {*multiprocessing.active_children()} - others:
                worker.terminate()  # else its task is done to the end, for nobody
        pool.shutdown()  # and waits: what the pool shares with its processes is left to nobody


@contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Ctrl-C comes afterwards; processes that are started meanwhile never get it.

    They would be interrupted in the midst of their imports, before `_alone` is called.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _alone() -> None:
    """Set up a worker: one thread, for it shares its core; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

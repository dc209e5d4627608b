"""SIGTERM as Ctrl-C: a process that is told to stop ends as one that is interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 and the signal's number."""
TERMINATED = 143
"""Exit status after SIGTERM (``kill``, a scheduler's end of the allotted time)."""
_LOOK_UP = 1.0  # seconds between two looks at whether the parent is there


@dataclass
class Stop:
    """What a process was told.

    Args:
        terminated: Whether SIGTERM came.
    """

    terminated: bool = False


@contextmanager
def terminated_as_interrupted() -> Iterator[Stop]:
    """SIGTERM raises KeyboardInterrupt within; once, so that the end it begins is not cut short.

    Nothing changes beside the main thread, or where the process treats SIGTERM in a way of its own.

    Yields:
        Whether it came.

    Example:
        >>> with terminated_as_interrupted() as stop:
        ...     try:
        ...         signal.raise_signal(signal.SIGTERM)
        ...     except KeyboardInterrupt:
        ...         stop.terminated
        True
    """
    stop = Stop()

    def told(*_: Any) -> None:
        if not stop.terminated:
            stop.terminated = True
            raise KeyboardInterrupt

    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield stop
        return
    signal.signal(signal.SIGTERM, told)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started within never hear Ctrl-C, which a terminal sends to all: they are told.

    Where the system has no masks of signals (Windows) they hear it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """End this process, at once, when its parent is gone, however that ended.

    Args:
        parent: The parent's number. Nothing happens if it is not that of this process.
    """
    if os.getppid() != parent:
        return

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_UP)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

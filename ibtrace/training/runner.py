"""Runs on disk: the variants of a configuration, side by side, each in a folder of its own."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from ibtrace.errors import CostWarning, IbtraceError, RunError
from ibtrace.runtime.files import FILE_NAME
from ibtrace.runtime.signals import INTERRUPTED, deaf_children, terminated_as_interrupted
from ibtrace.trace import Sweep, Trace
from ibtrace.trace.sweep import is_sweep
from ibtrace.training import config, configs, folders
from ibtrace.training.loop import train
from ibtrace.training.planning import Planned, named, planned
from ibtrace.training.rehearsal import rehearsed
from ibtrace.types import control_of


def run(
    raw: configs.Raw, folder: str | Path, *, resume: bool = False, progress: bool = True
) -> dict[str, Trace]:
    """Train and trace every variant of a configuration, and the controls that it asks for.

    Several of them run in parallel processes, one thread each, as far as there are cores.

    Args:
        raw: The configuration.
        folder: Where the run goes; one folder inside for each variant, if there are variants.
        resume: Go on with the run in the folder; its own configuration is used.
        progress: Draw a progress bar for each variant.

    Returns:
        ``{variant: trace}``; the key is ``""`` for a configuration without variants. The controls
        of a variant come after it; their ``meta["control"]`` says so (`ibtrace.types.control_of`).

    Raises:
        ConfigError: If the configuration is wrong; nothing has been written then.
        UnknownName: If it names a layer or a thing that does not exist; likewise.
        RunError: If the folder holds something and ``resume`` is not set, or is no run to resume.
        KeyboardInterrupt: If interrupted; what was traced is on disk.

    Warns:
        UserWarning: If a variant cannot have one of the controls; says why.
    """
    folder = Path(folder)
    runs = planned(raw)
    for each in runs.values():
        rehearsed(config.build(each.raw))
    jobs = {name: folder / name for name in runs}
    with folders.alone(folder):
        folders.prepare(folder, raw, resume)
        _warn_of_left_out(runs, folder)
        if len(jobs) == 1:
            ((name, path),) = jobs.items()
            bar = name if progress else None
            with _one_thread():
                _train(runs[name], path, resume=resume, label=bar)
        else:
            _side_by_side(runs, jobs, resume, progress)
    return {name: Trace.load(path) for name, path in jobs.items()}


def _warn_of_left_out(runs: Mapping[str, Planned], folder: Path) -> None:
    for name, each in runs.items():
        for kind, why in each.left_out.items():
            message = f"{name or folder.name}: no control {kind}: {why}"
            warnings.warn(message, stacklevel=3)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small tensors: two threads are many times slower than one. The caller's own are restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(folder: str | Path) -> Mapping[str, Trace]:
    """The traces of a run folder, by variant (``""`` if it has none), and those of controls.

    Those of a sweep are a `ibtrace.trace.Sweep`, by point.

    Raises:
        RunError: If there is no trace in the folder or one level below, or one is unreadable.
    """
    folder = Path(folder)
    if is_sweep(folder):
        return Sweep.load(folder)
    inside = {
        path.parent.name: Trace.load(path.parent) for path in sorted(folder.glob(f"*/{FILE_NAME}"))
    }
    order = _run_order(folder)
    inside = {name: inside[name] for name in sorted(inside, key=order)}
    if (folder / FILE_NAME).exists() or not inside:
        controls = {name: trace for name, trace in inside.items() if control_of(trace.meta)}
        return {"": Trace.load(folder), **controls}
    return inside


def _run_order(folder: Path) -> Any:
    """Runs in the order of the configuration, others after them by name."""
    known = named(folders.stored_config(folder)) if (folder / folders.CONFIG).is_file() else []
    return lambda name: (known.index(name) if name in known else len(known), name)


def _train(run: Planned, folder: Path, *, resume: bool, label: str | None, place: int = 0) -> None:
    """Train and trace one of the runs."""
    train(
        config.build(run.raw),
        folder,
        raw=run.raw,
        left_out=run.left_out,
        resume=resume,
        label=label,
        place=place,
    )


def _side_by_side(
    runs: Mapping[str, Planned], jobs: Mapping[str, Path], resume: bool, progress: bool
) -> None:
    """One process for each run, as many at a time as there are cores."""
    # spawn: a forked child inherits torch's thread pool in a state that can hang
    context = multiprocessing.get_context("spawn")
    errors: SimpleQueue[str] = context.SimpleQueue()
    waiting = list(jobs)
    running: dict[str, Any] = {}
    failed = interrupted = False
    cores = os.cpu_count() or 1
    try:
        while (waiting and not failed) or running:
            while waiting and not failed and len(running) < cores:
                name = waiting.pop(0)
                place = list(jobs).index(name)
                arguments = (runs[name], jobs[name], resume, name if progress else None, place)
                running[name] = context.Process(target=_work, args=(*arguments, errors))
                with deaf_children():
                    running[name].start()
            multiprocessing.connection.wait([process.sentinel for process in running.values()])
            for name in [name for name, process in running.items() if not process.is_alive()]:
                code = running.pop(name).exitcode
                failed = failed or code != 0
                interrupted = interrupted or code == INTERRUPTED
    except KeyboardInterrupt:
        interrupted = True
    finally:
        _stop(running.values())
    if interrupted:
        raise KeyboardInterrupt
    if failed:
        messages = [] if errors.empty() else [errors.get()]
        raise RunError(messages[0] if messages else "a worker process died; see above")


_GRACE = 10.0  # seconds that a process that is told to stop may take


def _stop(processes: Iterable[Any]) -> None:
    """Tell processes to stop; who does not hear is killed."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE)
        process.kill()
        process.join()


def _work(
    run: Planned,
    folder: Path,
    resume: bool,
    label: str | None,
    place: int,
    errors: SimpleQueue[str],
) -> None:
    """One run in a process of its own."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # the rehearsal has said them
    warnings.simplefilter("default", CostWarning)  # but for what it cannot know
    warnings.formatwarning = lambda text, *_, **__: f"ibtrace: {label or folder.name}: {text}\n"
    try:
        with terminated_as_interrupted():
            _train(run, folder, resume=resume, label=label, place=place)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except IbtraceError as error:
        errors.put(f"{label or folder.name}: {error}")
        sys.exit(2)


def _die_with_parent() -> None:
    """End this process when its parent was killed: two writers must not meet in a resumed run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

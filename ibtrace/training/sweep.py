"""A sweep: the jobs of a grid on some engine, each once, and their traces merged into one.

A job is one point of the grid with one seed (or a stated number of them). It has a folder, in which
nobody else writes, and its trace is a file of its own, so that jobs on many machines need nothing
but a file system that they share. What is on disk decides alone:

- a job that is *done* or *failed* says so in its folder, and is not begun again (a failed one is,
  if asked to);
- one that was interrupted, whatever by, goes on from its checkpoint, and ends with the trace that
  it would have had;
- one that another process is at is left to it: a lock, which goes with its holder, tells.

So the same call, on whichever engine, does what is left of a sweep, and nothing twice. When the
jobs are over one writer, the caller, merges their traces into the sweep's (`ibtrace.trace.Sweep`),
anew each time, in which every point of the grid has a trace of its own networks.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from ibtrace.errors import ConfigError, IbtraceError
from ibtrace.runtime.files import FILE_NAME, held
from ibtrace.trace.sweep import Merged, Sweep, merge
from ibtrace.training import config, configs, jobs
from ibtrace.training.engines import Workers
from ibtrace.training.folders import LOCK
from ibtrace.training.grid import Job, Plan, Point
from ibtrace.training.jobs import State, folder_of, state, tell
from ibtrace.training.loop import train
from ibtrace.training.rehearsal import rehearsed

_DEATHS = 3  # of processes at one job in one call, before it is taken to be the job's own doing
_WAIT = 3600.0
_PAUSE = 0.5
_IN_THIS_PROCESS = threading.Lock()  # torch's random state is the process's, not a thread's


@dataclass(frozen=True)
class Outcome:
    """What became of the jobs of a call.

    Args:
        done: Jobs that are done, by name.
        failed: Those that failed, and by what.
        unfinished: Those that are not over: begun, waiting, or another process is at them.
        skipped: How many were over before.
        engine: What the engine failed by, if jobs are unfinished for that.
    """

    done: Sequence[str]
    failed: dict[str, str]
    unfinished: Sequence[str]
    skipped: int = 0
    engine: str = ""

    def __str__(self) -> str:
        total = len(self.done) + len(self.failed) + len(self.unfinished)
        before = f" ({self.skipped} of them before)" if self.skipped else ""
        parts = [f"{len(self.done)} done", f"{len(self.failed)} failed"]
        parts += [f"{len(self.unfinished)} unfinished"] if self.unfinished else []
        lines = [f"{total} jobs: {', '.join(parts)}{before}"]
        lines += [f"  failed: {name}: {why}" for name, why in self.failed.items()]
        lines += [f"  {self.engine}"] if self.engine else []
        return "\n".join(lines)


def run(
    plan: Plan,
    folder: str | Path,
    *,
    only: Sequence[Job] | None = None,
    workers: Workers | None = None,
    retry: bool = False,
    progress: bool = True,
) -> Outcome:
    """Do what is left of a sweep's jobs.

    Args:
        plan: The sweep.
        folder: Where it goes; on a cluster one that all machines share.
        only: Which of its jobs; None for all. All values of the grid are tried before then, so
            that what is wrong with one is said before any job is begun.
        workers: What does them; None is as many processes of this machine as it has cores.
        retry: Begin those again that failed.
        progress: Draw a progress bar over all jobs.

    Returns:
        What became of them.

    Raises:
        ConfigError: If a value of the grid cannot be used; nothing has been written then.
        RunError: If the folder holds another sweep, or something else.
    """
    folder, workers = Path(folder).absolute(), workers or Workers()
    jobs.require_usable(folder, plan)
    if only is None and _left(folder, plan.jobs):
        _try_values(plan)
    jobs.prepare(folder, plan)
    asked = plan.jobs if only is None else only
    for job in asked if retry else ():
        if state(folder_of(folder, job)).progress == "failed":
            tell(folder_of(folder, job), State("begun"))
    skipped = len(asked) - len(_left(folder, asked))
    with workers, _bar(folder, asked, progress):
        said = _exhausted(plan, folder, asked, workers)
    return _outcome(folder, asked, skipped, said)


def _exhausted(plan: Plan, folder: Path, asked: Sequence[Job], workers: Workers) -> str:
    """Have jobs done until none is left, or no more can be; what the engine fails by, if it does.

    Where a worker dies, loky and Ray stop the others as well, and whose doing it was is not told.
    So jobs that were begun then are done alone, when the others are over: one that kills its
    process takes no other with it.
    """
    call, said = uuid.uuid4().hex, ""
    before: dict[str, State] | None = None
    while left := _left(folder, asked):
        states = {job.name: state(folder_of(folder, job)) for job in left}
        if states == before:
            return said
        wait = 0.0 if before is None else _WAIT
        alone = [job for job in left if states[job.name].call == call]
        others = [job for job in left if states[job.name].call != call]
        for together in [*([others] if others else []), *([job] for job in alone)]:
            where = (str(folder), os.getcwd(), call, wait)
            tasks = [(job, plan.points[job.point], *where) for job in together]
            said = _performed(tasks, workers) or said
        before = states
    return ""


def _performed(tasks: Sequence[tuple[object, ...]], workers: Workers) -> str:
    """Have jobs done; what the engine fails by, if it does."""
    try:
        workers.perform(work, tasks)
    except IbtraceError:
        raise
    except Exception as error:  # a worker that died, a scheduler that is not there, …
        return f"{workers.engine}: {type(error).__name__}: {_one_line(error)}"
    return ""


def merged(plan: Plan, folder: str | Path) -> Sweep:
    """Merge the traces of the jobs that are over into the sweep's, and read it.

    What a failed job traced before it failed is in it, as in any run.

    Args:
        plan: The sweep.
        folder: Its folder.

    Raises:
        RunError: If a trace cannot be read, or jobs of one point do not fit together.
    """
    folder = Path(folder).absolute()
    now = _outcome(folder, plan.jobs)
    over = {*now.done, *now.failed}
    points = {
        name: Merged(
            point.values,
            plan.seeds,
            [
                str(place.relative_to(folder))
                for job in plan.jobs
                if job.point == name and job.name in over
                if ((place := folder_of(folder, job)) / FILE_NAME).exists()
            ],
        )
        for name, point in plan.points.items()
    }
    with held(folder / LOCK, _WAIT):
        return merge(folder, points, plan.grid, failed=now.failed, unfinished=now.unfinished)


def work(job: Job, point: Point, sweep: str, place: str, call: str, wait: float) -> None:
    """Do a job, unless it is over or another process is at it, and write down how it ended.

    Args:
        job: The job.
        point: Its point.
        sweep: The folder of the sweep.
        place: The folder where the sweep was called: a ``class_path`` may name a file there.
        call: Of the sweep, which counts its own processes that die.
        wait: Seconds to wait for another process that is at it.
    """
    folder = folder_of(Path(sweep), job)
    with _IN_THIS_PROCESS, held(folder / LOCK, wait) as free:
        before = state(folder)
        if not free or before.progress in ("done", "failed"):
            return
        deaths = before.deaths + 1 if before.call == call else 0
        if deaths >= _DEATHS:
            why = f"its process died {deaths} times (killed for its memory?)"
            return tell(folder, State("failed", why, call))
        tell(folder, State("begun", call=call, deaths=deaths))
        tell(folder, replace(_ended(job, point.raw, folder, place), call=call))


def _ended(job: Job, raw: configs.Raw, folder: Path, place: str) -> State:
    """Train and trace a job, or go on with it; how that ended."""
    try:
        with _as_called(place), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the caller has heard them
            experiment = config.build(raw)
            train(experiment, folder, seeds=job.seeds, raw=raw, resume=True)
    except IbtraceError as error:
        return State("failed", _one_line(error))
    except Exception as error:  # the user's own code can raise anything; the other jobs go on
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return State("failed", f"{type(error).__name__}: {_one_line(error)} ({where})")
    return State("done")


@contextmanager
def _as_called(place: str) -> Iterator[None]:
    """The folder, the modules and the one thread that the caller has."""
    before, threads, path = os.getcwd(), torch.get_num_threads(), list(sys.path)
    if os.path.isdir(place):
        os.chdir(place)
    sys.path[:] = [place, *path]
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        torch.set_num_threads(threads)


def _left(folder: Path, asked: Sequence[Job]) -> list[Job]:
    over = ("done", "failed")
    return [job for job in asked if state(folder_of(folder, job)).progress not in over]


def _outcome(folder: Path, asked: Sequence[Job], skipped: int = 0, engine: str = "") -> Outcome:
    states = {job.name: state(folder_of(folder, job)) for job in asked}
    return Outcome(
        [name for name, now in states.items() if now.progress == "done"],
        {name: now.error for name, now in states.items() if now.progress == "failed"},
        [name for name, now in states.items() if now.progress in ("begun", "waiting")],
        skipped,
        engine,
    )


def _try_values(plan: Plan) -> None:
    """Build the networks of enough points that every value of the grid is in one of them.

    Raises:
        ConfigError: If a value cannot be used; says at which point.
    """
    tried: dict[str, list[object]] = {key: [] for key in plan.grid}
    for point in plan.points.values():
        new = {key: value for key, value in point.values.items() if value not in tried[key]}
        if not new and plan.grid:
            continue
        try:
            rehearsed(config.build(point.raw))
        except IbtraceError as error:
            at = f"{point.name}: " if point.name else ""
            raise ConfigError(f"{at}{error}") from error
        for key, value in new.items():
            tried[key].append(value)


@contextmanager
def _bar(folder: Path, asked: Sequence[Job], progress: bool) -> Iterator[None]:
    """A progress bar over all jobs, wherever they run: it goes by what they write down."""
    over = threading.Event()
    with tqdm(total=len(asked), desc="sweep", unit=" jobs", disable=not progress) as bar:

        def look() -> None:
            bar.update(len(asked) - len(_left(folder, asked)) - bar.n)

        def watch() -> None:
            while not over.wait(_PAUSE):
                look()

        watching = threading.Thread(target=watch, daemon=True)
        if progress:
            watching.start()
        try:
            yield
        finally:
            over.set()
            if progress:
                watching.join()
                look()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""What stands in the folder of a sweep, and how far each of its jobs is. Without torch.

``sweep.yaml`` is what was asked for; ``jobs/NAME/`` is the run of one job, with a trace, a
checkpoint and ``job.json``, which says how it ended; ``trace.sqlite`` is all of them merged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import yaml

from ibtrace.errors import RunError
from ibtrace.runtime.files import FILE_NAME, is_free, written_whole
from ibtrace.runtime.text import shorten
from ibtrace.training import configs, folders
from ibtrace.training.grid import Job, Plan

SWEEP = "sweep.yaml"
JOBS = "jobs"
_STATE = "job.json"

Progress = Literal["waiting", "begun", "done", "failed"]


@dataclass(frozen=True)
class State:
    """How far a job is.

    Args:
        progress: ``begun`` is one that a process is at, or that was interrupted.
        error: What a failed one failed by, in one line.
        call: Which call of the sweep began it last.
        deaths: How many times a process of that call died at it.
    """

    progress: Progress
    error: str = ""
    call: str = ""
    deaths: int = 0


def state(folder: Path) -> State:
    """How far the job of a folder is.

    Args:
        folder: Of the job.

    Raises:
        RunError: If what it says of itself cannot be read.
    """
    try:
        return State(**json.loads((folder / _STATE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return State("begun" if (folder / FILE_NAME).exists() else "waiting")
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{folder / _STATE}: unreadable ({error}); delete it") from error


def tell(folder: Path, now: State) -> None:
    """Write down how far the job of a folder is."""
    with written_whole(folder / _STATE) as part:
        part.write_text(json.dumps(asdict(now)) + "\n", encoding="utf-8")


def folder_of(sweep: Path, job: Job) -> Path:
    """The folder of a job.

    Args:
        sweep: The folder of its sweep.
        job: The job.
    """
    return sweep / JOBS / job.name


def is_sweep(folder: str | Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (Path(folder) / SWEEP).is_file()


def stored_plan(folder: str | Path) -> Plan:
    """The sweep of a folder.

    Raises:
        RunError: If the folder is no sweep, or its record is damaged.
    """
    path = Path(folder) / SWEEP
    if not path.is_file():
        raise RunError(f"{folder}: no {SWEEP} there; it is not a sweep")
    record = configs.read(path)
    try:
        grid = {**record["grid"], "seeds": record["seeds"]}
        return Plan.of(record["config"], grid, record["seeds_per_job"])
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: not the record of a sweep, or damaged; restore it") from error


def prepare(folder: Path, plan: Plan) -> None:
    """Claim a folder for a sweep, or check that it holds this one.

    Args:
        folder: The folder.
        plan: The sweep.

    Raises:
        RunError: If it holds another sweep, each key that differs named, or something else.
    """
    require_usable(folder, plan)
    if not is_sweep(folder):
        with written_whole(folder / SWEEP) as part:
            part.write_text(yaml.safe_dump(plan.record, sort_keys=False), encoding="utf-8")


def require_usable(folder: Path, plan: Plan) -> None:
    """Raise unless a folder is free, or holds this sweep.

    Args:
        folder: The folder.
        plan: The sweep.

    Raises:
        RunError: If it holds another sweep, each key that differs named, or something else.
    """
    if is_sweep(folder):
        if differing := folders.differing(stored_plan(folder).record, plan.record):
            raise RunError(
                f"{folder}: holds another sweep: {'; '.join(differing)}; choose another folder "
                "with --out"
            )
        return
    if not is_free(folder):
        raise RunError(f"{folder}: exists already, and is no sweep; choose another with --out")


def listing(folder: Path, plan: Plan, jobs: Sequence[Job]) -> str:
    """The jobs with their numbers and how far each is, and how many there are of each.

    Args:
        folder: Of the sweep; need not exist.
        plan: The sweep.
        jobs: Which of its jobs.
    """
    states = [state(folder_of(folder, job)) for job in jobs]
    width = max(len(job.name) for job in jobs)
    lines = [
        shorten(f"{job.number:>5}  {job.name:{width}}  {_words(each)}")
        for job, each in zip(jobs, states, strict=True)
    ]
    counts = [f"{sum(s.progress == p for s in states)} {p}" for p in _ORDER]
    points = f"{len(plan.points)} points of the grid, {len(plan.seeds)} seeds each"
    return "\n".join([*lines, f"{len(jobs)} jobs ({points}): {', '.join(counts)}"])


_ORDER: tuple[Progress, ...] = ("done", "failed", "begun", "waiting")


def _words(now: State) -> str:
    return f"{now.progress}: {now.error}" if now.error else now.progress

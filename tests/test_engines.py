"""Real engines, a process of which is killed in the middle: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ibtrace.errors import ConfigError, MissingDependency
from ibtrace.training import engines, sweep
from ibtrace.training.engines import Workers
from ibtrace.training.grid import Plan
from ibtrace.types import EXACT_BITS
from tests.test_sweep import HERE, MARK, done, nothing_lost_nothing_doubled, plan


def needs(package: str) -> pytest.MarkDecorator:
    """Skip before the fixtures, which would otherwise look for what the test had not done."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


@pytest.fixture(params=["worker"])
def deadly(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Plan]:
    """A sweep of which one job kills its worker, once, in the middle of its training."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    deadly = {"class_path": "tests.test_sweep.Alone", "init_args": {"dies": request.param}}
    yield plan("model.init_args.activation=tanh,relu", "seeds=3..4", model=deadly)
    pid = int((tmp_path / MARK).read_text())
    assert pid != os.getpid()
    assert not Path(f"/proc/{pid}").exists()


def survives(asked: Plan, folder: Path, workers: Workers) -> None:
    outcome, merged = done(asked, folder, workers=workers)
    assert len(outcome.done) == len(asked.jobs), str(outcome)
    nothing_lost_nothing_doubled(asked, merged)


@pytest.mark.parametrize("deadly", ["itself"], indirect=True)
def test_loky(deadly: Plan, tmp_path: Path) -> None:
    survives(deadly, tmp_path / "sweep", Workers(jobs=2))


@needs("distributed")
def test_a_dask_scheduler_with_two_workers(deadly: Plan, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = {worker.pid for worker in cluster.workers.values()}
        survives(deadly, tmp_path / "sweep", Workers("dask", cluster.scheduler_address))
        assert int((tmp_path / MARK).read_text()) in workers


@needs("ray")
def test_ray_on_this_machine(deadly: Plan, tmp_path: Path) -> None:
    survives(deadly, tmp_path / "sweep", Workers("ray", jobs=2))


def test_a_job_is_not_disturbed_by_what_the_threads_of_its_worker_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's threads draw random numbers: in the worker itself T would be taken for random."""
    monkeypatch.chdir(Path(__file__).parent.parent)
    asked = plan("seeds=0..0")
    (job,), over, turns = asked.jobs, threading.Event(), sys.getswitchinterval()

    def draw() -> None:
        while not over.is_set():
            random.random()

    other = threading.Thread(target=draw)
    other.start()
    sys.setswitchinterval(1e-6)
    try:
        place = (str(tmp_path), os.getcwd(), "a call", 0.0)
        engines.apart(sweep.work, (job, asked.points[""], *place))
    finally:
        sys.setswitchinterval(turns)
        over.set()
        other.join()
    told = sweep.merged(asked, tmp_path)[""].scalars()
    bits = told[told["name"] == EXACT_BITS]["value"]
    assert len(bits) == 2 * 3
    assert bits.notna().all()


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(ChildProcessError, match="the process of a job ended with 7"):
        engines.apart(os._exit, (7,))


class Killing(Workers):
    """An engine that stops all its processes as soon as one dies, as loky and Ray do.

    The first job kills its process whenever it is begun.
    """

    def perform(self, work: Any, tasks: Any) -> None:
        """Begin every job; where the killer is among them none gets further."""
        if not any(job.number == 0 for job, *_ in tasks):
            HERE.perform(work, tasks)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sweep, "train", _dying)
            for task in tasks:
                with suppress(SystemExit):
                    work(*task)
        raise ConnectionError("a worker died")


def _dying(*_: Any, **__: Any) -> None:
    raise SystemExit


def test_a_job_that_kills_its_process_takes_no_other_with_it(tmp_path: Path) -> None:
    outcome, _ = done(plan("seeds=0..2"), tmp_path / "sweep", workers=Killing())
    assert [*outcome.failed] == ["seed0"]
    assert "its process died 3 times" in str(outcome)
    assert [*outcome.done] == ["seed1", "seed2"]


def test_what_an_engine_fails_by_is_told_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: Workers, work: Any, tasks: Any) -> None:
        if tasks[0][0].number < 2:
            work(*tasks[0])
        raise ConnectionError("the scheduler is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Workers, "perform", gone)
        outcome, _ = done(plan("seeds=0..3"), tmp_path / "sweep")
    assert (len(outcome.done), len(outcome.unfinished)) == (2, 2)
    assert "loky: ConnectionError: the scheduler is gone" in str(outcome)
    outcome, _ = done(plan("seeds=0..3"), tmp_path / "sweep")
    assert (outcome.skipped, len(outcome.done)) == (2, 4)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"engine": "spark"}, "--engine must be one of loky, dask, ray, got 'spark'"),
        ({"jobs": 0}, "--jobs must be 1 or more, got 0"),
        ({"address": "here:1"}, "--address goes with --engine dask or ray"),
        ({"engine": "dask", "address": "a:1", "jobs": 2}, "--jobs does not go with Dask's --addr"),
    ],
)
def test_workers_that_cannot_be_are_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Workers(**how)


def test_an_engine_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines._MODULES, "dask", "no_such_module")
    with pytest.raises(MissingDependency, match=r"pip install 'ibtrace\[dask\]'"):
        Workers("dask")

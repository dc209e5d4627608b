"""A sweep: every job once, whatever happens to the processes; points are never counted together."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from torch import Tensor, nn

import ibtrace
from ibtrace import plots
from ibtrace.cli import _parser, main
from ibtrace.errors import ConfigError, InvalidInput, RunError, UnknownName
from ibtrace.plane import GridVerdict
from ibtrace.runtime.files import held
from ibtrace.trace import Sweep, Trace
from ibtrace.training import config, configs, folders, jobs, loop, sweep, trainers
from ibtrace.training.engines import Workers
from ibtrace.training.grid import Plan, parsed

HERE = Workers(jobs=1)  # this process
MARK = "killed.txt"


class Alone(nn.Module):
    """A network that trains by itself; with ``dies`` it kills a process, once in its folder.

    Args:
        activation: tanh, or ReLU.
        dies: Which process it kills: its own, or the worker that started that.
    """

    def __init__(self, activation: str = "tanh", dies: str = "") -> None:
        super().__init__()
        self.body = nn.Linear(12, 4)
        self.act = nn.Tanh() if activation == "tanh" else nn.ReLU()
        self.head = nn.Linear(4, 2)
        self.dies, self.passes = dies, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        if self.dies and self.passes == 6:
            with open(MARK, "a") as mark:
                if mark.tell() == 0:
                    pid = os.getppid() if self.dies == "worker" else os.getpid()
                    mark.write(f"{pid}\n")
                    mark.flush()
                    os.kill(pid, signal.SIGKILL)
        out: Tensor = self.head(self.act(self.body(x)))
        return out


def raw(**changes: Any) -> configs.Raw:
    """The 12-bit task, tiny."""
    return {
        "data": {"class_path": "ibtrace.datasets.tishby"},
        "model": {"class_path": "tests.test_sweep.Alone"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        "epochs": 4,
        "batch_size": 2000,
        "probe": {"part": "test", "samples": 64},
        "every": 2,
        "estimators": ["binning", "exact"],
        **changes,
    }


GRID = ("model.init_args.activation=tanh,relu", "seeds=3..5")


def plan(*texts: str, per_job: int = 1, **changes: Any) -> Plan:
    return Plan.of(raw(**changes), parsed(texts or GRID), per_job)


def done(asked: Plan, folder: Path, **how: Any) -> tuple[sweep.Outcome, Sweep]:
    """A sweep in this process, and what it left."""
    outcome = sweep.run(asked, folder, **{"workers": HERE, "progress": False, **how})
    return outcome, sweep.merged(asked, folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "swept"
    done(plan(), folder)
    return folder


def values(trace: Trace) -> pd.DataFrame:
    key = ["seed", "epoch", "layer", "quantity", "estimator"]
    return trace.frame().drop(columns="seconds").sort_values(key, ignore_index=True)


def nothing_lost_nothing_doubled(asked: Plan, merged: Sweep) -> None:
    """Every point has the numbers that its networks give when one process trains all of them."""
    assert [*merged] == [*asked.points]
    for name, point in asked.points.items():
        alone = loop.train(config.build(point.raw), merged.path.parent / "whole" / name)
        pd.testing.assert_frame_equal(values(merged[name]), values(alone), check_exact=True)
        pd.testing.assert_frame_equal(merged[name].scalars(), alone.scalars(), check_exact=True)


def test_a_sweep_has_what_one_run_of_each_point_has(swept: Path) -> None:
    nothing_lost_nothing_doubled(plan(), Sweep.load(swept))


@pytest.mark.parametrize("per_job", [2, 3])
def test_jobs_of_several_seeds_give_the_same(per_job: int, tmp_path: Path) -> None:
    asked = plan("seeds=3..5", per_job=per_job)
    outcome, merged = done(asked, tmp_path / "sweep")
    assert len(outcome.done) == len(asked.jobs) == -(-3 // per_job)
    nothing_lost_nothing_doubled(asked, merged)


def test_the_values_of_the_grid_are_columns(swept: Path) -> None:
    merged, key = Sweep.load(swept), "model.init_args.activation"
    for table in ("frame", "readings", "scalars"):
        whole = getattr(merged, table)()
        assert whole.columns[0] == key
        for name, trace in merged.items():
            own = whole[whole[key] == merged.points[name][key]].drop(columns=key)
            pd.testing.assert_frame_equal(own.reset_index(drop=True), getattr(trace, table)())
    assert merged.grid == {key: ["tanh", "relu"]}


def test_networks_of_two_points_are_never_seeds_of_one(swept: Path) -> None:
    merged = Sweep.load(swept)
    judged = merged.verdict()
    for name, trace in merged.items():
        assert trace.seeds == trace.meta["seeds"] == [3, 4, 5]
        assert str(judged[name]) == str(trace.verdict())
    table = judged.table()
    assert set(table["seeds_run"]) == {3}
    assert table.groupby("model.init_args.activation").size().nunique() == 1
    with pytest.raises(RunError, match="a sweep of 2 points, whose networks are no seeds of one"):
        Trace.load(swept)


def test_the_answers_of_every_point_stand_in_a_table(swept: Path) -> None:
    merged = Sweep.load(swept)
    judged = merged.verdict()
    answers = judged.answers("resolution")
    assert [*answers.index] == [*merged]
    for name, verdict in judged.items():
        for layer in verdict:
            (answer,) = (each for each in layer if each.question == "resolution")
            assert answers.loc[name, layer.layer] == answer.call
    lines = str(judged).splitlines()
    assert all(sum(line.startswith(name) for line in lines) == 2 for name in merged)


def test_a_second_call_trains_nothing(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "train", None)
    before = values(Sweep.load(swept)["activation=relu"])
    outcome, merged = done(plan(), swept)
    assert outcome.skipped == len(outcome.done) == 6
    pd.testing.assert_frame_equal(values(merged["activation=relu"]), before)


def test_an_interrupted_sweep_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    epoch, epochs = trainers._Alone.epoch, 0

    def stopping(self: Any) -> Iterator[int]:
        nonlocal epochs
        epochs += 1
        if epochs == 11:
            raise KeyboardInterrupt
        yield from epoch(self)

    monkeypatch.setattr(trainers._Alone, "epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        done(plan(), tmp_path / "sweep")
    monkeypatch.setattr(trainers._Alone, "epoch", epoch)
    places = [jobs.folder_of(tmp_path / "sweep", job) for job in plan().jobs]
    how = [jobs.state(folder).progress for folder in places]
    assert how == ["done", "done", "begun", "waiting", "waiting", "waiting"]
    part = sweep.merged(plan(), tmp_path / "sweep")
    assert part.unfinished == [job.name for job in plan().jobs[2:]]
    assert [*part] == ["activation=tanh"]
    assert part["activation=tanh"].seeds == [3, 4]
    with pytest.raises(UnknownName, match="no trace of a point 'activation=relu'"):
        part["activation=relu"]
    outcome, merged = done(plan(), tmp_path / "sweep")
    assert (outcome.skipped, len(outcome.done)) == (2, 6), str(outcome)
    nothing_lost_nothing_doubled(plan(), merged)


def test_a_job_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    relu = {"class_path": "tests.test_sweep.Alone", "init_args": {"activation": "relu"}}
    asked = plan("optimizer.init_args.lr=0.1,1e38", "seeds=0..1", model=relu)
    outcome, merged = done(asked, tmp_path / "sweep")
    assert len(outcome.done) == 2
    assert [*outcome.failed] == ["lr=1e+38,seed0", "lr=1e+38,seed1"]
    assert all("NaN or infinite" in why for why in outcome.failed.values()), str(outcome)
    assert merged.failed == outcome.failed
    assert "failed: lr=1e+38,seed0: " in str(outcome)
    # what it had traced until then is there, as in any run
    assert merged["lr=1e+38"].frame()["epoch"].max() < merged["lr=0.1"].frame()["epoch"].max()
    again, _ = done(asked, tmp_path / "sweep")
    assert again.skipped == 4
    retried, _ = done(asked, tmp_path / "sweep", retry=True)
    assert (retried.skipped, len(retried.failed)) == (2, 2)


def test_code_of_the_user_that_fails_is_told_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan("seeds=0..0")

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of mine")

    monkeypatch.setattr(sweep, "train", broken)
    outcome, merged = done(asked, tmp_path / "sweep")
    (why,) = outcome.failed.values()
    assert why.startswith("ZeroDivisionError: of mine (test_sweep.py:")
    assert len(merged) == 0
    assert merged.frame().empty


def test_a_job_that_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    asked = plan("seeds=0..0")
    (job,) = asked.jobs
    folder = jobs.folder_of(tmp_path, job)
    with held(folder / folders.LOCK):
        sweep.work(job, asked.points[""], str(tmp_path), str(tmp_path), "a call", 0.0)
    assert jobs.state(folder).progress == "waiting"
    sweep.work(job, asked.points[""], str(tmp_path), os.getcwd(), "a call", 0.0)
    assert jobs.state(folder).progress == "done"


def test_a_job_that_kills_its_processes_is_given_up(tmp_path: Path) -> None:
    asked = plan("seeds=0..0")
    (job,) = asked.jobs
    folder = jobs.folder_of(tmp_path, job)
    for call, deaths, then in (("old", 9, "done"), ("now", 2, "failed")):
        jobs.tell(folder, jobs.State("begun", call=call, deaths=deaths))
        sweep.work(job, asked.points[""], str(tmp_path), os.getcwd(), "now", 0.0)
        assert jobs.state(folder).progress == then
    assert "its process died 3 times" in jobs.state(folder).error


def test_values_are_tried_before_anything_is_written(tmp_path: Path) -> None:
    bad = plan("optimizer.init_args.lr=0.1,fast", "seeds=0..1")
    with pytest.raises(ConfigError, match=r"lr=fast: configuration: .*Expected a <class 'float'>"):
        done(bad, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_jobs_of_one_point_on_different_probes_are_not_merged(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "sweep")
    first, second = (jobs.folder_of(tmp_path / "sweep", job) for job in plan().jobs[:2])
    Trace.load(second).update_meta({"probe_digest": "another"})
    with pytest.raises(RunError, match=f"{second.name}: another probe digest than in other jobs"):
        sweep.merged(plan(), tmp_path / "sweep")
    shutil.rmtree(second)
    shutil.copytree(first, second)
    with pytest.raises(RunError, match="UNIQUE constraint failed"):  # a seed twice
        sweep.merged(plan(), tmp_path / "sweep")
    assert len(Sweep.load(tmp_path / "sweep")["activation=tanh"].seeds) == 3  # the one before


def test_a_point_is_only_read_and_can_be_copied(swept: Path, tmp_path: Path) -> None:
    trace = Sweep.load(swept)["activation=tanh"]
    with pytest.raises(RunError, match="a point of a sweep is only read"):
        trace.update_meta({"n": 1})
    copy = trace.save(tmp_path / "copy")
    pd.testing.assert_frame_equal(Trace.load(tmp_path / "copy").frame(), trace.frame())
    copy.update_meta({"n": 1})


def test_activations_of_a_point_are_those_of_its_jobs(tmp_path: Path) -> None:
    asked = plan("seeds=3..4", store_activations=True)
    _, merged = done(asked, tmp_path / "sweep")
    trace = merged[""]
    assert trace.activation_epochs() == [0, 2, 4]
    assert trace.probe().n == 64
    for job in asked.jobs:
        own = Trace.load(jobs.folder_of(tmp_path / "sweep", job))
        (seed,) = job.seeds
        there, here = own.activations(4), trace.activations(4, seed)
        assert all(there[layer].equal(here[layer]) for layer in there)


# --- the command ----------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The arguments of a small sweep."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(raw()))
    return ["sweep", str(path), "--grid", *GRID, "--out", str(tmp_path / "out"), "--quiet"]


def test_a_dry_run_lists_the_jobs_and_makes_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[4].split() == ["4", "activation=relu,seed4", "waiting"]
    counts = "0 done, 0 failed, 0 begun, 6 waiting"
    assert said[6:] == [f"6 jobs (2 points of the grid, 3 seeds each): {counts}"]
    assert not (tmp_path / "out").exists()


def test_the_tasks_of_a_slurm_array_do_their_jobs_and_a_call_merges(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for task in ("0", "1"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert main([*command, "--jobs=1", "--tasks=2"]) == 0
        assert "3 jobs: 3 done" in capsys.readouterr().out
        assert not (tmp_path / "out" / "trace.sqlite").exists()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert main([*command, "--tasks=2"]) == 2
    assert "task 2 of the Slurm array has no job" in capsys.readouterr().err
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert main(["sweep", str(tmp_path / "out"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "6 jobs: 6 done, 0 failed (6 of them before)" in said
    assert "2 of 2 points" in said
    nothing_lost_nothing_doubled(plan(), Sweep.load(tmp_path / "out"))


def test_verdict_plot_and_report_read_a_sweep(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verdict", str(swept), "--estimator", "Exact"]) == 0
    said = capsys.readouterr().out
    assert said.index("point ") < said.index("activation=tanh\n===") < said.index("=relu\n===")
    assert main(["plot", str(swept), "--estimator", "Exact", "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"falls-exact.png", "curves-activation=relu-exact.png"} <= names
    page = ibtrace.Sweep.load(swept).report(tmp_path / "page.html").read_text()
    assert all(name in page for name in Sweep.load(swept))


def test_every_fall_of_a_grid_is_drawn_in_the_panel_of_its_point(swept: Path) -> None:
    judged = Sweep.load(swept).verdict()
    lr = {"activation=tanh": 0.1, "activation=relu": 0.01}
    two = GridVerdict(judged.verdicts, {n: {"lr": lr[n], **judged.grid[n]} for n in judged})
    for grid, titles in ((judged, [""]), (two, ["lr=0.1", "lr=0.01"])):
        panels = plots.falls(grid, "Exact").axes
        assert [axes.get_title("left") for axes in panels] == titles
        assert [tick.get_text() for tick in panels[0].get_xticklabels()] == ["tanh", "relu"]
        lines = [np.asarray(line.get_xydata()) for axes in panels for line in axes.lines]
        drawn = sorted((round(x), y) for x, y in (p[0].tolist() for p in lines if len(p) == 1))
        assert drawn == sorted(
            (place, finding.evidence.held_out.mean)
            for place, name in enumerate(judged)
            for finding in judged.by("Exact")[name]
        )
    with pytest.raises(InvalidInput, match="no point of the grid was judged by KSG"):
        plots.falls(judged, "KSG")


def test_a_row_of_planes_has_all_values_of_one_key(swept: Path) -> None:
    merged = Sweep.load(swept)
    assert merged.columns is None  # of one key
    merged.grid = {"lr": [1, 2, 3], "width": [4, 5]}
    assert merged.columns == 2
    figure = plots.information_planes(
        {str(n): merged["activation=tanh"] for n in range(6)}, columns=2
    )
    left = [axes.get_position().x0 for axes in figure.axes[:6]]
    assert left[0] == left[2] == left[4] < left[1] == left[3] == left[5]


def blocks(language: str) -> list[str]:
    page = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text()
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [text for kind, text in fenced if kind == language]


def test_the_commands_of_the_page_are_commands() -> None:
    shell = "\n".join([*blocks(""), *blocks("bash")])
    told = re.findall(r"^ibtrace (sweep [^#\n]*)", shell, re.MULTILINE)
    assert len(told) == 4
    for command in told:
        options = _parser().parse_args(shlex.split(command.replace("--grid …", "--grid epochs=1")))
        assert len(Plan.of(configs.read(options.config), parsed(options.grid)).jobs) in (20, 200)
    assert "--array=0-199" in shell


def test_the_python_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = plan("model.init_args.activation=tanh", "optimizer.init_args.lr=1e-3", "seeds=0..0")
    done(asked, tmp_path / "runs" / "tishby-sweep")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("python")
    exec(compile(block, "sweeps.md", "exec"), {"ibtrace": ibtrace})
    assert "activation=tanh, lr=0.001" in capsys.readouterr().out
    assert Path("runs/tishby-sweep/report.html").is_file()

"""A killed run, resumed, ends with the same trace, value for value, as an uninterrupted one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ibtrace.errors import ConfigError, NonFinite, RunError
from ibtrace.trace import Trace
from ibtrace.training import config, configs, loop, runner, trainers

KEY = ["seed", "epoch", "layer", "quantity", "estimator"]


class Dropping(nn.Module):
    """A network that cannot train with others: batch statistics and dropout."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, width), nn.BatchNorm1d(width), nn.Tanh())
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.body(x)))
        return out


def raw(**changes: Any) -> configs.Raw:
    """The 12-bit task, small; ``model="alone"`` trains one seed after the other."""
    (base,) = list(configs.variants(configs.read("tishby")).values())[:1]
    small = {
        **base,
        "epochs": 8,
        "seeds": 2,
        "snapshots": 6,
        "probe": {"samples": 256},
        "estimators": ["binning.idnns", "exact"],
    }
    if changes.pop("model", "together") == "alone":
        small |= {"model": {"class_path": "tests.test_train.Dropping"}, "loss": "cross_entropy"}
    return {**small, **changes}


def values(trace: Trace) -> pd.DataFrame:
    """Everything in a trace but the time that it took."""
    return trace.frame().drop(columns="seconds").sort_values(KEY, ignore_index=True)


def same(one: Trace, other: Trace) -> None:
    pd.testing.assert_frame_equal(values(one), values(other), check_exact=True)
    pd.testing.assert_frame_equal(one.scalars(), other.scalars(), check_exact=True)


@pytest.mark.parametrize("model", ["together", "alone"])
@pytest.mark.parametrize("stop_at", [1, 3, 7])
@pytest.mark.parametrize("every", [None, "Steps(3)"])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    model: str, stop_at: int, every: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {} if every is None else {"snapshots": None, "every": every}
    changes["scheduler"] = scheduler("CosineAnnealingLR", T_max=8)
    experiment = config.build(raw(model=model, shuffle=True, batch_size=1000, **changes))
    whole = loop.train(experiment, tmp_path / "whole")
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    kind = trainers._Together if model == "together" else trainers._Alone
    steps = 0
    epoch = kind.epoch

    def stopping(self: Any) -> Iterator[int]:
        nonlocal steps
        steps += 1
        for step in epoch(self):
            if steps == stop_at + 1 and step == 4:  # of 4, so after a look within the epoch
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as patched:
        patched.setattr(kind, "epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            loop.train(experiment, tmp_path / "part")
    assert len(Trace.load(tmp_path / "part").frame()) < len(whole.frame())
    same(loop.train(experiment, tmp_path / "part", resume=True), whole)


def scheduler(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": arguments}


def plainly(model: nn.Module, x: Tensor) -> Tensor:
    """Calls a network; one that a configuration calls by a function trains alone."""
    out: Tensor = model(x)
    return out


@pytest.mark.parametrize(
    "how", [{"lenses": ["stability"]}, {"forward": "tests.test_train.plainly"}], ids=str
)
def test_the_learning_rate_follows_its_schedule(how: dict[str, Any], tmp_path: Path) -> None:
    """At a rate of 0 from the fourth epoch on nothing moves any more; before, nothing differs."""
    common = {"snapshots": list(range(9)), **how}
    steady = loop.train(config.build(raw(**common)), tmp_path / "steady")
    stops = scheduler("StepLR", step_size=3, gamma=0.0)
    stopping = loop.train(config.build(raw(**common, scheduler=stops)), tmp_path / "stopping")
    first = [
        trace.readings().query("epoch <= 3 and unit != 's'").drop(columns="seconds")
        for trace in (steady, stopping)
    ]
    pd.testing.assert_frame_equal(first[0], first[1], check_exact=True)
    moves = [
        trace.readings().query("epoch >= 3").groupby(["seed", "layer", "quantity", "instrument"])
        for trace in (steady, stopping)
    ]
    assert (moves[1]["value"].nunique(dropna=False) == 1).all()
    assert (moves[0]["value"].nunique(dropna=False) > 1).any()


def test_a_schedule_by_losses_is_refused(tmp_path: Path) -> None:
    experiment = config.build(raw(scheduler=scheduler("ReduceLROnPlateau")))
    with pytest.raises(ConfigError, match="share one rate; take one of epochs"):
        loop.train(experiment, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("variants", [None, {"a": {}, "b": {"seeds": 1}}], ids=["one", "two"])
def test_a_killed_run_can_be_resumed(variants: dict[str, Any] | None, tmp_path: Path) -> None:
    small = raw(
        epochs=60, snapshots=list(range(61)), **({"variants": variants} if variants else {})
    )
    whole = runner.run(small, tmp_path / "whole", progress=False)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    part = tmp_path / "part"
    process = subprocess.Popen([sys.executable, str(script), str(small), str(part)])
    deadline = time.monotonic() + 120
    while not list(part.glob(f"**/{loop.CHECKPOINT}")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    wait_until_quiet(part)
    resumed = runner.run(small, part, resume=True, progress=False)
    assert list(resumed) == list(whole)
    for name, trace in whole.items():
        same(resumed[name], trace)


SCRIPT = """
import sys, yaml
from ibtrace.training import loop, runner
loop._CHECKPOINT_SECONDS = 0.0
if __name__ == "__main__":
    runner.run(yaml.safe_load(sys.argv[1]), sys.argv[2], progress=False)
"""


def wait_until_quiet(folder: Path) -> None:
    """Return when no process has written to a run for a second: killed parents end their own."""
    before: list[float] = []
    for _ in range(60):
        now = [path.stat().st_mtime for path in sorted(folder.glob("**/*")) if path.exists()]
        if now == before:
            return
        before = now
        time.sleep(1)
    raise AssertionError("a process still writes to the run of its killed parent")


def test_a_run_is_the_same_whoever_else_trains_beside_it(tmp_path: Path) -> None:
    both = loop.train(config.build(raw(seeds=[3, 5])), tmp_path / "both")
    alone = loop.train(config.build(raw(seeds=[5])), tmp_path / "alone")
    frame = values(both)
    frame = frame[frame["seed"] == 5].reset_index(drop=True)
    assert (frame["bits"] - values(alone)["bits"]).abs().max() < 0.05


def test_networks_that_are_no_chain_train_together_where_asked(tmp_path: Path) -> None:
    model = {
        "class_path": "ibtrace.papers.lorenzen.Network",
        "init_args": {"widths": [12, 6, 4, 2]},
    }
    small = raw(loss="cross_entropy", layers=None, **{"model": "together"})
    small |= {"model": model, "estimators": ["exact"]}
    losses = []
    for together in (False, True):
        trace = loop.train(config.build({**small, "together": together}), tmp_path / str(together))
        scalars = trace.scalars().query("name == 'train_loss'").sort_values(["seed", "epoch"])
        losses.append(torch.tensor(scalars["value"].to_numpy()))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-4)
    assert losses[0].unique().numel() > 8


def test_variants_run_side_by_side_in_processes(tmp_path: Path) -> None:
    small = raw(variants={"a": {}, "b": {"model.init_args.activation": "relu"}})
    traces = runner.run(small, tmp_path / "run", progress=False)
    assert list(traces) == ["a", "b"]
    assert traces["a"].frame()["bits"].tolist() != traces["b"].frame()["bits"].tolist()
    same(traces["a"], runner.run(raw(), tmp_path / "one", progress=False)[""])
    assert traces["a"].meta["config"] == raw()
    assert traces["a"].meta["seeds"] == [0, 1]
    assert list(runner.load(tmp_path / "run")) == ["a", "b"]


def test_losses_and_accuracies_are_kept_with_each_snapshot(tmp_path: Path) -> None:
    trace = loop.train(config.build(raw(epochs=40)), tmp_path / "run")
    scalars = trace.scalars().query("layer == ''")
    units = dict(zip(scalars["name"], scalars["unit"], strict=True))
    nats, ones = ["train_loss", "test_loss"], ["train_accuracy", "test_accuracy"]
    assert units == {**dict.fromkeys(nats, "nats"), **dict.fromkeys(ones, "1")}
    assert sorted(scalars["epoch"].unique()) == sorted(trace.frame()["epoch"].unique())
    losses = scalars[scalars["name"] == "train_loss"].groupby("epoch")["value"].mean()
    assert losses.iloc[-1] < losses.iloc[0]


def test_a_diverging_network_is_named_and_its_trace_kept(tmp_path: Path) -> None:
    wild = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1e38}}
    experiment = config.build(raw(model="alone", optimizer=wild, seeds=1))
    with pytest.raises(NonFinite, match=r"epoch \d+: layer '.*'"):
        loop.train(experiment, tmp_path / "run")
    assert 0 in Trace.load(tmp_path / "run").frame()["epoch"].tolist()


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        runner.run(raw(), tmp_path, progress=False)
    with pytest.raises(RunError, match=r"no config\.yaml"):
        runner.run(raw(), tmp_path, resume=True, progress=False)


def test_another_configuration_does_not_resume_a_run(tmp_path: Path) -> None:
    runner.run(raw(), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="epochs was 8, not 9; leave that option out"):
        runner.run(raw(epochs=9), tmp_path / "run", resume=True, progress=False)


def test_an_unreadable_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    runner.run(raw(), tmp_path / "run", progress=False)
    (tmp_path / "run" / loop.CHECKPOINT).write_bytes(b"torn")
    with pytest.raises(RunError, match="unreadable checkpoint; delete it"):
        runner.run(raw(), tmp_path / "run", resume=True, progress=False)


def test_information_may_be_measured_on_a_part_of_the_data(tmp_path: Path) -> None:
    chosen = {"part": "test", "samples": None}
    trace = loop.train(config.build(raw(probe=chosen, seeds=1)), tmp_path / "run")
    assert trace.meta["n"] == 819
    torch.testing.assert_close(trace.meta["input_entropy"], torch.log2(torch.tensor(819.0)).item())


def test_rows_carry_the_steps_that_the_epochs_took(tmp_path: Path) -> None:
    experiment = config.build(raw(epochs=2, seeds=1, batch_size=1000, snapshots=[1, 2]))
    frame = loop.train(experiment, tmp_path / "run").frame()
    batches = -(-round(4096 * experiment.training.split.fraction) // 1000)
    assert frame.groupby("epoch").step.max().dropna().to_dict() == {1: batches, 2: 2 * batches}

"""A seed of a run has one history: what a training measured that was given up is gone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ibtrace.capture import Look
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError, LensFailed, NonFinite, RunError
from ibtrace.estimators import Binning
from ibtrace.lenses import Saturation
from ibtrace.runtime.schedule import Steps
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import ProbeLike, Reading, View

X = torch.randn(48, 5, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))


def shifted(model: nn.Sequential, by: float) -> None:
    """An epoch of a training, which differs from that of another by its step."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by)


def told(tracer: Tracer, at: int, **numbers: Any) -> None:
    """One call for each epoch; of a trace that counts steps, each step."""
    tracer.snapshot(at, step=at if tracer.clock == "step" else None, **numbers)


def train(tracer: Tracer, model: nn.Sequential, first: int, last: int, by: float) -> None:
    for at in range(first, last + 1):
        shifted(model, by)
        told(tracer, at, loss=by)


INSTRUMENTS: list[dict[str, Any]] = [
    {"estimators": "binning"},
    {"estimators": [], "lenses": "saturation"},
    {"estimators": ["exact", Binning(bins=4, range="trace")], "lenses": "saturation"},
]


def values(trace: Trace, seed: int) -> dict[tuple[Any, ...], float]:
    frame = trace.readings()
    frame = frame[frame["seed"] == seed]
    key = zip(*(frame[name] for name in ("epoch", "layer", "quantity", "instrument")), strict=True)
    return dict(zip(key, frame["value"], strict=True))


@pytest.mark.parametrize("clock", ["epoch", "step"])
@pytest.mark.parametrize("instruments", INSTRUMENTS, ids=["information", "lenses", "both"])
def test_a_training_that_goes_on_earlier_and_stops_earlier_is_alone_in_its_seed(
    instruments: dict[str, Any], clock: str, tmp_path: Path
) -> None:
    """The rows are those of one training that did the same without ever having been stopped."""
    every: Any = Steps(1) if clock == "step" else 1
    given = {"every": every, **instruments}
    for seed in (0, 1):
        model = net(seed)
        keep = Keep(tmp_path / "run", activations=True)
        with Tracer(model, (X, Y), keep=keep, seed=seed, **given) as tracer:
            train(tracer, model, 1, 7, by=0.1)
    other = values(tracer.trace, 1)
    model, whole = net(0), net(0)
    with Tracer(whole, (X, Y), keep=tmp_path / "whole", **given) as alone:
        train(alone, whole, 1, 2, by=0.1)
        model.load_state_dict(whole.state_dict())
        train(alone, whole, 3, 4, by=-0.3)
    keep = Keep(tmp_path / "run", activations=True, resume=True)
    with Tracer(model, (X, Y), keep=keep, **given) as again:
        train(again, model, 3, 4, by=-0.3)
    trace = Trace.load(tmp_path / "run")
    assert trace.places() == {0: [0, 1, 2, 3, 4], 1: [*range(8)]}
    assert trace.activation_epochs(0) == [0, 1, 2, 3, 4]
    assert values(trace, 0) == pytest.approx(values(alone.trace, 0), nan_ok=True)
    assert values(trace, 1) == pytest.approx(other, nan_ok=True)


def run_of(tmp_path: Path, last: int = 7, **given: Any) -> None:
    """A run of seed 0 that was stopped."""
    arguments = {"estimators": "binning", "every": 1, "keep": tmp_path, **given}
    model = net()
    with Tracer(model, (X, Y), **arguments) as tracer:
        train(tracer, model, 1, last, by=0.1)


def resumed(tmp_path: Path, model: Any = None, **given: Any) -> Tracer:
    keep = Keep(tmp_path, resume=True)
    arguments = {"estimators": "binning", "every": 1, "keep": keep, **given}
    return Tracer(net() if model is None else model, (X, Y), **arguments)


def test_it_begins_with_its_first_call_due_or_not(tmp_path: Path) -> None:
    run_of(tmp_path)
    again = resumed(tmp_path, every=[5])
    assert again.trace.places()[0] == [*range(8)]  # nothing is cut before anything is known
    again.snapshot(3)
    assert again.trace.places()[0] == [0, 1, 2]
    assert again.trace.scalars().query("name == 'loss'")["epoch"].max() == 2
    again.snapshot(5)
    assert again.trace.places()[0] == [0, 1, 2, 5]


@pytest.mark.parametrize(("at", "kept"), [(0, [0]), (1, [0]), (4, [0, 1, 2, 3])])
def test_or_with_the_numbers_that_are_logged_first(
    at: int, kept: list[int], tmp_path: Path
) -> None:
    """Numbers of epoch 0 are of the network before training, whose look is there."""
    run_of(tmp_path)
    again = resumed(tmp_path)
    again.log(at, loss=0.5)
    assert again.trace.places()[0] == kept
    logged = again.trace.scalars().query(f"name == 'loss' and epoch == {at}")["value"]
    assert logged.tolist() == [0.5]


def test_what_is_dropped_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_of(tmp_path)
    with caplog.at_level(logging.WARNING, "ibtrace"):
        resumed(tmp_path).snapshot(6)
    (message,) = (record.getMessage() for record in caplog.records)
    assert "seed 0 goes on after epoch 5; looks of an earlier training at 6, 7 are" in message


def test_the_checkpointed_tracer_knows_where_it_was(tmp_path: Path) -> None:
    """A loop that calls at its own looks alone may call first behind those of the other."""
    model = net()
    with Tracer(model, (X, Y), estimators="binning", every=1, keep=tmp_path) as tracer:
        train(tracer, model, 1, 2, by=0.1)
        state = tracer.state_dict()
        train(tracer, model, 3, 7, by=0.1)
    again = resumed(tmp_path)
    again.load_state_dict(state)
    assert again.trace.places()[0] == [0, 1, 2]
    again.snapshot(9)
    assert again.trace.places()[0] == [0, 1, 2, 9]


def test_who_tells_few_epochs_says_where_it_goes_on(tmp_path: Path) -> None:
    run_of(tmp_path)
    again = resumed(tmp_path)
    again.resume_from(4)
    again.snapshot(9)
    assert again.trace.places()[0] == [0, 1, 2, 3, 4, 9]
    with pytest.raises(ConfigError, match=r"epoch 6 lies before epoch 9.*Keep\(resume=True\)"):
        again.resume_from(6)
    with pytest.raises(ConfigError, match="resume_from: epochs done"):
        again.resume_from(1.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="epoch -1 lies before epoch 0"):
        resumed(tmp_path).resume_from(-1)


def test_a_look_that_is_refused_leaves_what_there_was(tmp_path: Path) -> None:
    run_of(tmp_path)
    model = net()
    again = resumed(tmp_path, model)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(NonFinite, match="epoch 3"):
        again.snapshot(3)
    assert again.trace.places()[0] == [*range(8)]
    model.load_state_dict(net().state_dict())
    again.snapshot(4)  # goes on from its first call all the same
    assert again.trace.places()[0] == [0, 1, 2, 4]


def test_several_networks_go_on_together(tmp_path: Path) -> None:
    def ensemble(seeds: list[int]) -> Ensemble:
        return Ensemble(lambda seed: nn.Sequential(nn.Linear(5, 3), nn.Tanh()), seeds=seeds)

    for seeds in ([0, 1], [2, 3]):
        with Tracer(
            ensemble(seeds), (X, Y), estimators="binning", every=1, keep=tmp_path
        ) as tracer:
            for epoch in range(1, 5):
                tracer.snapshot(epoch)
    again = resumed(tmp_path, ensemble([0, 1]))
    again.snapshot(2)
    whole = [0, 1, 2, 3, 4]
    assert again.trace.places() == {0: [0, 1, 2], 1: [0, 1, 2], 2: whole, 3: whole}
    with pytest.raises(RunError, match=r"holds seed 1, and not 7: networks .* resumed together"):
        resumed(tmp_path, ensemble([1, 7]))


def test_a_trained_network_is_not_measured_as_epoch_0(tmp_path: Path) -> None:
    run_of(tmp_path, look=Look(initial=False))
    with pytest.raises(RunError, match=r"seed 0 from epoch 1 on.*look=Look\(initial=False\)"):
        resumed(tmp_path)
    again = resumed(tmp_path, look=Look(initial=False))
    again.snapshot(2)
    assert again.trace.places()[0] == [1, 2]


def test_what_was_only_stored_before_the_stop_counts_as_seen(tmp_path: Path) -> None:
    """Estimators that need the whole trace leave no row before the end, but activations."""
    given: dict[str, Any] = {"estimators": Binning(bins=4, range="trace"), "every": 1}
    model = net()
    stopped = Tracer(model, (X, Y), keep=tmp_path, **given)
    stopped.snapshot(1)
    assert stopped.trace.frame().empty
    initial = stopped.trace.activations(0)["1"]
    shifted(model, 0.5)
    with pytest.raises(RunError, match="already holds seed 0"):
        Tracer(model, (X, Y), keep=tmp_path, **given)
    with resumed(tmp_path, model, **given) as again:
        again.snapshot(2)
    assert again.trace.activations(0)["1"].equal(initial)
    assert sorted(again.trace.frame()["epoch"].unique()) == [0, 1, 2]


def test_what_needs_the_whole_trace_is_measured_anew_where_it_was_the_last(tmp_path: Path) -> None:
    """Epoch 3 is not due; it was measured as the last, on the extremes of half a trace."""
    pooled = Binning(bins=6, range="trace")

    def traced(folder: str, stops: list[int], every: list[int]) -> dict[tuple[Any, ...], float]:
        model, first = net(), 1
        for last in stops:
            keep = Keep(tmp_path / folder, resume=first > 1)
            with Tracer(model, (X, Y), estimators=pooled, every=every, keep=keep) as tracer:
                for epoch in range(first, last + 1):
                    shifted(model, 0.4)
                    tracer.snapshot(epoch)
            first = last + 1
        return values(tracer.trace, 0)

    half, parts = traced("half", [3], [1]), traced("parts", [3, 7], [1])
    assert parts == traced("whole", [7], [1, 3])
    assert any(parts[key] != value for key, value in half.items() if key[0] == 3)


def test_a_look_taken_once_more_leaves_nothing_of_the_first() -> None:
    model = net()
    failing = False

    class Fragile(Saturation):
        def __call__(
            self, view: View, probe: ProbeLike, *, seed: int = 0
        ) -> Mapping[str, Mapping[str, Reading]]:
            if failing:
                raise ValueError("too large")
            return super().__call__(view, probe, seed=seed)

    tracer = Tracer(model, (X, Y), estimators="binning", lenses=Fragile(), every=1)
    tracer.snapshot(1)
    assert tracer.trace.readings().query("epoch == 1 and quantity == 'dead share'").size
    shifted(model, 0.5)
    failing = True
    with pytest.warns(LensFailed, match="too large"):
        tracer.snapshot(1, force=True)
    assert tracer.trace.readings().query("epoch == 1 and quantity == 'dead share'").empty
    assert not tracer.trace.frame().query("epoch == 1").empty

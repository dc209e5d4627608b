"""Layers that have not changed are not measured anew, and no change is overlooked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ibtrace import At, Probe, Tracer
from ibtrace.ensemble import Ensemble
from ibtrace.estimators import Binning
from ibtrace.models import MLP
from ibtrace.tracer import _unchanged
from ibtrace.types import Estimate, ProbeLike, Tags

X = torch.randn(128, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


ASKED: list[int] = []


@dataclass(frozen=True)
class Counting:
    """Binning that writes down of how many layers it is asked."""

    @property
    def tags(self) -> Tags:
        return Binning().tags

    @property
    def estimand(self) -> str:
        return Binning().estimand

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        return Binning()(x, y, seed=seed)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        ASKED.append(len(t))
        return Binning().plane(t, probe, seed=seed)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))


def trained(model: nn.Sequential, estimators: list[Any], epochs: int = 6) -> Tracer:
    """One whose first layer is frozen for good, and the second from the fourth epoch on."""
    with Tracer(model, (X, Y), estimators=estimators, every=1, look=["1", "3"]) as tracer:
        for epoch in range(1, epochs + 1):
            if epoch < 4:
                middle = model[2]
                assert isinstance(middle, nn.Linear)
                middle.weight.data += 0.1
            tracer.snapshot(epoch)
    return tracer


def test_what_is_frozen_is_measured_twice_and_has_rows_at_every_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ASKED.clear()
    table = trained(network(), [Counting(), At("exact", [1, 5])]).trace.frame()
    #                       0  1  2  3  4  5  6: of both layers, until the second stands too
    assert [*ASKED] == [2, 2, 1, 1, 1]
    ASKED.clear()
    monkeypatch.setattr(_unchanged, "_glance", lambda values: object())  # never the same
    whole = trained(network(), [Counting(), At("exact", [1, 5])]).trace.frame()
    assert [*ASKED] == [2] * (7 + 1)  # the last look is made again, for exact
    timeless, wholly = table.drop(columns="seconds"), whole.drop(columns="seconds")
    pd.testing.assert_frame_equal(timeless, wholly)
    assert (table["seconds"] == 0).any()
    assert (whole["seconds"] > 0).all()


def test_an_estimator_that_comes_later_measures_what_stands() -> None:
    table = trained(network(), ["binning", At("exact", [5])]).trace.frame()
    exact = table[table["estimator"] == "Exact"]
    assert {*exact["epoch"]} == {0, 5, 6}
    assert exact["bits"].notna().all()


@pytest.mark.parametrize("at", [0, 1, 777, 5119])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_a_change_of_one_value_is_seen(
    at: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn(2, 512, 5).mul(9).to(dtype)
    looks, memory = [values, values.clone(), values.clone()], _unchanged.Unchanged()
    changed = values.clone()
    changed.view(-1)[at] += 1
    asked: list[list[str]] = []

    def measure(activations: dict[str, Tensor], *_: Any, **__: Any) -> list[Any]:
        asked.append([*activations])
        return []

    monkeypatch.setattr(_unchanged, "measure", measure)
    context: Any = {"a": "the same"}
    for epoch, look in enumerate([*looks, changed, changed.clone(), values]):
        estimators: Any = [Binning()]
        memory.measure(
            {"a": look}, context, Probe(X), estimators, seeds=[0], epoch=epoch, step=None
        )
    assert len(asked) == 6  # no row was kept: all are measured
    known = [memory._known("a", look, context["a"]) for look in (values, changed, changed)]
    assert known[1] is not known[0]


def test_layers_whose_meaning_changes_are_measured() -> None:
    memory, values = _unchanged.Unchanged(), torch.rand(1, 64, 3)
    for context in ("gap", "gap", "gap"):
        memory._known("a", values, context)  # type: ignore[arg-type]
    held = memory._known("a", values, "gap")  # type: ignore[arg-type]
    assert memory._known("a", values, "gap") is held  # type: ignore[arg-type]
    assert memory._known("a", values, "flat") is not held  # type: ignore[arg-type]
    assert memory._known("a", values.double(), "flat") is not held  # type: ignore[arg-type]


def test_networks_together_are_measured_as_one_each() -> None:
    ensemble = Ensemble(lambda seed: MLP([4, 3, 2], activation="tanh"), [0, 1])
    with Tracer(ensemble, (X, Y), estimators=["binning", "ksg"], every=1) as tracer:
        for epoch in range(1, 5):
            tracer.snapshot(epoch)
    table = tracer.trace.frame()
    assert len(table) == 5 * 2 * 2 * 2 * len({*table["layer"]})
    assert (table.groupby(["seed", "layer", "estimator", "quantity"])["bits"].nunique() == 1).all()

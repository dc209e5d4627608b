"""Without labels there is I(X;T) alone, and all that is made of it works."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace import estimators
from ibtrace.probe import Probe
from ibtrace.reports import comparing_run
from ibtrace.tracer import Keep, Tracer
from ibtrace.training.comparing_run import compare_run
from ibtrace.types import I_XT

X = torch.rand(60, 1, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 2
SLOW = {"variational": {"steps": 3}}


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.act, self.up = nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.act(self.down(x)))
        return out


def autoencoder() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder()


@pytest.mark.parametrize("name", estimators.names())
def test_information_about_x_is_what_it_is_with_labels(name: str) -> None:
    estimator = estimators.make(name, **SLOW.get(name, {}))
    model = autoencoder()
    given: dict[str, Any] = {
        "look": ["down"] if name != "sklearn" else ["up"],
        "estimators": [estimator],
    }
    alone = Tracer(model, X, **given).trace.frame()
    both = Tracer(model, (X, Y), **given).trace.frame()
    about_x = both[both.quantity == I_XT].reset_index(drop=True)
    assert alone.quantity.tolist() == [I_XT]
    # a diagnostic that only I(T;Y) has is no column here
    alone, about_x = (f.drop(columns="seconds").dropna(axis=1) for f in (alone, about_x))
    assert alone.equals(about_x)


@pytest.mark.parametrize("name", ["exact", "ksg", "npeet"])
def test_a_single_estimate_without_labels_says_that_it_has_none(name: str) -> None:
    t = torch.rand(60, 2)
    about_x, about_y = estimators.information(estimators.make(name), t, Probe(X))
    assert math.isfinite(float(about_x.bits))
    assert math.isnan(float(about_y.bits))
    assert bool(about_y.flags["no_labels"])


def test_a_trace_without_labels_has_verdict_figure_and_comparison(tmp_path: Path) -> None:
    for seed in range(3):
        model = autoencoder()
        with Tracer(
            model,
            X,
            estimators=["binning", "kde"],
            keep=Keep(run=tmp_path / "run", activations=True),
            seed=seed,
            every=1,
        ) as tracer:
            for epoch in range(1, 5):
                tracer.snapshot(epoch, train_loss=1 / epoch)
    trace = tracer.trace
    assert (trace.meta["labels"], trace.meta["class_names"]) == ("none", None)
    assert set(trace.frame().quantity) == {I_XT}
    assert "act" in str(tracer.verdict())
    (axes,) = [a for a in tracer.plot().axes if a.get_ylabel()]
    assert I_XT in axes.get_ylabel()
    kept = trace.probe()
    assert kept.labelled is False
    assert kept.digest == tracer.probe.digest
    found = compare_run(trace, ["binning"], seeds=1, snapshots=1, jobs=1, progress=False)
    assert set(found.trace.frame().quantity) == {I_XT}
    assert "binning" in comparing_run.leave(found, tmp_path / "out").lower()

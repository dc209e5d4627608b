"""Bins over a whole trace: one pooling, of each network's own snapshots, for all who ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ibtrace.ensemble import Ensemble
from ibtrace.estimators import AdaptiveBinning, Binning
from ibtrace.models import MLP
from ibtrace.trace import Trace, pooling
from ibtrace.tracer import Keep, Tracer
from ibtrace.training.comparing_run import compare_run
from ibtrace.types import Estimator

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
KEYS = ["seed", "epoch", "layer", "quantity"]


def trace(folder: Path, estimators: list[Estimator], seeds: tuple[int, ...] = (0, 1)) -> Trace:
    """Networks that grow, each in its own way, so that every snapshot has another range."""
    networks = Ensemble(
        lambda seed: MLP((4, 5, 3), "relu", generator=torch.Generator().manual_seed(seed)),
        seeds=seeds,
    )
    with Tracer(
        networks, (X, Y), estimators=estimators, keep=Keep(run=folder, activations=True), every=1
    ) as tracer:
        for epoch in range(1, 8):
            with torch.no_grad():
                for parameter in networks.parameters():
                    parameter.mul_(1.3)
            tracer.snapshot(epoch)
    return tracer.trace


@pytest.mark.parametrize(
    "estimator", [AdaptiveBinning(bins=8, range="trace"), Binning(bins=8, range="trace")], ids=str
)
def test_compare_gives_the_numbers_of_the_live_trace(estimator: Estimator, tmp_path: Path) -> None:
    live = trace(tmp_path / "run", [estimator]).frame().set_index(KEYS)["bits"]
    source = Trace.load(tmp_path / "run")
    found = compare_run(
        source, estimators=[estimator], seeds=2, snapshots=3, jobs=1, progress=False
    )
    again = found.trace.frame().set_index(KEYS)["bits"]
    assert len(again) == 2 * 3 * 2 * 2
    assert (again - live.loc[again.index]).abs().max() < 1e-12


def test_a_network_among_others_is_pooled_as_it_is_alone(tmp_path: Path) -> None:
    wide: list[Estimator] = [AdaptiveBinning(bins=8, range="trace")]
    both = trace(tmp_path / "both", wide).frame()
    alone = trace(tmp_path / "alone", wide, seeds=(1,)).frame().set_index(KEYS)["bits"]
    together = both[both.seed == 1].set_index(KEYS)["bits"]
    assert (together - alone.loc[together.index]).abs().max() < 1e-9


def test_what_is_not_thinned_is_pooled_as_it_is(tmp_path: Path) -> None:
    # mypy: names are taken as instances are
    source = trace(tmp_path / "run", ["exact"])  # type: ignore[list-item]
    for name, values in pooling.pooled(source, 0).items():
        every = torch.cat([source.activations(epoch, 0)[name] for epoch in range(8)])
        assert torch.equal(values, every)


def test_thinned_rows_keep_both_extremes_of_every_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mypy: names are taken as instances are
    source = trace(tmp_path / "run", ["exact"])  # type: ignore[list-item]
    monkeypatch.setattr(pooling, "_POOLED_ROWS", 16)
    for seed in (0, 1):
        for name, values in pooling.pooled(source, seed).items():
            every = torch.cat([source.activations(epoch, seed)[name] for epoch in range(8)])
            assert len(values) <= 16 + 2 * 8
            assert torch.equal(values.amin(0), every.amin(0))
            assert torch.equal(values.amax(0), every.amax(0))

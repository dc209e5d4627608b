"""Stability: twins trained with one sample replaced, against training them by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ibtrace.capture.networks import Stacked
from ibtrace.capture.recipe import Part, Twins
from ibtrace.errors import LensFailed
from ibtrace.lenses import Stability
from ibtrace.models import MLP
from ibtrace.tracer import Tracer
from ibtrace.training import runner
from tests.reference_networks import PROBE, Kind, after_descent, network, stacked, view_of

REFERENCE = {  # distance; largest and mean difference; gap
    "tanh": (0.004049920143, 0.01713102565, 0.0006502195674, -2.134431e-06),
    "relu": (0.01051411132, 0.02592462119, 0.0033844666, 0.00113239725),
}


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_one_row_replaced_in_200_steps_of_descent(kind: Kind) -> None:
    rows = torch.arange(PROBE.n)
    rows[0] = 1000
    model, twin = after_descent(kind), after_descent(kind, rows=rows)
    twins = Twins(twin, torch.tensor([[0, 1000]]))
    view = view_of(model, data=Part(PROBE), twins=twins)
    start = view_of(network(kind))
    view.remember({"initial": start}.get)
    readings = Stability()(view, PROBE)
    names = (
        "twin distance",
        "largest twin loss difference",
        "mean twin loss difference",
        "replace-one gap",
    )
    values = [readings[name][""].value.item() for name in names]
    assert values[:3] == pytest.approx(REFERENCE[kind][:3], rel=1e-6)
    assert values[3] == pytest.approx(REFERENCE[kind][3], rel=1e-5)
    own, other = (dict(one.named_parameters()) for one in (model, network(kind)))
    travel = sum((own[name] - other[name]).square().sum() for name in own) ** 0.5
    share = readings["twin distance over travel"][""].value.item()
    assert share == pytest.approx(values[0] / travel.item())
    with torch.no_grad():
        calls = [one(PROBE.x).argmax(1) for one in (model, twin)]
    differ = (calls[0] != calls[1]).double().mean().item()
    assert readings["twin disagreement"][""].value.item() == differ


def raw(lenses: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "data": {"class_path": "ibtrace.datasets.tishby"},
        "model": {
            "class_path": "ibtrace.models.MLP",
            "init_args": {"widths": [12, 6, 2], "activation": "tanh", "output": "logits"},
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        "epochs": 2,
        "seeds": [3, 7],
        "batch_size": 512,
        "estimators": ["exact"],
        "every": 1,
        "lenses": lenses,
        **changes,
    }


def test_a_run_trains_the_twins_and_its_own_networks_are_the_same_bit_for_bit(
    tmp_path: Any,
) -> None:
    plain = runner.run(raw([]), tmp_path / "plain")[""]
    trace = runner.run(raw(["stability"]), tmp_path / "twins")[""]
    assert trace.scalars().equals(plain.scalars())
    frame = trace.readings().query("quantity == 'twin distance'").set_index(["seed", "epoch"])
    assert (frame["value"].xs(0, level="epoch") == 0).all()
    assert (frame["value"].xs(2, level="epoch") > 0).all()
    assert not (frame["flags"].xs(2, level="epoch") == "at_floor").any()


def test_the_twin_of_a_run_is_the_one_trained_by_hand() -> None:
    from ibtrace.datasets import tishby
    from ibtrace.training import config
    from ibtrace.training.trainers import _Together

    experiment = config.build(raw(["stability"]))
    training = _Together(experiment, [3, 7])
    twins = training.twins
    assert twins is not None
    batches = [(x.clone(), y.clone()) for x, y in training.batches]
    fresh = _Together(experiment, [3, 7])
    for _ in fresh.epoch():
        pass
    trained = fresh.twins
    assert trained is not None
    for place, seed in enumerate((3, 7)):
        out, into = twins.replaced[place].tolist()
        assert out in training.parts["train"][place]
        assert into in training.parts["test"][place]
        torch.manual_seed(seed)
        model = MLP([12, 6, 2], activation="tanh", output="logits")
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        data = tishby()
        for x, y in batches:
            x, y = x[place].clone(), y[place].clone()
            there = (x == data.x[out]).all(1)
            x[there], y[there] = data.x[into], data.y[into]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        own = trained.networks.named_parameters()
        for name, value in model.named_parameters():
            torch.testing.assert_close(own[name][place], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("times", "flagged"), [(0.5, True), (2.0, True), (4.0, False)])
def test_a_twin_is_told_from_its_control_at_three_times_the_floor(
    times: float, flagged: bool
) -> None:
    model = nn.Linear(12, 2).double()

    def moved(by: float) -> nn.Module:
        other = nn.Linear(12, 2).double()
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.bias[0] += by
        return other

    held = stacked([moved(0.01 * times), moved(0.01)])
    twins = Twins(_Networks(held), torch.tensor([[0, 1000]]), control=True)
    view = view_of(model, data=Part(PROBE), twins=twins)
    view.remember({"initial": view_of(moved(1.0))}.get)
    readings = Stability()(view, PROBE)
    distance = readings["twin distance"][""]
    assert distance.value.item() == pytest.approx(0.01 * times)
    assert distance.diagnostics["floor"].item() == pytest.approx(0.01)
    for name, of in readings.items():
        assert bool(of[""].flags["at_floor"].all()) is flagged, name


class _Networks:
    def __init__(self, networks: Stacked) -> None:
        self._networks = networks

    def named_parameters(self) -> Any:
        return self._networks.parameters

    def named_buffers(self) -> Any:
        return self._networks.buffers


def test_without_twins_it_says_how_to_have_them() -> None:
    model = MLP([12, 3, 2], activation="tanh", output="logits").double()
    with (
        pytest.warns(LensFailed, match=r"no twins were trained.*twins="),
        Tracer(model, PROBE, estimators="exact", lenses="stability", loss="cross_entropy"),
    ):
        pass

"""A trace goes on in time, and a row is of the network that its epoch had."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError
from ibtrace.runtime.schedule import Steps
from ibtrace.tracer import At, Tracer

EVERY = [1, 5]


def mlp(_seed: int = 0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))


def tracer(model: Any, **changes: Any) -> Tracer:
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    arguments = {"estimators": "binning", "every": EVERY, **changes}
    return Tracer(model, (x, (x[:, 0] > 0).long()), **arguments)


def linear(model: nn.Sequential) -> nn.Linear:
    module = model[0]
    assert isinstance(module, nn.Linear)
    return module


def epochs(traced: Tracer) -> list[int]:
    return sorted(traced.trace.frame()["epoch"].unique())


def test_an_epoch_that_was_measured_is_not_replaced_unasked() -> None:
    model = mlp()
    traced = tracer(model)
    traced.snapshot(1, train_loss=0.7)
    before = traced.trace.frame()
    with torch.no_grad():
        linear(model).weight.mul_(9)
    with pytest.raises(ConfigError, match=r"epoch 1 was measured already.*force=True"):
        traced.snapshot(1)
    assert traced.trace.frame().equals(before)
    traced.snapshot(1, force=True)
    assert not traced.trace.frame().equals(before)


@pytest.mark.parametrize("at", [1, 3, 4])
def test_what_lies_before_the_last_is_refused_whether_it_is_due_or_not(at: int) -> None:
    traced = tracer(mlp())
    traced.snapshot(4)
    if at == 4:
        traced.snapshot(at, train_loss=0.7)  # the same once more, not due: only its numbers
        return
    with pytest.raises(ConfigError, match=rf"epoch {at} comes after epoch 4.*tracer of its own"):
        traced.snapshot(at)
    with pytest.raises(ConfigError, match=f"epoch {at} comes after epoch 4"):
        traced.snapshot(at, force=True)


def test_steps_go_on_too() -> None:
    traced = tracer(mlp(), every=Steps(10))
    traced.snapshot(0, step=10)
    with pytest.raises(ConfigError, match="step 10 was measured already"):
        traced.snapshot(1, step=10)
    with pytest.raises(ConfigError, match="step 9 comes after step 10"):
        traced.snapshot(1, step=9)


def load(model: nn.Sequential, best: dict[str, Any]) -> None:
    model.load_state_dict(best)


def swap(model: nn.Sequential, best: dict[str, Any]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = best[name]


def write(model: nn.Sequential, best: dict[str, Any]) -> None:
    for name, parameter in model.named_parameters():
        parameter.data.copy_(best[name])


def pruned(model: nn.Sequential, best: dict[str, Any]) -> None:
    prune.l1_unstructured(model[0], "weight", amount=0.5)


def half(model: nn.Sequential, best: dict[str, Any]) -> None:
    model.half()


def statistics(model: nn.Sequential, best: dict[str, Any]) -> None:
    model(torch.full((8, 5), 3.0))


@pytest.mark.parametrize("change", [load, swap, write, pruned, half, statistics])
def test_the_last_epoch_is_not_measured_on_other_weights(change: Callable[..., None]) -> None:
    model = mlp()
    best = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    traced = tracer(model)
    traced.snapshot(3)
    change(model, best)
    with pytest.warns(UserWarning, match=r"epoch 3, the last, was not due.*force=True"):
        traced.close()
    assert epochs(traced) == [0]


def there_and_back(model: nn.Sequential) -> None:
    held = copy.deepcopy(model.state_dict())
    model.load_state_dict({name: value * 0 for name, value in held.items()})
    model.load_state_dict(held)


def evaluated(model: nn.Sequential) -> None:
    model.eval()(torch.ones(8, 5))
    model.train()


def gradients(model: nn.Sequential) -> None:
    model.eval()(torch.ones(8, 5)).sum().backward()


@pytest.mark.parametrize("change", [there_and_back, evaluated, gradients])
def test_what_leaves_the_weights_leaves_the_last_epoch(change: Callable[..., None]) -> None:
    model = mlp()
    traced = tracer(model)
    traced.snapshot(3)
    change(model)
    traced.close()
    assert epochs(traced) == [0, 3]


def test_what_an_epoch_still_lacks_is_not_measured_on_other_weights_either() -> None:
    model = mlp()
    traced = tracer(model, estimators=["binning", At("exact", every=5)], every=1)
    traced.snapshot(1)
    with torch.no_grad():
        linear(model).weight.mul_(2)
    with pytest.warns(UserWarning, match="epoch 1, the last, was not due"):
        traced.close()
    frame = traced.trace.frame()
    assert set(frame[frame["epoch"] == 1]["estimator"]) == {"Binning(bins=30)"}


def test_several_networks_likewise() -> None:
    ensemble = Ensemble(lambda seed: nn.Sequential(nn.Linear(5, 3), nn.Tanh()), seeds=[0, 1])
    traced = tracer(ensemble)
    traced.snapshot(3)
    with torch.no_grad():
        next(iter(ensemble.named_parameters().values())).mul_(2)
    with pytest.warns(UserWarning, match="epoch 3, the last"):
        traced.close()
    assert epochs(traced) == [0]

"""Connectivity: a network and its twin, what is a symmetry and what is not, and single networks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ibtrace.capture import chain
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Connectivity
from ibtrace.numerics.matching import matched
from ibtrace.probe import Probe
from ibtrace.types import Reading
from tests.reference_networks import PROBE, Kind, after_descent, network, view_of

REFERENCE = {"tanh": (0.7513355606, 0.4013671875), "relu": (0.1595308073, 0.2348632812)}


def read(view: NetworkView, **fields: Any) -> dict[str, Reading]:
    return {n: of[""] for n, of in Connectivity(**fields)(view, view._probe).items()}


def twin(model: nn.Module, signs: bool) -> nn.Module:
    """Units of every hidden layer reversed, and units 1, 3, … of the new order negated."""
    other = copy.deepcopy(model)
    layers = [layer for layer in other.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, following in itertools.pairwise(layers):
            order = torch.arange(layer.out_features).flip(0)
            sign = torch.ones(len(order)).double()
            sign[1::2] = -1 if signs else 1
            layer.weight.copy_(layer.weight[order] * sign[:, None])
            layer.bias.copy_(layer.bias[order] * sign)
            following.weight.copy_(following.weight[:, order] * sign)
    return other


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_a_network_and_its_twin(kind: Kind) -> None:
    model = after_descent(kind)
    readings = read(view_of(model, twin(model, signs=kind == "tanh")))
    plain = [readings[name] for name in ("loss barrier", "error barrier")]
    for place in (0, 1):  # from either end
        got = [reading.value[place].item() for reading in plain]
        assert got == pytest.approx(REFERENCE[kind], rel=1e-9)
    assert plain[0].diagnostics["partner"].tolist() == [1, 0]
    if kind == "relu":
        assert readings["aligned loss barrier"].value.tolist() == pytest.approx([0, 0], abs=1e-12)
        assert readings["aligned error barrier"].value.tolist() == pytest.approx([0, 0], abs=1e-12)
        assert "sign-aligned loss barrier" not in readings
    else:
        assert (readings["aligned loss barrier"].value > 0.05).all()
        assert (readings["aligned loss barrier"].value < plain[0].value).all()
        for name in ("sign-aligned loss barrier", "sign-aligned error barrier"):
            assert readings[name].value.tolist() == pytest.approx([0, 0], abs=1e-12)
    assert not any(reading.flags["outputs_changed"].any() for reading in readings.values())


def weights_matched(model: nn.Module, other: nn.Module, seed: int) -> nn.Module:
    """The other with its hidden units where their weights are likest the model's (Ainsworth 2023).

    One layer after another, in an order drawn anew each round, until none changes: of the many
    local optima the one that this seed's orders lead to.
    """
    own = [p.detach() for p in model.parameters()]
    theirs = [p.detach().clone() for p in other.parameters()]
    hidden = len(own) // 2 - 1
    places = [torch.arange(len(own[2 * at])) for at in range(hidden)]
    into, out = torch.arange(own[0].shape[1]), torch.arange(len(own[-1]))
    for number in itertools.count(seed):
        before = [place.tolist() for place in places]
        for at in torch.randperm(hidden, generator=torch.Generator().manual_seed(number)).tolist():
            first, last = ([into, *places][at], [*places, out][at + 1])
            gain = own[2 * at] @ theirs[2 * at][:, first].mT
            gain += own[2 * at + 1][:, None] * theirs[2 * at + 1]
            gain += own[2 * at + 2].mT @ theirs[2 * at + 2][last]
            places[at] = torch.as_tensor(linear_sum_assignment(gain.numpy(), maximize=True)[1])
        if [place.tolist() for place in places] == before:
            break
    ends = [into, *places, out]
    aligned = copy.deepcopy(other)
    with torch.no_grad():
        for at, layer in enumerate(m for m in aligned.modules() if isinstance(m, nn.Linear)):
            layer.weight.copy_(theirs[2 * at][ends[at + 1]][:, ends[at]])
            layer.bias.copy_(theirs[2 * at + 1][ends[at + 1]])
    return aligned


def test_permutations_alone_do_not_bring_a_tanh_network_to_its_twin() -> None:
    """By weights they leave .34 of .75, or another local optimum; by activations less."""
    model = after_descent("tanh")
    other = twin(model, signs=True)
    aligned = weights_matched(model, other, seed=0)
    torch.testing.assert_close(aligned(PROBE.features), model(PROBE.features))
    readings = read(view_of(model, aligned))
    assert readings["loss barrier"].value[0].item() == pytest.approx(0.3445900265, rel=1e-9)
    by_activations = read(view_of(model, other))["aligned loss barrier"].value
    assert (by_activations < readings["loss barrier"].value).all()


def test_signs_are_no_symmetry_of_relu_and_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(after_descent("relu"), network("relu", torch.cos))
    monkeypatch.setattr(chain, "odd", lambda module: isinstance(module, nn.ReLU))
    readings = read(view)
    signed = readings["sign-aligned loss barrier"]
    assert signed.flags["outputs_changed"].all()
    assert signed.value.isnan().all()
    assert not readings["aligned loss barrier"].flags["outputs_changed"].any()


def test_a_barrier_by_a_naive_twin_over_unequal_ends() -> None:
    one, other = after_descent("tanh"), network("tanh", torch.cos)
    readings = read(view_of(one, other), points=11)
    ends = [dict(model.named_parameters()) for model in (one, other)]
    losses, errors = [], []
    for k in range(11):
        middle = copy.deepcopy(one)
        with torch.no_grad():
            for name, value in middle.named_parameters():
                value.copy_((1 - k / 10) * ends[0][name] + k / 10 * ends[1][name])
            logits = middle(PROBE.x)
        losses.append(nn.functional.cross_entropy(logits, PROBE.labels).item())
        errors.append((logits.argmax(1) != PROBE.labels).double().mean().item())
    for name, values in (("loss barrier", losses), ("error barrier", errors)):
        line = [(1 - k / 10) * values[0] + k / 10 * values[-1] for k in range(11)]
        wanted = max(a - b for a, b in zip(values, line, strict=True))
        assert readings[name].value.tolist() == pytest.approx([wanted, wanted], abs=1e-12)


def test_partners_are_the_next_seeds_whatever_their_order() -> None:
    models = [network("relu", wave) for wave in (torch.sin, torch.cos, torch.atan)]
    view = view_of(*models)
    view.seeds = (20, 10, 30)  # around a circle, places and seeds go opposite ways
    assert read(view)["loss barrier"].diagnostics["partner"].tolist() == [30, 20, 10]


def test_one_network_alone_has_no_barrier() -> None:
    with pytest.raises(Unsupported, match=r"this is one: trace an ibtrace\.Ensemble"):
        read(view_of(network("tanh")))
    with pytest.raises(ConfigError, match="Connectivity: points"):
        Connectivity(points=2)


def test_a_seed_that_diverged_leaves_the_others_theirs() -> None:
    three = view_of(network("tanh"), network("tanh", torch.cos), after_descent("tanh"))
    lost = {name: value.clone() for name, value in three.parameters.items()}
    next(iter(lost.values()))[2] = torch.nan
    view = three.at(lost)
    for name, reading in read(view).items():
        assert reading.value.isfinite().tolist() == [True, False, False], name
        assert reading.flags["not_finite"].tolist() == [False, True, True]
        assert reading.flags["diverged"].tolist() == [False, False, True]


def normalised(mean: float) -> tuple[nn.Module, NetworkView]:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    parameters = {n: torch.stack([p.detach(), 2 * p.detach()]) for n, p in model.named_parameters()}
    buffers = {n: torch.stack([b, b + mean]) for n, b in model.named_buffers()}
    networks = Stacked(model, parameters, buffers, (0, 1))
    return model, NetworkView(networks, Probe(x, torch.arange(40) % 2), Setting("cross_entropy"))


def test_networks_with_running_means_of_their_own_are_refused() -> None:
    _, same = normalised(0.0)
    readings = read(same)
    assert [*readings] == ["loss barrier", "error barrier"]  # no chain of linear layers
    _, apart = normalised(1.0)
    with pytest.raises(Unsupported, match="buffers, such as the running means"):
        read(apart)


def test_matching_finds_an_order_with_signs_and_places_dead_units() -> None:
    t = torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).double()
    t[:, 2] = 3.0  # dead
    order = torch.tensor([3, 2, 5, 0, 4, 1])
    sign = torch.tensor([1.0, 1, -1, -1, 1, -1]).double()
    other = (t * sign)[:, order]

    def likeness(a: Tensor, b: Tensor) -> list[float]:
        return [torch.corrcoef(torch.stack([a[:, j], b[:, j]]))[0, 1].item() for j in alive]

    alive = [j for j in range(6) if j != 2]
    places, signs = matched(t, other, signs=True)
    assert sorted(places.tolist()) == [*range(6)]
    assert likeness(t, other[:, places] * signs) == pytest.approx([1] * 5)
    places, signs = matched(t, t[:, order])
    assert places.tolist() == order.argsort().tolist()
    assert signs.tolist() == [1] * 6


@pytest.mark.parametrize(("high", "odd"), [(1.0, True), (2.0, False)])
def test_a_clipped_activation_is_odd_by_its_settings(high: float, odd: bool) -> None:
    def made(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers = nn.Linear(12, 4), nn.Hardtanh(-1.0, high), nn.Dropout(), nn.Linear(4, 2)
        return nn.Sequential(*layers).double()

    readings = read(view_of(made(0), made(1)), points=3)
    assert ("sign-aligned loss barrier" in readings) is odd
    assert "aligned loss barrier" in readings

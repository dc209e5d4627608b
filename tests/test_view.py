"""What a lens sees is what autograd says of each network alone, and seeing changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.recipe import Part, Recipe
from ibtrace.capture.view import NetworkView
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.probe import Probe

N = 20
X, Y = torch.randn(N, 3, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 2
PROBE = Probe(X, Y)


def mlp(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2))


def view_of(model: nn.Module, **changes: Any) -> NetworkView:
    setting = Setting(**{"loss": "cross_entropy", **changes})
    return NetworkView(Stacked.of_module(model), PROBE, setting)


def losses(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model.eval()(X), Y, reduction="none")


@pytest.mark.parametrize("batch_size", [7, 512])
def test_the_loss_and_its_derivatives_are_autograds(batch_size: int) -> None:
    model = mlp()
    view = view_of(model, batch_size=batch_size)
    parameters = dict(model.named_parameters())
    each = losses(model)
    torch.testing.assert_close(view.losses[0], each.detach())
    torch.testing.assert_close(view.loss[0], each.mean().detach())
    gradient = torch.autograd.grad(each.mean(), [*parameters.values()], create_graph=True)
    vector = {name: torch.randn_like(value)[None] for name, value in view.parameters.items()}
    for name, value in view.parameters.items():
        vector[name] = torch.randn_like(value)
    along = sum(
        ((g * vector[name][0]).sum() for g, name in zip(gradient, parameters, strict=True)),
        torch.tensor(0.0),
    )
    twice = torch.autograd.grad(along, [*parameters.values()], allow_unused=True)
    product = view.hessian_product(vector)
    for name, slope, curve in zip(parameters, gradient, twice, strict=True):
        torch.testing.assert_close(view.gradient[name][0], slope.detach())
        wanted = torch.zeros_like(slope) if curve is None else curve
        torch.testing.assert_close(product[name][0], wanted.detach())


def test_derivatives_of_samples_are_those_of_each_alone() -> None:
    model = mlp()
    view = view_of(model, batch_size=6)
    parameters = dict(model.named_parameters())
    outputs = model.eval()(X)
    for i, loss in enumerate(losses(model)):
        found = torch.autograd.grad(loss, [*parameters.values()], retain_graph=True)
        for name, slope in zip(parameters, found, strict=True):
            torch.testing.assert_close(view.sample_gradients[name][0, i], slope)
        for k in range(2):
            found = torch.autograd.grad(outputs[i, k], [*parameters.values()], retain_graph=True)
            for name, slope in zip(parameters, found, strict=True):
                torch.testing.assert_close(view.jacobian[name][0, i, k], slope)


def test_several_networks_are_seen_as_each_alone() -> None:
    networks = Ensemble(mlp, seeds=[3, 5])
    stacked = Stacked(
        networks.template, networks.named_parameters(), networks.named_buffers(), networks.seeds
    )
    together = NetworkView(stacked, PROBE, Setting("cross_entropy"))
    vector = {name: torch.randn_like(value) for name, value in together.parameters.items()}
    product = together.hessian_product(vector)
    for i in range(2):
        alone = view_of(networks.member(i))
        torch.testing.assert_close(together.outputs[i], alone.outputs[0])
        torch.testing.assert_close(together.losses[i], alone.losses[0])
        one = alone.hessian_product({name: value[i : i + 1] for name, value in vector.items()})
        for name in alone.parameters:
            for of_all, of_one in (
                (together.gradient, alone.gradient),
                (together.sample_gradients, alone.sample_gradients),
                (together.jacobian, alone.jacobian),
                (product, one),
            ):
                torch.testing.assert_close(of_all[name][i], of_one[name][0])


def test_nothing_is_computed_twice() -> None:
    calls = 0

    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return super().forward(x)

    view = view_of(Counting(3, 2))
    first = view.loss
    assert view.loss is first
    assert view.losses is view.losses
    assert calls == 1


def test_seeing_changes_nothing() -> None:
    class Learner(nn.Module):
        seen: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = nn.Linear(3, 2), 0
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.seen += 1
            output: Tensor = self.inner(x + 0 * torch.rand(()))
            return output

    model = Learner().train()
    model.inner.weight.grad = torch.ones(2, 3)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    view = view_of(model)
    _ = view.outputs, view.loss, view.gradient, view.sample_gradients, view.jacobian
    view.hessian_product(view.gradient)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.calls == 0
    assert torch.equal(model.inner.weight.grad, torch.ones(2, 3))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_parameters_are_no_parameters_of_the_loss() -> None:
    model = mlp()
    frozen, *_ = model.parameters()
    frozen.requires_grad_(False)
    view = view_of(model)
    assert (
        set(view.gradient)
        == set(view.parameters)
        == {n for n, _ in model.named_parameters()} - {"0.weight"}
    )


def test_what_is_missing_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r'give the tracer loss="cross_entropy" or another'):
        _ = view_of(mlp(), loss=None).loss
    with pytest.raises(ConfigError, match=r"loss: 'hinge' is none of nll, cross_entropy, mse"):
        _ = view_of(mlp(), loss="hinge").loss
    with pytest.raises(Unsupported, match=r"holds no activations"):
        _ = view_of(mlp()).activations
    with pytest.raises(Unsupported, match=r"no labels"):
        _ = NetworkView(Stacked.of_module(mlp()), Probe(X), Setting("mse")).loss


def test_a_loss_of_ones_own_and_a_network_that_gives_several() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.inner(x), x

    model = Pair()
    view = view_of(model, loss=nn.CrossEntropyLoss())
    torch.testing.assert_close(view.losses[0], losses(model.inner).detach())
    assert (view.loss_unit, view_of(model).loss_unit) == ("loss", "nats")


def test_what_is_not_varied_is_each_networks_own() -> None:
    """Not the template's, and whatever order the varied parameters are given in."""
    networks = Ensemble(mlp, seeds=[3, 5])
    stacked = Stacked(
        networks.template, networks.named_parameters(), networks.named_buffers(), networks.seeds
    )
    view = NetworkView(stacked, PROBE, Setting("cross_entropy"))
    moved = {name: value + 0.1 for name, value in view.parameters.items()}
    bias = {"0.bias": moved["0.bias"]}
    whole = view.at({**view.parameters, **bias})
    assert torch.equal(view.at(bias).losses, whole.losses)
    assert not torch.equal(view.losses, whole.losses)
    assert [*view.at(dict(reversed(moved.items()))).parameters] == [*view.parameters]
    with pytest.raises(InvalidInput, match=r"no parameter or buffer 0\.wieght"):
        view.at({"0.wieght": view.parameters["0.weight"]})


# --- the head, and T on the training samples ----------------------------------------------------


@pytest.mark.parametrize("softmax", [False, True])
def test_the_head_is_the_layer_that_gives_the_logits(softmax: bool) -> None:
    model = nn.Sequential(*mlp().children(), *([nn.Softmax(-1)] if softmax else []))
    head = view_of(model, loss="nll" if softmax else "cross_entropy").head
    with torch.no_grad():
        features = model.eval()[:3](X)
    torch.testing.assert_close(head.features[0], features)
    torch.testing.assert_close(head.weight[0], model.get_parameter("3.weight").detach())
    torch.testing.assert_close(head.logits[0], model[:4](X).detach())


def test_logits_that_are_bent_have_no_head() -> None:
    bent = nn.Sequential(*mlp().children(), nn.Tanh())
    with pytest.raises(Unsupported, match=r"not those of a linear layer"):
        _ = view_of(bent).head


@pytest.mark.parametrize("several", [False, True])
def test_t_on_the_training_samples_is_that_of_their_rows(several: bool) -> None:
    rows = torch.tensor([[4, 1, 9], [0, 3, 5]])
    t = torch.randn(2, N, 4)
    tokens = torch.randn(2, 3 * N, 4)
    stacked = Stacked.of_module(mlp())
    networks = Stacked(
        stacked.template, {n: torch.cat([v, v]) for n, v in stacked.parameters.items()}, {}, (0, 1)
    )
    part = Part(Probe(X.clone(), Y.clone()), rows if several else rows[0])
    elsewhere = Part(Probe(X + 1, Y), rows[0])
    view = NetworkView(
        networks,
        PROBE,
        Setting("cross_entropy", recipe=Recipe(part, elsewhere)),
        activations={"t": t, "tokens": tokens},
    )
    training, test = view.training, view.test
    assert training is not None
    assert test is not None
    of = training.activations
    assert [*of] == ["t"]
    chosen = rows if several else rows[:1].expand(2, 3)
    assert torch.equal(of["t"], torch.stack([t[0, chosen[0]], t[1, chosen[1]]]))
    assert torch.equal(training.thinned(2).labels, training.labels[:, kept_of(training)])
    assert torch.equal(training.thinned(2).activations["t"], of["t"][:, kept_of(training)])
    with pytest.raises(Unsupported, match=r"only samples of the tracer's probe"):
        _ = test.activations


def kept_of(view: NetworkView) -> Tensor:
    """Which of a view's samples its thinned one keeps."""
    x, few = view.inputs[0], view.thinned(2).inputs[0]
    return torch.tensor([int((x == row).all(1).nonzero()[0]) for row in few])


class Twice(nn.Module):
    """One layer that is called twice, and one whose input the network reads beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gate, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.layer(x) * torch.sigmoid(self.gate(x)) + x)
        out: Tensor = self.head(torch.tanh(self.layer(hidden)))
        return out

    def after(self, hidden: Tensor) -> Tensor:
        """What follows the second call's input."""
        out: Tensor = self.head(torch.tanh(self.layer(hidden)))
        return out


def test_a_linear_layer_has_what_goes_in_at_every_call_and_its_whole_gradient() -> None:
    model = Twice()
    view = view_of(model)
    given, slopes = view.link_inputs["layer"]
    hidden = torch.tanh(model.layer(X) * torch.sigmoid(model.gate(X)) + X).detach()
    torch.testing.assert_close(given[0], torch.cat([X, hidden]))
    second = torch.stack([torch.func.jacrev(model.after)(row) for row in hidden]).detach()
    torch.testing.assert_close(slopes[0], torch.cat([view.input_jacobian[0], second]))
    _, of_gate = view.link_inputs["gate"]  # of one input, along all that it goes into
    torch.testing.assert_close(of_gate, view.input_jacobian)


class Aside(nn.Module):
    """A network with parts that the loss does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.inner, self.aside, self.head = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.inner(x))
        return self.head(hidden), self.aside(hidden)


def test_parameters_that_the_loss_does_not_see_have_no_curvature() -> None:
    torch.manual_seed(0)
    model = Aside()
    view = view_of(model)
    names = [name for name, _ in model.named_parameters()]
    seen = nn.Sequential(model.inner, nn.Tanh(), model.head)
    whole = view_of(seen).hessian[0]
    places: list[int] = []
    start = 0
    for name, value in model.named_parameters():
        if name.startswith(("inner", "head")):
            places += range(start, start + value.numel())
        start += value.numel()
    expected = torch.zeros(start, start, dtype=whole.dtype)
    at = torch.tensor(places)
    expected[at[:, None], at] = whole
    assert names[0].startswith("spare")
    torch.testing.assert_close(view.hessian[0], expected)
    one = view.hessian_product({n: torch.ones_like(v) for n, v in view.parameters.items()})
    flat = torch.cat([one[name].flatten() for name in names])
    torch.testing.assert_close(flat, expected.sum(1).to(flat))
    slopes = view.link_inputs
    torch.testing.assert_close(slopes["aside"], slopes["head"])  # one input, which the logits see


def test_where_nothing_is_trained_it_is_said_in_one_line() -> None:
    model = mlp()
    model.requires_grad_(False)
    view = view_of(model)
    assert torch.equal(view.losses[0], losses(model))
    for read in (
        lambda: view.parameters,
        lambda: view.gradient,
        lambda: view.hessian,
        lambda: view.sample_gradients,
        lambda: view.jacobian,
        lambda: view.hessian_product({}),
    ):
        with pytest.raises(Unsupported, match="no parameter of the network is trained"):
            read()

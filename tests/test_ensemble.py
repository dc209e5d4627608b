"""A network of an ensemble is the network that its seed gives alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace.capture import snapshot
from ibtrace.datasets import Batches, split
from ibtrace.ensemble import (
    LOSSES,
    Ensemble,
    Loss,
    cross_entropy,
    fuse,
    mse,
    nll,
    require_elementwise,
    restore_training,
    training_state,
)
from ibtrace.errors import ConfigError, InvalidInput, RunError, UnknownName, Unsupported
from ibtrace.models import MLP
from ibtrace.probe import Probe

SEEDS = [3, 0, 11]
Build = Callable[[int], nn.Module]


def chain(activation: str = "tanh", output: str = "softmax", **options: Any) -> Build:
    return lambda seed: MLP((6, 5, 4, 3), activation, output, **options).double()


def conv(seed: int) -> nn.Module:
    """No chain: convolution, normalisation, a softmax at the end."""
    return nn.Sequential(
        nn.Unflatten(-1, (1, 6)),
        nn.Conv1d(1, 4, 3, bias=False),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
        nn.Softmax(-1),
    ).double()


class Tied(nn.Module):
    """One linear layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(6, 6)
        self.act = nn.Tanh()
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.act(self.inside(self.act(self.inside(x))))).softmax(-1)
        return out


def tied(seed: int) -> nn.Module:
    return Tied().double()


def nested(seed: int) -> nn.Module:
    """A chain in two boxes, with everything that a chain may hold."""
    first = nn.Sequential(nn.Identity(), nn.Linear(6, 5, bias=False), nn.Identity(), nn.Sigmoid())
    last = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Tanh(), nn.Linear(4, 3), nn.LogSoftmax(-1))
    return nn.Sequential(first, last).double()


def data(n: int = 41) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (n,), generator=generator)


def batches(seeds: list[int], shuffle: bool = True) -> Batches:
    x, y = data()
    train = [split(y, 0.8, "stratified", seed)[0] for seed in seeds]
    return Batches(x, y, train, seeds, 8, shuffle)


def alone(build: Build, seed: int, optimizer: Any, loss: Loss, epochs: int = 3) -> nn.Module:
    """The naive twin: one seed, a plain module, autograd, torch's own loop."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(seed)
    steps = optimizer(net.parameters())
    given = batches([seed])
    for _ in range(epochs):
        for x, y in given:
            steps.zero_grad()
            loss(net(x[0]), y[0]).backward()
            steps.step()
    return net


def together(
    build: Build, optimizer: Any, loss: Loss, epochs: int = 3, *, fast: bool = True
) -> Ensemble:
    nets = Ensemble(build, SEEDS, fast=fast)
    steps = optimizer(nets.parameters())
    given = batches(SEEDS)
    for _ in range(epochs):
        for x, y in given:
            nets.backward(x, y, loss)
            steps.step()
    return nets


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


def fused_adam(parameters: Any) -> torch.optim.Optimizer:
    return fuse(torch.optim.Adam(parameters, lr=1e-2))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)


def log_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss that the chain has no closed form for."""
    return -outputs.gather(-1, y.unsqueeze(-1)).squeeze(-1).mean(-1)


CASES: dict[str, tuple[Build, bool, Loss]] = {
    "tanh": (chain("tanh", init="idnns"), True, nll),
    "relu": (chain("relu", init="ibsgd"), True, nll),
    "sigmoid": (chain("sigmoid"), True, nll),
    "logits": (chain("tanh", "logits"), True, cross_entropy),
    "squares": (chain("relu", "sigmoid"), True, mse),
    "squares of a softmax": (chain("relu"), True, mse),
    "nll without its softmax": (chain("tanh", "sigmoid"), True, nll),
    "nested": (nested, True, log_loss),
    "gelu": (chain("gelu"), False, nll),
    "conv": (conv, False, nll),
    "tied": (tied, False, nll),
}


@pytest.mark.parametrize("optimizer", [adam, fused_adam, sgd])
@pytest.mark.parametrize("case", CASES)
def test_each_network_is_the_one_trained_alone(case: str, optimizer: Any) -> None:
    build, fast, loss = CASES[case]
    nets = together(build, optimizer, loss)
    assert nets.fast is fast
    for i, seed in enumerate(SEEDS):
        one = alone(build, seed, optimizer, loss)
        state = nets.member(i).state_dict()
        for name, value in one.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", [name for name, (_, fast, _) in CASES.items() if fast])
def test_batched_products_equal_vmap(case: str) -> None:
    build, _, loss = CASES[case]
    quick, general = together(build, adam, loss), together(build, adam, loss, fast=False)
    assert not general.fast
    x, y = data()
    for name, value in quick.named_parameters().items():
        torch.testing.assert_close(value, general.named_parameters()[name])
    torch.testing.assert_close(quick(x, shared=True), general(x, shared=True))
    stacked = x.expand(3, *x.shape)
    torch.testing.assert_close(quick(stacked), general(stacked))
    losses = loss(quick(stacked), y.expand(3, -1))
    torch.testing.assert_close(quick.backward(stacked, y.expand(3, -1), loss), losses.detach())


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_an_ordinary_loop_are_the_same(case: str) -> None:
    """Users may call the ensemble and differentiate as with any module."""
    build, _, loss = CASES[case]
    nets = Ensemble(build, SEEDS).eval()
    x, y = next(iter(batches(SEEDS)))
    nets.backward(x, y, loss)
    direct = [p.grad for p in nets.parameters()]
    for p in nets.parameters():
        p.grad = None
    loss(nets(x), y).sum().backward()
    for p, gradient in zip(nets.parameters(), direct, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_a_seed_does_not_depend_on_its_company() -> None:
    nets, pair = Ensemble(chain(), [3, 0, 11]), Ensemble(chain(), [11, 3])
    for name, value in nets.named_parameters().items():
        assert torch.equal(value[[2, 0]], pair.named_parameters()[name])


def test_frozen_parameters_stay_frozen() -> None:
    def build(seed: int) -> nn.Module:
        net = MLP((6, 5, 3)).double()
        net.fc1.requires_grad_(False)
        return net

    nets = Ensemble(build, SEEDS)
    before = nets.state_dict()["parameters"]
    x, y = next(iter(batches(SEEDS)))
    nets.backward(x, y, nll)
    assert [p.grad is None for p in nets.parameters()] == [True, True, False, False]
    sgd([p for p in nets.parameters() if p.grad is not None]).step()
    after = nets.state_dict()["parameters"]
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert changed == ["fc2.weight", "fc2.bias"]


# --- looking at the layers ------------------------------------------------------------------


LAYERS: list[Any] = [None, nn.Linear, "*", "output", ["output", "*"], "*:input"]


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_activations_are_those_of_each_member(case: str, layers: Any) -> None:
    build, _, loss = CASES[case]
    nets = together(build, adam, loss, epochs=1)
    x, y = data()
    found = nets.activations(x, layers, batch_size=16)
    for i in range(len(SEEDS)):
        one = snapshot(nets.member(i), Probe(x, y), layers)
        assert list(one) == list(found)
        for name, value in one.items():
            torch.testing.assert_close(found[name][i], value)


def test_looking_changes_nothing() -> None:
    def build(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU()).double()

    nets = Ensemble(build, SEEDS).train()
    state, rng = nets.state_dict(), torch.get_rng_state()
    first = nets.activations(data()[0])
    again = nets.activations(data()[0])
    assert nets.training
    assert torch.equal(torch.get_rng_state(), rng)
    for kind in ("parameters", "buffers"):
        for name, value in nets.state_dict()[kind].items():
            assert torch.equal(value, state[kind][name])
    assert list(first) == ["3"]
    assert torch.equal(first["3"], again["3"])
    assert not first["3"].requires_grad


def test_looking_leaves_buffers_that_a_module_writes_even_in_eval_mode() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.get_buffer("calls").add_(1)
            return x

    nets = Ensemble(lambda seed: Counts(), SEEDS)
    nets.activations(data()[0], "output")
    assert nets.state_dict()["buffers"]["calls"].tolist() == [0, 0, 0]
    nets(data()[0], shared=True)
    assert nets.state_dict()["buffers"]["calls"].tolist() == [1, 1, 1]


def test_unknown_and_unreached_layers_are_named() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x)
            return out

    x = data()[0].float()
    nets = Ensemble(lambda seed: Half(), SEEDS)
    with pytest.raises(UnknownName, match="no layer matches 'fc9'; the layers are: used, unused"):
        nets.activations(x, "fc9")
    with pytest.raises(UnknownName, match=r"layers unused were not called.*called: used"):
        nets.activations(x, ["used", "unused"])
    with pytest.raises(InvalidInput, match="samples first"):
        Ensemble(lambda seed: nn.Flatten(0), SEEDS).activations(x, "output")


# --- randomness -----------------------------------------------------------------------------


def dropout(seed: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3), nn.Softmax(-1))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    nets = Ensemble(dropout, SEEDS)
    x, y = next(iter(batches(SEEDS)))
    nets.backward(x.float(), y, nll)
    nets(x.float())
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_differs_over_seeds_and_steps_and_rests_in_eval_mode() -> None:
    nets = Ensemble(lambda seed: nn.Dropout(0.5), [0, 1])
    x = torch.ones(2, 50, 6)
    first, second = nets(x), nets(x)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert torch.equal(nets.eval()(x), x)


# --- stopping and going on ------------------------------------------------------------------


@settings(max_examples=12)
@given(
    stop=st.integers(0, 11),
    build=st.sampled_from([chain("tanh"), chain("relu"), conv, dropout]),
    optimizer=st.sampled_from([adam, fused_adam, sgd]),
    shuffle=st.booleans(),
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    stop: int, build: Build, optimizer: Any, shuffle: bool
) -> None:
    dtype = torch.float32 if build is dropout else torch.float64

    def begin() -> tuple[Ensemble, torch.optim.Optimizer, Batches]:
        nets = Ensemble(build, SEEDS)
        return nets, optimizer(nets.parameters()), batches(SEEDS, shuffle)

    def go(run: tuple[Ensemble, torch.optim.Optimizer, Batches], steps: int) -> list[list[float]]:
        nets, optimizer, given = run
        losses: list[list[float]] = []
        while len(losses) < steps:
            for x, y in given:
                losses.append(nets.backward(x.to(dtype), y, nll).tolist())
                optimizer.step()
                if len(losses) == steps:
                    break
        return losses

    whole = begin()
    losses = go(whole, 12)
    first = begin()
    before = go(first, stop)
    file = io.BytesIO()
    torch.save(training_state(*first), file)
    file.seek(0)
    later = begin()
    restore_training(torch.load(file, weights_only=True), *later)
    assert before + go(later, 12 - stop) == losses
    ends = [run[0].state_dict() for run in (whole, later)]
    for kind in ("parameters", "buffers"):
        for name, value in ends[0][kind].items():
            assert torch.equal(value, ends[1][kind][name])


def test_a_state_is_a_copy() -> None:
    nets = Ensemble(chain(), SEEDS)
    optimizer, given = adam(nets.parameters()), batches(SEEDS)
    x, y = next(iter(given))
    nets.backward(x, y, nll)
    optimizer.step()
    state = training_state(nets, optimizer, given)
    weight = state["ensemble"]["parameters"]["fc1.weight"].clone()
    moment = state["optimizer"]["state"][0]["exp_avg"].clone()
    optimizer.step()
    assert torch.equal(state["ensemble"]["parameters"]["fc1.weight"], weight)
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], moment)


def test_a_member_is_a_copy() -> None:
    nets = Ensemble(chain(), SEEDS)
    net = nets.member(1)
    with torch.no_grad():
        next(net.parameters()).zero_()
    assert nets.parameters()[0][1].any()


def test_a_state_of_other_networks_is_refused() -> None:
    nets = Ensemble(chain(), SEEDS)
    with pytest.raises(RunError, match=r"seeds \(3, 0, 11\) cannot load \(0, 1, 2\)"):
        nets.load_state_dict(Ensemble(chain(), [0, 1, 2]).state_dict())
    with pytest.raises(RunError, match="those of another architecture"):
        nets.load_state_dict(Ensemble(tied, SEEDS).state_dict())


# --- losses and optimisers ------------------------------------------------------------------


def test_losses_are_torchs_means() -> None:
    x, y = data()
    logits = x[:, :3].expand(2, -1, -1)
    labels = torch.stack([y, y.flip(0)])
    for i in range(2):
        reference = nn.functional.cross_entropy(logits[i], labels[i])
        torch.testing.assert_close(cross_entropy(logits, labels)[i], reference)
        torch.testing.assert_close(nll(logits.softmax(-1), labels)[i], reference)
        hot = nn.functional.one_hot(labels[i], 3).double()
        torch.testing.assert_close(mse(logits, labels)[i], nn.functional.mse_loss(logits[i], hot))
    one = x[:, :1]
    torch.testing.assert_close(mse(one, y), (one[:, 0] - y).square().mean())
    assert set(LOSSES) == {"nll", "cross_entropy", "mse"}


def test_a_probability_that_underflows_costs_a_finite_loss() -> None:
    nets = Ensemble(lambda seed: nn.Sequential(nn.Linear(1, 2), nn.Softmax(-1)), [0])
    with torch.no_grad():
        nets.named_parameters()["0.weight"].copy_(torch.tensor([[[300.0], [-300.0]]]))
        nets.named_parameters()["0.bias"].zero_()
    loss = nets.backward(torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.int64), nll)
    assert float(loss) == pytest.approx(87.3, abs=0.1)
    torch.testing.assert_close(nets.parameters()[1].grad, torch.tensor([[1.0, -1.0]]))


ELEMENTWISE = ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Rprop"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_optimisers_pass(name: str) -> None:
    parameter = nn.Parameter(torch.zeros(2, 3))
    optimizer = getattr(torch.optim, name)([parameter], lr=1e-3)
    require_elementwise(optimizer)
    require_elementwise(fuse(optimizer))
    assert all(not value.any() for held in optimizer.state.values() for value in held.values())
    assert not parameter.any()


@pytest.mark.parametrize("name", ["LBFGS", "Adafactor", "Muon"])
def test_others_are_refused(name: str) -> None:
    kind = getattr(torch.optim, name, None)
    if kind is None:
        pytest.skip(f"this torch has no {name}")
    for lr in (1e-3, 0.0):
        with pytest.raises(Unsupported, match=rf"{name} .*train each seed alone"):
            require_elementwise(kind([nn.Parameter(torch.zeros(4, 3))], lr=lr))


class Normalised(torch.optim.SGD):
    """Steps of a fixed length: what a user may bring along."""

    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            p.grad /= p.grad.norm()
        return super().step(closure)


def test_an_optimiser_that_uses_a_norm_is_refused() -> None:
    with pytest.raises(Unsupported, match="Normalised is not elementwise, one seed would steer"):
        require_elementwise(Normalised([nn.Parameter(torch.zeros(4, 3))], lr=0.1))


def test_fuse_respects_a_choice() -> None:
    p = [nn.Parameter(torch.zeros(2))]
    assert fuse(torch.optim.Adam(p)).param_groups[0]["fused"] is True
    assert fuse(torch.optim.Adam(p, foreach=True)).param_groups[0]["fused"] is None
    assert fuse(torch.optim.Adam(p, fused=False)).param_groups[0]["fused"] is False
    assert "fused" not in fuse(torch.optim.RMSprop(p)).param_groups[0]


# --- what cannot be an ensemble -------------------------------------------------------------


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match="one or more seeds, all different"):
        Ensemble(chain(), [])
    with pytest.raises(ConfigError, match=r"all different, got \[1, 1\]"):
        Ensemble(chain(), [1, 1])
    with pytest.raises(InvalidInput, match="network of seed 2 differs in shape"):
        Ensemble(lambda seed: nn.Linear(3, seed), [1, 2])
    with pytest.raises(InvalidInput, match=r"3 seeds needs as many batches, got shape \(41, 6\)"):
        Ensemble(chain(), SEEDS)(data()[0])

"""What torch cannot compute together is computed one by one, and is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import transforms
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.ensemble import Ensemble
from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from tests import zoo

N = 10
X, Y = torch.randn(N, 3, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 2


class Plain(nn.Module):
    """Two layers; some kinds do in their forward what `torch.func` cannot take."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.total = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.tanh(self.first(x)))
        return out


class Asking(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if self.first(x).sum().item() == 1e9:
            return torch.zeros(len(x), 2)
        return super().forward(x)


class Counting(Plain):
    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        self.total += hidden.detach().sum(0)
        out: Tensor = self.last(hidden)
        return out


class Masking(Plain):
    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        out = torch.zeros(len(x), 2)
        chosen = hidden.sum(1) == hidden.sum(1)
        out[chosen] = self.last(hidden[chosen])
        return out


def seen(kind: Callable[[], nn.Module], networks: int) -> NetworkView:
    if networks == 1:
        torch.manual_seed(3)
        stacked = Stacked.of_module(kind())
    else:
        of_all = Ensemble(lambda _: kind(), seeds=range(3, 3 + networks))
        held = of_all.named_parameters(), of_all.named_buffers()
        stacked = Stacked(of_all.template, *held, of_all.seeds)
    return NetworkView(stacked, Probe(X, Y), Setting("cross_entropy", batch_size=4))


def everything(view: NetworkView) -> dict[str, Tensor | Mapping[str, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    vector = {n: torch.randn(v.shape, generator=draw) for n, v in view.parameters.items()}
    pair = {name: torch.stack([value, 2 * value]) for name, value in vector.items()}
    moved = view.at({name: value + 0.1 for name, value in view.parameters.items()})
    return {
        "outputs": view.outputs,
        "losses": view.losses,
        "gradient": view.gradient,
        "samples": view.sample_gradients,
        "jacobian": view.jacobian,
        "inputs": view.input_jacobian,
        "product": view.hessian_product(vector),
        "products": view.hessian_product(pair),
        "hessian": view.hessian,
        "moved": moved.losses,
    }


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("kind", [Asking, Counting, Masking])
def test_one_by_one_is_the_same_as_together(kind: type[Plain], networks: int) -> None:
    found, wanted = (everything(seen(each, networks)) for each in (kind, Plain))
    for name, value in wanted.items():
        # a network that writes to single precision has no Hessian in double
        torch.testing.assert_close(found[name], value, check_dtype=False, msg=name)


def test_networks_that_torch_takes_together_are_not_taken_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("one by one")

    monkeypatch.setattr(transforms, "_at", fails)
    everything(seen(Plain, 3))
    with pytest.raises(AssertionError, match="one by one"):
        everything(seen(Asking, 3))


@pytest.mark.parametrize("name", ["bert", "gpt2", "encoder", "lstm"])
def test_attention_and_recurrent_layers_have_all_derivatives(name: str) -> None:
    case = zoo.ZOO[name]
    x, y = case.data(6)
    model = case.model().eval()
    view = NetworkView(Stacked.of_module(model), Probe(x, y), Setting("cross_entropy"))
    own = dict(model.named_parameters())
    with transforms.differentiable(model):
        loss = nn.functional.cross_entropy(zoo.logits(model, x), y)
        slopes = torch.autograd.grad(loss, [*own.values()], create_graph=True)
    vector = {name: torch.ones_like(value)[None] for name, value in own.items()}
    along = torch.stack([slope.sum() for slope in slopes]).sum()
    curves = torch.autograd.grad(along, [*own.values()], materialize_grads=True)
    product = view.hessian_product(vector)
    for at, (slope, curve) in zip(own, zip(slopes, curves, strict=True), strict=True):
        torch.testing.assert_close(view.gradient[at][0], slope.detach())
        torch.testing.assert_close(view.sample_gradients[at][0].mean(0), slope.detach())
        torch.testing.assert_close(product[at][0], curve)


def test_an_error_of_the_networks_own_is_the_one_that_is_seen() -> None:
    class Broken(Plain):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad or len(x) == 1:
                raise ValueError("a mistake of the user's")
            return super().forward(x)

    view = seen(Broken, 1)
    assert view.outputs.shape == (1, N, 2)
    with pytest.raises(InvalidInput, match="a mistake of the user's"):
        _ = view.sample_gradients


def test_what_was_not_possible_together_is_not_tried_with_other_weights_or_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[bool] = []

    def noting(*given: Any, one_by_one: bool) -> Any:
        tried.append(one_by_one)
        return transforms.each(*given, one_by_one=one_by_one)

    monkeypatch.setattr("ibtrace.capture.calls.each", noting)
    view = seen(Asking, 3)
    assert view.outputs.shape == (3, N, 2)
    assert tried[0] is False
    tried.clear()
    for other in (view.at(view.parameters), view.thinned(5)):
        assert other.outputs.isfinite().all()
    assert tried
    assert all(tried)


def test_a_loss_of_ones_own_is_checked_on_few_samples_and_once() -> None:
    calls: list[int] = []
    x, y = torch.randn(100, 3), torch.arange(100) % 2

    class Noting(Plain):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return super().forward(x)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        losses.append(len(outputs))
        return nn.functional.cross_entropy(outputs, labels)

    losses: list[int] = []
    view = NetworkView(Stacked.of_module(Noting()), Probe(x, y), Setting(loss))
    assert len(view.gradient) == 4
    assert sorted(calls) == [8, 100]  # the loss's shapes, and the gradient
    losses.clear()
    moved = view.at({name: value + 1 for name, value in view.parameters.items()})
    assert len(moved.gradient) == 4
    assert losses == [100]

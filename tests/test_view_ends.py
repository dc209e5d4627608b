"""How networks end: what makes probabilities of logits is seen or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Curvature, Generalization, Sensitivity
from ibtrace.probe import Probe
from tests.reference_networks import view_of as view_of_part

N = 12
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % 3
End = Callable[[Tensor], Tensor]


class Ended(nn.Module):
    """A network of three logits, or one, with an end of its own."""

    def __init__(self, end: End, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, outputs)
        self.end = end

    def logits(self, x: Tensor) -> Tensor:
        """What the end is given; a gate before it, which is none of it."""
        h = self.first(x)
        made: Tensor = self.last(h.tanh() * torch.sigmoid(h))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """The end of the logits."""
        return self.end(self.logits(x))


ENDS: dict[str, tuple[End, int]] = {
    "a module": (nn.LogSoftmax(-1), 3),
    "F.softmax": (lambda z: F.softmax(z, -1), 3),
    "softmax of a tensor": (lambda z: z.softmax(dim=-1), 3),
    "torch.log_softmax": (lambda z: torch.log_softmax(z, -1), 3),
    "F.log_softmax": (lambda z: F.log_softmax(input=z, dim=-1), 3),
    "nn.Sigmoid": (nn.Sigmoid(), 1),
    "torch.sigmoid": (torch.sigmoid, 1),
    "sigmoid without its axis": (lambda z: z.sigmoid().squeeze(-1), 1),
    "F.logsigmoid": (F.logsigmoid, 1),
}


def view_of(model: nn.Module, loss: Any = "cross_entropy", y: Tensor = Y) -> NetworkView:
    return NetworkView(Stacked.of_module(model.double()), Probe(X, y), Setting(loss))


@pytest.mark.parametrize("name", ENDS)
def test_logits_and_their_derivatives_are_those_before_the_end(name: str) -> None:
    model = Ended(*ENDS[name]).double()
    view = view_of(model)
    assert torch.equal(view.outputs[0], model(X).detach())
    torch.testing.assert_close(view.logits[0].reshape(N, -1), model.logits(X).detach())
    slopes = torch.stack([torch.func.jacrev(model.logits)(row) for row in X]).detach()
    torch.testing.assert_close(view.input_jacobian[0], slopes)
    sensitivity = Sensitivity()(view, view._probe)["mean input Jacobian norm"][""].value.item()
    assert sensitivity == pytest.approx(slopes.flatten(1).norm(dim=1).mean().item())
    weight = view.jacobian["last.weight"][0]
    (own,) = torch.autograd.grad(model.logits(X)[2, 0], [model.last.weight])
    torch.testing.assert_close(weight[2, 0], own)


@pytest.mark.parametrize("networks", [1, 3])
def test_several_networks_are_seen_before_their_ends(networks: int) -> None:
    models = [Ended(nn.LogSoftmax(-1)).double() for _ in range(networks)]
    for at, model in enumerate(models):
        nn.init.normal_(model.last.weight, std=1.0 + at)
    view = view_of_part(*models, probe=Probe(X, Y))
    for at, model in enumerate(models):
        torch.testing.assert_close(view.logits[at], model.logits(X).detach())


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (lambda z: z.exp() / z.exp().sum(-1, keepdim=True), "probabilities"),
        (lambda z: z - z.logsumexp(-1, keepdim=True), "logarithms of probabilities"),
        (nn.Softmin(-1), "probabilities"),
    ],
    ids=["by hand", "logarithms by hand", "softmin"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_probabilities_made_otherwise_have_no_logits_but_decide(
    end: End, kind: str, dtype: torch.dtype
) -> None:
    model = Ended(end).to(dtype)
    probe = Probe(X.to(dtype), Y)
    view = NetworkView(Stacked.of_module(model), probe, Setting(nn.CrossEntropyLoss()))
    for read in (lambda: view.logits, lambda: view.input_jacobian, lambda: view.jacobian):
        with pytest.raises(Unsupported, match=f"outputs are {kind}, and not made by a softmax"):
            read()
    assert torch.equal(view.decisions[0], model(probe.x).argmax(1))


def test_logits_that_happen_to_be_negative_are_logits() -> None:
    model = Ended(lambda z: z - 5).double()
    torch.testing.assert_close(view_of(model).logits[0], model(X).detach())


@pytest.mark.parametrize(
    "end",
    [
        nn.LogSoftmax(-1),
        nn.Softmax(-1),
        lambda z: F.log_softmax(z, -1),
        lambda z: z - z.logsumexp(-1, keepdim=True),
    ],
    ids=["LogSoftmax", "Softmax", "F.log_softmax", "by hand"],
)
def test_nll_is_that_of_probabilities_or_of_their_logarithms(end: End) -> None:
    model = Ended(end).double()
    view = view_of(model, "nll")
    wanted = F.cross_entropy(model.logits(X), Y)
    assert view.loss.item() == pytest.approx(wanted.item())
    parameters = [*model.parameters()]
    slopes = torch.autograd.grad(wanted, parameters, create_graph=True)
    flat = torch.cat([slope.flatten() for slope in slopes])
    for (name, _), slope in zip(model.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(view.gradient[name][0], slope.detach())
    rows = [
        torch.cat([p.flatten() for p in torch.autograd.grad(one, parameters, retain_graph=True)])
        for one in flat
    ]
    trace = torch.stack(rows).trace().item()
    assert trace > 0.1
    readings = Curvature()(view, view._probe)
    assert readings["Hessian trace"][""].value.item() == pytest.approx(trace)


def test_nll_of_logits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\"nll\" takes probabilities .* loss=\"cross_entropy\""):
        _ = view_of(Ended(nn.Identity()), "nll").loss


def test_accuracy_needs_no_logits() -> None:
    model = Ended(lambda z: z.exp() / z.exp().sum(-1, keepdim=True)).double()
    view = view_of_part(model, probe=Probe(X, Y), loss="nll", data=(X, Y), test=(X, Y))
    accuracy = Generalization()(view, view._probe)["training accuracy"][""].value.item()
    assert accuracy == pytest.approx((model(X).argmax(1) == Y).double().mean().item())

"""What a prediction is: one function for all lenses, of several outputs and of one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibtrace.capture.recipe import Part, Twins
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import (
    NTK,
    Connectivity,
    Flatness,
    Generalization,
    Invariance,
    Modes,
    Norms,
    PACBayes,
    Sensitivity,
    Stability,
)
from ibtrace.probe import Probe
from ibtrace.types import Lens, Reading
from tests.reference_networks import stacked, view_of

N = 40
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (X[:, 0] + X[:, 1] > 0).long()


def bce(outputs: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), y.to(outputs))


def one_logit(seed: int) -> nn.Module:
    """A network of one logit, a little trained."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        bce(model(X), Y).backward()
        optimizer.step()
    return model


MODELS = [one_logit(seed) for seed in range(3)]


def error(model: nn.Module) -> float:
    wrong: Tensor = (model(X)[:, 0] > 0).long() != Y
    return wrong.double().mean().item()


def between(a: nn.Module, b: nn.Module, share: float) -> nn.Module:
    made = one_logit(0)
    ends = zip(a.parameters(), b.parameters(), strict=True)
    with torch.no_grad():
        for value, (low, high) in zip(made.parameters(), ends, strict=True):
            value.copy_((1 - share) * low + share * high)
    return made


def read(lens: Lens, view: NetworkView) -> dict[str, Reading]:
    return {name: of[""] for name, of in lens(view, view._probe).items() if "" in of}


def test_error_barriers_of_networks_of_one_logit() -> None:
    view = view_of(*MODELS, probe=Probe(X, Y), loss=bce)
    barriers = read(Connectivity(points=9), view)["error barrier"].value
    for at, barrier in enumerate(barriers.tolist()):
        ends = MODELS[at], MODELS[(at + 1) % 3]
        shares = [k / 8 for k in range(9)]
        errors = [error(between(*ends, share)) for share in shares]
        bumps = [
            e - ((1 - s) * errors[0] + s * errors[-1]) for e, s in zip(errors, shares, strict=True)
        ]
        assert barrier == pytest.approx(max(bumps))
    assert barriers.max() > 0.1


def test_twins_of_one_logit_disagree() -> None:
    twins = Twins(_Held([one_logit(seed) for seed in (7, 8, 9)]), torch.tensor([[0, 1]] * 3))
    untrained = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    models = [untrained, *MODELS[1:]]
    view = view_of(*models, probe=Probe(X, Y), loss=bce, data=Part(Probe(X, Y)), twins=twins)
    view.remember({"initial": view}.get)
    others = [one_logit(seed) for seed in (7, 8, 9)]
    wanted = [
        ((a(X) > 0) != (b(X) > 0)).double().mean().item()
        for a, b in zip(models, others, strict=True)
    ]
    assert read(Stability(), view)["twin disagreement"].value.tolist() == pytest.approx(wanted)
    assert wanted[0] > 0.1


class _Held:
    def __init__(self, models: list[nn.Module]) -> None:
        self._networks = stacked(models)

    def named_parameters(self) -> Any:
        return self._networks.parameters

    def named_buffers(self) -> Any:
        return self._networks.buffers


def test_noise_on_one_logit_costs_errors() -> None:
    view = view_of(MODELS[0], probe=Probe(X, Y), loss=bce, data=(X, Y), test=(X, Y))
    start = view_of(one_logit(5), probe=Probe(X, Y), loss=bce, data=(X, Y))
    view.remember({"initial": start}.get)
    sigma = read(Flatness(by="error", draws=40), view)["flatness by error"].value.item()
    generator = torch.Generator().manual_seed(3)
    rises = []
    for _ in range(400):
        noisy = between(MODELS[0], MODELS[0], 0)
        with torch.no_grad():
            for value in noisy.parameters():
                value.add_(sigma * torch.randn(value.shape, generator=generator).double())
        rises.append(error(noisy) - error(MODELS[0]))
    assert sum(rises) / len(rises) == pytest.approx(0.1, abs=0.04)
    gibbs = read(PACBayes(scales=(0.5,), draws=200), view)["Gibbs error"].value.item()
    assert 0.05 < gibbs < 0.5
    accuracy = read(Generalization(), view)["training accuracy"].value.item()
    assert accuracy == pytest.approx(1 - error(MODELS[0]))


@pytest.mark.parametrize(
    ("y", "loss", "threshold"),
    [
        (Y, bce, 0.0),
        (2 * Y - 1, "mse", 0.0),
        (Y, "mse", 0.5),
        (Y.double()[:, None], F.binary_cross_entropy_with_logits, 0.0),
        (2 * Y - 1, lambda outputs, y: (1 - outputs[:, 0] * y).relu().mean(), 0.0),
        (Y, lambda outputs, y: F.mse_loss(outputs[:, 0], 3.0 * y), 1.5),
    ],
    ids=["bce", "squares of -1/+1", "squares of 0/1", "a column", "hinge", "squares of 0/3"],
)
def test_one_output_is_the_label_that_would_cost_less(y: Any, loss: Any, threshold: float) -> None:
    view = view_of(MODELS[0], probe=Probe(X, y), loss=loss)
    wanted = (MODELS[0](X)[:, 0] > threshold).long()
    assert 0 < wanted.double().mean() < 1
    assert torch.equal(view.decisions[0], wanted)
    few = view.thinned(7)
    assert torch.equal(few.decisions[0], (few.outputs[0, :, 0] > threshold).long())


def test_one_output_without_two_classes_or_a_loss_decides_nothing() -> None:
    with pytest.raises(ConfigError, match="the loss is not known"):
        _ = view_of(MODELS[0], probe=Probe(X, Y), loss=None).decisions
    three = Probe(X, torch.arange(N) % 3)
    with pytest.raises(Unsupported, match="one output decides between two classes"):
        _ = view_of(MODELS[0], probe=three, loss="mse").decisions
    with pytest.raises(Unsupported, match="PACBayes takes networks that give a class"):
        PACBayes()(view_of(MODELS[0], probe=three, loss="mse", data=three), three)


def test_invariance_of_one_logit() -> None:
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4)
    probe = Probe(x, (x.sum(1) > 2).long())
    view = view_of(MODELS[1], probe=probe, loss=bce)
    lens = Invariance(permutations=[(1, 0, 2, 3)])
    decided = MODELS[1](x)[:, 0] > 0
    swapped = MODELS[1](x[:, [1, 0, 2, 3]])[:, 0] > 0
    wanted = (decided != swapped).double().mean().item() / 2  # half of the group is the identity
    assert read(lens, view)["disagreement within orbits"].value.item() == pytest.approx(wanted)


# --- labels that are not classes of the networks --------------------------------------------------


def three_logits() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


@pytest.mark.parametrize("labels", ["none", "several", "numbers"])
def test_what_is_of_labels_is_left_out_and_the_rest_is_read(labels: str) -> None:
    kinds = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    y = {"none": None, "several": kinds[torch.arange(N) % 3], "numbers": X[:, :1]}[labels]
    probe = Probe(X) if y is None else Probe(X, y)
    view = view_of(three_logits(), probe=probe, loss=None)
    view.remember({"initial": view}.get)
    norms, kernel, moves = (read(lens, view) for lens in (Norms(), NTK(), Sensitivity()))
    assert "path norm" in norms
    assert "median margin" not in norms
    assert kernel["NTK trace per logit"].value > 0
    assert not {"NTK label alignment", "linearised residual"} & {*kernel}
    assert moves["mean input Jacobian norm"].value > 0
    with pytest.raises(Unsupported, match=r"have no labels|need classes|one logit for each"):
        Modes()(view, probe)


def test_several_labels_a_sample_have_no_accuracy_even_where_their_kinds_are_few() -> None:
    kinds = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    data = X, kinds[torch.arange(N) % 3]

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, y.to(outputs))

    view = view_of(three_logits(), probe=Probe(*data), loss=loss, data=data, test=data)
    assert {*read(Generalization(), view)} == {"training loss", "test loss", "loss gap"}


@pytest.mark.parametrize("places", list(itertools.product((1, 2), (0, 1))), ids=str)
def test_the_twins_of_a_regression_have_no_disagreement(places: tuple[int, int]) -> None:
    outputs, control = places
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, outputs)).double() for _ in range(2)]
    probe = Probe(X, X[:, :outputs])
    twins = Twins(_Held([models[1], *[models[0]] * control]), torch.tensor([[0, 1]]), bool(control))
    view = view_of(models[0], probe=probe, loss="mse", data=Part(probe), twins=twins)
    view.remember({"initial": view}.get)
    readings = read(Stability(), view)
    assert "twin disagreement" not in readings
    assert readings["mean twin loss difference"].value > 0

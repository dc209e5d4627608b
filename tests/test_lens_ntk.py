"""NTK: reference networks, kernels in closed form, the linear model, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import NTK
from ibtrace.lenses.ntk import RESIDUAL, _held_against, _kernel
from ibtrace.numerics.tangent_kernel import linearised
from ibtrace.probe import Probe
from ibtrace.types import Reading
from tests.reference_networks import PROBE, Kind, network, view_of

REFERENCE = {
    "tanh": (38.21343602, 31.635161, 13.7043523, 5.118320773, 0.03772155826, 0.4582244489),
    "relu": (4.595530912, 4.235040598, 7.144825536, 3.736036071, 0.01320152256, 0.3185226262),
}
NAMES = (
    "NTK trace per logit",
    "NTK largest eigenvalue per sample",
    "NTK effective rank",
    "NTK participation ratio",
    "NTK label alignment",
    "NTK distance to the initial look",
)
ROWS = Probe(PROBE.x[::17], PROBE.labels[::17])
X = torch.arange(1.0, 31).double().square().sin().reshape(10, 3)


def read(view: NetworkView, lens: NTK | None = None, seed: int = 0) -> dict[str, Reading]:
    if view._past.at is None:
        view.remember(lambda when: view)
    return {name: of[""] for name, of in (lens or NTK())(view, view._probe, seed=seed).items()}


def view_on(
    model: nn.Module, x: Tensor = X, y: Tensor | None = None, dtype: torch.dtype = torch.float64
) -> NetworkView:
    y = torch.arange(len(x)) % 2 if y is None else y
    probe = Probe(x.to(dtype), y)
    return NetworkView(Stacked.of_module(model.to(dtype)), probe, Setting("cross_entropy"))


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_reference_networks_to_eight_digits(kind: Kind) -> None:
    view, other = (view_of(network(kind, w), probe=ROWS) for w in (torch.sin, torch.cos))
    view.remember(lambda when: other)
    readings = read(view)
    got = [readings[name].value.item() for name in NAMES]
    assert got == pytest.approx(REFERENCE[kind], rel=1e-8)
    assert readings["NTK velocity"].value.item() == pytest.approx(REFERENCE[kind][-1], rel=1e-8)
    assert readings[NAMES[0]].diagnostics["samples"].item() == 241


def test_a_softmax_is_left_out() -> None:
    inside = read(view_of(network("tanh", output="softmax"), probe=ROWS, loss="nll"))
    assert inside[NAMES[0]].value.item() == pytest.approx(REFERENCE["tanh"][0], rel=1e-8)


def test_a_linear_layer_and_two() -> None:
    one = _kernel(view_on(nn.Linear(3, 2, bias=False)))[0]
    torch.testing.assert_close(one, torch.kron(X @ X.mT, torch.eye(2).double()))
    first, second = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
    two = _kernel(view_on(nn.Sequential(first, second)))[0]
    hidden, w = X @ first.weight.detach().mT, second.weight.detach()
    wanted = torch.kron(X @ X.mT, w @ w.mT) + torch.kron(hidden @ hidden.mT, torch.eye(2).double())
    torch.testing.assert_close(two, wanted)


def test_a_wide_relu_layer_has_the_kernel_of_the_limit() -> None:
    width = 100_000
    draw = torch.Generator().manual_seed(0)
    first, last = nn.Linear(3, width, bias=False), nn.Linear(width, 1, bias=False)
    model = nn.Sequential(first, nn.ReLU(), last).double()
    with torch.no_grad():  # √(2/m) a·relu(Wx) with both layers' slopes scaled alike
        w = torch.randn(width, 3, generator=draw, dtype=torch.float64)
        a = torch.randn(1, width, generator=draw, dtype=torch.float64)
        first.weight.copy_(w)
        last.weight.copy_(a)
    x = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0]]).double()
    kernel = _kernel(view_on(model, x))[0] * 2 / width
    assert kernel[0].tolist() == pytest.approx([2, 1.100447], rel=0.03)


def prediction(view: NetworkView) -> tuple[float, float, float, float]:
    """The change that is predicted, the measured one, its error, and that of the difference."""
    readings = read(view)
    measured = readings["measured change of squared loss"]
    told = readings["linearised change of squared loss"].value.item()
    off = readings["measured less linearised change"]
    assert off.value.item() == pytest.approx(measured.value.item() - told, abs=1e-12)
    assert measured.stderr is not None
    assert off.stderr is not None
    return told, measured.value.item(), measured.stderr.item(), off.stderr.item()


def test_changes_of_the_squared_loss_are_those_of_descent_by_torch() -> None:
    model = network("tanh")
    view = view_on(model, ROWS.x, ROWS.labels)
    told, change, error, doubt = prediction(view)
    kernel = _kernel(view)[0]
    rate = torch.linalg.eigvalsh(kernel)[-1].reciprocal() * len(ROWS.x)  # half of 2n / λ_max
    target = nn.functional.one_hot(ROWS.labels, 2).double()

    def losses() -> Tensor:
        each: Tensor = 0.5 * (model(ROWS.x) - target).square().sum(1)
        return each

    before = losses().detach()
    start = (model(ROWS.x) - target).detach().flatten()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate.item())
    for _ in range(10):
        optimizer.zero_grad()
        losses().mean().backward()
        optimizer.step()
    each = losses().detach() - before
    assert change == pytest.approx(each.mean().item(), rel=1e-9)
    assert error == pytest.approx(each.std().item() / len(each) ** 0.5, rel=1e-9)
    linear = linearised(kernel, start, rate / len(ROWS.x), 10).view_as(target)
    predicted = 0.5 * linear.square().sum(1) - before
    assert told == pytest.approx(predicted.mean().item(), rel=1e-9)
    missed = each - predicted
    assert doubt == pytest.approx(missed.std().item() / len(each) ** 0.5, rel=1e-9)


def test_the_error_of_the_residual_is_its_spread_over_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    each = torch.randn(4000, 3, 50, 2, generator=draw, dtype=torch.float64) + 1
    start, linear, end = each.unbind(1)
    of_draws = _held_against(start, linear, end)[RESIDUAL]
    assert of_draws[1].mean().item() == pytest.approx(of_draws[0].std().item(), rel=0.05)
    same = _held_against(start, end, end)[RESIDUAL]
    assert [part.max().item() for part in same] == [0, 0]


def test_predictions_hold_where_training_is_lazy_and_fail_where_it_is_not() -> None:
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        view = view_on(nn.Linear(3, 2), dtype=dtype)
        exact, change, error, doubt = prediction(view)
        assert abs(exact - change) <= 1.96 * doubt
        assert doubt < 1e-5
        assert change < -error  # much happens, and all of it is predicted
    shares = []
    for width in (8, 4096):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
        told, change, _, _ = prediction(view_on(model))
        shares.append(abs(told / change - 1))
    assert shares[1] < shares[0] / 5
    told, change, _, doubt = prediction(view_of(network("tanh"), probe=ROWS))
    assert abs(told - change) > 1.96 * doubt


@pytest.mark.parametrize("steps", [1, 10, 40])
def test_a_linear_model_stays_linear(steps: int) -> None:
    readings = read(view_on(nn.Linear(3, 2)), NTK(steps=steps, rate=0.9))
    assert readings["linearised residual"].value.item() == pytest.approx(0, abs=1e-12)


def test_a_wide_network_is_lazier_than_a_narrow_one() -> None:
    residuals = []
    for width in (8, 2048):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
        residuals.append(read(view_on(model))["linearised residual"].value.item())
    assert residuals[1] < residuals[0] / 5


def test_linearised_descent_of_a_regression() -> None:
    y = torch.arange(1.0, 11).double().cos()
    errors = linearised(X @ X.mT, -y, torch.tensor(0.1 / 10).double(), 50)
    assert errors.square().mean().item() / 2 == pytest.approx(0.2178703479, rel=1e-9)


def test_the_residual_is_that_of_descent_by_torch() -> None:
    model = network("tanh")
    view = view_on(model, ROWS.x, ROWS.labels)
    kernel = _kernel(view)[0]
    rate = 0.5 * 2 / torch.linalg.eigvalsh(kernel)[-1] * len(ROWS.x)
    target = nn.functional.one_hot(ROWS.labels, 2).double()
    start = (model(ROWS.x) - target).detach().flatten()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate.item())
    wanted = read(view, NTK(steps=6))["linearised residual"].value.item()
    for _ in range(6):
        optimizer.zero_grad()
        (0.5 * (model(ROWS.x) - target).square().sum(1).mean()).backward()
        optimizer.step()
    true = (model(ROWS.x) - target).detach().flatten()
    linear = linearised(kernel, start, rate / len(ROWS.x), 6)
    assert wanted == pytest.approx(((linear - true).norm() / true.norm()).item(), rel=1e-9)


def test_samples_are_drawn_and_not_strided() -> None:
    view = view_of(network("tanh"))
    readings = read(view, NTK(samples=64))
    assert readings[NAMES[0]].diagnostics["samples"].item() == 64
    assert view.thinned(64).inputs[0].std(0).min() > 0.3  # every bit varies
    assert readings[NAMES[0]].value.item() == pytest.approx(38.2, rel=0.1)
    other = read(view, NTK(samples=64), seed=1)
    assert other[NAMES[0]].value != readings[NAMES[0]].value


@pytest.mark.parametrize("y", [X[:, :2], torch.arange(10), torch.linspace(0, 0.9, 10)])
def test_labels_that_are_no_classes_of_the_logits_have_no_alignment(y: Tensor) -> None:
    readings = read(view_on(nn.Linear(3, 2), X, y))
    assert not {"NTK label alignment", "linearised residual"} & {*readings}
    assert not any("change" in name for name in readings)
    assert len(readings) == 6


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(Unsupported, match="Jacobian of 200 logits in 800 parameters"):
        read(view_on(nn.Linear(3, 200)))
    wrong: list[dict[str, Any]] = [{"samples": 1}, {"steps": 0}, {"rate": 1.0}, {"rate": "half"}]
    for fields in wrong:
        with pytest.raises(ConfigError, match=f"NTK: {next(iter(fields))}"):
            NTK(**fields)

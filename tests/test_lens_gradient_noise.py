"""GradientNoise and OneStep: reference networks, a closed form, naive twins, what is not known."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Recipe
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import GradientNoise, OneStep
from ibtrace.lenses._noise import Noise
from ibtrace.probe import Probe
from ibtrace.types import Lens, Reading, View
from tests.reference_networks import PROBE, Kind, network, view_of

REFERENCE = {  # tr Σ, ‖g‖², tr Σ/‖g‖², tr(HΣ)/gᵀHg
    "tanh": (35.82581229, 0.6994603707**2, 73.22675999, 229.9108345),
    "relu": (3.560587872, 0.3512456201**2, 28.86023568, 18.11663526),
}
STEP = {  # η: predicted; measured and its error, 300 batches
    "tanh": {0.1: (-0.03472649801, -0.03405, 0.00100), 0.01: (-0.004750468272, -0.004693, 7e-5)},
    "relu": {0.1: (-0.01080595867, -0.00916, 0.00022), 0.01: (-0.001218420957, -0.001195, 3.4e-5)},
}


def read(lens: Lens, view: NetworkView, seed: int = 0) -> dict[str, dict[str, Reading]]:
    return {name: dict(of) for name, of in lens(view, view._probe, seed=seed).items()}


class Slope(nn.Module):
    """Outputs w x."""

    def __init__(self, w: float = 0.7) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.w


def slope_view(n: int = 8, model: nn.Module | None = None, **recipe: Any) -> NetworkView:
    model = model or Slope()
    k = torch.arange(1, n + 1, dtype=torch.float64)
    return NetworkView(
        Stacked.of_module(model),
        Probe(k.square().sin()[:, None], k.cos()[:, None]),
        Setting(lambda outputs, y: (outputs - y).square().mean() / 2, recipe=Recipe(**recipe)),
    )


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_reference_networks_to_nine_digits(kind: Kind) -> None:
    readings = read(GradientNoise(exact=500), view_of(network(kind)))
    variance, square, scale, bent = (
        readings[name][""]
        for name in (
            "gradient variance",
            "squared gradient norm",
            "gradient noise scale",
            "curvature noise scale",
        )
    )
    got = variance.value, square.value, scale.diagnostics["uncorrected"], bent.value
    assert [value.item() for value in got] == pytest.approx(REFERENCE[kind], rel=1e-8)
    assert bent.stderr.isnan()
    drawn = read(GradientNoise(draws=200), view_of(network(kind)))["curvature noise scale"][""]
    assert abs(drawn.value - REFERENCE[kind][3]) < 4 * drawn.stderr
    assert 0 < drawn.stderr < 0.3 * drawn.value


def test_a_closed_form_and_the_unbiased_square() -> None:
    readings = read(GradientNoise(), slope_view())
    assert readings["squared gradient norm"][""].value.item() == pytest.approx(0.5370612**2)
    assert readings["gradient variance"][""].value.item() == pytest.approx(0.4366686, abs=1e-7)
    scale = readings["gradient noise scale"][""]
    assert scale.value.item() == pytest.approx(1.867293, abs=1e-6)
    assert scale.diagnostics["uncorrected"].item() == pytest.approx(1.513925, abs=1e-6)
    bent = readings["curvature noise scale"][""]  # one weight: H cancels
    assert bent.value.item() == pytest.approx(1.513925, rel=1.0)
    exact = read(GradientNoise(exact=500), slope_view())["curvature noise scale"][""]
    assert exact.value.item() == pytest.approx(1.513925, abs=1e-6)


def test_modules_have_their_own_parts_by_a_naive_twin() -> None:
    model = network("tanh")
    x, y = PROBE.x[:40], PROBE.labels[:40]
    view = view_of(model, data=(x, y), batch_size=16)
    readings = read(GradientNoise(), view)
    each = []
    for row, label in zip(x, y, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(row[None]), label[None]).backward()
        # mypy: set by backward()
        each.append({n: p.grad.flatten().clone() for n, p in model.named_parameters()})  # type: ignore[union-attr]
    names = [*readings["gradient SNR"]]
    assert len(names) == 6
    for module in names:
        own = [n for n in each[0] if n.startswith(f"{module}.")]
        rows = torch.stack([torch.cat([one[n] for n in own]) for one in each])
        size = torch.cat([dict(model.named_parameters())[n].flatten() for n in own]).norm()
        mean, spread = rows.mean(0).norm(), rows.var(0).sum().sqrt()
        got = [
            readings[name][module].value.item()
            for name in ("gradient mean over weights", "gradient spread over weights")
        ]
        assert got == pytest.approx([(mean / size).item(), (spread / size).item()])
        snr = readings["gradient SNR"][module]
        assert snr.value.item() == pytest.approx((mean / (spread / 4)).item())
        assert snr.diagnostics["batch"].item() == 16
        assert not snr.flags["batch_unknown"].any()


def test_a_gradient_that_is_lost_in_noise_has_no_scale() -> None:
    x, y = torch.ones(4, 1).double(), torch.tensor([[0.5], [-0.5], [1.5], [-1.5]]).double()
    view = slope_view(model=Slope(0.0))
    view = NetworkView(view.networks, Probe(x, y), view._setting)
    readings = read(GradientNoise(), view)
    scale = readings["gradient noise scale"][""]
    assert scale.value.isnan()
    assert scale.flags["lost_in_noise"].all()
    mean = readings["gradient mean over weights"]["w"]
    assert mean.flags["no_weights"].all()
    assert readings["gradient SNR"]["w"].flags["batch_unknown"].all()


def test_too_many_parameters_are_refused_and_many_thinned() -> None:
    wide = nn.Linear(1, 40_000).double()
    with pytest.raises(Unsupported, match="network of 200002 parameters"):
        read(GradientNoise(), slope_view(200, nn.Linear(1, 100_001).double()))
    k = torch.arange(200.0).double()[:, None]
    view = NetworkView(
        Stacked.of_module(wide),
        Probe(k.sin(), torch.zeros(200)),
        Setting(lambda outputs, y: outputs.square().mean()),
    )
    known = read(GradientNoise(draws=2), view)["gradient variance"][""].diagnostics
    assert (known["samples"].item(), known["gradients"].item()) == (200, 62)


def noise_of(view: View, samples: int = 5000) -> Noise:
    return Noise.of(view, samples, 0, "a test")


def test_of_some_samples_the_noise_is_within_its_error_and_the_mean_that_of_all() -> None:
    model = network("tanh")
    data = PROBE.x[:400], PROBE.labels[:400]
    view = view_of(model, data=data, batch_size=16)
    for name, sizes in (("all", 5000), ("some", 80)):
        assert noise_of(view.training or view, sizes).whole is (name == "all")
    right = read(GradientNoise(exact=500), view)
    drawn = [read(GradientNoise(exact=exact, samples=80), view, seed=7) for exact in (500, 0)]
    for got in drawn:
        for name, wanted in right.items():
            for layer, reading in got[name].items():
                value, error = reading.value.item(), reading.stderr.item()
                if "mean" in name or name == "squared gradient norm":
                    assert value == pytest.approx(wanted[layer].value.item(), rel=1e-12)
                    continue
                assert wanted[layer].stderr.isnan()
                assert abs(value - wanted[layer].value.item()) < 4 * error < 4 * value
                assert reading.diagnostics["gradients"].item() == 80
                assert reading.diagnostics["samples"].item() == 400


def test_the_estimates_by_some_samples_are_unbiased_and_their_errors_honest() -> None:
    view = slope_view(40)
    whole = Noise.of(view, 40, 0, "a test")
    wanted = whole.averaged(whole.squares()["w"])[0], whole.bent(500, 2)[0]
    values = []
    for seed in range(200):
        some = Noise(view, view.thinned(10, seed), 39, seed)
        values.append(torch.stack([*some.averaged(some.squares()["w"]), *some.bent(0, 5)]))
    variance, doubt, bent, error = torch.stack(values)[..., 0].T
    for drawn, right, own in ((variance, wanted[0], doubt), (bent, wanted[1], error)):
        assert abs(drawn.mean() - right) < 4 * drawn.std() / 200**0.5
        assert 0.8 < own.square().mean().sqrt() / drawn.std() < 1.3


def test_a_step_is_of_the_true_batch_where_only_some_gradients_are_held() -> None:
    model = network("tanh")
    view = view_of(model, data=(PROBE.x[:400], PROBE.labels[:400]), batch_size=128)
    right, some = (read(OneStep(lr=0.1, samples=n), view) for n in (5000, 64))
    for name in ("predicted loss change", "measured loss change"):
        reading = some[name][""]
        assert reading.diagnostics["batch"].item() == 128
        assert reading.stderr.item() > 0
        assert reading.diagnostics["gradients"].item() == 64
    predicted, measured = (some[n][""] for n in ("predicted loss change", "measured loss change"))
    assert measured.value.item() == right["measured loss change"][""].value.item()
    off = abs(predicted.value - right["predicted loss change"][""].value)
    assert off.item() < 4 * predicted.stderr.item()


# --- one step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tanh", "relu"])
@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_one_step_of_the_reference_networks(kind: Kind, rate: float) -> None:
    predicted, measured, error = STEP[kind][rate]
    view = view_of(network(kind), batch_size=64)
    readings = {n: of[""] for n, of in read(OneStep(lr=rate, batches=100), view).items()}
    assert readings["predicted loss change"].value.item() == pytest.approx(predicted, rel=1e-8)
    got = readings["measured loss change"]
    assert got.stderr.item() == pytest.approx(error * 3**0.5, rel=0.5)
    assert abs(got.value.item() - measured) < 4 * (error**2 + got.stderr.item() ** 2) ** 0.5
    residual = readings["loss change residual"]
    assert residual.value.item() == pytest.approx(got.value.item() - predicted)
    assert residual.stderr.item() == got.stderr.item()
    for name, flag in (("on_probe", True), ("other_optimizer", False), ("batch_unknown", False)):
        assert got.flags[name].all().item() is flag


def test_a_quadratic_loss_is_predicted_to_the_end() -> None:
    model = Slope()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    view = slope_view(model=model, optimizer=optimizer, batch_size=8)
    readings = {n: of[""] for n, of in read(OneStep(), view).items()}
    assert readings["loss change residual"].value.item() == pytest.approx(0, abs=1e-15)
    assert readings["measured loss change"].stderr.item() == 0
    assert 0 < readings["predicted loss change"].stderr.item() < 1e-14  # rounding
    view = slope_view(model=model, optimizer=optimizer, batch_size=3)
    x, t = view.inputs[0, :, 0], view.labels[0, :, 0]
    gradients = (0.7 * x - t) * x

    def loss(w: Tensor | float) -> Tensor:
        return ((w * x - t) ** 2).mean() / 2

    changes = [
        loss(0.7 - 0.5 * gradients[[*rows]].mean()) - loss(0.7)
        for rows in itertools.combinations(range(8), 3)
    ]
    readings = {n: of[""] for n, of in read(OneStep(batches=400), view).items()}
    mean = torch.stack(changes).mean().item()
    assert readings["predicted loss change"].value.item() == pytest.approx(mean, rel=1e-12)
    residual = readings["loss change residual"]
    assert abs(residual.value) < 4 * residual.stderr


@pytest.mark.parametrize("batch", [40, None])
@pytest.mark.parametrize("rate", [0.001, 0.2])
def test_a_full_batch_is_off_by_the_third_order_and_the_prediction_says_so(
    batch: int | None, rate: float
) -> None:
    model = network("tanh")
    data = PROBE.x[:40], PROBE.labels[:40]
    view = view_of(model, data=data, batch_size=batch)
    readings = {n: of[""] for n, of in read(OneStep(lr=rate), view).items()}
    residual = readings["loss change residual"]
    assert readings["measured loss change"].stderr.item() == 0
    assert residual.stderr.item() == readings["predicted loss change"].stderr.item()
    names, own = zip(*model.named_parameters(), strict=True)

    def loss(step: Tensor) -> Tensor:
        moved = {n: p - step * g for n, p, g in zip(names, own, slopes, strict=True)}
        outputs = torch.func.functional_call(model, moved, (data[0],))
        return nn.functional.cross_entropy(outputs, data[1])

    slopes = torch.autograd.grad(nn.functional.cross_entropy(model(data[0]), data[1]), own)
    slopes = tuple(slope.detach() for slope in slopes)
    third = torch.func.grad(torch.func.grad(torch.func.grad(loss)))(torch.tensor(0.0).double())
    wanted = abs(third.item()) * rate**3 / 6
    assert residual.stderr.item() == pytest.approx(wanted, rel=0.05 if rate < 0.1 else 0.9)
    assert 0 < abs(residual.value.item()) < 1.96 * residual.stderr.item()


def test_a_step_far_beyond_the_expansion_is_outside_its_error() -> None:
    model = network("tanh")
    view = view_of(model, data=(PROBE.x[:40], PROBE.labels[:40]), batch_size=40)
    residual = read(OneStep(lr=20.0), view)["loss change residual"][""]
    assert abs(residual.value.item()) > 1.96 * residual.stderr.item()


def test_the_error_of_a_drawn_trace_is_that_of_its_share() -> None:
    view = view_of(network("tanh"), data=(PROBE.x[:40], PROBE.labels[:40]), batch_size=8)
    reading = read(OneStep(lr=0.1, exact=0, draws=5), view)["predicted loss change"][""]
    _, error = noise_of(view.training or view).bent(0, 5)
    share = 0.1**2 / 2 * (1 / 8 - 1 / 40)
    assert reading.stderr.item() == pytest.approx(share * error.item(), rel=1e-9)


def test_combinations_of_samples_have_the_covariance_of_few_samples_too() -> None:
    view = slope_view(2)
    exact, _ = noise_of(view).bent(500, 2)
    drawn, error = noise_of(view).bent(0, 400)
    assert abs(drawn.item() - exact.item()) < 4 * error.item() < 0.3 * exact.item()


def test_a_step_that_the_training_does_not_make_is_flagged() -> None:
    model = Slope()
    settings: list[tuple[Any, dict[str, Any], bool]] = [
        (torch.optim.SGD, {}, False),
        (torch.optim.SGD, {"momentum": 0.9}, True),
        (torch.optim.SGD, {"weight_decay": 0.1}, True),
        (torch.optim.SGD, {"maximize": True}, True),
        (torch.optim.Adam, {}, True),
    ]
    for kind, fields, flagged in settings:
        optimizer = kind(model.parameters(), lr=0.5, **fields)
        reading = read(OneStep(), slope_view(model=model, optimizer=optimizer))
        change = reading["measured loss change"][""]
        assert change.flags["other_optimizer"].all().item() is flagged
        assert change.flags["batch_unknown"].all()
        assert change.diagnostics["lr"].item() == 0.5


def test_an_optimiser_of_some_parameters_is_another() -> None:
    model = network("tanh")
    optimizer = torch.optim.SGD([next(model.parameters())], lr=0.1)
    view = view_of(model, data=(PROBE.x[:50], PROBE.labels[:50]), optimizer=optimizer)
    view.networks = Stacked.of_module(model)
    assert read(OneStep(), view)["measured loss change"][""].flags["other_optimizer"].all()


def test_frozen_parameters_that_the_optimiser_holds_are_no_other_step() -> None:
    model = network("tanh")
    next(model.parameters()).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    view = view_of(model, data=(PROBE.x[:50], PROBE.labels[:50]), optimizer=optimizer)
    view.networks = Stacked.of_module(model)
    assert not read(OneStep(), view)["measured loss change"][""].flags["other_optimizer"].any()
    model.requires_grad_(False)
    next(model.parameters()).requires_grad_(True)
    held = torch.optim.SGD([*model.parameters()][1:], lr=0.1)
    view = view_of(model, data=(PROBE.x[:50], PROBE.labels[:50]), optimizer=held)
    view.networks = Stacked.of_module(model)
    with pytest.raises(Unsupported, match="trains no parameter of the network"):
        read(OneStep(), view)


def test_without_a_learning_rate_there_is_no_step() -> None:
    with pytest.raises(Unsupported, match=r"give OneStep\(lr=…\)"):
        read(OneStep(), slope_view())
    for lr in (0, -1.0, True, "fast", torch.ones(2), float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="OneStep: lr must be a number above 0"):
            OneStep(lr=lr)  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="GradientNoise: draws"):
        GradientNoise(draws=1)

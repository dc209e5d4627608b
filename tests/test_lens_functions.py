"""Lenses of what a network computes, held to reference values, closed forms and naive twins."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Recipe
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import (
    Balance,
    EffectiveDimension,
    FeatureAlignment,
    Generalization,
    Modes,
    Norms,
    Sensitivity,
)
from ibtrace.numerics.walsh import degrees, patterns, walsh
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from ibtrace.types import Lens, Reading
from tests.reference_networks import PROBE, Kind, after_descent, network, view_of

KINDS: list[Kind] = ["tanh", "relu"]
Read = Mapping[str, Mapping[str, Reading]]


def read(lens: Lens, kind: Kind, model: nn.Module | None = None) -> Read:
    view = view_of(network(kind) if model is None else model)
    view.remember({"initial": view_of(network(kind, torch.cos))}.get)
    return lens(view, PROBE)


def initially_itself(model: nn.Module, probe: Probe, **fields: Any) -> NetworkView:
    view = view_of(model, probe=probe, **fields)
    view.remember({"initial": view}.get)
    return view


def layers(readings: Mapping[str, Reading]) -> list[float]:
    return [float(reading.value) for reading in readings.values()]


# --- functions of bits ----------------------------------------------------------------------------


def test_walsh_is_its_own_naive_sum() -> None:
    d = 5
    f = torch.randn(3, 2**d, generator=torch.Generator().manual_seed(0)).double()
    bits = torch.stack([(torch.arange(2**d) >> bit) & 1 for bit in range(d)], 1)
    coefficients = walsh(f)
    for size in range(d + 1):
        for chosen in combinations(range(d), size):
            parity = 1.0 - 2.0 * (bits[:, list(chosen)].sum(1) % 2)
            place = sum(2**bit for bit in chosen)
            torch.testing.assert_close(coefficients[:, place], (f * parity).mean(1))
            assert degrees(d)[place] == size
    energy = coefficients.square().sum(1)
    torch.testing.assert_close(energy, f.square().mean(1))  # Parseval


def test_patterns_are_found_in_any_order_and_not_where_one_is_missing() -> None:
    bits = PROBE.x[torch.randperm(4096, generator=torch.Generator().manual_seed(0))]
    order = patterns(bits)
    assert order is not None
    codes = (bits[order] * 2.0 ** torch.arange(12)).sum(1)
    assert torch.equal(codes, torch.arange(4096.0).double())
    assert patterns(bits[:-1]) is None
    assert patterns(torch.cat([bits[:-1], bits[:1]])) is None


ENERGY = [  # of the label's degrees 1 … 12
    *(0.558941, 0.094271, 0.072384, 0.064673, 0.045250, 0.081142),
    *(0.031700, 0.035377, 0.006161, 0.006380, 0.001385, 0.001168),
]
LEARNED = {
    "tanh": [0.87383803, 0.28589099, 0.75402198, 0.14809208, 0.36335564, 0.05991874],
    "relu": [0.31722677, 0.16616175, 0.11148514, 0.03264505, 0.03397200, 0.00830694],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_degrees_that_are_learned_after_200_steps(kind: Kind) -> None:
    readings = read(Modes(12), kind, after_descent(kind))
    of_modes = [readings[f"learned share of mode {k}"][""] for k in range(1, 13)]
    assert [float(one.value) for one in of_modes[:6]] == pytest.approx(LEARNED[kind], rel=1e-6)
    assert [float(one.diagnostics["energy"]) for one in of_modes] == pytest.approx(ENERGY, abs=1e-6)
    known = [energy >= 0.01 for energy in ENERGY]
    assert [bool(one.value.isfinite()) for one in of_modes] == known
    assert [not bool(one.flags["no_mode"]) for one in of_modes] == known
    mean = readings["mean degree of the output"][""]
    assert float(mean.value) == pytest.approx({"tanh": 1.67944252, "relu": 1.800023854}[kind])
    assert float(mean.diagnostics["label"]) == pytest.approx(2.58984375)


def test_what_is_the_label_has_learned_all_of_it() -> None:
    x = PROBE.x[:64, 6:]
    y = (x.sum(1) > 3).long()

    class Right(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(80.0))

        def forward(self, x: Tensor) -> Tensor:
            side = (x.sum(1) - 3.5).sign() * self.scale
            return torch.stack([-side, side], 1)

    view = view_of(Right().double(), probe=Probe(x, y))
    readings = Modes(6)(view, Probe(x, y))
    # mypy: the mapping is a dict
    assert float(readings.pop("mean degree of the output")[""].value) > 1  # type: ignore[attr-defined]
    for reading in readings.values():
        value, missing = reading[""].value, reading[""].flags["no_mode"]
        assert bool(missing) or float(value) == pytest.approx(1.0)


def test_a_label_that_is_not_linear_has_no_singular_mode() -> None:
    r = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mirror = torch.tensor([1.0, -1.0]).double()
    x = torch.cat([r, -r, r * mirror, -r * mirror]) + 0.3  # exclusive or of the signs
    order = torch.randperm(28, generator=torch.Generator().manual_seed(1))  # sums are rounded
    x, y = x[order], (torch.arange(28) // 14)[order]
    model = nn.Linear(2, 2).double()
    readings = Modes()(view_of(model, probe=Probe(x, y)), Probe(x, y))
    for reading in readings.values():
        assert bool(reading[""].flags["no_mode"])
        assert bool(reading[""].value.isnan())


def test_more_modes_than_inputs_and_wrong_fields() -> None:
    with pytest.raises(ConfigError, match="Modes: modes"):
        Modes(0)
    with pytest.raises(ConfigError, match="Modes: of must be one of"):
        Modes(of="logits")  # type: ignore[arg-type]  # refused
    assert Modes(2).tags.quantities[1].name == "learned share of mode 2"
    assert len(Modes(2).tags.quantities) == 3


def test_singular_modes_of_a_linear_network_that_has_learned_one() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 4, generator=generator).double()
    y = (x[:, 0] > 0).long()
    model = nn.Linear(4, 2).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    nothing = Modes()(view_of(model, probe=Probe(x, y)), Probe(x, y))
    assert float(nothing["learned share of mode 1"][""].value) == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        model.weight[:, 0] = torch.tensor([-100.0, 100.0])
    learned = Modes()(view_of(model, probe=Probe(x, y)), Probe(x, y))
    assert float(learned["learned share of mode 1"][""].value) == pytest.approx(1, abs=1e-2)
    assert bool(learned["learned share of mode 3"][""].flags["no_mode"])


def test_modes_of_outputs_are_those_of_what_squares_are_taken_of() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator).double()
    y = torch.arange(60) % 3
    x = torch.linalg.qr(x - x.mean(0)).Q * 60**0.5  # white
    onehot = nn.functional.one_hot(y, 3).double()
    left, values, right = torch.linalg.svd((onehot - onehot.mean(0)).T @ x / 60)
    learned = torch.tensor([0.7, 0.2, 0.0])
    model = nn.Linear(5, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(left @ (values * learned).diag() @ right[:3])
    readings = Modes(2, of="outputs")(view_of(model, probe=Probe(x, y)), Probe(x, y))
    for k in range(2):
        reading = readings[f"learned share of mode {k + 1}"][""]
        assert float(reading.value) == pytest.approx(float(learned[k]))
        assert float(reading.diagnostics["strength"]) == pytest.approx(float(values[k]))
    probabilities = Modes(2)(view_of(model, probe=Probe(x, y)), Probe(x, y))
    assert float(probabilities["learned share of mode 1"][""].value) != pytest.approx(0.7, abs=0.1)


def test_modes_of_outputs_on_bits() -> None:
    x = PROBE.x[:8, 9:]
    y = (x.sum(1) > 1.5).long()  # the majority of three bits: a half of degree 1, each

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor) -> Tensor:
            side = ((x.sum(1) > 1.5).double() * 2 - 1) * self.scale
            return torch.stack([(1 - side) / 2, (1 + side) / 2], 1)

    reading = Modes(1, of="outputs")(view_of(Half().double(), probe=Probe(x, y)), Probe(x, y))
    assert float(reading["learned share of mode 1"][""].value) == pytest.approx(0.5)


# --- sensitivity ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "jacobian", "influence"),
    [("tanh", 2.41382694, 2.106445312), ("relu", 0.2309256581, 0.0)],
)
def test_sensitivity(kind: Kind, jacobian: float, influence: float) -> None:
    readings = read(Sensitivity(), kind)
    assert float(readings["mean input Jacobian norm"][""].value) == pytest.approx(jacobian)
    got = float(readings["total influence of the bits"][""].value)
    assert got == pytest.approx(influence, rel=1e-8, abs=1e-12)
    known = readings["total influence of the bits"][""].diagnostics
    assert float(known["label"]) == pytest.approx(2.58984375)
    probability = {"tanh": 0.4871222103, "relu": 0.006185861384}[kind]
    assert float(known["probability"]) == pytest.approx(probability)
    part = Probe(PROBE.x[:4000], PROBE.y[:4000])
    assert [*Sensitivity()(view_of(network(kind), probe=part), part)] == [
        "mean input Jacobian norm"
    ]


# --- weights --------------------------------------------------------------------------------------

ALIGNED = {
    "tanh": [0.45205867, 0.40116157, 0.48577715, 0.76883335, 0.75066059, 0.93165735],
    "relu": [0.78333875, 0.85321019, 0.78394523, 0.68496076, 0.60842015, 0.93165735],
}
BALANCE = [0.61475639, 0.71001313, 0.66909564, 0.50964083, 0.93919974]
SPECTRAL = [1.945495273, 1.917417624, 1.969352131, 1.934948677, 1.811314023, 1.569662280]


@pytest.mark.parametrize("kind", KINDS)
def test_feature_alignment(kind: Kind) -> None:
    readings = read(FeatureAlignment(), kind)["feature alignment"]
    assert list(readings) == [f"fc{at}" for at in range(1, 7)]
    assert layers(readings) == pytest.approx(ALIGNED[kind], abs=1e-8)


@pytest.mark.parametrize("outputs", [1, 2])
def test_what_is_no_logit_is_aligned_as_it_is(outputs: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 3).double()
    y = x[:, :outputs]
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).double()
    probe = Probe(x, y)
    readings = FeatureAlignment()(view_of(model, probe=probe, loss="mse"), probe)
    slopes = torch.stack([torch.func.jacrev(model)(row) for row in x]).detach()  # (30, k, 3)
    outer = torch.einsum("nki,nkj->ij", slopes, slopes)
    weight = next(model.parameters()).detach()
    gram = weight.T @ weight
    wanted = (gram * outer).sum() / gram.norm() / outer.norm()
    of_layers = readings["feature alignment"]
    assert float(of_layers["0"].value) == pytest.approx(float(wanted))
    assert float(of_layers["2"].value) == pytest.approx(1)  # its gradients are its weights


def test_the_balance_of_frozen_weights_is_not_conserved() -> None:
    model = network("relu")
    model.get_parameter("fc3.weight").requires_grad_(False)
    readings = Balance()(initially_itself(model, PROBE), PROBE)["mean |balance|"]
    frozen = {name: bool(one.flags["not_conserved"]) for name, one in readings.items()}
    assert frozen == {"fc1": False, "fc2": True, "fc3": True, "fc4": False, "fc5": False}


@pytest.mark.parametrize("kind", KINDS)
def test_balance_and_its_drift(kind: Kind) -> None:
    readings = read(Balance(), kind)
    assert layers(readings["mean |balance|"]) == pytest.approx(BALANCE, abs=1e-8)
    flags = {bool(r.flags["not_conserved"]) for r in readings["mean |balance|"].values()}
    assert flags == {kind == "tanh"}
    assert min(layers(readings["mean drift of the balance"])) > 0


def test_the_balance_stands_still_under_small_steps_of_descent_in_relu() -> None:
    def drift(kind: Kind) -> float:
        view = view_of(after_descent(kind, steps=100, lr=1e-3))
        view.remember({"initial": view_of(network(kind))}.get)
        return max(layers(Balance()(view, PROBE)["mean drift of the balance"]))

    assert drift("relu") < 1e-4
    assert drift("tanh") > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_norms(kind: Kind) -> None:
    readings = read(Norms(), kind)
    one = {name: float(of[""].value) for name, of in readings.items() if "" in of}
    assert layers(readings["spectral norm"]) == pytest.approx(SPECTRAL, rel=1e-8)
    assert one["product of Frobenius norms"] == pytest.approx(677.7134906)
    assert sum(layers(readings["stable rank"])) == pytest.approx(17.00443404)
    frobenius = [
        value**0.5 * norm
        for value, norm in zip(layers(readings["stable rank"]), SPECTRAL, strict=True)
    ]
    assert layers(readings["Frobenius norm"]) == pytest.approx(frobenius)
    assert not any(bool(flag) for flag in readings["spectral complexity"][""].flags.values())
    zero = read(Norms(origin="zero"), kind)["spectral complexity"][""]
    assert float(zero.value) == pytest.approx(2168.222846)
    assert one["product of spectral norms"] == pytest.approx(40.41473113)
    assert one["spectral complexity"] == pytest.approx(3089.406293)
    assert one["path norm"] == pytest.approx(10.79523827)
    assert one["weight norm"] == pytest.approx(7.840280805)
    assert one["distance from the initial weights"] == pytest.approx(11.23098795)
    low = {"tanh": -2.057987589, "relu": -0.4316643916}[kind]
    assert one["10 % margin"] == pytest.approx(low)
    logits = view_of(network(kind)).logits[0].detach().numpy()
    own = logits[np.arange(len(logits)), PROBE.y.numpy()]
    margins = 2 * own - logits.sum(1)
    for share, name in ((50, "median"), (1, "1 %")):
        assert one[f"{name} margin"] == pytest.approx(float(np.percentile(margins, share)))


def test_norms_after_200_steps() -> None:
    for kind, complexity, path, low in (
        ("tanh", 378.8756752, 12.45402094, -0.150844266),
        ("relu", 141.5080422, 11.86528619, -0.5253512283),
    ):
        view = view_of(after_descent(kind))  # type: ignore[arg-type]  # a text of a parameter
        # mypy: a text of a parameter
        view.remember({"initial": view_of(network(kind))}.get)  # type: ignore[arg-type]
        readings = Norms()(view, PROBE)
        assert float(readings["spectral complexity"][""].value) == pytest.approx(complexity)
        assert float(readings["path norm"][""].value) == pytest.approx(path)
        assert float(readings["10 % margin"][""].value) == pytest.approx(low)


CHAINED = (
    *("product of spectral norms", "product of Frobenius norms", "spectral complexity"),
    *("margin-normalised complexity", "path norm"),
)


def test_a_convolution_has_the_norms_of_its_kernel_and_they_are_flagged() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2)
    model = nn.Sequential(conv, norm, nn.Flatten(), nn.Linear(20, 2)).double()
    probe = Probe(torch.randn(10, 1, 12).double(), torch.arange(10) % 2)
    readings = Norms()(initially_itself(model, probe), probe)
    kernel = readings["spectral norm"]["0"]
    wanted = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)
    assert float(kernel.value) == pytest.approx(float(wanted))
    flags = {n: bool(r.flags["reshaped_kernel"]) for n, r in readings["stable rank"].items()}
    assert flags == {"0": True, "3": False}
    for name in CHAINED:
        assert bool(readings[name][""].value.isnan()), name
        assert bool(readings[name][""].flags["no_linear_chain"]), name
    size = nn.utils.parameters_to_vector(model.parameters()).norm().item()
    assert float(readings["weight norm"][""].value) == pytest.approx(size)
    assert bool(readings["median margin"][""].value.isfinite())


def test_what_is_no_chain_and_has_no_classes_has_the_norm_of_all_weights() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.inner(x)
            return out

    x = torch.randn(10, 3).double()
    readings = Norms()(initially_itself(Residual().double(), Probe(x, x), loss="mse"), Probe(x, x))
    assert bool(readings["weight norm"][""].value > 0)
    assert float(readings["distance from the initial weights"][""].value) == 0
    assert "median margin" not in readings
    assert bool(readings["path norm"][""].flags["no_linear_chain"])


@pytest.mark.parametrize(
    ("activation", "other"),
    [
        *((nn.Sigmoid(), True), (nn.GELU(), True), (nn.ReLU(), False), (nn.Tanh(), False)),
        *(
            (nn.SELU(), True),
            (nn.Dropout(), False),
            (nn.LayerNorm(4, elementwise_affine=False), True),
        ),
        *((nn.ELU(), False), (nn.ELU(alpha=3.0), True), (nn.CELU(alpha=3.0), False)),
        *((nn.LeakyReLU(), False), (nn.LeakyReLU(2.0), True), (nn.LeakyReLU(-2.0), True)),
        *((nn.Hardtanh(), False), (nn.Hardtanh(0.5, 3.0), True), (nn.ReLU6(), False)),
        *((nn.Softshrink(), False), (nn.Hardshrink(), True)),
    ],
    ids=str,
)
def test_the_activations_of_a_spectral_bound_are_contractions(
    activation: nn.Module, other: bool
) -> None:
    model = nn.Sequential(nn.Linear(12, 4), activation, nn.Linear(4, 2), nn.Softmax(1)).double()
    readings = Norms()(initially_itself(model, PROBE), PROBE)
    assert bool(readings["spectral complexity"][""].flags["other_activation"]) == other
    assert bool(readings["margin-normalised complexity"][""].flags["other_activation"]) == other


def test_the_path_norm_of_tanh_is_that_of_its_paths() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 2))
    with torch.no_grad():
        for value, of in zip(model.parameters(), (3, 0, -2, 0, 5, 0), strict=True):
            value.fill_(of)
    x = torch.arange(4.0).double()[:, None]
    probe = Probe(x, torch.arange(4) % 2)
    readings = Norms()(initially_itself(model.double(), probe), probe)
    assert float(readings["path norm"][""].value) == pytest.approx(30 * 2**0.5)


def test_a_network_that_is_one_layer_is_read_under_its_weight() -> None:
    model = nn.Linear(12, 2).double()
    with Tracer(
        model,
        PROBE,
        estimators="exact",
        lenses=[Norms(), FeatureAlignment()],
        loss="cross_entropy",
        recipe=Recipe(PROBE),
    ) as tracer:
        pass
    frame = tracer.trace.readings().set_index(["quantity", "layer"])["value"]
    norm = torch.linalg.matrix_norm(model.weight.detach(), 2).item()
    assert frame["spectral norm", "weight"] == pytest.approx(norm)
    assert frame["product of spectral norms", ""] == pytest.approx(norm)
    assert 0 < frame["feature alignment", "weight"] <= 1


def test_frozen_layers_of_a_chain_are_read_with_the_others() -> None:
    model = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    first = model[0]
    assert isinstance(first, nn.Linear)
    first.requires_grad_(False)
    lenses: list[Lens] = [Norms(), Balance(), Generalization()]
    recipe = Recipe(PROBE, PROBE)
    with Tracer(
        model, PROBE, estimators="exact", lenses=lenses, loss="cross_entropy", recipe=recipe
    ) as tracer:
        pass
    frame = tracer.trace.readings().set_index(["quantity", "layer"])["value"]
    norm = torch.linalg.matrix_norm(first.weight.detach(), 2).item()
    assert frame["spectral norm", "0"] == pytest.approx(norm)
    assert frame["mean |balance|", "0"] > 0
    model.requires_grad_(False)
    view = view_of(model, data=PROBE, test=PROBE)
    loss = nn.functional.cross_entropy(model(PROBE.x), PROBE.labels).item()
    read = Generalization()(view, PROBE)
    assert read["training loss"][""].value.item() == pytest.approx(loss)


def test_feature_alignment_of_a_layer_that_is_called_twice_is_of_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def after(self, hidden: Tensor) -> Tensor:
            out: Tensor = self.head(torch.tanh(self.inner(hidden)))
            return out

        def forward(self, x: Tensor) -> Tensor:
            return self.after(torch.tanh(self.inner(x)))

    torch.manual_seed(0)
    model, x = Twice().double(), torch.randn(20, 4).double()
    probe = Probe(x, torch.arange(20) % 3)
    hidden = torch.tanh(model.inner(x)).detach()
    outer = torch.zeros(4, 4).double()
    for function, given in ((model, x), (model.after, hidden)):
        slopes = torch.stack([torch.func.jacrev(function)(row) for row in given]).detach()
        centred = slopes - slopes.mean(1, keepdim=True)
        outer += torch.einsum("nki,nkj->ij", centred, centred)
    gram = model.inner.weight.detach().T @ model.inner.weight.detach()
    wanted = (gram * outer).sum() / gram.norm() / outer.norm()
    read = FeatureAlignment()(view_of(model, probe=probe), probe)["feature alignment"]
    assert float(read["inner"].value) == pytest.approx(float(wanted))


def test_wrong_origin() -> None:
    with pytest.raises(ConfigError, match="origin must be 'initial' or 'zero'"):
        Norms(origin="one")  # type: ignore[arg-type]  # refused


# --- effective dimension --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("tanh", {1.0: 8.055435, 0.1: 26.982709, 0.01: 72.988447}),
        ("relu", {1.0: 1.867423, 0.1: 8.340123, 0.01: 30.770218}),
    ],
)
def test_effective_dimension(kind: Kind, wanted: dict[float, float]) -> None:
    for z, count in wanted.items():
        got = read(EffectiveDimension(z), kind)["effective dimension"][""]
        assert float(got.value) == pytest.approx(count, rel=1e-6)
        assert bool(got.flags["on_probe"])


@pytest.mark.parametrize("kind", KINDS)
def test_effective_dimension_of_the_hessian_counts_what_curves_upwards(kind: Kind) -> None:
    view = view_of(network(kind))
    values = torch.linalg.eigvalsh(view.hessian[0])
    lens = EffectiveDimension(0.1, of="hessian")
    got = lens(view, PROBE)["effective dimension of the Hessian"][""]
    up = values[values > 0]
    assert float(got.value) == pytest.approx(float((up / (up + 0.1)).sum()))
    assert int(got.diagnostics["negative"]) == int((values < 0).sum()) > 50


def test_of_a_linear_network_both_matrices_are_one() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=draw, dtype=torch.float64)
    probe = Probe(x, torch.arange(40) % 3)
    torch.manual_seed(0)
    view = view_of(nn.Linear(3, 3).double(), probe=probe, data=(x, torch.arange(40) % 3))
    values = torch.linalg.eigvalsh(view.hessian[0])
    z = float(torch.tensor(40.0).log() / 40)
    for of in ("gauss_newton", "hessian"):
        (readings,) = EffectiveDimension(of=of)(view, probe).values()
        reading = readings[""]
        assert float(reading.value) == pytest.approx(float((values / (values + z)).sum()))
        assert float(reading.diagnostics["z"]) == pytest.approx(z)
        assert not any(bool(flag) for flag in reading.flags.values())


def test_effective_dimension_is_of_the_cross_entropy_and_z_of_all_samples() -> None:
    view = view_of(network("tanh"), loss=nn.functional.cross_entropy)
    reading = EffectiveDimension(samples=500)(view, PROBE)["effective dimension"][""]
    assert bool(reading.flags["other_loss"])
    assert int(reading.diagnostics["samples"]) == 500
    wanted = float(torch.tensor(4096.0).log() / 4096)
    assert float(reading.diagnostics["z"]) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"z": 0}, "z must be above 0"),
        ({"z": float("nan")}, "z must be above 0"),
        ({"of": "fisher"}, "of must be 'gauss_newton' or 'hessian'"),
        ({"samples": 1}, "EffectiveDimension: samples"),
    ],
)
def test_wrong_fields_of_the_effective_dimension(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EffectiveDimension(**fields)


# --- generalisation -------------------------------------------------------------------------------


def test_generalization_is_that_of_its_own_samples() -> None:
    model = network("tanh")
    data, test = (PROBE.x[:1000], PROBE.y[:1000]), (PROBE.x[1000:], PROBE.y[1000:])
    readings = Generalization()(view_of(model, data=data, test=test), PROBE)
    with torch.no_grad():
        each = nn.functional.cross_entropy(model(PROBE.x), PROBE.labels, reduction="none")
        right = (model(PROBE.x).argmax(1) == PROBE.labels).double()
    wanted = {
        "training loss": each[:1000].mean(),
        "test loss": each[1000:].mean(),
        "training accuracy": right[:1000].mean(),
        "test accuracy": right[1000:].mean(),
        "loss gap": each[1000:].mean() - each[:1000].mean(),
        "accuracy gap": right[:1000].mean() - right[1000:].mean(),
    }
    for name, value in wanted.items():
        assert float(readings[name][""].value) == pytest.approx(float(value))
    error = (each[:1000].var() / 1000 + each[1000:].var() / 3096) ** 0.5
    assert float(readings["loss gap"][""].stderr) == pytest.approx(float(error))
    with pytest.raises(Unsupported, match=r"Recipe\(data, test\)"):
        Generalization()(view_of(model), PROBE)


def test_without_classes_there_are_losses_and_no_accuracies() -> None:
    x = torch.randn(20, 3).double()
    model = nn.Linear(3, 1).double()
    target = x.sum(1, keepdim=True)
    probe = Probe(x, target)
    view = view_of(
        model, probe=probe, loss="mse", data=(x[:15], target[:15]), test=(x[15:], target[15:])
    )
    readings = Generalization()(view, probe)
    assert {*readings} == {"training loss", "test loss", "loss gap"}
    assert int(readings["test loss"][""].diagnostics["samples"]) == 5


def test_a_network_whose_logits_overflow_has_no_accuracy() -> None:
    data = PROBE.x[:300], PROBE.y[:300]  # some of which overflow
    view = view_of(network("tanh"), data=data, test=data)
    large = {
        name: value * (1e308 if "fc6" in name else 1) for name, value in view.parameters.items()
    }
    for name, of in Generalization()(view.at(large), PROBE).items():
        assert not bool(of[""].value.isfinite()), name
        assert bool(of[""].flags["not_finite"]), name


LENSES: list[Lens] = [
    *(Generalization(), Modes(), Sensitivity(), Norms(), Norms("zero"), EffectiveDimension()),
    *(EffectiveDimension(of="hessian"), FeatureAlignment(), Balance()),
]


@pytest.mark.parametrize("lens", LENSES, ids=repr)
def test_a_seed_that_diverged_leaves_the_others_theirs(lens: Lens) -> None:
    data, test = (PROBE.x[:300], PROBE.y[:300]), (PROBE.x[300:500], PROBE.y[300:500])
    pair = [network("tanh"), network("tanh", torch.cos)]
    alone = view_of(pair[0], data=data, test=test)
    alone.remember({"initial": view_of(pair[1])}.get)
    two = view_of(*pair, data=data, test=test)
    lost = {name: value.clone() for name, value in two.parameters.items()}
    for value in lost.values():
        value[1] = torch.nan
    view = two.at(lost)
    view.remember({"initial": view_of(pair[1], pair[1])}.get)
    wanted = lens(alone, PROBE)
    for name, of_layers in lens(view, PROBE).items():
        for layer, reading in of_layers.items():
            same = float(wanted[name][layer].value)
            assert float(reading.value[0]) == pytest.approx(same, nan_ok=True), name
            assert bool(reading.value[1].isnan()), name
            assert any(bool(flag[1]) for flag in reading.flags.values()), name

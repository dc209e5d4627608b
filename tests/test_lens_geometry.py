"""Geometry: dimensions and likeness of layers, by closed forms and to ten digits."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError
from ibtrace.lenses import Geometry
from ibtrace.numerics.representations import effective_rank, linear_cka, spectrum
from ibtrace.tracer import Tracer
from ibtrace.types import Reading
from tests.layer_views import layer_view
from tests.reference_networks import PROBE, Kind, network, view_of

RATIO = {
    "tanh": (7.03530142, 4.56696741, 2.92604200, 2.37847577, 1.59362358),
    "relu": (4.28590624, 3.63898995, 2.50146166, 2.41562572, 1.65064034),
}
CKA = {
    "tanh": (0.28944557, 0.31127327, 0.08380445, 0.11411544, 0.07041486),
    "relu": (0.13911462, 0.09713838, 0.10273310, 0.05864084, 0.05783792),
}


def read(
    t: Tensor, initial: Tensor | None = None, previous: Tensor | None = None, **fields: int
) -> Mapping[str, Mapping[str, Reading]]:
    view = layer_view(t)
    past: dict[str, NetworkView] = {"initial": layer_view(t if initial is None else initial)}
    if previous is not None:
        past["previous"] = layer_view(previous)
    view.remember(past.get)
    return Geometry(**fields)(view, view._probe)


def of(readings: Mapping[str, Mapping[str, Reading]], quantity: str) -> list[float]:
    values: list[float] = readings[quantity]["t"].value.tolist()
    return values


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_reference_networks_to_eight_digits(kind: Kind) -> None:
    view = view_of(network(kind))
    view.remember({"initial": view_of(network(kind, torch.cos)), "previous": view}.get)
    readings = Geometry()(view, PROBE)
    layers = [f"hidden{at}" for at in range(1, 6)]

    def values(quantity: str) -> list[float]:
        return [readings[quantity][layer].value.item() for layer in layers]

    assert values("participation ratio") == pytest.approx(RATIO[kind], rel=1e-8)
    assert values("CKA to the initial look") == pytest.approx(CKA[kind], rel=1e-6)
    assert values("CKA to the previous look") == pytest.approx([1] * 5, rel=1e-12)
    ranks, ratios = values("effective rank"), values("participation ratio")
    assert all(rank > ratio for rank, ratio in zip(ranks, ratios, strict=True))


def test_equal_variances_are_counted_by_both() -> None:
    cross = torch.cat([torch.eye(6), -torch.eye(6)]).double() + 7  # far from 0: centred first
    readings = read(cross[None, :, :5])
    assert of(readings, "participation ratio") == pytest.approx([5])
    assert of(readings, "effective rank") == pytest.approx([5])


def test_unequal_variances_by_hand() -> None:
    cloud = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])[None]
    readings = read(cloud)  # variances 9 and 1
    assert of(readings, "participation ratio") == pytest.approx([100 / 82])
    p = torch.tensor([0.9, 0.1], dtype=torch.float64)
    assert of(readings, "effective rank") == pytest.approx([float((-(p * p.log()).sum()).exp())])


@given(st.integers(0, 10**6), st.booleans())
def test_cka_forgets_rotation_shift_and_scale_alone(seed: int, wide: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, d = (8, 12) if wide else (20, 3)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    assert float(linear_cka(x, -3 * x @ turn + 5)) == pytest.approx(1)
    assert float(linear_cka(x, x * torch.linspace(0.1, 3, d))) < 0.999


@pytest.mark.parametrize("shapes", [(9, 4, 6), (5, 8, 3), (6, 11, 9)])
def test_fast_ways_against_naive_twins(shapes: tuple[int, int, int]) -> None:
    n, d, e = shapes
    x, y = torch.randn(3, n, d).double(), torch.randn(3, n, e).double()
    for at in range(3):
        values = torch.linalg.eigvalsh(torch.cov(x[at].T, correction=0))
        p = (values / values.sum()).clamp(min=1e-300)
        rank = float((-(p * p.log()).sum()).exp())
        assert float(effective_rank(spectrum(x))[at]) == pytest.approx(rank)
        h = torch.eye(n).double() - 1 / n
        k, m = h @ x[at] @ x[at].T @ h, h @ y[at] @ y[at].T @ h
        cka = float((k * m).sum() / (k.norm() * m.norm()))
        assert float(linear_cka(x, y)[at]) == pytest.approx(cka)


def test_a_constant_layer_is_undefined_and_says_so() -> None:
    alive, dead = torch.randn(9, 3).double(), torch.full((9, 3), 0.1).double()
    readings = read(torch.stack([alive, dead]), previous=torch.stack([dead, alive]))
    for quantity, wrong in {
        "participation ratio": [False, True],
        "effective rank": [False, True],
        "CKA to the initial look": [False, True],
        "CKA to the previous look": [True, True],
    }.items():
        reading = readings[quantity]["t"]
        assert reading.value.isnan().tolist() == wrong == reading.flags["constant"].tolist()


def test_without_a_look_before_there_is_no_likeness_to_it() -> None:
    assert not read(torch.randn(1, 9, 3))["CKA to the previous look"]


def test_more_samples_than_the_limit_are_drawn_alike_at_all_looks() -> None:
    t = torch.randn(2, 50, 3)
    readings = read(t, initial=t, samples=20)
    assert of(readings, "CKA to the initial look") == pytest.approx([1, 1])
    assert readings["effective rank"]["t"].diagnostics["samples"].tolist() == [20, 20]
    with pytest.raises(ConfigError, match="Geometry: samples"):
        Geometry(samples=1)


def test_likeness_in_a_training_is_that_of_the_stored_activations() -> None:
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    seen = []
    with Tracer(model, (x, y), lenses="geometry", estimators="exact", every=1) as tracer:
        seen.append(model[:2](x).detach().double())
        for epoch in (1, 2):
            with torch.no_grad():
                model.get_parameter("0.weight").add_(torch.randn(4, 3))
            seen.append(model[:2](x).detach().double())
            tracer.snapshot(epoch)
    layer = tracer.trace.layers[0]
    frame = tracer.trace.readings()
    frame = frame[frame["layer"] == layer].set_index(["quantity", "epoch"])
    first = frame.loc[("CKA to the initial look", 2), "value"]
    assert first == pytest.approx(float(linear_cka(seen[2], seen[0])))
    before = frame.loc[("CKA to the previous look", 2), "value"]
    assert before == pytest.approx(float(linear_cka(seen[2], seen[1])))

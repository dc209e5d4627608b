"""Capacity: closed forms of points and segments, whole spaces, and a brute-force projection."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Capacity
from ibtrace.numerics.capacity import cone
from ibtrace.types import Reading
from tests.layer_views import layer_view


def read(t: Tensor, labels: Tensor, **fields: Any) -> Reading:
    view = layer_view(t, labels)
    return Capacity(**fields)(view, view._probe)["manifold capacity"]["t"]


def near(reading: Reading, wanted: float, at: int = 0) -> None:
    error = reading.stderr[at].item()
    assert 0 < error < 0.03 * wanted
    assert abs(reading.value[at].item() - wanted) < 4 * error


def test_a_point_has_that_of_a_perceptron() -> None:
    t = torch.tensor([[[3.0, -4.0, 1.0], [-1.0, 2.0, 5.0]]])
    near(read(t, torch.tensor([0, 1]), draws=20_000), 2)


@pytest.mark.parametrize(("r", "wanted"), [(0.5, 1.257597), (1.0, 1.0), (3.0, 0.772101)])
def test_a_segment(r: float, wanted: float) -> None:
    assert wanted == pytest.approx(math.pi / (2 * (3 * math.pi / 4 - math.atan(1 / r))), abs=1e-6)
    steps = torch.linspace(-r, r, 5).double()
    segment = (
        torch.stack([torch.ones(5).double(), steps], 1)
        @ torch.tensor([[2.0, 1, 0], [-1, 2, 0]]).double()
    )  # turned, and in a space of three dimensions
    t = torch.cat([segment, -segment])
    labels = torch.tensor([0] * 5 + [1] * 5)
    near(read(t[None], labels, draws=20_000), wanted)
    reading = read(t[None] + 7, labels, draws=20_000, centred=True)
    near(reading, wanted)
    assert not bool(reading.flags["surrounds_origin"])


def test_classes_are_averaged_as_cones_and_told_one_by_one() -> None:
    t = torch.tensor([[[1.0, 0], [1, 1], [1, -1]]])  # a point (2), a segment of R = 1 (1)
    reading = read(t, torch.tensor([0, 1, 1]), draws=20_000)
    near(reading, 1 / ((1 / 2 + 1) / 2))
    assert reading.diagnostics["class 0"].item() == pytest.approx(2, rel=0.05)
    assert reading.diagnostics["class 1"].item() == pytest.approx(1, rel=0.05)


def test_a_class_around_the_origin_has_one_over_the_units() -> None:
    cross = torch.cat([torch.eye(4), -torch.eye(4)])
    reading = read(torch.cat([cross, cross])[None], torch.arange(16) // 8, draws=5000)
    near(reading, 1 / 4)
    assert bool(reading.flags["surrounds_origin"])


def test_a_dead_layer_is_infinite_and_says_so() -> None:
    alive = torch.rand(6, 2) + 1
    reading = read(torch.stack([torch.zeros(6, 2), alive]), torch.arange(6) % 2)
    assert reading.value.isinf().tolist() == [True, False] == reading.flags["infinite"].tolist()


def test_the_projection_against_a_search_over_faces() -> None:
    generator = torch.Generator().manual_seed(0)
    rays = torch.randn(4, 3, generator=generator).double()
    draws = torch.randn(30, 3, generator=generator).double()
    squares = []
    for t in draws:
        best = 0.0
        for face in range(1, 16):  # the projection lies in a face: take the best with weights >= 0
            chosen = rays[[bool(face >> k & 1) for k in range(4)]]
            weights = torch.linalg.lstsq(chosen.T, t[:, None], driver="gelsd").solution
            if bool((weights >= -1e-12).all()):
                best = max(best, float((chosen.T @ weights).square().sum()))
        squares.append(best)
    assert cone(5 * rays, draws).dimension == pytest.approx(sum(squares) / 30)


def test_the_error_is_that_over_draws() -> None:
    t = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(1)) + 1
    view = layer_view(t)
    lens = Capacity(draws=50)
    each = [lens(view, view._probe, seed=s)["manifold capacity"]["t"] for s in range(150)]
    spread = torch.cat([one.value for one in each]).std().item()
    said = torch.cat([one.stderr for one in each]).mean().item()
    assert spread == pytest.approx(said, rel=0.25)


def test_more_samples_than_the_limit_are_thinned_class_by_class() -> None:
    t, labels = torch.randn(1, 300, 3) + 2, torch.arange(300) % 2
    few, all_of_them = read(t, labels, samples=5), read(t, labels, samples=150)
    assert few.value.item() > all_of_them.value.item()  # a narrower cone
    with pytest.raises(ConfigError, match="Capacity: draws"):
        Capacity(draws=1)
    with pytest.raises(Unsupported, match="Capacity takes one class a sample"):
        read(t, torch.randn(300))

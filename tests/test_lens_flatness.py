"""Flatness: closed forms on quadratics, the naive twin, ends of the range, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Flatness
from ibtrace.probe import Probe
from ibtrace.types import Reading
from tests.reference_networks import PROBE, after_descent, network, view_of

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(3)).double()
ROWS: dict[str, Any] = {"data": (PROBE.x[::7], PROBE.labels[::7])}


def read(view: Any, seed: int = 0, **fields: Any) -> Reading:
    (of,) = Flatness(**fields)(view, PROBE, seed=seed).values()
    return of[""]


def line() -> Any:
    """One linear output without bias at w, of squared loss: the rise is σ² mean (ε·x)²."""
    model = nn.Linear(4, 1, bias=False).double()
    return view_of(model, probe=Probe(X, X.sum(1, keepdim=True)), loss="mse")


def test_the_scale_of_a_quadratic_by_hand() -> None:
    noise = torch.randn(10, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[
        :, 0
    ]
    for limit in (0.1, 0.004, 2.0):
        wanted = (limit / (noise @ X.T).square().mean()).sqrt()
        reading = read(line(), limit=limit)
        assert float(reading.value) == pytest.approx(float(wanted), rel=1e-6)
        # σ ∝ (mean of c)^-½: its relative error is half of that of the mean over draws
        each = (noise @ X.T).square().mean(1)
        error = float(wanted) / 2 * float(each.std() / 10**0.5 / each.mean())
        assert float(reading.stderr) == pytest.approx(error, rel=1e-3)
        assert float(reading.diagnostics["rise"]) == pytest.approx(limit, rel=1e-5)


def test_the_mean_over_many_draws_is_the_closed_form() -> None:
    wanted = (0.1 / X.square().sum(1).mean()).sqrt()  # E (ε·x)² = ‖x‖²
    reading = read(line(), draws=3000)
    assert abs(float(reading.value) - float(wanted)) < 3 * float(reading.stderr)
    assert float(reading.stderr) < 0.02 * float(wanted)


@pytest.mark.parametrize("by", ["loss", "error"])
def test_a_trained_network_against_the_naive_search(by: str) -> None:
    model = after_descent("tanh")
    reading = read(view_of(model, **ROWS), by=by, draws=4)
    assert bool(reading.flags["on_probe"]) is False
    x, y = ROWS["data"]
    names = [(name, value.detach().clone()) for name, value in model.named_parameters()]
    flat = torch.cat([value.flatten() for _, value in names])
    noise = torch.randn(
        4, 1, len(flat), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )[:, 0]

    def cost(at: Tensor) -> float:
        with torch.no_grad():
            nn.utils.vector_to_parameters(at, model.parameters())
            logits = model(x)
            if by == "error":
                return float((logits.argmax(1) != y).double().mean())
            return float(nn.functional.cross_entropy(logits, y))

    here = cost(flat)

    def rise(sigma: float) -> float:
        signs = (1.0, -1.0)
        return sum(cost(flat + sign * sigma * one) - here for one in noise for sign in signs) / 8

    sigma = float(reading.value)
    assert 0.01 < sigma < 1
    assert rise(sigma * 0.995) <= 0.1
    later = [rise(sigma * factor) for factor in (1.005, 1.1, 1.5, 2.0, 4.0)]
    assert min(later) > 0.1, "a larger σ is within the limit"


def test_the_ends_of_the_range_are_flagged() -> None:
    flat = read(view_of(network("relu"), **ROWS), by="error")  # half of all wrong as it is
    assert float(flat.value) == 8.0
    assert bool(flat.flags["beyond"])
    assert bool(flat.stderr.isnan())
    steep = read(line(), limit=1e-12)
    assert bool(steep.value.isnan())
    assert bool(steep.flags["below"])


class Well(nn.Module):
    """A loss of one weight that rises, falls below and rises again."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        u = self.weight.abs()
        height = torch.where(u < 0.4, 10 * u, torch.where(u < 2, 0 * u, u))
        return height.sqrt().expand(len(x), 1)


def test_the_largest_scale_is_taken_and_that_smaller_ones_cost_more_is_flagged() -> None:
    view = view_of(Well(), probe=Probe(X, torch.zeros(30, 1).double()), loss="mse")
    reading = read(view, seed=1, draws=2)  # the two draws differ by less than the well is wide
    assert bool(reading.flags["not_monotone"])
    assert float(reading.value) > 0.25


def test_the_weights_unit_is_that_of_the_scale() -> None:
    class Scaled(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by
            self.linear = nn.Linear(4, 1, bias=False).double()
            nn.init.zeros_(self.linear.weight)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.linear(x) / self.by
            return out

    probe = Probe(X, X.sum(1, keepdim=True))
    one, ten = (read(view_of(Scaled(by), probe=probe, loss="mse")) for by in (1.0, 10.0))
    assert float(ten.value) == pytest.approx(10 * float(one.value), rel=1e-6)


def test_a_seed_that_diverged_leaves_the_others_theirs() -> None:
    two = view_of(after_descent("tanh"), network("tanh"), **ROWS)
    alone = read(view_of(after_descent("tanh"), **ROWS))
    lost = {name: value.clone() for name, value in two.parameters.items()}
    next(iter(lost.values()))[1] = torch.nan
    for by in ("loss", "error"):
        reading = read(two.at(lost), by=by)
        assert reading.value.isfinite().tolist() == [True, False]
        assert reading.flags["diverged"].tolist() == [False, True]
    assert float(read(two.at(lost)).value[0]) == pytest.approx(float(alone.value))


def test_what_has_no_classes_is_refused_by_error() -> None:
    with pytest.raises(Unsupported, match="Flatness by error takes networks that give a class"):
        read(line(), by="error")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"limit": 0}, "limit must be a number above 0"),
        ({"limit": float("nan")}, "limit must be a number above 0"),
        ({"limit": "x"}, "limit must be a number above 0"),
        ({"limit": True}, "limit must be a number above 0"),
        ({"by": "accuracy"}, "by must be 'loss' or 'error'"),
        ({"draws": 1}, "Flatness: draws"),
        ({"samples": 0}, "Flatness: samples"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Flatness(**fields)

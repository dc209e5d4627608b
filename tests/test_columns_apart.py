"""Columns that know nothing beside one that knows: right or flagged, and else quiet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ibtrace import Probe, estimators
from ibtrace.estimators import KSG, _scales, information, make
from ibtrace.types import Estimate, Estimator

NAMES = ["ksg", "mixed_ksg", "npeet", "kozachenko_leonenko", "edge", "ross"]
TRUTH = 1.198


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def beside(extra: int, factor: float, n: int = 1000) -> tuple[Tensor, Tensor, Tensor]:
    """A column that knows y beside others of ``factor`` its spread, y, and the sign of y."""
    z = normal(3, n, 2 + extra)
    x = torch.cat([z[:, :1], factor * z[:, 2:]], 1)
    y = 0.9 * z[:, :1] + 0.19**0.5 * z[:, 1:2]
    return x, y, (y[:, 0] > 0).long()


def raised(estimate: Estimate) -> set[str]:
    return {name for name, value in estimate.flags.items() if bool(value.any())}


def tried(estimator: Estimator, x: Tensor, y: Tensor) -> list[Estimate]:
    """Both orders of a call, and both places of a plane."""
    calls = [estimator(x, y), estimator(y, x)]
    if x.is_floating_point() and y.is_floating_point():
        calls += [
            information(estimator, x, Probe(y, y))[0],
            information(estimator, y, Probe(x, y))[0],
        ]
    return [*calls, information(estimator, x, Probe(normal(5, len(x), 1), y))[1]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 9.9])
@pytest.mark.parametrize("extra", [1, 3, 6])
def test_columns_that_know_nothing_hide_nothing_unflagged(
    name: str, extra: int, factor: float
) -> None:
    x, y, ids = beside(extra, factor)
    even, pairs = beside(extra, 1.0)[0], {"ksg": (y, ids), "ross": (ids,)}.get(name, (y,))
    for second in pairs:
        both = (tried(make(name), first, second) for first in (x, even))
        for estimate, alike in zip(*both, strict=True):
            lost = float(alike.bits - estimate.bits)  # what so many columns cost is not of scales
            said = raised(estimate) & {"scales_apart", "unresolved", "many_dimensions"}
            assert lost < 0.2 or said


@pytest.mark.parametrize("name", NAMES[:4])
def test_three_wide_columns_are_flagged_and_by_column_they_are_not(name: str) -> None:
    x, y, _ = beside(3, 3.0)
    for estimate in tried(make(name), x, y):
        assert "scales_apart" in raised(estimate)
    by_column = make(name, scale="column")(x, y)
    assert float(by_column.bits) > 0.9
    assert "scales_apart" not in raised(by_column)


@pytest.mark.parametrize("name", NAMES[:3])  # the fourth's bias is of the dimensions
def test_narrow_noise_made_as_wide_as_what_knows_is_flagged_too(name: str) -> None:
    x, y, _ = beside(6, 1 / 8)
    assert abs(float(make(name)(x, y).bits) - TRUTH) < 0.15
    assert "scales_apart" not in raised(make(name)(x, y))
    assert "scales_apart" in raised(make(name, scale="column")(x, y))


@pytest.mark.parametrize("name", NAMES[:3])  # the fourth's bias changes with the scale
@pytest.mark.parametrize("n", [100, 400, 1000])
def test_where_nothing_is_hidden_nothing_is_said(name: str, n: int) -> None:
    said = 0
    for seed in range(8):
        x, y = normal(seed, n, 3) * torch.tensor([1.0, 2.0, 4.0]), normal(seed + 50, n, 2)
        said += "scales_apart" in raised(make(name)(x, y))
    assert said <= (n < 400)


def test_each_problem_of_a_batch_is_judged_alone() -> None:
    (x, y, _), even = beside(3, 3.0), beside(3, 1.0)[0]
    flags = KSG()(torch.stack([x, even, 0.9 * even]), y).flags["scales_apart"]
    assert flags.tolist() == [True, False, False]
    together = information(KSG(), torch.stack([x, even]), Probe(y, y))
    assert [e.flags["scales_apart"].tolist() for e in together] == [[True, False]] * 2


def test_a_single_column_and_equal_columns_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []

    def few(value: Tensor) -> Tensor:
        asked.append(value)
        return value

    monkeypatch.setattr(_scales, "subsample", few)
    KSG()(normal(0, 50, 1), normal(1, 50, 1))
    assert not asked
    make("gaussian_copula")(normal(0, 50, 2) * torch.tensor([1.0, 5.0]), normal(1, 50, 1))
    assert not asked  # it has no scale
    KSG()(normal(0, 50, 2) * torch.tensor([1.0, 5.0]), normal(1, 50, 1))
    assert asked


def test_all_that_take_distances_and_have_a_scale_are_judged() -> None:
    judged = {n for n in estimators.names() if _scales._other(make(n)) is not None}
    assert judged == {"ksg", "ross", "npeet", "mixed_ksg", "kozachenko_leonenko", "sklearn"}

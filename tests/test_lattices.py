"""Samples on a lattice, classes of few samples, and values above an entropy: no silent number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ibtrace.estimators import make
from ibtrace.types import Estimate

N = 2000
NEIGHBOURS = ["ross", "ksg", "mixed_ksg", "kozachenko_leonenko", "npeet", "sklearn"]
DISTRUST = {"ties_jittered", "tied_radii", "degenerate", "below_zero", "above_entropy"}
DISTRUST |= {
    "undersampled",
    "many_dimensions",
    "saturated",
    "unresolved",
    "near_ceiling",
    "crowded",
}


def draw(values: int, dimensions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * dimensions + 10 * values + seed)
    return torch.randint(values, (N, dimensions), generator=generator).double()


def entropy(values: Tensor) -> float:
    counts = values.unique(dim=0, return_counts=True)[1].double()
    return float(-(counts / len(values) * (counts / len(values)).log2()).sum())


def raised(estimate: Estimate) -> set[str]:
    return {name for name, flag in estimate.flags.items() if bool(flag)}


WELL_SAMPLED = [(2, 1), (2, 4), (2, 8), (4, 2), (4, 4), (8, 3), (10, 3), (16, 2), (30, 1)]


@pytest.mark.parametrize(("values", "dimensions"), WELL_SAMPLED)
@pytest.mark.parametrize("of", ["sum", "first", "itself", "parity"])
@pytest.mark.parametrize("labelled", [False, True])
def test_mixed_ksg_on_a_lattice_whose_rows_repeat(
    values: int, dimensions: int, of: str, labelled: bool
) -> None:
    x = draw(values, dimensions)
    made = {"sum": x.sum(1, keepdim=True), "first": x[:, :1], "itself": x, "parity": x.sum(1) % 2}
    y = made[of].reshape(N, -1)
    truth = entropy(y)  # y is a function of x
    ids = y.unique(dim=0, return_inverse=True)[1] if labelled else y
    estimate = make("mixed_ksg")(x, ids)
    off = float(estimate.bits) - truth
    allowed = 0.35 if values**dimensions > N / 4 else 0.1
    assert abs(off) < allowed or {"singletons_dropped"} & raised(estimate)


@pytest.mark.parametrize(("values", "dimensions"), [(2, 8), (4, 3), (2, 10), (2, 20), (256, 1)])
@pytest.mark.parametrize("other", [(2, 2), (10, 1), (4, 3)])
def test_mixed_ksg_makes_up_little_of_independent_lattices(
    values: int, dimensions: int, other: tuple[int, int]
) -> None:
    estimate = make("mixed_ksg")(draw(values, dimensions), draw(*other, seed=5))
    assert abs(float(estimate.bits)) < 0.4
    assert abs(float(estimate.bits)) < 0.15 or "tied_radii" in raised(estimate)


@pytest.mark.parametrize("name", [*NEIGHBOURS[1:5], "edge", "binning", "matrix_renyi"])
@pytest.mark.parametrize(("values", "dimensions"), [(2, 8), (10, 3), (2, 20)])
def test_no_number_of_a_lattice_is_far_off_without_a_flag(
    name: str, values: int, dimensions: int
) -> None:
    x = draw(values, dimensions)
    y = x.sum(1, keepdim=True)
    estimate = make(name)(x, y)
    if abs(float(estimate.bits) - entropy(y)) > 0.3:
        assert raised(estimate) & DISTRUST


# --- above the entropy of a discrete variable -----------------------------------------------------


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("samples", [4, 6, 8, 10, 25])
def test_what_is_above_the_number_of_classes_is_flagged(name: str, samples: int) -> None:
    ids = torch.arange(160).repeat_interleave(samples)
    noise = torch.randn(len(ids), 1, generator=torch.Generator().manual_seed(0)).double()
    estimate = make(name)(ids[:, None] + 0.01 * noise, ids)
    assert bool(estimate.flags["above_entropy"]) == (float(estimate.bits) > math.log2(160) + 0.01)


def test_many_samples_a_class_raise_no_flag() -> None:
    ids = torch.arange(10).repeat_interleave(200)
    noise = torch.randn(len(ids), 1, generator=torch.Generator().manual_seed(0)).double()
    for name in NEIGHBOURS:
        assert not bool(make(name)(ids[:, None] + 0.01 * noise, ids).flags["above_entropy"])


def test_values_that_may_be_unseen_leave_room() -> None:
    """Of many values few are seen twice: those that are seen do not bound the entropy."""
    draws = torch.randint(3000, (N,), generator=torch.Generator().manual_seed(0))
    corrected = make("exact", correction="miller_madow")(draws, draws)
    assert float(corrected.bits) > math.log2(int(draws.unique().numel()))
    assert not bool(corrected.flags["above_entropy"])


# --- classes of one sample ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ross", "ksg", "mixed_ksg", "kozachenko_leonenko", "sklearn"])
def test_what_is_told_by_samples_that_are_left_out_is_no_zero(name: str) -> None:
    ids = torch.arange(200)
    ids[:100] = 0  # one class, and a hundred samples alone
    t = torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).double()
    t[:100] += 10
    estimate = make(name)(t, ids)
    assert math.isnan(float(estimate.bits))
    assert {"undefined", "singletons_dropped"} <= raised(estimate)
    assert "constant" not in raised(estimate)


def test_npeet_has_no_number_where_no_neighbour_is_of_the_class() -> None:
    ids = torch.arange(100).repeat_interleave(3)
    estimate = make("npeet")(ids[:, None].double() + torch.rand(300, 1), ids)
    assert math.isnan(float(estimate.bits))
    assert {"undefined", "small_classes"} <= raised(estimate)


# --- a null for continuous labels -----------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.01, 2.0])
@pytest.mark.parametrize("dimensions", [1, 3, 10])
def test_matrix_renyi_of_independent_normals_says_that_it_is_its_null(
    dimensions: int, alpha: float
) -> None:
    generator = torch.Generator().manual_seed(dimensions)
    x, y = (torch.randn(300, dimensions, generator=generator) for _ in range(2))
    estimate: Any = make("matrix_renyi", alpha=alpha)(x, y)
    assert "undersampled" in raised(estimate)
    null = float(estimate.diagnostics["null_bits"])
    assert float(estimate.bits) == pytest.approx(null, abs=0.1)

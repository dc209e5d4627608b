"""Standard errors against the spread over samples, on laws of 1 to 5 dimensions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from ibtrace import problems as laws
from ibtrace.estimators import make
from ibtrace.numerics.distances import Distances
from ibtrace.numerics.entropy import removed_information, sample_counts
from ibtrace.numerics.entropy_knn import entropy_taken_away, local_entropy, nearest
from ibtrace.numerics.knn import joint_neighbours, taken_away, tree_neighbours

FACTOR = 1.6
LAWS: list[laws.Problem] = [
    laws.BivariateNormal(0.75),
    laws.BivariateNormal(0.99),
    laws.StudentT(1, 1, 1),
    laws.AdditiveUniform(0.1),
    laws.Independent(),
    laws.DenseNormal(2, 2),
    laws.SparseNormal(2, 2),
    laws.LinearGaussian(),
    laws.SparseNormal(3, 3),
    laws.StudentT(3, 3, 2),
    laws.Spiral(laws.SparseNormal(3, 3)),
    laws.Independent(dim=3),
    laws.DenseNormal(5, 5),
    laws.Swapped(laws.UniformLabel(5)),
    laws.make("gaussian-channel-4-points-0.7"),
]
# How many samples are drawn: the spread of 200 is known to 5 %, that of 64 to 9 %.
ESTIMATORS: dict[str, int] = {
    "ksg": 200,
    "mixed_ksg": 200,
    "kozachenko_leonenko": 200,
    "edge": 64,
    "sliced": 64,
}


def ratio(name: str, law: laws.Problem, n: int, draws: int) -> float:
    """The mean standard error over the spread of the estimates."""
    estimator = make(name)
    found = [estimator(*law.sample(n, seed=seed)) for seed in range(draws)]
    bits, errors = (torch.stack([getattr(e, field) for e in found]) for field in ("bits", "stderr"))
    return float(errors.mean() / bits.std())


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_standard_error_is_the_spread_over_samples(name: str, law: laws.Problem) -> None:
    assert 1 / FACTOR < ratio(name, law, 300, ESTIMATORS[name]) < FACTOR


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ksg", "mixed_ksg", "kozachenko_leonenko", "edge"])
def test_of_more_samples_too(name: str) -> None:
    for law in (laws.BivariateNormal(0.75), laws.SparseNormal(3, 3)):
        assert 1 / FACTOR < ratio(name, law, 1200, 40) < FACTOR


# --- what is taken away, against taking it away ---------------------------------------------


def noise(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("trees", [False, True])
def test_counts_without_a_neighbour_are_those_of_the_samples_without_it(trees: bool) -> None:
    x, y, k = noise(40, 1, 0), noise(40, 2, 1), 3

    def count(a: Tensor, b: Tensor) -> Any:
        if trees:
            return tree_neighbours(a, b, k, closed=False, stop_at_tie=True)
        spaces = Distances(a, "max"), Distances(b, "max")
        return joint_neighbours(*spaces, k, closed=False, stop_at_tie=True)

    whole = count(x, y)
    for gone in whole.nearest[::7, 0].tolist():
        rest = torch.arange(40) != gone
        without = count(x[rest], y[rest])
        near = (whole.nearest == gone).any(1)[rest]
        assert torch.equal(without.x[near], whole.fewer_x[rest][near])
        assert torch.equal(without.y[near], whole.fewer_y[rest][near])


@pytest.mark.parametrize("weights", [None, (0.5, 0.0, 0.5)])
def test_entropies_without_a_point(weights: tuple[float, ...] | None) -> None:
    points, k = noise(30, 2, 2), 3
    away = entropy_taken_away(nearest(points, k + 1), k, 2, weights)
    whole = local_entropy(nearest(points, k).distances, 30, 2, weights)
    for gone in range(0, 30, 5):
        rest = torch.arange(30) != gone
        without = local_entropy(nearest(points[rest], k).distances, 30, 2, weights)
        assert float(away[gone]) == pytest.approx(float((without - whole[rest]).sum()))
    assert not entropy_taken_away(nearest(points, k), k, 2, weights).any()


def test_informations_of_tables_without_a_sample() -> None:
    x, y = (noise(40, 1, seed)[:, 0].round().long() for seed in (3, 4))
    pseudo = removed_information(*(sample_counts(_ids(v)) for v in (x, y, 100 * x + y)))
    exact = make("exact")
    whole = 40 * float(exact(x, y).bits)
    wanted = torch.tensor(
        [
            whole - 39 * float(exact(x[rest], y[rest]).bits)
            for rest in (torch.arange(40) != gone for gone in range(40))
        ]
    )
    torch.testing.assert_close((pseudo - wanted).std(), torch.zeros(()).double(), atol=1e-5, rtol=0)


def _ids(value: Tensor) -> Tensor:
    ids: Tensor = value.unique(return_inverse=True)[1]
    return ids


def test_what_is_taken_away_is_summed_over_those_it_was_near_to() -> None:
    near = torch.tensor([[1, 2], [0, 2], [1, 0]])
    gain = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    assert taken_away(gain, near).tolist() == [6.0, 5.0, 3.0]


def test_the_error_of_slices_falls_with_their_number() -> None:
    x, y = laws.DenseNormal(5, 5).sample(300, seed=0)
    few, many = (dataclasses.replace(make("sliced"), directions=d)(x, y) for d in (4, 64))  # type: ignore[type-var]
    assert float(many.stderr) < 0.6 * float(few.stderr)
    assert bool(torch.isfinite(many.diagnostics["directions_std"]))

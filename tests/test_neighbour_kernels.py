"""Compiled loops over distances against scipy's and torch's, and the ways to count neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import Tensor

from ibtrace.numerics import knn
from ibtrace.numerics.distances import Distances, Norm
from ibtrace.numerics.entropy_knn import nearest

seeds = st.integers(0, 2**20)
NORMS: list[Norm] = ["euclidean", "max"]
METRIC = {"euclidean": "sqeuclidean", "max": "chebyshev"}


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def related(seed: int, n: int, dx: int, dy: int) -> tuple[Tensor, Tensor]:
    x = normal(seed, n, dx)
    return x, normal(seed + 1, n, dy) + x[:, :1]


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, n=st.integers(2, 1200), d=st.integers(1, 12))
@settings(max_examples=25)
def test_distances_are_scipys(norm: Norm, seed: int, n: int, d: int) -> None:
    points = normal(seed, n, d)
    rows = slice(n // 3, n // 3 + 3)
    theirs = cdist(points[rows].numpy(), points.numpy(), METRIC[norm])  # type: ignore[call-overload]
    ours = Distances(points, norm).rows(rows)
    assert bool(ours.diagonal(rows.start).isinf().all())
    theirs[np.arange(len(theirs)), rows.start + np.arange(len(theirs))] = np.inf
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-13, atol=0)
    if norm == "max":
        assert torch.equal(ours, torch.from_numpy(theirs))


@given(
    seed=seeds, m=st.integers(1, 5), n=st.integers(1, 400), k=st.integers(1, 6), tied=st.booleans()
)
@settings(max_examples=80)
def test_the_smallest_and_the_counts_are_torchs(
    seed: int, m: int, n: int, k: int, tied: bool
) -> None:
    distances = normal(seed, m, n).abs()
    distances = (3 * distances).round() if tied else distances
    distances[0, 0] = torch.inf
    k = min(k, n)
    values, columns = knn.k_smallest(distances, k)
    assert torch.equal(values, distances.topk(k, largest=False).values)
    assert torch.equal(distances.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())
    radius = values[:, -1:]
    for closed in (False, True):
        inside = distances <= radius if closed else distances < radius
        assert torch.equal(knn.count_within(distances, radius, closed=closed), inside.sum(1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("closed", [False, True])
@given(
    seed=seeds,
    n=st.integers(5, 300),
    widths=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    k=st.integers(1, 4),
    keep=st.booleans(),
)
@settings(max_examples=25)
def test_compiled_counts_are_those_of_blocks(
    norm: Norm, closed: bool, seed: int, n: int, widths: tuple[int, int], k: int, keep: bool
) -> None:
    a, b = related(seed, 2 * n, *widths)
    x, y = Distances(a[::2], norm, keep), Distances(b[:n].T.contiguous().T, norm)
    compiled = knn.joint_neighbours(x, y, k, closed=closed, stop_at_tie=True)
    assert compiled is not None
    rows = slice(0, n)
    _, columns, counts = knn.count_block(x.rows(rows), y.rows(rows), k, closed=closed)
    assert torch.equal(compiled.nearest, columns[:, :k])
    assert torch.equal(torch.stack(compiled[:4]), counts)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("widths", [(1, 1), (2, 3)])
def test_every_way_gives_the_same(
    closed: bool, widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (Distances(v, "max") for v in related(0, 1100, *widths))
    ways = []
    for trees in (False, True):
        monkeypatch.setattr(knn, "trees_win", lambda n, d, trees=trees: trees)
        ways.append(knn.neighbours(x, y, 3, closed=closed, stop_at_tie=True))
    assert ways[0] is not None
    assert ways[1] is not None
    for a, b in zip(*ways, strict=True):
        assert torch.equal(a, b.to(a.dtype))


@pytest.mark.parametrize("d", [1, 3, 20])
def test_nearest_points_by_trees_and_by_loops(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points, ways = normal(0, 400, d), []
    for trees in (False, True):
        monkeypatch.setattr("ibtrace.numerics.entropy_knn.trees_win", lambda n, d, t=trees: t)
        ways.append(nearest(points, 4))
    torch.testing.assert_close(ways[0].distances, ways[1].distances, rtol=1e-10, atol=0)
    assert torch.equal(ways[0].points, ways[1].points)


def test_a_tie_stops_the_count() -> None:
    x, y = related(0, 300, 2, 2)
    x[7], y[7] = x[250], y[250]
    a, b = Distances(x, "max"), Distances(y, "max")
    assert knn.joint_neighbours(a, b, 3, closed=False, stop_at_tie=True) is None
    assert knn.joint_neighbours(a, b, 3, closed=False, stop_at_tie=False) is not None

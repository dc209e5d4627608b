"""Compiled loops over distances against scipy's and torch's, and the ways to count neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from ibtrace.numerics import distances, knn
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
    assert torch.equal(torch.stack(compiled[:4], 1), counts)


def _grown(x: Tensor) -> Tensor:
    return x * 10 ** torch.linspace(-3, 3, x.shape[1], dtype=torch.float64)


def _on_a_line(x: Tensor) -> Tensor:
    return x[:, :1] * torch.arange(1, x.shape[1] + 1) + 1e-9 * x


def _with_an_outlier(x: Tensor) -> Tensor:
    return torch.cat([x[:-1], 1e9 * x[-1:]])


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x,
    "lattice": lambda x: (4 * x).round(),
    "columns apart": _grown,
    "one dimension in many": _on_a_line,
    "an outlier": _with_an_outlier,
    "far away": lambda x: x + 1e6,
    "repeated": lambda x: torch.cat([x[: len(x) // 2], x[: len(x) - len(x) // 2]]),
    "constant": lambda x: torch.ones_like(x),
    "tiny": lambda x: 1e-200 * x,
    "huge": lambda x: 1e160 * x,
    "heavy tails": lambda x: x / x.flip(0).abs().clamp_min(1e-12),
    "one large class": lambda x: torch.where(x > 1, x, 0.0),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
@given(
    seed=seeds,
    n=st.integers(3, 700),
    widths=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    k=st.integers(1, 5),
    closed=st.booleans(),
    both=st.booleans(),
)
@settings(max_examples=12)
def test_coarse_distances_decide_as_the_distances_do(
    norm: Norm,
    shape: str,
    seed: int,
    n: int,
    widths: tuple[int, int],
    k: int,
    closed: bool,
    both: bool,
) -> None:
    a, b = related(seed, n, *widths)
    a, b = SHAPES[shape](a), SHAPES[shape](b) if both else b

    def counted() -> knn.Neighbours:
        x, y = Distances(a, norm, seed % 2 == 0), Distances(b, norm)
        found = knn.joint_neighbours(x, y, min(k, n - 1), closed=closed, stop_at_tie=False)
        assert found is not None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "_ROWS", 64)
        patch.setattr(knn, "_OPEN", 0)  # whatever the coarse ones leave open, they decide
        patch.setattr(distances, "_DIRECT_DIMENSIONS", 40)  # a product would round ties apart
        coarse = counted()
        patch.setattr(Distances, "screen", None)
        for ours, exact in zip(coarse, counted(), strict=True):
            assert torch.equal(ours, exact)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("d", [1, 4, 30])
def test_coarse_distances_leave_little_open_and_are_kept(
    norm: Norm, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (Distances(v, norm, True) for v in related(0, 1500, d, d))
    told, screened = [], knn._Counting._screened

    def counted(self: knn._Counting, rows: slice, out: list[NDArray[Any]]) -> int:
        told.append(screened(self, rows, out))
        return told[-1]

    monkeypatch.setattr(knn._Counting, "_screened", counted)
    for _ in range(2):
        knn.joint_neighbours(x, y, 3, closed=False, stop_at_tie=False)
    assert len(told) == 2 * 3
    assert 4 <= sum(told) / (2 * 1500) < 12  # the nearest themselves, and a few
    assert x._coarse_matrix is x._coarse_matrix
    exact = torch.cdist(x.points, x.points, p=float("inf") if norm == "max" else 2.0)
    known = x.screen.known  # type: ignore[union-attr]
    coarse = torch.from_numpy(x._coarse_matrix.astype(float)).fill_diagonal_(0)
    square = norm == "euclidean" and known[-1] == 0
    off = (exact**2 if square else exact) * known[0] - (coarse.sqrt() if known[-1] else coarse)
    assert float(off.fill_diagonal_(0).abs().max()) <= known[3]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("widths", [(1, 1), (2, 3)])
def test_every_way_gives_the_same(
    closed: bool, widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = (Distances(v, "max") for v in related(0, 1100, *widths))
    ways = []
    for trees in (False, True):
        monkeypatch.setattr(knn, "trees_win", lambda n, d, screened, trees=trees: trees)
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


@given(
    seed=seeds,
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=4),
    k=st.integers(1, 5),
    tied=st.booleans(),
)
@settings(max_examples=60)
def test_classes_on_a_line_are_those_of_a_plane_whose_other_column_is_still(
    seed: int, sizes: list[int], k: int, tied: bool
) -> None:
    values = normal(seed, sum(sizes), 1)
    values = (2 * values).round() if tied else values
    plane = torch.cat([values, torch.zeros_like(values)], 1)
    for stop in (False, True):
        line, loops = (
            knn.class_neighbours(Distances(each, "max"), torch.tensor(sizes), k, stop_at_tie=stop)
            for each in (values, plane)
        )
        assert (line is None) == (loops is None)
        if line is not None and loops is not None:
            assert torch.equal(line, loops)


@given(seed=seeds, n=st.integers(6, 200), k=st.integers(1, 4), closed=st.booleans())
@settings(max_examples=60)
def test_trees_of_one_column_count_as_those_of_two(seed: int, n: int, k: int, closed: bool) -> None:
    x, y = related(seed, n, 1, 1)
    wide = [torch.cat([each, torch.zeros_like(each)], 1) for each in (x, y)]
    line, trees = (
        knn.tree_neighbours(a, b, k, closed=closed, stop_at_tie=True) for a, b in ((x, y), wide)
    )
    assert line is not None
    assert trees is not None
    assert all(torch.equal(a, b) for a, b in zip(line, trees, strict=True))


@pytest.mark.parametrize("d", [1, 2])
@given(
    seed=seeds, n=st.integers(6, 80), k=st.integers(1, 4), rough=st.sampled_from([0.3, 1.0, 3.0])
)
@settings(max_examples=40)
def test_nothing_is_nearer_than_a_point_that_is_met_again(
    d: int, seed: int, n: int, k: int, rough: float
) -> None:
    x, y = ((rough * each).round() for each in related(seed, n, d, d))
    trees = knn.tree_neighbours(x, y, k, closed=False, stop_at_tie=False)
    spaces = Distances(x, "max"), Distances(y, "max")
    loops = knn.joint_neighbours(*spaces, k, closed=False, stop_at_tie=False)
    assert trees is not None
    assert loops is not None
    dx, dy = (space.rows(slice(0, n)) for space in spaces)
    _, _, counts = knn.count_block(dx, dy, k, closed=False)
    for ours, theirs, naive in zip(trees, loops, counts.clamp(min=0).unbind(1), strict=False):
        assert torch.equal(ours, naive)
        assert torch.equal(theirs, naive)

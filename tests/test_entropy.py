"""Rows to ids and counts to bits: exact against NumPy, closed forms and published recurrences."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.numerics import bins
from ibtrace.numerics.entropy import (
    Correction,
    bias_correction,
    constant,
    distinct,
    entropy,
    information,
    local_information,
    null_information,
    sample_counts,
    sample_masses,
)

CORRECTIONS: tuple[Correction, ...] = ("none", "miller_madow", "grassberger", "chao_shen")
seeds = st.integers(0, 2**31)


def draw(seed: int, *shape: int, values: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(values, shape, generator=generator)


def same_partition(ids: Tensor, rows: Tensor) -> bool:
    """Whether ids group the rows of one problem as NumPy's unique rows do."""
    _, naive = np.unique(rows.numpy(), axis=0, return_inverse=True)
    pairs = set(zip(ids.tolist(), naive.reshape(-1).tolist(), strict=True))
    k = int(naive.max()) + 1
    return len(pairs) == k and set(ids.tolist()) == set(range(k))


# --- rows -----------------------------------------------------------------------------------

DTYPES = [torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64, torch.float16, torch.bfloat16])
@given(seed=seeds, n=st.integers(1, 60), d=st.integers(1, 20), values=st.integers(1, 3))
@settings(max_examples=15)
def test_row_ids_are_numpys_unique_rows(
    dtype: torch.dtype, seed: int, n: int, d: int, values: int
) -> None:
    rows = draw(seed, 2, 3, n, d, values=values).to(dtype)
    kept = rows.clone()
    for way in (bins.row_ids, bins.ordered_row_ids):
        ids = way(rows)
        assert ids.shape == (2, 3, n)
        for one_ids, one_rows in zip(ids.flatten(0, 1), rows.flatten(0, 1), strict=True):
            assert same_partition(one_ids, one_rows.double())
    assert torch.equal(rows, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signs_alone_tell_rows_apart(dtype: torch.dtype) -> None:
    # Sign bits sit at the top of a word, where a linear hash is weakest.
    signs = (torch.arange(4096)[:, None] >> torch.arange(12)) & 1
    rows = (1 - 2 * signs).to(dtype)
    assert int(bins.row_ids(rows).max()) == int(bins.ordered_row_ids(rows).max()) == 4095


def test_negative_zero_is_zero_unless_raw() -> None:
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    assert bins.row_ids(rows).tolist() == [0, 0]
    assert sorted(bins.row_ids(rows, raw=True).tolist()) == [0, 1]


def test_noncontiguous_and_offset_rows() -> None:
    rows = draw(0, 41, 30)[1:, ::3].to(torch.int8)
    assert same_partition(bins.row_ids(rows), rows)
    shifted = torch.arange(31, dtype=torch.float32)[1:].reshape(5, 6)
    assert int(bins.row_ids(shifted).max()) == 4


def test_a_collision_is_found_and_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw(1, 3, 50, 4, values=2).to(torch.int8)
    honest = bins._hash
    attempts = []

    def colliding(words: Tensor, attempt: int) -> Tensor:
        attempts.append(attempt)
        hashes = honest(words, attempt)
        return hashes % 3 if attempt < 2 else hashes

    monkeypatch.setattr(bins, "_hash", colliding)
    ids = bins.ordered_row_ids(rows)
    assert attempts == [0, 1, 2]
    assert all(same_partition(*pair) for pair in zip(ids, rows, strict=True))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    bins.row_ids(draw(0, 10, 3))
    assert torch.equal(torch.get_rng_state(), state)


@given(seed=seeds, n=st.integers(1, 50))
@settings(max_examples=30)
def test_joint_ids_are_the_pairs(seed: int, n: int) -> None:
    a, b = draw(seed, n), draw(seed + 1, 2, n)
    joint = bins.joint_ids(bins.dense_ids(a * 1000 - 7), bins.dense_ids(b))
    for one, other in zip(joint, b, strict=True):
        assert same_partition(one, torch.stack([a, other], -1))


# --- bins -----------------------------------------------------------------------------------


def test_floor_bins_divide_by_the_width() -> None:
    values = torch.from_numpy(np.arange(-3000, 3000) * np.float32(0.07))
    values = values.float()
    expected = np.floor(values.numpy() / np.float32(0.07))
    assert bins.floor_bins(values, 0.07).tolist() == expected.astype(int).tolist()
    reciprocal = np.floor(values.numpy() * np.float32(1 / 0.07))
    assert (reciprocal != expected).any(), "the case does not tell the two apart"


def test_floor_bins_beyond_int32_stay_apart() -> None:
    numbers = bins.floor_bins(torch.tensor([[1e30], [2e30], [-1e30]]), 0.07)
    assert int(bins.row_ids(numbers).max()) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@example(low=0, extent=14, count=1, seed=0)  # a denormal below 0 has the quotient -0.0
@given(
    low=st.integers(-128, 128),
    extent=st.integers(1, 128),
    count=st.integers(1, 300),
    seed=seeds,
)
@settings(max_examples=40)
def test_uniform_bins_know_their_ends(
    dtype: torch.dtype, low: int, extent: int, count: int, seed: int
) -> None:
    ends = torch.tensor([low, low + extent], dtype=dtype) / 7
    spread = torch.rand(40, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    values = (ends[0] + (3 * spread - 1) * (ends[1] - ends[0]))[:, None]
    beyond = torch.nextafter(ends, ends.new_tensor([-torch.inf, torch.inf]))
    values = torch.cat([values, ends[:, None], beyond[:, None]])
    numbers = bins.uniform_bins(values, ends[0], ends[1], count).long()[:, 0]
    v = values[:, 0]
    assert torch.equal(numbers == -1, v < ends[0])
    assert torch.equal(numbers == count, v > ends[1])
    assert (numbers[v.argsort()].diff() >= 0).all()
    assert numbers[40] == 0
    assert numbers[41] == count - 1
    exact = ((7 * v.double() - low) / extent * count).clamp(-0.5, count + 0.5)
    assert ((numbers + 0.5 - exact).abs() < 0.53).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    seed=seeds,
    lead=st.lists(st.integers(0, 3), max_size=2),
    count=st.sampled_from([1, 2, 30, 127, 128, 129, 40_000]),
    per_column=st.booleans(),
)
@settings(max_examples=40)
def test_compiled_bins_are_those_of_torch(
    dtype: torch.dtype, seed: int, lead: list[int], count: int, per_column: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*lead, 23, 3, generator=generator, dtype=dtype)
    low, high = (
        values.amin(-2, keepdim=True) if per_column else values.amin((-2, -1), keepdim=True),
        values.amax(-2, keepdim=True) if per_column else values.amax((-2, -1), keepdim=True),
    )
    numbers = bins.bins_within(values, low, high, count)
    width = (high - low) / torch.full_like(high, count)
    expected = ((values - low) / width).floor().clamp(0, count - 1)
    assert torch.equal(numbers.to(dtype), expected)
    assert numbers.dtype == (
        torch.int8 if count < 128 else torch.int16 if count < 32768 else torch.int32
    )
    for size in (0.07, 1e-3, 1e-7):
        floored = bins.floor_bins(values, size)
        assert torch.equal(floored.to(dtype), (values / values.new_tensor(size)).floor())


@pytest.mark.parametrize("shared", [True, False])
@given(seed=seeds, count=st.integers(1, 200))
@settings(max_examples=20)
def test_digitise_is_numpys(shared: bool, seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randn((count,) if shared else (3, count), generator=generator).sort(-1).values
    values = torch.randn(3, 20, 2, generator=generator)
    values[:, :2, 0] = edges[..., :1]
    numbers = bins.digitise(values, edges)
    for one, got, row in zip(values, numbers, edges.expand(3, count), strict=True):
        assert np.array_equal(np.digitize(one.numpy(), row.numpy()), got.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_digitise_linspace_is_digitise_at_the_edges_too(dtype: torch.dtype) -> None:
    edges = torch.linspace(-1, 1, 30, dtype=torch.float64).float().to(dtype)
    infinity = torch.full_like(edges, torch.inf)
    around = [edges, edges.nextafter(infinity), edges.nextafter(-infinity)]
    grid = torch.linspace(-1.5, 1.5, 3001, dtype=dtype)
    extremes = torch.tensor([-1e30, 1e30], dtype=dtype)
    values = torch.cat([*around, grid, extremes])[:, None]
    numbers = bins.digitise_linspace(values, edges).numpy()
    assert np.array_equal(np.digitize(values.numpy(), edges.numpy()), numbers)


@given(seed=seeds, m=st.integers(1, 200), count=st.integers(2, 40))
@settings(max_examples=40)
def test_quantile_bins_hold_equal_mass_and_follow_increasing_maps(
    seed: int, m: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randperm(1000, generator=generator)[:m].double().expand(2, m)
    edges = bins.quantile_edges(values, count)
    numbers = bins.digitise(values[..., None], edges)[0, :, 0]
    mass = torch.bincount(numbers.long(), minlength=count)
    assert mass.max() - mass.min() <= 1
    cubed = bins.digitise(values[..., None] ** 3, bins.quantile_edges(values**3, count))
    assert torch.equal(cubed[0, :, 0], numbers)


# --- entropy --------------------------------------------------------------------------------


def naive_entropy(ids: list[int], correction: Correction) -> float:
    """The textbook sums over the values of one problem, with Grassberger's own recurrence."""
    n = len(ids)
    counts = [ids.count(value) for value in set(ids)]
    plug_in = -sum(c / n * math.log2(c / n) for c in counts)
    if correction == "miller_madow":
        return plug_in + (len(counts) - 1) / (2 * n * math.log(2))
    if correction == "grassberger":
        g = [0.0, -np.euler_gamma - math.log(2), 2 - np.euler_gamma - math.log(2)]
        while len(g) <= n:
            previous = g[-1]
            g.append(previous if len(g) % 2 else previous + 2 / (len(g) - 1))
        return math.log2(n) - sum(c * g[c] for c in counts) / n / math.log(2)
    if correction == "chao_shen":
        ones = min(counts.count(1), n - 1)
        shares = [(1 - ones / n) * c / n for c in counts]
        return -sum(q * math.log2(q) / (1 - (1 - q) ** n) for q in shares)
    return plug_in


@pytest.mark.parametrize("correction", CORRECTIONS)
@given(seed=seeds, n=st.integers(2, 60), values=st.integers(1, 100))
@settings(max_examples=40)
def test_entropy_is_the_textbook_sum(
    correction: Correction, seed: int, n: int, values: int
) -> None:
    ids = draw(seed, 2, n, values=values)
    counts = sample_counts(bins.dense_ids(ids))
    for bits, one in zip(entropy(counts, correction), ids, strict=True):
        assert bits.item() == pytest.approx(naive_entropy(one.tolist(), correction), abs=1e-10)


@pytest.mark.parametrize("correction", CORRECTIONS[1:])
def test_a_correction_halves_the_bias(correction: Correction) -> None:
    ids = draw(0, 400, 100, values=64)
    counts = sample_counts(bins.dense_ids(ids))
    bias = abs(entropy(counts, "none").mean().item() - 6)
    assert abs(entropy(counts, correction).mean().item() - 6) < 0.6 * bias


@given(seed=seeds, n=st.integers(2, 60), values=st.integers(1, 8))
@settings(max_examples=40)
def test_information_is_the_table_sum(seed: int, n: int, values: int) -> None:
    x, y = draw(seed, n, values=values), draw(seed + 1, n, values=3)
    table = np.zeros((values, 3))
    np.add.at(table, (x.numpy(), y.numpy()), 1 / n)
    product = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    seen = table > 0
    truth = (table[seen] * np.log2(table[seen] / product[seen])).sum()
    dense = bins.dense_ids(x), bins.dense_ids(y)
    counts = [sample_counts(ids) for ids in (*dense, bins.joint_ids(*dense))]
    assert information(counts[0], counts[1], counts[2]).item() == pytest.approx(truth, abs=1e-12)
    for correction in CORRECTIONS:
        total = [entropy(c, correction).item() for c in counts]
        expected = (
            0.0
            if min(distinct(c).item() for c in counts[:2]) == 1
            else (total[0] + total[1] - total[2])
        )
        got = information(counts[0], counts[1], counts[2], correction).item()
        assert got == pytest.approx(expected, abs=1e-10)


def test_independence_and_constants_give_exactly_nothing() -> None:
    grid = torch.cartesian_prod(torch.arange(7), torch.arange(9)).T
    x, y = sample_counts(grid[0].contiguous()), sample_counts(grid[1].contiguous())
    assert information(x, y, torch.ones_like(x)).item() == 0
    still = torch.full_like(x, 63)
    assert constant(still).item()
    for correction in CORRECTIONS:
        assert information(x, still, x, correction).item() == 0


@given(seed=seeds)
@settings(max_examples=20)
def test_uniform_masses_are_counts(seed: int) -> None:
    ids = bins.dense_ids(draw(seed, 3, 20))
    masses = sample_masses(ids, torch.full((20,), 1 / 20))
    assert torch.allclose(masses * 20, sample_counts(ids).double())
    assert torch.equal(distinct(sample_counts(ids)), ids.amax(-1) + 1)


def test_the_delta_method_covers_the_spread() -> None:
    # Binary symmetric channel with crossover 0.1: the spread of the plug-in over many draws.
    n, repeats = 500, 800
    x = draw(3, repeats, n, values=2)
    noise = torch.rand(repeats, n, generator=torch.Generator().manual_seed(4)) < 0.1
    y = (x + noise) % 2
    dense = bins.dense_ids(x), bins.dense_ids(y)
    cx, cy = (sample_counts(ids) for ids in dense)
    local = local_information(cx, cy, sample_counts(bins.joint_ids(*dense)))
    stderr = (local.std(-1) / math.sqrt(n)).mean().item()
    assert stderr == pytest.approx(local.mean(-1).std().item(), rel=0.1)


def test_no_correction_adds_nothing() -> None:
    counts: Any = sample_counts(draw(0, 5, 20))
    assert bias_correction(counts, "none").tolist() == [0.0] * 5


# --- random labels --------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(2, 300), a=st.integers(1, 300), b=st.integers(1, 20))
@settings(max_examples=40)
def test_the_null_is_the_expected_information_of_permuted_labels(
    seed: int, n: int, a: int, b: int
) -> None:
    cluster = pytest.importorskip("sklearn.metrics.cluster")
    x, y = draw(seed, n, values=a), draw(seed + 1, n, values=b)
    table = cluster.contingency_matrix(x.numpy(), y.numpy(), sparse=True)
    nats = float(cluster.expected_mutual_information(table, n))
    of_x, of_y = (sample_counts(bins.dense_ids(ids)) for ids in (x, y))
    assert float(null_information(of_x, of_y)) == pytest.approx(nats / math.log(2), abs=1e-9)
    assert float(null_information(of_y, of_x)) == pytest.approx(nats / math.log(2), abs=1e-9)


def test_the_null_of_large_counts_keeps_its_tails() -> None:
    """Counts beyond the window of a sum that is cut off, by how often each sample meets others."""
    x, y = torch.arange(20_000) % 2, (torch.arange(20_000) < 7000).long()
    bias = 1 / (2 * 20_000 * math.log(2))
    assert float(null_information(sample_counts(x), sample_counts(y))) == pytest.approx(bias, 1e-2)


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_null_is_that_of_many_permutations(correction: Correction) -> None:
    x, y = draw(0, 200, values=60), draw(1, 200, values=5)
    a, b = sample_counts(x), sample_counts(y)
    generator = torch.Generator().manual_seed(2)
    orders = torch.stack([torch.randperm(200, generator=generator) for _ in range(400)])
    pairs = sample_counts(bins.joint_ids(x, y[orders]))
    shuffled = information(a, b[orders], pairs, correction)
    spread = float(shuffled.std()) / 400**0.5
    null = float(null_information(a, b, correction))
    assert abs(null - float(shuffled.mean())) < 4 * spread + 0.003


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_null_of_a_batch_is_that_of_each_problem(correction: Correction) -> None:
    x, y = sample_counts(draw(0, 3, 1, 50)), sample_counts(draw(1, 2, 50))
    batch = null_information(x, y, correction)
    assert batch.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(batch[i, j], null_information(x[i, 0], y[j], correction))
    still = torch.full((50,), 50)
    assert float(null_information(still, y[0], correction)) == 0

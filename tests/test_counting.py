"""Compiled hash tables against torch's sorts: the same counts, whatever comes."""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace import Tracer
from ibtrace.numerics import bins, compiled, counting
from ibtrace.numerics._jit import kernel
from ibtrace.numerics.entropy import (
    local_information,
    null_by_tables,
    null_information,
    pair_counts,
    plug_in,
    sample_counts,
)
from ibtrace.types import I_XT

DTYPES = [torch.bool, torch.int8, torch.int16, torch.int32, torch.int64]
DTYPES += [torch.float16, torch.bfloat16, torch.float32, torch.float64]
seeds = st.integers(0, 2**31)


def draw(seed: int, *shape: int, values: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(values, shape, generator=generator)


def naive_counts(ids: Tensor) -> Tensor:
    """How many samples of a problem share each one's id, by comparing all pairs."""
    return (ids.unsqueeze(-1) == ids.unsqueeze(-2)).sum(-1)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    seed=seeds,
    lead=st.lists(st.integers(0, 3), max_size=2),
    n=st.integers(0, 70),
    d=st.integers(1, 19),
    values=st.integers(1, 5),
    raw=st.booleans(),
)
@settings(max_examples=25)
def test_rows_are_counted_as_their_sorted_twin_has_them(
    dtype: torch.dtype, seed: int, lead: list[int], n: int, d: int, values: int, raw: bool
) -> None:
    rows = (draw(seed, *lead, n, d, values=values) - 2).to(dtype)
    if dtype.is_floating_point:
        rows = torch.where(draw(seed + 1, *rows.shape) == 0, -0.0 * rows, rows)
    counted = counting.counted_rows(rows, raw=raw)
    assert counted.ids.shape == counted.counts.shape == rows.shape[:-1]
    assert torch.equal(counted.counts, naive_counts(counted.ids))
    if n and rows.numel():
        twin = bins.ordered_row_ids(rows, raw=raw)
        assert torch.equal(counted.counts, naive_counts(twin))
        assert torch.equal(pair_counts(counted.ids, twin), counted.counts)
        first_seen = counted.ids.cummax(-1).values
        assert bool((counted.ids <= first_seen.roll(1, -1).add(1))[..., 1:].all())


def test_many_rows_in_any_layout() -> None:
    rows = draw(0, 5000, 40, values=2)[::3, 5:30].to(torch.float32)
    twin = bins.ordered_row_ids(rows.contiguous())
    counted = counting.counted_rows(rows)
    assert torch.equal(counted.counts, sample_counts(twin))
    assert torch.equal(pair_counts(counted.ids, twin), counted.counts)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_rows_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch, d: int) -> None:
    def no_keys(words: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
        return np.zeros((2, words), np.uint32)

    rows = draw(2, 3, 300, d, values=3).to(torch.int32)
    rows[..., : d // 2] = 0  # a factor of every product: without keys all hashes are alike
    rows[..., d - d % 2 :] = 0
    monkeypatch.setattr(counting, "_keys", no_keys)
    counted = counting.counted_rows(rows)
    assert torch.equal(counted.counts, naive_counts(bins.ordered_row_ids(rows)))


@given(seed=seeds, n=st.integers(1, 60), a=st.integers(1, 60), b=st.integers(1, 60))
@settings(max_examples=60)
def test_pairs_are_counted_as_by_comparing_them_all(seed: int, n: int, a: int, b: int) -> None:
    x, y = draw(seed, n, values=min(a, n)), draw(seed + 1, 2, 3, n, values=min(b, n))
    expected = naive_counts(x * n + y)
    assert torch.equal(pair_counts(x, y), expected)
    assert torch.equal(pair_counts(y, x), expected)
    assert torch.equal(sample_counts(y), naive_counts(y))


def test_pairs_of_ids_that_span_too_much_for_a_table() -> None:
    x, y = draw(0, 3, 2000, values=1900), draw(1, 2000, values=1900)
    assert torch.equal(pair_counts(x, y), naive_counts(x * 2000 + y))


def test_ids_out_of_range_are_refused() -> None:
    with pytest.raises(IndexError, match=r"ids must lie in 0\.\.2; 1 do not"):
        sample_counts(torch.tensor([0, 1, 3]))
    with pytest.raises(IndexError, match="ids must be 0 or more; 2 are not"):
        pair_counts(torch.tensor([0, -1, 2]), torch.tensor([-1, 0, 0]))


@given(seed=seeds, n=st.integers(1, 60), span=st.integers(1, 1000), shift=st.integers(-(2**62), 99))
@settings(max_examples=60)
def test_integers_are_numbered_in_order(seed: int, n: int, span: int, shift: int) -> None:
    values = draw(seed, 2, n, values=span) + shift
    values[1] += 2**62  # each problem has a span of its own
    for ids, of_one in zip(bins.dense_ids(values), values, strict=True):
        assert ids.tolist() == np.unique(of_one.numpy(), return_inverse=True)[1].tolist()


def test_integers_far_apart_are_numbered_too() -> None:
    ends = torch.tensor([2**63 - 1, -(2**63), 0, 2**63 - 1])
    assert bins.dense_ids(ends).tolist() == [2, 0, 1, 2]
    assert bins.dense_ids(torch.tensor([True, False])).tolist() == [1, 0]


def test_the_null_is_the_mean_over_all_permutations() -> None:
    x, y = sample_counts(torch.tensor([0, 0, 0, 1, 2, 2])), sample_counts(torch.arange(6) % 2)
    orders = torch.cartesian_prod(*[torch.arange(6)] * 6)
    orders = orders[[len(set(order)) == 6 for order in orders.tolist()]]
    ids = torch.tensor([0, 0, 0, 1, 2, 2])
    joint = pair_counts(ids, (torch.arange(6) % 2)[orders])
    bits = (6 * joint / (x * y[orders])).log2().mean()
    torch.testing.assert_close(null_information(x, y), bits.double(), rtol=0, atol=1e-6)


# --- compiling ------------------------------------------------------------------------------


def test_a_kernel_runs_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])

    @kernel("int64(int64)")
    def doubled(value: int) -> int:
        return 2 * value

    assert doubled(21) == 42


def test_compiling_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "_NOTICED", -1.0)
    compiled.kernels.cache_clear()
    with caplog.at_level(logging.WARNING, "ibtrace"):
        compiled.kernels("_counting")
        compiled.kernels("_counting")
    assert [record.message.split(" in ")[0] for record in caplog.records] == [
        "compiled ibtrace.numerics._counting"
    ]


def test_compiling_is_no_part_of_what_an_estimate_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    imported, slept = importlib.import_module, list[str]()

    def slowly(name: str, package: str | None = None) -> object:
        if name == "ibtrace.numerics._counting" and not slept:
            slept.append(name)
            time.sleep(0.5)
        return imported(name, package)

    monkeypatch.setattr(importlib, "import_module", slowly)
    compiled.kernels.cache_clear()
    begin, told = time.perf_counter(), compiled.clock()
    data = draw(0, 64, 3).float(), draw(1, 64)
    trace = Tracer(nn.Linear(3, 2), data=data, estimators=["binning"])
    took, told = time.perf_counter() - begin, compiled.clock() - told
    assert took - told > 0.5
    frame = trace.trace.frame()
    assert 0 < frame.loc[frame["quantity"] == I_XT, "seconds"].sum() <= told


def test_importing_ibtrace_does_not_import_numba(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, ibtrace; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(
    seed=seeds,
    lead=st.lists(st.integers(1, 3), max_size=2),
    n=st.integers(2, 90),
    values=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    shared=st.booleans(),
)
@settings(max_examples=60)
def test_information_and_its_null_of_counts_are_those_of_torch(
    seed: int, lead: list[int], n: int, values: tuple[int, int], shared: bool
) -> None:
    a = draw(seed, *lead, n, values=min(values[0], n))
    b = draw(seed + 1, *([] if shared else lead), n, values=min(values[1], n))
    x, y, xy = sample_counts(a), sample_counts(b), pair_counts(a, b)
    found, local = plug_in(x, y, xy), local_information(x, y, xy)
    assert found.bits.shape == torch.Size(lead)
    torch.testing.assert_close(found.bits, local.mean(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.spread, local.std(-1), rtol=0, atol=1e-12)
    twin = null_by_tables(x, y, "none")
    torch.testing.assert_close(null_information(x, y), twin, rtol=0, atol=1e-12)


@given(seed=seeds, lead=st.lists(st.integers(1, 3), max_size=2), n=st.integers(1, 40))
@settings(max_examples=30)
def test_samples_of_one_input_are_alike_or_not(seed: int, lead: list[int], n: int) -> None:
    x = draw(seed, n, values=max(2, n // 2))
    first = torch.stack([(x == value).nonzero()[0, 0] for value in x])
    of_x = draw(seed + 1, int(x.max()) + 1, values=5)[x].expand(*lead, n).clone()
    assert counting.same_as(of_x, first).all()
    t = torch.where(draw(seed + 2, *lead, n, values=9) == 0, of_x + 1, of_x)
    assert torch.equal(counting.same_as(t, first), (t[..., first] == t).all(-1))

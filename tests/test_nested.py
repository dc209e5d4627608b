"""Bins whose widths double, in one pass: what `Binning` gives at each width, to the last bit."""

from __future__ import annotations

from collections import Counter
from math import log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from ibtrace.estimators import Binning
from ibtrace.numerics.nested import chains, nested_ids, nested_information, pair_counts
from ibtrace.probe import Probe

WIDTHS = [2.0**k for k in range(-5, 4)]
HALF_STEPS = [width * 2**0.5 for width in WIDTHS]


def drawn(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same_partition(a: Tensor, b: Tensor) -> bool:
    """Whether ids ``(n,)`` put the same samples together."""
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len({p for p, _ in pairs}) == len({q for _, q in pairs})


@pytest.mark.parametrize("widths", [WIDTHS, HALF_STEPS, [0.02, 0.16, 0.32, 20.48]])
@pytest.mark.parametrize(
    "values",
    [
        drawn(3, 200, 1),
        drawn(2, 300, 3),
        drawn(1, 128, 9).tanh(),
        drawn(3, 100, 2, scale=40).relu(),
        drawn(2, 150, 2).double(),
        -drawn(130, 40, 1).abs(),  # more problems than 8 bits number
        torch.zeros(2, 50, 2),
    ],
    ids=["line", "cube", "tanh", "relu", "double", "many", "constant"],
)
def test_each_width_is_binning_to_the_last_bit(values: Tensor, widths: list[float]) -> None:
    n = values.shape[1]
    # inputs that repeat, so that I(X;T) is no mere entropy
    for x in (torch.arange(n)[:, None], torch.arange(n)[:, None] // 3):
        probe = Probe(x.float(), torch.arange(n) % 3, population=True)
        for width, ids in zip(widths, nested_ids(values, widths), strict=True):
            about_x, about_y = nested_information(ids, probe.x_ids, probe.labels)
            of_x, of_y = Binning(width=width).plane(values, probe)
            assert torch.equal(about_x, of_x.bits)
            assert torch.equal(about_y, of_y.bits)


@given(
    arrays("float32", (2, 12, 2), elements=st.floats(-4, 4, width=16).map(lambda v: round(v, 3))),
    st.sampled_from([0.125, 0.3, 1.0]),
)
def test_partitions_are_those_of_a_plain_floor(values: object, finest: float) -> None:
    tensor = torch.as_tensor(values)
    widths = [finest, 2 * finest, 8 * finest]
    for width, ids in zip(widths, nested_ids(tensor, widths), strict=True):
        plain = torch.floor(tensor / torch.tensor(width, dtype=tensor.dtype))
        for problem, rows in zip(ids, plain, strict=True):
            expected = rows.unique(dim=0, return_inverse=True)[1]
            assert same_partition(problem, expected)
        assert not {*ids[0].tolist()} & {*ids[1].tolist()}


def test_numbers_beyond_integers_stay_exact() -> None:
    values = torch.tensor([[[2.0**60], [2.0**60 + 2.0**40], [-(2.0**60)], [0.25]]])
    counts = [len(ids.unique()) for ids in nested_ids(values, [0.5, 2.0**40, 2.0**41])]
    assert counts == [4, 4, 3]


def test_information_by_hand() -> None:
    """Four samples in two cells, of which one holds both classes."""
    ids = torch.tensor([[0, 0, 1, 1]])
    about_x, about_y = nested_information(ids, torch.arange(4), torch.tensor([0, 1, 0, 0]))
    assert about_x.tolist() == [1.0]
    # H(Y) = h(1/4); half of the samples leave h(1/2) = 1 bit open
    assert about_y.item() == pytest.approx(2 - 0.75 * log2(3) - 0.5)
    assert torch.isnan(nested_information(ids, torch.arange(4), None)[1]).all()


@pytest.mark.parametrize("classes", [2, 40])
def test_pairs_are_counted_as_a_counter_counts(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(0, 30, (3, 50), generator=generator)
    ids, labels = own + 50 * torch.arange(3)[:, None], torch.arange(50) % classes
    for problem, counts in zip(ids, pair_counts(ids, labels), strict=True):
        pairs = list(zip(problem.tolist(), labels.tolist(), strict=True))
        tally = Counter(pairs)
        assert counts.tolist() == [tally[pair] for pair in pairs]


def test_chains_are_of_widths_that_nest() -> None:
    widths = [3.0, 0.07, 0.14, 0.1, 0.56, 1.5]
    assert sorted(map(sorted, chains(widths))) == [[0, 5], [1, 2, 4], [3]]
    (chain,) = chains([0.56, 0.07, 0.14])
    assert chain == [1, 2, 0]

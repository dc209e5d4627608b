"""Redundancy: laws whose invariants are known, a naive twin, and the flags of what says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import log2

import pytest
import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Redundancy
from ibtrace.numerics.shannon import invariants
from ibtrace.types import Reading
from tests.layer_views import layer_view

BITS = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]).repeat(8, 1)


def read(t: Tensor, labels: Tensor, bins: int = 2) -> tuple[Reading, Reading]:
    view = layer_view(t, labels)
    found = Redundancy(bins)(view, view._probe)
    return found["degree of redundancy"]["t"], found["degree of vulnerability"]["t"]


def degrees(t: Tensor, labels: Tensor) -> list[float]:
    return [one.value.item() for one in read(t.double()[None], labels)]


def test_copies_of_the_label_are_all_redundant() -> None:
    y = BITS[:, 0]
    assert degrees(y[:, None].repeat(1, 4), y) == pytest.approx([4, 0])


def test_parity_is_in_no_unit_and_lost_with_any() -> None:
    assert degrees(BITS, BITS.sum(1) % 2) == pytest.approx([0, 3])


def test_halves_of_a_label_are_unique() -> None:
    assert degrees(BITS, BITS @ torch.tensor([4, 2, 1])) == pytest.approx([1, 1])


def bits_of(x: Sequence[object], y: Sequence[object]) -> float:
    def entropy(values: Sequence[object]) -> float:
        return sum(-c / len(values) * log2(c / len(values)) for c in Counter(values).values())

    return entropy(x) + entropy(y) - entropy([*zip(x, y, strict=True)])


def naive(t: list[list[int]], y: list[int]) -> Iterator[float]:
    whole = bits_of([*map(tuple, t)], y)
    units = range(len(t[0]))
    yield whole
    yield sum(bits_of([row[i] for row in t], y) for i in units)
    yield sum(
        whole - bits_of([tuple(v for j, v in enumerate(row) if j != i) for row in t], y)
        for i in units
    )


def test_a_naive_twin() -> None:
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(3, (2, 50, 5), generator=generator)
    y = torch.randint(4, (2, 50), generator=generator)
    found = invariants([*t.unbind(-1)], y)
    for at in range(2):
        wanted = [*naive(t[at].tolist(), y[at].tolist())]
        assert [float(part[at]) for part in found[:3]] == pytest.approx(wanted)


def test_units_are_binned_each_on_its_own_range() -> None:
    y = BITS[:, 0]
    t = torch.stack([100.0 * y, 0.001 * y], 1)
    assert degrees(t, y) == pytest.approx([2, 0])


def test_random_labels_on_fine_bins_are_flagged() -> None:
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(1, 64, 6, generator=generator)
    labels = torch.randint(2, (64,), generator=generator)
    for reading in read(t, labels, bins=8):
        assert reading.diagnostics["joint_bits"].item() > 0.9
        assert bool(reading.flags["undersampled"])
        assert bool(reading.flags["near_ceiling"])
    for reading in read(BITS.double()[None].repeat(1, 16, 1), BITS.repeat(16, 1)[:, 0]):
        assert not bool(reading.flags["undersampled"] | reading.flags["near_ceiling"])


def test_a_dead_layer_has_no_information_and_says_so() -> None:
    y = BITS[:, 0]
    t = torch.stack([torch.zeros(64, 2).double(), torch.stack([y, y], 1).double()])
    for reading in read(t, y):
        assert reading.value.isnan().tolist() == [True, False]
        assert reading.flags["no_information"].tolist() == [True, False]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="Redundancy: bins"):
        Redundancy(bins=1)
    with pytest.raises(Unsupported, match="Redundancy takes one class a sample"):
        read(torch.randn(1, 9, 2), torch.randn(9))

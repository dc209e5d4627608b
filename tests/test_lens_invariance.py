"""Invariance under the symmetries of a task: reference values, closed forms, what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.datasets.tishby import invariant, reflections, vertices
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Invariance
from ibtrace.numerics.symmetry import orbits
from ibtrace.probe import Probe
from ibtrace.types import Reading
from tests.reference_networks import BITS, PROBE, Kind, network, view_of

CYCLE, SWAP = (1, 2, 3, 0), (1, 0, 2, 3)


def read(model: nn.Module, probe: Probe = PROBE, **fields: Any) -> dict[str, Reading]:
    readings = Invariance(**fields)(view_of(model, probe=probe), probe)
    return {name: of[""] for name, of in readings.items()}


class Of(nn.Module):
    """Two logits that are a function of x, and its negative."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        f = self.scale * self.function(x)
        return torch.stack([-f, f], 1)


def all_bits(d: int) -> Tensor:
    return torch.tensor([*itertools.product([0.0, 1.0], repeat=d)], dtype=torch.float64)


def closure(permutations: Any) -> set[tuple[int, ...]]:
    group = {tuple(permutations[0])}
    while True:
        more = {tuple(a[at] for at in b) for a in group for b in permutations} | group
        if len(more) == len(group):
            return group
        group = more


def test_fifteen_reflections_generate_the_120_symmetries_of_the_icosahedron() -> None:
    group = closure(reflections())
    assert (len(reflections()), len(group)) == (15, 120)
    gram = vertices() @ vertices().T
    for permutation in group:
        at = torch.tensor(permutation)
        torch.testing.assert_close(gram[at][:, at], gram)
    ids = orbits(PROBE.x, reflections())
    assert ids is not None
    assert int(ids.max()) + 1 == 82
    for orbit in range(82):
        assert len(BITS.y[ids == orbit].unique()) == 1


@pytest.mark.parametrize(
    ("kind", "apart", "share"),
    [("tanh", 0.3876586914, 0.05990717934), ("relu", 0.0, 0.03591319192)],
)
def test_reference_networks(kind: Kind, apart: float, share: float) -> None:
    readings = read(network(kind))
    disagreement = readings["disagreement within orbits"]
    assert float(disagreement.value) == pytest.approx(apart, rel=1e-9, abs=1e-14)
    assert float(readings["invariant share of variance"].value) == pytest.approx(share, rel=1e-9)
    assert bool(disagreement.flags["one_class"]) == (kind == "relu")
    assert not bool(disagreement.flags["labels_vary"])
    assert int(disagreement.diagnostics["orbits"]) == 82


def test_a_function_of_the_invariant_is_invariant() -> None:
    readings = read(Of(lambda x: invariant(x) - 7.632))
    assert float(readings["disagreement within orbits"].value) == pytest.approx(0, abs=1e-14)
    assert float(readings["invariant share of variance"].value) == pytest.approx(1)


def test_one_bit_and_the_parity_of_all_by_hand() -> None:
    bits = all_bits(4)
    probe = Probe(bits, (bits.sum(1) > 2).long())
    # a bit under all permutations: with k of 4 ones, p = k/4, and Var E_g = 1/4 of the variance
    one = read(Of(lambda x: x[:, 0] - 0.5), probe, permutations=[CYCLE, SWAP])
    wanted = sum(n * 2 * (k / 4) * (1 - k / 4) for k, n in enumerate((1, 4, 6, 4, 1))) / 16
    assert float(one["disagreement within orbits"].value) == pytest.approx(wanted)
    assert float(one["invariant share of variance"].value) == pytest.approx(1 / 4)
    parity = read(Of(lambda x: x.sum(1) % 2 - 0.5), probe, permutations=[CYCLE])
    assert float(parity["invariant share of variance"].value) == pytest.approx(1)


def test_against_the_naive_sum_over_the_group_on_rows_in_any_order() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, generator=draw, dtype=torch.float64)
    group = closure([CYCLE])
    rows = torch.cat([x[:, list(g)] for g in group])[torch.randperm(28, generator=draw)]
    probe = Probe(rows, torch.arange(28) % 3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    readings = read(model, probe, permutations=[CYCLE])
    with torch.no_grad():
        each = torch.stack([model(rows[:, list(g)]) for g in group])  # (4, 28, 3)
        each = each - each.mean(2, keepdim=True)
    classes = each.argmax(2)
    apart = (classes[:, None] != classes[None]).double().mean()
    assert float(readings["disagreement within orbits"].value) == pytest.approx(float(apart))
    share = each.mean(0).var(0, correction=0).sum() / each[0].var(0, correction=0).sum()
    assert float(readings["invariant share of variance"].value) == pytest.approx(float(share))
    assert bool(readings["disagreement within orbits"].flags["labels_vary"])


def test_what_is_constant_has_no_share() -> None:
    readings = read(Of(lambda x: 0.1 + 0 * x[:, 0]))
    share = readings["invariant share of variance"]
    assert bool(share.value.isnan())
    assert bool(share.flags["constant"])
    assert bool(readings["disagreement within orbits"].flags["one_class"])


def test_a_probe_that_is_not_whole_orbits_is_refused() -> None:
    bits = all_bits(4)
    for rows in (bits[:-2], torch.cat([bits, bits[1:2]]), bits[torch.tensor([1, 1, 2, 4])]):
        probe = Probe(rows, torch.arange(len(rows)) % 2)
        with pytest.raises(Unsupported, match="not all in the probe, each once"):
            read(nn.Linear(4, 2).double(), probe, permutations=[CYCLE])
    with pytest.raises(Unsupported, match=r"on all its 4096 patterns"):
        read(nn.Linear(4, 2).double(), Probe(bits, torch.arange(16) % 2))
    part = Probe(PROBE.x[:4000], PROBE.y[:4000])
    with pytest.raises(Unsupported, match=r"on all its 4096 patterns"):
        read(network("tanh"), part)
    with pytest.raises(Unsupported, match="permutes 4 places, and inputs have 12"):
        read(network("tanh"), permutations=[CYCLE])
    with pytest.raises(Unsupported, match="one output for each class"):
        read(nn.Linear(4, 1).double(), Probe(bits, torch.arange(16) % 2), permutations=[CYCLE])


def test_a_seed_that_diverged_leaves_the_others_theirs() -> None:
    two = view_of(network("tanh"), network("relu"))
    lost = {name: value.clone() for name, value in two.parameters.items()}
    next(iter(lost.values()))[1] = torch.nan
    for of in Invariance()(two.at(lost), PROBE).values():
        assert of[""].value.isfinite().tolist() == [True, False]
        assert of[""].flags["diverged"].tolist() == [False, True]


@pytest.mark.parametrize(
    "wrong", [[], [()], [(0, 0)], [(1, 2)], [(0, 1), (2, 1, 0)], 3, "01", [(0.0, 1.0)], [0, 1]]
)
def test_what_is_no_permutation_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"Invariance: permutations must be permutations of 0"):
        Invariance(permutations=wrong)

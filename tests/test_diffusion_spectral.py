"""DiffusionSpectral against the package's formula, the walk itself, and groups far apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibtrace import Probe
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.estimators import DiffusionSpectral


def layer(n: int = 120, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_walk(t: NDArray[np.float64], width: float, steps: float) -> float:
    """S by the matrix of transitions, which is not symmetric, of a density with its constant."""
    squares = ((t[:, None] - t[None]) ** 2).sum(-1)
    density = np.exp(-squares / (2 * width**2)) / (width * np.sqrt(2 * np.pi))
    walk = density / density.sum(1, keepdims=True)
    p = np.abs(np.linalg.eigvals(walk)) ** steps
    p = p[p > 1e-14] / p.sum()
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize("steps", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("width", [0.2, 1.0, 10.0])
def test_it_is_the_entropy_of_a_walk_less_that_within_classes(steps: float, width: float) -> None:
    t, y = layer(), (torch.arange(120) % 6).clamp(max=2)  # 20, 20 and 80
    estimate = DiffusionSpectral(steps, width)(t, y)
    whole = of_walk(t.numpy(), width, steps)
    shares = [1 / 6, 1 / 6, 2 / 3]
    within = sum(s * of_walk(t[y == k].numpy(), width, steps) for k, s in enumerate(shares))
    assert float(estimate.diagnostics["entropy"]) == pytest.approx(whole, abs=1e-6)
    assert float(estimate.bits) == pytest.approx(whole - within, abs=1e-6)


def test_the_package_subtracts_what_random_classes_tell() -> None:
    """Its number compares each class with as many samples, drawn at random."""
    t, y = layer(200) + 2.0 * (torch.arange(200) % 2)[:, None], torch.arange(200) % 2
    estimate = DiffusionSpectral(width=0.5)(t, y)
    rng = np.random.default_rng(0)
    drawn = [rng.choice(200, 100, replace=False) for _ in range(60)]
    theirs = np.mean([of_walk(t[rows].numpy(), 0.5, 1.0) for rows in drawn])
    theirs -= sum(of_walk(t[y == k].numpy(), 0.5, 1.0) / 2 for k in (0, 1))
    ours = float(estimate.bits - estimate.diagnostics["null_bits"])
    assert ours == pytest.approx(float(theirs), abs=0.05)
    assert float(estimate.diagnostics["null_bits"]) > 0.1
    assert bool(estimate.flags["undersampled"])


@pytest.mark.parametrize("steps", [1.0, 7.0])
def test_groups_far_apart_count_alike_whatever_their_sizes(steps: float) -> None:
    ids = torch.tensor([0] * 50 + [1] * 7 + [2] * 2 + [3])
    t = 1e3 * ids.double()[:, None]
    estimate = DiffusionSpectral(steps, 1.0)(t, ids)
    assert float(estimate.bits) == pytest.approx(2, abs=1e-12)
    halves = DiffusionSpectral(steps, 1.0)(t, ids // 2)
    assert float(halves.bits) == pytest.approx(2 - (57 + 3) / 60, abs=1e-12)


def test_what_is_all_alike_or_all_apart() -> None:
    n = 64
    probe = Probe(torch.arange(n), torch.arange(n) % 4)
    about_x, about_y = DiffusionSpectral().plane(torch.ones(n, 2), probe)
    for estimate in (about_x, about_y):
        assert float(estimate.bits) == 0
        assert bool(estimate.flags["constant"])
    apart, by_class = DiffusionSpectral(width=1e-3).plane(torch.arange(n)[:, None].double(), probe)
    assert float(apart.bits) == pytest.approx(6)
    assert float(by_class.bits) == pytest.approx(2)  # 6 bits less the 4 of 16 samples
    assert bool(apart.flags["near_ceiling"])
    assert bool(by_class.flags["undersampled"])  # random labels of these sizes tell as much
    crowd = DiffusionSpectral(width=1e3)(layer(), torch.arange(120) % 2)
    assert bool(crowd.flags["crowded"])
    assert float(crowd.bits) == pytest.approx(0, abs=1e-4)


def test_more_steps_leave_fewer_places() -> None:
    t, y = layer(200, 2), torch.arange(200) % 2
    entropies = [
        float(DiffusionSpectral(steps, 0.3)(t, y).diagnostics["entropy"]) for steps in (1, 2, 8, 64)
    ]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[-1] < entropies[0] / 2


def test_named_widths_follow_the_scale_and_a_number_does_not() -> None:
    t, y = layer(), torch.arange(120) % 3
    for width in ("silverman", "median"):
        same = [DiffusionSpectral(width=width)(scale * t, y) for scale in (1.0, 1e3)]
        assert float(same[0].bits) == pytest.approx(float(same[1].bits), abs=1e-9)
        assert float(same[1].diagnostics["width"]) == pytest.approx(
            1e3 * float(same[0].diagnostics["width"])
        )
    fixed = [DiffusionSpectral(width=1.0)(scale * t, y) for scale in (1.0, 10.0)]
    assert abs(float(fixed[0].bits - fixed[1].bits)) > 0.1
    assert math.isnan(float(fixed[0].stderr))


def test_a_batch_is_its_problems_and_ids_that_repeat_are_classes() -> None:
    t = torch.stack([layer(60, 2, seed) for seed in range(3)])
    x = torch.arange(60) // 2
    about_x, _ = DiffusionSpectral().plane(t, Probe(x, torch.arange(60) % 2))
    for one, bits in zip(t, about_x.bits, strict=True):
        assert float(DiffusionSpectral()(x, one).bits) == pytest.approx(float(bits), abs=1e-12)
    distinct, _ = DiffusionSpectral().plane(t[0], Probe(torch.arange(60), x))
    assert float(distinct.bits) == pytest.approx(float(distinct.diagnostics["entropy"]))
    assert float(about_x.bits[0]) < float(distinct.bits)


def test_what_is_no_configuration_or_no_pair_is_refused() -> None:
    for steps in (0.5, -1.0):
        with pytest.raises(ConfigError, match="steps must be at least 1"):
            DiffusionSpectral(steps=steps)
    for width in (0.0, "wide"):
        with pytest.raises(ConfigError, match="width must be 'silverman', 'median' or above 0"):
            DiffusionSpectral(width=width)  # type: ignore[arg-type]  # refused
    with pytest.raises(Unsupported, match="give the layer as floats"):
        DiffusionSpectral()(torch.arange(8), torch.arange(8))

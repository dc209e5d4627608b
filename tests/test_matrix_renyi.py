"""MatrixRenyi: exact cases, naive twin, width rules, the shortcut at α = 2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.estimators import Exact, MatrixRenyi
from ibtrace.estimators.matrix_renyi import Width
from ibtrace.numerics.gram import DeltaGram, matrix_entropy, spectrum
from ibtrace.probe import Probe
from ibtrace.types import Estimate

ALPHAS = [0.5, 1.0, 1.01, 2.0, 3.0]


def noise(n: int, d: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def kernel(value: Tensor, width: float) -> np.ndarray[Any, Any]:
    if not value.is_floating_point():
        return (value[:, None] == value[None]).double().numpy()
    squares = (value[:, None] - value[None]).square().sum(-1)
    return torch.exp(-squares / (2 * width**2)).numpy()


def naive_entropy(matrix: np.ndarray[Any, Any], alpha: float) -> float:
    values = np.linalg.eigvalsh(matrix / np.trace(matrix))
    values = values[values > 1e-15]
    if alpha == 1:
        return float(-(values * np.log2(values)).sum())
    return float(np.log2((values**alpha).sum()) / (1 - alpha))


def naive(x: Tensor, y: Tensor, alpha: float, widths: tuple[float, float]) -> float:
    a, b = kernel(x, widths[0]), kernel(y, widths[1])
    return naive_entropy(a, alpha) + naive_entropy(b, alpha) - naive_entropy(a * b, alpha)


def same(a: Estimate, b: Estimate, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(a.bits, b.bits, rtol=0, atol=tolerance)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("groups", [2, 5, 8])
def test_equal_groups_far_apart_give_log2_of_their_number(alpha: float, groups: int) -> None:
    ids = torch.arange(40 * groups) % groups
    points = torch.stack([100.0 * ids, -50.0 * ids], 1)
    for pair in ((points, points), (points, ids), (ids, ids)):
        found = float(MatrixRenyi(alpha, width=0.1)(*pair).bits)
        assert found == pytest.approx(math.log2(groups), abs=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("kinds", ["ff", "fi", "if", "ii"])
def test_equals_its_naive_twin(alpha: float, kinds: str) -> None:
    x, y = noise(50, 3), noise(50, 6, seed=1)
    y[:, 0] += x[:, 0]
    a, b = (
        v if kind == "f" else (3 * v[:, 0]).round().long()
        for v, kind in zip((x, y), kinds, strict=True)
    )
    estimate = MatrixRenyi(alpha)(a, b)
    widths = float(estimate.diagnostics["width_x"]), float(estimate.diagnostics["width_y"])
    assert (widths[0] == 0, widths[1] == 0) == (kinds[0] == "i", kinds[1] == "i")
    assert float(estimate.bits) == pytest.approx(naive(a, b, alpha, widths), abs=1e-8)


def test_alpha_2_is_the_frobenius_norm_and_the_spectrum_agrees() -> None:
    x, y = noise(60, 2), noise(60, 2, seed=1)
    short, long = MatrixRenyi(2.0, width=0.7)(x, y), MatrixRenyi(2.0 + 1e-9, width=0.7)(x, y)
    assert float(short.bits) == pytest.approx(float(long.bits), abs=1e-6)
    ids = torch.arange(60) % 4
    frobenius = (kernel(x, 0.7) / 60) ** 2
    joint = (kernel(x, 0.7) * kernel(ids, 0) / 60) ** 2
    expected = 2 - math.log2(frobenius.sum()) + math.log2(joint.sum())
    assert float(MatrixRenyi(2, width=0.7)(x, ids).bits) == pytest.approx(expected, abs=1e-9)


def test_near_alpha_1_ids_have_their_plug_in_information() -> None:
    x = (2 * noise(300)[:, 0]).round().long()
    y = x + (noise(300, seed=1)[:, 0] > 0)
    for alpha, tolerance in ((1.0, 1e-9), (1.01, 0.05)):
        found = float(MatrixRenyi(alpha)(x, y).bits)
        assert found == pytest.approx(float(Exact()(x, y).bits), abs=tolerance)


@given(st.floats(0.3, 4), st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=40)
def test_entropy_lies_between_0_and_log2_and_falls_with_alpha(
    alpha: float, sizes: list[int]
) -> None:
    ids = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    values = spectrum([DeltaGram(ids)])
    found = float(matrix_entropy(values, alpha))
    assert -1e-9 <= found <= math.log2(len(sizes)) + 1e-9
    assert float(matrix_entropy(values, alpha + 0.5)) <= found + 1e-9


def test_the_standard_error_at_alpha_2_is_the_spread_over_samples() -> None:
    x, y = noise(200 * 40, 1).reshape(40, 200, 1), noise(200 * 40, 1, seed=1).reshape(40, 200, 1)
    estimate = MatrixRenyi(2, width=0.5)(x, x + y)
    ratio = float(estimate.stderr.mean() / estimate.bits.std())
    assert 0.7 < ratio < 1.5
    assert bool(MatrixRenyi()(x[0], y[0]).stderr.isnan())


def test_the_width_rules() -> None:
    x, ids = noise(100, 4), torch.arange(100) % 2
    scale = x.std(0, correction=0).square().mean().sqrt()
    silverman = float(MatrixRenyi(2, gamma=0.5)(x, ids).diagnostics["width_x"])
    assert silverman == pytest.approx(0.5 * 2 * 100 ** (-1 / 8) * float(scale))
    median = float(MatrixRenyi(2, "median")(x, ids).diagnostics["width_x"])
    distances = torch.pdist(x)
    assert median == pytest.approx(float(distances.median()), rel=1e-2)
    rules: list[Width] = ["silverman", "median"]
    for rule in rules:
        same(MatrixRenyi(2, rule)(1e3 * x + 7, ids), MatrixRenyi(2, rule)(x, ids))


def test_the_aligned_width_is_the_best_of_its_grid() -> None:
    ids = torch.arange(60) % 3
    t = noise(60, 2) + 4 * ids[:, None]
    mean = float(torch.pdist(t).mean())
    widths = mean * np.geomspace(0.1, 10, 32)
    target = kernel(ids, 0)
    scores = [(k := kernel(t, w), (k * target).sum() / np.linalg.norm(k))[1] for w in widths]
    estimator = MatrixRenyi(2, "alignment")
    for pair, name in (((t, ids), "width_x"), ((ids, t), "width_y")):
        found = float(estimator(*pair).diagnostics[name])
        assert found == pytest.approx(widths[int(np.argmax(scores))], rel=1e-9)
    about_x = estimator.plane(t, Probe(t, ids))[0]
    assert float(about_x.diagnostics["width_x"]) == float(about_x.diagnostics["width_y"]) == found
    with pytest.raises(Unsupported, match="an alignment needs class ids"):
        estimator(t, t)
    with pytest.raises(Unsupported, match="an alignment needs class ids"):
        estimator.plane(t, Probe(t, t[:, 0]))


@pytest.mark.parametrize("estimator", [MatrixRenyi(), MatrixRenyi(2)])
def test_plane_is_two_calls_and_batches_are_loops(estimator: MatrixRenyi) -> None:
    x, t = noise(60, 7), torch.stack([noise(60, 3, seed=s).relu() for s in (1, 2)])
    for labels in (torch.arange(60) % 3, t[0, :, :2]):
        probe = Probe(x, labels)
        for _ in range(2):
            about_x, about_y = estimator.plane(t, probe)
            same(about_x, estimator(x, t), 0.0)
            same(about_y, estimator(t, probe.labels), 0.0)
    same(about_x[1], estimator(x, t[1]), 0.0)


def test_flags_and_errors() -> None:
    x, y = noise(30, 2), noise(30, 2, seed=1)
    narrow = MatrixRenyi(2, width=1e-3)(x, y)
    assert bool(narrow.flags["saturated"])
    assert float(narrow.bits) == pytest.approx(math.log2(30), abs=1e-9)
    assert not bool(MatrixRenyi(2, width=1.0)(x, y).flags["saturated"])
    constant = MatrixRenyi()(torch.full((30, 2), 0.1), y)
    assert float(constant.bits) == 0
    assert bool(constant.flags["constant"])
    for field, value in (("alpha", 0), ("alpha", -2), ("gamma", -1.0)):
        with pytest.raises(ConfigError, match=f"{field} must be above 0"):
            MatrixRenyi(**{field: value})
    for width in ("scott", 0.0, math.inf):
        with pytest.raises(ConfigError, match="width must be 'silverman'"):
            MatrixRenyi(width=width)  # type: ignore[arg-type]  # refused

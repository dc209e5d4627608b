"""SoftEntropy against values recomputed for this project, a naive sum, exact laws and its peer."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from scipy.special import ive
from torch import Tensor

from ibtrace import Probe
from ibtrace.errors import ConfigError
from ibtrace.estimators import Exact, SoftEntropy, soft_entropy
from ibtrace.numerics import sphere

N, D, POINTS = 256, 6, 20


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """Activations and labels, and reference points in place of random ones."""
    exact = torch.cos(1 + torch.arange(POINTS * D, dtype=torch.float64)).reshape(-1, D)
    references = sphere.directions(exact)
    monkeypatch.setattr(soft_entropy, "reference_points", lambda *_: references)
    t = torch.sin(1 + torch.arange(N * D, dtype=torch.float64)).reshape(N, D)
    return t, torch.arange(N) % 4


@pytest.mark.parametrize(
    ("temperature", "epsilon", "entropy", "about_x", "about_y"),
    [
        ("leading", 0.166785341, 4.310770692, 1.811681402, 0.000172172),
        ("vmf", 0.079143295, 4.299899775, 2.381694831, 0.000677809),
        ("bound", 0.038401478, 4.287095274, 2.902519124, 0.001828640),
    ],
)
def test_the_values_of_the_field(
    temperature: Literal["leading", "vmf", "bound"],
    epsilon: float,
    entropy: float,
    about_x: float,
    about_y: float,
    deterministic: tuple[Tensor, Tensor],
) -> None:
    t, y = deterministic
    of_x, of_y = SoftEntropy(POINTS, temperature).plane(t, Probe(t, y))
    assert float(of_x.diagnostics["temperature"]) == pytest.approx(epsilon, abs=1e-9)
    assert float(of_x.diagnostics["entropy"]) == pytest.approx(entropy, abs=2e-9)
    assert float(of_x.bits) == pytest.approx(about_x, abs=2e-9)
    assert float(of_y.bits) == pytest.approx(about_y, abs=2e-9)


def naive(t: Tensor, ids: Tensor, references: Tensor, epsilon: float) -> float:
    """H(B) - Σ_l P(l) H(B | l), sample by sample and class by class."""
    rows = []
    for row in t.double():
        scores = [float(row / row.norm() @ w) / epsilon for w in references]
        total = sum(math.exp(s - max(scores)) for s in scores)
        rows.append([math.exp(s - max(scores)) / total for s in scores])

    def entropy(members: list[int]) -> float:
        means = [sum(rows[i][b] for i in members) / len(members) for b in range(len(references))]
        return -sum(p * math.log2(p) for p in means if p > 0)

    bits = entropy(list(range(len(t))))
    for group in ids.unique():
        members = [i for i in range(len(t)) if ids[i] == group]
        bits -= len(members) / len(t) * entropy(members)
    return bits


@pytest.mark.parametrize("d", [2, 7])
def test_it_equals_the_naive_sum(d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    t = torch.randn(60, d, generator=generator) + 0.5
    for ids in (torch.arange(60), torch.arange(60) % 7, torch.arange(60) // 2):
        estimate = SoftEntropy(12, 0.2)(ids, t, seed=3)
        references = sphere.reference_points(12, d, 3, t.device)
        assert float(estimate.bits) == pytest.approx(naive(t, ids, references, 0.2), abs=1e-12)


@pytest.mark.parametrize("d", [2, 3, 8, 64, 99, 101, 300, 2000])
@pytest.mark.parametrize("count", [2, 20, 100, 5000])
def test_the_temperature_solves_its_condition(d: int, count: int) -> None:
    """KL(vMF ‖ uniform) = ln n by quadrature over the angle, which knows no Bessel function."""
    kappa = 1 / sphere.vmf_temperature(count, d)
    places = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    angles = math.pi * places**3  # narrow where narrow laws lie
    surface = (d - 2) * angles.sin().log() + 2 * places.log()
    uniform, tilted = surface.exp(), surface + kappa * (angles.cos() - 1)
    weights = (tilted - tilted.max()).exp()
    log_z = math.log(weights.sum() / (uniform / uniform.max()).sum()) + float(
        tilted.max() - uniform.log().max()
    )
    mean = float((weights * (angles.cos() - 1)).sum() / weights.sum())
    assert kappa * mean - log_z == pytest.approx(math.log(count), rel=1e-5)


def test_both_ways_to_a_bessel_function_agree_where_they_meet() -> None:
    for nu in (50.0, 60.5, 99.0):
        for kappa in (10.0, 80.0, 3000.0):
            by_scipy = math.log(ive(nu, kappa))
            assert sphere._log_bessel(nu, kappa) == pytest.approx(by_scipy, abs=1e-9)


def test_it_is_the_information_of_a_channel() -> None:
    """Sharp assignments are the plug-in information of the nearest point; B is a function of T."""
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(500, 3, generator=generator)
    y = (t[:, 0] > 0).long()
    references = sphere.reference_points(100, 3, 0, t.device)
    nearest = (sphere.directions(t) @ references.T).argmax(-1)
    sharp = SoftEntropy(temperature=1e-6)(t, y)
    assert float(sharp.bits) == pytest.approx(float(Exact()(nearest, y).bits), abs=1e-6)
    soft = [float(SoftEntropy(temperature=e)(torch.arange(500), t).bits) for e in (0.05, 0.2, 1)]
    assert soft == sorted(soft, reverse=True)


def test_what_lies_far_from_the_origin_is_flagged() -> None:
    t = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    assert not bool(SoftEntropy()(torch.arange(300), t).flags["crowded"])
    assert bool(SoftEntropy()(torch.arange(300), t + 1e4).flags["crowded"])


def test_rows_of_zeros_go_everywhere_alike() -> None:
    t = torch.zeros(100, 3)
    t[50:, 0] = 1
    estimate = SoftEntropy(temperature=1e-4)(t, (torch.arange(100) >= 50).long())
    assert int(estimate.diagnostics["zero_rows"]) == 50
    assert float(estimate.bits) == pytest.approx(
        sum(p * math.log2(p / q) for p, q in [(1.0, 0.505), (0.01, 0.505)]) / 2
        + 99 * 0.01 * math.log2(0.01 / 0.005) / 2,
        abs=1e-6,
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": 1}, "points must be"),
        ({"temperature": "hot"}, "temperature must be one of vmf, leading, bound"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SoftEntropy(**fields)  # type: ignore[arg-type]  # on purpose


def test_the_peer_agrees() -> None:
    """The ``soft-entropy`` package, where it is installed, with its own random points."""
    peer = pytest.importorskip("soft_entropy.temp_calibration")
    for d in (3, 64, 99):
        own = sphere.vmf_temperature(100, d)
        assert own == pytest.approx(peer.sphere_temp_calibration(100, d, mode="exact"), rel=1e-8)
    for d in (6, 64, 768):
        own = sphere.bounded_temperature(100, d)
        assert own == pytest.approx(peer.find_eps(100, d), rel=1e-8)

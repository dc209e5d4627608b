"""Binning, AdaptiveBinning and Exact: published code to the digit, naive twins, laws, flags."""

import math
import pickle
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.datasets import tishby
from ibtrace.errors import ConfigError, InvalidInput, NonFinite, TooFewSamples
from ibtrace.estimators.adaptive_binning import AdaptiveBinning
from ibtrace.estimators.binning import Binning
from ibtrace.estimators.exact import Exact
from ibtrace.probe import Probe
from ibtrace.types import Estimate, LayerContext, label

Array = npt.NDArray[Any]
seeds = st.integers(0, 2**31)
EVERY = [
    Binning(),
    Binning(bins=5, range=(-1, 1)),
    Binning(width=0.4),
    Binning.idnns(),
    AdaptiveBinning(bins=6),
    Exact(),
]
CORRECTED: list[Callable[[Any], Any]] = [
    lambda correction: Binning(correction=correction),
    lambda correction: AdaptiveBinning(correction=correction),
    lambda correction: Exact(correction=correction),
]


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def integers(seed: int, *shape: int, values: int = 2) -> Tensor:
    return torch.randint(values, shape, generator=torch.Generator().manual_seed(seed))


def keys(rows: Array) -> list[tuple[Any, ...]]:
    return [tuple(np.atleast_1d(row).tolist()) for row in rows]


def naive_information(x: Array, y: Array) -> float:
    """H(x) + H(y) - H(xy) of rows, by counting tuples."""

    def bits(symbols: list[Any]) -> float:
        return -sum(c / len(x) * math.log2(c / len(x)) for c in Counter(symbols).values())

    pairs = list(zip(keys(x), keys(y), strict=True))
    return bits(keys(x)) + bits(keys(y)) - bits(pairs)


def same(one: Estimate, other: Estimate) -> None:
    assert torch.allclose(one.bits, other.bits, atol=1e-12)
    assert torch.allclose(one.stderr, other.stderr, atol=1e-12, equal_nan=True)
    assert one.flags.keys() == other.flags.keys()
    for name, flag in one.flags.items():
        assert torch.equal(flag, other.flags[name]), name
    for name, figure in one.diagnostics.items():
        assert torch.allclose(figure, other.diagnostics[name], equal_nan=True), name


# --- published code, to the digit -----------------------------------------------------------


def twelve_bits() -> Probe:
    task = tishby()
    return Probe(task.x, task.y)


def reference_layer(activation: str, d: int) -> Array:
    x = (np.arange(4096)[:, None] >> np.arange(11, -1, -1)) & 1
    drive = 0.6 * ((2 * x - 1) @ np.sin(1 + np.arange(12 * d)).reshape(12, d))
    values = np.tanh(drive) if activation == "tanh" else np.maximum(drive, 0)
    return np.asarray(values, np.float32)


REFERENCE = [
    ("tanh", 2, (8.452515, 0.164254), (8.798563, 0.171885), (3.517295, 0.003064)),
    ("tanh", 3, (9.705486, 0.327489), (9.906186, 0.341468), (4.430785, 0.008965)),
    ("tanh", 5, (10.909444, 0.595847), (11.052187, 0.629937), (5.346390, 0.038961)),
    ("relu", 2, (4.497510, 0.052227), (6.484137, 0.234800), (3.564831, 0.016121)),
    ("relu", 3, (6.000522, 0.103993), (7.769373, 0.375204), (4.200479, 0.026541)),
    ("relu", 5, (8.430376, 0.255823), (11.510857, 0.771253), (6.889935, 0.124431)),
]


@pytest.mark.parametrize(("activation", "d", "idnns", "fine", "coarse"), REFERENCE)
def test_the_published_estimates(
    activation: str,
    d: int,
    idnns: tuple[float, float],
    fine: tuple[float, float],
    coarse: tuple[float, float],
) -> None:
    probe = twelve_bits()
    t = torch.from_numpy(reference_layer(activation, d))
    expected = {Binning.idnns(): idnns, Binning.ibsgd(0.07): fine, Binning.ibsgd(0.5): coarse}
    for estimator, values in expected.items():
        pair = estimator.plane(t, probe)
        assert tuple(e.bits.item() for e in pair) == pytest.approx(values, abs=1e-6), estimator


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_idnns_bins_are_its_digitize_with_the_wrap(dtype: type) -> None:
    edges = np.linspace(-1, 1, 30).astype(np.float32)
    at_edges = np.concatenate([edges, np.nextafter(edges, 9), np.nextafter(edges, -9)])
    beyond = np.random.default_rng(0).normal(0, 1, 500)
    values: Array = np.concatenate([at_edges, [-1.5, 1.0, 7.0], beyond]).astype(dtype)[:, None]
    symbols = edges[np.digitize(values, edges) - 1]
    y = np.arange(len(values)) % 3
    estimate = Binning.idnns()(torch.from_numpy(values), torch.from_numpy(y))
    assert estimate.bits.item() == pytest.approx(naive_information(symbols, y), abs=1e-12)
    assert estimate.flags["out_of_range"]
    assert estimate.diagnostics["out_of_range"].item() == pytest.approx(
        (abs(values) > 1).mean(), abs=1e-12
    )


def test_idnns_pools_below_with_above() -> None:
    t = torch.tensor([[-1.5], [1.0], [7.0], [-1.0]])
    assert (
        Exact()(torch.tensor([0, 0, 0, 1]), torch.arange(4)).bits
        == Binning.idnns()(t, torch.arange(4)).bits
    )


# --- naive twins ----------------------------------------------------------------------------


def naive_symbols(estimator: Any, t: Array) -> Array:
    if isinstance(estimator, Exact):
        return t
    if isinstance(estimator, AdaptiveBinning):
        ranked = np.sort(t.ravel())
        ranks = [math.ceil(k * t.size / estimator.bins) for k in range(1, estimator.bins)]
        edges = ranked[np.minimum(ranks, t.size - 1)]
        tied = [edge for edge, following in pairwise(edges) if edge == following]
        above = (t[..., None] > np.asarray(tied, t.dtype)).sum(-1)  # a tied edge is a bin itself
        return np.asarray((t[..., None] >= np.unique(edges)).sum(-1) + 1j * above)
    if estimator.preset == "idnns":
        edges = np.linspace(-1, 1, 30).astype(np.float32)
        return np.asarray(edges[np.digitize(t, edges) - 1])
    if estimator.width is not None:
        return np.asarray(np.floor(t / t.dtype.type(estimator.width)))
    given = estimator.range if isinstance(estimator.range, tuple) else (t.min(), t.max())
    low, high = (t.dtype.type(end) for end in given)
    if low == high:
        return np.zeros(t.shape)
    number = np.clip(np.floor((t - low) / ((high - low) / estimator.bins)), 0, estimator.bins - 1)
    return np.where(t < low, -1, np.where(t > high, estimator.bins, number))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", EVERY, ids=label)
@given(seed=seeds, n=st.integers(2, 60), d=st.integers(1, 4))
@settings(max_examples=8)
def test_naive_twin_in_batches(
    estimator: Any, dtype: torch.dtype, seed: int, n: int, d: int
) -> None:
    t = (normal(seed, 2, 3, n, d, dtype=dtype) * 2).round(decimals=1).relu() - 0.5
    y = integers(seed, n, values=3)
    kept = t.clone()
    estimate = estimator(t, y)
    assert estimate.bits.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        naive = naive_information(naive_symbols(estimator, t[i, j].numpy()), y.numpy())
        assert estimate.bits[i, j].item() == pytest.approx(naive, abs=1e-12)
        same(estimate[i, j], estimator(t[i, j], y))
    assert torch.equal(t, kept)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_plane_is_two_calls(estimator: Any, repeated: bool) -> None:
    x = integers(0, 80, 8, values=2).float() if repeated else torch.arange(80.0)[:, None]
    probe = Probe(x, integers(1, 80, values=4))
    t = normal(2, 3, 80, 2).relu()
    for _ in range(2):  # the second pass finds what the first one left in the probe
        for_x, for_y = estimator.plane(t, probe)
        same(for_x, estimator(probe.x_ids, t))
        same(for_y, estimator(t, probe.labels))


@pytest.mark.parametrize("estimator", [Binning(), Binning(range=(5, 6)), Binning(width=9.0)])
def test_continuous_labels_are_cut_at_their_own_quantiles(estimator: Binning) -> None:
    labels = normal(3, 200, 1) * 1e-3
    t = normal(4, 200, 2)
    _, with_labels = estimator.plane(t, Probe(t, labels))
    symbols = naive_symbols(AdaptiveBinning(), labels.numpy())[:, 0].real
    same(with_labels, estimator(t, torch.from_numpy(symbols.astype(int))))


def test_adaptive_bins_of_continuous_labels_are_their_own() -> None:
    labels, t = normal(3, 200, 1), normal(4, 200, 2) + 60
    bound = AdaptiveBinning(bins=4, range="trace", edges=(59.0, 60.0, 61.0))
    _, estimate = bound.plane(t, Probe(t, labels))
    symbols = naive_symbols(AdaptiveBinning(bins=4), labels.numpy())[:, 0].real
    ids = torch.from_numpy(symbols.astype(int))
    same(estimate, bound(t, ids))


@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_ids_are_taken_as_they_are(estimator: Any) -> None:
    x, y = integers(0, 100, values=5), integers(1, 100, values=3)
    truth = naive_information(x.numpy(), y.numpy())
    assert estimator(x * 10**12 - 7, y).bits.item() == pytest.approx(truth, abs=1e-12)
    assert estimator(x, y == 0).bits.item() == pytest.approx(
        naive_information(x.numpy(), (y == 0).numpy()), abs=1e-12
    )


@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_the_standard_error_is_the_delta_method(estimator: Any) -> None:
    t, y = normal(5, 300, 1), integers(5, 300, values=2)
    symbols = keys(naive_symbols(estimator, t.numpy()))
    pairs = list(zip(symbols, y.tolist(), strict=True))
    pt, py, pty = Counter(symbols), Counter(y.tolist()), Counter(pairs)
    local = [math.log2(300 * pty[s, c] / pt[s] / py[c]) for s, c in pairs]
    expected = np.std(local, ddof=1) / 300**0.5
    assert estimator(t, y).stderr.item() == pytest.approx(expected, abs=1e-12)


# --- ranges ---------------------------------------------------------------------------------


def test_values_beyond_the_range_have_open_end_bins() -> None:
    t = torch.tensor([[-9.0], [-1.5], [-1.0], [0.0], [1.0], [1.1], [50.0], [0.9]])
    estimate = Binning(bins=2, range=(-1, 1))(torch.arange(8), t)
    ids = torch.tensor([0, 0, 1, 2, 2, 3, 3, 2])
    assert estimate.bits == Exact()(torch.arange(8), ids).bits
    assert estimate.flags["out_of_range"]
    assert estimate.diagnostics["out_of_range"].item() == 0.5
    assert estimate.diagnostics["occupied_bins"].item() == 4


def test_out_of_range_is_said_per_problem() -> None:
    t = torch.stack([torch.zeros(4, 1), torch.full((4, 1), 2.0)])
    estimate = Binning(range=(-1, 1))(t, torch.arange(4))
    assert estimate.flags["out_of_range"].tolist() == [False, True]
    assert estimate.diagnostics["out_of_range"].tolist() == [0, 1]


def test_bind_settles_the_range() -> None:
    tanh = LayerContext("fc1", activation_range=(-1.0, 1.0))
    relu = LayerContext("fc2")
    assert Binning(bins=7).bind(tanh) == Binning(bins=7, range=(-1, 1))
    assert Binning(bins=7).bind(relu) == Binning(bins=7, range="snapshot")
    for settled in (Binning.idnns(), Binning.ibsgd(0.07), Binning(range=(0, 5))):
        assert settled.bind(tanh) == settled
    assert Binning(range="snapshot").bind(tanh).range == "snapshot"


def test_the_snapshots_range_makes_shift_and_scale_irrelevant() -> None:
    t = integers(0, 4, 50, 3, values=100).double()
    y = integers(1, 50)
    same(Binning()(t, y), Binning()(t * 1024 - 4096, y))


def test_the_range_of_the_trace() -> None:
    unbound = Binning(range="trace")
    assert unbound.needs_trace
    trace = torch.tensor([[-3.0, 0.0], [1.0, 5.0]])
    bound = unbound.bind(LayerContext("fc", trace_values=trace))
    assert bound == Binning(range=(-3, 5))
    assert not bound.needs_trace
    with pytest.raises(InvalidInput, match=r"has no trace yet; bind\(\)"):
        unbound(trace, torch.arange(2))
    with pytest.raises(InvalidInput, match="no trace_values for layer 'fc'"):
        unbound.bind(LayerContext("fc"))


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (Binning(), "T in 30 bins on its own [min, max]"),
        (Binning(range=(-1, 1)), "T in 30 bins on [-1, 1]"),
        (Binning(bins=8, range="trace"), "T in 8 bins on its own [min, max] over the trace"),
        (Binning(width=0.07), "floor(T / 0.07)"),
        (Binning.idnns(), "T in IDNNs' bins, linspace(-1, 1, 30)"),
        (AdaptiveBinning(), "T in 30 quantile bins"),
        (AdaptiveBinning(bins=4, range="trace"), "T in 4 quantile bins over the trace"),
        (Exact(), "T exactly, by its distinct values"),
    ],
)
def test_the_estimand_is_said(estimator: Any, text: str) -> None:
    assert estimator.estimand == text


# --- adaptive bins --------------------------------------------------------------------------


@given(seed=seeds, bins=st.integers(2, 40))
@settings(max_examples=20)
def test_adaptive_bins_see_only_the_order(seed: int, bins: int) -> None:
    t, y = normal(seed, 2, 60, 3, dtype=torch.float64), integers(seed, 60)
    estimator = AdaptiveBinning(bins=bins)
    same(estimator(t, y), estimator(t.exp() * 3 - 8, y))


def test_tied_values_are_a_bin_of_their_own_and_are_reported() -> None:
    t = torch.cat([torch.zeros(55), torch.arange(1.0, 46)])[:, None]
    estimate = AdaptiveBinning(bins=10)(torch.arange(100), t)
    assert estimate.diagnostics["value_bins"].item() == 6
    assert estimate.diagnostics["occupied_bins"].item() == 6
    masses = [0.55, 0.05, 0.1, 0.1, 0.1, 0.1]
    expected = sum(mass * math.log2(1 / mass) for mass in masses)
    assert estimate.bits.item() == pytest.approx(expected)
    above = AdaptiveBinning(bins=10)(torch.arange(100), -t)
    assert above.diagnostics["value_bins"].item() == 6


def test_adaptive_edges_of_the_trace_stay_put() -> None:
    unbound = AdaptiveBinning(bins=4, range="trace")
    assert unbound.needs_trace
    with pytest.raises(InvalidInput, match="has no trace yet"):
        unbound(torch.zeros(4, 1), torch.arange(4))
    trace = torch.arange(8.0).reshape(4, 2)
    bound = unbound.bind(LayerContext("fc", trace_values=trace))
    assert bound.edges == (2, 4, 6)
    assert not bound.needs_trace
    assert bound.bind(LayerContext("other")) == bound
    t = torch.tensor([[-50.0], [1.0], [2.0], [3.0]])
    assert bound(t, torch.tensor([0, 0, 1, 1])).bits.item() == 1


# --- exact ----------------------------------------------------------------------------------


def test_exact_truths_of_the_twelve_bits() -> None:
    bits = twelve_bits().features
    ids = torch.arange(4096)
    popcount = Exact()(ids, bits.sum(-1, keepdim=True))
    assert popcount.bits.item() == pytest.approx(1.96752 / math.log(2), abs=1e-5)
    assert popcount.diagnostics["distinct"].item() == 13
    assert not popcount.flags["all_distinct"]
    parity = Exact()(bits, bits.sum(-1, keepdim=True) % 2)
    assert parity.bits.item() == 1
    assert Exact()(ids, bits[:, :5]).bits.item() == 5


def test_a_layer_that_keeps_all_patterns_is_flagged() -> None:
    t = torch.from_numpy(reference_layer("tanh", 5))
    for_x, for_y = Exact().plane(t, twelve_bits())
    assert for_x.bits.item() == 12
    assert for_x.flags["all_distinct"]
    assert for_x.flags["near_ceiling"]
    assert for_y.bits.item() == pytest.approx(0.99916, abs=1e-5)


def test_weights_are_the_law() -> None:
    flip = 0.11
    weights = ((1 - flip) / 2, flip / 2, flip / 2, (1 - flip) / 2, 0.0)
    x, y = torch.tensor([0, 0, 1, 1, 7]), torch.tensor([0, 1, 0, 1, 5])
    estimate = Exact(weights=weights)(x, y)
    truth = 1 + flip * math.log2(flip) + (1 - flip) * math.log2(1 - flip)
    assert estimate.bits.item() == pytest.approx(truth, abs=1e-12)
    assert estimate.stderr.item() == 0
    even = Exact(weights=(1.0,) * 5)
    assert even(x, y).bits.item() == pytest.approx(Exact()(x, y).bits.item(), abs=1e-12)
    assert label(even).startswith("Exact.weighted(")
    assert label(even) != label(Exact(weights=weights))


# --- flags, types, errors -------------------------------------------------------------------


@pytest.mark.parametrize("correction", ["none", "miller_madow", "grassberger", "chao_shen"])
@pytest.mark.parametrize("build", CORRECTED)
def test_a_constant_layer_has_exactly_nothing(build: Any, correction: str) -> None:
    estimator = build(correction)
    t = torch.full((2, 50, 3), 0.7)
    t[1] = normal(0, 50, 3)
    pair = estimator.plane(t, Probe(torch.arange(50.0)[:, None], integers(0, 50)))
    for estimate in pair:
        assert estimate.bits[0].item() == 0
        assert estimate.flags["constant"].tolist() == [True, False]


@pytest.mark.parametrize("build", CORRECTED)
@pytest.mark.parametrize("correction", ["miller_madow", "grassberger", "chao_shen"])
def test_corrections_lower_the_bias_on_independent_data(build: Any, correction: str) -> None:
    x, y = integers(0, 300, 200, values=8), integers(1, 300, 200, values=8)
    plain, corrected = (
        torch.stack([build(name)(a, b).bits for a, b in zip(x, y, strict=True)])
        for name in ("none", correction)
    )
    assert plain.mean() > 0.15
    assert corrected.mean().abs() < plain.mean() / 2
    assert (corrected < 0).any(), "clipped"


def test_the_ceiling_is_flagged() -> None:
    ids = torch.arange(64)
    fine = torch.stack([torch.arange(64.0), (torch.arange(64) // 2).double()])[..., None]
    assert Binning(bins=64)(ids, fine).flags["near_ceiling"].tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_every_float_type_gives_float64_bits(estimator: Any, dtype: torch.dtype) -> None:
    t = (integers(0, 60, 2, values=9) / 8).to(dtype)
    estimate = estimator(t, integers(1, 60))
    same(estimate, estimator(t.double(), integers(1, 60)))
    assert estimate.bits.dtype == torch.float64


@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_activations_that_carry_a_graph(estimator: Any) -> None:
    t = normal(0, 30, 2).requires_grad_()
    estimate = estimator(t, integers(1, 30))
    assert not estimate.bits.requires_grad
    assert not estimate.stderr.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_gpu_is_cpu(estimator: Any) -> None:
    t, y = normal(0, 4, 500, 3), integers(1, 500)
    on_gpu = estimator(t.cuda(), y.cuda())
    assert on_gpu.bits.is_cuda
    assert torch.allclose(on_gpu.bits.cpu(), estimator(t, y).bits, atol=1e-12)
    probe = Probe(torch.arange(500.0)[:, None], y)
    pairs = zip(estimator.plane(t.cuda(), probe), estimator.plane(t, probe), strict=True)
    assert all(torch.allclose(a.bits.cpu(), b.bits, atol=1e-12) for a, b in pairs)


@pytest.mark.parametrize("estimator", [*EVERY, Exact(weights=(0.5, 0.5))], ids=label)
def test_instances_are_values(estimator: Any) -> None:
    assert pickle.loads(pickle.dumps(estimator)) == estimator
    assert len({estimator, pickle.loads(pickle.dumps(estimator))}) == 1


def test_names_in_tables() -> None:
    assert label(Binning.idnns()) == "Binning.idnns"
    assert label(Binning.ibsgd(0.07)) == "Binning.ibsgd(0.07)"
    assert Binning() == Binning(bins=30)
    # mypy: a list, as YAML gives it
    assert Binning(range=[-1, 1]) == Binning(range=(-1.0, 1.0))  # type: ignore[arg-type]


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Binning(bins=30, width=0.1), "bins=30 and width=0.1; give one"),
    (lambda: Binning(bins=0), "whole number above 0, got 0"),
    (lambda: Binning(width=-1.0), "width must be above 0, got -1"),
    (lambda: Binning(width=0.1, range=(0, 1)), "width needs no range"),
    (lambda: Binning(range=(1, 0)), r"or \(low, high\), got \(1, 0\)"),
    # mypy: refused
    (lambda: Binning(range="layer"), "'activation', 'snapshot', 'trace' or"),  # type: ignore[arg-type]
    (lambda: Binning(correction="mm"), "'mm' is unknown; choose from none"),  # type: ignore[arg-type]
    (lambda: Binning(preset="idnns"), "use Binning.idnns"),
    (lambda: AdaptiveBinning(bins=1), "bins must be 2 or more"),
    # mypy: refused
    (lambda: AdaptiveBinning(range="activation"), "'snapshot' or 'trace'"),  # type: ignore[arg-type]
    (lambda: AdaptiveBinning(bins=3, edges=(1.0,)), "needs 2 ascending edges"),
    (lambda: Exact(weights=(0.5, -0.5)), "finite masses"),
    (lambda: Exact(weights=(1.0,), correction="grassberger"), "use correction='none'"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_impossible_configurations(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_bad_data(estimator: Any) -> None:
    probe = Probe(torch.arange(4.0)[:, None], torch.tensor([0, 1, 0, 1]))
    with pytest.raises(InvalidInput, match="3 samples and the probe has 4"):
        estimator.plane(torch.zeros(3, 2), probe)
    with pytest.raises(NonFinite, match="t has 1 NaN"):
        estimator.plane(torch.tensor([[0.0], [1.0], [torch.nan], [0.0]]), probe)
    with pytest.raises(InvalidInput, match="must be paired"):
        estimator(torch.zeros(3, 2), torch.arange(4))
    with pytest.raises(TooFewSamples, match="at least 2 samples, got 1"):
        estimator(torch.zeros(1, 2), torch.arange(1))
    with pytest.raises(InvalidInput, match="2 weights for 4 samples"):
        Exact(weights=(0.5, 0.5))(torch.zeros(4, 2), torch.arange(4))

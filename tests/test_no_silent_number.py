"""Data that fool estimators: each gives what is true, or says that it does not know."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace import estimators
from ibtrace.errors import InvalidInput, TooLarge, Unsupported
from ibtrace.estimators import Subsampled, _limits, information, make
from ibtrace.numerics.scale import rounded
from ibtrace.probe import Probe
from ibtrace.types import Estimate, Estimator, label

FAST: dict[str, dict[str, Any]] = {
    "variational": {"hidden": 16, "embedding": 8, "steps": 60, "batch": 64},
    "sliced": {"directions": 4},
}
NAMES = estimators.names()


def build(name: str, **fields: Any) -> Estimator:
    return make(name, **FAST.get(name, {}), **fields)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def raised(estimate: Estimate) -> set[str]:
    return {name for name, value in estimate.flags.items() if bool(value.any())}


def honest(estimate: Estimate, truth: float, tolerance: float) -> bool:
    """Within the tolerance of the truth, or flagged; NaN is flagged or it is not honest."""
    near = abs(float(estimate.bits) - truth) <= max(tolerance, 3 * float(estimate.stderr))
    return near or bool(raised(estimate))


# --- undersampling --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained() -> tuple[Tensor, Probe]:
    """A layer of 64 units and labels that are noise: I(T;Y) = 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 20, generator=generator)
    y = torch.randint(0, 10, (400,), generator=generator)
    weight = torch.randn(20, 64, generator=generator) / 20**0.5
    return (x @ weight).relu(), Probe(x, y)


@pytest.mark.parametrize("name", NAMES)
def test_random_labels_are_not_called_information(
    name: str, untrained: tuple[Tensor, Probe]
) -> None:
    t, probe = untrained
    try:
        _, about_y = information(build(name), t, probe)
        called = build(name)(t, probe.labels)
    except InvalidInput:  # scikit-learn takes one column
        return
    for estimate in (about_y, called):
        assert honest(estimate, 0.0, 0.15), (estimate.bits, raised(estimate))


@pytest.mark.parametrize("name", ["binning", "adaptive_binning", "exact", "kde", "noisy_channel"])
def test_a_number_that_random_labels_would_give_is_undersampled(
    name: str, untrained: tuple[Tensor, Probe]
) -> None:
    t, probe = untrained
    about_x, about_y = information(build(name), t, probe)
    assert "undersampled" in raised(about_y)
    assert "undersampled" not in raised(about_x)  # T is a function of X


@pytest.mark.parametrize(
    "estimator", [make("binning", bins=20), make("kde", noise_variance=1e-4)], ids=str
)
def test_a_bias_of_pairs_that_hardly_repeat_is_undersampled(estimator: Estimator) -> None:
    """Every symbol of T repeats, and yet hardly any pair does."""
    t, y = normal(0, 600, 1).round(decimals=1), torch.arange(600) % 30
    estimate = estimator(t, y)
    assert float(estimate.bits) > 0.3
    assert "undersampled" in raised(estimate)
    assert float(estimate.diagnostics["null_bits"]) > 0.1
    few = estimator(t, y % 2)
    assert "undersampled" not in raised(few)


SOFT = ["kde", "noisy_channel", "matrix_renyi", "diffusion_spectral"]
TABLES = ["binning", "adaptive_binning", "exact"]


def rectified(units: int, classes: int, n: int = 500, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A layer with many zeros, so that not all of its rows are unique, and random labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 20, generator=generator)
    t = (x @ torch.randn(20, units, generator=generator) / 20**0.5 - 1).relu()
    return t, torch.randint(0, classes, (n,), generator=generator)


def sparse_codes(classes: int) -> tuple[Tensor, Tensor]:
    """20 columns, 95 % zeros: a third of the rows are all 0."""
    generator = torch.Generator().manual_seed(1)
    t = torch.randn(500, 20, generator=generator)
    t = t * (torch.rand(500, 20, generator=generator) < 0.05)
    return t, torch.randint(0, classes, (500,), generator=generator)


NOISE_LABELS = {
    "30 units": rectified(30, 10),
    "10 units": rectified(10, 2),
    "4 units": rectified(4, 2),
    "2 units": rectified(2, 10),
    "codes": sparse_codes(10),
    "300 labels": (normal(2, 500, 2), torch.arange(500) * 7919 % 500 % 300),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", NOISE_LABELS)
def test_random_labels_of_rows_that_partly_repeat(name: str, case: str) -> None:
    """Fewer than half of the samples may be alone, and the number still be theirs."""
    t, y = NOISE_LABELS[case]
    try:
        calls = [build(name)(t, y), build(name)(y, t), information(build(name), t, Probe(t, y))[1]]
    except InvalidInput:  # scikit-learn takes one column
        return
    for estimate in calls:
        assert honest(estimate, 0.0, 0.15), (estimate.bits, raised(estimate))
        if name in TABLES + SOFT:
            null = float(estimate.diagnostics["null_bits"])
            assert abs(null - float(estimate.bits)) < 0.1
            assert ("undersampled" in raised(estimate)) == (null > 0.1)


@pytest.mark.parametrize("name", [*TABLES, *SOFT, "edge"])
@pytest.mark.parametrize("classes", [2, 4])
def test_classes_apart_whose_symbols_repeat_are_not_undersampled(name: str, classes: int) -> None:
    y = torch.arange(400) % classes
    t = torch.stack([y, y % 2], 1).float() + 0.25 * (torch.arange(400) % 3 == 0)[:, None]
    for estimate in (
        build(name)(t, y),
        information(build(name), t, Probe(normal(0, 400, 3), y))[1],
    ):
        assert "undersampled" not in raised(estimate)
        assert 0 < float(estimate.diagnostics["null_bits"]) < 0.1


@pytest.mark.parametrize("name", TABLES + SOFT)
def test_a_layer_that_x_determines_is_not_undersampled(name: str) -> None:
    """Also where some inputs come twice, and where the classes are the samples."""
    x = normal(0, 300, 5)
    x[150:200] = x[:50]
    probe, t = Probe(x, torch.arange(300) % 2), torch.tanh(x)
    if name != "matrix_renyi":  # it takes X as it is, not as ids
        about_x = information(build(name), t, probe)[0]
        assert "undersampled" not in raised(about_x)
        again = information(build(name), torch.cat([t[:150], normal(1, 150, 5)]), probe)[0]
        assert "undersampled" in raised(again)  # T of the same x differs
    if name != "exact":
        assert "undersampled" not in raised(build(name)(torch.arange(300), t))
    whole = Probe(x, torch.arange(300) % 2, population=True)
    assert "undersampled" not in raised(information(build(name), t, whole)[1])


WITH_PLANE = [
    *(build(name) for name in NAMES if hasattr(estimators.registry[name], "plane")),
    build("exact", correction="grassberger"),
    build("matrix_renyi", alpha=2.0),
    Subsampled(build("binning"), samples=150),
]


@pytest.mark.parametrize("estimator", WITH_PLANE, ids=label)
def test_problems_of_every_kind_in_one_batch_are_those_one_by_one(estimator: Estimator) -> None:
    """Layers that X determines, and does not, that never vary, and that partly repeat."""
    x = normal(0, 200, 5)
    x[100:150] = x[:50]
    t, y = torch.tanh(x[:, :2]), torch.arange(200) % 2
    other = torch.cat([t[:100], normal(1, 100, 2)])
    batch = torch.stack([t, other, torch.ones_like(t), t.round(), other.round(), 1000 * t])
    for probe in (Probe(x, y), Probe(x, y, population=True), Probe(normal(2, 200, 3), y)):
        together = information(estimator, batch, probe)
        for problem, one in enumerate(batch):
            for many, alone in zip(together, information(estimator, one, probe), strict=True):
                assert raised(many[problem]) == raised(alone)
                torch.testing.assert_close(many.bits[problem], alone.bits, equal_nan=True)
                for name, value in alone.diagnostics.items():
                    found = many.diagnostics[name][problem]
                    torch.testing.assert_close(found, value, equal_nan=True)


@pytest.mark.parametrize("name", TABLES)
def test_a_call_asks_of_each_problem_whether_the_other_is_every_sample(name: str) -> None:
    ids = torch.stack([torch.arange(60), torch.arange(60) // 2])
    t = normal(0, 60, 1)
    for estimate in (build(name)(ids, t), build(name)(t, ids)):
        nulls = estimate.diagnostics["null_bits"].isnan().tolist()
        assert nulls == [True, False]
        assert estimate.flags["undersampled"].tolist() == [False, True]


@pytest.mark.parametrize("correction", ["miller_madow", "grassberger", "chao_shen"])
def test_a_correction_is_judged_by_what_it_leaves(correction: str) -> None:
    t, y = normal(0, 600, 1).round(decimals=1), torch.arange(600) % 30
    estimate = build("exact", correction=correction)(t, y)
    null = float(estimate.diagnostics["null_bits"])
    assert ("undersampled" in raised(estimate)) == (null > 0.1)
    assert abs(null - float(estimate.bits)) < 0.1  # these labels know nothing of t
    alone = build("exact", correction=correction)(normal(0, 600, 2), y)
    assert "undersampled" in raised(alone)


@pytest.mark.parametrize("name", ["binning", "adaptive_binning", "exact"])
def test_a_layer_on_the_whole_population_is_not_drowned_in_flags(name: str) -> None:
    x = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).float()
    y = (x.sum(1) > 4).long()
    t = torch.tanh(x @ normal(1, 8, 3).float())
    probe = Probe(x, y, population=True)
    for estimate in information(build(name), t, probe):
        assert "undersampled" not in raised(estimate)


# --- more than an entropy ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [4, 6, 8, 10, 30])
def test_more_than_the_entropy_of_small_classes_is_said(name: str, size: int) -> None:
    """Classes far apart: a correction of few samples is no reason to pass H(Y)."""
    y = torch.arange(60 * size) % 60
    t = y[:, None] + 0.01 * normal(0, len(y), 1)
    entropy = math.log2(60)
    estimates = [build(name)(t, y), build(name)(y, t)]
    estimates += information(build(name), t, Probe(t, y))[1:]
    estimates += information(build(name), y[:, None].double(), Probe(t, t))  # H(T), of floats
    for estimate in estimates:
        above = float(estimate.bits) > entropy + 0.01
        assert ("above_entropy" in raised(estimate)) == above, (estimate.bits, raised(estimate))


@pytest.mark.parametrize("shape", ["even", "uneven"])
def test_neighbours_pass_the_entropy_of_small_classes(shape: str) -> None:
    y = torch.arange(300) % 60
    if shape == "uneven":  # far below log2 of the number of classes
        y = torch.cat([y, torch.zeros(300, dtype=torch.int64)])
    t = y[:, None] + 0.01 * normal(0, len(y), 1)
    for name in ("ksg", "ross", "mixed_ksg", "kozachenko_leonenko"):
        assert "above_entropy" in raised(build(name)(t, y))


# --- continuous targets ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_continuous_targets_are_taken_as_they_are_or_not_at_all(name: str) -> None:
    x, y = normal(0, 600, 2), normal(1, 600, 1)
    t = torch.tanh(x[:, :1])
    if name == "sklearn":  # it takes one column
        x = x[:, :1]
    about_x, about_y = information(build(name), t, Probe(x, y))
    assert honest(about_y, 0.0, 0.15), (about_y.bits, raised(about_y))
    assert float(about_y.bits) != float(about_x.bits)


@pytest.mark.parametrize("name", ["kde", "noisy_channel", "exact", "ross"])
def test_targets_that_never_repeat_are_no_classes(name: str) -> None:
    x, y = normal(0, 200, 2), normal(1, 200, 1)
    _, about_y = information(build(name), torch.tanh(x), Probe(x, y))
    assert math.isnan(float(about_y.bits))
    assert {"undefined", "not_finite"} <= raised(about_y)
    if name == "ross":  # equal floats are no classes to it
        return
    repeated = y.round().abs() / 2
    _, classes = information(build(name), torch.tanh(x), Probe(x, repeated))
    assert math.isfinite(float(classes.bits))


@pytest.mark.parametrize("name", ["kde", "noisy_channel"])
def test_two_continuous_variables_without_classes_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"rows of x hardly repeat.*give x as ids"):
        build(name)(normal(0, 50, 2), normal(1, 50, 1))


# --- outliers and heavy tails ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["x", "y"])
def test_one_outlier_does_not_pass_in_silence(name: str, side: str) -> None:
    if name in ("edge", "kozachenko_leonenko"):
        pytest.skip("neighbour estimators and hashing have their own tests")
    z = normal(3, 1000, 2)
    pair = {"x": z[:, :1].clone(), "y": 0.9 * z[:, :1] + 0.19**0.5 * z[:, 1:]}
    pair[side][7] = 1e6
    try:
        estimate = build(name)(pair["x"], pair["y"])
    except InvalidInput:
        return
    assert honest(estimate, 1.198, 0.25), (estimate.bits, raised(estimate))


@pytest.mark.parametrize("bound", ["dv", "nwj", "infonce", "smile"])
def test_a_variational_bound_survives_an_outlier(bound: str) -> None:
    z = normal(3, 600, 2)
    x, y = z[:, :1].clone(), 0.9 * z[:, :1] + 0.19**0.5 * z[:, 1:]
    estimator = make("variational", bound=bound, hidden=16, embedding=8, steps=200, batch=64)
    plain = float(estimator(x, y).bits)
    x[7] = 1e6
    assert abs(float(estimator(x, y).bits) - plain) < 0.3


@pytest.mark.parametrize("name", ["binning", "adaptive_binning"])
def test_heavy_tailed_targets_are_cut_by_rank(name: str) -> None:
    z = normal(5, 4000, 2)
    t, y = torch.tanh(z[:, :1]), (z[:, :1] + 0.3 * z[:, 1:])
    _, plain = information(build(name), t, Probe(z, y))
    _, heavy = information(build(name), t, Probe(z, y.sinh() ** 5))
    torch.testing.assert_close(heavy.bits, plain.bits)
    assert float(plain.bits) > 1.5


SCALED = [
    make("binning"),
    make("kde", noise="adaptive"),
    make("matrix_renyi", alpha=2.0),
    make("matrix_renyi"),
]


@pytest.mark.parametrize("estimator", SCALED, ids=str)
def test_a_symbol_that_holds_nearly_all_is_said(estimator: Estimator) -> None:
    t, y = normal(0, 500, 2), torch.arange(500) % 2
    t[:, 0] += 4 * y
    assert "crowded" not in raised(estimator(t, y))
    t[3, 1] = 1e9
    assert "crowded" in raised(estimator(t, y))
    still = estimator(torch.ones(500, 2), y)
    assert "crowded" not in raised(still)


def test_noise_that_merges_all_is_said() -> None:
    t, y = normal(0, 200, 2), torch.arange(200) % 2
    assert "crowded" in raised(make("noisy_channel", noise_std=1e4)(t, y))
    assert "crowded" not in raised(make("noisy_channel")(t, y))


# --- values that rounding has merged ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_variable_whose_floats_hardly_differ_is_rounded(name: str, offset: float) -> None:
    z = normal(3, 200, 2)
    y, ids = 0.9 * z[:, :1] + 0.19**0.5 * z[:, 1:], (z[:, 0] > 0).long()
    x = (z[:, :1] + offset).float()
    estimates = []
    for a, b in [(x, y), (y, x), (x, ids), (x.double(), y)]:
        try:
            estimates.append(build(name)(a, b))
        except Unsupported:
            continue
    estimates += information(build(name), x, Probe(y, ids))
    estimates += information(build(name), y, Probe(x, ids))[:1]
    assert all(("rounded" in raised(estimate)) == (offset == 1e6) for estimate in estimates)
    assert "rounded" not in raised(build(name)(z[:, :1] + offset, ids))  # float64 holds it


def test_what_is_rounded_is_a_column_as_wide_as_the_others() -> None:
    z = normal(4, 300, 2).float()
    near_one = torch.stack([z[:, 0], 1 - 1e-6 * z[:, 1].abs()], 1)
    batch = torch.stack([z, z + torch.tensor([0, 1e6]), near_one, torch.full_like(z, 0.1)])
    assert rounded(batch).tolist() == [False, True, False, False]
    assert [bool(rounded(one)) for one in batch] == [False, True, False, False]
    assert not bool(rounded(torch.arange(100) + 10**6))


def test_a_column_in_single_precision_makes_none_beside_it_single() -> None:
    far = 1e6 + normal(5, 300, 2)
    far[:, 0] = far[:, 0].float().double()
    far[:9] = far[:9].float().double()  # nor do some samples
    assert bool(rounded(far[:, :1]))
    assert not bool(rounded(far[:, 1:]))
    assert not bool(rounded(far))  # the variable holds doubles


# --- sparse layers --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("units", [1, 10, 50])
@pytest.mark.parametrize("n", [500, 2000])
def test_random_labels_of_a_layer_that_is_mostly_zero(name: str, units: int, n: int) -> None:
    """A few samples are all that a normal law of a class has to go by; equal values are no news."""
    t, labels = (normal(1, n, units) - 2).relu(), (normal(2, n) * 7919).long() % 4
    if name in ("variational", "npeet") and n > 500:
        pytest.skip("slow, and no different")
    try:
        estimates = [build(name)(t, labels), information(build(name), t, Probe(t, labels))[1]]
    except InvalidInput:  # scikit-learn takes one column
        return
    for estimate in estimates:
        far = abs(float(estimate.bits)) > 0.15
        assert not far or raised(estimate) - {"ties", "ties_jittered", "tied_radii"}


@pytest.mark.parametrize("bias_correction", [True, False])
def test_gaussian_copula_says_what_a_random_order_gives(bias_correction: bool) -> None:
    estimator = make("gaussian_copula", bias_correction=bias_correction)
    t, ids = (normal(1, 500, 20) - 1.5).relu(), torch.arange(500) % 4
    for estimate in (estimator(t, ids), information(estimator, t, Probe(t, ids))[1]):
        assert "undersampled" in raised(estimate)
        assert abs(float(estimate.diagnostics["null_bits"]) - float(estimate.bits)) < 0.6
    x, y = normal(2, 200, 10), normal(3, 200, 10)
    assert ("undersampled" in raised(estimator(x, y))) == (not bias_correction)
    assert "undersampled" not in raised(information(estimator, x.tanh(), Probe(x, ids[:200]))[0])
    whole = information(estimator, t, Probe(t, ids, population=True))
    assert all(bool(estimate.diagnostics["null_bits"].isnan()) for estimate in whole)
    apart = 4.0 * ids[:, None] + normal(4, 500, 1)
    assert raised(estimator(apart, ids)) == set()
    assert raised(estimator(apart, apart + normal(5, 500, 1))) == set()


@pytest.mark.parametrize("classes", [2, 10, 31, 100, 500])
def test_one_hot_rows_hold_their_class(classes: int) -> None:
    y = torch.arange(2000) % classes
    rows = nn.functional.one_hot(y, classes).float()
    for t in (rows, -rows, 5 - 3 * rows):
        estimate = make("adaptive_binning")(t, y)
        assert float(estimate.bits) == pytest.approx(math.log2(classes), abs=1e-3)
        assert "constant" not in raised(estimate)


def test_the_tied_value_of_a_rectified_layer_is_a_bin_of_its_own() -> None:
    t = normal(0, 1000, 1).sub(1).relu()
    zero = (t[:, 0] == 0).long()
    estimate = make("adaptive_binning", bins=4)(t, zero)
    share = float(zero.double().mean())
    entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share))
    assert float(estimate.bits) == pytest.approx(entropy)


# --- what a machine can hold ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e160, 1e-160, 1e300])
def test_values_whose_squares_overflow_are_flagged_numbers(name: str, scale: float) -> None:
    z = normal(0, 100, 2)
    x, y, ids = z[:, :1], 0.9 * z[:, :1] + 0.4 * z[:, 1:], (z[:, 0] > 0).long()
    pairs = [(scale * x, y), (x, scale * y), (scale * x, ids), (ids, scale * x)]
    for a, b in pairs:
        try:
            estimate = build(name)(a, b)
        except Unsupported:
            continue
        assert "extreme_values" in raised(estimate)
        assert bool(estimate.bits.isfinite())
    for t, features, labels in ((scale * x, x, ids), (x, scale * x, ids), (x, x, scale * y)):
        about_x, about_y = information(build(name), t, Probe(features, labels))
        changed = [about_x] if t is x and labels is ids else [about_y]
        for estimate in changed:
            assert "extreme_values" in raised(estimate)
            assert bool(estimate.bits.isfinite()) or "undefined" in raised(estimate)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_problem_of_extreme_values_leaves_the_others_of_its_batch_alone(
    name: str, dtype: torch.dtype
) -> None:
    z, ids = normal(0, 90, 1).to(dtype), torch.arange(90) % 3
    far = z.clone()
    far[7] = torch.finfo(dtype).max
    huge = torch.finfo(dtype).max ** 0.9
    batch = torch.stack([z + ids[:, None], huge * z, z / huge, far, far.neg()])
    probe = Probe(z, ids)
    together = information(build(name), batch, probe)
    for problem, t in enumerate(batch):
        for many, alone in zip(together, information(build(name), t, probe), strict=True):
            torch.testing.assert_close(many.bits[problem], alone.bits, equal_nan=True)
            assert raised(many[problem]) == raised(alone)
            if "undefined" not in raised(alone):
                assert ("extreme_values" in raised(alone)) == (problem > 0)
                assert bool(alone.bits.isfinite())


@pytest.mark.parametrize("name", ["kde", "noisy_channel"])
def test_noise_is_nothing_to_values_this_large(name: str) -> None:
    t, ids = 1e160 * normal(0, 64, 2), torch.arange(64)
    assert float(build(name)(ids, t).bits) == pytest.approx(6, abs=1e-6)


HUNGRY = [
    (make("matrix_renyi"), 50_000, 1, "alpha=2.0"),
    (make("matrix_renyi", alpha=2.0, width="median"), 50_000, 1, "silverman"),
    (make("gaussian_copula"), 100, 50_000, "project to fewer columns"),
    (make("compressed"), 30_000, 30_000, "autoencoder"),
]


@pytest.mark.parametrize(("estimator", "n", "d", "advice"), HUNGRY, ids=lambda v: str(v)[:30])
def test_what_would_not_fit_is_refused_before_it_starts(
    estimator: Estimator, n: int, d: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_limits, "memory", lambda device: 16e9)
    x = torch.zeros(1, 1).expand(n, d)
    y = torch.arange(n) % 2
    message = rf"{type(estimator).__name__}.* needs \d+\.\d GB .*more than 50%.*8\.0 GB; .*{advice}"
    for pair in ((x, y), (y, x), (x, x[:, :1])):
        with pytest.raises(TooLarge, match=message) as caught:
            estimator(*pair)
        assert "\n" not in str(caught.value)
    with pytest.raises(TooLarge, match=message):
        information(estimator, x, Probe(torch.arange(n)[:, None].float(), y))


@pytest.mark.parametrize("name", NAMES)
def test_small_data_fit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_limits, "memory", lambda device: 64e6)
    estimate = build(name)(normal(0, 60, 1), torch.arange(60) % 2)
    assert bool(estimate.bits.isfinite())


def test_a_machine_says_how_much_memory_it_has() -> None:
    assert 1e8 < _limits.memory(torch.device("cpu")) < 1e14


@pytest.mark.parametrize("name", ["kde", "noisy_channel"])
def test_a_population_has_no_null_though_t_is_no_function_of_x(name: str) -> None:
    """Inputs that stand there twice with another T each, as of a noisy layer."""
    t = normal(0, 40, 2)
    x, y = torch.arange(20).repeat(2).float()[:, None], torch.arange(40) % 2
    for population in (False, True):
        both = information(make(name), t, Probe(x, y, population=population))
        assert [bool(e.diagnostics["null_bits"].isnan()) for e in both] == [population] * 2

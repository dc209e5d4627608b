"""What a variable is measured in, and how its values lie, changes no estimate in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace import estimators, problems
from ibtrace.errors import ConfigError
from ibtrace.estimators import (
    EDGE,
    KDE,
    KSG,
    NPEET,
    Binning,
    Compressed,
    KozachenkoLeonenko,
    MixedKSG,
    NoisyChannel,
    Ross,
    Sliced,
    plane,
)
from ibtrace.numerics.columns import spreads
from ibtrace.numerics.scale import Scale, centre, scaled, spread, squarable
from ibtrace.probe import Probe

NEIGHBOURS = [
    "ksg",
    "ross",
    "npeet",
    "mixed_ksg",
    "kozachenko_leonenko",
    "sklearn",
    "sliced",
    "compressed",
    "edge",
]
OF_FLOATS = [name for name in NEIGHBOURS if name != "ross"]
MANY_COLUMNS = [name for name in OF_FLOATS if name != "sklearn"]
TRUTH = 1.198  # of `pair`


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pair(n: int = 1000) -> tuple[Tensor, Tensor]:
    noise = normal(3, n, 2)
    x = noise[:, :1]
    return x, 0.9 * x + 0.19**0.5 * noise[:, 1:]


def put(value: Tensor, at: float) -> Tensor:
    value = value.clone()
    value[7] = at
    return value


def raised(estimate: Any) -> set[str]:
    return {name for name, flag in estimate.flags.items() if bool(flag)}


# --- constants and offsets ------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_FLOATS)
@pytest.mark.parametrize("factor", [1e-160, 1e-6, -1.0, 1e3, 1e6, 1e140])
def test_a_constant_factor_changes_nothing(name: str, factor: float) -> None:
    estimator = estimators.make(name)
    x, y = pair()
    wanted = float(estimator(x, y).bits)
    assert wanted == pytest.approx(TRUTH, abs=0.1)
    for scaled_pair in ((factor * x, y), (x, factor * y), (factor * x, factor * y)):
        estimate = estimator(*scaled_pair)
        # scikit-learn counts at the very radius, where rounding decides
        allowed = 0.02 if name == "sklearn" else 1e-9
        if name == "edge" and factor < 0:  # the cells' offsets are not mirrored
            allowed = 0.1
        assert float(estimate.bits) == pytest.approx(wanted, abs=allowed)
        assert raised(estimate) == ({"extreme_values"} if factor in (1e-160, 1e140) else set())


@pytest.mark.parametrize("name", MANY_COLUMNS)
@pytest.mark.parametrize("factor", [1e-6, 1e3, 1e6])
def test_nor_does_it_of_many_columns_or_beside_labels(name: str, factor: float) -> None:
    estimator = estimators.make(name)
    x, y = pair(600)
    wide = torch.cat([x, normal(5, 600, 9)], 1)
    labels = (y[:, 0] > 0).long()
    for other in (y, labels):
        wanted = estimator(wide, other).bits
        torch.testing.assert_close(estimator(factor * wide, other).bits, wanted, atol=1e-9, rtol=0)
        torch.testing.assert_close(estimator(other, factor * wide).bits, wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", OF_FLOATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dollars_far_from_zero_lose_no_digits(name: str, dtype: torch.dtype) -> None:
    x, y = pair()
    usd = (200_000 + 50_000 * y).to(dtype)
    for estimate in (estimators.make(name)(x, usd), estimators.make(name)(usd, x)):
        assert float(estimate.bits) == pytest.approx(TRUTH, abs=0.1)
    far = y + 2.0**26
    assert float(estimators.make(name)(x, far).bits) == pytest.approx(TRUTH, abs=0.1)


def test_unscaled_is_what_it_was_and_says_where_it_fails() -> None:
    x, y = pair()
    for kind in (KSG, NPEET, MixedKSG, KozachenkoLeonenko):
        estimate = kind(scale="none")(1000 * x, y)
        assert abs(float(estimate.bits) - TRUTH) > 0.3
        assert "scales_apart" in raised(estimate)
        assert "scales_apart" not in raised(kind(scale="none")(3 * x, y))


@pytest.mark.parametrize("kind", [KSG, NPEET, MixedKSG, KozachenkoLeonenko, Sliced, Compressed])
def test_a_nuisance_column_in_other_units_is_flagged_or_scaled(kind: type[Any]) -> None:
    x, y = pair(2000)
    loud = torch.cat([1000 * normal(6, 2000, 8 if kind is Compressed else 1), x], 1)
    for columns in ((loud, y), (y, loud)):
        assert "scales_apart" in raised(kind()(*columns))
        assert "scales_apart" not in raised(kind(scale="column")(*columns))
    if kind not in (Sliced, Compressed):
        assert float(kind(scale="column")(loud, y).bits) == pytest.approx(TRUTH, abs=0.15)
    if kind not in (Sliced, Compressed, KozachenkoLeonenko):
        assert float(kind(scale="rank")(loud, y).bits) == pytest.approx(TRUTH, abs=0.15)
    labels = (y[:, 0] > 0).long()
    if kind is not KSG:
        assert "scales_apart" in raised(kind()(loud, labels))
    assert "scales_apart" in raised(Ross()(loud, labels))
    assert float(Ross(scale="column")(loud, labels).bits) > float(Ross()(loud, labels).bits) + 0.2


def wide_columns(factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """Three columns of the same spread, the last of them made wider; labels and a target."""
    x = normal(11, 400, 3)
    t = torch.stack([column / column.abs().median() for column in x.T], 1)
    t[:, 2] *= factor
    return t, (t[:, 0] > 0).long(), t[:, :1] + 0.5 * normal(12, 400, 1)


SCALE_FREE = {"exact", "adaptive_binning", "gaussian_copula", "edge", "variational"}
ONE_COLUMN = {"sklearn"}
OF_CLASSES = {"ross", "kde", "noisy_channel", "soft_entropy", "diffusion_spectral"}
BY_EVIDENCE = {"ksg", "mixed_ksg", "npeet", "ross", "kozachenko_leonenko", "compressed"}


@pytest.mark.parametrize("name", sorted(set(estimators.registry) - ONE_COLUMN))
def test_one_geometry_for_columns_of_unlike_spread_is_flagged(name: str) -> None:
    estimator = estimators.make(name)
    near, labels, target = wide_columns(1.4 if name in BY_EVIDENCE else 8.0)
    far, wide = wide_columns(13.0)[0], wide_columns(1000.0)[0]
    probe = Probe(normal(13, 400, 2), labels)
    others = [labels] if name in OF_CLASSES else [labels, target]
    for other in others:
        plain = estimator(other, near)
        for columns, expected in ((near, False), (far, True), (wide, True)):
            for estimate in (estimator(other, columns), estimator(columns, other)):
                assert ("scales_apart" in raised(estimate)) == (expected and name not in SCALE_FREE)
        if name in SCALE_FREE:
            moved = float(estimator(other, wide).bits - plain.bits)
            assert abs(moved) < (0.3 if name == "variational" else 0.02)
    for columns, expected in ((near, False), (wide, True)):
        for estimate in plane(estimator, columns[None], probe):
            if "undefined" in raised(estimate):
                continue
            assert estimate.flags.get("scales_apart", torch.zeros(1)).shape == (1,)
            assert ("scales_apart" in raised(estimate)) == (expected and name not in SCALE_FREE)


@pytest.mark.parametrize("bins", [Binning(bins=30), Binning(width=0.5), Binning(range=(-3, 3))])
def test_so_it_is_whatever_sets_the_width_of_a_bin(bins: Binning) -> None:
    near, labels, _ = wide_columns(8.0)
    assert "scales_apart" not in raised(bins(near, labels))
    assert "scales_apart" in raised(bins(wide_columns(13.0)[0], labels))


def test_noise_that_follows_each_column_is_not_one_geometry() -> None:
    wide, labels, _ = wide_columns(1000.0)
    assert "scales_apart" in raised(KDE(noise="adaptive")(labels, wide))
    for noise in ("multiplicative", "lognormal"):
        channel = NoisyChannel(noise=noise)
        assert "scales_apart" not in raised(channel(labels, wide))


def test_columns_that_never_vary_or_only_by_rounding_are_not_apart() -> None:
    x, y = pair()
    saturated = 1 + 1e-8 * normal(8, 1000, 1)
    for still in (torch.zeros(1000, 1).double(), saturated):
        assert "scales_apart" not in raised(KSG()(torch.cat([x, still], 1), y))


def test_x_and_y_weigh_alike_whatever_their_dimensions() -> None:
    law = problems.make("multinormal-dense-5-5-0.5")
    wide, _ = law.sample(1000, seed=0)
    y = wide[:, :1] + 0.5 * normal(1, 1000, 1)
    truth = 0.5 * np.log2(1 + float(wide[:, 0].var()) / 0.25)
    scaled_bits, plain = (float(KSG(scale=s)(wide, y).bits) for s in ("variable", "none"))
    assert abs(scaled_bits - truth) < abs(plain - truth)


@given(st.integers(0, 99), st.sampled_from([2, 5]))
@settings(max_examples=15)
def test_a_variable_may_be_rotated(seed: int, d: int) -> None:
    turn = torch.linalg.qr(normal(seed, d, d))[0]
    x = normal(seed + 1, 400, d)
    y = x[:, :1] + normal(seed + 2, 400, 1)
    for estimator in (KSG(), MixedKSG(), KozachenkoLeonenko()):
        wanted = float(estimator(x, y).bits)
        assert float(estimator(x @ turn, y).bits) == pytest.approx(wanted, abs=0.05)


# --- outliers, heavy tails, extremes --------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in OF_FLOATS if name != "sklearn"])
@pytest.mark.parametrize("at", [1e6, -1e6, 1e12])
def test_one_outlier_does_not_change_the_estimate(name: str, at: float) -> None:
    estimator = estimators.make(name)
    x, y = pair(2000)
    for outlying in ((put(x, at), y), (x, put(y, at)), (put(x, at), put(y, -at))):
        assert float(estimator(*outlying).bits) == pytest.approx(TRUTH, abs=0.1)


def test_where_scikit_learn_sets_the_scale_an_outlier_is_flagged() -> None:
    x, y = pair(2000)
    for outlying in ((put(x, 1e6), y), (x, put(y, 1e6))):
        estimate = estimators.make("sklearn")(*outlying)
        assert "scales_apart" in raised(estimate)
        ranked = estimators.make("sklearn", scale="rank")(*outlying)
        assert float(ranked.bits) == pytest.approx(TRUTH, abs=0.1)
        assert not raised(ranked)


@pytest.mark.parametrize("name", OF_FLOATS)
def test_values_beyond_what_can_be_squared_give_a_flagged_number(name: str) -> None:
    estimator = estimators.make(name)
    for d in (1,) if name == "sklearn" else (1, 7):
        x, y = (torch.cat([v, normal(d, 1000, d)], 1)[:, :d] for v in pair())
        for extreme in (
            (put(x, 1e160), y),
            (x, put(y, 1e300)),
            (put(x, 1.7e308), put(y, -1.7e308)),
        ):
            estimate = estimator(*extreme)
            assert bool(estimate.bits.isfinite())
            assert "extreme_values" in raised(estimate)


@pytest.mark.parametrize("name", OF_FLOATS)
def test_heavy_tails_are_right_or_flagged(name: str) -> None:
    x, y = pair(2000)
    heavy = [torch.sinh(4 * v) for v in (x, y)]  # monotone: the information stays
    estimate = estimators.make(name)(*heavy)
    right = abs(float(estimate.bits) - TRUTH) < 0.1
    assert right or "heavy_tails" in raised(estimate)
    if name != "kozachenko_leonenko" and name not in ("sliced", "compressed"):
        ranked = estimators.make(name, scale="rank")(*heavy)
        assert float(ranked.bits) == pytest.approx(TRUTH, abs=0.1)
    law = problems.make("1v1-normal-0.9")
    assert not any("heavy" in flag for flag in raised(estimators.make(name)(*law.sample(500))))


# --- the scale itself -----------------------------------------------------------------------


@given(st.integers(0, 99), st.integers(2, 40), st.integers(1, 4))
@settings(max_examples=30)
def test_the_spread_is_the_median_distance_that_is_not_zero(seed: int, n: int, d: int) -> None:
    x = normal(seed, n, d).round()
    middle = torch.from_numpy(np.median(x.numpy(), 0))
    assert torch.equal(centre(x)[0], middle)
    far = (x - middle).norm(dim=1)
    expected = far[far > 0].sort().values
    if len(expected):
        wanted = float(expected[(len(expected) - 1) // 2])
        assert float(spread(x - middle)) == pytest.approx(wanted, rel=1e-12)
    else:
        assert float(spread(x - middle)) == 1


@given(st.integers(0, 99), st.integers(1, 40), st.sampled_from(["plain", "round", "relu", "clamp"]))
@settings(max_examples=60)
def test_the_spread_of_a_column_is_its_median_distance_that_is_not_zero(
    seed: int, n: int, kind: str
) -> None:
    x = normal(seed, n, 3) + torch.tensor([0.0, 0.3, -2.0])
    x = {"plain": x, "round": x.round(), "relu": x.relu(), "clamp": x.clamp(-0.3, 0.1)}[kind]
    columns = spreads(x)
    for at, column in enumerate(x.T.numpy()):
        middle = np.median(column)
        far = np.sort(np.abs(column - middle)[column != middle])
        assert float(columns.middle[at]) == middle
        assert bool(columns.varies[at]) == (len(far) > 0)
        assert float(columns.typical[at]) == (far[(len(far) - 1) // 2] if len(far) else 1)


@given(st.integers(0, 99), st.floats(-320, 300), st.floats(0, 307), st.integers(0, 3))
@settings(max_examples=60)
def test_values_are_brought_to_where_they_square(
    seed: int, size: float, outlying: float, far: int
) -> None:
    """By a power of 2, but for what is farther than 2^100: that remains the farthest."""
    x = normal(seed, 20, 2).clamp(-5, 5) * 10**size
    x[:far] = (x[:far] * 10**outlying).clamp(-1.7e308, 1.7e308)
    points, extreme = squarable(x)
    within = 2.0**-100 <= float(x.abs().max()) <= 2.0**100
    assert not (within and bool(extreme))
    assert torch.equal(points, x) or bool(extreme)
    assert float(points.abs().max()) <= 2.0**100
    if bool((x != 0).any()):
        assert float(points.abs().max()) >= 2.0**-100
    assert torch.equal(points.sign(), x.sign())
    kept = (points.abs() < 2.0**100) & (x != 0)
    ratio = (points / x)[kept]
    assert bool((ratio == ratio[:1]).all())
    assert bool((ratio.log2() == ratio.log2().round()).all())


@pytest.mark.parametrize("name", ["ksg", "ross", "npeet", "mixed_ksg", "kozachenko_leonenko"])
def test_what_is_far_by_its_own_spread_alone_is_moved_too(name: str) -> None:
    x, y = pair()
    other = (x[:, 0] > 0).long() if name == "ross" else x
    wanted = estimators.make(name)(other, put(y, 1e25))
    estimate = estimators.make(name)(other, put(1e-200 * y, 1.0))
    assert float(estimate.bits) == pytest.approx(float(wanted.bits), abs=0.02)
    assert "extreme_values" in raised(estimate)
    assert "extreme_values" not in raised(wanted)


def test_what_squares_is_left_alone_beside_what_does_not() -> None:
    x = normal(0, 30, 2)
    tiny = put(1e-60 * x, 1.0)
    batch, extreme = squarable(torch.stack([x, 1e200 * x, tiny, 1e-200 * x]))
    assert extreme.tolist() == [False, True, False, True]
    assert torch.equal(batch[0], x)
    assert torch.equal(batch[2], tiny)


def test_zeros_of_a_relu_do_not_set_its_scale() -> None:
    t = (normal(0, 1000, 1) - 1.5).relu()  # 93 % are 0
    assert 0.1 < float(scaled(t, "none").spread) < 1
    assert float(scaled(1e6 * t, "variable").spread) == 1


@pytest.mark.parametrize("scale", ["variable", "column", "rank", "none"])
def test_every_estimand_names_its_scale(scale: Scale) -> None:
    with pytest.raises(ConfigError, match="scale 'rank' spaces samples evenly"):
        KozachenkoLeonenko(scale="rank")
    for kind in (KSG, Ross, NPEET, MixedKSG, EDGE):
        others = {kind(scale=s).estimand for s in ("variable", "column", "rank", "none")}
        assert len(others) == 4
        with pytest.raises(ConfigError, match="scale must be 'variable', 'column', 'rank' or"):
            kind(scale="unit")  # type: ignore[arg-type]  # refused
    for wrapper in (Sliced, Compressed):
        assert (wrapper(scale=scale).estimand == wrapper().estimand) == (scale == "none")


# --- ties, lattices, ceilings ---------------------------------------------------------------


def integers(seed: int, n: int, d: int, values: int) -> Tensor:
    return torch.randint(values, (n, d), generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("values", "d"), [(256, 1), (64, 1), (16, 1), (2, 1), (256, 3), (4, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_independent_lattices_share_nothing(values: int, d: int, dtype: torch.dtype) -> None:
    x, y = (integers(s, 2000, d, values).to(dtype) for s in (1, 2))
    for other in (y, y / 255, normal(3, 2000, 1).to(dtype)):
        assert abs(float(MixedKSG()(x, other).bits)) < 0.15
        assert abs(float(MixedKSG()(other, x).bits)) < 0.15


@pytest.mark.parametrize("step", [0.005, 0.02, 0.05, 0.1, 0.2])
def test_rounded_normals_keep_their_information(step: float) -> None:
    x, y = ((v / step).round() * step for v in pair(2000))
    for a, b in ((x, y), (x, pair(2000)[1]), (pair(2000)[0], y)):
        assert float(MixedKSG()(a, b).bits) == pytest.approx(TRUTH, abs=0.15)
    assert "tied_radii" in raised(MixedKSG()(x, y))


@pytest.mark.parametrize("values", [2, 4, 8])
def test_a_lattice_that_determines_another_shows_its_entropy(values: int) -> None:
    x = integers(1, 2000, 2, values)
    truth = 2 * np.log2(values)
    assert float(MixedKSG()(x, 3 - 2 * x).bits) == pytest.approx(truth, abs=0.1)


def test_relu_outputs_have_an_atom_and_a_continuum() -> None:
    x, y = pair(4000)
    kept = float(problems.BivariateNormal(0.9).bits)
    exact = float(MixedKSG()(x.relu(), y).bits)
    assert 0.8 < exact < kept
    assert abs(float(MixedKSG()(x.relu(), normal(9, 4000, 1).relu()).bits)) < 0.05
    assert abs(float(MixedKSG(scale="none")(x.relu(), y).bits) - exact) < 0.05


@pytest.mark.parametrize("name", ["ksg", "npeet", "sklearn", "kozachenko_leonenko", "ross"])
def test_the_share_of_ties_goes_with_their_flag(name: str) -> None:
    estimator = estimators.make(name)
    x, y = pair()
    other = (y[:, 0] > 0).long() if name == "ross" else y
    assert float(estimator(x, other).diagnostics["tied"]) == 0
    for share in (0.25, 0.75):
        cut = x.clone()
        cut[: int(1000 * share)] = 0.5
        estimate = estimator(cut, other)
        assert "ties_jittered" in raised(estimate)
        assert float(estimate.diagnostics["tied"]) == pytest.approx(share, abs=0.25)


@pytest.mark.parametrize("name", ["ksg", "npeet", "sklearn", "mixed_ksg"])
def test_what_meets_the_ceiling_says_so(name: str) -> None:
    estimator = estimators.make(name)
    x, y = pair(500)
    copy = estimator(x, x.clone())
    assert "near_ceiling" in raised(copy)
    assert float(copy.bits) >= 0.95 * float(copy.diagnostics["ceiling"])
    assert "near_ceiling" not in raised(estimator(x, y))


@pytest.mark.parametrize("name", ["ksg", "ross", "sklearn", "mixed_ksg"])
def test_the_ceiling_beside_labels_is_their_entropy_and_no_fault(name: str) -> None:
    t, ids = normal(0, 1000, 1), torch.arange(1000) % 4
    estimate = estimators.make(name)(t.sigmoid() + ids[:, None], ids)
    assert float(estimate.bits) == pytest.approx(2, abs=0.01)
    assert float(estimate.diagnostics["ceiling"]) == pytest.approx(2, abs=0.01)
    assert not raised(estimate)
    pairs = torch.arange(1000) // 2
    beyond = estimators.make(name)(pairs[:, None] + 1e-3 * t.sigmoid(), pairs)
    assert "small_classes" in raised(beyond)
    assert "near_ceiling" in raised(beyond)


@pytest.mark.parametrize("name", ["ksg", "ross", "mixed_ksg", "kozachenko_leonenko", "npeet"])
def test_labels_beside_an_image_are_flagged(name: str) -> None:
    labels = torch.arange(400) % 2
    t = normal(1, 400, 784)
    t[:, 0] += 3 * labels
    for given_pair in ((t, labels), (labels, t)):
        assert "many_dimensions" in raised(estimators.make(name)(*given_pair))


def test_scikit_learn_is_not_asked_what_it_cannot_answer() -> None:
    rare = (torch.arange(2000) < 20).long()
    still = estimators.make("sklearn")(torch.ones(2000, 1), rare)
    assert float(still.bits) == 0
    assert "constant" in raised(still)
    with pytest.raises(ValueError, match="SklearnMI: each of the 50 classes has one sample"):
        estimators.make("sklearn")(normal(0, 50, 1), torch.arange(50))


@pytest.mark.parametrize("correlation", [0.97, 0.99, 0.999])
@pytest.mark.parametrize("n", [500, 5000])
def test_edge_says_where_its_cells_do_not_resolve(correlation: float, n: int) -> None:
    law = problems.BivariateNormal(correlation)
    estimate = EDGE()(*law.sample(n, seed=0))
    assert abs(float(estimate.bits) - law.bits) < 0.1 or "unresolved" in raised(estimate)
    fine = EDGE()(*problems.BivariateNormal(0.75).sample(n, seed=0))
    assert "unresolved" not in raised(fine)

"""What no information can be is flagged, by every estimator, in every call."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import pytest
import torch

from ibtrace import estimators
from ibtrace.estimators import _checks, information
from ibtrace.estimators._checks import FLAGS, flagged, roof_of
from ibtrace.probe import Probe
from ibtrace.types import Estimate

N = 40
X = torch.randn(N, 1, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 4

PLANTED = {
    "not_finite": [(math.nan, 0.1), (math.inf, 0.1), (-math.inf, math.nan), (0.3, math.inf)],
    "below_zero": [(-0.4, 0.1), (-0.2, math.nan), (-11663.0, 11600.0), (-1e-5, 0.0)],
    "above_entropy": [(3.1, 5.0), (2.2, math.nan)],
}


@pytest.mark.parametrize("name", estimators.names())
@pytest.mark.parametrize("flag", PLANTED)
def test_every_estimator_raises_every_flag(
    name: str, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mathematics of each estimator gives way to a number that must be flagged."""
    estimator = estimators.make(name)
    kind = next(k for k in type(estimator).__mro__ if "__call__" in vars(k))
    for bits, stderr in PLANTED[flag]:

        def planted(*_: Any, seed: int = 0, bits: float = bits, stderr: float = stderr) -> Estimate:
            return Estimate(torch.tensor(bits), stderr=torch.tensor(stderr))

        assert hasattr(vars(kind)["__call__"], "__wrapped__")
        monkeypatch.setattr(kind, "__call__", _checks.checked_call(planted))
        plane = [planted() for _ in range(2)]
        if hasattr(kind, "informations"):  # which gives the plane, too
            assert hasattr(kind.informations, "__wrapped__")
            several = functools.partial(lambda *_, plane, seed=0: list(plane), plane=plane)
            monkeypatch.setattr(kind, "informations", _checks.checked_informations(several))
        elif hasattr(kind, "plane"):
            assert hasattr(kind.plane, "__wrapped__")
            pair = functools.partial(lambda *_, plane, seed=0: tuple(plane), plane=plane)
            monkeypatch.setattr(kind, "plane", _checks.checked_plane(pair))
        called = [estimator(X, Y), *information(estimator, X, Probe(X.round(), Y))]
        for estimate in called:
            raised = {n for n, value in estimate.flags.items() if bool(value)}
            assert flag in raised
            torch.testing.assert_close(float(estimate.bits), bits, equal_nan=True)


@pytest.mark.parametrize(
    ("bits", "stderr"), [(-0.2, 0.1), (0.0, 0.0), (1.9, math.nan), (-1e-12, 0.0), (2.0, 0.0)]
)
def test_what_may_be_is_not_flagged(bits: float, stderr: float) -> None:
    estimate = Estimate(torch.tensor(bits), stderr=torch.tensor(stderr))
    raised = flagged(estimate, [torch.tensor(2.0)]).flags
    assert not any(bool(raised[name]) for name in FLAGS)


def test_the_roof_of_a_discrete_variable_is_its_entropy() -> None:
    ids = torch.arange(100_000) < 100
    for value in (ids.long(), ids.double()[:, None], ids.float()[:, None].repeat(1, 3)):
        roof = roof_of(value)
        assert roof is not None
        assert abs(float(roof) - 0.0114) < 1e-4
    assert roof_of(X) is None
    assert roof_of(torch.relu(torch.randn(100, 1))) is None  # atoms and a continuous part


def test_a_constant_feature_has_no_information_to_give() -> None:
    rare = (torch.arange(100_000) < 100).long()
    estimate = estimators.make("sklearn")(torch.ones(100_000, 1), rare)
    assert float(estimate.bits) <= 0.01 or bool(estimate.flags["above_entropy"])


def test_flags_of_a_batch_belong_to_their_problem() -> None:
    estimate = Estimate(torch.tensor([0.5, -0.5, math.nan]), stderr=torch.tensor(0.1))
    raised = flagged(estimate, [torch.tensor([0.4, 9.0, 9.0])]).flags
    assert raised["above_entropy"].tolist() == [True, False, False]
    assert raised["below_zero"].tolist() == [False, True, False]
    assert raised["not_finite"].tolist() == [False, False, True]
    unknown = flagged(Estimate(torch.tensor([-0.05, -0.2])), []).flags["below_zero"]
    assert unknown.tolist() == [False, True]


def test_a_flag_of_the_estimators_own_stays() -> None:
    estimate = Estimate(torch.tensor(0.5), flags={"below_zero": torch.tensor(True)})
    assert bool(flagged(dataclasses.replace(estimate), []).flags["below_zero"])


def weights(n: int) -> tuple[float, ...]:
    return tuple(float(1 + k) for k in range(n))


@pytest.mark.parametrize("correction", ["none", "miller_madow", "grassberger", "chao_shen"])
def test_an_entropy_itself_is_not_above_it(correction: str) -> None:
    ids = torch.randint(0, 30, (200,), generator=torch.Generator().manual_seed(1))
    estimate = estimators.make("exact", correction=correction)(ids, ids)
    # but 30 values, all seen more than once, have no more than log2 30 bits
    above = float(estimate.bits) > math.log2(30) + 0.01
    assert bool(estimate.flags["above_entropy"]) == above
    weighed = estimators.make("exact", weights=weights(200))(ids, ids)
    assert not bool(weighed.flags["above_entropy"])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["exact", "binning", "adaptive_binning"])
def test_what_says_to_be_within_the_entropies_is(name: str, seed: int) -> None:
    """Its flag is not looked for: nobody would see it missing."""
    estimator, generator = estimators.make(name), torch.Generator().manual_seed(seed)
    assert _checks.law_of(estimator).within
    corrected = estimators.make(name, correction="miller_madow")
    assert not _checks.law_of(corrected).within
    n = 200 + seed
    x = torch.randint(3, (n, 2), generator=generator).float()
    labels = torch.randint(1 + seed, (n, 1), generator=generator).double() + x[:, :1]
    about_x, about_y = information(estimator, x.tanh(), Probe(x, labels))
    for estimate, pair in ((about_x, (x, x.tanh())), (about_y, (x.tanh(), labels))):
        roofs = [roof for value in pair if (roof := _checks.roof_of(value)) is not None]
        assert roofs
        assert all(float(estimate.bits) <= float(roof) + 1e-9 for roof in roofs)

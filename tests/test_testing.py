"""The contract catches what it is there to catch: each fault planted in a sound estimator."""

from __future__ import annotations

import dataclasses
import math
import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from ibtrace import problems, testing
from ibtrace.errors import InvalidInput, NonFinite, TooFewSamples, Unsupported
from ibtrace.estimators import checked
from ibtrace.types import CONTINUOUS, Estimate, Estimator, ProbeLike, Tags

CHECKS = dict(testing.checks)


def psi(value: Tensor | int) -> Tensor:
    return torch.digamma(torch.as_tensor(value, dtype=torch.float64))


@checked
@dataclass(frozen=True)
class Toy:
    """A sound estimator in few lines: I(X;Y) = ψ(k) + ψ(N) − <ψ(n_x + 1) + ψ(n_y + 1)>, in bits.

    Reference: Kraskov, Stögbauer & Grassberger 2004.

    >>> import torch
    >>> Toy(k=1)(torch.eye(3), torch.eye(3)).bits.shape
    torch.Size([])
    """

    k: int = 3

    tags: ClassVar[Tags] = Tags(
        estimand="I(X;Y)",
        reference="Kraskov et al. 2004",
        question="density",
        x=CONTINUOUS,
        y=CONTINUOUS,
        cost="N²",
        bias="towards 0",
        scale_dependence="distances in x and in y are compared as they are",
    )

    @property
    def estimand(self) -> str:
        return "T"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        self.validate(x, y)
        shape = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        xs = x.expand(*shape, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
        ys = y.expand(*shape, *y.shape[-2:]).reshape(-1, *y.shape[-2:])
        local = torch.stack([self.local(a, b, seed) for a, b in zip(xs, ys, strict=True)])
        return self.finish(local.reshape(*shape, -1) / math.log(2))

    def validate(self, x: Tensor, y: Tensor) -> None:
        for value in (x, y):
            if not isinstance(value, Tensor):
                raise InvalidInput(f"{type(self).__name__} takes tensors")
            if not value.is_floating_point():
                raise Unsupported(f"{type(self).__name__} takes floats")
            if not torch.isfinite(value).all():
                raise NonFinite(f"{type(self).__name__} takes finite values")
        if x.shape[-2] != y.shape[-2]:
            raise InvalidInput(f"{type(self).__name__}: x and y differ in length")
        if x.shape[-2] <= self.k:
            raise TooFewSamples(f"{type(self).__name__} needs more than {self.k} samples")

    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        """Nats for each sample of one problem."""
        dx, dy = (self.distances(value) for value in (x, y))
        radius = torch.maximum(dx, dy).kthvalue(self.k, dim=1, keepdim=True).values
        n_x, n_y = (dx < radius).sum(1), (dy < radius).sum(1)
        return self.formula(n_x, n_y, len(x))

    def distances(self, value: Tensor) -> Tensor:
        away = (value[:, None].double() - value[None].double()).abs().amax(-1)
        return away.fill_diagonal_(torch.inf)

    def formula(self, n_x: Tensor, n_y: Tensor, n: int) -> Tensor:
        return psi(self.k) + psi(n) - psi(n_x + 1) - psi(n_y + 1)

    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(local)


@checked
@dataclass(frozen=True)
class PlugIn:
    """I(X;Y) = H(X) + H(Y) − H(X, Y) of ids, in bits of their table (Shannon 1948).

    >>> PlugIn()(torch.arange(4), torch.arange(4)).bits.item()
    2.0
    """

    tags: ClassVar[Tags] = Tags(
        estimand="I(B(X);B(Y))",
        reference="Shannon 1948",
        question="information",
        x=frozenset({"discrete"}),
        y=frozenset({"discrete"}),
        cost="N",
        bias="up",
    )

    @property
    def estimand(self) -> str:
        return "T"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        for value in (x, y):
            if not isinstance(value, Tensor):
                raise InvalidInput("PlugIn takes tensors")
            if value.is_floating_point():
                raise Unsupported("PlugIn takes ids")
        if x.shape[-1] != y.shape[-1]:
            raise InvalidInput("PlugIn: x and y differ in length")
        if x.shape[-1] < 2:
            raise TooFewSamples("PlugIn needs 2 samples")
        shape = torch.broadcast_shapes(x.shape, y.shape)
        rows = [value.expand(shape).reshape(-1, shape[-1]) for value in (x, y)]
        bits = [self.one(a, b) for a, b in zip(*rows, strict=True)]
        return Estimate(torch.stack(bits).reshape(shape[:-1]))

    def one(self, x: Tensor, y: Tensor) -> Tensor:
        joint = torch.zeros(int(x.max()) + 1, int(y.max()) + 1, dtype=torch.float64)
        joint.index_put_((x, y), torch.tensor(1 / len(x), dtype=torch.float64), accumulate=True)
        return self.h(joint.sum(1)) + self.h(joint.sum(0)) - self.h(joint)

    def h(self, p: Tensor) -> Tensor:
        entropy: Tensor = torch.special.entr(p).sum() / math.log(2)
        return entropy


def test_the_toys_keep_the_contract() -> None:
    testing.check_estimator(Toy())
    testing.check_estimator(PlugIn())


# --- the faults ----------------------------------------------------------------------------------


class ClippedAtZero(Toy):
    def finish(self, local: Tensor) -> Estimate:
        found = Estimate.from_local(local)
        return dataclasses.replace(found, bits=found.bits.clamp(min=0))


class ClippedPlugIn(PlugIn):
    def one(self, x: Tensor, y: Tensor) -> Tensor:
        return (super().one(x, y) - 0.01).clamp(min=0)


class OffByOneInK(Toy):
    def formula(self, n_x: Tensor, n_y: Tensor, n: int) -> Tensor:
        return super().formula(n_x, n_y, n) - psi(self.k) + psi(self.k + 1)


class OffByOneInTheMarginals(Toy):
    def formula(self, n_x: Tensor, n_y: Tensor, n: int) -> Tensor:
        return psi(self.k) + psi(n) - psi(n_x + 2) - psi(n_y + 2)


class NatsForBits(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(local * math.log(2))


class NatsForBitsPlugIn(PlugIn):
    def h(self, p: Tensor) -> Tensor:
        return super().h(p) * math.log(2)


class TorchJitter(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        return super().local(x + 1e-12 * torch.randn_like(x), y, seed)


class NumpyJitter(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        return super().local(x + 1e-12 * np.random.standard_normal(), y, seed)


class SeedsTheGlobalGenerator(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return super().local(x, y, seed)


class SetsTheNumberOfThreads(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        torch.set_num_threads(torch.get_num_threads() + 1)
        return super().local(x, y, seed)


class IgnoresItsSeed(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        noise = torch.from_numpy(np.random.default_rng().standard_normal(x.shape))
        return super().local(x + 0.1 * noise, y, seed)


class CentresInPlace(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        x -= x.mean(0)
        return super().local(x, y, seed)


class BreaksTiesInPlace(Toy):
    def local(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        if len(x.unique(dim=0)) < len(x):
            y += 1e-9 * torch.from_numpy(np.random.default_rng(seed).standard_normal(y.shape))
        return super().local(x, y, seed)


class MixesUpTheBatch(Toy):
    def finish(self, local: Tensor) -> Estimate:
        found = Estimate.from_local(local)
        return found if local.dim() < 3 else dataclasses.replace(found, bits=found.bits.flip(0))


class PoolsTheBatch(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(local.flatten())


class TransposesTheFlags(Toy):
    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        found = super().__call__(x, y, seed=seed)
        if found.bits.dim() > 1:
            object.__setattr__(found, "flags", {"tied": (found.bits > 9).mT})
        return found


class CountsOnOneSide(Toy):
    def formula(self, n_x: Tensor, n_y: Tensor, n: int) -> Tensor:
        return super().formula(n_x, n_y, n) + 0.01 * psi(n_x + 1)


class WeighsTheFirstRows(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(local[..., : local.shape[-1] // 2])


class RoundsToHalf(Toy):
    def distances(self, value: Tensor) -> Tensor:
        coarse = value if value.dtype == torch.float64 else value.half().float()
        return super().distances(coarse)


class CancelsFarFromZero(Toy):
    def distances(self, value: Tensor) -> Tensor:
        square = value.square().sum(1)
        away = (square[:, None] + square - 2 * value @ value.mT).clamp(min=0).sqrt()
        return away.double().fill_diagonal_(torch.inf)


class LargerWithNoise(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(2 - local)


class BoundOnTheWrongSide(Toy):
    tags = dataclasses.replace(Toy.tags, bound="lower")

    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(local + 0.1)


class UpperBoundBelow(Toy):
    tags = dataclasses.replace(Toy.tags, bound="upper")

    def finish(self, local: Tensor) -> Estimate:
        return Estimate.from_local(local - 0.2)


class ErrorOfOneSample(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return dataclasses.replace(Estimate.from_local(local), stderr=local.std(-1))


class VarianceForError(Toy):
    def finish(self, local: Tensor) -> Estimate:
        error = local.var(-1) / local.shape[-1]
        return dataclasses.replace(Estimate.from_local(local), stderr=error)


class IntervalUpsideDown(Toy):
    def finish(self, local: Tensor) -> Estimate:
        found = Estimate.from_local(local)
        return dataclasses.replace(found, lower=found.bits + 1, upper=found.bits - 1)


class SwallowsFailure(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate(local.mean(-1) * torch.nan)


class Unchecked(Toy):
    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        return dataclasses.replace(super().__call__(x, y, seed=seed), flags={})


class Hides(Toy):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate(torch.full(local.shape[:-1], torch.nan))

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        found = super().__call__(x, y, seed=seed)
        never = {name: torch.zeros_like(raised) for name, raised in found.flags.items()}
        return dataclasses.replace(found, flags=never)


class HidesFarBelowZero(Hides):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate(local.mean(-1) - 20, stderr=torch.tensor(100.0))


class HidesBelowZero(Hides):
    def finish(self, local: Tensor) -> Estimate:
        return Estimate(local.mean(-1) * 0 - 0.1, stderr=torch.tensor(0.03))


@dataclass(frozen=True)
class HidesAboveEntropy(PlugIn):
    def one(self, x: Tensor, y: Tensor) -> Tensor:
        return super().one(x, y) + 2

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        found = super().__call__(x, y, seed=seed)
        return found.flagged(above_entropy=torch.tensor(False))


class UncheckedPlane(Toy):
    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        bits = torch.zeros(t.shape[:-2])
        return Estimate(bits), Estimate(bits)


class TagsOfAnother(Toy):
    tags = dataclasses.replace(Toy.tags, x=frozenset({"discrete"}))


class TakesIdsUnsaid(Toy):
    def validate(self, x: Tensor, y: Tensor) -> None:
        return

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        if not x.is_floating_point() or not y.is_floating_point():
            return Estimate(torch.tensor(0.0))
        return super().__call__(x, y, seed=seed)


class TakesNaN(Toy):
    def validate(self, x: Tensor, y: Tensor) -> None:
        super().validate(torch.nan_to_num(x) if isinstance(x, Tensor) else x, y)


class CutsToTheShorter(Toy):
    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        if isinstance(x, Tensor):
            n = min(x.shape[-2], y.shape[-2])
            x, y = x[..., :n, :], y[..., :n, :]
        return super().__call__(x, y, seed=seed)


class AnonymousErrors(Toy):
    def validate(self, x: Tensor, y: Tensor) -> None:
        try:
            super().validate(x, y)
        except TooFewSamples as error:
            raise TooFewSamples("not enough samples") from error


@dataclass
class Thawed:
    k: int = 3
    tags: ClassVar[Tags] = Toy.tags
    estimand: ClassVar[str] = "T"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        return Toy()(x, y, seed=seed)


@dataclass(frozen=True)
class Unhashable(Toy):
    scales: list[float] = dataclasses.field(default_factory=list)


@dataclass(frozen=True, repr=False)
class PrettyRepr(Toy):
    def __repr__(self) -> str:
        return "<an estimator>"


class Undocumented(Toy):
    """Estimates dependence."""


class PlaneOfItsOwn(Toy):
    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        found = self(probe.features, t, seed=seed)
        return found, found


class PlaneOfOneLayer(Toy):
    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        return self(probe.features, t.flip(0), seed=seed), self(t, probe.labels, seed=seed)


class SilentOnItsUnits(Toy):
    tags = dataclasses.replace(Toy.tags, scale_dependence="")


class Untagged(Toy):
    __doc__ = Toy.__doc__
    tags = dataclasses.replace(Toy.tags, cost="")


class UnknownQuestion(Toy):
    tags = dataclasses.replace(Toy.tags, question="both")  # type: ignore[arg-type]


class InformationOfADensity(Toy):
    tags = dataclasses.replace(Toy.tags, question="information")


class TellsAllApart(PlugIn):
    tags = dataclasses.replace(PlugIn.tags, question="resolution")


class PairsUp(PlugIn):
    def one(self, x: Tensor, y: Tensor) -> Tensor:
        return super().one(x, y // 2)


class DensityOfAnything(PlugIn):
    tags = dataclasses.replace(PlugIn.tags, question="density")


PLANTED = [
    ("truth", OffByOneInK, r"gives 1\.\d+ bits on 1v1-normal-0\.75, whose I\(X;Y\) is 0\.596"),
    ("truth", OffByOneInTheMarginals, r"bits on"),
    ("truth", NatsForBits, r"gives 0\.\d+ bits on"),
    ("bound", BoundOnTheWrongSide, r"says it is a lower bound and gives"),
    ("bound", UpperBoundBelow, r"says it is a upper bound and gives"),
    ("units", NatsForBits, r"gives 0\.\d+ of I\(X;Y\) on .*nats for bits"),
    ("units", NatsForBitsPlugIn, r"gives 0\.\d+ of I\(X;Y\) on"),
    ("independence", ClippedAtZero, r"independent continuous X and continuous Y"),
    ("independence", ClippedPlugIn, r"independent discrete X and discrete Y; is it clipped"),
    ("independence", OffByOneInK, r"gives 0\.\d+ ± 0\.\d+ bits on independent continuous X"),
    ("independence", OffByOneInTheMarginals, r"gives -0\.\d+ ± 0\.\d+ bits on independent"),
    ("data_processing", LargerWithNoise, r"adding noise to y adds \d\.\d+ bits"),
    ("scale", SilentOnItsUnits, r"multiplying x by 1e-06 changes it"),
    ("stderr", ErrorOfOneSample, r"gives stderr .* where estimates spread by"),
    ("stderr", VarianceForError, r"gives stderr .* where estimates spread by"),
    ("symmetry", CountsOnOneSide, r"swapping x and y changes it"),
    ("row_order", WeighsTheFirstRows, r"permuting the rows changes it"),
    ("seed", IgnoresItsSeed, r"the same seed gives two results"),
    ("global_state", TorchJitter, r"changes global state: torch's generator"),
    ("global_state", NumpyJitter, r"changes global state: numpy's generator"),
    ("global_state", SeedsTheGlobalGenerator, r"changes global state: torch's generator"),
    ("global_state", SetsTheNumberOfThreads, r"changes global state: threads"),
    ("inputs", CentresInPlace, r"modifies x"),
    ("inputs", BreaksTiesInPlace, r"modifies y"),
    ("batch", MixesUpTheBatch, r"a batch is not a loop"),
    ("batch", PoolsTheBatch, r"a batch of shape \(2, 3\) gives bits of shape \(\)"),
    ("batch", TransposesTheFlags, r"gives tied of shape \(3, 2\)"),
    ("plane", PlaneOfItsOwn, r"I\(T;Y\) of plane is not that of a call"),
    ("plane", PlaneOfOneLayer, r"I\(X;T\) of plane, .* is not that of a call"),
    ("precision", RoundsToHalf, r"float32 and float64 differ on data around 100"),
    ("precision", CancelsFarFromZero, r"float32 and float64 differ on data around 100"),
    ("flags", Unchecked, r"lacks not_finite, below_zero, .*, extreme_values; decorate it"),
    ("flags", Hides, r"gives nan ± nan bits on ordinary data without not_finite"),
    ("flags", HidesFarBelowZero, r"gives -19.* ± 100.0 bits on ordinary data without below_zero"),
    ("flags", HidesBelowZero, r"gives -0.1 ± 0.0.* bits on ordinary data without below_zero"),
    ("flags", HidesAboveEntropy, r"bits on ordinary data without above_entropy"),
    ("flags", UncheckedPlane, r"lacks not_finite, below_zero, .*, extreme_values; decorate it"),
    ("question", UnknownQuestion, r"is 'both', none of information, resolution, density"),
    ("question", InformationOfADensity, r"'information', but tags.of_information holds it to a"),
    ("question", TellsAllApart, r"'resolution', but it gives 6.000 bits .* tells them all apart"),
    ("question", PairsUp, r"'information', but it gives 5.000 bits .*, fewer than log2 N = 6.000"),
    ("question", DensityOfAnything, r"'density', but it gives 6.000 bits .* without a flag"),
    ("estimate", SwallowsFailure, r"gives nan bits"),
    ("estimate", IntervalUpsideDown, r"gives lower .* above upper"),
    ("kinds", TagsOfAnother, r"continuous x with continuous y, which the tags exclude, is taken"),
    ("kinds", TakesIdsUnsaid, r"discrete x with continuous y, which the tags exclude, is taken"),
    ("errors", TakesNaN, r"nan in x is taken without NonFinite"),
    ("errors", CutsToTheShorter, r"59 samples of x for 60 of y is taken without InvalidInput"),
    ("errors", AnonymousErrors, r"one sample the error is not one line naming AnonymousErrors"),
    ("value", Thawed, r"is no frozen dataclass"),
    ("value", Unhashable, r"its copy fails: unhashable"),
    ("value", PrettyRepr, r"its repr fails"),
    ("documentation", Undocumented, r"lacks the estimand, I\(...\), a formula"),
    ("documentation", Untagged, r"its tags lack cost"),
]


@pytest.fixture(autouse=True)
def _global_state_restored() -> Iterator[None]:
    """Some of the faults below leave traces, which must not reach other tests."""
    threads, torch_state = torch.get_num_threads(), torch.get_rng_state()
    numpy_state = np.random.get_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)


@pytest.mark.parametrize(
    ("check", "fault", "message"),
    [pytest.param(*row, id=f"{row[1].__name__}-{row[0]}") for row in PLANTED],
)
def test_planted_faults_are_caught(
    check: str, fault: Callable[[], Estimator], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        CHECKS[check](fault())


def test_every_check_has_a_fault_that_it_catches() -> None:
    # Without a CUDA device there is nothing that check_device could catch.
    assert set(CHECKS) - {check for check, _, _ in PLANTED} == {"device"}


def test_check_estimator_lists_all_that_fails() -> None:
    with pytest.raises(AssertionError, match=r"ClippedAtZero\(k=3\) fails\nindependence: .*\ndoc"):
        testing.check_estimator(ClippedAtZero())


def test_what_an_estimator_is_held_to() -> None:
    assert {problem.kinds for problem in testing.truths(Toy())} == {("continuous", "continuous")}
    assert {problem.kinds for problem in testing.truths(PlugIn())} == {("discrete", "discrete")}
    assert testing.accepted_kinds(Toy()) == [("continuous", "continuous")]


def test_held_to_replaces_the_rule() -> None:
    class OnNormals(Toy):
        held_to = ("1v1-normal-0.9",)

    class OnNothing(Toy):
        held_to = ()

    assert testing.truths(OnNormals()) == [problems.BivariateNormal(0.9)]
    with pytest.raises(unittest.SkipTest, match=r"OnNothing\(k=3\) estimates I\(X;Y\)"):
        testing.truths(OnNothing())
    with pytest.raises(unittest.SkipTest, match="is no bound"):
        CHECKS["bound"](Toy())

"""Sliced mutual information: the average over random low-dimensional projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.estimators._bases import raise_scale_flags, rescaled, tags_on_base
from ibtrace.estimators._checks import checked
from ibtrace.estimators._fields import require_count
from ibtrace.estimators._inputs import batch_shape, check_pair, columns
from ibtrace.estimators.ksg import KSG
from ibtrace.numerics.projections import first_equal, orthonormal, tied_alike
from ibtrace.numerics.scale import Scale, Scaled, check_scale, scaled
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Estimator, Tags, Variable, label, variable_of

_TINY = 1e-300


@checked
@dataclass(frozen=True)
class Sliced:
    """k-sliced mutual information, by any base estimator (Goldfeld & Greenewald 2021).

    With Θ and Φ independent and uniform on the orthonormal frames of k vectors in the spaces of X
    and Y, the estimand is

        SI_k(X; Y) = E[ I(Θᵀ X; Φᵀ Y) ]  in bits,

    estimated by the mean of the base over ``directions`` pairs of frames. It is no estimate
    of I(X;Y) but a quantity of its own: at most I(X;Y), 0 exactly when X and Y are independent,
    and, unlike I(X;Y), estimated at a rate that does not depend on the dimensions. Processing
    can increase it (a layer may turn towards what matters), so that no data-processing
    inequality holds from layer to layer.

    Ids are not projected, nor is a variable of at most k dimensions. If neither variable is
    projected, this is the base.

    A base such as `KSG` brings each projection to a scale of its own. ``scale`` is what the
    variables are divided by before they are projected: ``"column"`` makes columns of different
    units count alike, which makes another estimand.

    ``stderr`` is that of the draw of the samples, as everywhere: √mean_ab(e_a e_b ρ_ab) over pairs
    of directions, with e the base's standard errors. The directions share the samples, but not what
    they see of them: ρ is taken to be the product, over X and Y, of the sixth power of the
    correlation of the two projections (of their mean square for frames), which was within a factor
    of 1.6 of the spread over samples for normal, Student, spiral and independent laws in 1 to 5
    dimensions. The Monte Carlo error of the directions themselves is in the diagnostic
    ``directions_std``, over √directions.

    Args:
        base: The estimator applied to the projections.
        directions: How many pairs of frames.
        k: Dimensions of each projection.
        scale: What a variable is divided by before it is projected, as in `KSG`.

    Flags: those of the base, raised if any direction raised them; ``scales_apart`` and
    ``extreme_values`` (see `KSG`) also of the variables before the projection. Diagnostics: the
    base's, averaged; ``directions_std``, the standard deviation s over directions (NaN for one).

    References:
        Goldfeld & Greenewald 2021, Sliced mutual information, NeurIPS.
        Goldfeld, Greenewald, Nuradha & Reeves 2022, k-sliced mutual information, NeurIPS.

    Example:
        Ten dimensions, of which one is shared: little of it is seen from a random direction.

        >>> import torch
        >>> x = torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
        >>> y = torch.cat([x[:, :1], x[:, 1:].roll(1, 0)], 1)
        >>> estimate = Sliced(directions=16)(x, y)
        >>> bool(estimate.bits.abs() < 0.1), bool(estimate.stderr > 0)
        (True, True)
    """

    base: Estimator = field(default_factory=KSG)
    directions: int = 16
    k: int = 1
    scale: Scale = "none"

    held_to: ClassVar[tuple[str, ...]] = (
        "1v1-normal-0.75",
        "1v1-additive-0.75",
        "uniform-label-5-1",
    )

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("directions", "k"):
            require_count("Sliced", name, getattr(self, name))
        check_scale("Sliced", self.scale)

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return tags_on_base(
            self.base,
            estimand=f"E[I(Θᵀ X; Φᵀ Y)] over random {self.k}-dimensional projections",
            reference="Goldfeld & Greenewald 2021, NeurIPS; Goldfeld et al. 2022, NeurIPS",
            cost=f"{self.directions} times the base's in d = {self.k}",
            bias="and far below it in many dimensions",
        )

    @property
    def estimand(self) -> str:
        """What the base estimates, said to be sliced."""
        return f"{self.base.estimand}, sliced to {self.k}-d projections{rescaled(self.scale)}"

    def variable(self, width: int | None) -> Variable:
        """What stands for T: made of it if it is projected, else what the base measures.

        Args:
            width: The columns of T; None if T is ids.
        """
        return "made" if self._projects(width) else variable_of(self.base, width)

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """SI_k(x; y) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids if the base takes them.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` ids if the base takes them.
            seed: Seeds the directions, which are the same for every problem of a batch.

        Raises:
            InvalidInput: If x or y is malformed, or unfit for the base.
            TooFewSamples: If there are fewer than 2, or than the base needs.
        """
        check_pair(label(self), x, y)
        if not (self._projects(columns(x)) or self._projects(columns(y))):
            return self.base(x, y, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        rank = max(len(batch_shape(x)), len(batch_shape(y)))
        pair = [self._scaled(value) for value in (x, y)]
        slices = [self._project(value.points, rank, generator) for value in pair]
        return raise_scale_flags(
            self._average(self.base(slices[0], slices[1], seed=seed), self._together(slices)),
            pair[0],
            pair[1],
        )

    def _scaled(self, value: Tensor) -> Scaled:
        """A variable that is projected, at its scale; others are left to the base."""
        at_scale = scaled(value, self.scale)
        return at_scale if self._projects(columns(value)) else at_scale._replace(points=value)

    def _projects(self, width: int | None) -> bool:
        return width is not None and width > self.k

    def _project(self, value: Tensor, rank: int, generator: torch.Generator) -> Tensor:
        """A variable with the directions before its batch dimensions, or as it is."""
        if not self._projects(columns(value)):
            return value
        frames = orthonormal(self.directions, value.shape[-1], self.k, generator)
        frames = frames.to(value.device).unflatten(0, (self.directions, *[1] * rank))
        points = value.reshape(*[1] * (rank - len(batch_shape(value))), *value.shape)
        return tied_alike(points @ frames, first_equal(points))

    def _together(self, slices: Sequence[Tensor]) -> Tensor:
        """How the errors of two pairs of directions move together, ``(pairs, pairs, ...)``.

        See the class; a variable that is not projected is the same in both.
        """
        shared = torch.ones(self.directions, self.directions, dtype=torch.float64)
        shared = shared.to(slices[0].device)
        for part in slices:
            if part.is_floating_point() and part.dim() > 2 and part.shape[0] == self.directions:
                z = part - part.mean(-2, keepdim=True)
                z = z / z.square().sum(-2, keepdim=True).sqrt().clamp(min=_TINY)
                squares = torch.einsum("a...nk,b...nl->ab...kl", z, z).square().sum((-2, -1))
                power = (squares / part.shape[-1]) ** 3
                shared = _aligned(shared, power.dim()) * _aligned(power, shared.dim())
        return shared

    def _average(self, each: Estimate, together: Tensor) -> Estimate:
        unknown = torch.full_like(each.bits[0], torch.nan)
        spread = each.bits.std(0) if self.directions > 1 else unknown
        return Estimate(
            bits=each.bits.mean(0),
            stderr=(_pairs(each.stderr) * _aligned(together, each.stderr.dim() + 1))
            .mean((0, 1))
            .sqrt(),
            # One of many directions is below 0 by chance: of the mean, `checked` says it.
            flags={n: raised.any(0) for n, raised in each.flags.items() if n != "below_zero"},
            diagnostics={
                **{name: value.mean(0) for name, value in each.diagnostics.items()},
                "directions_std": spread,
            },
        )


def _aligned(value: Tensor, dims: int) -> Tensor:
    """A value ``(a, b, ...)`` with as many dimensions as another, new ones after the first two."""
    missing = max(dims - value.dim(), 0)
    return value.reshape(*value.shape[:2], *[1] * missing, *value.shape[2:])


def _pairs(errors: Tensor) -> Tensor:
    """The products of the errors of any two directions, ``(a, b, ...)``."""
    return errors.unsqueeze(0) * errors.unsqueeze(1)

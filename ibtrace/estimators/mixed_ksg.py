"""Mutual information of variables that may be discrete, continuous or both (Gao et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, TooFewSamples
from ibtrace.estimators._checks import checked
from ibtrace.estimators._fields import unscaled
from ibtrace.estimators._inputs import (
    check_pair,
    each_estimate,
    few_samples,
    is_ids,
    many_dimensions,
    mean_of,
    samples,
)
from ibtrace.estimators._prepared import once
from ibtrace.estimators._ties import check_fields
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.distances import is_constant, row_ids
from ibtrace.numerics.knn import taken_away
from ibtrace.numerics.mixed import (
    MixedBalls,
    Rows,
    is_lattice,
    mixed_balls,
    nats_of_places,
    space,
)
from ibtrace.numerics.scale import Norm, Scale, Scaled, check_scale, scale_flags, scaled, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, ProbeLike, Tags, label


class Inputs(NamedTuple):
    """What depends on X alone: it at its scale, its distances, which of its rows are equal."""

    x: Scaled
    distances: Rows
    ids: Tensor


@checked
@dataclass(frozen=True)
class MixedKSG:
    """I(X;Y) of any two variables, discrete, continuous, or continuous with atoms.

    As in `KSG` the distance of two samples is the larger of those in x and in y, and ρ_i is
    the distance of sample i to its k-th neighbour. With k̃_i, n_x and n_y the samples nearer
    than ρ_i (at the very same place, if ρ_i = 0: an atom of the joint law) in the joint space,
    in x and in y, sample i itself included, in nats

        I = <ψ(k̃_i) + log N - ψ(n_x) - ψ(n_y)>.

    Without ties k̃_i = k, and this is the form of Gao et al.'s published code; their Algorithm 1
    has log(n + 1) of closed counts instead, which is off by up to 0.26 bit on their own laws at
    N = 5000. They keep k̃_i = k where neighbours tie, too: on a lattice (pixels, rounded values)
    samples on the boundary then count in the joint space alone, and information is made up: .7
    bit of rounded normals, 1.1 of independent columns of 4 values in 3 + 3 dimensions (here .02
    and .08, N = 2000). Where x and y are equally far, both orders are taken (see
    `ibtrace.numerics.mixed`). Their code clips at 0; nothing is clipped here.

    Variables may be ids or floats on either side. Two different ids are infinitely far apart.
    A sample with fewer than k others at a finite distance uses those (flag ``small_classes``);
    where ids meet floats, samples alone in their class are left out, as in `Ross`
    (``singletons_dropped``). With both as ids, the estimate is Grassberger's (1988),
    H(X) + H(Y) - H(X,Y) with H = log N - <ψ(n)>.

    A row of floats that occurs more than k times is an atom if it lies in a continuum, that is
    if most distinct rows occur once. To Gao et al. an atom is a place like any other
    (``atoms="near"``): balls around continuous samples nearby hold the atom's whole mass, which
    costs 0.23 bit on ``normal-with-atoms`` at N = 5000. By default (``atoms="apart"``) it is
    infinitely far from everything else, as ids are. Where most distinct rows repeat, they are
    the points of a lattice and their distances are kept.

    Args:
        k: Which neighbour.
        norm: The norm within x and within y: ``"euclidean"`` or ``"max"`` (Gao et al.).
        atoms: ``"apart"`` or ``"near"``.
        scale: What each variable is divided by first, as in `KSG`.

    Where more than a tenth of the samples is tied and equal rows repeat enough to be counted, the
    counts of places alone are taken (`ibtrace.numerics.mixed.nats_of_places`).

    Flags: those above; ``tied_radii`` (somewhere another neighbour is exactly as far as the k-th,
    ρ > 0: a lattice; within .1 bit where its rows repeat, or in one dimension each; where rows of
    several dimensions hardly repeat, up to .4 bit too high of independent variables and bits too
    low of dependent ones: y = Σx of 20 bits .8 for 3.2 at N = 2000); ``near_ceiling`` (within 5 %
    of the ceiling); ``many_dimensions``, ``few_samples``, ``scales_apart``, ``heavy_tails``
    and ``extreme_values`` (see `KSG`); ``constant`` (a variable that never varies: 0 bits).
    Diagnostics: ``atoms``, the share of samples with ρ_i = 0; ``tied``, that of tied radii;
    ``dropped``, the share left out; ``ceiling``, the most that these samples show: of x and of
    y the lesser <log N - ψ(max(k̃_i, m_i)) - [m_i < k̃_i] / k̃_i>, with m_i samples at i's place in
    it, which for ids is their entropy. ``near_ceiling`` compares with log N - ψ(k) - 1/k alone.

    References:
        Gao, Kannan, Oh & Viswanath 2017, Estimating mutual information for discrete-continuous
        mixtures, NeurIPS.

    Example:
        A fair coin y that x repeats, plus noise on one side: one bit.

        >>> import torch
        >>> y = (torch.arange(1000) % 2)[:, None].double()
        >>> noise = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)).double()
        >>> round(float(MixedKSG()(y + y * noise, y).bits), 2)
        1.0
    """

    k: int = 5
    norm: Norm = "euclidean"
    atoms: Literal["apart", "near"] = "apart"
    scale: Scale = "variable"

    def __post_init__(self) -> None:
        require_types(self)
        check_fields("MixedKSG", self.k, self.norm, 0)
        if self.atoms not in ("apart", "near"):
            raise ConfigError(f"MixedKSG: atoms must be 'apart' or 'near', got {self.atoms!r}")
        check_scale("MixedKSG", self.scale)

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand="I(X;Y)",
            reference="Gao, Kannan, Oh & Viswanath 2017, NeurIPS",
            question="density",
            scale_dependence=unscaled(self.scale),
            cost="N² d time, N d memory, N² for X's kept distances",
            bias="towards 0 at high information or dimension, by bits on lattices of many "
            "dimensions whose rows hardly repeat",
        )

    @property
    def estimand(self) -> str:
        """The layer itself, atoms included, at its scale."""
        return f"T as it is, continuous or not, {words(self.scale)}"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class. Nothing is random: ``seed`` is not used.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Not used.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are not more than k, or ids meet floats and none repeats.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        a, b = (scaled(value, self.scale, self.norm) for value in (x, y))
        solved = each_estimate(lambda c, d: self._solve(c, d, None), a.points, b.points)
        return _about(solved, a, b, self.k)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits for ``t (..., n, d)``, X's distances kept with the probe.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe.
            TooFewSamples: If there are not more than k samples.
        """
        x = probe.features.to(t.device)
        check_pair(label(self), x, t, minimum=self.k + 1)
        first = self.prepare(probe, t.device)
        known = None if is_ids(t) else first  # with ids, singletons may have to go
        b, points = scaled(t, self.scale, self.norm), first.x.points
        solved = each_estimate(
            lambda _, second: self._solve(points, second, known), points, b.points
        )
        return _about(solved, first.x, b, self.k), self(t, probe.labels.to(t.device), seed=seed)

    def prepare(self, probe: ProbeLike, device: torch.device) -> Inputs:
        """X at its scale, its distances and equal rows on a device, kept with the probe."""
        return once(_inputs, probe, self, device)

    def _space(self, x: Tensor, ids: Tensor, *, keep: bool = False) -> Rows:
        apart_above = self.k if self.atoms == "apart" else None
        return space(x, ids, self.norm, apart_above=apart_above, keep=keep)

    def _solve(self, x: Tensor, y: Tensor, known: Inputs | None) -> Estimate:
        paired = _paired(x, y)
        dropped, device = float((~paired).double().mean()), x.device
        still = is_constant(x) or is_constant(y)
        if not still and not bool(paired.any()):
            raise TooFewSamples(
                f"{label(self)}: each of the {samples(x)} classes has one sample; "
                "give ids that repeat, or both variables as floats"
            )
        n, undefined = samples(x), False
        if not still and dropped:
            x, y = x[paired], y[paired]
            undefined = is_constant(x) or is_constant(y)
        if still or undefined:
            return self._estimate(n, device, dropped=dropped, undefined=undefined)
        ids_x, ids_y = known.ids if known else row_ids(x), row_ids(y)
        first = known.distances if known else self._space(x, ids_x)
        balls = mixed_balls(first, self._space(y, ids_y), samples(x), self.k, device)
        both_ids = is_ids(x) and is_ids(y)
        of_places = nats_of_places(ids_x, ids_y) if is_lattice(balls) else None
        nats = balls.nats if of_places is None else of_places
        return self._estimate(
            n,
            device,
            (nats + math.log(samples(x))) / math.log(2),
            dropped=dropped,
            small=not both_ids and bool(balls.few.any()),
            tied=float(balls.tied.double().mean()),
            atoms=float(balls.atom.double().mean()),
            ceiling=min(_ceiling(balls, ids) for ids in (ids_x, ids_y)),
            away=None
            if of_places is not None or is_ids(x) or is_ids(y)
            else taken_away(balls.gain.unsqueeze(1), balls.nearest) / math.log(2),
        )

    def _estimate(
        self,
        n: int,
        device: torch.device,
        local: Tensor | None = None,
        *,
        dropped: float,
        undefined: bool = False,
        small: bool = False,
        tied: float = 0.0,
        atoms: float = 0.0,
        ceiling: float = 0.0,
        away: Tensor | None = None,
    ) -> Estimate:
        """The estimate of one problem of n samples from local information in bits."""
        bits, stderr = (math.nan, math.nan) if undefined else mean_of(local, away)
        psi = float(torch.tensor(float(self.k), dtype=torch.float64).digamma())
        return Estimate.single(
            bits,
            stderr,
            flags={
                "constant": local is None and not undefined,
                "undefined": undefined,
                "small_classes": small,
                "singletons_dropped": dropped > 0,
                "tied_radii": tied > 0,
                "near_ceiling": bits >= 0.95 * (math.log(n) - psi - 1 / self.k) / math.log(2),
            },
            diagnostics={"atoms": atoms, "tied": tied, "dropped": dropped, "ceiling": ceiling},
            device=device,
        )


def _about(solved: Estimate, x: Scaled, y: Scaled, k: int) -> Estimate:
    """The estimates with what the variables themselves say."""
    many = many_dimensions(x.points, y.points)
    few = few_samples(x.points, y.points, k)
    return solved.flagged(many_dimensions=many, few_samples=few, **scale_flags(x, y))


def _inputs(probe: ProbeLike, estimator: MixedKSG, device: torch.device) -> Inputs:
    x = scaled(probe.features.to(device), estimator.scale, estimator.norm)
    ids = row_ids(x.points)
    return Inputs(x, estimator._space(x.points, ids, keep=True), ids)


def _paired(x: Tensor, y: Tensor) -> Tensor:
    """Which samples share their class with another, where ids meet floats; else all, ``(n,)``."""
    if is_ids(x) == is_ids(y):
        return torch.ones(samples(x), dtype=torch.bool, device=x.device)
    ids = dense_ids(x if is_ids(x) else y)
    return torch.bincount(ids)[ids] > 1


def _ceiling(balls: MixedBalls, ids: Tensor) -> float:
    """What samples show at most of one variable, by which are equal, in bits; see the class."""
    k = balls.k.to(torch.float64)
    together = torch.bincount(ids)[ids].to(torch.float64)
    most = math.log(len(ids)) - torch.maximum(k, together).digamma() - (together < k) / k
    return float(most.mean()) / math.log(2)

"""Mutual information from nearest neighbours (Kraskov, Stögbauer & Grassberger 2004)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.estimators._checks import checked, unwrapped
from ibtrace.estimators._fields import unscaled
from ibtrace.estimators._inputs import (
    check_pair,
    each_estimate,
    few_samples,
    is_ids,
    many_dimensions,
    mean_of,
    refuse_two_ids,
)
from ibtrace.estimators._prepared import once
from ibtrace.estimators._ties import break_ties, check_fields
from ibtrace.estimators.ross import Ross
from ibtrace.numerics.distances import Distances, Space, is_constant
from ibtrace.numerics.knn import Neighbours, neighbours, taken_away
from ibtrace.numerics.scale import Norm, Scale, Scaled, check_scale, scale_flags, scaled, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, ProbeLike, Tags, label


@checked
@dataclass(frozen=True)
class KSG:
    """I(X;Y) of two continuous variables from the k nearest neighbours of each sample.

    The distance of two samples is the larger of their distances in x and in y. With ε_i twice the
    distance of sample i to its k-th neighbour, and n_x, n_y the numbers of other samples that are
    *strictly* nearer than ε_i / 2 in x and in y (Kraskov et al. 2004, eq. 8), in nats

        variant 1:  ψ(k) + ψ(N) - <ψ(n_x + 1) + ψ(n_y + 1)>
        variant 2:  ψ(k) - 1/k + ψ(N) - <ψ(n_x) + ψ(n_y)>       (eq. 9)

    where variant 2 counts, in x and in y, the samples no farther than the farthest of the k
    neighbours in that variable. The result is given in bits, never clipped.

    The larger of two distances depends on the units of x and y. So each variable first is
    brought to one scale of its own (``scale``):

    - ``"variable"``: divided by one number, the median distance from its columnwise medians
      (distances of 0 aside), so that x and y weigh alike whatever their dimensions and outliers.
      Within a variable nothing changes: it may be rotated.
    - ``"column"``: each column so divided first. Units of columns do not matter then, rotations do.
    - ``"rank"``: each column first replaced by its normal scores, for heavy tails.
    - ``"none"``: nothing is divided; x and y must be in units that compare.

    The estimator assumes densities. Where samples repeat or neighbours tie, a uniform jitter
    of ``jitter`` times its spread is added to each variable, seeded by ``seed``, and the
    estimate is flagged ``ties_jittered``; with ``jitter=0`` ties are an error. Without ties
    nothing is added, and the estimate is invariant to permutations of the samples, to swapping
    x and y, to shifts, and to multiplying either variable by a constant (with ``scale="none"``,
    both by the same). With ``norm="max"`` and ``scale="none"`` it is NPEET's ``mi``.

    If one variable comes as ids, the estimate is `Ross`'s with the same k, norm, jitter and scale.

    Args:
        k: Which neighbour; more lowers the variance and raises the bias.
        variant: Kraskov et al.'s first or second estimator.
        norm: The norm within x and within y: ``"euclidean"`` or ``"max"``.
        jitter: Amplitude of the jitter, relative to each variable's spread.
        scale: What each variable is divided by: one of the four above.

    On a lattice whose rows repeat less than k times it loses bits in spite of the jitter (x uniform
    on 10³ places, y = x, N = 2000: 8.1 for 9.9): use `MixedKSG`.

    Flags: ``ties_jittered``; ``constant`` (a variable that never varies: 0 bits); ``near_ceiling``
    (within 5 % of the ceiling); ``many_dimensions`` (more joint dimensions than log2 N: no
    neighbourhood is local, the estimate falls towards 0); ``few_samples`` (fewer than 16 k, both
    variables being floats: the same); ``scales_apart`` (the wide columns of
    a variable hide the narrow ones: the spreads differ by more than a factor of 10, also those of
    unscaled variables, or 400 of the samples show 0.1 bit more with ``scale="column"``; under that
    scale, with ``"variable"``); ``heavy_tails`` (more than 1 % of the samples beyond 100
    spreads: neighbours in the tails span the rest, the estimate falls; see ``scale="rank"``);
    ``extreme_values`` (values too far to be squared, moved nearer). Diagnostics: ``tied``, the
    share of samples that repeat or whose neighbours tie; ``ceiling``, the most that N samples can
    show, ψ(N) - ψ(k) - 1/k nats (ψ(N) - ψ(k) if y is a copy of x).

    The standard error is of the draw of the samples, by the mean of two variances: of the samples'
    own terms, and of the jackknife's, which see that near samples share neighbours. It was within
    a factor of 1.6 of the spread over samples, but 1.8 of it on a Student-t of 2 degrees of freedom
    in 5 + 5 dimensions (N = 300). `MixedKSG` and `KozachenkoLeonenko` share it.

    References:
        Kraskov, Stögbauer & Grassberger 2004, Estimating mutual information, Phys. Rev. E 69.

    Example:
        Two normals with correlation 0.9: 1.198 bits.

        >>> import torch
        >>> noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.19 ** 0.5 * noise[:, 1:]
        >>> estimate = KSG(k=3)(x, y)
        >>> abs(float(estimate.bits) - 1.198) < 0.1, bool(estimate.flags["ties_jittered"])
        (True, False)
    """

    k: int = 3
    variant: Literal[1, 2] = 1
    norm: Norm = "euclidean"
    jitter: float = 1e-10
    scale: Scale = "variable"

    def __post_init__(self) -> None:
        require_types(self)
        check_fields("KSG", self.k, self.norm, self.jitter)
        check_scale("KSG", self.scale)
        if self.variant not in (1, 2):
            raise ConfigError(f"KSG: variant must be 1 or 2, got {self.variant!r}")

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand="I(X;Y)",
            reference="Kraskov, Stögbauer & Grassberger 2004, Phys. Rev. E 69",
            question="density",
            scale_dependence=unscaled(self.scale),
            cost="N² d time, N² memory for X's kept distances; N log N by trees in few dimensions",
            bias="towards 0 at high information or dimension, and on lattices by bits; at most "
            "ψ(N) - ψ(k) nats",
        )

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable, at its scale."""
        return f"T as a continuous variable, {words(self.scale)}"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids if y is floats.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` ids if x is floats.
            seed: Seeds the jitter, where there are ties.

        Raises:
            InvalidInput: If x or y is malformed, or tied and ``jitter`` is 0.
            TooFewSamples: If there are not more than k.
            Unsupported: If both are ids.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        refuse_two_ids(label(self), x, y, "use binning or exact")
        if is_ids(x) or is_ids(y):
            # its own checks are those of this call
            of_classes = Ross(self.k, self.norm, self.jitter, self.scale)
            return unwrapped(Ross)(of_classes, x, y, seed=seed)
        a, b = (scaled(value, self.scale, self.norm) for value in (x, y))
        solved = each_estimate(
            lambda first, second: self._solve(self._first(first, seed), second, seed),
            a.points,
            b.points,
        )
        return _about(solved, a, b, self.k)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits for ``t (..., n, d)``.

        X's distances are kept with the probe, coarsely (see `ibtrace.numerics.screens`), where
        they fit in 1 GiB (N up to 16,384, in the max-norm 23,170). The
        results are those of two calls.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe, or there are
                ties and ``jitter`` is 0.
            TooFewSamples: If there are not more than k samples.
            Unsupported: If ``t`` is ids.
        """
        x = probe.features.to(t.device)
        check_pair(label(self), x, t, minimum=self.k + 1)
        if is_ids(t):
            raise Unsupported(f"{label(self)}: t must be floats, got ids")
        a, first = self.prepare(probe, t.device, seed=seed)
        b = scaled(t, self.scale, self.norm)
        solved = each_estimate(
            lambda _, second: self._solve(first, second, seed), a.points, b.points
        )
        return _about(solved, a, b, self.k), self(t, probe.labels.to(t.device), seed=seed)

    def prepare(self, probe: ProbeLike, device: torch.device, *, seed: int = 0) -> Inputs:
        """X at its scale and its distances on a device, kept with the probe."""
        return once(_inputs, probe, device, self.norm, self.jitter, self.scale, seed)

    def _first(self, x: Tensor, seed: int) -> Space:
        return Space(x, self.norm, self.jitter, 2 * seed)

    def _solve(self, x: Space, y: Tensor, seed: int) -> Estimate:
        if is_constant(x.points) or is_constant(y):
            return self._estimate(None, y)
        second = Space(y, self.norm, self.jitter, 2 * seed + 1)

        def count(jittered: bool) -> Neighbours | None:
            if jittered:
                return self._neighbours(x.jittered, second.jittered, stop_at_tie=False)
            return self._neighbours(x.exact, second.exact, stop_at_tie=True)

        counts, tied = break_ties(label(self), self.jitter, [x, second], self.k, count)
        local, fewer = (
            self._local(*marginals) / math.log(2)
            for marginals in ((counts.x, counts.y), (counts.fewer_x, counts.fewer_y))
        )
        away = taken_away((fewer - local).unsqueeze(1), counts.nearest)
        return self._estimate(local, y, tied, away)

    def _neighbours(self, x: Distances, y: Distances, *, stop_at_tie: bool) -> Neighbours | None:
        return neighbours(x, y, self.k, closed=self.variant == 2, stop_at_tie=stop_at_tie)

    def _local(self, x: Tensor, y: Tensor) -> Tensor:
        """Per-sample information in nats, from the counts in both spaces."""
        n, k = len(x), self.k
        psi_k, psi_n = torch.tensor([k, n], dtype=torch.float64).digamma().tolist()
        shift, constant = (1, 0.0) if self.variant == 1 else (0, 1 / k)
        marginals = torch.stack([x, y]).to(torch.float64)
        local: Tensor = psi_k - constant + psi_n - torch.digamma(marginals + shift).sum(0)
        return local

    def _estimate(
        self, local: Tensor | None, y: Tensor, tied: float = 0.0, away: Tensor | None = None
    ) -> Estimate:
        """The estimate from local information ``(n,)`` in bits; None of a constant variable."""
        bits, stderr = mean_of(local, away)
        psi_k, psi_n = torch.tensor([self.k, len(y)], dtype=torch.float64).digamma().tolist()
        ceiling = (psi_n - psi_k - 1 / self.k) / math.log(2)
        return Estimate.single(
            bits,
            stderr,
            flags={
                "ties_jittered": tied > 0,
                "constant": local is None,
                "near_ceiling": bits >= 0.95 * ceiling,
            },
            diagnostics={"ceiling": ceiling, "tied": tied},
            device=y.device,
        )


def _about(solved: Estimate, x: Scaled, y: Scaled, k: int) -> Estimate:
    """The estimates with what the variables themselves say."""
    many = many_dimensions(x.points, y.points)
    few = few_samples(x.points, y.points, k)
    return solved.flagged(many_dimensions=many, few_samples=few, **scale_flags(x, y))


class Inputs(NamedTuple):
    """What depends on X alone.

    Args:
        x: X at its scale.
        space: Its distances.
    """

    x: Scaled
    space: Space


def _inputs(
    probe: ProbeLike, device: torch.device, norm: Norm, jitter: float, scale: Scale, seed: int
) -> Inputs:
    x = scaled(probe.features.to(device), scale, norm)
    return Inputs(x, Space(x.points, norm, jitter, 2 * seed, True))

"""Mutual information of a discrete and a continuous variable (Ross 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import TooFewSamples, Unsupported
from ibtrace.estimators._checks import checked, undefined
from ibtrace.estimators._inputs import (
    batch_shape,
    check_pair,
    each_estimate,
    is_ids,
    many_dimensions,
    mean_of,
)
from ibtrace.estimators._ties import break_ties, check_fields
from ibtrace.numerics.distances import Space, is_constant, row_ids
from ibtrace.numerics.knn import class_neighbours
from ibtrace.numerics.scale import Norm, Scale, check_scale, scale_flags, scaled, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, ProbeLike, Tags, label


@checked
@dataclass(frozen=True)
class Ross:
    """I(X;Y) of class ids and a continuous variable, from nearest neighbours within classes.

    For each sample i, take the distance to its k-th neighbour within its own class, of N_i
    samples, and count the m_i samples of any class that are as near, that neighbour included and
    the sample itself not. Then, in nats (Ross 2014, eq. 2),

        I = ψ(N) + ψ(k) - <ψ(N_i)> - <ψ(m_i)>.

    The ids may be x or y; the other one is continuous, of any dimension. In a class with no more
    than k samples, k is lowered to N_i - 1 (flag ``small_classes``). Samples that are alone
    in their class have no neighbour: they are left out of all counts, N included, as
    scikit-learn does, so that the estimate is of the law without them (``singletons_dropped``);
    where these are all of one class, or of one value, there is none: NaN, flagged ``undefined``.
    The result is in bits, never clipped.

    Where samples repeat or neighbours tie, the continuous variable gets a seeded uniform
    jitter of ``jitter`` times its spread (flag ``ties_jittered``; diagnostic ``tied``, the share
    of such samples); with ``jitter=0`` that is an error.

    One scale for all of the continuous variable changes no neighbour here; only ``scale`` "column"
    and "rank" do (see `KSG`).

    Args:
        k: Which neighbour.
        norm: ``"euclidean"`` or ``"max"``.
        jitter: Amplitude of the jitter, relative to the variable's spread.
        scale: ``"variable"``, ``"column"``, ``"rank"`` or ``"none"``, as in `KSG`.

    Flags: those above; ``constant`` (one class only, or a variable that never varies: 0 bits);
    ``near_ceiling`` (within 5 % of ψ(N) - ψ(k) - 1/k nats, the most that N samples can show, as
    where most classes have few samples); ``many_dimensions``, ``scales_apart``, ``heavy_tails``
    and ``extreme_values`` (see `KSG`). Diagnostics: ``ceiling``, the entropy of the ids in bits;
    ``dropped``, the share of samples left out; ``tied``.

    References:
        Ross 2014, Mutual information between discrete and continuous data sets, PLoS ONE 9.

    Example:
        Two classes far apart: one bit.

        >>> import torch
        >>> ids = torch.arange(1000) % 2
        >>> t = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)) + 5 * ids[:, None]
        >>> round(float(Ross(k=3)(t, ids).bits), 2)
        1.0
    """

    k: int = 3
    norm: Norm = "euclidean"
    jitter: float = 1e-10
    scale: Scale = "variable"

    tags: ClassVar[Tags] = Tags(
        estimand="I(X;Y)",
        reference="Ross 2014, PLoS ONE 9",
        question="density",
        cost="N² d time, N d memory",
        bias="small classes, many dimensions, lattices: towards 0",
    )

    def __post_init__(self) -> None:
        require_types(self)
        check_fields("Ross", self.k, self.norm, self.jitter)
        check_scale("Ross", self.scale)

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable, at its scale."""
        return f"T as a continuous variable, {words(self.scale)}"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids.
            y: The other kind.
            seed: Seeds the jitter, where there are ties.

        Raises:
            InvalidInput: If x or y is malformed, or tied and ``jitter`` is 0.
            TooFewSamples: If there are not more than k samples, or none shares its class.
            Unsupported: If x and y are of the same kind.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        if is_ids(x) == is_ids(y):
            kind, other = ("ids", "binning") if is_ids(x) else ("floats", "KSG")
            raise Unsupported(f"{label(self)}: x and y are both {kind}; use {other}")
        ids, t = (x, y) if is_ids(x) else (y, x)
        points = scaled(t, self.scale, self.norm)
        solved = each_estimate(lambda c, rows: self._solve(c, rows, seed), ids, points.points)
        return solved.flagged(
            many_dimensions=many_dimensions(x, y), **scale_flags(points, scaled(ids, self.scale))
        )

    def _most(self, n: int) -> float:
        psi_k, psi_n = torch.tensor([self.k, n], dtype=torch.float64).digamma().tolist()
        return float(psi_n - psi_k - 1 / self.k) / math.log(2)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits for ``t (..., n, d)``.

        The inputs are the ids in I(X;T). Where none repeats, as is usual, this method cannot
        tell it: NaN, flagged ``undefined``. So is I(T;Y) of continuous targets. Use `KSG`.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe, or there are
                ties and ``jitter`` is 0.
            TooFewSamples: If there are not more than k samples.
        """
        pair = []
        for ids in (probe.x_ids.to(t.device), probe.labels.to(t.device)):
            n = check_pair(label(self), ids, t, minimum=self.k + 1)
            if is_ids(ids) and int(ids.unique().numel()) < n:
                pair.append(self(ids, t, seed=seed))
            else:
                pair.append(undefined(batch_shape(t), t.device))
        return pair[0], pair[1]

    def _solve(self, labels: Tensor, t: Tensor, seed: int) -> Estimate:
        ids = row_ids(labels)
        sizes = torch.bincount(ids)[ids]
        paired = sizes > 1
        local, tied, small, undefined = None, 0.0, False, False
        if not is_constant(t) and not is_constant(ids):
            if not paired.any():
                raise TooFewSamples(
                    f"{label(self)}: each of the {len(ids)} classes has one sample; "
                    "give ids that repeat, or the variable as floats to KSG"
                )
            undefined = is_constant(ids[paired]) or is_constant(t[paired])
            if not undefined:
                small = bool((sizes[paired] <= self.k).any())
                by_class = ids[paired].argsort(stable=True)
                space = Space(t[paired][by_class], self.norm, self.jitter, 2 * seed + 1)
                local, tied = self._local(space, sizes[paired][by_class], ids[paired][by_class])
        bits, stderr = mean_of(None if local is None else local / math.log(2))
        if undefined:  # what there is to tell is in the samples that were left out
            bits = stderr = math.nan
        dropped = float((~paired).double().mean())
        return Estimate.single(
            bits,
            stderr,
            flags={
                "ties_jittered": tied > 0,
                "constant": local is None and not undefined,
                "undefined": undefined,
                "small_classes": small,
                "singletons_dropped": dropped > 0,
                "near_ceiling": bits >= 0.95 * self._most(len(ids)),
            },
            diagnostics={
                "ceiling": float(-(sizes / len(ids)).log2().double().mean()),
                "dropped": dropped,
                "tied": tied,
            },
            device=t.device,
        )

    def _local(self, space: Space, sizes: Tensor, ids: Tensor) -> tuple[Tensor, float]:
        """Per-sample information in nats and the share of ties that were broken, by class."""
        classes = ids.unique_consecutive(return_counts=True)[1]
        k = (sizes - 1).clamp(max=self.k)

        def count(jittered: bool) -> Tensor | None:
            distances = space.jittered if jittered else space.exact
            return class_neighbours(distances, classes, self.k, stop_at_tie=not jittered)

        counts, tied = break_ties(label(self), self.jitter, [space], self.k, count)
        n, psi = torch.tensor(len(ids), dtype=torch.float64), torch.special.digamma
        terms = [psi(value.to(torch.float64)) for value in (k, sizes, counts + 1)]
        return float(psi(n)) + terms[0] - terms[1] - terms[2], tied

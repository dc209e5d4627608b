"""Mutual information as a sum of three nearest-neighbour entropies (Kozachenko & Leonenko)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, TooFewSamples
from ibtrace.estimators._checks import checked
from ibtrace.estimators._fields import unscaled
from ibtrace.estimators._inputs import (
    check_pair,
    each_estimate,
    is_ids,
    many_dimensions,
    mean_of,
    refuse_two_ids,
)
from ibtrace.estimators._scales import beyond, subsample
from ibtrace.estimators._ties import check_fields
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.distances import is_constant, jittered
from ibtrace.numerics.entropy_knn import (
    entropy_taken_away,
    local_entropy,
    nearest,
    nearest_distances,
    neighbour_weights,
)
from ibtrace.numerics.gaussian import is_degenerate
from ibtrace.numerics.knn import has_tie
from ibtrace.numerics.scale import Scale, check_scale, scale_flags, scaled, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags, label

_UNSTABLE = 30.0
_BESIDE = 3.0  # how many times wider, or narrower, one variable is put beside the other


@checked
@dataclass(frozen=True)
class KozachenkoLeonenko:
    """I(X;Y) = H(X) + H(Y) - H(X,Y) of nearest-neighbour entropies.

    The entropy of N points in d dimensions, with ρ_j the Euclidean distance of a point to its
    j-th neighbour and V_d the volume of the unit ball, is in nats

        H = Σ_j w_j (ψ(N) - ψ(j) + log V_d + d <log ρ_j>),

    with w = 1 on j = k (Kozachenko & Leonenko 1987), or, ``weighted``, with the weights of least
    norm that cancel the biases of order ρ², ρ⁴, … up to ρ^(d/2) (Berrett, Samworth & Yuan 2019,
    who need k ≥ d or so; below four dimensions there is nothing to cancel). The three biases do
    not cancel each other as `KSG`'s do, which is why that one is mostly nearer the truth.

    Each variable is first brought to a scale of its own, as in `KSG`, so that the estimate does
    not depend on its units. If one variable is ids, I = H(T) - Σ_c N_c/N H(T | c); in a class
    with no more than k samples, k is lowered (flag ``small_classes``), and samples alone in
    their class are left out (``singletons_dropped``; ``undefined``), as in `Ross`. The result is in
    bits, never clipped.

    Densities are assumed. Where samples of a variable repeat, both get a seeded uniform jitter of
    ``jitter`` spreads (flag ``ties_jittered``; diagnostic ``tied``, the share of the samples that
    repeat), with ``jitter=0`` an error. Where neighbours are equally far there is a lattice and no
    density (flag ``tied_radii``). Where the samples lie in a subspace (fewer samples than
    dimensions, collinear or constant units, T a linear map of X), H is -∞ and the number says
    little: flag ``degenerate``. The same holds unflagged for any T = f(X) without noise, where
    I(X;T) is infinite. Atoms (many repeats) are no case for this estimator, with jitter or
    without: use `MixedKSG`. The weights grow with the dimension of (X, Y), to a norm of 10 at 10
    and 10³ at 16, and the error with them: flag ``unstable_weights`` above 30.

    Args:
        k: Which neighbour; with ``weighted`` the farthest.
        weighted: Whether to use Berrett et al.'s weights.
        jitter: Amplitude of the jitter, relative to each variable's spread.
        scale: What each variable is divided by first, as in `KSG`; not ``"rank"``, whose evenly
            spaced scores have no density.

    Flags: those above; ``constant`` (a variable that never varies: 0 bits); ``many_dimensions``,
    ``scales_apart`` (as in `KSG`, and where one variable three times wider beside the other shows
    0.1 bit more on 400 samples, as of clusters whose jitters differ), ``heavy_tails`` and
    ``extreme_values`` (see `KSG`). Diagnostics: ``tied``;
    ``dropped``, the share of samples left out.

    References:
        Kozachenko & Leonenko 1987, Sample estimate of the entropy of a random vector, Problems
        Inform. Transmission 23.
        Berrett, Samworth & Yuan 2019, Efficient multivariate entropy estimation via k-nearest
        neighbour distances, Ann. Statist. 47.

    Example:
        Two normals with correlation 0.9: 1.198 bits.

        >>> import torch
        >>> noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.19 ** 0.5 * noise[:, 1:]
        >>> abs(float(KozachenkoLeonenko()(x, y).bits) - 1.198) < 0.1
        True
    """

    k: int = 3
    weighted: bool = False
    jitter: float = 1e-6
    scale: Scale = "variable"

    held_to: ClassVar[tuple[str, ...]] = (
        "1v1-normal-0.75",
        "linear_gaussian",
        "uniform-label-5-1",
        "gaussian-channel-4-points-0.7",
    )

    def __post_init__(self) -> None:
        require_types(self)
        check_fields("KozachenkoLeonenko", self.k, "euclidean", self.jitter)
        check_scale("KozachenkoLeonenko", self.scale)
        if self.scale == "rank":
            raise ConfigError(
                "KozachenkoLeonenko: scale 'rank' spaces samples evenly, which leaves no density; "
                "use 'variable' or 'column'"
            )
        if not isinstance(self.weighted, bool):
            raise ConfigError(
                f"KozachenkoLeonenko: weighted must be true or false, got {self.weighted!r}"
            )

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand="I(X;Y)",
            reference="Kozachenko & Leonenko 1987; Berrett, Samworth & Yuan 2019, Ann. Statist. 47",
            question="density",
            scale_dependence=unscaled(self.scale),
            cost="N log N time in few dimensions, N² d in many; N d memory",
            bias="of three entropies, not cancelled: grows with dimension; bounded supports "
            "too low; of what repeats, tens of bits too low or too high",
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
            seed: Seeds the jitter, where samples repeat.

        Raises:
            InvalidInput: If x or y is malformed, or samples repeat and ``jitter`` is 0.
            TooFewSamples: If there are not more than k, or ids are given and none repeats.
            Unsupported: If both are ids.
            ConfigError: If k neighbours are too few for the weights in this dimension.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        refuse_two_ids(label(self), x, y, "use binning or exact")
        a, b = (scaled(value, self.scale) for value in (x, y))
        if is_ids(x) or is_ids(y):
            ids, t = (a.points, b.points) if is_ids(x) else (b.points, a.points)
            solved = each_estimate(lambda c, rows: self._classes(c, rows, seed), ids, t)
        else:
            solved = each_estimate(lambda c, d: self._pair(c, d, seed), a.points, b.points)
        widths = [v.shape[-1] for v in (x, y) if not is_ids(v)]
        flags = scale_flags(a, b)
        if len(widths) == 2:
            flags["scales_apart"] = flags["scales_apart"] | self._hangs_together(
                a.points, b.points, seed
            )
        return solved.flagged(
            unstable_weights=torch.tensor(self._weight_norm(sum(widths)) > _UNSTABLE),
            many_dimensions=many_dimensions(x, y),
            **flags,
        )

    def _hangs_together(self, x: Tensor, y: Tensor, seed: int) -> Tensor:
        """Whether another scale of one variable beside the other shows more, on few samples.

        The information does not hang on it; of clusters whose jitters differ, H(X,Y) does.
        """
        few = [subsample(value) for value in (x, y)]
        own, *others = (
            each_estimate(lambda c, d: self._pair(c, d, seed), by * few[0], few[1]).bits
            for by in (1.0, _BESIDE, 1 / _BESIDE)
        )
        return torch.stack(others).amax(0) - own > beyond(few[0])

    def _weight_norm(self, d: int) -> float:
        return math.hypot(*neighbour_weights(self.k, d)) if self.weighted else 1.0

    def _pair(self, x: Tensor, y: Tensor, seed: int) -> Estimate:
        if is_constant(x) or is_constant(y):
            return _estimate(x.device, constant=True)
        spaces = [x, y]
        further = min(self.k + 1, len(x) - 1)  # the next, for the standard error
        neighbours = [nearest(points, further) for points in spaces]
        tied = max(_repeated(each.distances) for each in neighbours)
        if tied > 0:
            seeds = (2 * seed, 2 * seed + 1)
            spaces = [jittered(v, self.jitter, s) for v, s in zip(spaces, seeds, strict=True)]
            neighbours = [nearest(points, further) for points in spaces]
            for each in neighbours:
                self._positive(each.distances)
        lattice = any(has_tie(each.distances[:, : self.k]) for each in neighbours)
        joint = torch.cat(spaces, 1)
        neighbours.append(nearest(joint, further))
        widths = [spaces[0].shape[1], spaces[1].shape[1], joint.shape[1]]
        pairs = list(zip(neighbours, widths, strict=True))
        parts = [self._local(each.distances[:, : self.k], len(x), d) for each, d in pairs]
        away = [entropy_taken_away(each, self.k, d, self._weights(self.k, d)) for each, d in pairs]
        local, away_of_all = (each[0] + each[1] - each[2] for each in (parts, away))
        degenerate = is_degenerate(joint)
        return _estimate(
            x.device, local, away=away_of_all, tied=tied, lattice=lattice, degenerate=degenerate
        )

    def _classes(self, labels: Tensor, t: Tensor, seed: int) -> Estimate:
        ids = dense_ids(labels)
        sizes = torch.bincount(ids)[ids]
        paired = sizes > 1
        dropped = float((~paired).double().mean())
        if is_constant(t) or is_constant(ids):
            return _estimate(t.device, constant=True, dropped=dropped)
        if not bool(paired.any()):
            raise TooFewSamples(
                f"{label(self)}: each of the {len(ids)} classes has one sample; "
                "give ids that repeat, or both variables as floats"
            )
        ids, sizes, points = ids[paired], sizes[paired], t[paired]
        if is_constant(ids) or is_constant(points):
            return _estimate(t.device, undefined=True, dropped=dropped)
        degenerate = is_degenerate(points)
        whole = nearest_distances(points, min(self.k, len(ids) - 1))
        tied = _repeated(whole)
        if tied > 0:
            points = jittered(points, self.jitter, 2 * seed + 1)
            whole = self._positive(nearest_distances(points, whole.shape[1]))
        lattice = has_tie(whole)
        local = self._local(whole, *points.shape)
        for class_id in torch.unique(ids):
            own = points[ids == class_id]
            within = nearest_distances(own, min(self.k, len(own) - 1))
            local[ids == class_id] -= self._local(within, *own.shape)
        return _estimate(
            t.device,
            local,
            dropped=dropped,
            tied=tied,
            lattice=lattice,
            degenerate=degenerate,
            small=bool((sizes <= self.k).any()),
        )

    def _local(self, distances: Tensor, n: int, d: int) -> Tensor:
        """Local entropies in bits. Where a class has lowered k, it has no weights."""
        weights = self._weights(distances.shape[1], d)
        return local_entropy(distances, n, d, weights)

    def _weights(self, k: int, d: int) -> tuple[float, ...] | None:
        return neighbour_weights(k, d) if self.weighted and k == self.k else None

    def _positive(self, distances: Tensor) -> Tensor:
        """The distances after jitter, if it did part all samples.

        Raises:
            InvalidInput: If it did not.
        """
        if bool((distances == 0).any()):
            raise InvalidInput(
                f"{label(self)}: samples repeat, where there is no density; raise jitter, "
                "give a discrete variable as ids, or use MixedKSG"
            )
        return distances


def _repeated(distances: Tensor) -> float:
    """The share of samples whose nearest neighbour is at the same place."""
    return float((distances[:, 0] == 0).double().mean())


def _estimate(
    device: torch.device,
    local: Tensor | None = None,
    *,
    away: Tensor | None = None,
    constant: bool = False,
    undefined: bool = False,
    tied: float = 0.0,
    lattice: bool = False,
    degenerate: bool = False,
    small: bool = False,
    dropped: float = 0.0,
) -> Estimate:
    """The estimate of one problem from its local information ``(n,)`` in bits."""
    bits, stderr = (math.nan, math.nan) if undefined else mean_of(local, away)
    return Estimate.single(
        bits,
        stderr,
        flags={
            "constant": constant,
            "undefined": undefined,
            "ties_jittered": tied > 0,
            "tied_radii": lattice,
            "degenerate": degenerate,
            "small_classes": small,
            "singletons_dropped": dropped > 0,
        },
        diagnostics={"dropped": dropped, "tied": tied},
        device=device,
    )

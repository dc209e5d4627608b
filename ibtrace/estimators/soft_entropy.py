"""SoftEntropy: the information in soft assignments of directions to points of a sphere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._checks import as_classes, shuffled, undersampled
from ibtrace.estimators._groups import OfGroups
from ibtrace.estimators._soft_counts import ALIKE, SoftCounts
from ibtrace.numerics.distances import row_ids
from ibtrace.numerics.sphere import (
    assignments,
    bounded_temperature,
    leading_temperature,
    reference_points,
    vmf_temperature,
)
from ibtrace.runtime.arguments import whole
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Grouping, ProbeLike, Tags, Targets, label

_BLOCK = 2048  # samples whose terms are summed at a time

Temperature = Literal["vmf", "leading", "bound"] | float

_TEMPERATURES = {
    "vmf": vmf_temperature,
    "leading": leading_temperature,
    "bound": bounded_temperature,
}


@dataclass(frozen=True)
class SoftEntropy(OfGroups):
    """I(X;B) and I(B;Y) of B, the point of a sphere that T is softly assigned to (Conklin 2025).

    Each sample's T is divided by its length, z = T/|T|, and goes to one of ``points`` random
    directions w_b by chance, with the probability p(b|z) = softmax_b(z · w_b / ε). That is a
    channel, known to the last digit, from T to a discrete B. With classes l (all the samples that
    share one x, or one label)

        bits = 1/N Σ_i Σ_b p(b|z_i) log₂ p(b|l_i) / p(b),

    p(b|l) and p(b) the means of p(b|z) over a class and over all. For X uniform on the samples
    this is the information itself, of B: X → T → B, so that it is at most I(X;T), and what falls
    from layer to layer falls in B. Of a population that the samples do not exhaust, I(X;B) of
    distinct samples is biased low by less than (points - 1)/(2 N ln 2), I(B;Y) up by at most
    (classes - 1)(points - 1)/(2 N ln 2). B says nothing of how long T is; a T of zeros has no
    direction and goes to every point alike.

    T may come first or second: it is the one given as floats; the other one gives the classes.
    If both are floats, T is y, and equal rows of x make a class; where these hardly repeat, the
    pair is refused, and I(T;Y) of such targets in `plane` is NaN, flagged ``undefined``. Both ids
    are refused.

    Args:
        points: How many directions, drawn uniformly by the seed.
        temperature: ε. ``"vmf"``: a von Mises-Fisher law of concentration 1/ε differs from the
            uniform by ln(points) nats, solved at every width; ``"bound"``: the same of a lower
            bound on that, as the ``soft-entropy`` package has it; ``"leading"``:
            1/√(2 d ln points); or a number.

    Flags: ``constant`` (T or the classes never vary), ``near_ceiling`` (within 5 % of log₂ points
    or of log₂ N), ``crowded`` (the channel hardly tells samples apart which differ: T far from the
    origin has one direction), ``scales_apart`` (columns of T whose spreads differ by more than a
    factor of 10: the wide ones make the direction) and ``undersampled`` (random labels give more
    than 0.1 bit).

    Diagnostics: ``temperature``; ``entropy``, H(B); ``zero_rows``, the samples without a direction;
    ``ceiling``, the entropy of the classes; and ``null_bits``, what randomly permuted classes give
    (NaN where none was asked: single samples, T a function of X, a population). The standard error
    is the spread of the local terms over √N, the points held fixed: that over draws of the points
    is the spread over seeds.

    References:
        Conklin 2025, Information structure in mappings, arXiv:2505.23960.
        Conklin et al. 2026, Learning is forgetting: LLM training as lossy compression, ICLR.

    Raises:
        ConfigError: If ``points`` is no whole number above 1, or ``temperature`` neither a name nor
            above 0.

    Example:
        Two opposite directions, sharply assigned: one bit.

        >>> import torch
        >>> t = torch.tensor([[3.0, 0.0], [-1.0, 0.0]])
        >>> round(float(SoftEntropy(temperature=1e-4)(torch.arange(2), t).bits), 6)
        1.0
    """

    points: int = 100
    temperature: Temperature = "vmf"

    def __post_init__(self) -> None:
        require_types(self)
        whole("SoftEntropy: points", self.points, least=2)
        if isinstance(self.temperature, str):
            if self.temperature not in _TEMPERATURES:
                raise ConfigError(
                    f"SoftEntropy: temperature must be one of {', '.join(_TEMPERATURES)} or above "
                    f"0, got {self.temperature!r}"
                )
        elif not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"SoftEntropy: temperature must be above 0 and finite, got {self.temperature!r}"
            )

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand=f"I(X;B), B one of {self.points} directions that T goes to by chance, for X "
            "uniform on the samples",
            of_information=False,
            reference="Conklin 2025, arXiv:2505.23960",
            question="resolution",
            symmetric=False,
            variable="made",
            adds_up=True,
            cost=f"{self.points} N d time, {self.points} N memory",
            bias="of B, and so at most I(X;T); at most log2 points and log2 N; down by up to "
            f"{(self.points - 1) / 2 / math.log(2):.0f}/N of a population",
        )

    @property
    def estimand(self) -> str:
        """The point that the layer is assigned to."""
        at = self.temperature if isinstance(self.temperature, str) else f"{self.temperature:g}"
        return f"T's direction, softly one of {self.points} (ε: {at})"

    def temperature_at(self, d: int) -> float:
        """ε for layers of d units.

        Args:
            d: The width of T.
        """
        if isinstance(self.temperature, str):
            return _TEMPERATURES[self.temperature](self.points, d)
        return float(self.temperature)

    def targets(self, probe: ProbeLike) -> Targets:
        """A probe's inputs and labels, as an accumulator takes them; see `ibtrace.types.AddsUp`."""
        classes = as_classes(probe.labels) if probe.labels.shape[-1] else None
        named = {"x": probe.x_ids} | ({} if classes is None else {"y": classes})
        groups = {name: _grouping(ids.cpu()) for name, ids in named.items()}
        return Targets(groups, probe.n, probe.population)

    def accumulated_bytes(self, targets: Targets) -> int:
        """A sum for each point and class of several samples, and as many for each null."""
        tables = (
            (int(group.places.max()) + 1) * (1 + len(group.nulls))
            for group in targets.groups.values()
        )
        return 8 * self.points * sum(tables)

    def accumulator(self, width: int, *, seed: int = 0) -> SoftCounts:
        """Sums over classes: ``points`` numbers for each of more than one sample.

        Args:
            width: The columns of T.
            seed: Draws the points, as of a call.
        """
        references = reference_points(self.points, width, seed, torch.device("cpu"))
        return SoftCounts(label(self), references, self.temperature_at(width))

    def _solve(
        self, t: Tensor, groups: list[Tensor], known: list[bool], seed: int
    ) -> list[Estimate]:
        """The estimates of one layer ``(n, d)``, one for each grouping of its samples."""
        n, d = t.shape
        references = reference_points(self.points, d, seed, t.device)
        epsilon = self.temperature_at(d)
        p, zero = assignments(t, references, epsilon)
        overall = p.mean(0)
        log_overall = overall.clamp(min=torch.finfo(p.dtype).tiny).log2()
        still = (t == t[:1]).all()
        told = torch.special.xlogy(p, p).sum() / n / math.log(2) - (overall * log_overall).sum()
        figures = {
            "temperature": torch.tensor(epsilon, dtype=torch.float64),
            "entropy": -(overall * log_overall).sum(),
            "zero_rows": zero.sum(),
        }
        most = 0.95 * math.log2(min(n, self.points))
        estimates = []
        for group, law_known in zip(groups, known, strict=True):
            ids = row_ids(group)
            classes = _Classes(p, ids, log_overall)
            estimate = Estimate.from_local(classes.local())
            orders = shuffled(ids, known=law_known)
            nulls = [_Classes(p, order, log_overall).mean() for order in orders]
            null = torch.stack(nulls).mean() if nulls else p.new_tensor(math.nan)
            shares = torch.bincount(ids)[ids].double() / n
            ceiling = -shares.log2().mean()
            estimates.append(
                Estimate(
                    bits=estimate.bits,
                    stderr=estimate.stderr,
                    flags={
                        "constant": still | (ceiling == 0),
                        "near_ceiling": estimate.bits >= most,
                        "crowded": (told < ALIKE) & ~still,
                        "undersampled": undersampled(null),
                    },
                    diagnostics={**figures, "ceiling": ceiling, "null_bits": null},
                )
            )
        return estimates


def _grouping(ids: Tensor) -> Grouping:
    """Classes with places for those of several samples, and in the random orders of the null."""
    sizes = torch.bincount(ids)
    several = sizes > 1
    of_class = torch.where(several, several.cumsum(0) - 1, -1)
    nulls = [of_class[null] for null in shuffled(ids)]
    return Grouping(ids, of_class[ids], nulls)


class _Classes:
    """What the points tell of the classes of samples.

    Args:
        p: p(b|z), ``(n, points)``.
        ids: The classes, 0 to K - 1, ``(n,)``.
        log_overall: log₂ p(b).
    """

    def __init__(self, p: Tensor, ids: Tensor, log_overall: Tensor) -> None:
        self._p, self._ids = p, ids
        sizes = torch.bincount(ids)
        self._alone = len(sizes) == len(ids)
        self._sums = p
        if not self._alone:
            self._sums = p.new_zeros(len(sizes), p.shape[1]).index_add_(0, ids, p)
        means = self._sums if self._alone else self._sums / sizes[:, None]
        self._ratios = means.clamp(min=torch.finfo(p.dtype).tiny).log2() - log_overall

    def local(self) -> Tensor:
        """Σ_b p(b|z_i) log₂ p(b|l_i)/p(b) of each sample, ``(n,)``."""
        if self._alone:
            return (self._p * self._ratios).sum(-1)
        blocks = zip(self._p.split(_BLOCK), self._ids.split(_BLOCK), strict=True)
        return torch.cat([(p * self._ratios[ids]).sum(-1) for p, ids in blocks])

    def mean(self) -> Tensor:
        """Its mean over the samples."""
        return (self._sums * self._ratios).sum() / len(self._p)

"""Pairwise-distance bounds on the information in a layer with Gaussian noise added to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._checks import (
    crowded,
    shuffled,
    undersampled,
)
from ibtrace.estimators._groups import OfGroups
from ibtrace.numerics.distances import row_ids
from ibtrace.numerics.kernels import gaussian_sums
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags

_UNITS = {
    "fixed": "the noise has the variance it is given, in the units of T",
    "adaptive": "the noise's variance grows with T, its square with the square of T",
}


@dataclass(frozen=True)
class KDE(OfGroups):
    """Bounds on I(X; T + ε), ε ~ N(0, s²I), for a mixture of Gaussians (Kolchinsky & Tracey 2017).

    Given N samples, T + ε is a mixture of N Gaussians, the law of T + ε within a class c (all the
    samples that share one x, or one label) a mixture of N_c. Both entropies are bounded through
    the squared distances D_ij among the samples of T; with a = 2 (an upper bound on an entropy,
    by Kullback-Leibler divergences) or a = 8 (a lower bound, by Bhattacharyya distances),

        H_a - H(ε) = -1/N Σ_i log2 1/N Σ_j exp(-D_ij / (a s²)),
        bits       = H_a(T + ε) - Σ_c N_c/N H_a(T + ε | c).

    If T is a function of X, H(T + ε | x) = H(ε) exactly, and ``bits`` is an upper (``"upper"``)
    or lower (``"lower"``) bound on I(X; T + ε), between 0 and log2 N. For I(T; Y), as in Saxe et
    al. 2018, ``bits`` is a difference of two bounds of the same kind, which is *no bound*.
    ``Estimate.lower`` and ``upper`` always are proven bounds, since they cross the two kinds:
    H_8 - Σ H_2(. | c) and H_2 - Σ H_8(. | c). For I(X;T) they are the lower and the upper bound.
    All this holds for X and Y uniform on the samples: of a population that the samples
    do not exhaust, I may be larger, as none of the numbers can pass log2 N.

    T may come first or second: it is the one given as floats; the other one gives the classes.
    If both are floats, T is y, and equal rows of x make a class; where these hardly repeat, the
    pair is refused, and I(T;Y) of such targets in `plane` is NaN, flagged ``undefined``. Both ids
    are refused.

    Args:
        noise_variance: s² > 0 (s0² below).
        bound: Which of the two kinds ``bits`` uses.
        noise: ``"fixed"``: s² = noise_variance. ``"adaptive"``: s² = noise_variance · max |T|,
            the maximum over the samples and units of the layer at this snapshot (after
            Chelombiev et al. 2019, whose noise grows with a layer's largest activity). The
            number then still depends on the scale of T, less than with fixed noise.

    Flags: ``constant`` (T or the classes never vary), ``near_ceiling`` (within 5 % of log2 N:
    the noise hardly merges any two samples), ``crowded`` (the noise merges nearly all, which
    differ: an outlier sets the adaptive noise, or the noise is wide), ``scales_apart`` (columns of
    T whose spreads differ by more than a factor of 10: the noise, as wide in all of them, hides
    the narrow ones) and ``undersampled`` (random labels give more than 0.1 bit).

    Diagnostics: ``noise_variance`` used, ``ceiling`` (the entropy of the classes; log2 N if all
    are single samples), and ``null_bits``, what randomly permuted classes give (NaN where none was
    asked: single samples, T a function of X, a population).

    References:
        Kolchinsky & Tracey 2017, Estimating mixture entropy with pairwise distances, Entropy 19.
        Saxe et al. 2018, On the information bottleneck theory of deep learning, ICLR.
        Chelombiev, Houghton & O'Donnell 2019, Adaptive estimators show information compression
        in deep neural networks, ICLR.

    Example:
        Four inputs, two far apart pairs that the noise merges: one bit.

        >>> import torch
        >>> t = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> estimate = KDE(noise_variance=1e-3)(torch.arange(4), t)
        >>> round(float(estimate.bits), 6), round(float(estimate.lower), 6)
        (1.0, 1.0)
    """

    noise_variance: float = 1e-3
    bound: Literal["upper", "lower"] = "upper"
    noise: Literal["fixed", "adaptive"] = "fixed"

    def __post_init__(self) -> None:
        require_types(self)
        if not 0 < self.noise_variance < float("inf"):
            raise ConfigError(
                f"KDE: noise_variance must be positive and finite, got {self.noise_variance}"
            )
        for name, allowed in (("bound", ("upper", "lower")), ("noise", ("fixed", "adaptive"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"KDE: {name} must be one of {allowed}, got {getattr(self, name)!r}"
                )

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        variance = "s²" if self.noise == "fixed" else "s² max|T| "
        return Tags(
            estimand=f"I(X; T + ε), ε ~ N(0, {variance}I), for X uniform on the samples",
            of_information=False,
            reference="Kolchinsky & Tracey 2017, Entropy 19",
            question="resolution",
            bound=self.bound,
            symmetric=False,
            scale_dependence=_UNITS[self.noise],
            variable="made",
            cost="N² d time, N d memory",
            bias=f"a proven {self.bound} bound on I(X; T + ε) of the samples' own law, none on "
            "I(T;Y); at most log2 N; set by the noise",
        )

    @property
    def estimand(self) -> str:
        """The noisy layer."""
        scale = " max|T|" if self.noise == "adaptive" else ""
        return f"T + N(0, {self.noise_variance:g}{scale})"

    def _variance(self, t: Tensor) -> Tensor:
        if self.noise == "fixed":
            shape = t.shape[:-2]
            return torch.full(shape, self.noise_variance, dtype=torch.float64, device=t.device)
        largest = t.detach().to(torch.float64).abs().amax((-2, -1))
        return self.noise_variance * torch.where(largest > 0, largest, 1)

    def _solve(
        self, t: Tensor, groups: list[Tensor], known: list[bool], seed: int
    ) -> list[Estimate]:
        """The estimates of one layer ``(n, d)``, one for each grouping of its samples.

        All kernels are summed in one pass over the pairs of samples, those of permuted classes
        (the null, where the law is not known) among them.
        """
        n, kind = len(t), 0 if self.bound == "upper" else 1
        ids = [row_ids(group) for group in groups]
        shuffles = [shuffled(g, known=k) for g, k in zip(ids, known, strict=True)]
        every = [*ids, *(order for orders in shuffles for order in orders)]
        variance = self._variance(t)
        sums = gaussian_sums(t, variance, every).log2()
        whole = sums[0] - torch.tensor(n, dtype=torch.float64).log2()
        sizes = [torch.bincount(group)[group].to(torch.float64) for group in every]
        within = [own - size.log2() for own, size in zip(sums[1:], sizes, strict=True)]
        rest = iter(within[len(ids) :])
        estimates, near = [], sums[0][kind].exp2()
        for orders, size, own in zip(shuffles, sizes, within, strict=False):
            null = torch.full((), torch.nan, dtype=torch.float64, device=t.device)
            if orders:
                null = (
                    torch.stack([next(rest)[kind] - whole[kind] for _ in orders]).mean(0).mean(-1)
                )
            bounds = Bounds(
                local=own[kind] - whole[kind],
                lower=(own[0] - whole[1]).mean(-1),
                upper=(own[1] - whole[0]).mean(-1),
            )
            ceiling = -(size / n).log2().mean(-1)
            estimates.append(self._estimate(t, variance, bounds, ceiling, near, null))
        return estimates

    def _estimate(
        self,
        t: Tensor,
        variance: Tensor,
        bounds: Bounds,
        ceiling: Tensor,
        near: Tensor,
        null: Tensor,
    ) -> Estimate:
        """The estimate of one layer from its bounds.

        Args:
            t: The layer, ``(n, d)``.
            variance: Of the noise.
            bounds: On its information.
            ceiling: The entropy of the classes.
            near: Each sample's kernel, summed over all samples, ``(n,)``.
            null: What permuted classes give.
        """
        still = (t == t[:1]).all()
        estimate = Estimate.from_local(bounds.local)
        return Estimate(
            bits=estimate.bits,
            stderr=estimate.stderr,
            lower=bounds.lower,
            upper=bounds.upper,
            flags={
                "constant": still | (ceiling == 0),
                "near_ceiling": estimate.bits >= 0.95 * torch.tensor(float(len(t))).log2(),
                "crowded": crowded(near) & ~still,
                "undersampled": undersampled(null),
            },
            diagnostics={
                "noise_variance": variance,
                "ceiling": ceiling,
                "null_bits": null,
            },
        )


class Bounds(NamedTuple):
    """What the pairwise distances say of one layer, in bits.

    Args:
        local: The kind of bound that was asked for, of each sample, ``(n,)``.
        lower: The proven lower bound: entropies crossed.
        upper: The proven upper bound.
    """

    local: Tensor
    lower: Tensor
    upper: Tensor

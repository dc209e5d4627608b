"""Information in a layer with noise of known law, by Monte Carlo (Goldfeld et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._checks import (
    crowded,
    shuffled,
    undersampled,
)
from ibtrace.estimators._groups import OfGroups
from ibtrace.numerics import noisy_mixtures
from ibtrace.numerics.distances import row_ids
from ibtrace.numerics.scale import columns_apart
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags

Noise = Literal["additive", "multiplicative", "lognormal"]

_CHANNELS: dict[str, Callable[[Tensor, float], noisy_mixtures.Channel]] = {
    "additive": noisy_mixtures.additive,
    "multiplicative": noisy_mixtures.multiplicative,
    "lognormal": noisy_mixtures.lognormal,
}
_SYMBOLS = {
    "additive": "T + N(0, {variance:g})",
    "multiplicative": "T · N(1, {variance:g})",
    "lognormal": "T · exp N(0, {variance:g})",
}
_LAWS = {"additive": "T + Z", "multiplicative": "T (1 + Z)", "lognormal": "T exp Z"}
_UNITS = "the noise has the deviation it is given, in the units of T"
_FEWEST_DRAWS = 1000
_QUANTILE = 1.959964  # two-sided 95 % of the normal law


@dataclass(frozen=True)
class NoisyChannel(OfGroups):
    """I(X; T + Z), Z ~ N(0, s² I), by Monte Carlo with its error bar (Goldfeld et al. 2019).

    Given n samples, T + Z is a mixture p of n Gaussians of equal weight, and within a class c
    (all the samples that share one x, or one label) a mixture p_c. With the expectation over the
    samples i, of class c(i), and over the noise z,

        I(X; T + Z) = h(T + Z) - Σ_c n_c/n h(T + Z | c) = E log2 p_c(i)(t_i + s z) / p(t_i + s z)

    in bits. If T is a function of X, h(T + Z | x) = h(Z), and only p is left to compute. The
    draws are stratified: every distinct row of T gets the same number of them. Nothing but the
    draw of the noise is random, so that ``stderr`` and the 95 % interval ``lower``, ``upper``
    are those of the Monte Carlo error, for X uniform on the samples; of a population that
    the samples do not exhaust, I may be larger, as no number here can pass log2 n. The interval
    covers 94 to 96 % with two to four centres; less where centres are so far apart that confusions
    are rarer than draws (51 % at 0.998 of 1 bit, flagged ``near_ceiling``). `KDE` with
    ``noise_variance = s²`` bounds the same number from both sides.

    T may come first or second: it is the one given as floats; the other one gives the classes.
    If both are floats, T is y, and equal rows of x make a class; where these hardly repeat, the
    pair is refused, and I(T;Y) of such targets in `plane` is NaN, flagged ``undefined``. Both ids
    are refused.

    T holds the centres: the layer *before* its noise (`ibtrace.models.noise` injects noise in a
    network and names them). Where layers below are noisy too, t_i is random given x: run the
    network m times on every input, and give the m rows of each under one id.

    Args:
        noise_std: s > 0.
        samples: Draws of the noise for each of the n samples, at least 2; 1000 in all at least,
            below which the interval would be too short.
        noise: ``"additive"``: T + s Z. ``"multiplicative"``: T (1 + s Z), Gaussian dropout.
            ``"lognormal"``: T exp(s Z), information dropout with a fixed s. The last two leave
            a unit at 0 where it is, so that *which* units are 0 comes through without noise.
        in_network: Whether the network itself sends T through this noise, so that the number is
            the information in its layer and not what an analysis leaves of it (`Tags.question`).
            The ``channel`` of a module of `ibtrace.models.noise` says so. It is you who vouch for
            it: of a layer whose noise is another, or below which there is noise that the look
            switches off, the number is that of another network.

    Flags: ``constant`` (T or the classes never vary), ``near_ceiling`` (within 5 % of log2 n:
    the noise hardly merges any two samples), ``crowded`` (it merges nearly all, which differ),
    ``scales_apart`` (additive noise only: columns of T whose spreads differ by more than a factor
    of 10; the noise, as wide in all of them, hides the narrow ones) and
    ``undersampled`` (random labels give more than 0.1 bit).

    Diagnostics: ``ceiling`` (the entropy of the classes), ``centres`` (distinct rows of T), and
    ``null_bits``, what randomly permuted classes give (NaN where none was asked: single samples, T
    a function of X, a population).

    References:
        Goldfeld et al. 2019, Estimating information flow in deep neural networks, ICML.
        Adilova, Geiger & Fischer 2023, Information plane analysis for dropout neural networks,
        ICLR (the multiplicative laws).

    Example:
        Two points four standard deviations apart: 0.9114 bits.

        >>> import torch
        >>> t = torch.tensor([[-2.0], [2.0]])
        >>> estimate = NoisyChannel(noise_std=1.0, samples=4000)(torch.arange(2), t)
        >>> bool(estimate.lower < 0.9114 < estimate.upper), bool(estimate.stderr < 0.01)
        (True, True)
    """

    noise_std: float = 0.1
    samples: int = 4
    noise: Noise = "additive"
    in_network: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        if not 0 < self.noise_std < float("inf"):
            raise ConfigError(
                f"NoisyChannel: noise_std must be positive and finite, got {self.noise_std}"
            )
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 2:
            got = repr(self.samples)
            raise ConfigError(f"NoisyChannel: samples must be a whole number >= 2, got {got}")
        if self.noise not in _CHANNELS:
            known = ", ".join(_CHANNELS)
            raise ConfigError(f"NoisyChannel: noise must be one of {known}, got {self.noise!r}")

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand=f"I(X; {_LAWS[self.noise]}), Z ~ N(0, s²I), for X uniform on the samples",
            of_information=False,
            reference="Goldfeld et al. 2019, ICML",
            question="information" if self.in_network else "resolution",
            symmetric=False,
            scale_dependence=_UNITS if self.noise == "additive" else "",
            variable="made",
            cost=f"{self.samples} · N U d time for U distinct rows of T, N d memory",
            bias="none for the samples' own law; at most log2 N; set by the noise",
        )

    @property
    def estimand(self) -> str:
        """The noisy layer."""
        noisy = _SYMBOLS[self.noise].format(variance=self.noise_std**2)
        return f"{noisy}, the network's own noise" if self.in_network else noisy

    def _solve(
        self, t: Tensor, groups: list[Tensor], known: list[bool], seed: int
    ) -> list[Estimate]:
        """The estimates of one layer ``(n, d)``, one for each grouping, from the same draws."""
        n, points = len(t), t.detach().to(torch.float64)
        # Sorted rows: the noise then goes with the values, in whatever order the samples come.
        centres, rows, counts = torch.unique(points, dim=0, return_inverse=True, return_counts=True)
        ids = [row_ids(group) for group in groups]
        shuffles = [shuffled(g, known=k) for g, k in zip(ids, known, strict=True)]
        every = [*ids, *(order for orders in shuffles for order in orders)]
        information = noisy_mixtures.information(
            _CHANNELS[self.noise](centres, self.noise_std),
            counts,
            [noisy_mixtures.Classes(group, rows) for group in every],
            -(-max(self.samples * n, _FEWEST_DRAWS) // len(centres)),
            seed,
        )
        near = n * information.whole[rows].exp()
        means, stderrs = information.means / math.log(2), information.variances.sqrt() / math.log(2)
        rest = iter(means[len(ids) :])
        estimates = []
        for group, orders, bits, stderr in zip(ids, shuffles, means, stderrs, strict=False):
            sizes = torch.bincount(group)[group].double()
            nulls = [next(rest) for _ in orders]
            null = torch.stack(nulls).mean() if nulls else bits.new_tensor(math.nan)
            ceiling = -(sizes / n).log2().mean()
            varies = len(centres) > 1
            estimates.append(
                Estimate(
                    bits=bits,
                    stderr=stderr,
                    lower=bits - _QUANTILE * stderr,
                    upper=bits + _QUANTILE * stderr,
                    flags={
                        "constant": (ceiling == 0) | (not varies),
                        "near_ceiling": bits >= 0.95 * math.log2(n),
                        "crowded": crowded(near) & varies,
                        "undersampled": undersampled(null),
                    },
                    diagnostics={
                        "ceiling": ceiling,
                        "centres": torch.tensor(len(centres)),
                        "null_bits": null,
                    },
                )
            )
        return estimates

    def _apart(self, t: Tensor) -> Tensor:
        """Whether one width of noise is for columns of very different spread, ``(...)``."""
        apart = columns_apart(t)
        return apart if self.noise == "additive" else torch.zeros_like(apart)

"""Information through a noise of known law, by drawing the noise at every centre.

The law of the noisy variable is a mixture with one component per sample. All sums over components
are taken relative to the density of the component that was drawn from, whose own term is 1. They
need no rescaling: under a component, the expected density ratio to any other is 1, so that a
ratio beyond the range of float64 has a probability below its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ibtrace.numerics.distances import centred, direct, row_ids

_BLOCK = 2**20  # elements; the same on every device, since it sets how the noise is drawn
_LARGEST_TABLE = 2**24  # densities of draws under classes, held at a time
_LOWEST_EXPONENT = -700.0  # exp(-700) is still a normal float64; below, arithmetic slows down
_ROUNDING = 1e-9
_FEW_CLASSES = 32  # a matrix of zeros for the most part is still faster than a sparse one


class Channel(Protocol):
    """A noise of known law around U centres."""

    @property
    def shape(self) -> torch.Size:
        """(U, d): the shape of the centres, and of standard normal noise for each."""
        ...

    def exponents(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Log density ratios in nats of all components to the one drawn from.

        Args:
            rows: The centre of each draw, ``(r,)``.
            noise: Standard normal numbers ``(r, d)``.

        Returns:
            ``(r, U)``.
        """
        ...


@dataclass(frozen=True)
class Additive:
    """T + Z with Z ~ N(0, I): ``points (U, d)`` in units of the noise, about their mean."""

    points: Tensor

    @property
    def shape(self) -> torch.Size:
        """(U, d)."""
        return self.points.shape

    def exponents(self, rows: Tensor, noise: Tensor) -> Tensor:
        """``(|z|² - |t_i + z - t_j|²) / 2``; see `Channel`."""
        noisy = self.points[rows] + noise
        own = noise.square().sum(1, keepdim=True)
        squares = self.points.square().sum(1)
        if float(squares.max()) * torch.finfo(torch.float64).eps > _ROUNDING:
            return (own - direct(noisy, self.points, "euclidean")) / 2
        exponent = torch.addmm(squares, noisy, self.points.T, beta=-0.5)
        return exponent.add_((own - noisy.square().sum(1, keepdim=True)) / 2)


@dataclass(frozen=True)
class Multiplicative:
    """T (1 + s Z) with Z ~ N(0, I), unit by unit: ``centres (U, d)`` and s.

    A unit at 0 stays there, so that only centres with the same units at 0 can be confused.
    """

    centres: Tensor
    std: float
    patterns: Tensor

    @property
    def shape(self) -> torch.Size:
        """(U, d)."""
        return self.centres.shape

    def exponents(self, rows: Tensor, noise: Tensor) -> Tensor:
        """``|z|²/2 + Σ ln|t_i| - Σ (y/t_j - 1)²/(2 s²) - Σ ln|t_j|``; see `Channel`."""
        live = self.centres != 0
        scale = self.centres.abs().masked_fill(~live, 1)
        volumes = scale.log().sum(1)
        inverse = (1 / (self.std * self.centres)).masked_fill(~live, 0)
        noise = noise * live[rows]
        noisy = self.centres[rows] * (1 + self.std * noise)
        squared = noisy.square() @ inverse.square().T - (2 / self.std) * (noisy @ inverse.T)
        squared += live.sum(1) / self.std**2
        own = (noise.square().sum(1) / 2 + volumes[rows]).unsqueeze(1)
        return _within(own - squared / 2 - volumes, self.patterns, rows)


@dataclass(frozen=True)
class Lognormal:
    """T exp(s Z) with Z ~ N(0, I), unit by unit: a shift of ``ln|T| / s`` that keeps the sign."""

    logarithms: Additive
    patterns: Tensor

    @property
    def shape(self) -> torch.Size:
        """(U, d)."""
        return self.logarithms.shape

    def exponents(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Those of the logarithms, among centres of the same signs; see `Channel`."""
        exponent = self.logarithms.exponents(rows, noise)
        return _within(exponent, self.patterns, rows)


def _within(exponent: Tensor, patterns: Tensor, rows: Tensor) -> Tensor:
    return exponent.masked_fill_(patterns[rows].unsqueeze(1) != patterns, -torch.inf)


def additive(centres: Tensor, std: float) -> Additive:
    """The channel T + N(0, std² I) around ``centres (U, d)``."""
    return Additive(centred(centres) / std)


def multiplicative(centres: Tensor, std: float) -> Multiplicative:
    """The channel T · N(1, std²) around ``centres (U, d)``."""
    return Multiplicative(centres, std, row_ids(centres != 0))


def lognormal(centres: Tensor, std: float) -> Lognormal:
    """The channel T · exp(N(0, std²)) around ``centres (U, d)``."""
    logarithms = centres.abs().masked_fill(centres == 0, 1).log() / std
    return Lognormal(Additive(logarithms), row_ids(centres.sign()))


class Classes:
    """A grouping of samples, as the mixture over the centres that each class is.

    Args:
        ids: Class of each sample, ``0..C-1``, ``(n,)``.
        rows: Centre of each sample, ``0..U-1``, ``(n,)``.
    """

    def __init__(self, ids: Tensor, rows: Tensor) -> None:
        classes = int(ids.max()) + 1
        pairs, counts = torch.unique(rows * classes + ids, return_counts=True)
        self.rows, self.classes = pairs // classes, pairs % classes  # sorted by row
        per_row, per_class = torch.bincount(rows), torch.bincount(ids)
        self.share = counts / per_row[self.rows].double()
        self.pairs_of_row = torch.bincount(self.rows)
        self.first_pair = self.pairs_of_row.cumsum(0) - self.pairs_of_row
        self.single = len(pairs) == classes
        mixtures = torch.sparse_coo_tensor(
            torch.stack([self.classes, self.rows]),
            counts / per_class[self.classes].double(),
            (classes, len(per_row)),
            check_invariants=False,
        )
        self.mixtures = mixtures.to_dense() if classes <= _FEW_CLASSES else mixtures

    def log_densities(self, kernel: Tensor, rows: Tensor) -> Tensor:
        """Of each draw, the mean of its log density over the classes at its centre, ``(r,)``.

        Args:
            kernel: Density ratios ``(r, U)``.
            rows: The centre of each draw, ``(r,)``.
        """
        totals = kernel.new_zeros(len(rows))
        if self.single:  # every class is one component: its density is what ratios are taken to
            return totals
        step = max(1, _LARGEST_TABLE // self.mixtures.shape[0])
        if len(rows) > step:
            parts = zip(kernel.split(step), rows.split(step), strict=True)
            return torch.cat([self.log_densities(part, of_part) for part, of_part in parts])
        logs = (self.mixtures @ kernel.T).log_()
        repeats = self.pairs_of_row[rows]
        draws = torch.arange(len(rows), device=rows.device).repeat_interleave(repeats)
        offset = torch.arange(len(draws), device=rows.device)
        offset -= (repeats.cumsum(0) - repeats).repeat_interleave(repeats)
        pairs = self.first_pair[rows].repeat_interleave(repeats) + offset
        return totals.index_add_(0, draws, self.share[pairs] * logs[self.classes[pairs], draws])


class Information(NamedTuple):
    """I(class; noisy variable) in nats under each of G groupings.

    Args:
        means: ``(G,)``.
        variances: Their Monte Carlo variances, ``(G,)``.
        whole: Log density of the whole mixture at each centre's draws, relative to the centre's
            own component, on average: of ``(U,)`` centres.
    """

    means: Tensor
    variances: Tensor
    whole: Tensor


def information(
    channel: Channel, counts: Tensor, groups: Sequence[Classes], draws: int, seed: int
) -> Information:
    """I(class; noisy variable) in nats under each grouping, with its Monte Carlo variance.

    Draws are stratified: each centre gets the same number, and counts for as many samples as
    lie there.

    Args:
        channel: The noise around the U distinct centres.
        counts: How many samples lie at each centre, ``(U,)``.
        groups: Groupings of the samples.
        draws: Draws at each centre, at least 2.
        seed: Seeds the noise, drawn on the CPU so that it is the same on every device.

    Returns:
        See `Information`, in float64.
    """
    centres, d = channel.shape
    device, generator = counts.device, torch.Generator().manual_seed(seed)
    weights = counts / counts.sum().double()
    logs = torch.zeros(1 + len(groups), centres * draws, dtype=torch.float64, device=device)
    step = max(1, _BLOCK // max(centres, d))
    for start in range(0, centres * draws, step):
        stop = min(start + step, centres * draws)
        rows = torch.arange(start, stop, device=device) // draws
        noise = torch.randn(stop - start, d, generator=generator, dtype=torch.float64).to(device)
        kernel = channel.exponents(rows, noise).clamp_(min=_LOWEST_EXPONENT).exp_()
        kernel[torch.arange(len(rows), device=device), rows] = 1.0
        logs[0, start:stop] = (kernel @ weights).log_()
        for group, values in zip(groups, logs[1:], strict=True):
            values[start:stop] = group.log_densities(kernel, rows)
    strata = logs.unflatten(1, (centres, draws))
    local = strata[1:] - strata[0]
    variances = (weights.square() * local.var(2) / draws).sum(1)
    return Information(local.mean(2) @ weights, variances, strata[0].mean(1))

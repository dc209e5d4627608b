"""Diffusion spectral information: the entropies of a random walk among the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._checks import shuffled, undersampled
from ibtrace.estimators._groups import OfGroups
from ibtrace.numerics.distances import Distances, is_constant, row_ids
from ibtrace.numerics.gram import GaussianGram, diffusion_entropy, median_width, silverman_width
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags

_CROWDED = 0.95  # the mean of the kernel, 1 if all samples are alike

Width = Literal["silverman", "median"] | float


@dataclass(frozen=True)
class DiffusionSpectral(OfGroups):
    """S(T) - Σ_c N_c/N S(T | c), S the diffusion spectral entropy of samples (Liao et al. 2023).

    Among N samples of T a walk goes from i to j with a probability in proportion to the kernel
    exp(-|t_i - t_j|² / 2σ²); with λ the eigenvalues of its N × N matrix of transitions, in bits,

        S(T) = -Σ p log₂ p,    p_i = |λ_i|^s / Σ |λ|^s.

    S(T | c) is that of the walk among the samples of a class c alone: those that share one x, or
    one label. S counts the places that the walk does not leave within s steps: C groups of samples
    far apart have log₂ C bits, whatever their sizes, so that this is no estimate of Shannon's
    I(X;Y). If no x repeats, I(X;T) is S(T).

    A class has fewer samples than all of T, and where the kernel tells samples apart fewer samples
    have a smaller S: random labels are told something. How much is ``null_bits``, from classes of
    the same sizes drawn at random; the authors' package subtracts just that, ``bits - null_bits``
    here. (It calls its matrix anisotropic; what it computes has the eigenvalues of the walk above.)

    T may come first or second: it is the one given as floats; the other one gives the classes. If
    both are floats, T is y, and equal rows of x make a class; where these hardly repeat, the pair
    is refused, and I(T;Y) of such targets in `plane` is NaN, flagged ``undefined``.

    Args:
        steps: s, at least 1: more steps leave fewer places apart.
        width: σ: ``"silverman"``, √d N^(-1/(4+d)) standard deviations (pooled over the columns);
            ``"median"``, the median distance between distinct samples; or a number, in the
            units of T (their package: 10).

    Flags: ``constant`` (T or the classes never vary: 0 bits), ``near_ceiling`` (S(T) within 5 % of
    log₂ N: the kernel tells all samples apart), ``crowded`` (to the kernel nearly all samples are
    alike, which differ), ``scales_apart`` (columns of T whose spreads differ by more than a factor
    of 10: one width is for all of them) and ``undersampled`` (random labels would give more than
    0.1 bit). Diagnostics: ``width``, ``entropy``, S(T), and ``null_bits`` (NaN where none was
    asked: single samples, T a function of X, a population).

    References:
        Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein & Krishnaswamy 2023,
        Assessing neural network representations during training using noise-resilient diffusion
        spectral entropy, arXiv:2312.04823.

    Example:
        Four groups far apart, two of them of each label: one bit.

        >>> import torch
        >>> ids = torch.arange(40) % 4
        >>> estimate = DiffusionSpectral(width=0.1)(100.0 * ids[:, None], ids // 2)
        >>> round(float(estimate.bits), 6), round(float(estimate.diagnostics["entropy"]), 6)
        (1.0, 2.0)
    """

    steps: float = 1.0
    width: Width = "silverman"

    def __post_init__(self) -> None:
        require_types(self)
        if self.steps < 1:
            raise ConfigError(f"DiffusionSpectral: steps must be at least 1, got {self.steps!r}")
        named = self.width in ("silverman", "median")
        if not named and (isinstance(self.width, str) or not 0 < self.width < math.inf):
            raise ConfigError(
                "DiffusionSpectral: width must be 'silverman', 'median' or above 0, "
                f"got {self.width!r}"
            )

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        own = isinstance(self.width, str)
        return Tags(
            estimand="S(T) - S(T | X), S the spectral entropy of a walk among the samples",
            of_information=False,
            reference="Liao et al. 2023, arXiv:2312.04823",
            question="resolution",
            symmetric=False,
            variable="made",
            scale_dependence="" if own else "the width is in the units of the data",
            cost="N² d + N³ time, N² memory",
            bias="not of I(X;Y): set by the kernel's width; up by what random classes of the same "
            "sizes tell; at most log2 N",
        )

    @property
    def estimand(self) -> str:
        """The layer as a walk among its samples sees it."""
        width = self.width if isinstance(self.width, str) else f"{self.width:g}"
        return f"T in {self.steps:g} steps of a walk ({width} width)"

    def bytes_for(self, n: int, dx: int | None, dy: int | None) -> tuple[float, str]:
        """The memory that n samples need, and what needs less.

        Args:
            n: The number of samples.
            dx: Columns of x; None for ids.
            dy: Columns of y; None for ids.
        """
        return 8.0 * n * n * (7 if self.width == "median" else 5), "take fewer samples"

    def _width(self, points: Tensor, distances: Distances) -> float:
        if self.width == "silverman":
            return silverman_width(points, 1.0)
        return median_width(distances) if self.width == "median" else float(self.width)

    def _solve(
        self, t: Tensor, groups: list[Tensor], known: list[bool], seed: int
    ) -> list[Estimate]:
        """The estimates of one layer ``(n, d)``, one for each grouping of its samples."""
        n, points = len(t), t.detach().to(torch.float64)
        still = is_constant(points)
        if still:
            width, kernel = 0.0, torch.ones(n, n, dtype=torch.float64, device=t.device)
        else:
            distances = Distances(points, "euclidean")
            width = self._width(points, distances)
            kernel = GaussianGram(distances, width).rows(slice(0, n))
        whole = 0.0 if still else diffusion_entropy(kernel, self.steps)
        estimates = []
        for group, is_known in zip(groups, known, strict=True):
            ids = row_ids(group)
            nulls = [whole - self._within(kernel, one) for one in shuffled(ids, known=is_known)]
            null = sum(nulls) / len(nulls) if nulls else math.nan
            constant = still or is_constant(ids)
            estimates.append(
                Estimate.single(
                    0.0 if constant else whole - self._within(kernel, ids),
                    flags={
                        "constant": constant,
                        "near_ceiling": whole >= 0.95 * math.log2(n),
                        "crowded": bool(kernel.mean() >= _CROWDED) and not still,
                        "undersampled": bool(undersampled(torch.tensor(null))),
                    },
                    diagnostics={"width": width, "entropy": whole, "null_bits": null},
                    device=t.device,
                )
            )
        return estimates

    def _within(self, kernel: Tensor, ids: Tensor) -> float:
        """Σ_c N_c/N S(T | c): of single samples it is 0."""
        sizes = torch.bincount(ids)
        total = 0.0
        for one in (sizes > 1).nonzero().flatten().tolist():
            rows = (ids == one).nonzero().flatten()
            part = kernel[rows.unsqueeze(1), rows]
            total += len(rows) / len(ids) * diffusion_entropy(part, self.steps)
        return total

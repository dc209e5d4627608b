"""Matrix-based Rényi mutual information from the spectra of Gram matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.estimators._checks import UNDERSAMPLED, checked, orders, shuffled
from ibtrace.estimators._inputs import check_pair, each_estimate, each_estimates, is_ids, samples
from ibtrace.estimators._prepared import once
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.distances import Distances, is_constant
from ibtrace.numerics.gram import (
    DeltaGram,
    GaussianGram,
    Gram,
    aligned_width,
    matrix_entropy,
    mean_squares,
    median_width,
    silverman_width,
    spectrum,
)
from ibtrace.numerics.scale import columns_apart
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, ProbeLike, Tags, label

_CROWDED = 0.95  # the mean squared entry of a Gram matrix, 1 if all samples are alike

Width = Literal["silverman", "median", "alignment"] | float


@checked
@dataclass(frozen=True)
class MatrixRenyi:
    """I_α(X;Y) = S_α(A) + S_α(B) - S_α(A∘B / tr) of the Gram matrices of the samples.

    With K the kernel matrix of X and L that of Y among N samples, A = K / N, B = L / N and
    A∘B / tr(A∘B) = K∘L / N, and in bits (Sánchez Giraldo, Rao & Principe 2015; Yu et al. 2019)

        S_α(A) = log₂(Σ λ_i(A)^α) / (1 - α),

    λ the eigenvalues; α = 1 is the limit, von Neumann's entropy. This is no estimate of
    Shannon's I(X;Y): the number is what the kernel at its width tells apart, between 0
    (all samples alike) and log₂ N (all distinct, flag ``saturated``). With C groups of equal
    samples far apart, I_α(X;X) is log₂ C for every α.

    Floats have the kernel exp(-|x - x'|² / 2σ²) of the flattened sample; for the feature maps of
    a convolutional layer that is Wickstrøm et al.'s (2019) tensor kernel, and the product of the
    channels' own kernels of the same width (Yu et al. 2020). (They write σ² for the 2σ² here.)
    Ids have the delta kernel; of two ids, α → 1 gives the plug-in information.

    ``width`` is the σ of X and of Y:

    - ``"silverman"``: γ √d N^(-1/(4+d)) standard deviations (pooled over the columns), with the
      √d of Tapia & Estévez 2020; without it all samples of a wide layer are told apart.
    - ``"median"``: the median distance between distinct samples.
    - ``"alignment"``: the width whose kernel is most like the labels' (Wickstrøm et al. 2019);
      for a pair of ids and floats, or in `plane` with class labels.
    - a number.

    Args:
        alpha: α, above 0. At 2 no eigenvalue is needed: S_2(A) = -log₂ ‖A‖²_F.
        width: See above.
        gamma: γ of ``"silverman"``.

    Flags: ``saturated`` (the joint entropy is within 5 % of log₂ N); ``crowded`` (to its kernel
    nearly all samples of a variable are alike, which differ: an outlier sets the width);
    ``undersampled`` (one variable in a random order would give more than 0.1 bit);
    ``scales_apart`` (columns of a variable whose spreads differ by more than a factor of 10: one
    width is for all of them);
    ``constant`` (a variable that never varies: 0 bits). Diagnostics: ``width_x``, ``width_y`` (0
    for ids), and ``null_bits``, what a random order gives (NaN of ids that never repeat, in `plane`
    of X, and of a population). The standard error (α = 2 only, else NaN) is that of the first-order
    projection, widths held fixed: within 1.25 of the spread over samples in one or two dimensions,
    but twice as large as that for 5 + 5 dimensions of 2.5 bits at N = 200 (1.8 times at N = 800),
    where the few neighbours of each sample scatter by themselves.

    References:
        Sánchez Giraldo, Rao & Principe 2015, Measures of entropy from data using infinitely
        divisible kernels, IEEE Trans. Inf. Theory 61.
        Yu, Sánchez Giraldo, Jenssen & Principe 2020, Multivariate extension of matrix-based
        Rényi's α-order entropy functional, IEEE TPAMI 42.
        Wickstrøm et al. 2019, Information plane analysis of deep neural networks via matrix-based
        Rényi's entropy and tensor kernels, arXiv:1909.11396.
        Tapia & Estévez 2020, On the information plane of autoencoders, IJCNN.

    Example:
        Four groups far apart, labelled: two bits.

        >>> import torch
        >>> ids = torch.arange(40) % 4
        >>> estimate = MatrixRenyi(alpha=2, width=0.1)(100.0 * ids[:, None], ids)
        >>> round(float(estimate.bits), 6)
        2.0
    """

    alpha: float = 1.01
    width: Width = "silverman"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("alpha", "gamma"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 < value < math.inf):
                raise ConfigError(f"MatrixRenyi: {name} must be above 0, got {value!r}")
        named = self.width in ("silverman", "median", "alignment")
        if not named and not (_is_number(self.width) and 0 < float(self.width) < math.inf):
            raise ConfigError(
                "MatrixRenyi: width must be 'silverman', 'median', 'alignment' or above 0, "
                f"got {self.width!r}"
            )

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand=f"I_α of the Gram matrices of X and Y, α = {self.alpha:g}",
            of_information=False,
            reference="Sánchez Giraldo, Rao & Principe 2015, IEEE Trans. Inf. Theory 61",
            question="resolution",
            variable="made",
            scale_dependence=""
            if isinstance(self.width, str)
            else "the width is in the units of the data",
            cost="N² d time, N memory" if self.alpha == 2 else "N² d + N³ time, N² memory",
            bias="not of I(X;Y): set by the kernel's width; at most log2 N",
        )

    @property
    def estimand(self) -> str:
        """The layer as a kernel of some width sees it."""
        width = self.width if isinstance(self.width, str) else f"{self.width:g}"
        return f"T in a Gaussian kernel ({width} width), Rényi's α = {self.alpha:g}"

    def bytes_for(self, n: int, dx: int | None, dy: int | None) -> tuple[float, str]:
        """The memory that n samples need, and what needs less.

        Args:
            n: The number of samples.
            dx: Columns of x; None for ids.
            dy: Columns of y; None for ids.
        """
        floats = dx is not None or dy is not None
        matrices = (5 if self.alpha != 2 else 0) + (3 if self.width == "median" else 0)
        return 8.0 * n * n * matrices * floats, "take fewer samples, or alpha=2.0, silverman width"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I_α(x; y) in bits; see the class. Nothing is random: ``seed`` is not used.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Not used.

        Raises:
            InvalidInput: If x or y is malformed.
            Unsupported: If both are floats and ``width="alignment"``.
        """
        check_pair(label(self), x, y)

        def solve(a: Tensor, b: Tensor) -> Estimate:
            return self._solve(self._gram(a, b), self._gram(b, a), a, b)

        apart = columns_apart(x) | columns_apart(y)
        return each_estimate(solve, x, y).flagged(scales_apart=apart)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits for ``t (..., n, d)``.

        X's distances are kept with the probe where they fit in 1 GiB (N up to 11,585). With
        ``width="alignment"`` the kernels of X and of T are both aligned to the labels.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe.
            Unsupported: If ``width="alignment"`` and the labels are continuous.
        """
        x, y = probe.features.to(t.device), probe.labels.to(t.device)
        check_pair(label(self), x, t)
        known = self.prepare(probe, t.device)

        def solve(_: Tensor, layer: Tensor) -> tuple[Estimate, Estimate]:
            gram, whole = self._gram(layer, y), probe.population
            return (
                # where x never repeats it says which sample it is, in whatever order
                self._solve(known.x, gram, x, layer, known=whole or not is_ids(x)),
                self._solve(gram, known.y, layer, y, known=whole),
            )

        about_x, about_y = each_estimates(solve, x, t)
        of_t = columns_apart(t)
        return (
            about_x.flagged(scales_apart=known.x_apart | of_t),
            about_y.flagged(scales_apart=of_t | known.y_apart),
        )

    def prepare(self, probe: ProbeLike, device: torch.device) -> Kernels:
        """The kernels of inputs and labels on a device, kept with the probe."""
        return once(_kernels, probe, self, device)

    def _gram(self, value: Tensor, other: Tensor, *, keep: bool = False) -> Gram:
        if is_ids(value):
            return DeltaGram(dense_ids(value))
        points = value.detach().to(torch.float64)
        distances = Distances(points, "euclidean", keep)
        if is_constant(points):
            return GaussianGram(distances, 1.0)
        rules: dict[str, Callable[[], float]] = {
            "silverman": lambda: silverman_width(points, self.gamma),
            "median": lambda: median_width(distances),
            "alignment": lambda: aligned_width(distances, self._target(other)),
        }
        width = rules[self.width]() if isinstance(self.width, str) else float(self.width)
        return GaussianGram(distances, width)

    def _target(self, other: Tensor) -> Tensor:
        if is_ids(other):
            return other
        raise Unsupported(
            f"{label(self)}: an alignment needs class ids, and x and y are both floats; "
            "use width='silverman', or plane() with class labels"
        )

    def _solve(
        self, first: Gram, second: Gram, x: Tensor, y: Tensor, *, known: bool = False
    ) -> Estimate:
        """The estimate of one problem; ``known`` where the law is, so that no null is asked for."""
        n, device = samples(x), y.device
        widths = [gram.width if isinstance(gram, GaussianGram) else 0.0 for gram in (first, second)]
        if is_constant(x) or is_constant(y):
            return self._estimate(Entropies.zero(device), n, widths, constant=True)
        means = mean_squares(first, second, n, device)
        stderr = math.nan
        if self.alpha == 2:
            of_x, of_y, of_both = (-means.mean(1).log2()).unbind()
            share = means / means.mean(1, keepdim=True)
            projected = 2 * (share[2] - share[0] - share[1])
            stderr = float(projected.std() / math.sqrt(n) / math.log(2))
        else:
            of_x, of_y, of_both = (
                matrix_entropy(spectrum(grams), self.alpha)
                for grams in ([first], [second], [first, second])
            )
        null = math.nan
        if not known:
            null = float(of_x + of_y - self._shuffled_entropy(first, second, n, device))
        crowd = bool(means[:2].mean(1).max() >= _CROWDED)
        entropies = Entropies(of_x, of_y, of_both)
        return self._estimate(entropies, n, widths, stderr=stderr, crowded=crowd, null=null)

    def _estimate(
        self,
        entropies: Entropies,
        n: int,
        widths: Sequence[float],
        *,
        stderr: float = 0.0,
        constant: bool = False,
        crowded: bool = False,
        null: float = math.nan,
    ) -> Estimate:
        return Estimate.single(
            float(entropies.x + entropies.y - entropies.both),
            stderr,
            flags={
                "constant": constant,
                "saturated": float(entropies.both) >= 0.95 * math.log2(n),
                "crowded": crowded,
                "undersampled": null > UNDERSAMPLED,
            },
            diagnostics={"width_x": widths[0], "width_y": widths[1], "null_bits": null},
            device=entropies.x.device,
        )

    def _shuffled_entropy(self, x: Gram, y: Gram, n: int, device: torch.device) -> Tensor:
        """The joint entropy when one of them comes in a random order; NaN of samples' own ids."""
        if not isinstance(y, DeltaGram):
            x, y = y, x
        if isinstance(x, DeltaGram) and int(x.ids.max()) + 1 == n:  # x says which sample it is
            return torch.tensor(math.nan, dtype=torch.float64, device=device)
        if isinstance(y, DeltaGram):
            permuted: list[Gram] = [DeltaGram(ids) for ids in shuffled(y.ids)]
        else:
            permuted = [_reordered(y, order.to(device)) for order in orders(n)]
        if not permuted:
            return torch.tensor(math.nan, dtype=torch.float64, device=device)
        if self.alpha == 2:
            means = [mean_squares(x, order, n, device)[2].mean() for order in permuted]
            return -torch.stack(means).log2().mean()
        spectra = [spectrum([x, order]) for order in permuted]
        return torch.stack([matrix_entropy(values, self.alpha) for values in spectra]).mean()


def _reordered(gram: Gram, order: Tensor) -> Gram:
    """The Gaussian kernel of the same points in another order."""
    assert isinstance(gram, GaussianGram)
    return GaussianGram(Distances(gram.distances.points[order], "euclidean"), gram.width)


class Entropies(NamedTuple):
    """Matrix entropies of X, of Y and of both together, in bits."""

    x: Tensor
    y: Tensor
    both: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Entropies:
        """Those of variables that never vary, as far as information goes."""
        none = torch.zeros((), dtype=torch.float64, device=device)
        return cls(none, none, none)


class Kernels(NamedTuple):
    """What depends on a probe alone.

    Args:
        x: The kernel of the inputs; their distances are kept.
        y: The kernel of the labels.
        x_apart: Whether the inputs' columns have very different spreads.
        y_apart: Whether those of the labels have.
    """

    x: Gram
    y: Gram
    x_apart: Tensor
    y_apart: Tensor


def _kernels(probe: ProbeLike, estimator: MatrixRenyi, device: torch.device) -> Kernels:
    x, y = probe.features.to(device), probe.labels.to(device)
    return Kernels(
        estimator._gram(x, y, keep=True),
        estimator._gram(y, y if is_ids(y) else x),
        columns_apart(x),
        columns_apart(y),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Information after a lossy compression to few dimensions (Butakov et al. 2024)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._bases import raise_scale_flags, rescaled, tags_on_base
from ibtrace.estimators._checks import checked
from ibtrace.estimators._fields import require_count
from ibtrace.estimators._inputs import check_pair, columns
from ibtrace.estimators._mlp import descend, forward, mlp, trainable
from ibtrace.estimators.ksg import KSG
from ibtrace.numerics.projections import (
    PrincipalComponents,
    content_order,
    first_equal,
    principal_components,
    tied_alike,
)
from ibtrace.numerics.scale import Scale, Scaled, check_scale, scaled
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Estimator, Tags, Variable, label, variable_of

_BATCH, _LEARNING_RATE = 256, 3e-3


@checked
@dataclass(frozen=True)
class Compressed:
    """I(f(X); g(Y)) of variables compressed to few dimensions, by any base estimator.

    Every continuous variable with more than ``dimensions`` features goes through an encoder, f
    or g, before the base is applied (Butakov et al. 2024); ids and narrow variables stay as they
    are. By the data-processing inequality, for any encoders,

        bits:  I(f(X); g(Y)) <= I(X; Y),

    with equality if they keep what X and Y share. The estimand is the left side. The base's
    own error comes on top, so that a number may well exceed I(X;Y), and the encoders are fitted
    to the samples they are applied to.

    - ``"pca"``: the first principal components, not whitened, their signs fixed: deterministic.
      Only the scale of a feature decides whether it is kept (see ``scale="column"``). If variances
      tie at the cut (all 2^d binary inputs do), the subspace is arbitrary: flag
      ``ambiguous_subspace``.
    - ``"autoencoder"``: the code of an autoencoder d - hidden - dimensions - hidden - d with ReLU
      units, trained by Adam to the least mean squared error on all the samples for
      ``steps`` batches of 256. Initial weights and batches come from ``seed``.

    Args:
        base: The estimator applied to the codes.
        dimensions: The width above which a variable is compressed, and to which it is.
        method: ``"pca"`` or ``"autoencoder"``.
        hidden: Hidden units of the autoencoder.
        steps: Training steps of the autoencoder.
        scale: What a variable is divided by before it is compressed, as in `KSG`: ``"column"``
            where columns have different units. A base such as `KSG` brings the codes to its own.

    Flags: the base's; ``ambiguous_subspace``; ``scales_apart`` and ``extreme_values`` (see `KSG`)
    also of the variables before they are compressed. Diagnostics: the base's, and
    ``explained_x``, ``explained_y``: the share of each variable's variance that can be restored
    from its code (1 if it is not compressed).

    References:
        Butakov, Tolmachev, Malanchuk, Neopryatnaya, Frolov & Andreev 2024, Information
        bottleneck analysis of deep neural networks via lossy compression, ICLR.

    Example:
        Twenty features that are two, seen through noise.

        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> y = torch.randn(800, 2, generator=generator)
        >>> x = (y + 0.5 * torch.randn(800, 2, generator=generator)).repeat(1, 10)
        >>> estimate = Compressed(dimensions=2)(x, y)
        >>> abs(float(estimate.bits) - 2.322) < 0.2
        True
        >>> round(float(estimate.diagnostics["explained_x"]), 6)
        1.0
    """

    base: Estimator = field(default_factory=KSG)
    dimensions: int = 4
    method: Literal["pca", "autoencoder"] = "pca"
    hidden: int = 64
    steps: int = 500
    scale: Scale = "none"

    held_to: ClassVar[tuple[str, ...]] = (
        "1v1-normal-0.75",
        "multinormal-dense-2-2-0.5",
        "uniform-label-5-1",
    )

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("dimensions", "hidden", "steps"):
            require_count("Compressed", name, getattr(self, name))
        if self.method not in ("pca", "autoencoder"):
            known = "'pca' or 'autoencoder'"
            raise ConfigError(f"Compressed: method must be {known}, got {self.method!r}")
        check_scale("Compressed", self.scale)

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        encoder = "N d min(N, d) by PCA"
        if self.method == "autoencoder":
            encoder = f"{self.steps} · {_BATCH} · {self.hidden} d by autoencoder"
        return tags_on_base(
            self.base,
            estimand="I(f(X); g(Y)) of compressed variables",
            reference="Butakov et al. 2024, ICLR",
            cost=f"{encoder}; then the base's",
            bias="by what the encoders lose",
        )

    @property
    def estimand(self) -> str:
        """What the base estimates, said to be of compressed variables."""
        method = "PCA" if self.method == "pca" else "autoencoder"
        compressed = f"compressed to {self.dimensions} dimensions ({method})"
        return f"{self.base.estimand}, {compressed}{rescaled(self.scale)}"

    def variable(self, width: int | None) -> Variable:
        """What stands for T: made of it if it is compressed, else what the base measures.

        Args:
            width: The columns of T; None if T is ids.
        """
        return "made" if self._compresses(width) else variable_of(self.base, width)

    def bytes_for(self, n: int, dx: int | None, dy: int | None) -> tuple[float, str]:
        """The memory that n samples need, and what needs less.

        Args:
            n: The number of samples.
            dx: Columns of x; None for ids.
            dy: Columns of y; None for ids.
        """
        sides = [min(n, d) for d in (dx, dy) if d is not None and self._compresses(d)]
        squares = sum(3.0 * side * side for side in sides) if self.method == "pca" else 0.0
        return 8.0 * squares, "take fewer samples, or method='autoencoder'"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(f(x); g(y)) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids if the base takes them.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` ids if the base takes them.
            seed: Seeds the autoencoders, the same for every problem of a batch, and the base.

        Raises:
            InvalidInput: If x or y is malformed, or unfit for the base.
            TooFewSamples: If there are not more than ``dimensions`` samples to compress, or
                fewer than the base needs.
        """
        wide = any(
            self._compresses(columns(value))
            for value in (x, y)
            if isinstance(value, Tensor) and value.dim()
        )
        check_pair(label(self), x, y, minimum=self.dimensions + 1 if wide else 2)
        pair = [self._scaled(value) for value in (x, y)]
        (a, shares_x, odd_x), (b, shares_y, odd_y) = (self._code(v.points, seed) for v in pair)
        estimate = raise_scale_flags(self.base(a, b, seed=seed), pair[0], pair[1])
        shape = estimate.bits.shape
        return dataclasses.replace(
            estimate.flagged(ambiguous_subspace=(odd_x | odd_y).expand(shape)),
            diagnostics={
                **estimate.diagnostics,
                "explained_x": shares_x.expand(shape),
                "explained_y": shares_y.expand(shape),
            },
        )

    def _scaled(self, value: Tensor) -> Scaled:
        """A variable that is compressed, at its scale; others are left to the base."""
        at_scale = scaled(value, self.scale)
        return at_scale if self._compresses(columns(value)) else at_scale._replace(points=value)

    def _compresses(self, width: int | None) -> bool:
        return width is not None and width > self.dimensions

    def _code(self, value: Tensor, seed: int) -> PrincipalComponents:
        """The code, the share it explains, and whether its subspace is ambiguous."""
        if not self._compresses(columns(value)):
            unit = torch.ones((), dtype=torch.float64, device=value.device)
            return PrincipalComponents(value, unit, unit < 0)
        if self.method == "pca":
            return principal_components(value, self.dimensions)
        lead, (n, d) = value.shape[:-2], value.shape[-2:]
        codes, shares = zip(
            *(self._train(problem, seed) for problem in value.reshape(-1, n, d)), strict=True
        )
        share = torch.stack(shares).reshape(lead)
        code = torch.stack(codes).reshape(*lead, n, self.dimensions)
        return PrincipalComponents(code, share, share != share)

    def _train(self, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """An autoencoder's code of ``x (n, d)`` and the share of the variance it restores."""
        generator = torch.Generator().manual_seed(seed)
        with trainable():
            points = x.detach().clone().to(torch.float64)
            order = content_order(points)  # sums and batches follow it, not the samples' order
            points = points - points[order].mean(0)
            variance = points[order].square().mean()
            points = points / torch.where(variance > 0, variance, 1).sqrt()
            ordered = points[order]
            d = points.shape[1]
            encoder = mlp((d, self.hidden, self.dimensions), generator, x.device)
            decoder = mlp((self.dimensions, self.hidden, d), generator, x.device)

            def loss(samples: Tensor) -> Tensor:
                batch = ordered[samples]
                return (forward(decoder, forward(encoder, batch)) - batch).square().mean()

            training = descend(
                (encoder, decoder),
                loss,
                len(points),
                batch=_BATCH,
                learning_rate=_LEARNING_RATE,
                generator=generator,
            )
            for step in training:
                if step >= self.steps:
                    break
            with torch.no_grad():
                code = forward(encoder, points)
                lost = (forward(decoder, code) - points).square().mean()
        share = torch.where(variance > 0, 1 - lost / points.square().mean(), 1.0)
        return tied_alike(code, first_equal(x.detach())), share

"""Curvature: the spectrum of the Hessian of the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._curvature import (
    EXACT,
    device_of,
    parameters_of,
    product_of,
    start_of,
    together,
)
from ibtrace.lenses._training import training_view
from ibtrace.numerics.spectra import (
    Ritz,
    eigenvalues,
    hutchinson,
    lanczos,
    mean_and_error,
    rademacher,
)
from ibtrace.runtime.arguments import flag, whole
from ibtrace.types import LOSS, LensTags, ProbeLike, Quantity, Reading, View

LARGEST = Quantity("largest Hessian eigenvalue", LOSS, per="network")
SMALLEST = Quantity("smallest Hessian eigenvalue", LOSS, per="network")
TRACE = Quantity("Hessian trace", LOSS, per="network")
NEGATIVE = Quantity("negative eigenvalue share", "1", per="network")

_CONVERGED = 0.01  # of an eigenvalue: the residual of a Ritz pair that stands for it
_BINS = 20


@dataclass(frozen=True)
class Curvature:
    r"""The eigenvalues of the Hessian H of the mean training loss.

    - largest and smallest eigenvalue, by value and not by magnitude: :math:`λ_{max}` and
      :math:`λ_{min}`;
    - trace Σλ;
    - negative eigenvalue share: of the P eigenvalues, those below :math:`-10^{-8}` of the largest
      magnitude (of products in single precision, below its rounding): the index of the loss
      surface.

    A network whose weights are no numbers any more has NaN, flagged ``diverged``.

    A network of at most ``exact`` parameters has its Hessian computed as a matrix in double
    precision, all four without error; if it cannot be called in that (it makes its own tensors in
    another), in its own, and the share, whose eigenvalues near 0 are then lost in rounding, is
    flagged ``single_precision``. A larger one has :math:`λ_{max}` and :math:`λ_{min}` by Lanczos's
    method with full reorthogonalisation (flagged ``not_converged`` where the residual ‖Hx - λx‖, a
    diagnostic, is above a hundredth of the value), the trace by Hutchinson's estimator with the
    standard error over its draws, and the share only if ``density`` is asked for.

    ``density`` gives the spectrum in 20 bins of equal width from :math:`λ_{min}` to
    :math:`λ_{max}` as the share's diagnostics ``bin 1`` …: by counting, or by stochastic Lanczos
    quadrature, with the share's error over the draws and the flag ``quadrature``: it blurs the
    many eigenvalues near 0, and takes some of them for negative.

    Args:
        density: Whether to read the density; for a network above ``exact`` parameters this costs
            ``steps`` times ``probes`` products.
        exact: The most parameters of a network whose Hessian is computed as a matrix.
        steps: Of Lanczos's method.
        probes: Random vectors of the trace and of the density.
        samples: More training samples than this are thinned by the seed.

    Raises:
        ConfigError: If a number is no whole number above 0 (``probes`` above 1), or ``density``
            is neither True nor False.

    Example:
        >>> [quantity.name for quantity in Curvature().tags.quantities][:2]
        ['largest Hessian eigenvalue', 'smallest Hessian eigenvalue']
    """

    density: bool = False
    exact: int = EXACT
    steps: int = 30
    probes: int = 30
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(LARGEST, SMALLEST, TRACE, NEGATIVE),
        reference="Ghorbani, Krishnan & Xiao 2019, An Investigation into Neural Net Optimization "
        "via Hessian Eigenvalue Density; Cohen et al. 2021, Gradient Descent on Neural Networks "
        "Typically Occurs at the Edge of Stability",
        needs=frozenset({"loss", "hessian", "training"}),
        cost="P products with the Hessian, each of about 4 passes over N samples, or 60; memory "
        "P² or 30 P",
        caveats="of a ReLU network the curvature between kinks; not comparable between networks "
        "that are scaled otherwise; in eval mode, which with batch normalisation or dropout is not "
        "what is trained",
        looks=50,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", flag("Curvature: density", self.density))
        for name, least in (("exact", 0), ("steps", 1), ("probes", 2), ("samples", 1)):
            number = whole(f"Curvature: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        training, flags = training_view(view)
        seen = training.thinned(self.samples, seed)
        exact = parameters_of(seen) <= self.exact
        read = self._by_matrix(seen) if exact else self._by_products(seen, seed)
        return together(read, seen, flags, of_loss=True)

    def _by_matrix(self, view: View) -> dict[str, Reading]:
        hessian = view.hessian
        values = eigenvalues(hessian.double())
        weights = torch.full_like(values, 1 / values.shape[1])
        share = _below(values, weights, _rounding(hessian, values))
        bins = _bins(values, weights) if self.density else {}
        exact = {"not_converged": torch.zeros_like(share, dtype=torch.bool)}
        return {
            LARGEST.name: Reading(values[:, -1], LOSS, flags=exact),
            SMALLEST.name: Reading(values[:, 0], LOSS, flags=exact),
            TRACE.name: Reading(values.sum(1), LOSS),
            NEGATIVE.name: Reading(
                share,
                "1",
                flags={
                    "quadrature": torch.zeros_like(share, dtype=torch.bool),
                    "single_precision": torch.full_like(
                        share, hessian.dtype != torch.float64, dtype=torch.bool
                    ),
                },
                diagnostics=bins,
            ),
        }

    def _by_products(self, view: View, seed: int) -> dict[str, Reading]:
        product, networks = product_of(view), len(view.seeds)
        ritz = lanczos(product, start_of(view, seed), self.steps, seed)
        vectors = rademacher(self.probes, parameters_of(view), seed + 1).to(device_of(view))
        trace, error = hutchinson(product, vectors, networks)
        read = {
            LARGEST.name: _end(ritz, -1),
            SMALLEST.name: _end(ritz, 0),
            TRACE.name: Reading(trace, LOSS, stderr=error),
        }
        if self.density:
            each = [lanczos(product, v.expand(networks, -1), self.steps, seed) for v in vectors]
            read[NEGATIVE.name] = _quadrature(view, ritz, each)
        return read


def _end(ritz: Ritz, at: int) -> Reading:
    """The first or the last Ritz value as an eigenvalue."""
    value, residual = ritz.nodes[:, at], ritz.residuals[:, at]
    return Reading(
        value,
        LOSS,
        flags={"not_converged": residual > _CONVERGED * value.abs()},
        diagnostics={"residual": residual},
    )


def _quadrature(view: View, ends: Ritz, each: list[Ritz]) -> Reading:
    """The share of negative eigenvalues from the nodes and weights of several start vectors."""
    limit = _rounding(next(iter(view.parameters.values())), ends.nodes)
    value, error = mean_and_error(
        torch.stack([_below(ritz.nodes, ritz.weights, limit) for ritz in each])
    )
    nodes = torch.cat([ritz.nodes for ritz in each], 1)
    weights = torch.cat([ritz.weights for ritz in each], 1) / len(each)
    return Reading(
        value,
        "1",
        stderr=error,
        flags={"quadrature": torch.ones_like(value, dtype=torch.bool)},
        diagnostics=_bins(nodes, weights),
    )


def _rounding(computed: Tensor, values: Tensor) -> Tensor:
    """Below what magnitude an eigenvalue is 0, ``(s,)``, by the type that is computed in."""
    precision = torch.finfo(computed.dtype).eps
    return max(1e-8, 2 * precision) * values.abs().amax(1)


def _below(nodes: Tensor, weights: Tensor, limit: Tensor) -> Tensor:
    return (weights * (nodes < -limit[:, None])).sum(1)


def _bins(nodes: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """The weight in each of equal bins between the least and the greatest node."""
    low, high = nodes.amin(1, keepdim=True), nodes.amax(1, keepdim=True)
    at = ((nodes - low) / (high - low) * _BINS).nan_to_num().long().clamp(0, _BINS - 1)
    mass = torch.zeros(len(nodes), _BINS, dtype=nodes.dtype, device=nodes.device)
    mass.scatter_add_(1, at, weights)
    return {f"bin {n + 1}": mass[:, n] for n in range(_BINS)}

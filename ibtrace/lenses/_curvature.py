"""The Hessian of the loss, for several lenses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.numerics.flat import flattened, unflattened
from ibtrace.types import Reading, View

EXACT = 500
"""Up to so many parameters the Hessian is computed as a matrix: dearer, and without error."""


def parameters_of(view: View) -> int:
    """P, the trainable parameters of one network."""
    return sum(value[0].numel() for value in view.parameters.values())


def product_of(view: View) -> Callable[[Tensor], Tensor]:
    """The Hessians as a function of float64 vectors ``(s, P)``; it works in the networks' type."""
    parameters = view.parameters
    shapes = {name: value.shape[1:] for name, value in parameters.items()}
    like = next(iter(parameters.values()))

    def product(vectors: Tensor) -> Tensor:
        apart = unflattened(vectors.to(like), shapes)
        return flattened(view.hessian_product(apart)).double()

    return product


def start_of(view: View, seed: int) -> Tensor:
    """One random direction for all networks, float64 ``(s, P)``."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(parameters_of(view), generator=generator, dtype=torch.float64)
    return start.to(device_of(view)).expand(len(view.seeds), -1)


def device_of(view: View) -> torch.device:
    """Where the networks are."""
    return next(iter(view.parameters.values())).device


def diverged(view: View) -> Tensor:
    """Whether the weights of each network are no numbers any more, ``(s,)``."""
    try:
        parameters = view.parameters
    except Unsupported:  # weights that stand still do not diverge
        return torch.zeros(len(view.seeds), dtype=torch.bool)
    return ~flattened(parameters).isfinite().all(1)


def eigenvalues(matrices: Tensor) -> Tensor:
    """The eigenvalues of symmetric matrices ``(s, P, P)``, ascending; NaN of one with NaN."""
    finite = matrices.isfinite().flatten(1).all(1)[:, None]
    values = torch.linalg.eigvalsh(matrices.nan_to_num(0.0, 0.0, 0.0))
    return torch.where(finite, values, torch.nan)


def without_loss(view: View) -> Tensor:
    """Whether each network has no finite loss while its weights are numbers, ``(s,)``.

    The derivatives of a loss may be numbers where it is none: of log x that of x < 0 is 1/x.
    """
    return ~view.loss.isfinite() & ~diverged(view)


def together(
    read: Mapping[str, Reading],
    view: View,
    flags: Mapping[str, Tensor],
    *,
    of_loss: bool = False,
) -> dict[str, dict[str, Reading]]:
    """Readings of networks with what holds for all of them: flags, samples and parameters.

    A network whose weights are no numbers any more has none: NaN, flagged ``diverged``.

    Args:
        read: The readings, by quantity.
        view: The networks.
        flags: What holds for all readings.
        of_loss: Whether they are of the loss: a network that has none then has NaN, flagged
            ``not_finite``.
    """
    counts = {
        "samples": torch.tensor(view.samples),
        "parameters": torch.tensor(parameters_of(view)),
    }
    lost = diverged(view)
    flags = {**flags, "diverged": lost}
    if of_loss:
        flags["not_finite"] = without_loss(view)
        lost = lost | flags["not_finite"]
    return {
        name: {
            "": Reading(
                reading.value.masked_fill(lost, torch.nan),
                reading.unit,
                reading.stderr.masked_fill(lost, torch.nan),
                flags={**reading.flags, **flags},
                diagnostics={**reading.diagnostics, **counts},
            )
        }
        for name, reading in read.items()
    }

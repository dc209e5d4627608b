"""Which unit of one layer is which of another."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.numerics.representations import centred


def matched(reference: Tensor, other: Tensor, signs: bool = False) -> tuple[Tensor, Tensor]:
    """The order and signs of the other's units in which they correlate most with one's, in all.

    Args:
        reference: Activations of the same samples, ``(n, d)``.
        other: Likewise.
        signs: Whether a unit may be turned, -t for t.

    Returns:
        ``order`` and ``sign``, each ``(d,)``: ``sign * other[:, order]`` is likest to one. A unit
        that gives one value for all samples, or none that is a number, goes where a place is left.

    Example:
        >>> t = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
        >>> matched(t, torch.stack([t[:, 1], -t[:, 0]], 1), signs=True)
        (tensor([1, 0]), tensor([-1.,  1.], dtype=torch.float64))
    """
    from scipy.optimize import (
        linear_sum_assignment,
    )  # here, as it takes a third of a second to import

    alike = (_unit(reference).mT @ _unit(other)).nan_to_num().cpu()
    # Over all units at once: taking the best partner unit by unit would give one away twice.
    gain = alike.abs() if signs else alike
    _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    order = torch.as_tensor(columns)
    turned = alike.gather(1, order[:, None])[:, 0] < 0
    sign = torch.where(turned & torch.tensor(signs), -1.0, 1.0).double()
    return order.to(reference.device), sign.to(reference.device)


def _unit(points: Tensor) -> Tensor:
    """Columns about their mean, of length 1; a constant one is 0."""
    moved = centred(points)
    lengths = moved.norm(dim=0, keepdim=True)
    return moved / torch.where(lengths == 0, 1.0, lengths)

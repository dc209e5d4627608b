"""Lines through the space of weights: directions, and what rises along them."""

from __future__ import annotations

import torch
from torch import Tensor


def filter_normalised(direction: Tensor, weight: Tensor) -> Tensor:
    """A direction whose rows are as long as those of the weight, 0 for biases.

    Args:
        direction: ``(..., out, in, ...)``, of the shape of the weight.
        weight: Of one network, a row for each unit or filter; a vector is taken for a bias.

    Example:
        >>> filter_normalised(torch.tensor([[1.0, 0], [0, 5]]), torch.tensor([[3.0, 4], [0, 1]]))
        tensor([[5., 0.],
                [0., 1.]])
    """
    if weight.dim() < 2:
        return torch.zeros_like(direction)
    rows = tuple(range(1, weight.dim()))
    lengths = direction.square().sum(rows, keepdim=True).sqrt()
    wanted = weight.square().sum(rows, keepdim=True).sqrt()
    return direction * wanted / torch.where(lengths == 0, 1.0, lengths)


def between(start: Tensor, end: Tensor, points: int) -> Tensor:
    """``points`` of the straight line from one to the other, both included, ``(points, ...)``."""
    alpha = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)
    alpha = alpha.view(-1, *[1] * start.dim())
    return (1 - alpha) * start + alpha * end


def barrier(values: Tensor) -> tuple[Tensor, Tensor]:
    """max_α L(α) - [(1 - α) L(0) + α L(1)] and the α where it is, each ``(...)``.

    Never below 0, which it is at both ends. Over the straight line between the ends and not over
    their mean, above which one of two unequal ends lies.

    Args:
        values: L at equally spaced α from 0 to 1, ``(points, ...)``.

    Example:
        >>> barrier(torch.tensor([1.0, 4.0, 3.0]))
        (tensor(2.), tensor(0.5000))
    """
    line = between(values[0], values[-1], len(values))
    over = values - line
    over[0] = over[-1] = 0  # which rounding may not leave
    highest = over.max(0)
    return highest.values, highest.indices / (len(values) - 1)

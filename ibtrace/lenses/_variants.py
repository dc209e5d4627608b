"""Networks with other weights on the same samples, many at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ibtrace.numerics.flat import unflattened
from ibtrace.types import View

_SAME = 1e-3  # of the largest output: what rounding alone may set apart
_NUMBERS = 4_000_000  # of a pass: variants by samples, or by parameters


def of_variants(view: View, flat: Tensor, read: Callable[[View], Tensor]) -> Tensor:
    """What is read of variants of each network, float64 ``(k, s)``.

    Args:
        view: The networks.
        flat: The variants' weights, ``(k, s, P)``: k of each network.
        read: One number of each network of a view, ``(m,)``.
    """
    _, networks, count = flat.shape
    like = next(iter(view.parameters.values()))
    shapes = {name: value.shape[1:] for name, value in view.parameters.items()}
    most = max(1, _NUMBERS // (networks * max(count, view.samples)))
    parts = []
    for block in flat.split(most):
        named = unflattened(block.flatten(0, 1).to(like), shapes)
        seen = view.at(named, [*range(networks)] * len(block))
        parts.append(read(seen).double().view(len(block), networks))
    return torch.cat(parts)


def mean_loss(view: View) -> Tensor:
    """The mean loss of each network, ``(s,)``, in float64."""
    return view.losses.double().mean(-1)


def frozen_since(view: View, start: View) -> Tensor:
    """Whether weights that are frozen now have moved since an earlier look, ``(s,)``."""
    moved = torch.zeros(len(view.seeds), dtype=torch.bool)
    for name, value in view.frozen.items():
        moved = moved | (value != start.frozen[name]).flatten(1).any(1).cpu()
    return moved


def outputs_differ(outputs: Tensor, reference: Tensor) -> Tensor:
    """Whether outputs ``(s, n, ...)`` of two networks differ by more than rounding, ``(s,)``."""
    difference, size = ((t.flatten(1).abs().amax(1)) for t in (outputs - reference, reference))
    return difference > _SAME * size

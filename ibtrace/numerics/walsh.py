"""Functions of bits as sums of parities."""

from __future__ import annotations

import torch
from torch import Tensor


def patterns(x: Tensor) -> Tensor | None:
    """Where each pattern of d bits is among rows ``(2^d, d)``: ``(2^d,)``; None if not once each.

    Args:
        x: Rows of two values in every column, the same two.
    """
    low, high = x.min(), x.max()
    if x.dim() != 2 or len(x) != 2 ** x.shape[1] or not bool(((x == low) | (x == high)).all()):
        return None
    weights = 2 ** torch.arange(x.shape[1], device=x.device)
    codes = ((x == high).long() * weights).sum(1)
    order = codes.argsort()
    return order if bool((codes[order] == torch.arange(len(x), device=x.device)).all()) else None


def walsh(f: Tensor) -> Tensor:
    """Coefficients f̂(S) = E f Π_{i in S} (-1)^{bit i} of functions ``(..., 2^d)`` of the patterns.

    The pattern of bits b₀, b₁, … is at place Σ bᵢ 2ⁱ, and so is the set S.

    Example:
        >>> walsh(torch.tensor([1.0, -1.0, -1.0, 1.0])).tolist()  # the parity of two bits
        [0.0, 0.0, 0.0, 1.0]
    """
    shape, n = f.shape, f.shape[-1]
    step = 1
    while step < n:
        pairs = f.reshape(*shape[:-1], n // (2 * step), 2, step)
        first, second = pairs.unbind(-2)
        f = torch.stack([first + second, first - second], -2).reshape(shape)
        step *= 2
    return f / n


def degrees(d: int, device: torch.device | None = None) -> Tensor:
    """How many bits each set has, ``(2^d,)``."""
    sets = torch.arange(2**d, device=device)
    return torch.stack([(sets >> bit) & 1 for bit in range(d)]).sum(0)

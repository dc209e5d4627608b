"""Kernels of gradients: how alike two are, and what descent with a fixed one does.

Everything takes leading dimensions as independent problems.
"""

from __future__ import annotations

from torch import Tensor


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """⟨K, L⟩ / (‖K‖‖L‖) of matrices ``(..., n, n)``; NaN where one is 0, ``(...)``."""
    inner = (first * second).sum((-1, -2))
    return inner / (first.square().sum((-1, -2)) * second.square().sum((-1, -2))).sqrt()


def centred_kernel(kernel: Tensor) -> Tensor:
    """HKH with H = 1 - 11ᵀ/n: the kernel ``(..., n, n)`` of features less their mean."""
    rows = kernel - kernel.mean(-1, keepdim=True)
    return rows - rows.mean(-2, keepdim=True)


def linearised(kernel: Tensor, errors: Tensor, rate: Tensor, steps: int) -> Tensor:
    """(I - ηK/n)ᵏ e: the errors after k steps of descent on ½ mean e², if K stands still.

    Stable for η below 2n / λ_max(K).

    Args:
        kernel: ``(..., m, m)``, m = n samples times outputs.
        errors: Outputs less targets, ``(..., m)``.
        rate: η / n, ``(...)``.
        steps: k.

    Example:
        >>> import torch
        >>> linearised(torch.eye(2), torch.tensor([1.0, 2.0]), torch.tensor(0.5), 2)
        tensor([0.2500, 0.5000])
    """
    for _ in range(steps):
        errors = errors - rate[..., None] * (kernel @ errors[..., None])[..., 0]
    return errors

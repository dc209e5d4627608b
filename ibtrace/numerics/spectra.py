"""Eigenvalues, traces and densities of symmetric matrices that are known by their products.

A product is a function of vectors ``(s, P)``, one for each of s matrices, that gives each matrix
times its vector: all matrices are worked on together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]

_BREAKDOWN = 1e-13  # of the largest coefficient: a Krylov space that is exhausted


@dataclass(frozen=True)
class Ritz:
    """What k steps of Lanczos's method say of the spectrum.

    Args:
        nodes: Ritz values, ``(s, k)``, ascending.
        weights: Of Gauss's quadrature: shares of the start vector's square, ``(s, k)``, sum 1.
        residuals: ``‖Hx - θx‖`` of each Ritz pair, ``(s, k)``: some eigenvalue is as near as that.
    """

    nodes: Tensor
    weights: Tensor
    residuals: Tensor


def lanczos(product: Product, start: Tensor, steps: int, seed: int = 0) -> Ritz:
    """Lanczos's method with full reorthogonalisation, without which eigenvalues appear twice.

    Where a Krylov space is exhausted, it goes on with a random vector orthogonal to it, so that
    the nodes are eigenvalues of the matrix still; their weights are 0.

    Args:
        product: Of the matrices.
        start: Start vectors, ``(s, P)``.
        steps: At most so many products; P are enough.
        seed: Draws the vectors it goes on with.

    Example:
        >>> h = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
        >>> start = torch.ones(1, 3, dtype=torch.float64)
        >>> lanczos(lambda v: v @ h, start, 3).nodes.round(decimals=6).tolist()
        [[1.0, 2.0, 4.0]]
    """
    count = start.shape[1]
    generator = torch.Generator().manual_seed(seed)
    vector = start / start.norm(dim=1, keepdim=True)
    basis = vector[:, None]  # (s, k, P)
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for step in range(min(steps, count)):
        image = product(vector)
        diagonal.append((image * vector).sum(1))
        rest = _orthogonal(image, basis)
        length = rest.norm(dim=1)
        size = torch.stack([*diagonal, *beside]).abs().amax(0)
        broken = length <= _BREAKDOWN * size
        beside.append(torch.where(broken, 0.0, length))
        if step + 1 == min(steps, count):
            break
        fresh = torch.randn(count, generator=generator, dtype=start.dtype).to(start.device)
        rest = torch.where(broken[:, None], _orthogonal(fresh.expand_as(rest), basis), rest)
        vector = rest / rest.norm(dim=1, keepdim=True)
        basis = torch.cat([basis, vector[:, None]], 1)
    last = beside.pop()
    small = torch.diag_embed(torch.stack(diagonal, 1))
    if beside:
        off = torch.stack(beside, 1)
        small = small + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    finite = small.isfinite().all(-1).all(-1)[:, None]
    nodes, vectors = torch.linalg.eigh(small.nan_to_num(0, 0, 0))
    numbers = nodes, vectors[:, 0].square(), last[:, None] * vectors[:, -1].abs()
    return Ritz(*(torch.where(finite, number, torch.nan) for number in numbers))


def eigenvalues(matrices: Tensor) -> Tensor:
    """Those of symmetric matrices ``(s, P, P)``, ascending, ``(s, P)``; NaN of one with such."""
    finite = matrices.isfinite().all(-1).all(-1)
    return torch.where(
        finite[:, None], torch.linalg.eigvalsh(matrices.nan_to_num(0, 0, 0)), torch.nan
    )


def _orthogonal(vectors: Tensor, basis: Tensor) -> Tensor:
    """Vectors ``(s, P)`` without their parts along orthonormal bases ``(s, k, P)``."""
    for _ in range(2):  # once leaves what rounding left
        along = torch.einsum("skp,sp->sk", basis, vectors)
        vectors = vectors - torch.einsum("skp,sk->sp", basis, along)
    return vectors


def rademacher(draws: int, count: int, seed: int) -> Tensor:
    """Vectors of random signs, float64 ``(draws, count)``."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randint(2, (draws, count), generator=generator).double() - 1


def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over draws ``(draws, ...)`` and its standard error; NaN for a single draw."""
    draws = len(values)
    spread = values.std(0) if draws > 1 else torch.full_like(values[0], torch.nan)
    return values.mean(0), spread / draws**0.5


def hutchinson(product: Product, vectors: Tensor, matrices: int) -> tuple[Tensor, Tensor]:
    """The traces by Hutchinson's estimator, with the standard error over the draws, each ``(s,)``.

    Exact, with error 0, for a diagonal matrix.

    Args:
        product: Of the matrices.
        vectors: Of random signs, ``(draws, P)``, the same for all matrices.
        matrices: s.

    Example:
        >>> hutchinson(lambda v: v * torch.arange(1.0, 11), rademacher(4, 10, 0), 1)[0].item()
        55.0
    """
    each = [vector.expand(matrices, -1) for vector in vectors]
    return mean_and_error(torch.stack([(v * product(v)).sum(1) for v in each]))

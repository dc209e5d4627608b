"""PAC-Bayesian bounds: binary relative entropy, its inverse, and what is made of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def binary_kl(q: Tensor, p: Tensor) -> Tensor:
    """kl(q‖p) of two coins, in nats."""
    return torch.xlogy(q, q / p) + torch.xlogy(1 - q, (1 - q) / (1 - p))


def kl_inverse(q: Tensor, nats: Tensor) -> Tensor:
    """The largest p with kl(q‖p) at most so many nats, by bisection from above.

    Args:
        q: Error rates from 0 to 1, ``(...)``.
        nats: At least 0, ``(...)``.

    Example:
        >>> kl_inverse(torch.tensor(0.1), torch.tensor(0.05)).item()
        0.2200786...
    """
    q, nats = torch.broadcast_tensors(q.double(), nats.double())
    low, high = q.clone(), torch.ones_like(q)
    for _ in range(60):  # beyond float64's spacing at 1; the upper end is never below the bound
        middle = (low + high) / 2
        within = binary_kl(q, middle) <= nats
        low, high = torch.where(within, middle, low), torch.where(within, high, middle)
    return torch.where(q.isnan() | nats.isnan(), torch.nan, high)


def gaussian_kl(distance: Tensor, count: int, posterior: Tensor, prior: Tensor) -> Tensor:
    """KL(N(w, σ²I)‖N(w₀, λ²I)) in nats.

    Args:
        distance: ‖w - w₀‖.
        count: P, the dimensions.
        posterior: σ, a standard deviation.
        prior: λ, likewise.
    """
    share = (posterior / prior).square()
    return (count * (share - 1 - share.log()) + (distance / prior).square()) / 2


def maurer(error: Tensor, kl: Tensor, samples: int, delta: float, priors: int = 1) -> Tensor:
    """kl⁻¹(R̂, (KL + ln(2√m K/δ)) / m): the bound of Langford & Seeger, in Maurer's form.

    Args:
        error: R̂, the Gibbs error on the training samples.
        kl: Nats.
        samples: m.
        delta: δ, how often it may fail.
        priors: K: of how many that were fixed in advance the prior was chosen.

    Example:
        >>> error, kl = torch.tensor(0.03), torch.tensor(5.0)
        >>> round(maurer(error, kl, 1000, 0.05).item(), 8)
        0.06446206
    """
    return kl_inverse(error, (kl + math.log(2 * samples**0.5 * priors / delta)) / samples)


def sampled(error: Tensor, draws: int, delta: float) -> Tensor:
    """kl⁻¹(mean, ln(2/δ) / n): above the mean of what n draws from 0 to 1 have the mean of.

    Args:
        error: The draws' mean.
        draws: n.
        delta: δ, how often it may fail.
    """
    return kl_inverse(error, torch.tensor(math.log(2 / delta) / draws))

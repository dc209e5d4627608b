"""Variational bounds on mutual information from a critic's scores of all pairs.

``scores[i, j]`` is the critic at (x_i, y_j), in nats: samples of the joint law on the diagonal,
of the product of the marginals off it. The critic that is log p(x, y) / p(x) p(y) makes
Donsker-Varadhan's and NWJ's bounds tight. Each function gives one number per sample, in bits,
whose mean is the bound and whose spread gives its standard error: where the bound is no mean over
samples, these are its first-order influences (the delta method).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def donsker_varadhan(scores: Tensor) -> Tensor:
    """``E f - log E' exp f``, E' over the product of the marginals (Donsker & Varadhan 1983).

    On a finite sample the logarithm of the mean makes it too large on average.

    Args:
        scores: ``(K, K)``, K at least 2.

    Returns:
        ``(K,)`` bits.
    """
    return _from_partition(scores.diagonal(), scores)


def smile(scores: Tensor, tau: float) -> Tensor:
    """Donsker-Varadhan's with the scores clipped to ±tau in its second term (Song & Ermon 2020).

    No bound: where a score passes tau it is too large.

    Args:
        scores: ``(K, K)``, K at least 2.
        tau: In nats.

    Returns:
        ``(K,)`` bits.
    """
    return _from_partition(scores.diagonal(), scores.clamp(-tau, tau))


def nwj(scores: Tensor) -> Tensor:
    """``E f + 1 - E' exp f``: below I on average, whatever the critic (Nguyen et al. 2010).

    Args:
        scores: ``(K, K)``, K at least 2; Nguyen et al.'s critic less 1.

    Returns:
        ``(K,)`` bits.
    """
    logs = _off_diagonal(scores)
    pairs = len(scores) - 1
    rows, columns = ((logs.logsumexp(dim).exp() / pairs) for dim in (1, 0))
    return (scores.diagonal() + 1 - rows - columns + rows.mean()) / math.log(2)


def infonce(scores: Tensor) -> Tensor:
    """``E [f(x_i, y_i) - log 1/K Σ_j exp f(x_i, y_j)]``, at most log2 K (van den Oord et al. 2018).

    Args:
        scores: ``(K, K)``.

    Returns:
        ``(K,)`` bits.
    """
    ratios = scores - scores.logsumexp(1, keepdim=True)
    candidates = ratios.exp().sum(0) - 1  # how much each y raises the sums of all rows
    return (ratios.diagonal() + math.log(len(scores)) - candidates) / math.log(2)


def jensen_shannon(scores: Tensor) -> Tensor:
    """The GAN objective whose best critic is the log density ratio; a mean, no bound on I.

    Args:
        scores: ``(K, K)``, K at least 2.
    """
    softplus = torch.nn.functional.softplus
    pairs = len(scores) * (len(scores) - 1)
    return -softplus(-scores.diagonal()).mean() - softplus(_off_diagonal(scores)).sum() / pairs


def _off_diagonal(scores: Tensor) -> Tensor:
    """Scores with -inf on the diagonal, which exp and softplus turn into 0."""
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return scores.masked_fill(own, -torch.inf)


def _from_partition(joint: Tensor, scores: Tensor) -> Tensor:
    logs = _off_diagonal(scores)
    pairs = math.log(len(scores) - 1)
    rows, columns = (logs.logsumexp(dim) - pairs for dim in (1, 0))
    whole = rows.logsumexp(0) - math.log(len(scores))
    influence = (rows - whole).exp() + (columns - whole).exp() - 2
    return (joint - whole - influence) / math.log(2)

"""Entropy and mutual information of discrete samples, in bits, from how often each value occurs.

A sample is described by `sample_counts`: for each of its n points, how many points share its
value. A sum over values of ``f(count)`` is then the mean over points of ``n f(count) / count``,
which batches without a loop however many values each problem has.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibtrace.numerics.bins import joint_ids
from ibtrace.numerics.compiled import kernels
from ibtrace.numerics.counting import common_shape, counted_ids, counted_pairs

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Correction = Literal["none", "miller_madow", "grassberger", "chao_shen"]


def sample_counts(ids: Tensor) -> Tensor:
    """How many points share each point's id.

    Args:
        ids: Ids below n, int64, ``(..., n)``.

    Returns:
        Counts of at least 1, int64, ``(..., n)``.
    """
    if ids.device.type == "cpu":
        return counted_ids(ids)
    counts = torch.zeros_like(ids).scatter_add_(-1, ids, torch.ones_like(ids))
    return counts.gather(-1, ids)


def pair_counts(a: Tensor, b: Tensor) -> Tensor:
    """How many points share each point's pair of ids: `sample_counts` of the pairs.

    Args:
        a: Ids below n, int64, ``(..., n)``; leading dimensions broadcast.
        b: The same of the other variable.

    Returns:
        Counts of at least 1, int64, ``(..., n)``.
    """
    if a.device.type == "cpu":
        return counted_pairs(a, b)
    return sample_counts(joint_ids(a, b))


def sample_masses(ids: Tensor, weights: Tensor) -> Tensor:
    """The total weight of the points that share each point's id, float64, ``(..., n)``.

    Args:
        ids: Ids below n, int64, ``(..., n)``.
        weights: The weight of each point, ``(n,)``.
    """
    each = weights.to(torch.float64).expand(ids.shape)
    return torch.zeros_like(each).scatter_add_(-1, ids, each).gather(-1, ids)


def distinct(counts: Tensor) -> Tensor:
    """The number of distinct values behind per-point counts ``(..., n)``, int64 ``(...)``."""
    return (1.0 / counts.to(torch.float64)).sum(-1).round().to(torch.int64)


def entropy(counts: Tensor, correction: Correction = "none") -> Tensor:
    """Shannon entropy in bits of a sample of n points.

    - ``none``: the plug-in (maximum likelihood) estimate ``-Σ p log₂ p`` with ``p = count / n``;
      biased down by about ``(K - 1) / (2 n ln 2)`` for K values.
    - ``miller_madow``: plus ``(K - 1) / (2 n ln 2)``, K the number of values seen (Miller 1955).
    - ``grassberger``: ``log₂ n - (1 / n) Σ count G(count) / ln 2`` with ``G(c) = ψ(c) +
      ½ (-1)^c (ψ((c + 1) / 2) - ψ(c / 2))`` (Grassberger 2003, arXiv:physics/0307138).
    - ``chao_shen``: ``-Σ q log₂ q / (1 - (1 - q)^n)`` with ``q = C count / n`` and Good's coverage
      ``C = 1 - f₁ / n``, f₁ the number of values seen once; ``f₁ = n`` counts as ``n - 1``, which
      keeps C above 0 (Chao & Shen 2003).

    Args:
        counts: `sample_counts` of the sample, ``(..., n)``.
        correction: The bias correction.

    Returns:
        Bits, float64, ``(...)``.

    Example:
        >>> ids = torch.tensor([0, 0, 1, 1])
        >>> entropy(sample_counts(ids)).item()
        1.0
    """
    n = counts.shape[-1]
    c = counts.to(torch.float64)
    plug_in = (n / c).log2().mean(-1)
    return plug_in if correction == "none" else plug_in + bias_correction(counts, correction)


def bias_correction(counts: Tensor, correction: Correction) -> Tensor:
    """What a correction adds to the plug-in `entropy`, in bits, ``(...)``.

    Args:
        counts: `sample_counts` of the sample, ``(..., n)``.
        correction: The bias correction.
    """
    n = counts.shape[-1]
    c = counts.to(torch.float64)
    return _added(c, torch.full_like(c, 1 / n), n, correction)


def _added(c: Tensor, share: Tensor, n: int, correction: Correction) -> Tensor:
    """`bias_correction`, given the share of the points that have each count c, ``(..., m)``."""
    if correction == "miller_madow":
        return (n * (share / c).sum(-1) - 1) / (2 * n * math.log(2))
    if correction == "grassberger":
        return (share * (c.log2() - _grassberger(c) / math.log(2))).sum(-1)
    if correction == "chao_shen":
        singletons = n * torch.where(c == 1, share, 0).sum(-1, keepdim=True)
        q = (1 - singletons.clamp(max=n - 1) / n) * c / n
        # log1p and expm1 keep the inclusion probability of rare values from cancelling.
        seen = -torch.expm1(n * torch.log1p(-q))
        return (share * (n / c * q * -q.log2() / seen - (n / c).log2())).sum(-1)
    return torch.zeros(c.shape[:-1], dtype=torch.float64, device=c.device)


def _grassberger(c: Tensor) -> Tensor:
    """G(c) of `entropy`, in nats."""
    sign = 1 - 2 * (c % 2)
    return c.digamma() + sign / 2 * (((c + 1) / 2).digamma() - (c / 2).digamma())


def local_information(x: Tensor, y: Tensor, xy: Tensor, total: float | None = None) -> Tensor:
    """Each point's share ``log₂ p(x, y) / (p(x) p(y))`` of the plug-in mutual information, in bits.

    Its mean is ``H(x) + H(y) - H(xy)``; it is also the influence function of that estimate, so
    that its standard deviation over √n is the standard error (the delta method). The ratio is
    formed before the logarithm: independent and constant samples give exactly 0.

    Args:
        x: `sample_counts` (or `sample_masses`) of x, ``(..., n)``; leading dimensions broadcast.
        y: The same of y.
        xy: The same of the pairs.
        total: The sum of all counts (masses); n if not given.

    Returns:
        Bits, float64, ``(..., n)``.
    """
    n = float(x.shape[-1]) if total is None else total
    x, y, xy = x.to(torch.float64), y.to(torch.float64), xy.to(torch.float64)
    return (n * xy / (x * y)).log2()


class PlugIn(NamedTuple):
    """The plug-in information of samples.

    Args:
        bits: The mean of `local_information` over the samples, ``(...)``.
        spread: Its standard deviation, over n - 1.
    """

    bits: Tensor
    spread: Tensor


def plug_in(x: Tensor, y: Tensor, xy: Tensor) -> PlugIn:
    """The mean and the standard deviation of `local_information`; on the CPU one compiled pass.

    Args:
        x: `sample_counts` of x, ``(..., n)``; leading dimensions broadcast.
        y: The same of y.
        xy: The same of the pairs.
    """
    if xy.device.type != "cpu":
        local = local_information(x, y, xy)
        return PlugIn(local.mean(-1), local.std(-1))
    shape, counts = _problems(x, y, xy)
    bits, spread = (torch.empty(shape, dtype=torch.float64) for _ in range(2))
    kernels("_counting").information(*counts, bits.view(-1).numpy(), spread.view(-1).numpy())
    return PlugIn(bits, spread)


def _problems(*counts: Tensor) -> tuple[torch.Size, list[Integers]]:
    """The batch of counts ``(..., n)``, and each as ``(problems, n)``, or ``(1, n)`` of all."""
    shape = common_shape(*counts)
    each = (v if v.shape[:-1].numel() == 1 else v.expand(shape) for v in counts)
    return shape[:-1], [v.reshape(-1, shape[-1]).contiguous().numpy() for v in each]


def removed_information(x: Tensor, y: Tensor, xy: Tensor) -> Tensor:
    """N I less (n - 1) times the I without each sample in turn, but for a constant, ``(..., n)``.

    The pseudo-values of the jackknife, in bits, from the counts of each sample's symbols: with f
    as in `removed` they are f(n_xy) - f(n_x) - f(n_y). Where symbols are
    seen often they are `local_information`; where all are alone nothing hangs on any.

    Args:
        x: `sample_counts` of x.
        y: `sample_counts` of y.
        xy: `sample_counts` of the pairs.
    """
    return removed(xy) - removed(x) - removed(y)


def removed(counts: Tensor) -> Tensor:
    """Of each sample's count c, c log₂ c - (c - 1) log₂ (c - 1), ``(..., n)``."""
    c = counts.to(torch.float64)
    return (torch.xlogy(c, c) - torch.xlogy(c - 1, c - 1)) / math.log(2)


def information(x: Tensor, y: Tensor, xy: Tensor, correction: Correction = "none") -> Tensor:
    """Mutual information ``H(x) + H(y) - H(xy)`` in bits, each entropy corrected alike, ``(...)``.

    Args:
        x: `sample_counts` of x, ``(..., n)``; leading dimensions broadcast.
        y: `sample_counts` of y.
        xy: `sample_counts` of the pairs.
        correction: The bias correction.

    Example:
        >>> x = sample_counts(torch.tensor([0, 0, 1, 1]))
        >>> information(x, x, x).item()
        1.0
    """
    return plug_in(x, y, xy).bits + information_correction(x, y, xy, correction)


def information_correction(x: Tensor, y: Tensor, xy: Tensor, correction: Correction) -> Tensor:
    """What a correction adds to the plug-in `information`, in bits, ``(...)``.

    A variable with one value shares no information with any other: the correction adds exactly
    nothing, whatever it makes of each entropy.

    Args:
        x: `sample_counts` of x, ``(..., n)``; leading dimensions broadcast.
        y: `sample_counts` of y.
        xy: `sample_counts` of the pairs.
        correction: The bias correction.
    """
    if correction == "none":
        return torch.zeros((), dtype=torch.float64, device=xy.device)
    of_x, of_y, of_xy = (bias_correction(counts, correction) for counts in (x, y, xy))
    return (of_x + of_y - of_xy).masked_fill(constant(x) | constant(y), 0.0)


def null_information(x: Tensor, y: Tensor, correction: Correction = "none") -> Tensor:
    """What `information` gives of random labels: its mean over all permutations, ``(...)`` bits.

    The samples of one value of x and one of y meet k times by the hypergeometric law, whatever
    the labels, so that the expected number of pairs of every count is known; it is summed over the
    distinct counts of x and of y, of which there are few (Vinh, Epps & Bailey 2010, Information
    Theoretic Measures for Clusterings Comparison, JMLR 11, eq. 24a). The correction is that of
    this expected table.

    Args:
        x: `sample_counts` of x, ``(..., n)``; leading dimensions broadcast.
        y: `sample_counts` of y.
        correction: The bias correction of each entropy.

    Example:
        >>> x = sample_counts(torch.tensor([0, 0, 1, 1]))
        >>> round(null_information(x, x).item(), 6)  # 4 of 6 permutations give 0, 2 give 1
        0.333333
    """
    if correction != "none":
        return null_by_tables(x, y, correction)
    shape, counts = _problems(x.cpu(), y.cpu())
    null = torch.empty(shape, dtype=torch.float64)
    logs = _log_factorials(x.shape[-1])
    kernels("_counting").null_information(*counts, logs, null.view(-1).numpy())
    return null.to(x.device)


def null_by_tables(x: Tensor, y: Tensor, correction: Correction) -> Tensor:
    """`null_information` under any correction, table by table."""
    shape, n = torch.broadcast_shapes(x.shape, y.shape), x.shape[-1]
    rows = [counts.expand(shape).reshape(-1, n).cpu() for counts in (x, y)]
    tables: dict[tuple[bytes, bytes], Tensor] = {}  # many a layer has the counts of another
    null = torch.empty(len(rows[0]), dtype=torch.float64)
    for at, (a, b) in enumerate(zip(*rows, strict=True)):
        key = _table(a), _table(b)
        if key not in tables:
            tables[key] = _null_of_tables(a, b, correction)
        null[at] = tables[key]
    return null.reshape(shape[:-1]).to(x.device).masked_fill(constant(x) | constant(y), 0.0)


def _table(counts: Tensor) -> bytes:
    """What tells the multiset of counts ``(n,)`` from any other."""
    return np.bincount(counts.numpy()).tobytes()


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> Floats:
    """Log k! for k from 0 to n."""
    return torch.arange(1, n + 2, dtype=torch.float64).lgamma().numpy()


def _null_of_tables(x: Tensor, y: Tensor, correction: Correction) -> Tensor:
    """`null_information` of one problem, given the counts ``(n,)`` of both variables."""
    n = len(x)
    tables, expected = (_multiplicities(x), _multiplicities(y)), np.zeros(n + 1)
    kernels("_counting").expected_pairs(*tables[0], *tables[1], _log_factorials(n), expected)
    seen = expected.nonzero()[0]
    of_x, of_y, of_xy = (
        _entropy_of_table(*table, n, correction) for table in (*tables, (seen, expected[seen]))
    )
    return of_x + of_y - of_xy


def _entropy_of_table(counts: Integers, number: Floats, n: int, correction: Correction) -> Tensor:
    """`entropy` in bits, of how many values have each count."""
    c = torch.from_numpy(counts.astype(np.float64))
    share = torch.from_numpy(number) * c / n
    return (share * (n / c).log2()).sum() + _added(c, share, n, correction)


def _multiplicities(counts: Tensor) -> tuple[Integers, Floats]:
    """The distinct counts of a sample, and how many values have each."""
    points = np.bincount(counts.numpy())
    different = points.nonzero()[0]
    return different, points[different] / different


def constant(counts: Tensor) -> Tensor:
    """Whether all points of a sample have one value, ``(...)``."""
    return counts[..., 0] == counts.shape[-1]

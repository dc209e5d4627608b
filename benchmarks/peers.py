"""The peers' ways, as a user runs them today, each one beside its number.

What no package offers is a NumPy statement written afresh from what the published code does:
ibsgd's (Saxe et al. 2018) binning by unique rows and KDE from all pairs, and IDNNs' (Shwartz-Ziv &
Tishby 2017) binning, which asks T's entropy given each x in turn. Each returns I(X;T) and I(T;Y) in
bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Both = tuple[float, float]


def _entropy(rows: Floats) -> float:
    """Of rows, in bits, by NumPy's sort of void views."""
    void = np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))
    counts = np.unique(np.ascontiguousarray(rows).view(void), return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


def unique_rows(rows: Floats, y: Floats) -> Both:
    """H(T) and H(T) - H(T|Y) of distinct rows, X being distinct."""
    whole = _entropy(rows)
    return whole, whole - sum((y == k).mean() * _entropy(rows[y == k]) for k in np.unique(y))


def ibsgd_binning(t: Floats, y: Floats, width: float) -> Both:
    """``bin_calc_information2``, with its fast unique rows."""
    return unique_rows(np.floor(t / t.dtype.type(width)).astype("int"), y)


def idnns_binning(t: Floats, x: Floats, y: Floats) -> Both:
    """``calc_information_sampling``: 30 edges, then T's entropy given each value of x and of y."""
    edges = np.linspace(-1, 1, 30).astype(t.dtype)
    binned = edges[np.digitize(t.reshape(-1), edges) - 1].reshape(len(t), -1)
    whole = _entropy(binned)
    given = [
        sum((v == value).mean() * _entropy(binned[v == value]) for value in np.unique(v))
        for v in (x, y)
    ]
    return whole - given[0], whole - given[1]


def ibsgd_kde(t: Floats, y: Floats, variance: float) -> Both:
    """``entropy_estimator_kl`` of T and of T in each class, less the entropy of the noise."""
    from scipy.special import logsumexp

    def entropy(points: Floats) -> float:
        points = points.astype(np.float64)
        n, d = points.shape
        squares = (points**2).sum(1, keepdims=True)
        pairs = squares + squares.T - 2 * points @ points.T
        logs = logsumexp(-pairs / (2 * variance), axis=1) - np.log(n)
        return float(-logs.mean() + d / 2 * np.log(2 * np.pi * variance) + d / 2)

    whole, d = entropy(t), t.shape[1]
    noise = d / 2 * (np.log(2 * np.pi * variance) + 1)
    given = sum((y == k).mean() * entropy(t[y == k]) for k in np.unique(y))
    return (whole - noise) / np.log(2), (whole - given) / np.log(2)


def npeet(x: Floats, y: Floats, k: int) -> float:
    from ibtrace.estimators.npeet import load_mi

    return float(load_mi()(x, y, k=k, base=2))


def infomeasure(x: Floats, y: Floats, k: int) -> float:
    from infomeasure import mutual_information

    options = {"k": k, "base": 2, "minkowski_p": np.inf, "noise_level": 0}
    return float(mutual_information(x, y, approach="metric", **options))


def ennemi(x: Floats, y: Floats, k: int) -> float:
    """Of one column each."""
    from ennemi import estimate_mi

    return float(np.ravel(estimate_mi(y[:, 0], x[:, 0], k=k, preprocess=False))[0] / np.log(2))


def scikit_learn(x: Floats, y: Floats, k: int) -> float:
    """Of one column each; of classes y, Ross's way."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    way = mutual_info_classif if y.dtype.kind == "i" else mutual_info_regression
    return float(way(x, y.ravel(), n_neighbors=k, random_state=0)[0] / np.log(2))

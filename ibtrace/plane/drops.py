"""How far a curve falls after its peak, and how sure that is: arrays in, arrays out.

Intervals are for seeds that are independent given the probe. Noise that all seeds share (the same
batches in the same order, the same augmentations) is a fall of every curve to them: see `judge`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over seeds and the ends of its interval; NaN where there is none."""

    mean: float
    lower: float
    upper: float


def windowed(curves: Array, share: float = 0.1) -> Array:
    """Means over every window of a ``share`` of the successive snapshots: less noise.

    Args:
        curves: ``(..., epochs)``.
        share: The width of a window as a share of the epochs, rounded, at least one epoch.

    Returns:
        ``(..., epochs - width + 1)``; the last one is the mean of the last snapshots.

    >>> windowed(np.array([1.0, 3.0, 2.0, 4.0]), share=0.5)
    array([2. , 2.5, 3. ])
    """
    width = max(1, round(share * curves.shape[-1]))
    means: Array = sliding_window_view(curves, width, axis=-1).mean(axis=-1)
    return means


def peak_to_final_drops(curves: Array) -> Array:
    """``max over epochs - last``, for each seed: never negative, also where nothing moves.

    Args:
        curves: One curve for each seed, ``(..., seeds, epochs)``.

    Returns:
        Bits, ``(..., seeds)``.

    >>> peak_to_final_drops(np.array([[1.0, 3.0, 2.5], [1.0, 2.0, 2.5]]))
    array([0.5, 0. ])
    """
    drops: Array = curves.max(axis=-1) - curves[..., -1]
    return drops


def held_out_drops(curves: Array) -> Array:
    """Each seed's fall from the epoch at which the mean of the *other* seeds peaks.

    The peak is then not chosen by the noise it is measured with: where nothing moves the
    expectation is zero, whatever the noise, and where something does it is at most the fall of
    the mean curve. The seeds' falls are positively correlated, for their peaks nearly coincide:
    `half_width` makes up for that. NaN for a single seed.

    Args:
        curves: One curve for each seed, ``(..., seeds, epochs)``.

    Returns:
        Bits, ``(..., seeds)``.

    >>> held_out_drops(np.array([[1.0, 3.0, 2.5], [1.0, 2.0, 2.5], [1.0, 2.2, 2.4]]))
    array([ 0. , -0.5, -0.2])
    """
    seeds = curves.shape[-2]
    if seeds < 2:
        return np.full(curves.shape[:-1], np.nan)
    others = (curves.sum(axis=-2, keepdims=True) - curves) / (seeds - 1)
    peaks = others.argmax(axis=-1)
    drops: Array = np.take_along_axis(curves, peaks[..., None], axis=-1)[..., 0] - curves[..., -1]
    return drops


def lasting_drops(curves: Array, share: float = 0.2) -> Array:
    """``max over epochs - max over the last snapshots``, for each seed: falls it does not undo.

    A curve that wanders to and fro comes near its peak again, one that has fallen for good does
    not; unlike the held-out drop this sees a few seeds that fall while the others rise.

    Args:
        curves: One curve for each seed, ``(..., seeds, epochs)``.
        share: The share of the snapshots that are the last.

    Returns:
        Bits, ``(..., seeds)``.

    >>> lasting_drops(np.array([[1.0, 3.0, 1.0, 2.9, 1.0], [1.0, 3.0, 1.0, 1.1, 1.0]]), share=0.4)
    array([0.1, 1.9])
    """
    last = max(1, round(share * curves.shape[-1]))
    drops: Array = curves.max(axis=-1) - curves[..., -last:].max(axis=-1)
    return drops


def half_width(values: Array, confidence: float = 0.95, *, held_out: bool = False) -> Array:
    r"""Half of Student's interval for a mean over seeds, longer for falls that were held out.

    .. math:: t_{n-1} \, s \sqrt{\frac1n + \frac{[\text{held out}]}{n-1}}

    with s the standard deviation of the n values. The second term is that of Nadeau & Bengio
    (2003, Machine Learning 52) for values whose choices share data, here of n - 1 seeds each with
    one seed left out.

    Args:
        values: One number for each seed, ``(..., n)``.
        confidence: Nominal coverage for independent normal values.
        held_out: Whether they are `held_out_drops`.

    Returns:
        Bits, ``(...)``; NaN for fewer than 2 seeds.

    >>> round(float(half_width(np.array([0.9, 1.0, 1.1, 1.2, 0.8]))), 3)
    0.196
    >>> round(float(half_width(np.array([0.9, 1.0, 1.1, 1.2, 0.8]), held_out=True)), 3)
    0.294
    """
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], np.nan)
    student = float(stdtrit(n - 1, (1 + confidence) / 2))
    variance = 1 / n + (1 / (n - 1) if held_out else 0)
    width: Array = student * np.sqrt(variance) * values.std(axis=-1, ddof=1)
    return width


def interval(
    values: Array,
    confidence: float = 0.95,
    *,
    held_out: bool = False,
    between: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """The mean over seeds with its `half_width` on both sides; NaN where there is none.

    Args:
        values: One number for each seed, ``(n,)``.
        confidence: Nominal coverage.
        held_out: See `half_width`.
        between: What the numbers lie between whatever they are of, and so does their mean.

    >>> [round(end, 2) for end in interval(np.array([0.9, 1.0, 1.1, 1.2, 0.8]))]
    [1.0, 0.8, 1.2]
    """
    mean = float(values.mean()) if len(values) else np.nan
    half = float(half_width(values, confidence, held_out=held_out))
    return Interval(mean, *np.clip([mean - half, mean + half], *between).tolist())

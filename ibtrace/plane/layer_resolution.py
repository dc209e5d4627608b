"""What one layer shows at every resolution: information at every width of bins or noise.

A layer's binned or noisy information depends on the resolution at which T is read. Read at every
resolution it says more than a verdict at one: where it falls and where it does not, and whether
the classes are still told apart there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibtrace.plane.drops import (
    Array,
    half_width,
    held_out_drops,
    lasting_drops,
    windowed,
)
from ibtrace.plane.rule import Rule

Mask = NDArray[np.bool_]
Reader = Literal["bins", "noise"]

SCALES: dict[Reader, str] = {"bins": "width", "noise": "deviation"}

DECIDED = 0.95
"""The share of H(Y) that I(T;Y) has to reach where the classes count as told apart."""

_SAME = 1e-9  # scales nearer than this share of them are one

RANDOM = 0.1
"""Bits that random labels may give where I(T;Y) still says something."""


@dataclass(frozen=True)
class LayerResolution:
    """What one layer shows at every resolution; bits.

    A *fall* at a resolution is the held-out fall of `ibtrace.plane.judge`: sure where its whole
    interval lies above ``rule.least_drop``, excluded where it and that of the lasting drop lie
    below.

    Args:
        layer: The layer.
        reader: ``bins``: T is ``floor(T / scale)``. ``noise``: T is read through Gaussian noise
            of standard deviation ``scale``.
        scales: The widths or deviations, ascending, ``(scales,)``.
        epochs: The looks, ``(epochs,)``; steps, if the run counts them.
        about_x: I(X;T) of the seeds that have a number everywhere, ``(scales, seeds, epochs)``.
        about_y: I(T;Y) likewise; NaN without labels.
        null: I(T;Y) that random labels would give at the last look, mean over seeds,
            ``(scales,)``; 0 where the probe is all of X, so that its law is known.
        input_entropy: H(X).
        label_entropy: H(Y); NaN if the labels are no classes.
        population: Whether the samples are all of X; else H(X) is a ceiling of theirs.
        rule: What counts as a fall.
    """

    layer: str
    reader: Reader
    scales: Array
    epochs: NDArray[np.int64]
    about_x: Array
    about_y: Array
    null: Array
    input_entropy: float
    label_entropy: float
    population: bool = False
    rule: Rule = field(default_factory=Rule)

    @property
    def mean_x(self) -> Array:
        """I(X;T), mean over seeds, ``(scales, epochs)``."""
        mean: Array = self.about_x.mean(axis=1)
        return mean

    @property
    def mean_y(self) -> Array:
        """I(T;Y), mean over seeds, ``(scales, epochs)``."""
        mean: Array = self.about_y.mean(axis=1)
        return mean

    @cached_property
    def peaks(self) -> NDArray[np.int64]:
        """The epoch at which the mean I(X;T) is highest, ``(scales,)``."""
        peaks: NDArray[np.int64] = self.epochs[self.mean_x.argmax(axis=-1)]
        return peaks

    @cached_property
    def held_out(self) -> Array:
        """The held-out fall and the ends of its interval, ``(3, scales)``; NaN for one seed."""
        each = held_out_drops(windowed(self.about_x, self.rule.window_share))
        return _interval(each, self.rule, held_out=True)

    @cached_property
    def falls(self) -> Mask:
        """Where a fall is sure, ``(scales,)``; nowhere with fewer than the least seeds."""
        enough = self.about_x.shape[1] >= self.rule.least_seeds
        falls: Mask = enough & (self.held_out[1] > self.rule.least_drop)
        return falls

    @cached_property
    def excluded(self) -> Mask:
        """Where a fall is excluded, ``(scales,)``.

        Nowhere where the curve ends at the ceiling of a sample: more samples might show one.
        """
        lasting = _interval(lasting_drops(self.about_x, self.rule.final_share), self.rule)
        highest = np.fmax(self.held_out[2], lasting[2])
        enough = self.about_x.shape[1] >= self.rule.least_seeds
        ceiling = (1 - self.rule.near_ceiling) * self.input_entropy
        room = self.population | (self.mean_x[:, -1] < ceiling)
        excluded: Mask = enough & room & (highest < self.rule.least_drop)
        return excluded

    @property
    def bands(self) -> tuple[tuple[float, float], ...]:
        """The finest and the coarsest scale of each run of neighbours at which a fall is sure."""
        return self.runs(self.falls)

    def runs(self, mask: Mask) -> tuple[tuple[float, float], ...]:
        """The finest and the coarsest scale of each run of neighbours in a mask ``(scales,)``."""
        edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
        return tuple(
            (float(self.scales[a]), float(self.scales[b]))
            for a, b in zip(starts, ends, strict=True)
        )

    @property
    def decided(self) -> Mask:
        """Where the classes are told apart at the end: I(T;Y) near H(Y), and not by chance."""
        near: Mask = self.mean_y[:, -1] >= DECIDED * self.label_entropy
        return near & (self.null <= RANDOM)

    @cached_property
    def octaves(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of each scale and of the next that is at least twice as coarse, where one is."""
        far = np.searchsorted(self.scales, 2 * self.scales * (1 - _SAME))
        near = np.flatnonzero(far < len(self.scales))
        return near, far[near]

    @property
    def slopes(self) -> Array:
        r"""The information dimension at a resolution, ``(octaves, epochs)``.

        :math:`-\Delta I(X;T) / \Delta \log_2 \text{scale}` over an octave: the bits that
        halving the scale adds. It is the dimension of a law with a density as the scale goes to 0
        (Rényi 1959); of n samples it goes to 0 there, as they are n points. Bins whose widths
        part by 2 nest, so that none of their slopes is negative.
        """
        fine, coarse = self.octaves
        steps = np.log2(self.scales[coarse] / self.scales[fine])[:, None]
        slopes: Array = (self.mean_x[fine] - self.mean_x[coarse]) / steps
        return slopes

    def table(self) -> pd.DataFrame:
        """One row for each scale: peak, end, fall with its interval, I(T;Y), slope to twice it."""
        at = np.arange(len(self.scales)), self.mean_x.argmax(axis=-1)
        slopes = np.full(self.mean_x.shape, np.nan)
        slopes[self.octaves[0]] = self.slopes
        return pd.DataFrame(
            {
                "layer": self.layer,
                SCALES[self.reader]: self.scales,
                "peak_epoch": self.peaks,
                "peak_bits": self.mean_x[at],
                "final_bits": self.mean_x[:, -1],
                "held_out": self.held_out[0],
                "held_out_lower": self.held_out[1],
                "held_out_upper": self.held_out[2],
                "falls": self.falls,
                "excluded": self.excluded,
                "final_label_bits": self.mean_y[:, -1],
                "null_label_bits": self.null,
                "decided": self.decided,
                "slope_first": slopes[:, 0],
                "slope_final": slopes[:, -1],
            }
        )


def _interval(values: Array, rule: Rule, *, held_out: bool = False) -> Array:
    """Mean over seeds and the ends of its interval, ``(3, scales)``."""
    if not values.shape[-1]:
        return np.full((3, len(values)), np.nan)
    mean = values.mean(axis=-1)
    half = half_width(values, rule.confidence, held_out=held_out)
    return np.stack([mean, mean - half, mean + half])

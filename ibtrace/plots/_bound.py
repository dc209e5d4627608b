"""The bottleneck curve beneath the plane, and the region above it where no T can be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ibtrace.bounds import BottleneckCurve
from ibtrace.errors import InvalidInput
from ibtrace.types import I_TY, I_XT

_LINE: Any = {"color": "0.1", "linewidth": 1.0}
_REGION: Any = {"facecolor": "#c8553d", "alpha": 0.13, "linewidth": 0}
_FAR = 1e3  # bits: beyond all axes
_POINTS = 500
_MARGIN = 1e-3
"""Bits that a point may be above the curve and not be called impossible."""


class Bound:
    """A curve in the units of a plane.

    Args:
        curve: The bottleneck curve.
        units: The bits of one step of each axis: 1 and 1, or H(X) and H(Y).

    Raises:
        InvalidInput: If this is no curve.
    """

    def __init__(self, curve: BottleneckCurve, units: tuple[float, float] = (1.0, 1.0)) -> None:
        if not isinstance(curve, BottleneckCurve):
            got = type(curve).__name__
            raise InvalidInput(f"bound must be a curve, ibtrace.bottleneck(…), got {got}")
        self.curve, self.units = curve, units

    def impossible(self, points: pd.DataFrame) -> pd.Series[bool]:
        """Which points lie above the curve, or beyond H(X).

        Below 0 an estimate may be by chance; that is a check of its own.

        Args:
            points: With columns of both informations, in the units of the plane.
        """
        x, y = (
            np.maximum(points[quantity].to_numpy(dtype=np.float64) * unit, 0)
            for quantity, unit in zip((I_XT, I_TY), self.units, strict=True)
        )
        return pd.Series(self.curve.impossible(x, y, margin=_MARGIN), index=points.index)

    def make_room(self, axes: Axes) -> None:
        """Take the curve above the points that are drawn, and its bend, into the limits."""
        _, right = axes.dataLim.intervalx
        bend = float(np.interp(0.99 * self.curve.i_xy, self.curve.i_ty, self.curve.i_xt))
        corner = max(right * self.units[0], bend)
        ends = np.array([[0.0, 0.0], [corner, self.curve.at(corner)]]) / self.units
        axes.update_datalim(ends)
        axes.autoscale_view()

    @property
    def ceilings(self) -> dict[str, tuple[float, str]]:
        """H(X) and I(X;Y), and what they are called; those of the trace lie where no T can be."""
        x, y = self.units
        lines = {I_TY: (self.curve.i_xy / y, f"I(X;Y) = {self.curve.i_xy:.3g}")}
        if math.isfinite(self.curve.h_x):
            lines[I_XT] = self.curve.h_x / x, f"H(X) = {self.curve.h_x:.4g}"
        return lines

    def draw(self, axes: Axes) -> None:
        """The line, and the shade on all but what lies below it; the limits stay as they are."""
        line = self._line() / self.units
        all_of_it = [(-_FAR, -_FAR), (_FAR, -_FAR), (_FAR, _FAR), (-_FAR, _FAR), (-_FAR, -_FAR)]
        below = [*line, (line[-1, 0], 0.0), (0.0, 0.0)]  # turns the other way: a hole
        region = PolyCollection(
            [np.array([*all_of_it, *below])], zorder=0, label=self.said, **_REGION
        )
        axes.add_collection(region, autolim=False)
        axes.add_artist(Line2D(*line.T, zorder=0.5, label=self.name, **_LINE))

    def _line(self) -> NDArray[np.float64]:
        """Places of the curve in bits, most of them where it bends."""
        end = self.curve.h_x if math.isfinite(self.curve.h_x) else _FAR
        last = float(self.curve.i_xt.max())
        x = np.unique(np.r_[0.0, self.curve.i_xt, np.linspace(0, last, _POINTS), end])
        return np.stack([x, self.curve.at(x)], -1)

    @property
    def name(self) -> str:
        """What a legend calls the line."""
        samples, check = self.curve.samples, self.curve.check
        words = "bottleneck bound"
        if samples is not None:
            words += f", an estimate (N = {samples.n:,}; {samples.x:,} × {samples.y:,} values)"
        return words + (", its check not passed" if check is not None and not check.passed else "")

    @property
    def said(self) -> str:
        """What a legend calls the shade."""
        return "no T can be here"

    def handles(self) -> tuple[list[Artist], list[str]]:
        """For a legend."""
        return [Line2D([], [], **_LINE), Patch(**_REGION)], [self.name, self.said]

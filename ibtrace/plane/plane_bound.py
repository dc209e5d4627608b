"""A bottleneck curve in the units of a plane: where it runs, and which points lie above it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibtrace.bounds import BottleneckCurve
from ibtrace.errors import InvalidInput
from ibtrace.plane.to_bound import MARGIN
from ibtrace.types import I_TY, I_XT

FAR = 1e3
"""Bits: beyond all axes."""
_POINTS = 500


class PlaneBound:
    """A curve in the units of a plane.

    Args:
        curve: The bottleneck curve.
        units: The bits of one step of each axis: 1 and 1, or H(X) and H(Y).

    Raises:
        InvalidInput: If this is no curve.
    """

    said = "no T can be here"
    """What a legend calls the region above the line."""

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
        return pd.Series(self.curve.impossible(x, y, margin=MARGIN), index=points.index)

    def corner(self, right: float) -> tuple[float, float]:
        """The place of the curve that a plane needs room for: above its points, or at its bend.

        Args:
            right: The largest I(X;T) of the points.
        """
        bend = float(np.interp(0.99 * self.curve.i_xy, self.curve.i_ty, self.curve.i_xt))
        x = max(right * self.units[0], bend)
        return x / self.units[0], float(self.curve.at(x)) / self.units[1]

    @property
    def ceilings(self) -> dict[str, tuple[float, str]]:
        """H(X) and I(X;Y), and what they are called; those of the trace lie where no T can be."""
        x, y = self.units
        lines = {I_TY: (self.curve.i_xy / y, f"I(X;Y) = {self.curve.i_xy:.3g}")}
        if math.isfinite(self.curve.h_x):
            lines[I_XT] = self.curve.h_x / x, f"H(X) = {self.curve.h_x:.4g}"
        return lines

    @property
    def line(self) -> NDArray[np.float64]:
        """Places of the curve ``(n, 2)``, most of them where it bends, up to H(X)."""
        end = self.curve.h_x if math.isfinite(self.curve.h_x) else FAR
        last = float(self.curve.i_xt.max())
        x = np.unique(np.r_[0.0, self.curve.i_xt, np.linspace(0, last, _POINTS), end])
        places: NDArray[np.float64] = np.stack([x, self.curve.at(x)], -1) / np.asarray(self.units)
        return places

    @property
    def name(self) -> str:
        """What a legend calls the line."""
        samples, check = self.curve.samples, self.curve.check
        words = "bottleneck bound"
        if samples is not None:
            words += f", an estimate (N = {samples.n:,}; {samples.x:,} × {samples.y:,} values)"
        return words + (", its check not passed" if check is not None and not check.passed else "")

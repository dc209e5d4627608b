"""The planes of a trace as the page's scripts read them: axes, ceilings, the bound, what fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ibtrace.plane import CHECKS, PlaneBound, ceilings, estimands, pairs, quantities, trust
from ibtrace.types import I_TY, I_XT, TraceLike, either

ABOVE_BOUND = "above_bound"
"""What a point fails that lies above the bottleneck curve, beside `ibtrace.plane.CHECKS`."""

_KEY = ["seed", "epoch", "layer"]


@dataclass(frozen=True, eq=False)
class PagePlane:
    """The plane of two variables.

    Args:
        trace: The trace with these as X and Y.
        bound: The bottleneck curve of these, if it is to be drawn.
    """

    trace: TraceLike
    bound: PlaneBound | None = None

    @property
    def quantities(self) -> tuple[str, str]:
        """What its axes are called, across and upward."""
        called = quantities(self.trace.meta)
        return called[I_XT], called[I_TY]

    def facts(self) -> dict[str, Any]:
        """For each estimator what stands for T and the most that it can reach; and the curve."""
        frame, (across, upward) = self.trace.frame(), self.quantities
        called = {I_XT: across, I_TY: upward}
        estimators = []
        for estimator, rows in frame.groupby("estimator", sort=False):
            most = ceilings(self.trace, rows) if self.bound is None else self.bound.ceilings
            told = either(estimands(rows[rows["quantity"] == I_XT]))
            estimators.append(
                {
                    "estimator": str(estimator),
                    "estimand": told,
                    "most": {called[name]: [bits, text] for name, (bits, text) in most.items()},
                }
            )
        return {
            "quantities": [across, upward],
            "estimators": estimators,
            "bound": None if self.bound is None else _curve(self.bound, frame),
        }

    def failures(self, table: pd.DataFrame) -> pd.Series[str]:
        """The checks that the point of each number fails in this plane, or ''.

        No order of layers is asked for, as in the figures: what is seen at each layer's own
        resolution may rise from layer to layer.

        Args:
            table: `Trace.readings`, looks counted by the trace's clock.
        """
        if not self.trace.estimators:
            return pd.Series("", index=table.index)
        points = trust(self.trace, chain=()).points
        failed: dict[str, pd.Series[bool]] = {name: points[name] for name in CHECKS}
        if self.bound is not None:
            failed[ABOVE_BOUND] = self.bound.impossible(points)
        each = [np.where(fails, name, "").astype(object) for name, fails in failed.items()]
        said = [",".join(filter(None, names)) for names in zip(*each, strict=True)]
        failing = points[_KEY].assign(instrument=points["estimator"], fails=said)
        merged = table.merge(failing, on=[*_KEY, "instrument"], how="left").set_axis(table.index)
        return merged["fails"].where(table["quantity"].isin(self.quantities)).fillna("")


def planes(trace: TraceLike, bound: PlaneBound | None = None) -> list[PagePlane]:
    """Every plane of a trace; the bound is of the first, of the inputs and the first target."""
    first, *others = pairs(trace)
    return [PagePlane(first, bound), *map(PagePlane, others)]


def _curve(bound: PlaneBound, frame: pd.DataFrame) -> dict[str, Any]:
    """The curve as it is drawn: places, the corner to make room for, what a legend says."""
    right = float(frame.loc[frame["quantity"] == I_XT, "bits"].max())
    x, y = bound.line.T
    return {
        "x": x.round(5).tolist(),
        "y": y.round(5).tolist(),
        "corner": list(bound.corner(right)),
        "told": f"The line is the {bound.name}; shaded: {bound.said}.",
    }

"""Points that fail a check, hollow and grey, and axes of shares of entropy."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from ibtrace.plane import quantities, trust
from ibtrace.plots._style import GREY
from ibtrace.types import I_TY, I_XT, TraceLike

FAILS = "fails a check"
"""What a legend calls a hollow grey point."""


def labels(trace: TraceLike, normalised: bool) -> dict[str, str]:
    """What an axis of each quantity is called, with its unit."""
    names = {"x": "X", "y": "Y", **trace.meta.get("pair", {})}
    entropies = {I_XT: f"H({names['x']})", I_TY: f"H({names['y']})"}
    return {
        quantity: f"{name} / {entropies[quantity]}" if normalised else f"{name} (bits)"
        for quantity, name in quantities(trace.meta).items()
    }


def with_failures(
    trace: TraceLike, estimator: str, points: pd.DataFrame, means: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points and means with a column ``fails``: of a mean, where most of the networks' points do.

    Args:
        trace: The run.
        estimator: The estimator's label.
        points: ``seed, epoch, layer, …``.
        means: ``epoch, layer, …``.
    """
    checked = trust(trace, chain=()).by(estimator).points[["seed", "epoch", "layer", "fails"]]
    most = checked.groupby(["epoch", "layer"])["fails"].mean().gt(0.5).reset_index()
    points = points.merge(checked, on=["seed", "epoch", "layer"], how="left")
    means = means.merge(most, on=["epoch", "layer"], how="left")
    filled = [table.assign(fails=table["fails"].eq(True)) for table in (points, means)]
    return filled[0], filled[1]


def hollow_mark() -> Line2D:
    """The mark of a point that fails a check, for a legend."""
    look: Any = {"markerfacecolor": "white", "markeredgecolor": GREY, "markeredgewidth": 0.8}
    return Line2D([], [], linestyle="", marker="o", markersize=4, **look)

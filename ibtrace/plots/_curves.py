"""I(X;T) and I(T;Y) against the epoch, one curve for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ibtrace.errors import InvalidInput
from ibtrace.plane import clock, on_clock
from ibtrace.plots._style import (
    GREY,
    NotebookFigure,
    ceilings,
    choose,
    epoch_axis,
    estimands,
    layer_styles,
    legend_below,
    styled,
)
from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT, TraceLike

_BAND = (0.1, 0.9)


@styled
def curves(trace: TraceLike, estimator: str | None = None) -> Figure:
    """I(X;T) and I(T;Y) against the epoch: mean over seeds, and the band of 80 % of the seeds.

    Args:
        trace: The run.
        estimator: The estimator's label; the first of the trace by default.

    Returns:
        The figure, one panel for each quantity that was measured.

    Raises:
        InvalidInput: If the trace has no finite number by this estimator.
        UnknownName: If the trace lacks the estimator.
    """
    estimator = choose(trace, estimator)
    rows = trace.frame()
    counted, frame = clock(rows), on_clock(rows)
    frame = frame[(frame["estimator"] == estimator) & np.isfinite(frame["bits"])]
    quantities = [name for name in (I_XT, I_TY) if name in set(frame["quantity"])]
    if not quantities:
        raise InvalidInput(f"{estimator} gave no finite number to draw")
    figure = NotebookFigure(figsize=(0.4 + 3.3 * len(quantities), 3.0), layout="constrained")
    row = figure.subplots(1, len(quantities), squeeze=False)[0]
    limits = ceilings(trace, frame)
    for axes, quantity in zip(row, quantities, strict=True):
        mine = frame[frame["quantity"] == quantity]
        _draw(axes, mine, trace.layers)
        epoch_axis(axes, int(frame["epoch"].max()), counted)
        axes.set_ylabel(f"{quantity} (bits)")
        if quantity in limits:
            _draw_ceiling(axes, *limits[quantity])
    title = f"{estimator}: {estimands(frame)}"
    row[0].set_title(wrap(title, rest="", width=60 * len(quantities)), loc="left", fontsize=8)
    handles, labels = row[0].get_legend_handles_labels()
    if frame["seed"].nunique() > 1:
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0))
        labels.append("80 % of seeds")
    legend_below(figure, handles, labels)
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, layers: Sequence[str]) -> None:
    present = set(rows["layer"])
    for layer, (marker, colour) in layer_styles(layers).items():
        if layer not in present:
            continue
        table = rows[rows["layer"] == layer].pivot(index="epoch", columns="seed", values="bits")
        whole = table.dropna()
        if len(table.columns) > 1:
            low, high = (whole.quantile(end, axis=1) for end in _BAND)
            axes.fill_between(whole.index, low, high, color=colour, alpha=0.18, linewidth=0)
        look: Any = {"color": colour, "linewidth": 1.1, "label": layer, "marker": marker}
        # Marks at even distances, or a point for each if there are few, tell curves apart in grey.
        spacing: Any = 1 if len(whole) < 10 else 0.14
        axes.plot(
            whole.index,
            whole.mean(axis=1),
            markevery=spacing,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            **look,
        )


def _draw_ceiling(axes: Axes, bits: float, text: str) -> None:
    axes.axhline(bits, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        text,
        (0.99, bits),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        color=GREY,
        fontsize=7,
    )

"""A subject beside its controls: I(X;T) and I(T;Y) against the epoch, a column for each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ibtrace.errors import InvalidInput
from ibtrace.plane import ceilings, clock, on_clock
from ibtrace.plots._curves import draw_ceiling, draw_curves
from ibtrace.plots._style import (
    GREY,
    NotebookFigure,
    as_mapping,
    choose,
    epoch_axis,
    estimands,
    layer_styles,
    legend_below,
    styled,
)
from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT, TraceLike, control_of


@styled
def beside_controls(traces: Mapping[str, TraceLike], estimator: str | None = None) -> Figure:
    """The curves of a subject and of its controls side by side, on shared axes.

    Each column is titled by what its control is; curves are the mean over seeds, and the band of
    80 % of the seeds.

    Args:
        traces: The subject and its controls by name.
        estimator: The estimator's label; the first of the first trace by default.

    Returns:
        The figure: a row for each quantity that was measured.

    Raises:
        InvalidInput: If there is no trace, or none has a finite number by this estimator.
        UnknownName: If a trace lacks the estimator.
    """
    named = as_mapping(traces)
    estimator = estimator or choose(next(iter(named.values())), None)
    tables = {}
    for name, trace in named.items():
        choose(trace, estimator)
        frame = trace.frame()
        counted, rows = clock(frame), on_clock(frame)
        tables[name] = rows[(rows["estimator"] == estimator) & np.isfinite(rows["bits"])]
    measured = {quantity for rows in tables.values() for quantity in rows["quantity"]}
    quantities = [quantity for quantity in (I_XT, I_TY) if quantity in measured]
    if not quantities:
        raise InvalidInput(f"{estimator} gave no finite number to draw")
    size = 0.8 + 2.1 * len(named), 0.7 + 2.0 * len(quantities)
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = figure.subplots(len(quantities), len(named), sharex=True, sharey="row", squeeze=False)
    last = max(int(rows["epoch"].max()) for rows in tables.values())
    for column, (name, trace) in enumerate(named.items()):
        limits = ceilings(trace, tables[name])
        for row, quantity in enumerate(quantities):
            axes = panels[row, column]
            own = tables[name][tables[name]["quantity"] == quantity]
            draw_curves(axes, own, layer_styles(trace.layers), "bits")
            if quantity in limits:
                draw_ceiling(axes, *limits[quantity])
            epoch_axis(axes, last, counted)
            axes.label_outer()
        control = control_of(trace.meta)
        panels[0, column].set_title(control.words if control else name, loc="left")
    for row, quantity in enumerate(quantities):
        panels[row, 0].set_ylabel(f"{quantity} (bits)")
    figure.suptitle(
        wrap(f"{estimator}: {estimands(next(iter(tables.values())))}", rest="", width=110),
        fontsize=8, x=0.01, ha="left",
    )  # fmt: skip
    handles, labels = panels[0, 0].get_legend_handles_labels()
    if any(rows["seed"].nunique() > 1 for rows in tables.values()):
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0))
        labels.append("80 % of seeds")
    legend_below(figure, handles, labels)
    return figure

"""The information plane: I(T;Y) against I(X;T), one line through the layers for each snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from ibtrace.errors import InvalidInput
from ibtrace.plane import clock, coordinates, mean_coordinates
from ibtrace.plots._style import (
    EPOCHS,
    GREY,
    MARKERS,
    NotebookFigure,
    as_mapping,
    ceilings,
    choose,
    epoch_norm,
    epoch_ticks,
    estimands,
    legend_below,
    styled,
)
from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT, TraceLike

_ONE_ROW, _COLUMNS = 4, 5


@styled
def information_plane(
    trace: TraceLike, estimator: str | None = None, ax: Axes | None = None
) -> Figure:
    """The information plane of one run.

    Faint points are the seeds, bold ones their mean; thin lines join the layers of a snapshot of
    the mean; colour is the epoch. Dashed lines are the ceilings log2 N and H(Y).

    Args:
        trace: The run.
        estimator: The estimator's label; the first of the trace by default.
        ax: Axes to draw on, which then get no colour bar; a new figure by default.

    Returns:
        The figure.

    Raises:
        InvalidInput: If the trace has no pair of I(X;T) and I(T;Y) by this estimator.
        UnknownName: If the trace lacks the estimator.
    """
    if ax is None:
        return information_planes({"": trace}, estimator)
    plane = Plane(trace, estimator)
    plane.draw(ax, epoch_norm(plane.last_epoch))
    plane.dress(ax)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


@styled
def information_planes(traces: Mapping[str, TraceLike], estimator: str | None = None) -> Figure:
    """The information planes of several runs side by side, in rows of five where they are many.

    Axes and colours are shared.

    Args:
        traces: The runs by name.
        estimator: The estimator's label; the first of each trace by default.

    Returns:
        The figure.

    Raises:
        InvalidInput: If there is no trace, or one has no pair of I(X;T) and I(T;Y).
        UnknownName: If a trace lacks the estimator.
    """
    planes = {name: Plane(trace, estimator) for name, trace in as_mapping(traces).items()}
    figure, panels, norm = planes_figure(planes)
    for axes, plane in zip(panels, planes.values(), strict=True):
        plane.draw(axes, norm)
    return figure


def planes_figure(planes: Mapping[str, Plane]) -> tuple[NotebookFigure, list[Axes], FuncNorm]:
    """A figure with a panel for each plane, dressed and empty, and the colours of its epochs."""

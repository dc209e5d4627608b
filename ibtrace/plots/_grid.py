"""Curves of runs beside what a theory says of them: a column a run, a row a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from ibtrace.errors import InvalidInput
from ibtrace.plots._style import COLOURS, GREY, MARKERS, NotebookFigure, legend_below, styled

_BAND = (0.1, 0.9)
_APART = 0.035  # of the axis's width: points closer than this to the one before are not marked


@dataclass(frozen=True)
class Series:
    """One curve of several seeds.

    Args:
        label: In the legend; series of one label are the same thing in several panels.
        rows: ``seed, x, value``; rows without a value are left out.
        look: ``curve``: the median over seeds and the band of 80 % of them; ``points``: the same
            with marks in place of the line; ``theory``, ``line``: a line alone, dashed or dotted.
        colour: Which of the palette's; None is grey.
    """

    label: str
    rows: pd.DataFrame
    look: Literal["curve", "points", "theory", "line"] = "curve"
    colour: int | None = None


@dataclass(frozen=True)
class Strip:
    """A row of panels.

    Args:
        label: Of the vertical axis, with its unit.
        log: Whether that axis is logarithmic.
        own: Whether each panel has a scale of its own.
    """

    label: str
    log: bool = False
    own: bool = False


@styled
def grid(
    columns: Mapping[str, Sequence[Sequence[Series]]],
    strips: Sequence[Strip],
    x: str,
    *,
    log_x: bool = False,
) -> Figure:
    """Panels of curves: a column for each run, a row for each strip.

    Args:
        columns: By the title of the run, the series of each strip.
        strips: The rows of panels.
        x: The horizontal axis, with its unit.
        log_x: Whether that axis is logarithmic; what lies at 0 is then left out.

    Raises:
        InvalidInput: If there is no run, or a run has not a list of series for each strip.
    """
    if not columns or any(len(column) != len(strips) for column in columns.values()):
        raise InvalidInput(f"grid needs runs with series for each of {len(strips)} strips")
    size = 0.7 + 2.25 * len(columns), 0.5 + 1.7 * len(strips)
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = figure.subplots(len(strips), len(columns), squeeze=False, sharex="col")
    legend: dict[str, Artist] = {}
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    for row, strip in enumerate(strips):
        for at, (title, column) in enumerate(columns.items()):
            axes = panels[row, at]
            if at and not strip.own:
                axes.sharey(panels[row, 0])
                axes.tick_params(labelleft=False)
            for series in column[row]:
                legend.setdefault(series.label, _draw(axes, series, log_x))
            _dress(axes, strip, log_x, x if row == len(strips) - 1 else "", first=at == 0)
            name = next(letters, "")
            axes.set_title(f"{name}  {title}" if row == 0 else name, loc="left", fontsize=8)
    seeds = {
        len(set(s.rows["seed"])) for column in columns.values() for cell in column for s in cell
    }
    if max(seeds, default=1) > 1:
        legend["median and 80 % of seeds"] = Patch(color=GREY, alpha=0.3, linewidth=0)
    figure.align_ylabels()
    legend_below(figure, [*legend.values()], [*legend])
    return figure


def _draw(axes: Axes, series: Series, log_x: bool) -> Line2D:
    """Draw a series; what stands for it in the legend."""
    number = series.colour
    colour = GREY if number is None else COLOURS[number % len(COLOURS)]
    marker = MARKERS[(number or 0) % len(MARKERS)]
    looks: dict[str, dict[str, Any]] = {
        "curve": {"linewidth": 1.1},
        "points": {"linestyle": "", "marker": marker, "markersize": 3},
        "theory": {"linestyle": "-" if number is not None else (0, (4, 2)), "linewidth": 0.9},
        "line": {"linestyle": (0, (1, 1.5)), "linewidth": 0.9},
    }
    look = {"color": colour, **looks[series.look]}
    rows = series.rows.dropna(subset=["value"])
    rows = rows[rows["x"] > 0] if log_x else rows
    table = rows.pivot(index="x", columns="seed", values="value")
    middle = table.median(axis=1)
    if series.look in ("curve", "points") and table.shape[1] > 1:
        low, high = (table.quantile(end, axis=1) for end in _BAND)
        axes.fill_between(table.index, low, high, color=colour, alpha=0.22, linewidth=0)
    if series.look == "points":
        middle = middle[_marked(middle.index.to_numpy(dtype=float), log_x)]
    zorder = 3 if series.look == "points" else 2
    axes.plot(middle.index, middle, zorder=zorder, **look)
    return Line2D([], [], **look)


def _marked(places: Any, log_x: bool) -> list[bool]:
    """Which points are marked: those that are not too near to the one before."""
    along = np.log(places) if log_x else places
    width = float(np.ptp(along)) if len(along) else 0.0
    marked, last = [], -np.inf
    for place in along:
        marked.append(bool(place - last >= _APART * width))
        last = place if marked[-1] else last
    return marked


def _dress(axes: Axes, strip: Strip, log_x: bool, x: str, *, first: bool) -> None:
    if strip.log:
        axes.set_yscale("log")
    if log_x:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(labelbottom=bool(x))
    axes.set_xlabel(x)
    if first:
        axes.set_ylabel(strip.label)

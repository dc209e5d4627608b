"""Numbers of finished runs against what the runs differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from ibtrace.errors import InvalidInput
from ibtrace.plane import interval
from ibtrace.plots._style import COLOURS, GREY, MARKERS, NotebookFigure, legend_below, styled

_TICKS = 8
_APART = 0.012  # of the axis, between groups that share a place


@dataclass(frozen=True)
class Panel:
    """One number of each network.

    Args:
        column: The column of the table.
        label: On the axis, with its unit.
        log: Whether the axis is logarithmic; the mean is then the geometric one.
        line: A height to mark, as it says: ``(1.0, "log₂ N")``.
    """

    column: str
    label: str
    log: bool = False
    line: tuple[float, str] | None = None


@styled
def against(
    table: pd.DataFrame,
    panels: tuple[Panel, ...],
    x: str,
    left_out: str = "",
    *,
    log_x: bool = False,
) -> Figure:
    """Mean and 95 % interval over seeds against a variable of the runs, one panel a number.

    Args:
        table: One row a network: ``group``, ``x``, ``counts`` (whether it enters the mean), and a
            column for each panel.
        panels: The numbers.
        x: What the runs differ in, on the axis.
        left_out: What networks that do not count are, in the legend.
        log_x: Whether the axis of the variable is logarithmic; logarithmic panels then have one
            number of decades.

    Raises:
        InvalidInput: If the table is empty.
    """
    if table.empty:
        raise InvalidInput("there is no network to draw")
    figure = NotebookFigure(figsize=(0.4 + 2.45 * len(panels), 2.7), layout="constrained")
    groups = list(dict.fromkeys(table["group"]))
    styles: dict[str, dict[str, Any]] = {
        name: {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)]}
        for at, name in enumerate(groups)
    }
    places = np.log(table["x"]) if log_x else table["x"]
    width = float(np.ptp(places)) or 1.0
    for axes, panel, letter in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, "abcdefgh", strict=False
    ):
        for at, name in enumerate(groups):
            aside = (at - (len(groups) - 1) / 2) * _APART * width
            part = table[table["group"] == name]
            drawn = part["x"] * np.exp(aside) if log_x else part["x"] + aside
            _draw_group(axes, part.assign(x=drawn), panel, styles[name])
        _dress(axes, panel, x)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        if len(ticks := sorted(table["x"].unique())) <= _TICKS:
            axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.set_title(letter, loc="left", fontweight="bold")
    if log_x:
        _as_many_decades([axes for axes in figure.axes if axes.get_yscale() == "log"])
    handles, labels = [], []
    for name, style in styles.items():
        handles.append(Line2D([], [], markersize=4, linewidth=1.2, **style))
        labels.append(name)
    if not table["counts"].all():
        handles.append(Line2D([], [], color=GREY, marker="x", linestyle="", markersize=4))
        labels.append(left_out)
    handles.append(Line2D([], [], color=GREY, marker=".", linestyle="", markersize=4, alpha=0.6))
    mean = "mean, geometric on a logarithmic axis" if any(p.log for p in panels) else "mean"
    labels.append(f"single seeds; bars: 95 % interval over seeds of the {mean}")
    legend_below(figure, handles, labels)
    return figure


def _draw_group(axes: Axes, rows: pd.DataFrame, panel: Panel, style: Mapping[str, Any]) -> None:
    counted, others = rows[rows["counts"]], rows[~rows["counts"]]
    for part, marker, look in (
        (counted, ".", {"alpha": 0.3, "markersize": 3}),
        (others, "x", {"markersize": 4}),
    ):
        axes.plot(part["x"], part[panel.column], marker, color=style["color"], **look)
    means = counted.groupby("x")[panel.column].apply(lambda values: _mean(values, panel.log))
    middle, lower, upper = np.array([*means]).reshape(-1, 3).T
    axes.errorbar(
        means.index,
        middle,
        (middle - lower, upper - middle),
        markersize=4,
        linewidth=1.2,
        capsize=2,
        **style,
    )


def _as_many_decades(panels: Sequence[Axes]) -> None:
    """Give all panels one number of decades: slopes are exponents, and can be compared."""
    ends = [np.log10(axes.get_ylim()) for axes in panels]
    half = max((high - low for low, high in ends), default=0.0) / 2
    for axes, (low, high) in zip(panels, ends, strict=True):
        middle = (low + high) / 2
        axes.set_ylim(10 ** (middle - half), 10 ** (middle + half))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def _mean(values: pd.Series[float], log: bool) -> tuple[float, float, float]:
    """The (geometric) mean with the ends of its interval."""
    finite: NDArray[np.float64] = values.to_numpy(dtype=np.float64).astype(np.float64)
    finite = finite[np.isfinite(finite)]
    if log:
        logs: NDArray[np.float64] = np.log(finite).astype(np.float64)
        mean, lower, upper = np.exp(interval(logs))
        return float(mean), float(lower), float(upper)
    return interval(finite)


def _dress(axes: Axes, panel: Panel, x: str) -> None:
    if panel.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    if panel.line is not None:
        height, text = panel.line
        axes.axhline(height, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
        axes.annotate(
            text, (0.02, height), xycoords=("axes fraction", "data"), color=GREY, fontsize=7,
            xytext=(0, 2), textcoords="offset points",
        )  # fmt: skip
    axes.set_xlabel(x)
    axes.set_ylabel(panel.label)

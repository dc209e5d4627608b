"""Estimators held to laws of known information: the error of each, and estimate against truth."""

from __future__ import annotations

import math
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ibtrace.comparison import FAILED, OK, overall, summary
from ibtrace.errors import InvalidInput
from ibtrace.plots._style import EPOCHS, GREY, MARKERS, NotebookFigure, legend_below, styled

_ABSENT = "0.88"
_DASHES = (0, (4, 3))
_ACROSS = 6


@styled
def error_map(frame: pd.DataFrame, value: Literal["bias", "rmse"] = "bias") -> Figure:
    """The error of every estimator on every law as a heat map, one panel for each n.

    Estimators of I(X;Y) come first; below the line are those of another quantity (marked *),
    whose error is also a difference of what is estimated. Grey cells: does not apply, or failed
    (marked ×).

    Args:
        frame: What `ibtrace.compare` gives.
        value: Which error: the signed mean over seeds, or the root mean square.

    Returns:
        The figure.

    Raises:
        InvalidInput: If no estimator gave a number.
    """
    each = summary(frame)
    estimators, own = _ordered(frame)
    truths = dict(zip(each["problem"], each["truth"], strict=True))
    errors = each[value].to_numpy(dtype=float)
    largest = float(np.abs(errors[np.isfinite(errors)]).max(initial=0.1))
    norm: Normalize = SymLogNorm(0.1, vmin=-largest, vmax=largest)
    colours = mpl.colormaps["RdBu_r"]
    if value == "rmse":
        norm, colours = SymLogNorm(0.1, vmin=0, vmax=largest), mpl.colormaps["Reds"]
    sizes = list(each["n"].unique())
    height = 0.185 * len(estimators)
    figure = NotebookFigure(
        figsize=(2.6 + 0.46 * len(truths), 1.9 + (height + 0.35) * len(sizes)), layout="constrained"
    )
    column = figure.subplots(len(sizes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, n in zip(column, sizes, strict=True):
        of_size = each[each["n"] == n]
        _draw_cells(axes, of_size, estimators, list(truths), value, norm, colours)
        seeds = int(of_size["seeds"].max())
        axes.set_title(f"N = {n:,}, {seeds} seed{'s' * (seeds > 1)}", loc="left")
        axes.axhline(own - 0.5, color="0.1", linewidth=0.8)
    column[-1].set_xticks(
        range(len(truths)),
        [f"{name}  ({bits:.3g} bits)" for name, bits in truths.items()],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=6.5,
    )
    named = {"bias": "Mean error, estimate less truth (bits)", "rmse": "RMSE (bits)"}
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=column, pad=0.015, aspect=25)
    powers = [power for power in (0.1, 1, 10) if power < largest]
    signs = (-1, 1) if value == "bias" else (1,)
    ticks = sorted({0.0, *(sign * power for power in powers for sign in signs)})
    bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "−") for tick in ticks])
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(named[value])
    if own < len(estimators):
        text = "* estimates another quantity than I(X;Y)"
        handles = [Patch(color=_ABSENT), Line2D([], [], linestyle="")]
        figure.legend(handles, ["does not apply", text], loc="outside lower left", ncols=2)
    return figure


def _draw_cells(
    axes: Axes,
    laws_of_size: pd.DataFrame,
    estimators: dict[str, str],
    laws: list[str],
    value: str,
    norm: Normalize,
    colours: Any,
) -> None:
    axes.set_facecolor(_ABSENT)
    cells = {(cell["estimator"], cell["problem"]): cell for cell in laws_of_size.to_dict("records")}
    grid = np.full((len(estimators), len(laws)), np.nan)
    for i, estimator in enumerate(estimators):
        for j, law in enumerate(laws):
            if (estimator, law) not in cells:
                continue
            cell = cells[estimator, law]
            grid[i, j] = cell[value]
            _write_cell(axes, i, j, cell, value, norm, colours)
    shown = np.ma.masked_invalid(grid)
    axes.imshow(shown, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(estimators)), list(estimators.values()))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(laws) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(estimators) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.7)
    axes.tick_params(which="minor", length=0)


def _write_cell(
    axes: Axes, i: int, j: int, cell: Any, value: str, norm: Normalize, colours: Any
) -> None:
    if cell["seeds"] == 0:
        if cell["status"] == FAILED:
            axes.text(j, i, "×", ha="center", va="center", fontsize=7, color=GREY)
        return
    number = float(cell[value])
    digits = 1 if abs(number) >= 9.995 else 2
    number = round(number, digits) + 0.0  # no −0.00
    text = f"{number:+.{digits}f}" if value == "bias" and number else f"{number:.{digits}f}"
    red, green, blue, _ = colours(norm(number)) if math.isfinite(number) else (1, 1, 1, 1)
    dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
    colour = "white" if dark else "0.1"
    axes.text(j, i, text.replace("-", "−"), ha="center", va="center", fontsize=5.8, color=colour)


@styled
def estimate_against_truth(frame: pd.DataFrame) -> Figure:
    """The estimate against the truth, a panel for each estimator and a point for each law and n.

    Points are means over seeds with their standard deviation; an open point was flagged in at
    least one seed, a triangle at the rim is infinite or no number. The line is the truth, dashes
    are log2 N, which no plug-in estimate passes. Both axes are linear up to 1 bit and logarithmic
    beyond.

    Args:
        frame: What `ibtrace.compare` gives.

    Returns:
        The figure.

    Raises:
        InvalidInput: If no estimator gave a number.
    """
    each = summary(frame)
    estimators, _ = _ordered(frame)
    each = each[each["seeds"] > 0]
    estimators = {name: tag for name, tag in estimators.items() if name in set(each["estimator"])}
    sizes = sorted(each["n"].unique())
    means = each["mean"].to_numpy(dtype=float)
    finite = means[np.isfinite(means)]
    right = 1.2 * max(float(each["truth"].max()), float(np.log2(sizes[-1])))
    top, bottom = max(right, 1.2 * finite.max(initial=0)), min(-1.2, 1.2 * finite.min(initial=0))
    across = min(_ACROSS, len(estimators))
    down = -(-len(estimators) // across)
    figure = NotebookFigure(figsize=(0.5 + 1.35 * across, 0.7 + 1.45 * down), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    shades = EPOCHS(np.linspace(0.25, 0.8, len(sizes)) if len(sizes) > 1 else [0.35])
    for axes, (estimator, tag) in zip(grid.flat, estimators.items(), strict=False):
        axes.plot([-1, right], [-1, right], color="0.1", linewidth=0.6, zorder=0)
        for n, shade, marker in zip(sizes, shades, MARKERS, strict=False):
            axes.axhline(np.log2(n), color=shade, linewidth=0.7, linestyle=_DASHES, zorder=0)
            points = each[(each["estimator"] == estimator) & (each["n"] == n)]
            _draw_points(axes, points, shade, marker, (bottom, top))
        axes.set_title(tag, loc="left", fontsize=7.5)
        axes.set_xscale("symlog", linthresh=1, linscale=0.6)
        axes.set_yscale("symlog", linthresh=1, linscale=0.6)
        ticks = [tick for tick in (-10, -1, 0, 1, 2, 5, 10, 100) if bottom < tick < top]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        axes.set_xlim(-0.15, right)
        axes.set_ylim(bottom, top)
    for index, axes in enumerate(grid.flat):
        if index >= len(estimators):
            axes.set_axis_off()
        elif index + across >= len(estimators):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("Truth (bits)" if index // across == down - 1 else "")
        if index % across == 0:
            axes.set_ylabel("Estimate (bits)")
    mark: Any = {"linestyle": "", "markersize": 4}
    handles = [
        Line2D([], [], marker=m, color=shade, label=f"N = {n:,}", **mark)
        for n, shade, m in zip(sizes, shades, MARKERS, strict=False)
    ]
    handles += [
        Line2D([], [], marker="o", color=GREY, markerfacecolor="white", label="flagged", **mark),
        Line2D([], [], color="0.1", linewidth=0.6, label="truth"),
        Line2D([], [], color=GREY, linewidth=0.7, linestyle=_DASHES, label="log₂ N"),
    ]
    labels = [str(handle.get_label()) for handle in handles]
    if any(tag != name for name, tag in estimators.items()):
        handles.append(Line2D([], [], linestyle=""))
        labels.append("* estimates another quantity")
    legend_below(figure, handles, labels)
    return figure


def _draw_points(
    axes: Axes, points: pd.DataFrame, shade: Any, marker: str, limits: tuple[float, float]
) -> None:
    look: Any = {"color": shade, "markersize": 3.2, "linewidth": 0, "markeredgewidth": 0.7}
    for row in points.to_dict("records"):
        truth, mean = float(row["truth"]), float(row["mean"])
        fill: Any = {"markerfacecolor": "white" if row["flags"] else shade}
        if math.isfinite(row["spread"]):
            ends = mean - row["spread"], mean + row["spread"]
            axes.vlines(truth, *ends, color=shade, linewidth=0.8)
        if math.isfinite(mean):
            axes.plot(truth, mean, marker=marker, **look, **fill)
            continue
        rim = limits[mean > 0]  # NaN at the lower one
        place: Any = {"textcoords": "offset points", "fontsize": 5.5, "color": GREY}
        axes.plot(truth, rim, marker="^" if mean > 0 else "v", clip_on=False, **look, **fill)
        axes.annotate(f"{mean}", (truth, rim), xytext=(-3, 0), ha="right", **place)


def _ordered(frame: pd.DataFrame) -> tuple[dict[str, str], int]:
    """Estimators and their labels, those of I(X;Y) first, and how many these are.

    Raises:
        InvalidInput: If no estimator gave a number.
    """
    if not (frame["status"] == OK).any():
        raise InvalidInput("no estimator gave a number to draw; see the column status")
    of_information = overall(frame).groupby("estimator", sort=False)["of_information"].first()
    plain = [str(name) for name, whether in of_information.items() if whether]
    others = [str(name) for name, whether in of_information.items() if not whether]
    return {**{name: name for name in plain}, **{name: f"{name}*" for name in others}}, len(plain)

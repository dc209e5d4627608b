"""The specification curve: every analysis of a layer, and the choices that made it."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from ibtrace.plane import Call, LayerMultiverse, Multiverse
from ibtrace.plots._style import COLOURS, NotebookFigure, legend_below, styled

_COLOURS: dict[Call, str] = {
    "compresses": COLOURS[1],
    "inconclusive": "0.6",
    "does not compress": COLOURS[0],
}
_HEAT = mpl.colormaps["OrRd"]
_NAMES = {"family": "Estimator", "samples": "Probe", "least_drop": "Least drop", "k": "k"}


@styled
def specification_curve(multiverse: Multiverse, layer: str | None = None) -> Figure:
    """The held-out falls of one layer under all analyses, and what made them.

    Above, the falls in ascending order with their intervals, coloured by the call. Below, the
    choices of each analysis, a dot for each, with the share of the variance of the falls that each
    choice explains. On the right, for every layer, the share of the analyses that call
    "compresses" at each value of a choice.

    Args:
        multiverse: `ibtrace.Trace.multiverse`.
        layer: Which layer; None takes that whose falls differ most.

    Returns:
        The figure.

    Raises:
        UnknownName: If there is no such layer.
    """
    shown = multiverse.of(layer or _most_spread(multiverse))
    choices = shown.varied or shown.choices[:1]  # of a single analysis, what it is
    levels = [(choice, level) for choice in choices for level in shown.levels(choice)]
    count = len(multiverse.layers)
    figure = NotebookFigure(figsize=(7.6, 2.6 + 0.135 * len(levels)), layout="constrained")
    grid: Any = figure.subplots(
        2,
        2,
        height_ratios=[2.0, 0.135 * len(levels)],
        width_ratios=[5.6 - 0.22 * count, 0.4 + 0.22 * count],
        squeeze=False,
    )
    order = np.argsort(shown.rows["held_out"].to_numpy(), kind="stable")
    _curve(grid[0, 0], shown, order)
    _matrix(grid[1, 0], shown, order, levels)
    image = _heat(grid[1, 1], multiverse, levels)
    grid[0, 1].axis("off")
    place = grid[0, 1].inset_axes((0.0, 0.3, 1.0, 0.06))
    bar = figure.colorbar(image, cax=place, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.ax.set_xticklabels(["0 %", "50 %", "100 %"])
    bar.set_label("Analyses that call\n“compresses”", fontsize=7)
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=3, linewidth=0.8)
        for colour in _COLOURS.values()
    ]
    legend_below(figure, handles, [call.capitalize() for call in _COLOURS])
    return figure


def _most_spread(multiverse: Multiverse) -> str:
    """The layer whose falls differ most."""
    return max(multiverse, key=lambda layer: float(layer.rows["held_out"].std(ddof=0) or 0)).layer


def _curve(axes: Axes, layer: LayerMultiverse, order: np.ndarray[Any, Any]) -> None:
    rows = layer.rows.iloc[order]
    place = np.arange(len(rows))
    for call, colour in _COLOURS.items():
        some = (rows["call"] == call).to_numpy()
        lower, upper = (rows[f"held_out_{end}"].to_numpy()[some] for end in ("lower", "upper"))
        axes.vlines(place[some], lower, upper, color=colour, linewidth=0.8, alpha=0.45)
        axes.plot(
            place[some],
            rows["held_out"].to_numpy()[some],
            linestyle="",
            marker="o",
            markersize=2.2,
            color=colour,
        )
    axes.axhline(0, color="0.1", linewidth=0.5, zorder=0)
    axes.set_xlim(-1, len(rows))
    axes.xaxis.set_major_locator(NullLocator())
    axes.set_ylabel("Held-out fall\nof I(X;T) (bits)")
    axes.set_title(f"{layer.layer}, {len(rows)} analyses", loc="left")


def _matrix(
    axes: Axes,
    layer: LayerMultiverse,
    order: np.ndarray[Any, Any],
    levels: list[tuple[str, str]],
) -> None:
    """A dot where an analysis makes a choice, a row for each value of each choice."""
    rows = layer.rows.iloc[order]
    calls = [_COLOURS[call] for call in rows["call"]]
    for height, (choice, level) in enumerate(levels):
        some = np.flatnonzero((rows[choice] == level).to_numpy())
        colours = [calls[place] for place in some]
        axes.scatter(some, np.full(len(some), height), s=3.2, c=colours, linewidths=0)
    axes.set_xlim(-1, len(rows))
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_yticks(range(len(levels)), [level for _, level in levels], fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Analyses, by their fall")
    axes.xaxis.set_major_locator(NullLocator())
    shares, longest = layer.shares(), max(len(level) for _, level in levels)
    for choice in dict.fromkeys(choice for choice, _ in levels):
        heights = [height for height, (name, _) in enumerate(levels) if name == choice]
        if heights[0]:
            axes.axhline(heights[0] - 0.5, color="0.85", linewidth=0.5, zorder=0)
        name = _NAMES.get(choice, choice.replace("_", " ").capitalize())
        share = shares.get(choice, np.nan)
        axes.annotate(
            name if np.isnan(share) else f"{name}, {100 * share:.0f} %",
            (0, (heights[0] + heights[-1]) / 2),
            xycoords=("axes fraction", "data"),
            xytext=(-8 - 4 * longest, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=6.5,
            annotation_clip=False,
        )
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _heat(axes: Axes, multiverse: Multiverse, levels: list[tuple[str, str]]) -> Any:
    """For each layer and value of a choice, the share of the analyses that call compression."""
    shares = np.full((len(levels), len(multiverse.layers)), np.nan)
    for column, layer in enumerate(multiverse):
        judged = layer.judged
        for height, (choice, level) in enumerate(levels):
            rows = judged[judged[choice] == level]
            if len(rows):
                shares[height, column] = float((rows["call"] == "compresses").mean())
    image = axes.pcolormesh(shares, cmap=_HEAT, vmin=0, vmax=1, edgecolors="white", linewidth=0.4)
    axes.set_ylim(len(levels), 0)
    axes.yaxis.set_major_locator(NullLocator())
    axes.set_xticks(np.arange(len(multiverse.layers)) + 0.5, multiverse.layers, fontsize=6)
    axes.tick_params(axis="x", labelrotation=90, length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return image

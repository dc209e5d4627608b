"""The specification curve: every analysis of a layer, and the choices that made it."""

from __future__ import annotations

from textwrap import fill
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from ibtrace.plane import QUESTIONS, Call, LayerMultiverse, Multiverse
from ibtrace.plots._style import COLOURS, NotebookFigure, legend_below, styled
from ibtrace.types import Question

Places: TypeAlias = NDArray[np.int64]

_COLOURS: dict[Call, str] = {
    "compresses": COLOURS[1],
    "inconclusive": "0.6",
    "does not compress": COLOURS[0],
}
_HEAT = mpl.colormaps["OrRd"]
_GAP = 0.02  # between the analyses of two questions, as a share of all
_FEW = 0.25  # of the analyses, beside which the name of their question has no room
_NAMES = {"family": "Estimator", "samples": "Probe", "least_drop": "Least drop", "k": "k"}


@styled
def specification_curve(multiverse: Multiverse, layer: str | None = None) -> Figure:
    """The held-out falls of one layer under all analyses, and what made them.

    Above, the falls in ascending order with their intervals, coloured by the call. Below, the
    choices of each analysis, a dot for each, with the share of the variance of the falls that each
    choice explains. On the right, for every layer, the share of the analyses that call
    "compresses" at each value of a choice.

    Analyses that ask different things of I(X;T) stand apart: each question has its own order from
    the left to the right, its own shares, given in that order, and its own block on the right.

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
    asked = _asked(shown)
    block = max(0.22 * len(multiverse.layers), 0.7 if len(asked) > 1 else 0)
    wide = 0.4 + block * len(asked)
    width = max(7.6, 5.6 + wide)
    figure = NotebookFigure(figsize=(width, 2.6 + 0.135 * len(levels)), layout="constrained")
    grid: Any = figure.subplots(
        2,
        1 + len(asked),
        height_ratios=[2.0, 0.135 * len(levels)],
        width_ratios=[width - 1.6 - wide, *[wide / len(asked)] * len(asked)],
        squeeze=False,
    )
    rows, places = _in_order(shown, asked)
    _curve(grid[0, 0], shown.layer, rows, places)
    _matrix(grid[1, 0], rows, places, levels)
    _shares(grid[1, 0], shown, asked, levels)
    _questions(grid[1, 0], rows, places, asked)
    for axes, question in zip(grid[1, 1:], asked, strict=True):
        image = _heat(axes, multiverse, levels, question)
        if len(asked) > 1:
            axes.set_title(fill(QUESTIONS[question], 12), fontsize=6.5)
    for axes in grid[0, 1:]:
        axes.axis("off")
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


def _asked(layer: LayerMultiverse) -> list[Question]:
    """What the analyses ask of I(X;T), those that can make no call among them."""
    return [question for question in QUESTIONS if layer.rows["question"].eq(question).any()]


def _in_order(layer: LayerMultiverse, asked: list[Question]) -> tuple[pd.DataFrame, Places]:
    """The analyses, question by question in the order of their falls, and where each is drawn."""
    parts = [layer.rows[layer.rows["question"] == question] for question in asked]
    parts = [rows.sort_values("held_out", kind="stable") for rows in parts]
    gap = max(2, round(_GAP * len(layer)))
    starts = np.cumsum([0, *(len(rows) + gap for rows in parts)])
    places = [start + np.arange(len(rows)) for start, rows in zip(starts, parts, strict=False)]
    return pd.concat(parts, ignore_index=True), np.concatenate(places)


def _most_spread(multiverse: Multiverse) -> str:
    """The layer whose falls differ most."""
    return max(multiverse, key=lambda layer: float(layer.rows["held_out"].std(ddof=0) or 0)).layer


def _curve(axes: Axes, name: str, rows: pd.DataFrame, places: Places) -> None:
    for call, colour in _COLOURS.items():
        some = (rows["call"] == call).to_numpy()
        lower, upper = (rows[f"held_out_{end}"].to_numpy()[some] for end in ("lower", "upper"))
        axes.vlines(places[some], lower, upper, color=colour, linewidth=0.8, alpha=0.45)
        axes.plot(
            places[some],
            rows["held_out"].to_numpy()[some],
            linestyle="",
            marker="o",
            markersize=2.2,
            color=colour,
        )
    axes.axhline(0, color="0.1", linewidth=0.5, zorder=0)
    axes.set_xlim(-1, places[-1] + 1)
    axes.xaxis.set_major_locator(NullLocator())
    axes.set_ylabel("Held-out fall\nof I(X;T) (bits)")
    axes.set_title(f"{name}, {len(rows)} analyses", loc="left")


def _matrix(axes: Axes, rows: pd.DataFrame, places: Places, levels: list[tuple[str, str]]) -> None:
    """A dot where an analysis makes a choice, a row for each value of each choice."""
    calls = [_COLOURS[call] for call in rows["call"]]
    for height, (choice, level) in enumerate(levels):
        some = np.flatnonzero((rows[choice] == level).to_numpy())
        colours = [calls[place] for place in some]
        axes.scatter(places[some], np.full(len(some), height), s=3.2, c=colours, linewidths=0)
    axes.set_xlim(-1, places[-1] + 1)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_yticks(range(len(levels)), [level for _, level in levels], fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(NullLocator())
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _shares(
    axes: Axes, layer: LayerMultiverse, asked: list[Question], levels: list[tuple[str, str]]
) -> None:
    """Left of the rows of each choice its name and what it explains, question by question."""
    of_questions = layer.asked
    shares = [of_questions[each].shares() if each in of_questions else {} for each in asked]
    longest = max(len(level) for _, level in levels)
    for choice in dict.fromkeys(choice for choice, _ in levels):
        heights = [height for height, (name, _) in enumerate(levels) if name == choice]
        if heights[0]:
            axes.axhline(heights[0] - 0.5, color="0.85", linewidth=0.5, zorder=0)
        name = _NAMES.get(choice, choice.replace("_", " ").capitalize())
        each = [share.get(choice, np.nan) for share in shares]
        known = [f"{100 * abs(share):.0f}" if np.isfinite(share) else "–" for share in each]
        if known.count("–") >= len(known) - 1:  # the dots say of which question it is
            known = [share for share in known if share != "–"]
        axes.annotate(
            f"{name}, {' | '.join(known)} %" if known else name,
            (0, (heights[0] + heights[-1]) / 2),
            xycoords=("axes fraction", "data"),
            xytext=(-8 - 4 * longest, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=6.5,
            annotation_clip=False,
        )


def _questions(axes: Axes, rows: pd.DataFrame, places: Places, asked: list[Question]) -> None:
    """Below, what is asked by the analyses above; the first and the last may be few."""
    if len(asked) == 1:
        axes.set_xlabel("Analyses, by their fall")
        return
    axes.set_xlabel("\nAnalyses, by their fall")
    for at, question in enumerate(asked):
        some = places[(rows["question"] == question).to_numpy()]
        few = len(some) < _FEW * places[-1]
        ends = {0: ("left", some[0]), len(asked) - 1: ("right", some[-1])}
        side, x = ends[at] if few and at in ends else ("center", (some[0] + some[-1]) / 2)
        axes.annotate(
            f"{QUESTIONS[question]} ({len(some)})",
            (x, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -4),
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=6.5,
            annotation_clip=False,
        )
        if at:
            middle = (some[0] + places[places < some[0]].max()) / 2
            axes.axvline(middle, color="0.7", linewidth=0.5, zorder=0)


def _heat(
    axes: Axes, multiverse: Multiverse, levels: list[tuple[str, str]], question: Question
) -> Any:
    """For each layer and value of a choice, the share of the analyses that call compression."""
    shares = np.full((len(levels), len(multiverse.layers)), np.nan)
    for column, layer in enumerate(multiverse):
        judged = layer.judged[layer.judged["question"] == question]
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

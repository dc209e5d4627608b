"""How much each layer falls at every point of a grid: a panel for each value of the other keys."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ibtrace.errors import InvalidInput
from ibtrace.plane import Finding, GridVerdict
from ibtrace.plots._drops import FILLS
from ibtrace.plots._style import GREY, NotebookFigure, layer_styles, legend_below, styled
from ibtrace.runtime.text import wrap
from ibtrace.types import either

_ROW = 4
_WIDTH = 0.6  # that the layers at one value take together
_DOTS: Any = {"color": GREY, "linewidth": 0.7, "linestyle": (0, (1, 2)), "zorder": 0}


@styled
def falls(judged: GridVerdict, estimator: str) -> Figure:
    """The held-out fall of I(X;T) of each layer against the last key of a grid.

    Means over the networks of a point, with the interval by which they are judged; a filled mark
    compresses, an open one does not, a half-filled one is inconclusive. Values stand in the order
    of the grid; those of the other keys have a panel each.

    Args:
        judged: What `ibtrace.Sweep.verdict` gives.
        estimator: The estimator's label.

    Returns:
        The figure.

    Raises:
        InvalidInput: If no point was judged by this estimator.
    """
    findings = judged.by(estimator)
    if not findings:
        raise InvalidInput(f"no point of the grid was judged by {estimator}")
    key = _axis(judged.grid)
    ticks = list(dict.fromkeys(str(judged.grid[name].get(key, "")) for name in findings))
    panels: dict[Hashable, list[str]] = {}
    for name in findings:
        others = [f"{_last(k)}={v}" for k, v in judged.grid[name].items() if k != key]
        panels.setdefault(", ".join(others), []).append(name)
    columns = min(_ROW, len(panels))
    rows = -(-len(panels) // columns)
    size = 1.0 + columns * max(2.2, 0.55 * len(ticks)), 0.6 + 2.3 * rows
    figure = NotebookFigure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    layers = list(dict.fromkeys(f.layer for own in findings.values() for f in own))
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, names) in zip(grid.flat, panels.items(), strict=False):
        for name in names:
            place = ticks.index(str(judged.grid[name].get(key, "")))
            _draw(axes, place, findings[name], layers)
        axes.set_title(title, loc="left")
        axes.axhline(0, color="0.1", linewidth=0.6, zorder=0)
        axes.axhline(judged.least_drop, **_DOTS)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.6, len(ticks) - 0.4)
        axes.set_xlabel(_last(key))
        axes.label_outer()
    estimand = either(pair for own in findings.values() for f in own for pair in f.estimands)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"Held-out fall of I(X;T) (bits)\n{wrap(estimand, rest='', width=40)}")
    _legend(figure, layers, judged.least_drop)
    return figure


def _axis(grid: Mapping[str, Mapping[str, Any]]) -> str:
    """The last key that has several values; else the last."""
    keys = list(next(iter(grid.values())))
    several = [key for key in keys if len({str(values[key]) for values in grid.values()}) > 1]
    return (several or keys or [""])[-1]


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _draw(axes: Axes, place: int, findings: list[Finding], layers: list[str]) -> None:
    """The layers of a point, side by side."""
    styles = layer_styles(layers)
    for finding in findings:
        at = place + _WIDTH * ((layers.index(finding.layer) + 0.5) / len(layers) - 0.5)
        marker, colour = styles[finding.layer]
        fall = finding.evidence.held_out
        if np.isfinite([fall.lower, fall.upper]).all():
            axes.vlines(at, fall.lower, fall.upper, color=colour, linewidth=1.2, zorder=2)
        look: Any = {"marker": marker, "color": colour, "markersize": 5, "zorder": 3}
        axes.plot(at, fall.mean, **look, **FILLS[finding.call])


def _legend(figure: Figure, layers: list[str], least_drop: float) -> None:
    looks: list[dict[str, Any]] = [
        {"marker": marker, "color": colour} for marker, colour in layer_styles(layers).values()
    ]
    looks += [{"marker": "o", "color": GREY, **fill} for fill in FILLS.values()]
    handles = [Line2D([], [], linestyle="", markersize=5, **look) for look in looks]
    calls = [call.capitalize() for call in FILLS]
    names = [*layers, *calls, f"Least drop, {least_drop:g} bit"]
    legend_below(figure, [*handles, Line2D([], [], **_DOTS)], names)

"""Estimators on the same activations: a plane for each, and how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ibtrace.comparison import disagreement
from ibtrace.errors import InvalidInput
from ibtrace.plots._plane import Plane, explain
from ibtrace.plots._style import (
    GREY,
    NotebookFigure,
    epoch_norm,
    styled,
)
from ibtrace.runtime.text import wrap
from ibtrace.types import I_XT, TraceLike

_ACROSS = 4


@styled
def planes_by_estimator(trace: TraceLike, notes: Mapping[str, str] | None = None) -> Figure:
    """The same information plane once for each estimator.

    Axes are not shared, for the estimands differ; dashes are log2 N and H(Y) in every panel.

    Args:
        trace: The run.
        notes: A line to stand under the title of an estimator's panel (how far it is off).

    Returns:
        The figure.

    Raises:
        InvalidInput: If no estimator gave a pair of I(X;T) and I(T;Y).
    """
    planes = {name: _plane(trace, name) for name in trace.estimators}
    drawn = [plane for plane in planes.values() if plane is not None]
    if not drawn:
        raise InvalidInput("no estimator gave a pair of I(X;T) and I(T;Y) to draw")
    across = min(_ACROSS, len(planes))
    down = -(-len(planes) // across)
    figure = NotebookFigure(figsize=(0.9 + 2.35 * across, 0.3 + 2.4 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    norm = epoch_norm(max(plane.last_epoch for plane in drawn))
    for axes in list(grid.flat)[len(planes) :]:
        axes.set_axis_off()
    for axes, (name, plane) in zip(grid.flat, planes.items(), strict=False):
        axes.set_title(name, loc="left", fontsize=8, pad=25)
        note = wrap((notes or {}).get(name, ""), rest="", width=46)
        place: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(note, (0, 1), xytext=(0, 9), fontsize=5.8, color=GREY, **place)
        if plane is None:
            axes.set(xticks=[], yticks=[])
            text = "gives no pair of\nI(X;T) and I(T;Y)"
            axes.text(
                0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes
            )
            continue
        plane.draw(axes, norm)
        plane.dress(axes)
        axes.set_xlabel("I(X;T) (bits)\n" + wrap(plane.estimands, rest="", width=42), fontsize=7)
        axes.set_ylabel("I(T;Y) (bits)", fontsize=7)
    explain(figure, drawn, grid, norm, pad=0.015, aspect=40)
    return figure


def _plane(trace: TraceLike, estimator: str) -> Plane | None:
    try:
        return Plane(trace, estimator)
    except InvalidInput:  # it gives no pair, and its panel says so
        return None


@styled
def disagreement_map(frame: pd.DataFrame, quantity: str = I_XT) -> Figure:
    """How far every two estimators are apart on the same activations.

    Below the diagonal, the mean absolute difference in bits; above it, Spearman's rank
    correlation of the curves over epochs (empty where a curve does not move).

    Args:
        frame: `Trace.frame`.
        quantity: Of which quantity.

    Returns:
        The figure.

    Raises:
        InvalidInput: If fewer than two estimators measured it.
        UnknownName: If nobody did.
    """
    pairs = disagreement(frame, quantity)
    pairs = pairs[pairs["points"] > 0]
    if pairs.empty:
        raise InvalidInput(
            f"fewer than two estimators measured {quantity}; there is nothing to compare"
        )
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    size = len(names)
    apart, together = np.full((size, size), np.nan), np.full((size, size), np.nan)
    for pair in pairs.to_dict("records"):
        i, j = names.index(str(pair["first"])), names.index(str(pair["second"]))
        apart[max(i, j), min(i, j)] = pair["difference"]
        together[min(i, j), max(i, j)] = pair["correlation"]
    figure = NotebookFigure(figsize=(2.4 + 0.36 * size, 1.6 + 0.3 * size), layout="constrained")
    axes = figure.subplots()
    finite = apart[np.isfinite(apart)]
    top = float(finite.max(initial=1e-9))
    ranges: Any = (
        {"cmap": _APART, "vmin": 0, "vmax": top},
        {"cmap": _TOGETHER, "vmin": -1, "vmax": 1},
    )
    for values, look in zip((apart, together), ranges, strict=True):
        texts = np.vectorize(lambda value: f"{value:.2f}".replace("-", "−"))(values)
        look |= {"annot": texts, "fmt": "", "annot_kws": {"fontsize": 5.8}}
        sns.heatmap(values, ax=axes, linewidths=0.7, cbar=False, **look)
    left, right = axes.collections
    axes.set_xticks(np.arange(size) + 0.5, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(size) + 0.5, names, rotation=0)
    axes.tick_params(length=0)
    for image, label in (
        (left, "Mean |difference| (bits), below"),
        (right, "Rank correlation over epochs, above"),
    ):
        bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=30)
        bar.outline.set_visible(False)
        bar.set_label(label, fontsize=7)
    axes.set_title(quantity, loc="left")
    return figure


_APART = mpl.colormaps["Reds"]
_TOGETHER = mpl.colormaps["PuOr"]

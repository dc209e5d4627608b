"""I(X;T), I(T;Y) or any other quantity against the epoch, one curve for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.plane import ceilings, clock, on_clock, pair
from ibtrace.plane import normalised as shares_of_entropy
from ibtrace.plots._failing import FAILS, hollow_mark, labels, with_failures
from ibtrace.plots._style import (
    GREY,
    NotebookFigure,
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
def curves(trace: TraceLike, estimator: str | None = None, *, normalised: bool = False) -> Figure:
    """I(X;T) and I(T;Y) against the epoch: mean over seeds, and the band of 80 % of the seeds.

    Marks are hollow and grey at looks where most networks' points fail a check
    (`ibtrace.plane.trust`, but for those that take the layers for a chain).

    Args:
        trace: The run.
        estimator: The estimator's label; the first of the trace by default.
        normalised: Draw I(X;T)/H(X) and I(T;Y)/H(Y) (`ibtrace.plane.normalised`).

    Returns:
        The figure, one panel for each quantity that was measured.

    Raises:
        InvalidInput: If the trace has no finite number by this estimator.
        UnknownName: If the trace lacks the estimator.
    """
    trace = pair(trace)
    estimator = choose(trace, estimator)
    rows = shares_of_entropy(trace) if normalised else trace.frame()
    counted, frame = clock(rows), on_clock(rows)
    frame = frame[(frame["estimator"] == estimator) & np.isfinite(frame["bits"])]
    quantities = [name for name in (I_XT, I_TY) if name in set(frame["quantity"])]
    if not quantities:
        raise InvalidInput(f"{estimator} gave no finite number to draw")
    figure = NotebookFigure(figsize=(0.4 + 3.3 * len(quantities), 3.0), layout="constrained")
    row = figure.subplots(1, len(quantities), squeeze=False)[0]
    limits = ceilings(trace, frame, normalised=normalised)
    failing = _failing_looks(trace, estimator, frame)
    for axes, quantity in zip(row, quantities, strict=True):
        own = frame[frame["quantity"] == quantity]
        draw_curves(axes, own, layer_styles(trace.layers), "bits", failing)
        epoch_axis(axes, int(frame["epoch"].max()), counted)
        axes.set_ylabel(labels(trace, normalised)[quantity])
        if quantity in limits:
            draw_ceiling(axes, *limits[quantity])
    title = f"{estimator}: {estimands(frame)}"
    row[0].set_title(wrap(title, rest="", width=60 * len(quantities)), loc="left", fontsize=8)
    _legend(figure, row[0], frame, failing=bool(failing))
    return figure


def _failing_looks(
    trace: TraceLike, estimator: str, frame: pd.DataFrame
) -> dict[str, frozenset[int]]:
    """The looks at which most networks' points of a layer fail a check, by layer."""
    looks = frame[["epoch", "layer"]].drop_duplicates()
    _, means = with_failures(trace, estimator, frame[["seed", "epoch", "layer"]], looks)
    failing = means[means["fails"]]
    return {
        str(layer): frozenset(map(int, rows["epoch"])) for layer, rows in failing.groupby("layer")
    }


@styled
def readings(trace: TraceLike, quantity: str, instrument: str | None = None) -> Figure:
    """One quantity against the epoch: mean over seeds, and the band of 80 % of the seeds.

    Args:
        trace: The run.
        quantity: What a lens or an estimator reads, or the training loop logged.
        instrument: The label of the lens or the estimator; by default the first that read it.

    Returns:
        The figure: a curve for each layer, or one for the network; its axis has the unit.

    Raises:
        InvalidInput: If the trace has no finite number of it.
        UnknownName: If the trace lacks the quantity or the instrument; lists what it has.
    """
    frame, instrument = _read(trace, quantity, instrument)
    counted, frame = clock(frame), on_clock(frame)
    frame = frame[np.isfinite(frame["value"])]
    if frame.empty:
        raise InvalidInput(f"{instrument or 'the training'} gave no finite {quantity} to draw")
    figure = NotebookFigure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.subplots()
    draw_curves(axes, frame, reading_styles(trace), "value")
    epoch_axis(axes, int(frame["epoch"].max()), counted)
    unit = frame["unit"].iloc[0]
    axes.set_ylabel(f"{quantity} ({unit})" if unit not in ("", "1") else quantity)
    axes.set_title(wrap(instrument, rest="", width=60), loc="left", fontsize=8)
    _legend(figure, axes, frame)
    return figure


def reading_styles(trace: TraceLike) -> dict[str, tuple[str, Any]]:
    """Marker and colour of the network as a whole, of each layer and of each module."""
    network: dict[str, tuple[str, Any]] = {"": ("None", "0.15")}
    return {**network, **layer_styles(trace.layers), **layer_styles(trace.modules)}


def _read(trace: TraceLike, quantity: str, instrument: str | None) -> tuple[pd.DataFrame, str]:
    """The rows of a quantity by one instrument, and the instrument."""
    frame = trace.readings()
    rows = frame[frame["quantity"] == quantity]
    if rows.empty:
        known = ", ".join(dict.fromkeys(frame["quantity"])) or "none"
        raise UnknownName(f"no quantity {quantity!r} in the trace; it has {known}")
    by = list(dict.fromkeys(rows["instrument"]))
    if instrument is not None and instrument not in by:
        raise UnknownName(f"{quantity} was not read by {instrument!r}, but by {', '.join(by)}")
    instrument = by[0] if instrument is None else instrument
    return rows[rows["instrument"] == instrument], instrument


def _legend(figure: Figure, axes: Axes, frame: pd.DataFrame, *, failing: bool = False) -> None:
    """The curves' names, what the band is, and what hollow marks are."""
    handles, names = axes.get_legend_handles_labels()
    if frame["seed"].nunique() > 1:
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0))
        names.append("80 % of seeds")
    if failing:
        handles.append(hollow_mark())
        names.append(FAILS)
    legend_below(figure, handles, names)


def draw_curves(
    axes: Axes,
    rows: pd.DataFrame,
    styles: Mapping[str, tuple[str, Any]],
    column: str,
    failing: Mapping[str, frozenset[int]] | None = None,
) -> None:
    """A curve for each layer that has rows: the mean of a column over seeds, and their band.

    Marks at ``failing`` looks of a layer are hollow and grey.
    """
    present = set(rows["layer"])
    for layer, (marker, colour) in styles.items():
        if layer not in present:
            continue
        table = rows[rows["layer"] == layer].pivot(index="epoch", columns="seed", values=column)
        whole = table.dropna()
        if len(table.columns) > 1:
            low, high = (whole.quantile(end, axis=1) for end in _BAND)
            axes.fill_between(whole.index, low, high, color=colour, alpha=0.18, linewidth=0)
        look: Any = {"color": colour, "linewidth": 1.1, "marker": marker}
        # Marks at even distances, or a point for each if there are few, tell curves apart in grey.
        spacing: Any = 1 if len(whole) < 10 else 0.14
        axes.plot(
            whole.index,
            whole.mean(axis=1),
            markevery=spacing,
            markersize=4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=layer or "network",
            **look,
        )
        bad = whole[whole.index.isin((failing or {}).get(layer, ()))]
        hollow: Any = {"markerfacecolor": "white", "markeredgecolor": GREY, "linestyle": "none"}
        if len(bad):
            axes.plot(
                bad.index,
                bad.mean(axis=1),
                marker="o" if marker == "None" else marker,
                markevery=max(1, len(bad) // 12),
                markersize=4,
                markeredgewidth=0.8,
                **hollow,
            )


def draw_ceiling(axes: Axes, bits: float, text: str) -> None:
    """A dashed line at the most that a quantity can reach, and what it is."""
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

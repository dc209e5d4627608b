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

from ibtrace.bounds import BottleneckCurve
from ibtrace.errors import InvalidInput
from ibtrace.plane import PlaneBound, ceilings, clock, coordinates, mean_coordinates, pair
from ibtrace.plane import normalised as shares_of_entropy
from ibtrace.plots import _bound
from ibtrace.plots._failing import FAILS, hollow_mark, labels, with_failures
from ibtrace.plots._style import (
    EPOCHS,
    GREY,
    MARKERS,
    NotebookFigure,
    as_mapping,
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
_LEAST_SPAN = 0.1  # bits that an axis shows at least


@styled
def information_plane(
    trace: TraceLike,
    estimator: str | None = None,
    ax: Axes | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    normalised: bool = False,
    bound: BottleneckCurve | None = None,
) -> Figure:
    """The information plane of one run.

    Faint points are the seeds, bold ones their mean; thin lines join the layers of a snapshot of
    the mean; colour is the epoch. Dashed lines are the ceilings log2 N and H(Y). Hollow grey points
    fail a check (`ibtrace.plane.trust`, but for those that take the layers for a chain); of the
    mean, where most networks' points do.

    Args:
        trace: The run.
        estimator: The estimator's label; the first of the trace by default.
        ax: Axes to draw on, which then get no colour bar; a new figure by default.
        x: The source of the probe that stands for X; None: the inputs themselves.
        y: The target of the probe that stands for Y; None: the first.
        normalised: Draw I(X;T)/H(X) and I(T;Y)/H(Y) (`ibtrace.plane.normalised`).
        bound: The bottleneck curve of X and Y (`ibtrace.bottleneck`), drawn beneath; the region
            where no T can be is shaded, and points in it fail.

    Returns:
        The figure.

    Raises:
        InvalidInput: If the trace has no pair of I(X;T) and I(T;Y) by this estimator.
        UnknownName: If the trace lacks the estimator, or a variable.
    """
    trace = pair(trace, x, y)
    if ax is None:
        return information_planes({"": trace}, estimator, normalised=normalised, bound=bound)
    plane = Plane(trace, estimator, normalised=normalised, bound=bound)
    plane.draw(ax, epoch_norm(plane.last_epoch))
    plane.dress(ax)
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


@styled
def information_planes(
    traces: Mapping[str, TraceLike],
    estimator: str | None = None,
    *,
    normalised: bool = False,
    bound: BottleneckCurve | None = None,
    columns: int | None = None,
) -> Figure:
    """The information planes of several runs side by side, in rows of five where they are many.

    Axes and colours are shared.

    Args:
        traces: The runs by name.
        estimator: The estimator's label; the first of each trace by default.
        normalised: Draw I(X;T)/H(X) and I(T;Y)/H(Y).
        bound: The bottleneck curve of X and Y, drawn beneath all.
        columns: How many stand side by side, if not as many as have room.

    Returns:
        The figure.

    Raises:
        InvalidInput: If there is no trace, or one has no pair of I(X;T) and I(T;Y).
        UnknownName: If a trace lacks the estimator.
    """
    planes = {
        name: Plane(trace, estimator, normalised=normalised, bound=bound)
        for name, trace in as_mapping(traces).items()
    }
    figure, panels, norm = planes_figure(planes, columns)
    for axes, plane in zip(panels, planes.values(), strict=True):
        plane.draw(axes, norm)
    return figure


def planes_figure(
    planes: Mapping[str, Plane], columns: int | None = None
) -> tuple[NotebookFigure, list[Axes], FuncNorm]:
    """A figure with a panel for each plane, dressed and empty, and the colours of its epochs."""
    columns = columns or (len(planes) if len(planes) <= _ONE_ROW else _COLUMNS)
    rows = -(-len(planes) // columns)
    size = 1.3 + 3.1 * columns, 0.6 + 2.7 * rows
    figure = NotebookFigure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat[: len(planes)])
    for empty in grid.flat[len(planes) :]:
        empty.remove()
    norm = epoch_norm(max(plane.last_epoch for plane in planes.values()))
    for axes, (name, plane) in zip(panels, planes.items(), strict=True):
        plane.dress(axes)
        axes.set_title(name, loc="left")
        axes.label_outer(remove_inner_ticks=False)
    explain(figure, list(planes.values()), panels, norm, pad=0.02, aspect=30)
    return figure, panels, norm


def explain(
    figure: Figure, planes: Sequence[Plane], axes: Any, norm: FuncNorm, *, pad: float, aspect: int
) -> None:
    """The legend of the layers' marks under a figure, and the bar of the epochs' colours."""
    layers = max((plane.layers for plane in planes), key=len)
    handles: list[Artist] = [
        Line2D([], [], linestyle="", marker=marker, color=GREY, markersize=4)
        for marker in markers(layers)
    ]
    if any(plane.means["fails"].any() for plane in planes):
        handles.append(hollow_mark())
        layers = [*layers, FAILS]
    if (bound := planes[0].bound) is not None:
        marks, names = _bound.handles(bound)
        handles, layers = [*handles, *marks], [*layers, *names]
    legend_below(figure, handles, layers)
    ticks = epoch_ticks(max(plane.last_epoch for plane in planes))
    bar = figure.colorbar(ScalarMappable(norm, EPOCHS), ax=axes, pad=pad, aspect=aspect)
    bar.set_ticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    bar.set_label(planes[0].clock.capitalize())


class Plane:
    """What is drawn of one run: points, means, ceilings and the estimand."""

    def __init__(
        self,
        trace: TraceLike,
        estimator: str | None,
        *,
        normalised: bool = False,
        bound: BottleneckCurve | None = None,
    ) -> None:
        trace = pair(trace)
        self.estimator = choose(trace, estimator)
        frame = shares_of_entropy(trace) if normalised else trace.frame()
        frame = frame[frame["estimator"] == self.estimator]
        self.points = coordinates(frame).dropna(subset=[I_XT, I_TY])
        self.means = mean_coordinates(frame).dropna(subset=[I_XT, I_TY])
        if self.means.empty:
            lacking = ", or an entropy to divide by is not known" if normalised else ""
            raise InvalidInput(
                f"{self.estimator} gave no pair of I(X;T) and I(T;Y) to draw{lacking}"
            )
        self.labels = labels(trace, normalised)
        self.points, self.means = with_failures(trace, self.estimator, self.points, self.means)
        of_x, of_y = trace.meta.get("input_entropy", 1.0), trace.meta.get("label_entropy", 1.0)
        units = (float(of_x), float(of_y)) if normalised else (1.0, 1.0)
        self.bound = None if bound is None else PlaneBound(bound, units)
        if self.bound is not None:
            for table in (self.points, self.means):
                table["fails"] |= self.bound.impossible(table)
        self.layers = [layer for layer in trace.layers if layer in set(self.means["layer"])]
        self.clock = clock(frame)
        self.last_epoch = int(self.points["epoch"].max())
        self.estimands = estimands(frame)
        self.ceilings = ceilings(trace, frame, normalised=normalised)
        if self.bound is not None:
            self.ceilings = self.bound.ceilings

    def draw(self, axes: Axes, norm: FuncNorm) -> None:
        """The snapshots of the whole training."""
        if self.points["seed"].nunique() > 1:
            self._draw_seeds(axes, norm)
        self._draw_snapshots(axes, norm)
        for marker, layer in zip(markers(self.layers), self.layers, strict=True):
            path = self.means[self.means["layer"] == layer]
            last = path.iloc[-1]
            look: Any = {"cmap": EPOCHS, "norm": norm, "marker": marker, "zorder": 3}
            good, bad = path[~path["fails"]], path[path["fails"]]
            axes.scatter(good[I_XT], good[I_TY], c=good["epoch"], s=9, linewidths=0, **look)
            hollow: Any = {"facecolors": "white", "edgecolors": GREY, "linewidths": 0.5}
            axes.scatter(bad[I_XT], bad[I_TY], s=9, marker=marker, zorder=3, **hollow)
            # The end of training is where a reader looks first.
            look |= {"edgecolors": "0.1", "linewidths": 0.6, "zorder": 4}
            if last["fails"]:
                look = {"marker": marker, "zorder": 4, **hollow, "linewidths": 1.0}
                axes.scatter(last[I_XT], last[I_TY], s=22, **look)
            else:
                axes.scatter(last[I_XT], last[I_TY], c=[last["epoch"]], s=22, **look)

    def draw_until(self, axes: Axes, norm: FuncNorm, epoch: int) -> list[Artist]:
        """The last snapshot up to an epoch, and the trails of the layers' means to it."""
        past = self.means[self.means["epoch"] <= epoch]
        if past.empty:
            return []
        last = past["epoch"].max()
        now, seeds = (rows[rows["epoch"] == last] for rows in (past, self.points))
        now = now.set_index("layer").reindex(self.layers)
        look: dict[str, Any] = {"cmap": EPOCHS, "norm": norm}
        trail: dict[str, Any] = {"s": 4, "linewidths": 0, "alpha": 0.6, "zorder": 2, **look}
        drawn: list[Artist] = [
            axes.scatter(past[I_XT], past[I_TY], c=past["epoch"], **trail),
            axes.plot(now[I_XT], now[I_TY], color=EPOCHS(norm(last)), linewidth=1.0, zorder=3)[0],
        ]
        if self.points["seed"].nunique() > 1:
            faint: dict[str, Any] = {"s": 4, "linewidths": 0, "alpha": 0.5, "zorder": 1, **look}
            drawn.append(axes.scatter(seeds[I_XT], seeds[I_TY], c=seeds["epoch"], **faint))
        edge: dict[str, Any] = {"edgecolors": "0.1", "linewidths": 0.6, "s": 26, "zorder": 4}
        for marker, layer in zip(markers(self.layers), self.layers, strict=True):
            place = now.loc[layer]
            mark = {"marker": marker, "c": [last], **look, **edge}
            drawn.append(axes.scatter(place[I_XT], place[I_TY], **mark))
        return drawn

    def dress(self, axes: Axes) -> None:
        """Ceilings, labels and limits: everything but snapshots, title, legend, colour bar."""
        self._draw_ceilings(axes)
        shown = self.points[[I_XT, I_TY]].dropna().to_numpy()
        axes.update_datalim(shown)
        if len(shown):  # of points that coincide the axes would show rounding errors
            middle = (shown.min(0) + shown.max(0)) / 2
            axes.update_datalim([middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2])
        axes.autoscale_view()
        if self.bound is not None:
            _bound.make_room(axes, self.bound)
            _bound.draw(axes, self.bound)
        axes.set_xlabel(f"{self.labels[I_XT]}\n" + wrap(self.estimands, rest="", width=52))
        axes.set_ylabel(self.labels[I_TY])

    def _draw_seeds(self, axes: Axes, norm: FuncNorm) -> None:
        shown = self.points[~self.points["fails"]]
        axes.scatter(
            shown[I_XT],
            shown[I_TY],
            c=shown["epoch"],
            cmap=EPOCHS,
            norm=norm,
            s=2.5,
            alpha=0.18,
            linewidths=0,
            rasterized=True,  # tens of thousands of points would make a PDF crawl
            zorder=1,
        )
        bad = self.points[self.points["fails"]]
        faint: Any = {"facecolors": "none", "edgecolors": GREY, "alpha": 0.25, "zorder": 1}
        axes.scatter(bad[I_XT], bad[I_TY], s=3, linewidths=0.3, rasterized=True, **faint)

    def _draw_snapshots(self, axes: Axes, norm: FuncNorm) -> None:
        wide = self.means.pivot(index="epoch", columns="layer", values=[I_XT, I_TY])
        x, y = (wide[quantity][self.layers].to_numpy() for quantity in (I_XT, I_TY))
        lines = LineCollection(
            list(np.stack([x, y], axis=-1)),
            cmap=EPOCHS,
            norm=norm,
            # Hundreds of snapshots would hide the points they join.
            linewidths=0.8 if len(x) < 50 else 0.4,
            alpha=0.8 if len(x) < 50 else 0.3,
            zorder=2,
        )
        lines.set_array(wide.index.to_numpy(dtype=float))
        axes.add_collection(lines)

    def _draw_ceilings(self, axes: Axes) -> None:
        line: Any = {"color": GREY, "linewidth": 0.7, "linestyle": (0, (4, 3)), "zorder": 0}
        text: Any = {"textcoords": "offset points", "color": GREY, "fontsize": 7}
        if I_XT in self.ceilings:
            bits, label = self.ceilings[I_XT]
            axes.axvline(bits, **line)
            text |= {"xycoords": ("data", "axes fraction"), "xytext": (-2, 0)}
            axes.annotate(label, (bits, 0.02), rotation=90, ha="right", va="bottom", **text)
        if I_TY in self.ceilings:
            bits, label = self.ceilings[I_TY]
            axes.axhline(bits, **line)
            text |= {"xycoords": ("axes fraction", "data"), "xytext": (0, 2)}
            axes.annotate(label, (0.01, bits), **text)


def markers(layers: list[str]) -> list[str]:
    """A marker for each layer, in order; more layers than markers share some."""
    return [MARKERS[index % len(MARKERS)] for index in range(len(layers))]

"""The resolution map: information at every width of bins, and the widths at which it falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ibtrace.plane import LayerResolution, Resolution
from ibtrace.plane.drops import Array
from ibtrace.plane.layer_resolution import DECIDED
from ibtrace.plots._style import (
    COLOURS,
    GREY,
    NotebookFigure,
    epoch_axis,
    legend_below,
    styled,
)
from ibtrace.types import I_TY, I_XT

_BITS = mpl.colormaps["viridis"]
_CLASSES = mpl.colormaps["cividis"]
_BAND: Any = {"color": COLOURS[1], "alpha": 0.14, "linewidth": 0}
_PEAK: Any = {"color": "white", "marker": "o", "markersize": 3.2, "markeredgecolor": "0.1"}
_PEAK |= {"markeredgewidth": 0.5, "linewidth": 0.9}
_TOLD: Any = {"color": "white", "linestyle": (0, (3, 1.5)), "linewidth": 1.0}
_AXIS = {"bins": "Width of the bins", "noise": "Deviation of the noise"}
_LOOKS = ("first", "highest", "last")


@styled
def resolution_map(resolution: Resolution, layers: Sequence[str] | str | None = None) -> Figure:
    """Information at every width of bins, a row for each layer.

    From the left: I(X;T) in bits (epoch across, width upwards, mean over seeds), with dots at the
    peak's epoch where a fall is sure; I(T;Y) with a broken line at the coarsest width at which the
    classes are told apart at the end; the held-out fall with its interval, and, shaded, the
    widths at which a fall above the least drop is sure; the slope of I(X;T) against log₂(1/width),
    the dimension of the layer at that width, at three looks.

    Args:
        resolution: `ibtrace.Trace.resolution`.
        layers: Only these, or this one; None for all.

    Returns:
        The figure.

    Raises:
        UnknownName: If there is no such layer.
    """
    names = [layers] if isinstance(layers, str) else layers
    rows = [*resolution] if names is None else [resolution.of(name) for name in names]
    size = 7.6, 0.75 + 1.75 * len(rows)
    figure = NotebookFigure(figsize=size, layout="constrained")
    grid: Any = figure.subplots(
        len(rows), 4, squeeze=False, sharey="row", width_ratios=[1.5, 1.5, 1, 1]
    )
    highest = max(float(row.mean_x.max()) for row in rows)
    most = np.nanmax([row.label_entropy for row in rows] or [1.0])
    most = most if np.isfinite(most) else max(float(np.nanmax(row.mean_y)) for row in rows)
    for place, (axes, row) in enumerate(zip(grid, rows, strict=True)):
        _heat(axes[0], row, row.mean_x, Normalize(0, highest), _BITS, resolution.clock)
        _peaks(axes[0], row)
        _heat(axes[1], row, row.mean_y, Normalize(0, most), _CLASSES, resolution.clock)
        _told(axes[1], row)
        _falls(axes[2], row)
        _slopes(axes[3], row, resolution.clock)
        _width_axis(axes[0], row)
        axes[0].set_ylabel(f"{row.layer}\n{_AXIS[row.reader]}")
        for each in axes if place < len(rows) - 1 else ():
            each.set_xlabel("")
    for column, quantity in enumerate((I_XT, I_TY)):
        bar = figure.colorbar(
            grid[0, column].collections[0], ax=grid[:, column], location="top", aspect=28, pad=0.01
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=2)
        bar.set_label(f"{quantity} (bits)", fontsize=9)
    _legend(figure, rows)
    return figure


def _edges(centres: Array) -> Array:
    """The ends of cells about ascending centres."""
    middle = (centres[1:] + centres[:-1]) / 2
    ends = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[ends[0]], middle, [ends[1]]])


def _heat(
    axes: Axes, row: LayerResolution, bits: Array, norm: Normalize, colours: Any, clock: str
) -> None:
    """Bits ``(scales, epochs)`` in colour, on log axes."""
    across = np.expm1(np.maximum(_edges(np.log1p(row.epochs.astype(float))), 0))
    upwards = np.exp2(_edges(np.log2(row.scales)))
    axes.pcolormesh(across, upwards, bits, norm=norm, cmap=colours, rasterized=True)
    epoch_axis(axes, int(row.epochs[-1]), clock)
    axes.set_xlim(across[0], across[-1])


def _peaks(axes: Axes, row: LayerResolution) -> None:
    """The peak's epoch where a fall is sure, a line for each band."""
    for low, high in row.bands:
        band = (row.scales >= low) & (row.scales <= high)
        axes.plot(row.peaks[band], row.scales[band], clip_on=False, zorder=4, **_PEAK)


def _told(axes: Axes, row: LayerResolution) -> None:
    """Above this line the classes are not told apart at the end."""
    upwards = np.exp2(_edges(np.log2(row.scales)))
    for _, high in row.runs(row.decided):
        place = int(np.searchsorted(row.scales, high)) + 1
        if place < len(row.scales):
            axes.axhline(upwards[place], **_TOLD)


def _falls(axes: Axes, row: LayerResolution) -> None:
    """The held-out fall with its interval at every width."""
    mean, lower, upper = row.held_out
    axes.fill_betweenx(row.scales, lower, upper, color="0.1", alpha=0.18, linewidth=0)
    axes.plot(mean, row.scales, color="0.1", linewidth=1.0)
    axes.axvline(0, color="0.1", linewidth=0.5)
    least: Any = {"color": GREY, "linestyle": (0, (1, 2)), "linewidth": 0.7}
    axes.axvline(row.rule.least_drop, **least)
    _shaded(axes, row)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("Held-out fall (bits)")


def _slopes(axes: Axes, row: LayerResolution, clock: str) -> None:
    """The dimension at every width, at the first look, where I(X;T) is highest, and at the end."""
    fine, coarse = row.octaves
    between = np.sqrt(row.scales[fine] * row.scales[coarse])
    at = 0, int(row.mean_x.mean(axis=0).argmax()), -1
    for look, colour, name in zip(at, _BITS([0.85, 0.5, 0.05]), _LOOKS, strict=True):
        axes.plot(row.slopes[:, look], between, color=colour, linewidth=1.1, label=name)
    axes.axvline(0, color="0.1", linewidth=0.5)
    _shaded(axes, row)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("Bits for each halving")


def _shaded(axes: Axes, row: LayerResolution) -> None:
    upwards = np.exp2(_edges(np.log2(row.scales)))
    for low, high in row.bands:
        first, last = np.searchsorted(row.scales, [low, high])
        axes.axhspan(upwards[first], upwards[last + 1], **_BAND)


def _width_axis(axes: Axes, row: LayerResolution) -> None:
    axes.set_yscale("log", base=2)
    upwards = np.exp2(_edges(np.log2(row.scales)))
    axes.set_ylim(upwards[0], upwards[-1])
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=7))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _: object) -> str:
    """A power of 2 as a fraction, or a number."""
    if value >= 1:
        return f"{value:g}"
    return f"1/{1 / value:,.0f}"


def _legend(figure: Figure, rows: Sequence[LayerResolution]) -> None:
    least = rows[0].rule.least_drop
    handles: list[Any] = [
        Line2D([], [], **{**_PEAK, "color": GREY, "markerfacecolor": "white"}),
        Line2D([], [], **{**_TOLD, "color": GREY}),
        Patch(**_BAND),
        *(Line2D([], [], color=colour, linewidth=1.1) for colour in _BITS([0.85, 0.5, 0.05])),
    ]
    labels = [
        "Peak of I(X;T), where a fall is sure",
        f"Coarsest width with I(T;Y) ≥ {DECIDED:g} H(Y) at the end",
        f"A fall above {least:g} bit is sure",
        "Slope at the first look",
        "where I(X;T) is highest",
        "at the last look",
    ]
    legend_below(figure, handles, labels)

"""The look that all figures share; nothing here touches pyplot or the global settings for good."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ibtrace import plane
from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.runtime.files import written_whole
from ibtrace.types import I_XT, TraceLike, either

GREY = "0.45"
# Of things that have no order.
COLOURS = ("#1b6ca8", "#c8553d", "#4a7c59", "#7b4b94")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
# The top of viridis is too pale to be seen on paper.
EPOCHS = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.0, 0.9, 256)), name="epochs")

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": "0.1",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


class NotebookFigure(Figure):
    """A figure that a notebook shows at the end of a cell, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=120)
        return content.getvalue()


_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a drawing function under the shared settings, and restore the user's."""

    @wraps(draw)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return wrapper


@styled
def save(figure: Figure, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as PNG (200 dpi) and PDF; returns both paths.

    Args:
        figure: The figure.
        path: Where, without suffix; its folder is made if need be.

    Raises:
        RunError: If it cannot be written there.
    """
    stem = Path(path)
    # Not with_suffix: "tanh-0.07" has no suffix to replace.
    files = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    for file in files:
        # No date: the same figure gives the same file.
        metadata = {"CreationDate": None} if file.suffix == ".pdf" else {}
        content = io.BytesIO()  # matplotlib's own writers fail twice where a disk is full
        figure.savefig(content, format=file.suffix[1:], dpi=200, metadata=metadata)
        with written_whole(file) as part:
            part.write_bytes(content.getbuffer())
    return files


def as_mapping(traces: TraceLike | Mapping[str, TraceLike]) -> dict[str, TraceLike]:
    """One trace or several by name as several by name, each of two variables (`plane.pair`).

    Raises:
        InvalidInput: If there is none.
    """
    named = {"": traces} if not isinstance(traces, Mapping) else dict(traces)
    if not named:
        raise InvalidInput("there is no trace to draw; pass one, or {name: trace}")
    return {name: plane.pair(trace) for name, trace in named.items()}


def choose(trace: TraceLike, estimator: str | None) -> str:
    """The estimator to draw: the one asked for, or the first of the trace.

    Raises:
        InvalidInput: If the trace is empty.
        UnknownName: If the trace has not got it; lists those that it has.
    """
    known = trace.estimators
    if not known:
        raise InvalidInput("the trace has no rows to draw; take a snapshot first")
    if estimator is None:
        return known[0]
    if estimator not in known:
        raise UnknownName(f"no estimator {estimator!r} in the trace; it has {', '.join(known)}")
    return estimator


def estimands(frame: pd.DataFrame) -> str:
    """What stands for T in I(X;T), all variants of it."""
    return either(plane.estimands(frame[frame["quantity"] == I_XT]))


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend under the axes, in as many columns as the figure is wide."""
    columns = min(len(labels), max(1, int(figure.get_figwidth() / legend_width(labels))))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.14 * (rows - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def legend_width(labels: Sequence[str]) -> float:
    """How many inches a legend of one column needs, or a little more."""
    return 0.5 + 0.06 * max(map(len, labels), default=0)


def epoch_norm(last: int) -> FuncNorm:
    """Colours by log(1 + epoch): logarithmic, and epoch 0 has its place."""
    return FuncNorm((np.log1p, np.expm1), vmin=0, vmax=max(1, last))


def epoch_ticks(last: int, *, apart: float = 3) -> list[int]:
    """0, the powers of ten, and the last epoch if it is ``apart`` times the last of them."""
    powers = [10**power for power in range(len(str(max(1, last))))]
    return [0, *powers, *([last] if last >= apart * powers[-1] else [])]


def epoch_axis(axes: Axes, last: int, clock: str = "epoch") -> None:
    """An x axis of epochs (or steps), logarithmic from 1 on, with room for epoch 0."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.set_xlim(-0.15, max(1, last) * 1.12)
    axes.xaxis.set_major_locator(FixedLocator(epoch_ticks(last, apart=6)))  # labels side by side
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(clock.capitalize())


def layer_styles(layers: Sequence[str]) -> dict[str, tuple[str, tuple[float, ...]]]:
    """A marker and a colour for each layer, from dark (first) to light (last)."""
    shades = EPOCHS(np.linspace(0, 1, max(2, len(layers))))
    return {layer: (MARKERS[i % len(MARKERS)], tuple(shades[i])) for i, layer in enumerate(layers)}

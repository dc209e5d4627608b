"""The bottleneck curve beneath the plane, and the region above it where no T can be."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ibtrace.plane import PlaneBound
from ibtrace.plane.plane_bound import FAR

_LINE: Any = {"color": "0.1", "linewidth": 1.0}
_REGION: Any = {"facecolor": "#c8553d", "alpha": 0.13, "linewidth": 0}


def make_room(axes: Axes, bound: PlaneBound) -> None:
    """Take the curve above the points that are drawn, and its bend, into the limits."""
    _, right = axes.dataLim.intervalx
    axes.update_datalim(np.array([(0.0, 0.0), bound.corner(right)]))
    axes.autoscale_view()


def draw(axes: Axes, bound: PlaneBound) -> None:
    """The line, and the shade on all but what lies below it; the limits stay as they are."""
    line = bound.line
    all_of_it = [(-FAR, -FAR), (FAR, -FAR), (FAR, FAR), (-FAR, FAR), (-FAR, -FAR)]
    below = [*line, (line[-1, 0], 0.0), (0.0, 0.0)]  # turns the other way: a hole
    region = PolyCollection([np.array([*all_of_it, *below])], zorder=0, label=bound.said, **_REGION)
    axes.add_collection(region, autolim=False)
    axes.add_artist(Line2D(*line.T, zorder=0.5, label=bound.name, **_LINE))


def handles(bound: PlaneBound) -> tuple[list[Artist], list[str]]:
    """For a legend."""
    return [Line2D([], [], **_LINE), Patch(**_REGION)], [bound.name, bound.said]

"""The peak-to-final drop of each layer with its interval and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ibtrace.errors import InvalidInput
from ibtrace.plane import Call, Finding, Rule, verdict
from ibtrace.plots._style import (
    EPOCHS,
    GREY,
    MARKERS,
    NotebookFigure,
    as_mapping,
    choose,
    legend_below,
    styled,
)
from ibtrace.runtime.text import wrap
from ibtrace.types import TraceLike, either

_MARK: Any = {"linestyle": "", "markersize": 5.5, "markeredgewidth": 1.0}
FILLS: dict[Call, Any] = {
    "compresses": {"fillstyle": "full"},
    "inconclusive": {"fillstyle": "bottom", "markerfacecoloralt": "white"},
    "does not compress": {"markerfacecolor": "white"},
}
"""How a mark of each call is filled."""


@styled
def drops(
    traces: TraceLike | Mapping[str, TraceLike],
    estimator: str | None = None,
    rule: Rule | None = None,
) -> Figure:
    """The peak-to-final drop of I(X;T) in each layer, for one run or several.

    Points are means over seeds with their interval, dots the seeds; a filled point compresses,
    an open one does not, a half-filled one is inconclusive.

    Args:
        traces: The run, or the runs by name.
        estimator: The estimator's label; by default the first of each trace that gave I(X;T).
        rule: What counts as compression.

    Returns:
        The figure.

    Raises:
        InvalidInput: If there is no trace, or one is empty or has no I(X;T) by the estimator.
        UnknownName: If a trace lacks the estimator.
    """
    rule = rule or Rule()
    named = as_mapping(traces)
    judged = {name: _judged(trace, estimator, rule) for name, trace in named.items()}
    names = list(dict.fromkeys(f.layer for findings in judged.values() for f in findings))
    figure = NotebookFigure(figsize=(min(12, 2 + 0.65 * len(names)), 3.2), layout="constrained")
    axes = figure.subplots()
    colours = EPOCHS(np.linspace(0.1, 0.75, max(2, len(judged))))
    width = 0.6 / len(judged)
    for index, (name, findings) in enumerate(judged.items()):
        look: Any = {"color": colours[index], "marker": MARKERS[index % len(MARKERS)]}
        for finding in findings:
            place = names.index(finding.layer) + (index - (len(judged) - 1) / 2) * width
            _draw(axes, place, finding, width, look)
        axes.plot([], [], label=name or findings[0].estimator, **_MARK, **look)
    axes.axhline(0, color="0.1", linewidth=0.6, zorder=0)
    axes.axhline(rule.least_drop, color=GREY, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    axes.set_xticks(range(len(names)), names)
    if max(map(len, names)) > 9:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set(horizontalalignment="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    estimand = either(
        pair for findings in judged.values() for f in findings for pair in f.estimands
    )
    wrapped = wrap(estimand, rest="", width=45)
    axes.set_ylabel(f"Peak-to-final drop of I(X;T) (bits)\n{wrapped}")
    _legend(figure, axes, rule)
    return figure


def _judged(trace: TraceLike, estimator: str | None, rule: Rule) -> list[Finding]:
    """The layers by the estimator, or by the first that gave I(X;T)."""
    choose(trace, estimator)  # an empty trace, or an estimator that it lacks
    findings = verdict(trace, rule).findings
    gave = [name for name in trace.estimators if any(f.estimator == name for f in findings)]
    estimator = estimator or gave[0]
    judged = [finding for finding in findings if finding.estimator == estimator]
    if not judged:
        known = ", ".join(gave)
        raise InvalidInput(f"{estimator} gave no I(X;T) to draw a drop of; choose from {known}")
    return judged


def _draw(axes: Axes, place: float, finding: Finding, width: float, look: dict[str, Any]) -> None:
    drop = finding.evidence.drop
    each = np.fromiter(finding.evidence.drops.values(), dtype=float)
    if len(each) > 1:
        spread = np.linspace(-0.3, 0.3, len(each)) * width
        colour = look["color"]
        axes.scatter(place + spread, each, s=5, color=colour, alpha=0.4, linewidths=0, zorder=1)
    if np.isfinite(drop.lower):
        ends = (drop.lower, drop.upper)
        axes.vlines(place, *ends, color=look["color"], linewidth=1.3, zorder=2)
    axes.plot(place, drop.mean, zorder=3, **_MARK, **FILLS[finding.call], **look)


def _legend(figure: Figure, axes: Axes, rule: Rule) -> None:
    runs, names = axes.get_legend_handles_labels()
    calls = [
        Line2D([], [], marker="o", color=GREY, label=call.capitalize(), **_MARK, **fill)
        for call, fill in FILLS.items()
    ]
    limit = Line2D([], [], color=GREY, linewidth=0.7, linestyle=(0, (1, 2)))
    handles = [*runs, *calls, limit]
    labels = [*names, *(str(c.get_label()) for c in calls), f"Least drop, {rule.least_drop:g} bit"]
    legend_below(figure, handles, labels)

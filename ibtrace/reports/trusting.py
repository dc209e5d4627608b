"""Whether the points of a run can be believed: checks of all, and activations measured again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from ibtrace.errors import UnknownName
from ibtrace.trace import Examination, Trace

MOST_SECONDS = 600.0
"""An estimator that would take longer is examined where it alone is asked for."""


def examined(trace: Trace, estimator: str | None = None, *, progress: bool = False) -> Examination:
    """The last look of a trace that keeps its activations, examined on all cores.

    Args:
        trace: The trace.
        estimator: The label of one of its estimators, however long that takes; None for all but
            those that would take longer than `MOST_SECONDS`.
        progress: Draw a progress bar.

    Raises:
        RunError: If the trace keeps no activations, or not the probe.
        InvalidInput: If the probe has fewer than 8 samples.
    """
    return trace.examine(
        None if estimator is None else [estimator],
        looks=1,
        most_seconds=MOST_SECONDS if estimator is None else math.inf,
        jobs=os.cpu_count() or 1,
        progress=progress,
    )


def trusts(
    traces: Mapping[str, Trace], estimator: str | None = None, *, progress: bool = False
) -> str:
    """Which points of every variant fail a check, and what activations that were kept say of it.

    Args:
        traces: The run, by variant; one without variants has the name ``""``.
        estimator: Only this one's; None for all.
        progress: Draw a progress bar.

    Raises:
        UnknownName: If the run has no such estimator; lists those it has.
    """
    parts = []
    for name, trace in traces.items():
        if estimator is not None and estimator not in trace.estimators:
            known = ", ".join(trace.estimators)
            raise UnknownName(f"the run has no estimator {estimator!r}; it has: {known}")
        title = [name, "=" * len(name)] if name else []
        parts.append("\n".join([*title, str(trace.trust().by(estimator))]))
        if trace.activation_epochs():
            parts.append(str(examined(trace, estimator, progress=progress)))
    return "\n\n".join(parts)

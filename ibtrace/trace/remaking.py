"""The estimators that a trace's numbers are by, made again to measure the activations it keeps."""

from __future__ import annotations

from collections.abc import Sequence

from ibtrace.errors import IbtraceError, UnknownName
from ibtrace.estimators import remade
from ibtrace.trace.stored import StoredTrace
from ibtrace.types import Estimator, label


def used(
    trace: StoredTrace, labels: Sequence[str] | None = None
) -> tuple[list[Estimator], dict[str, str]]:
    """The estimators that a trace used, and why others of it cannot be made again, by label.

    Args:
        trace: Whose meta entry ``configurations`` says how each was configured.
        labels: Only these of its estimators; None for all.

    Raises:
        UnknownName: If it has no estimator of a label; lists those that it has.
    """
    if unknown := [name for name in labels or () if name not in trace.estimators]:
        known = ", ".join(trace.estimators)
        raise UnknownName(f"the trace has no estimator {unknown[0]!r}; it has {known}")
    records = trace.meta.get("configurations", {})
    again: list[Estimator] = []
    reasons: dict[str, str] = {}
    for name in trace.estimators if labels is None else dict.fromkeys(labels):
        if name not in records:
            reasons[name] = "the trace does not say how it was configured"
            continue
        try:
            estimator = remade(records[name])
        except IbtraceError as error:
            reasons[name] = str(error)
            continue
        if label(estimator) == name:
            again.append(estimator)
        else:
            reasons[name] = f"made again it is another, {label(estimator)}"
    return again, reasons

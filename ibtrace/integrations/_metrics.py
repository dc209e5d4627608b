"""What a framework logs, as a tracer takes it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

_TAKEN = ("self", "epoch", "step", "force")


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are single numbers, as `Tracer.snapshot` takes them.

    A name that is one of its arguments gets an underscore: ``step`` is stored as ``step_``.

    Example:
        >>> numbers({"loss": 0.5, "step": 3, "note": "first"})
        {'loss': 0.5, 'step_': 3.0}
    """
    single: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1):
            single[f"{name}_" if name in _TAKEN else name] = float(value)
    return single

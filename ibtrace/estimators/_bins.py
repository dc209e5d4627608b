"""What the binnings share: their ranges, the bins of labels, the values of a trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.numerics.bins import bins_within, digitise, quantile_edges
from ibtrace.numerics.columns import extremes
from ibtrace.types import LayerContext


def own_range_bins(values: Tensor, bins: int) -> Tensor:
    """Equal bins on each problem's own minimum and maximum, for floats ``(..., n, d)``."""
    ends = extremes(values)
    low, high = ends.low.amin(-1, keepdim=True), ends.high.amax(-1, keepdim=True)
    return bins_within(values, low.unsqueeze(-1), high.unsqueeze(-1), bins)


def label_bins(labels: Tensor, bins: int) -> Tensor:
    """Bins of equal mass in each column of continuous labels ``(..., n, d)``.

    Labels may have any unit and a heavy tail, which leaves ranks as they are.
    """
    columns = labels.mT.unsqueeze(-1)
    numbers = digitise(columns, quantile_edges(columns.squeeze(-1), max(2, bins)))
    return numbers.squeeze(-1).mT.contiguous()


def check_range(name: str, given: object, names: Sequence[str]) -> Any:
    """A range as it was given, or a pair of numbers as a tuple of two floats.

    Raises:
        ConfigError: If it is neither one of the names nor a pair in order.
    """
    if isinstance(given, str) and given in names:
        return given
    if isinstance(given, tuple | list) and len(given) == 2:
        low, high = (float(end) for end in given)
        if math.isfinite(low) and math.isfinite(high) and low <= high:
            return low, high
    known = ", ".join(repr(known) for known in names)
    raise ConfigError(f"{name}: range must be {known} or (low, high), got {given!r}")


def trace_values(name: str, context: LayerContext) -> Tensor:
    """The layer's values over the trace, as floats.

    Raises:
        InvalidInput: If the context has none.
    """
    if context.trace_values is None or context.trace_values.numel() == 0:
        raise InvalidInput(
            f"{name}(range='trace') got no trace_values for layer {context.name!r}; "
            "run it when the trace is complete"
        )
    values = context.trace_values.detach()
    wide = values.is_floating_point() and values.element_size() >= 4
    return values if wide else values.float()

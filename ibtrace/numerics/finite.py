"""Whether numbers are finite."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.numerics.columns import surely_finite


def count_non_finite(value: Tensor) -> int:
    """How many values are NaN or infinite; integers never are.

    The sum tells of none many times faster than looking at each value: NaN and infinity propagate.

    Args:
        value: A tensor of any shape and type.

    Example:
        >>> count_non_finite(torch.tensor([1.0, torch.inf, torch.nan]))
        2
    """
    if not value.is_floating_point() or not value.numel():
        return 0
    if surely_finite(value) or bool(value.sum().isfinite()):
        return 0
    return int((~torch.isfinite(value)).sum())

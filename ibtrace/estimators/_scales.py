"""Whether an estimate hangs on the scale of columns, by what another scale shows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ibtrace.estimators._inputs import event_dims, samples
from ibtrace.numerics.scale import Scale, columns_apart
from ibtrace.types import Estimate, Estimator
from ibtrace.types.protocols import keeps

HIDDEN = 0.1
"""Bits that another scale has to show beyond an estimate for it to be flagged ``scales_apart``."""

_SAMPLES = 400
_UNEQUAL = 1.5  # spreads of columns nearer to each other than this are one scale
_OTHER: dict[Scale, Scale] = {"variable": "column", "none": "column", "column": "variable"}


@runtime_checkable
class Scales(Protocol):
    """An estimator that brings its variables to a scale."""

    @property
    def scale(self) -> Scale:
        """Which one."""
        ...


def hidden_by_scale(
    method: Callable[..., Estimate], estimator: Any, x: Tensor, y: Tensor, seed: int
) -> Tensor:
    """Whether columns of another spread hide information, ``(...)``.

    Neighbours of a few wide columns that know nothing are no neighbours in the others, and the
    estimate falls towards 0, at a ratio of spreads of 3 already if there are several. So where
    columns differ by more than 1.5, the estimate of 400 of the samples is compared with that under
    the other scale: column by column, or as a whole if it is column by column already. It is
    flagged if that shows 0.1 bit more; of n < 400 samples 2 / √n bits.

    Args:
        method: Estimates, of an estimator, x and y.
        estimator: Whose estimate it is; nothing is said of one that does not estimate I(X;Y) under
            one of these scales.
        x: ``(..., n, dx)`` floats or ``(..., n)`` ids.
        y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
        seed: Seeds what is random.
    """
    no = torch.zeros((), dtype=torch.bool, device=x.device)
    other = _other(estimator)
    if other is None:
        return no
    unequal = columns_apart(x, _UNEQUAL) | columns_apart(y, _UNEQUAL).to(x.device)
    if not bool(unequal.any()):
        return no
    few = [subsample(value) for value in (x, y)]
    own, instead = (method(each, *few, seed=seed) for each in (estimator, other))
    return unequal & (instead.bits - own.bits > beyond(few[0]))


def beyond(few: Tensor) -> float:
    """How many bits more another scale has to show on these samples: 0.1 on 400 of them."""
    return HIDDEN * math.sqrt(_SAMPLES / samples(few))


def _other(estimator: Any) -> Any:
    """The estimator under the other scale; None if it has none."""
    told = keeps(estimator, Scales) and keeps(estimator, Estimator)
    if not told or not estimator.tags.of_information or not dataclasses.is_dataclass(estimator):
        return None
    fields: Any = estimator
    other = _OTHER.get(fields.scale)
    return None if other is None else dataclasses.replace(fields, scale=other)


def subsample(value: Tensor) -> Tensor:
    """At most 400 of the samples, drawn alike of every variable."""
    n = samples(value)
    if n <= _SAMPLES:
        return value
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(n, generator=generator)[:_SAMPLES].to(value.device)
    return value.index_select(-event_dims(value), rows)

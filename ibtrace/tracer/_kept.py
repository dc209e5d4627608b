"""The activations that a trace keeps, for estimators that ask for the whole of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ibtrace.measure import flatten
from ibtrace.trace import Trace

_POOLED_ROWS = 2**20


def stored(trace: Trace, epoch: int, seeds: Sequence[int]) -> dict[str, Tensor]:
    """The kept activations of all seeds of an epoch, ``{layer: (seeds, n, ...)}``."""
    each = [trace.activations(epoch, seed) for seed in seeds]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def pooled(trace: Trace, epochs: Sequence[int], seeds: Sequence[int]) -> dict[str, Tensor]:
    """Each layer's values over the trace, ``(m, d)``, thinned but with both extremes kept."""
    parts: dict[str, list[Tensor]] = {}
    rows_each = max(2, _POOLED_ROWS // max(1, len(epochs)))
    for epoch in epochs:
        for name, value in stored(trace, epoch, seeds).items():
            rows = flatten(value).flatten(0, 1)
            extremes = torch.stack([rows.amin(0), rows.amax(0)])
            thinned = rows[:: max(1, len(rows) // rows_each)]
            parts.setdefault(name, []).extend([extremes, thinned])
    return {name: torch.cat(values) for name, values in parts.items()}

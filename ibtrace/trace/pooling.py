"""The activations that a trace keeps, for estimators that ask for the whole of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.measure import flatten
from ibtrace.trace.stored import StoredTrace

_POOLED_ROWS = 2**20


def pooled(trace: StoredTrace, seed: int) -> dict[str, Tensor]:
    """Each layer's values over all snapshots of a network that are kept, ``(m, d)``.

    Of each snapshot evenly spaced rows, so that all are 2²⁰ at most; where that leaves some
    out, each unit's two extremes too.

    Args:
        trace: A trace with activations.
        seed: Which network.
    """
    parts: dict[str, list[Tensor]] = {}
    epochs = trace.activation_epochs(seed)
    rows_each = max(1, _POOLED_ROWS // max(1, len(epochs)))
    for epoch in epochs:
        for name, value in trace.activations(epoch, seed).items():
            rows = flatten(value[None])[0]
            step = -(-len(rows) // rows_each)
            parts.setdefault(name, []).append(rows[::step])
            if step > 1:
                parts[name].append(torch.stack([rows.amin(0), rows.amax(0)]))
    return {name: torch.cat(values) for name, values in parts.items()}

"""Looks whose activations a trace keeps, as they are measured again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from ibtrace.measure import context
from ibtrace.trace._trace import Trace
from ibtrace.types import LayerContext


class StoredLook(NamedTuple):
    """One look at one network, as it is kept.

    Args:
        activations: ``{layer: (1, n, ...)}``.
        contexts: What an estimator is told of each layer.
        epoch: Epochs of training done.
        step: Optimiser steps done, if known.
    """

    activations: dict[str, Tensor]
    contexts: dict[str, LayerContext]
    epoch: int
    step: int | None


def stored_look(
    trace: Trace, seed: int, at: int, pooled: Mapping[str, Tensor] | None = None
) -> StoredLook:
    """Read a look.

    Args:
        trace: A trace with activations.
        seed: Which network.
        at: Which look: its place on the trace's clock.
        pooled: Values of each layer over the whole trace, for estimators that ask for them.

    Raises:
        RunError: If it was not kept, or cannot be read.
    """
    captured = trace.meta.get("captured", {})
    activations = {name: t[None] for name, t in trace.activations(at, seed).items()}
    contexts = {
        name: context(name, captured.get(name, {}), pooled[name] if pooled else None)
        for name in activations
    }
    return StoredLook(activations, contexts, *trace.look(at))

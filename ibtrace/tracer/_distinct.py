"""What the rows of T say for certain, kept of every layer at every look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ibtrace.capture import Layer
from ibtrace.measure import flatten
from ibtrace.numerics.partition import partition
from ibtrace.probe import Probe
from ibtrace.trace import Scalar
from ibtrace.types import BITS, DISTINCT_ROWS, EXACT_BITS


def distinct(
    part: Mapping[str, Layer],
    probe: Probe,
    seeds: Sequence[int],
    epoch: int,
    step: int | None = None,
) -> Iterator[Scalar]:
    """The number of distinct rows of each layer, and the exact I(X;T) of the probe by them.

    Where something random is drawn in the forward, T is not a function of X and one draw of it
    does not tell I(X;T), which is then NaN.

    Args:
        part: The layers, with values ``(seeds, n, ...)`` as they were computed.
        probe: What was forwarded.
        seeds: The seed of each leading index.
        epoch: Epochs of training done.
        step: Optimiser steps done, if known.

    Yields:
        Two scalars for each layer and seed.
    """
    for name, layer in part.items():
        t = flatten(layer.values)
        names = layer.token_inputs
        subject = probe if names is None else probe.tokens(t.shape[1], names)
        patterns = partition(t, subject.to(t.device).x_ids)
        for seed, rows, bits in zip(
            seeds, patterns.rows.tolist(), patterns.bits.tolist(), strict=True
        ):
            yield Scalar(seed, epoch, name, DISTINCT_ROWS, rows, step, "1")
            exact = float("nan") if layer.random else bits
            yield Scalar(seed, epoch, name, EXACT_BITS, exact, step, BITS)

"""Traces of made-up curves, by which claims are known to hold, to fail or to be open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibtrace.trace import Scalar, Trace
from ibtrace.types import INFORMATION, Row

NAN = float("nan")
EPOCHS = sorted({round(1.15**k) - 1 for k in range(56)})
LOG = np.log1p(np.array(EPOCHS, dtype=float))
U = LOG / LOG[-1]
Floats = NDArray[np.float64]
Curve = Callable[[int], Floats]
"""Values at the looks, by seed."""
Key = tuple[str, str, str]
"""Quantity, instrument and layer."""


def flat(height: float) -> Curve:
    """The same at every look, a little noise by seed and look apart."""
    return lambda seed: np.asarray(height + 0.003 * noise(seed))


def falling(by: float, height: float = 8.0, peak: float = 0.4, spread: float = 0.1) -> Curve:
    """A rise of a bit to a peak at a share of the looks, and a fall."""

    def curve(seed: int) -> Floats:
        own = by + spread * (seed / 2.5 - 1)
        after = np.clip((U - peak) / (1 - peak), 0, 1)
        rise = np.minimum(1, U / peak)
        values: Floats = height - 1 + rise - own * after + 0.003 * noise(seed)
        return values

    return curve


def noise(seed: int) -> Floats:
    """Standard normal numbers of a seed's own, one a look."""
    return np.random.default_rng(seed).normal(size=len(EPOCHS))


def wandering(seed: int, scale: float = 0.3) -> Floats:
    """A random walk of a seed's own."""
    steps = np.random.default_rng(seed).normal(0, scale, len(EPOCHS))
    walk: Floats = steps.cumsum()
    return walk


def traced(
    layers: Sequence[str],
    curves: Mapping[Key, Curve],
    *,
    seeds: int = 6,
    error: float = 0.01,
    **meta: Any,
) -> Trace:
    """A trace of curves, whose information has an interval of an error on either side."""
    known = {"n": 4096, "input_entropy": 12.0, "label_entropy": 0.999, "layers": [*layers]}
    trace = Trace.create(meta={**known, "seeds": list(range(seeds)), **meta})
    rows = []
    for (quantity, instrument, layer), curve in curves.items():
        bits = quantity in INFORMATION
        for seed in range(seeds):
            for epoch, value in zip(EPOCHS, curve(seed).tolist(), strict=True):
                low, high = (value - error, value + error) if bits else (NAN, NAN)
                rows.append(
                    Row(
                        *(seed, epoch, None, layer, quantity, instrument, "T", value, NAN),
                        *(low, high, "", {}, 0.0),
                        unit="bits" if bits else "1",
                    )
                )
    losses = [
        Scalar(0, epoch, "", "train_loss", float(np.exp(-9 * epoch / EPOCHS[-1])))
        for epoch in EPOCHS
    ]
    trace.append(rows, losses)
    return trace

"""Traces with all that a report shows: several estimators, a lens, flags, logged numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
EPOCHS = (0, 1, 2, 5, 10, 30, 100, 300)
LAYERS = ("hidden1", "hidden2", "output")
ESTIMATORS = ("Binning", "KDE")


def traced(
    *,
    seeds: int = 4,
    layers: Sequence[str] = LAYERS,
    epochs: Sequence[int] = EPOCHS,
    estimators: Sequence[str] = ESTIMATORS,
    fall: float = 2.0,
    flag: str = "near_ceiling",
    estimand: str = "T in 30 bins on [-1, 1]",
    lens: str = "Saturation",
    draw: int = 0,
    logged: bool = True,
    **meta: Any,
) -> Trace:
    """A run whose layers fall by as many bits on the way from the first epoch to the last."""
    given = {"n": 4096, "label_entropy": 0.999, "layers": list(layers), **meta}
    trace = Trace.create(meta=given)
    rng = np.random.default_rng(draw)
    none = (NAN, NAN)
    for epoch in epochs:
        done = np.log1p(epoch) / np.log1p(max(epochs))
        rows = []
        for seed in range(seeds):
            for depth, layer in enumerate(layers):
                flags = flag if depth == 0 and seed < 2 else ""
                where = (seed, epoch, None, layer)
                for estimator in estimators:
                    for quantity, bits in (
                        (I_XT, 10 - depth - fall * done),
                        (I_TY, 0.9 * done + 0 * fall),
                    ):
                        value = bits + rng.normal(0, 0.05)
                        named = (*where, quantity, estimator, estimand)
                        rows.append(Row(*named, value, 0.01, *none, flags, {}, 0.0))
                if not lens:
                    continue
                share = (*where, "saturated share", lens, "")
                rows.append(Row(*share, rng.uniform(), NAN, *none, "", {}, 0.0, unit="1"))
        losses = [Scalar(seed, epoch, "", "train_loss", 0.7 * 0.5**done) for seed in range(seeds)]
        trace.append(rows, losses if logged else ())
    return trace

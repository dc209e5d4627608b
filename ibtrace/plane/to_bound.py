"""How far the layers are from the bottleneck curve, and which points lie above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ibtrace.bounds import BottleneckCurve
from ibtrace.plane.coordinates import coordinates, on_clock
from ibtrace.types import I_TY, I_XT

_KEY = ["seed", "epoch", "layer", "estimator"]
_ERRORS = 2.0
"""Standard errors by which a point must be above the curve to be called a fault."""
MARGIN = 1e-3
"""Bits that a point may be above the curve beside, and not be called impossible."""


@dataclass(frozen=True)
class ToBound:
    """Where a layer stands to the curve by an estimator.

    Args:
        layer: The layer.
        estimator: The estimator's label.
        i_xt: I(X;T) at the last look, the mean over seeds, bits.
        i_ty: I(T;Y) there, likewise.
        distance: How many bits of I(T;Y) that lies below the curve; negative above it.
        above: How many points of all looks and seeds lie above the curve, or beyond H(X), by more
            than two standard errors: faults of the estimator, or of the law.
        points: How many points there are.
    """

    layer: str
    estimator: str
    i_xt: float
    i_ty: float
    distance: float
    above: int
    points: int


def to_bound(frame: pd.DataFrame, curve: BottleneckCurve) -> tuple[ToBound, ...]:
    """The distance of each layer to the curve by each estimator that gives both informations.

    Args:
        frame: `Trace.frame`.
        curve: The curve of X and Y.
    """
    points = coordinates(frame).dropna(subset=[I_XT, I_TY])
    errors = on_clock(frame).pivot(index=_KEY, columns="quantity", values="stderr")
    errors = errors.reindex(columns=[I_XT, I_TY])
    of_points = errors.reindex(pd.MultiIndex.from_frame(points[_KEY])).to_numpy()
    points = points.assign(error=_ERRORS * np.nan_to_num(of_points.astype(float)).sum(1))
    places = []
    for (estimator, layer), of_layer in points.groupby(["estimator", "layer"], sort=False):
        last = of_layer[of_layer["epoch"] == of_layer["epoch"].max()]
        i_xt, i_ty = float(last[I_XT].mean()), float(last[I_TY].mean())
        places.append(
            ToBound(
                layer=str(layer),
                estimator=str(estimator),
                i_xt=i_xt,
                i_ty=i_ty,
                distance=float(curve.distance(max(i_xt, 0.0), i_ty)),
                above=int(_above(of_layer, curve).sum()),
                points=len(of_layer),
            )
        )
    return tuple(places)


def notes_of_bound(places: Sequence[ToBound], curve: BottleneckCurve) -> tuple[str, ...]:
    """The distances in a sentence for each estimator, and whose points are impossible."""
    law = "the law of X and Y, which is known"
    if curve.samples is not None:
        n, x, y, pairs = curve.samples
        law = (
            f"an estimate of the law, of N = {n:,} samples ({x:,} values of X, {y:,} of Y, "
            f"{pairs:,} pairs)"
        )
    notes = []
    for estimator in dict.fromkeys(place.estimator for place in places):
        own = [place for place in places if place.estimator == estimator]
        told = ", ".join(f"{place.layer} {_bits(place.distance)}" for place in own)
        notes.append(f"Bits of I(T;Y) below the bottleneck curve of {law}: {estimator}: {told}.")
        if above := sum(place.above for place in own):
            layers = ", ".join(place.layer for place in own if place.above)
            notes.append(
                f"{estimator}: {above} of {sum(place.points for place in own)} points lie above "
                f"the curve, or beyond H(X), by more than two standard errors ({layers}), where no "
                "T can be: a fault of the estimator."
            )
    return tuple(notes)


def _bits(distance: float) -> str:
    """A distance with three digits, none of which are less than a thousandth of a bit."""
    return f"{round(distance, 3) + 0:.3g}"


def _above(points: pd.DataFrame, curve: BottleneckCurve) -> pd.Series[bool]:
    """Which points no T can have, their errors granted; below 0 is a check of its own."""
    x, y = (np.maximum(points[name].to_numpy(dtype=np.float64), 0) for name in (I_XT, I_TY))
    error = points["error"].to_numpy(dtype=np.float64) + MARGIN
    over = curve.impossible(np.maximum(x - error, 0), np.maximum(y - error, 0))
    return pd.Series(over, index=points.index)

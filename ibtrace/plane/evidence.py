"""What a trace says beside the estimates: had training converged, and did the true I(X;T) move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ibtrace.plane.cause import Cause
from ibtrace.plane.drops import Array
from ibtrace.plane.result import Rule
from ibtrace.types import EXACT_BITS

_ROUNDING = 1e-9


class Training(NamedTuple):
    """What the training loss says: had training converged (None: unknown), and in words."""

    converged: bool | None
    note: str


def training(scalars: pd.DataFrame | None, rule: Rule, clock: str = "epoch") -> Training:
    """Share of the training loss's fall that came in the last half of the epochs, or steps."""
    unknown = "whether training had converged is unknown."
    if scalars is None or not (scalars["name"] == "train_loss").any():
        return Training(None, f"No train_loss was recorded: {unknown}")
    losses = scalars[(scalars["name"] == "train_loss") & np.isfinite(scalars["value"])]
    if losses["epoch"].nunique() < 3:
        return Training(None, f"Fewer than 3 {clock}s have a train_loss: {unknown}")
    loss = losses.groupby("epoch")["value"].mean()
    epochs = loss.index.to_numpy()
    half = loss[epochs[epochs <= (epochs[0] + epochs[-1]) / 2][-1]]
    first, last = float(loss.iloc[0]), float(loss.iloc[-1])
    if last >= first:
        return Training(False, f"Training loss did not fall ({first:.3g} to {last:.3g}).")
    late = float(half - last) / (first - last)
    converged = late <= rule.late_share
    fall = f"{100 * late:.0f} % of the fall of the training loss ({first:.3g} to {last:.3g})"
    state = "had converged" if converged else "had not converged"
    return Training(converged, f"Training {state}: {fall} came in the last half of the {clock}s.")


@dataclass(frozen=True)
class Truth:
    """The exact I(X;T) of a layer on the probe, by its distinct rows, at every look.

    Args:
        bits: Its mean over the looks.
        moved: The largest difference between two looks at one seed.
        tells_all: Whether T told all inputs of the probe apart, at every look.
    """

    bits: float
    moved: float
    tells_all: bool

    def __str__(self) -> str:
        how = "did not change" if self.moved <= _ROUNDING else f"moved by {self.moved:.2g} bit"
        what = "T tells all inputs apart" if self.tells_all else "by the distinct rows of T"
        return f"the true I(X;T) {how}: {what} at every look ({self.bits:.2f} bits)"


def truths(
    rows: pd.DataFrame, scalars: pd.DataFrame | None, entropies: Mapping[str, float]
) -> dict[str, Truth]:
    """Layers whose exact I(X;T) is known wherever they have an estimate.

    Args:
        rows: Rows of I(X;T).
        scalars: `Trace.scalars`.
        entropies: H(X) of the probe for each layer, in bits.
    """
    if scalars is None:
        return {}
    key = ["layer", "seed", "epoch"]
    exact = scalars[scalars["name"] == EXACT_BITS].set_index(key)["value"]
    looks = rows[key].drop_duplicates().set_index(key).index
    known = {}
    for layer, bits in exact.reindex(looks).groupby(level="layer", sort=False):
        if bits.notna().all():
            each = bits.groupby(level="seed")
            span = each.max() - each.min()
            tells_all = bool((bits >= entropies[str(layer)] - _ROUNDING).all())
            known[str(layer)] = Truth(float(bits.mean()), float(span.max()), tells_all)
    return known


def empty_of_information(mean: Array, error: Array, rule: Rule) -> Cause | None:
    """Why a curve shows nothing: it is 0 within its error throughout, or falls below 0.

    Args:
        mean: The mean curve, ``(epochs,)``.
        error: Its standard error, ``(epochs,)``.
        rule: How many errors count.
    """
    margin = rule.errors * error + _ROUNDING
    if (np.abs(mean) <= margin).all():
        text = f"0 within {rule.errors:g} standard errors at every look: nothing was seen"
        return Cause("nothing seen", text)
    if (mean < -margin).any():
        text = f"falls below 0, to {mean.min():.2f} bits, which no information does"
        return Cause("below zero", text)
    return None

"""What a trace says beside the estimates: had training converged, and what its rows of T tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ibtrace.plane.cause import Cause
from ibtrace.plane.drops import Array
from ibtrace.plane.rule import Rule
from ibtrace.types import EXACT_BITS, I_XT

ROWS_OF_T = "the distinct rows of T"
"""What the count of them is called beside the estimators."""

GivenX = Literal["a function", "maybe random", "unknown"]
"""What T is once X is given: a function of it at every look, perhaps random at some."""

_ROUNDING = 1e-9
_LOOK = ["layer", "seed", "epoch"]


class Training(NamedTuple):
    """What the training loss says: had training converged (None: unknown), and in words."""

    converged: bool | None
    note: str


def training(scalars: pd.DataFrame | None, rule: Rule, clock: str = "epoch") -> Training:
    """Share of the training loss's fall that came in the last half of the epochs, or steps."""
    unknown = "whether training had converged is unknown."
    if scalars is None or not (scalars["name"] == "train_loss").any():
        told = "snapshot(epoch, train_loss=...) and log(epoch, train_loss=...) record it"
        return Training(None, f"No train_loss was recorded ({told}): {unknown}")
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


@dataclass(frozen=True)
class Count:
    """The exact bits of every layer by its distinct rows, wherever it has an estimate.

    Args:
        bits: I(X;T) in bits by ``layer, seed, epoch``; NaN if T may be random given X, or if
            nothing was counted.
        counted: The layers of which every such look has an entry, NaN or not.
    """

    bits: pd.Series
    counted: frozenset[str]

    @property
    def known(self) -> tuple[str, ...]:
        """Layers of which T is a function of X at every look, in their order."""
        each = self.bits.groupby(level="layer", sort=False)
        return tuple(str(layer) for layer, bits in each if bits.notna().all())

    def given_x(self, layer: str) -> GivenX:
        """What T of a layer is once X is given."""
        if layer in self.known:
            return "a function"
        return "maybe random" if layer in self.counted else "unknown"

    def rows(self) -> pd.DataFrame:
        """The layers known as rows of `Trace.frame`, by `ROWS_OF_T`."""
        bits = self.bits[self.bits.index.isin(self.known, level="layer")]
        constant = np.where(bits <= _ROUNDING, "constant", "")
        origin = {"estimator": ROWS_OF_T, "estimand": "T exactly, by its distinct values"}
        rows = bits.rename("bits").reset_index()
        return rows.assign(quantity=I_XT, flags=constant, stderr=np.nan, variable="", **origin)

    def truths(self, entropies: Mapping[str, float]) -> dict[str, Truth]:
        """What the rows of each layer known say.

        Args:
            entropies: H(X) of the probe for each layer, in bits.
        """
        truths = {}
        for layer in self.known:
            bits = self.bits.xs(layer, level="layer")
            each = bits.groupby(level="seed")
            span = each.max() - each.min()
            tells_all = bool((bits >= entropies[layer] - _ROUNDING).all())
            truths[layer] = Truth(float(bits.mean()), float(span.max()), tells_all)
        return truths


def count(frame: pd.DataFrame, scalars: pd.DataFrame | None) -> Count:
    """What the trace counted of its layers at the looks that have estimates.

    Args:
        frame: `Trace.frame`.
        scalars: `Trace.scalars`; None if there are none.
    """
    looks = frame[_LOOK].drop_duplicates().set_index(_LOOK).index
    if scalars is None:
        return Count(pd.Series(np.nan, looks), frozenset())
    exact = scalars[scalars["name"] == EXACT_BITS].set_index(_LOOK)["value"]
    entered = pd.Series(looks.isin(exact.index), looks).groupby(level="layer").all()
    return Count(exact.reindex(looks), frozenset(map(str, entered.index[entered])))


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

"""How far estimators are apart on the same activations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.types import I_XT

_AT = ["seed", "epoch", "layer"]


def disagreement(frame: pd.DataFrame, quantity: str = I_XT) -> pd.DataFrame:
    """Every pair of estimators of a trace: how far apart, and whether they rise and fall together.

    Columns: ``first, second``; ``difference``, the mean absolute difference in bits over all
    snapshots, layers and seeds that both measured; ``correlation``, Spearman's rank correlation
    over epochs, averaged over the layers and seeds where both curves move (NaN if there are
    none); ``points`` and ``curves``, over how many.

    Args:
        frame: `Trace.frame`.
        quantity: Of which quantity.

    Raises:
        InvalidInput: If the table has a number twice.
        UnknownName: If the table has no such quantity; lists those it has.
    """
    known = list(frame["quantity"].unique())
    if quantity not in known:
        raise UnknownName(f"no quantity {quantity!r} in the table; it has {', '.join(known)}")
    of_quantity = frame[frame["quantity"] == quantity]
    if of_quantity.duplicated([*_AT, "estimator"]).any():
        raise InvalidInput("the table has a number twice; compare one run at a time")
    names = list(of_quantity["estimator"].unique())
    wide = of_quantity.pivot(index=_AT, columns="estimator", values="bits")
    columns = ["first", "second", "difference", "correlation", "points", "curves"]
    records = [(a, b, *_pair(wide[[a, b]].dropna())) for a, b in combinations(names, 2)]
    return pd.DataFrame(records, columns=columns)


def _pair(both: pd.DataFrame) -> tuple[float, float, int, int]:
    if both.empty:
        return np.nan, np.nan, 0, 0
    first, second = (both.iloc[:, column] for column in (0, 1))
    correlations = []
    for _, curves in both.groupby(["seed", "layer"]):
        ranks = [curves.iloc[:, column].rank().to_numpy() for column in (0, 1)]
        if len(curves) > 2 and min(np.ptp(r) for r in ranks) > 0:
            correlations.append(float(np.corrcoef(ranks[0], ranks[1])[0, 1]))
    mean = float(np.mean(correlations)) if correlations else np.nan
    return float((first - second).abs().mean()), mean, len(both), len(correlations)

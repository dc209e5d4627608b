"""Numbers of one layer that claims on networks of finite information share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibtrace.alignment import coincidence
from ibtrace.claims import Outcome, within
from ibtrace.errors import InvalidInput
from ibtrace.plane import Finding, interval, verdict
from ibtrace.types import I_XT, TraceLike

Floats = NDArray[np.float64]


def curves(trace: TraceLike, quantity: str, estimator: str, layer: str) -> pd.DataFrame:
    """The bits of a layer, ``(seed, epoch)``."""
    frame = trace.frame()
    rows = frame[(frame["quantity"] == quantity) & (frame["estimator"] == estimator)]
    return rows[rows["layer"] == layer].pivot(index="seed", columns="epoch", values="bits")


def drops(trace: TraceLike, estimator: str, layer: str) -> pd.Series:
    """The peak-to-final drop of I(X;T) of each seed, bits."""
    bits = curves(trace, I_XT, estimator, layer)
    return bits.max(axis=1) - bits.iloc[:, -1]


def judged(trace: TraceLike, estimator: str, layers: Sequence[str]) -> list[Finding]:
    """What an estimator says of layers."""
    result = verdict(trace, estimators=[estimator])
    return [result.of(layer, estimator) for layer in layers]


def fall_of(finding: Finding) -> str:
    """A call with its held-out fall, and how many seeds were kept of how many."""
    fall, seeds = finding.evidence.held_out, finding.evidence.seeds
    return (
        f"{finding.layer} {finding.call}: held-out fall {fall.mean:.2f} bits "
        f"[{fall.lower:.2f}, {fall.upper:.2f}], {len(seeds.kept)} of {len(seeds.run)} seeds kept"
    )


def by_call(finding: Finding, wanted: str) -> Outcome:
    """A claim about one layer, by the call of an estimator on it."""
    if finding.call == "inconclusive":
        return Outcome("inconclusive", f"{fall_of(finding)}; {finding.cause}")
    return Outcome("held" if finding.call == wanted else "failed", fall_of(finding))


def decided(values: Floats, words: str, low: float, high: float = np.inf) -> Outcome:
    """Held if the interval of the mean over seeds lies between bounds, failed if outside."""
    mean, lower, upper = interval(np.asarray(values, dtype=float))
    number = f"{mean:.2f} {words} [{lower:.2f}, {upper:.2f}], {len(values)} seeds"
    return Outcome(within(lower, upper, low, high), number)


def tracks(
    trace: TraceLike,
    layer: str,
    estimator: str,
    quantity: str,
    instrument: str,
    *,
    least: float,
    from_peak: bool = True,
) -> Outcome:
    """Whether I(X;T) by an estimator changes from look to look as another quantity does.

    Args:
        trace: The trace.
        layer: Of which both are.
        estimator: Of I(X;T).
        quantity: The other quantity.
        instrument: Which instrument's.
        least: The rank correlation of the differences above which one tracks the other.
        from_peak: From the peak of each seed's I(X;T) on; else over the whole training.
    """
    bits = curves(trace, I_XT, estimator, layer)
    peaks = bits.idxmax(axis=1)
    since = {int(str(seed)): float(at) for seed, at in peaks.items()}
    try:
        pairs = coincidence(
            trace,
            [I_XT],
            [quantity],
            layers=[layer],
            instrument=estimator,
            since=since if from_peak else None,
        )
    except InvalidInput as error:
        return Outcome("inconclusive", str(error))
    pairs = pairs[(pairs["other_layer"] == layer) & (pairs["other_instrument"] == instrument)]
    if pairs.empty:
        return Outcome("inconclusive", f"{layer}: no look from which on both change")
    row = pairs.iloc[0]
    number = (
        f"{layer}: rank correlation of {row['points']} differences in log-epoch"
        f"{' from the peak on' * from_peak} {row['correlation']:+.2f} [{row['lower']:+.2f}, "
        f"{row['upper']:+.2f}], {row['seeds']} seeds; tracking is above {least:+g} (ours)"
    )
    return Outcome(within(row["lower"], row["upper"], least), number)


def finite(trace: TraceLike, layer: str, estimator: str, share: float) -> Outcome:
    """Whether I(X;T) stays below a share of log₂ N at every look of every seed, errors and all."""
    frame = trace.frame()
    rows = frame[(frame["quantity"] == I_XT) & (frame["estimator"] == estimator)]
    rows = rows[rows["layer"] == layer]
    ceiling = float(np.log2(trace.meta["n"]))
    highest, upper = float(rows["bits"].max()), float(rows["upper"].max())
    number = (
        f"{layer}: at most {highest:.2f} bits at any look of any seed (its error: up to "
        f"{upper:.2f}), {highest / ceiling:.2f} of log2 N"
    )
    if upper < share * ceiling:
        return Outcome("held", number)
    return Outcome(
        "failed" if float(rows["lower"].max()) >= share * ceiling else "inconclusive", number
    )

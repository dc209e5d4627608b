"""What the claims of papers are made of: numbers of a layer, and outcomes of intervals and calls.

A claim's test is a function of the traces. Its thresholds are keyword arguments, so that
`ibtrace.claims.Claim.at` can move them; what it measured and decides is put together from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ibtrace.alignment import PEAK, coincidence, events
from ibtrace.claims import Outcome, Status, within
from ibtrace.errors import InvalidInput
from ibtrace.plane import Finding, Interval, Rule, interval, verdict
from ibtrace.types import I_XT, TraceLike

Floats = NDArray[np.float64]


# --- numbers of a layer -------------------------------------------------------------------------


def hidden(trace: TraceLike) -> list[str]:
    """The hidden layers: all but the network's output.

    Args:
        trace: The trace.
    """
    return list(trace.layers[:-1])


def curves(trace: TraceLike, quantity: str, estimator: str, layer: str) -> pd.DataFrame:
    """The bits of a layer, ``(seed, epoch)``; NaN where a seed was not looked at.

    Args:
        trace: The trace.
        quantity: I(X;T) or I(T;Y).
        estimator: The estimator's label.
        layer: The layer.
    """
    frame = trace.frame()
    rows = frame[(frame["quantity"] == quantity) & (frame["estimator"] == estimator)]
    return rows[rows["layer"] == layer].pivot(index="seed", columns="epoch", values="bits")


def last_bits(trace: TraceLike, quantity: str, estimator: str, layer: str) -> pd.Series:
    """The bits of a layer at the last look, by seed.

    Args:
        trace: The trace.
        quantity: I(X;T) or I(T;Y).
        estimator: The estimator's label.
        layer: The layer.
    """
    return curves(trace, quantity, estimator, layer).iloc[:, -1]


def last_reading(trace: TraceLike, quantity: str, layer: str = "") -> pd.Series:
    """What was read last of a layer or of the network as a whole, by seed; empty if nothing was.

    Args:
        trace: The trace.
        quantity: By its name, as in `ibtrace.types.Quantity`.
        layer: The layer; ``""`` for the network.
    """
    frame = trace.readings()
    rows = frame[(frame["quantity"] == quantity) & (frame["layer"] == layer)]
    return rows.sort_values("epoch", kind="stable").groupby("seed")["value"].last()


def drops(trace: TraceLike, estimator: str, layer: str) -> pd.Series:
    """The peak-to-final drop of I(X;T), by seed, bits; never below 0, see `judged` for a call.

    Args:
        trace: The trace.
        estimator: The estimator's label.
        layer: The layer.
    """
    bits = curves(trace, I_XT, estimator, layer)
    return bits.max(axis=1) - bits.iloc[:, -1]


def judged(
    trace: TraceLike, estimator: str, layers: Sequence[str], *, rule: Rule | None = None
) -> list[Finding]:
    """The verdict of an estimator on each of some layers.

    Args:
        trace: The trace.
        estimator: The estimator's label.
        layers: The layers.
        rule: What counts as compression (default: ``Rule()``).
    """
    result = verdict(trace, rule, estimators=[estimator])
    return [result.of(layer, estimator) for layer in layers]


def rank_correlation(one: Sequence[float], two: Sequence[float]) -> float:
    """Spearman's; 0 where one does not vary, as then it tells nothing of the other.

    Args:
        one: Numbers.
        two: As many others.

    Example:
        >>> round(rank_correlation([1, 2, 3], [1, 4, 9]), 9), rank_correlation([1, 2], [0, 0])
        (1.0, 0.0)
    """
    if len(set(one)) < 2 or len(set(two)) < 2:
        return 0.0
    return float(spearmanr(one, two).statistic)


# --- in words -----------------------------------------------------------------------------------


def bracketed(of: Interval, digits: int = 2) -> str:
    """A mean and its interval as a claim prints them: ``0.42 [0.40, 0.44]``.

    Args:
        of: The interval.
        digits: Decimals.
    """
    return f"{of.mean:.{digits}f} [{of.lower:.{digits}f}, {of.upper:.{digits}f}]"


def fall_of(finding: Finding) -> str:
    """A call with the fall that decided it, and how many seeds were kept of how many.

    Args:
        finding: What `judged` gave.
    """
    evidence = finding.evidence
    kept, run = len(evidence.seeds.kept), len(evidence.seeds.run)
    return (
        f"{finding.layer} {finding.call}: peak-to-final drop {bracketed(evidence.drop)} bits, "
        f"held out {bracketed(evidence.held_out)}, {kept} of {run} seeds kept"
    )


# --- outcomes -----------------------------------------------------------------------------------


def by_call(finding: Finding, wanted: str) -> Outcome:
    """A claim about one layer, by the call of an estimator on it: open where it makes none.

    Args:
        finding: What `judged` gave.
        wanted: ``compresses`` or ``does not compress``.
    """
    if finding.call == "inconclusive":
        return Outcome("inconclusive", f"{fall_of(finding)}; {finding.cause}")
    return Outcome("held" if finding.call == wanted else "failed", fall_of(finding))


def mixed_calls(trace: TraceLike, estimator: str, layers: Sequence[str]) -> Outcome:
    """Whether I(X;T) by an estimator falls in some layers and does not in others.

    Args:
        trace: The trace.
        estimator: The estimator's label.
        layers: The layers.
    """
    findings = judged(trace, estimator, layers)
    each = [f"{f.layer} {f.evidence.held_out.mean:.2f} ({f.call})" for f in findings]
    number = f"held-out falls of I(X;T), bits: {', '.join(each)}"
    calls = {finding.call for finding in findings}
    if {"compresses", "does not compress"} <= calls:
        return Outcome("held", number)
    return Outcome("inconclusive" if "inconclusive" in calls else "failed", number)


def decided(
    values: Sequence[float] | Floats | pd.Series,
    words: str,
    low: float,
    high: float = math.inf,
    *,
    between: tuple[float, float] = (-math.inf, math.inf),
) -> Outcome:
    """Held if the interval of the mean over seeds lies between bounds, failed if outside.

    Args:
        values: One number a seed.
        words: What follows the number: its unit, and of what it is.
        low: The lower bound.
        high: The upper bound.
        between: What such numbers lie between, whatever they are of.

    Example:
        >>> decided([1.0, 1.1, 0.9, 1.0, 1.0], "bits more", 0.5)
        Outcome(status='held', number='1.00 [0.91, 1.09] bits more, 5 seeds')
    """
    numbers = np.asarray(values, dtype=float)
    mean = interval(numbers, between=between)
    number = f"{bracketed(mean)} {words}, {len(numbers)} seeds"
    return Outcome(within(mean.lower, mean.upper, low, high), number)


def by_count(count: int, of: int) -> Status:
    """Of a statement on every network: held if all are so, failed if no more than half are.

    Args:
        count: How many networks are as stated.
        of: Of how many.

    Example:
        >>> by_count(5, 5), by_count(4, 5), by_count(2, 5), by_count(0, 0)
        ('held', 'inconclusive', 'failed', 'inconclusive')
    """
    if not of:
        return "inconclusive"
    return "held" if count == of else "failed" if count <= of / 2 else "inconclusive"


def all_of(statuses: Sequence[Status]) -> Status:
    """Of a statement with parts: failed if one has, else open if one is, else held.

    Args:
        statuses: Of the parts.

    Example:
        >>> all_of(["held", "inconclusive", "failed"]), all_of(["held", "held"])
        ('failed', 'held')
    """
    held, failed, *others = get_args(Status)
    worst = (failed, *others, held)
    return next((status for status in worst if status in statuses), "inconclusive")


def tracks(
    trace: TraceLike,
    layer: str,
    estimator: str,
    quantity: str,
    instrument: str | None = None,
    *,
    least: float,
    sign: int = 1,
    from_peak: bool = True,
) -> Outcome:
    """Whether I(X;T) by an estimator changes from look to look as another quantity does.

    Args:
        trace: The trace.
        layer: Of which both are.
        estimator: Of I(X;T).
        quantity: The other quantity.
        instrument: Whose it is; None where one alone reads it.
        least: The rank correlation of the differences above which one tracks the other.
        sign: 1 if they rise together, -1 if one falls as the other rises.
        from_peak: From the peak of each network's I(X;T) on, of those that have one
            (`ibtrace.alignment.PEAK`); else over the whole training.
    """
    since = _peaks(trace, layer, estimator) if from_peak else None
    if since is not None and not since:
        number = f"{layer} has no peak in any of {len(trace.seeds)} networks"
        return Outcome("inconclusive", number)
    try:
        pairs = coincidence(
            trace, [I_XT], [quantity], layers=[layer], instrument=estimator, since=since
        )
    except InvalidInput as error:
        return Outcome("inconclusive", str(error))
    own = pairs["other_layer"] == layer
    if instrument is not None:
        own &= pairs["other_instrument"] == instrument
    if own.sum() != 1:
        whose = "no instrument" if not own.any() else "more than one instrument"
        return Outcome("inconclusive", f"{layer}: {whose} read {quantity} where both change")
    row = pairs[own].iloc[0]
    number = (
        f"{layer}: rank correlation of {row['points']} differences in log-epoch"
        f"{' from the peak on' * from_peak} {row['correlation']:+.2f} [{row['lower']:+.2f}, "
        f"{row['upper']:+.2f}], {row['seeds']} seeds; tracking is {sign * least:+g} or beyond "
        "(ours)"
    )
    lower, upper = sorted((sign * row["lower"], sign * row["upper"]))
    return Outcome(within(lower, upper, least), number)


def _peaks(trace: TraceLike, layer: str, estimator: str) -> dict[int, float]:
    """When I(X;T) of a layer peaks in each network in which it does."""
    frame = events(trace, [PEAK]).frame
    frame = frame[(frame["layer"] == layer) & (frame["instrument"] == estimator)]
    frame = frame[np.isfinite(frame["at"])]
    return {int(seed): float(at) for seed, at in zip(frame["seed"], frame["at"], strict=True)}


def finite(trace: TraceLike, layer: str, estimator: str, share: float) -> Outcome:
    """Whether I(X;T) stays below a share of log₂ N at every look of every seed, errors and all.

    Args:
        trace: The trace.
        layer: The layer.
        estimator: The estimator's label; its own interval is what has to stay below.
        share: Of log₂ N, from which an estimate says no more than that all samples differ.
    """
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
    beyond = float(rows["lower"].max()) >= share * ceiling
    return Outcome("failed" if beyond else "inconclusive", number)

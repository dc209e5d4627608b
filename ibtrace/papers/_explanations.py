"""What is said to make I(X;T) fall: diffusion, saturation, clustering. Claims on what lenses read.

Each explanation is put to the same questions on the last hidden tanh layer: does it come when
I(X;T) peaks, does it change when I(X;T) changes, and are the layers that lose most those that it
befalls most?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd

from ibtrace.alignment import (
    DIFFUSION,
    PEAK,
    SATURATION,
    Event,
    Events,
    apart,
    events,
    module_of,
)
from ibtrace.claims import Claim, Outcome, within
from ibtrace.estimators import Binning
from ibtrace.papers.measures import (
    bracketed,
    by_call,
    drops,
    hidden,
    judged,
    rank_correlation,
    tracks,
)
from ibtrace.plane import interval
from ibtrace.types import TraceLike, label

PAPERS_BINS = label(Binning.idnns())
RANGED_BINS = label(Binning(bins=30, range="snapshot"))
SZT = "Shwartz-Ziv & Tishby 2017, fig. 4"
SAXE = "Saxe et al. 2018"
GOLDFELD = "Goldfeld et al. 2019"
SNR, SATURATED, NC1 = "gradient SNR", "saturated share", "NC1 within over between classes"
TOGETHER = 2.0
"""Two events come together if their epochs (counted from 1) differ by no more than this factor."""
TRACKS = 0.5
"""One quantity tracks another if the rank correlation of their differences is larger than this."""
SEEDS = 0.9
"""What an interval of the median must cover, as of 5 seeds it does."""

Traces = Mapping[str, TraceLike]


def _comes_with_the_peak(
    traces: Traces,
    event: Event,
    *,
    of_module: bool,
    together: float = TOGETHER,
    seeds: float = SEEDS,
) -> Outcome:
    """Whether an event of the last hidden layer is at the peak of its I(X;T), within a factor."""
    trace = traces["tanh"]
    layer = hidden(trace)[-1]
    place = module_of(trace, layer) if of_module else layer
    if place is None:
        return Outcome("inconclusive", f"which module makes {layer} is not known")
    happened = events(trace, [event, PEAK])
    distance = apart(happened, (event.name, place), (PEAK.name, layer, PAPERS_BINS))
    if not distance.seeds:
        return Outcome("inconclusive", f"neither happened in any of {len(trace.seeds)} networks")
    crossed = _when(happened, event.name, place)
    peaked = _when(happened, PEAK.name, layer, PAPERS_BINS)
    number = (
        f"{distance}: at {happened.clock} {crossed}, the peak at {peaked}; together is a factor "
        f"{together:g} (ours)"
    )
    if distance.coverage < seeds:
        return Outcome("inconclusive", f"{number}; too few networks")
    return Outcome(within(distance.lower, distance.upper, 1 / together, together), number)


def _when(happened: Events, event: str, layer: str, instrument: str | None = None) -> str:
    """The median over seeds of when an event happened, with its interval."""
    table = happened.table()
    rows = table[(table["event"] == event) & (table["layer"] == layer)]
    rows = rows if instrument is None else rows[rows["instrument"] == instrument]
    row = rows.iloc[0]
    median, lower, upper = (
        f"{row[end]:,.0f}" if np.isfinite(row[end]) else "never"
        for end in ("median", "lower", "upper")
    )
    return f"{median} [{lower}, {upper}]"


def _relu_follows(traces: Traces, most: float = 0.5) -> Outcome:
    """Whether ReLU's last hidden layer compresses, where its gradients turn to diffusion."""
    trace = traces["relu"]
    layer = hidden(trace)[-1]
    module = module_of(trace, layer)
    if module is None:
        return Outcome("inconclusive", f"which module makes {layer} is not known")
    frame = events(trace, [DIFFUSION]).frame
    turned = np.isfinite(frame.loc[frame["layer"] == module, "at"])
    (finding,) = judged(trace, RANGED_BINS, [layer])
    outcome = by_call(finding, "compresses")
    turns = f"the SNR falls below 1 in {turned.sum()} of {len(turned)} networks"
    status = outcome.status if turned.mean() > most else "inconclusive"
    return Outcome(status, f"{turns}; {outcome.number}")


def _tracks(traces: Traces, quantity: str, sign: int, least: float = TRACKS) -> Outcome:
    """Whether from its peak on I(X;T) of the last hidden layer changes as a quantity does."""
    trace = traces["tanh"]
    return tracks(trace, hidden(trace)[-1], PAPERS_BINS, quantity, least=least, sign=sign)


def _last(curve: pd.Series) -> float:
    return float(curve.iloc[-1])


def _fold(curve: pd.Series) -> float:
    """By how many powers of e a curve has fallen from its first look to its last."""
    return float(np.log(curve.iloc[0] / curve.iloc[-1]))


def _layers_that(
    traces: Traces,
    quantity: str,
    summary: Callable[[pd.Series], float],
    words: str,
    least: float = TRACKS,
    margin: float = PEAK.margin,
) -> Outcome:
    """Whether the hidden layers' falls of I(X;T) are ordered as what befell these layers."""
    trace = traces["tanh"]
    layers = hidden(trace)
    falls = pd.DataFrame({layer: drops(trace, PAPERS_BINS, layer) for layer in layers})
    readings = trace.readings()
    read = readings[(readings["quantity"] == quantity) & readings["layer"].isin(layers)]
    read = read[read["value"].notna()].sort_values(trace.clock)
    befell = read.groupby(["seed", "layer"])["value"].agg(summary).unstack()
    befell = befell.reindex(index=falls.index, columns=layers)
    whole = befell.notna().all(axis=1) & falls.notna().all(axis=1)
    ranks = np.array([rank_correlation(falls.loc[at], befell.loc[at]) for at in falls.index[whole]])
    if not len(ranks):
        return Outcome("inconclusive", "no network has both numbers of every hidden layer")
    mean = interval(ranks, between=(-1, 1))
    each = ", ".join(
        f"{layer} {falls[layer].mean():.2f} bits {befell[layer].mean():.2g}" for layer in layers
    )
    number = (
        f"rank correlation over {len(layers)} layers {bracketed(mean)}, "
        f"{len(ranks)} seeds ({words}: {each}); agreeing is {least:+g} or more (ours)"
    )
    means = falls.mean()
    if means.max() < margin or means.min() > means.max() / 2:
        return Outcome("inconclusive", f"{number}; all layers lose as much: nothing to order")
    return Outcome(within(mean.lower, mean.upper, least), number)


def _claim(
    name: str,
    source: str,
    statement: str,
    test: Callable[[Traces], Outcome],
    reads: Mapping[str, str],
    of: tuple[str, str] = ("tanh", PAPERS_BINS),
) -> Claim:
    return Claim(name, source, statement, test, needs=of[:1], by=of[1:], reads=reads)


_NOISE = {SNR: "gradient_noise"}
_ENDS = {SATURATED: "saturation"}
_CLASSES = {NC1: "neural_collapse"}

EXPLANATIONS = (
    _claim(
        "diffusion-starts-it",
        SZT,
        "Compression starts where the gradients turn from drift to diffusion: the SNR of the last "
        "hidden tanh layer falls below 1 when its I(X;T) peaks.",
        partial(_comes_with_the_peak, event=DIFFUSION, of_module=True),
        _NOISE,
    ),
    _claim(
        "diffusion-relu",
        "Shwartz-Ziv & Tishby 2017; doubted by Saxe et al. 2018",
        "Diffusion makes networks compress, with ReLU too: where the SNR of the last hidden layer "
        "falls below 1, its I(X;T) falls (bins over the range of the data).",
        _relu_follows,
        _NOISE,
        of=("relu", RANGED_BINS),
    ),
    _claim(
        "saturation-starts-it",
        SAXE,
        "Saturation makes tanh layers compress: 0.1 of the last hidden layer is saturated when "
        "its I(X;T) peaks.",
        partial(_comes_with_the_peak, event=SATURATION, of_module=False),
        _ENDS,
    ),
    _claim(
        "saturation-tracks",
        SAXE,
        "From its peak on, I(X;T) of the last hidden tanh layer falls as its saturated share "
        "rises.",
        partial(_tracks, quantity=SATURATED, sign=-1),
        _ENDS,
    ),
    _claim(
        "saturation-layers",
        SAXE,
        "The tanh layers that compress are those that saturate.",
        partial(_layers_that, quantity=SATURATED, summary=_last, words="fall, saturated share"),
        _ENDS,
    ),
    _claim(
        "clustering-tracks",
        GOLDFELD,
        "Binned I(X;T) measures clustering: from its peak on, that of the last hidden tanh layer "
        "falls as the spread within classes over that between them does (NC1).",
        partial(_tracks, quantity=NC1, sign=1),
        _CLASSES,
    ),
    _claim(
        "clustering-layers",
        GOLDFELD,
        "The tanh layers that compress are those whose classes cluster (NC1 falls).",
        partial(_layers_that, quantity=NC1, summary=_fold, words="fall, powers of e that NC1 fell"),
        _CLASSES,
    ),
)
"""Claims on the explanations; they need what lenses read."""

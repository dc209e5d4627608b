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
from scipy.stats import spearmanr

from ibtrace.alignment import (
    DIFFUSION,
    PEAK,
    SATURATION,
    Event,
    apart,
    coincidence,
    events,
    module_of,
)
from ibtrace.claims import Claim, Outcome, within
from ibtrace.errors import InvalidInput
from ibtrace.estimators import Binning
from ibtrace.plane import interval, phases, verdict
from ibtrace.types import I_XT, TraceLike, label

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
_SEEDS = 0.9  # what an interval of the median must cover, as of 5 seeds it does

Traces = Mapping[str, TraceLike]


def _last_hidden(trace: TraceLike) -> str:
    return trace.layers[-2]


def _comes_with_the_peak(traces: Traces, event: Event, *, of_module: bool) -> Outcome:
    """Whether an event of the last hidden layer is at the peak of its I(X;T), within a factor."""
    trace = traces["tanh"]
    layer = _last_hidden(trace)
    place = module_of(trace, layer) if of_module else layer
    if place is None:
        return Outcome("inconclusive", f"which module makes {layer} is not known")
    happened = events(trace, [event, PEAK])
    distance = apart(happened, (event.name, place), (PEAK.name, layer, PAPERS_BINS))
    if not distance.seeds:
        return Outcome("inconclusive", f"neither happened in any of {len(trace.seeds)} networks")
    number = f"{distance}; together is a factor {TOGETHER:g} (ours)"
    if distance.coverage < _SEEDS:
        return Outcome("inconclusive", f"{number}; too few networks")
    return Outcome(within(distance.lower, distance.upper, 1 / TOGETHER, TOGETHER), number)


def _relu_follows(traces: Traces) -> Outcome:
    """Whether ReLU's last hidden layer compresses, where its gradients turn to diffusion."""
    trace = traces["relu"]
    layer = _last_hidden(trace)
    module = module_of(trace, layer)
    if module is None:
        return Outcome("inconclusive", f"which module makes {layer} is not known")
    frame = events(trace, [DIFFUSION]).frame
    turned = np.isfinite(frame.loc[frame["layer"] == module, "at"])
    judged = verdict(trace, estimators=[RANGED_BINS]).of(layer, RANGED_BINS)
    fall = judged.evidence.held_out
    number = (
        f"the SNR falls below 1 in {turned.sum()} of {len(turned)} networks; {layer} "
        f"{judged.call}, held-out fall {fall.mean:.2f} bits [{fall.lower:.2f}, {fall.upper:.2f}]"
    )
    if turned.mean() <= 0.5:
        return Outcome("inconclusive", number)
    if judged.call == "inconclusive":
        return Outcome("inconclusive", f"{number}; {judged.cause}")
    return Outcome("held" if judged.call == "compresses" else "failed", number)


def _tracks(traces: Traces, quantity: str, sign: int) -> Outcome:
    """Whether from its peak on I(X;T) of the last hidden layer changes as a quantity does."""
    trace = traces["tanh"]
    layer = _last_hidden(trace)
    peaks = events(trace, [PEAK]).frame
    peaks = peaks[(peaks["layer"] == layer) & (peaks["instrument"] == PAPERS_BINS)]
    happened = peaks[np.isfinite(peaks["at"])]
    since = {
        int(seed): float(at) for seed, at in zip(happened["seed"], happened["at"], strict=True)
    }
    if not since:
        return Outcome("inconclusive", f"{layer} has no peak in any of {len(peaks)} networks")
    try:
        pair = coincidence(
            trace, [I_XT], [quantity], layers=[layer], instrument=PAPERS_BINS, since=since
        )
    except InvalidInput as error:
        return Outcome("inconclusive", str(error))
    (row,) = pair.to_dict("records")
    lower, upper = sorted((sign * row["lower"], sign * row["upper"]))
    number = (
        f"rank correlation of {row['points']} differences in log-epoch from the peak on "
        f"{row['correlation']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}], {row['seeds']} "
        f"seeds; tracking is {sign * TRACKS:+g} or beyond (ours)"
    )
    return Outcome(within(lower, upper, TRACKS), number)


def _last(curve: pd.Series) -> float:
    return float(curve.iloc[-1])


def _fold(curve: pd.Series) -> float:
    """By how many powers of e a curve has fallen from its first look to its last."""
    return float(np.log(curve.iloc[0] / curve.iloc[-1]))


def _layers_that(
    traces: Traces, quantity: str, summary: Callable[[pd.Series], float], words: str
) -> Outcome:
    """Whether the hidden layers' falls of I(X;T) are ordered as what befell these layers."""
    trace = traces["tanh"]
    hidden = list(trace.layers[:-1])
    frame = trace.frame()
    bits = frame[(frame["quantity"] == I_XT) & (frame["estimator"] == PAPERS_BINS)]
    falls = phases(bits[bits["layer"].isin(hidden)]).pivot(
        index="seed", columns="layer", values="compression_bits"
    )
    readings = trace.readings()
    read = readings[(readings["quantity"] == quantity) & readings["layer"].isin(hidden)]
    read = read[read["value"].notna()].sort_values(trace.clock)
    befell = read.groupby(["seed", "layer"])["value"].agg(summary).unstack()
    befell = befell.reindex(index=falls.index, columns=hidden)
    whole = befell.notna().all(axis=1) & falls[hidden].notna().all(axis=1)
    ranks = np.array(
        [_rank_correlation(falls.loc[at, hidden], befell.loc[at]) for at in falls.index[whole]]
    )
    if not len(ranks):
        return Outcome("inconclusive", "no network has both numbers of every hidden layer")
    mean, lower, upper = interval(ranks)
    each = ", ".join(
        f"{layer} {falls[layer].mean():.2f} bits {befell[layer].mean():.2g}" for layer in hidden
    )
    number = (
        f"rank correlation over {len(hidden)} layers {mean:+.2f} [{lower:+.2f}, {upper:+.2f}], "
        f"{len(ranks)} seeds ({words}: {each}); agreeing is {TRACKS:+g} or more (ours)"
    )
    means = falls[hidden].mean()
    if means.max() < PEAK.margin or means.min() > means.max() / 2:
        return Outcome("inconclusive", f"{number}; all layers lose as much: nothing to order")
    return Outcome(within(lower, upper, TRACKS), number)


def _rank_correlation(a: pd.Series, b: pd.Series) -> float:
    """Spearman's; 0 where one does not vary, as then it tells nothing of the other."""
    if a.nunique() < 2 or b.nunique() < 2:
        return 0.0
    return float(spearmanr(a, b).statistic)


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

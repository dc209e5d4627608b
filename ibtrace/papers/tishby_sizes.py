"""Claims of Shwartz-Ziv & Tishby (2017) on the number of training samples: 5, 45 and 85 %."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ibtrace.claims import Claim, Outcome, within
from ibtrace.estimators import Binning
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import Floats, curves, decided, drops
from ibtrace.plane import interval
from ibtrace.types import I_TY, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = label(Binning.idnns())
SZT = "Shwartz-Ziv & Tishby 2017"
PERCENTS = (5, 45, 85)
LEAST = 0.1
"""Bits that I(T;Y) has to fall by from its peak (ours)."""

Traces = Mapping[str, TraceLike]


def variants(activation: str) -> dict[str, dict[str, object]]:
    """The runs of one activation, one for each percentage of the data that is trained on."""
    return {
        f"{activation}-{percent}": {
            "model.init_args.activation": activation,
            "split.fraction": percent / 100,
        }
        for percent in PERCENTS
    }


_RUNS = tuple(variants("tanh"))


def _last(trace: TraceLike) -> str:
    """The last hidden layer."""
    return trace.layers[-2]


def _about_y(trace: TraceLike) -> Floats:
    """I(T;Y) of the last hidden layer at the end, of each seed."""
    last: Floats = curves(trace, I_TY, BINS, _last(trace)).to_numpy(dtype=float)[:, -1]
    return last


def _drop(trace: TraceLike) -> Floats:
    """The peak-to-final drop of I(X;T) of the last hidden layer, of each seed."""
    fall: Floats = drops(trace, BINS, _last(trace)).to_numpy(dtype=float)
    return fall


# --- claims --------------------------------------------------------------------------------------


def _grows(traces: Traces, read: Callable[[TraceLike], Floats], what: str) -> Outcome:
    """Whether a number grows from each size to the next, seeds paired by their initial weights."""
    numbers = [read(traces[run]) for run in _RUNS]
    means = ", ".join(
        f"{mean:.2f} [{lower:.2f}, {upper:.2f}] at {percent} %"
        for percent, (mean, lower, upper) in zip(PERCENTS, map(interval, numbers), strict=True)
    )
    if len({len(each) for each in numbers}) > 1:
        return Outcome("inconclusive", f"{what}: {means}; not of the same seeds")
    steps = [interval(more - less) for less, more in pairwise(numbers)]
    told = ", ".join(f"{s.mean:+.2f} [{s.lower:+.2f}, {s.upper:+.2f}]" for s in steps)
    number = f"{what}: {means} bits; from size to size {told}, {len(numbers[0])} seeds"
    ends = {within(step.lower, step.upper, 0.0) for step in steps}
    if ends == {"held"}:
        return Outcome("held", number)
    return Outcome("failed" if "failed" in ends else "inconclusive", number)


def _label_lost(traces: Traces, run: str, least: float = LEAST) -> Outcome:
    """Whether I(T;Y) of the last hidden layer falls after its peak."""
    trace = traces[run]
    bits = curves(trace, I_TY, BINS, _last(trace)).to_numpy(dtype=float)
    mean = bits.mean(axis=0)
    # each seed from where the mean of the others peaks: its own noise then chooses no peak
    others = (bits.sum(axis=0) - bits) / (len(bits) - 1) if len(bits) > 1 else bits
    fall = bits[np.arange(len(bits)), others.argmax(axis=1)] - bits[:, -1]
    outcome = decided(fall, "bits of I(T;Y) lost after the peak, held out", least)
    return Outcome(outcome.status, f"{outcome.number}; it ends at {mean[-1]:.2f} bits")


def _claim(name: str, statement: str, test: Callable[[Traces], Outcome], *runs: str) -> Claim:
    return Claim(name, SZT, statement, test, needs=runs or _RUNS, by=(BINS,))


CLAIMS = (
    _claim(
        "more-label",
        "More training data moves I(T;Y) up: that of the last hidden layer ends higher from 5 to "
        "45 to 85 %.",
        partial(_grows, read=_about_y, what="I(T;Y) at the end"),
    ),
    _claim(
        "more-compression",
        "More training data compresses more: I(X;T) of the last hidden layer drops by more from 5 "
        "to 45 to 85 %.",
        partial(_grows, read=_drop, what="drop of I(X;T)"),
    ),
    _claim(
        "label-lost",
        "With few training data the compression loses what the layer knew of the label: I(T;Y) of "
        "the last hidden layer falls after its peak (5 %).",
        partial(_label_lost, run=_RUNS[0]),
        _RUNS[0],
    ),
)


def figure(traces: Traces) -> Figure:
    """The information planes on 5, 45 and 85 % of the data, side by side."""
    from ibtrace.plots import information_planes  # loads matplotlib

    titled = {f"{100 * _fraction(each):.0f} % of the data": each for each in traces.values()}
    return information_planes(titled, BINS)


def _fraction(trace: TraceLike) -> float:
    return float(trace.meta["config"]["split"]["fraction"])


PAPER = Paper(
    "tishby-sizes",
    "Shwartz-Ziv & Tishby 2017, the number of training samples",
    CLAIMS,
    full={"seeds": 50},
    variants=variants,
    activations=("tanh",),
    figures={"sizes": figure},
)

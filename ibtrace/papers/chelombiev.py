"""Claims of Chelombiev et al. (2019): estimators that adapt to the activations, and L2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import kruskal

from ibtrace.claims import Claim, Outcome, within
from ibtrace.estimators import KDE, AdaptiveBinning, Subsampled
from ibtrace.papers._paper import Paper, Variants
from ibtrace.papers.measures import by_call, decided, drops, hidden, judged
from ibtrace.plane import Rule
from ibtrace.types import I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHELOMBIEV = "Chelombiev et al. 2019"
BINS = label(AdaptiveBinning(bins=30))
"""Their entropy-based adaptive binning: bins of equal mass, of each layer at each look."""


def adaptive_noise(noise_variance: float = 1e-3, samples: int = 1024) -> Subsampled:
    """Their adaptive KDE: noise that grows with the layer's largest activation.

    Args:
        noise_variance: Of the noise, by the largest activation.
        samples: On how many samples, as it takes the square of their number.
    """
    kde = KDE(noise_variance=noise_variance, noise="adaptive")
    return Subsampled(kde, samples=samples)


NOISE = label(adaptive_noise())
ACTIVATIONS = ("tanh", "relu", "elu", "softplus")
REGULARISED = ("tanh", "relu")
"""Activations that also have networks with L2; chains of them train all seeds in one pass."""
RULE = Rule()
"""What counts as compression, by default."""
SOME = 0.2
"""The share of the networks that some of them are (ours)."""

Traces = Mapping[str, TraceLike]


def variants(activation: str) -> Variants:
    """The runs of one activation: without, and for some with L2."""
    own: dict[str, Any] = {"model.init_args.activation": activation}
    runs = {activation: own if activation in REGULARISED else {**own, "together": True}}
    if activation in REGULARISED:
        runs[f"{activation}-l2"] = {**own, "optimizer.init_args.weight_decay": 1e-3}
    return runs


# --- claims -------------------------------------------------------------------------------------


def _compresses(traces: Traces, run: str, by: str, rule: Rule = RULE) -> Outcome:
    """The verdict on the last hidden layer."""
    (finding,) = judged(traces[run], by, hidden(traces[run])[-1:], rule=rule)
    return by_call(finding, "compresses")


def _some_do(traces: Traces, run: str, some: float = SOME, rule: Rule = RULE) -> Outcome:
    """Whether some networks compress and others do not."""
    (finding,) = judged(traces[run], BINS, hidden(traces[run])[-1:], rule=rule)
    seeds = finding.evidence.seeds
    fell, kept = len(seeds.falling), len(seeds.kept)
    each = ", ".join(f"{drop:.2f}" for drop in sorted(finding.evidence.drops.values()))
    number = (
        f"{finding.layer} falls for good in {fell} of {kept} networks (drops from the peak {each} "
        f"bits); some is {some:g} or more of them (ours)"
    )
    if kept < rule.least_seeds:
        return Outcome("inconclusive", number)
    if some <= seeds.share <= 1 - some:
        return Outcome("held", number)
    return Outcome("failed" if seeds.share in (0.0, 1.0) else "inconclusive", number)


def _activations_differ(traces: Traces, level: float = 0.05) -> Outcome:
    """Whether the drops of the last hidden layer differ between activations."""
    each = {run: _drops(traces[run]) for run in ACTIVATIONS}
    p = float(kruskal(*each.values()).pvalue)
    means = ", ".join(f"{run} {values.mean():.2f}" for run, values in each.items())
    number = f"mean drops {means} bits; p = {p:.2g} that they are alike (Kruskal-Wallis)"
    # a large p is no proof that they are alike
    return Outcome("held" if p < level else "inconclusive", number)


def _l2_compresses(traces: Traces, activation: str, least: float = 0.0) -> Outcome:
    """Whether the last hidden layer drops by more with L2, from the same initial weights."""
    plain, decayed = (_drops(traces[run]) for run in (activation, f"{activation}-l2"))
    outcome = decided((decayed - plain).dropna(), "bits more with L2", least)
    number = f"{outcome.number} (drops of {decayed.mean():.2f} with, {plain.mean():.2f} without)"
    return Outcome(outcome.status, number)


def _l2_fits_less(traces: Traces, activation: str, least: float = 0.0) -> Outcome:
    """Whether the gap between training and test accuracy is narrower with L2."""
    plain, decayed = (
        _accuracy(traces[run], "train") - _accuracy(traces[run], "test")
        for run in (activation, f"{activation}-l2")
    )
    outcome = decided((100 * (plain - decayed)).dropna(), "points of accuracy less", least)
    number = f"{outcome.number} ({100 * decayed.mean():.2f} with, {100 * plain.mean():.2f} without)"
    return Outcome(outcome.status, number)


def _output_generalises(traces: Traces, least: float = 0.0, confidence: float = 0.95) -> Outcome:
    """Whether networks whose output layer compresses more are better on test samples."""
    ranks = []
    for run in ACTIVATIONS:
        trace = traces[run]
        both = pd.DataFrame(
            {"drop": _drops(trace, trace.layers[-1]), "accuracy": _accuracy(trace, "test")}
        ).dropna()
        own = both.rank()
        ranks.append((own - own.mean()) / max(len(own), 1))  # within an activation alone
    table = pd.concat(ranks)
    correlation = float(table["drop"].corr(table["accuracy"]))
    lower, upper = _fisher(correlation, len(table) - len(ranks), confidence)
    number = (
        f"rank correlation over {len(table)} networks, within activations, {correlation:+.2f} "
        f"[{lower:+.2f}, {upper:+.2f}]"
    )
    return Outcome(within(lower, upper, least), number)


def _fisher(correlation: float, freedom: int, confidence: float) -> tuple[float, float]:
    """The interval of a correlation by Fisher's z; NaN of too few."""
    from scipy.stats import norm

    if freedom < 3 or not math.isfinite(correlation):
        return math.nan, math.nan
    z = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    half = float(norm.ppf((1 + confidence) / 2)) / math.sqrt(freedom - 2)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _drops(trace: TraceLike, layer: str | None = None) -> pd.Series:
    """The peak-to-final drop of the last hidden layer, or another, by seed, in their bins."""
    return drops(trace, BINS, layer or hidden(trace)[-1])


def _accuracy(trace: TraceLike, part: str) -> pd.Series:
    """The accuracy at the last look, by seed."""
    scalars = trace.scalars()
    own = scalars[scalars["name"] == f"{part}_accuracy"].sort_values("epoch")
    return own.groupby("seed")["value"].last()


def _claim(name: str, statement: str, test: Any, *needs: str, by: str = BINS) -> Claim:
    return Claim(name, CHELOMBIEV, statement, test, needs=needs, by=(by,))


def _of_activation(activation: str) -> tuple[Claim, ...]:
    start = "The" if activation == "tanh" else "Saturation is not needed: the"
    ways = {"bins": ("bins of equal mass", BINS), "noise": ("adaptive noise", NOISE)}
    return tuple(
        _claim(
            f"{activation}-{name}",
            f"{start} last hidden {activation} layer compresses ({way}).",
            partial(_compresses, run=activation, by=by),
            activation,
            by=by,
        )
        for name, (way, by) in ways.items()
    )


def _of_l2(activation: str) -> tuple[Claim, Claim]:
    runs = (activation, f"{activation}-l2")
    return (
        _claim(
            f"l2-{activation}",
            f"L2 increases compression: the last hidden {activation} layer drops by more (bins of "
            "equal mass).",
            partial(_l2_compresses, activation=activation),
            *runs,
        ),
        _claim(
            f"l2-overfitting-{activation}",
            "L2 prevents overfitting: the gap between training and test accuracy is narrower "
            f"({activation}).",
            partial(_l2_fits_less, activation=activation),
            *runs,
        ),
    )


CLAIMS = (
    *(claim for activation in ACTIVATIONS for claim in _of_activation(activation)),
    _claim(
        "activations-differ",
        "The amount of compression differs between activation functions (last hidden layer, bins "
        "of equal mass).",
        _activations_differ,
        *ACTIVATIONS,
    ),
    *(
        _claim(
            f"initialisations-{activation}",
            f"It depends on the initialisation: some {activation} networks compress and others "
            "do not (last hidden layer, bins of equal mass).",
            partial(_some_do, run=activation),
            activation,
        )
        for activation in ("relu", "elu")
    ),
    *(claim for activation in REGULARISED for claim in _of_l2(activation)),
    _claim(
        "output-generalises",
        "Compression of the output layer goes with generalisation: networks of one activation "
        "whose softmax layer drops by more have a higher test accuracy (bins of equal mass).",
        _output_generalises,
        *ACTIVATIONS,
    ),
)


def figure(traces: Traces) -> Figure:
    """I(X;T) by both adaptive estimators, a column for each run."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    measures = (
        Measure(I_XT, BINS, "I(X;T), bins of\nequal mass (bits)"),
        Measure(I_XT, NOISE, "I(X;T), adaptive\nnoise (bits)"),
    )
    titles = {name: name.replace("-l2", " with L2") for name in traces}
    return beside({titles[name]: trace for name, trace in traces.items()}, measures)


PAPER = Paper(
    "chelombiev",
    "Chelombiev, Houghton & O'Donnell 2019, Adaptive Estimators Show Information Compression in "
    "Deep Neural Networks",
    CLAIMS,
    full={"seeds": 50, "epochs": 8000},
    variants=variants,
    activations=ACTIVATIONS,
    figures={"adaptive": figure},
)

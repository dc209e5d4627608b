"""Claims on random labels (Zhang et al. 2017), and what memorising does to I(X;T)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ibtrace.claims import Claim, Outcome, within
from ibtrace.estimators import Binning
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import (
    all_of,
    bracketed,
    by_call,
    by_count,
    curves,
    hidden,
    judged,
    last_bits,
    last_reading,
)
from ibtrace.plane import Interval, interval
from ibtrace.types import I_TY, I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOUND, COMPLEXITY, TRAVEL = (
    "PAC-Bayes bound",
    "margin-normalised complexity",
    "twin distance over travel",
)
BINS = label(Binning(bins=30, range="snapshot"))
ZHANG = "Zhang et al. 2017"
FITTED = 0.99
"""Training accuracy from which a network counts as having fitted its labels."""
NEAR_CEILING = 0.95
"""Share of log₂ N from which nearly every sample has a bin of its own."""
FRACTIONS = (0, 25, 50, 75, 100)
MAJORITY = 0.5
"""The error of the larger of two classes, which a bound has to be below to say anything."""
BLIND = 2.0
"""A measure that differs by less than this factor does not tell two networks apart."""
MOST_FACTOR = 10.0
"""The factor below which fitting random labels takes longer."""

Traces = Mapping[str, TraceLike]


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The runs of one activation, one for each fraction of random labels in percent."""
    bounded = activation in ("tanh", "sigmoid")
    return {
        f"{activation}-{percent}": {
            "model.init_args.activation": activation,
            "model.init_args.init": "xavier" if bounded else "he",
            "optimizer.init_args.lr": 5e-3 if bounded else 2e-3,
            "data.init_args.fraction": percent / 100,
        }
        for percent in FRACTIONS
    }


def measured(traces: Traces, fitted: float = FITTED) -> pd.DataFrame:
    """One row a network, from the last look of each run.

    Args:
        traces: By variant; the activation and the fraction are read from their configurations.
        fitted: Training accuracy from which a network has fitted its labels.

    Returns:
        ``activation, fraction, seed``; ``train`` and ``test`` accuracy, their difference ``gap``;
        ``fitted``; ``epochs``, the first look at which it has (NaN if it never does); ``bits``
        and ``share``, I(X;T) of the last hidden layer and that over log₂ N; and what lenses read:
        ``bound`` (PAC-Bayes), ``complexity`` (spectral, normalised by the margin), ``travel`` (a
        twin's distance, trained with one sample replaced, over that from the initial weights).
    """
    rows = [row for trace in traces.values() for row in _of_run(trace, fitted)]
    return pd.DataFrame(rows)


def _of_run(trace: TraceLike, fitted: float) -> list[dict[str, Any]]:
    configured = trace.meta["config"]
    scalars = trace.scalars()
    layer = hidden(trace)[-1]
    bits = last_bits(trace, I_XT, BINS, layer)
    read = {
        column: last_reading(trace, quantity)
        for column, quantity in (("bound", BOUND), ("complexity", COMPLEXITY), ("travel", TRAVEL))
    }
    rows = []
    for seed in trace.seeds:
        own = scalars[scalars["seed"] == seed]
        train, test = (
            own[own["name"] == f"{part}_accuracy"].set_index("epoch")["value"].sort_index()
            for part in ("train", "test")
        )
        reached = train.index[train >= fitted]
        final = float(bits.get(seed, np.nan))
        rows.append(
            {
                "activation": configured["model"]["init_args"]["activation"],
                "fraction": float(configured["data"]["init_args"]["fraction"]),
                "seed": seed,
                "train": train.iloc[-1],
                "test": test.iloc[-1],
                "gap": train.iloc[-1] - test.iloc[-1],
                "fitted": bool(train.iloc[-1] >= fitted),
                "epochs": float(reached[0]) if len(reached) else np.nan,
                "layer": layer,
                "bits": final,
                "share": final / float(trace.meta["input_entropy"]),
                **{column: float(values.get(seed, np.nan)) for column, values in read.items()},
            }
        )
    return rows


# --- claims -------------------------------------------------------------------------------------


def _of(traces: Traces, activation: str, fitted: float = FITTED) -> pd.DataFrame:
    table = measured(traces, fitted)
    return table[table["activation"] == activation]


def _paired(table: pd.DataFrame, column: str, low: float, high: float) -> tuple[Any, Any]:
    """A number of each seed at two fractions, of seeds that fitted at both."""
    fitted = table[table["fitted"]]
    wide = fitted.pivot(index="seed", columns="fraction", values=column)
    both = wide.reindex(columns=[low, high]).dropna()
    return both[low].to_numpy(dtype=float), both[high].to_numpy(dtype=float)


def _memorised(traces: Traces, activation: str, fitted: float = FITTED) -> Outcome:
    table = _of(traces, activation, fitted)
    last = table[table["fraction"] == 1]
    count = int(last["fitted"].sum())
    number = (
        f"{count} of {len(last)} networks end with at least {fitted} on coin-flip labels "
        f"(lowest {last['train'].min():.3f})"
    )
    return Outcome(by_count(count, len(last)), number)


def _takes_longer(traces: Traces, activation: str, most: float = MOST_FACTOR) -> Outcome:
    true, random = _paired(_of(traces, activation), "epochs", 0.0, 1.0)
    if not len(true):
        return Outcome("inconclusive", "no network fitted both")
    ratio = Interval(*np.exp(interval(np.log(random / true))))  # of a ratio, the geometric mean
    number = (
        f"{bracketed(ratio, 1)} times as many epochs (median {np.median(true):.0f} "
        f"with true, {np.median(random):.0f} with random labels), {len(true)} seeds that fitted"
    )
    return Outcome(within(ratio.lower, ratio.upper, 1.0, most), number)


def _gap_grows(traces: Traces, activation: str, least: float = 0.0) -> Outcome:
    table = _of(traces, activation)
    fractions = sorted(table["fraction"].unique())
    steps = []
    for low, high in pairwise(fractions):
        before, after = _paired(table, "gap", low, high)
        steps.append(interval(after - before))
    means = table[table["fitted"]].groupby("fraction")["gap"].mean()
    number = f"gap {', '.join(f'{gap:.2f}' for gap in means)} at fractions " + ", ".join(
        f"{fraction:g}" for fraction in means.index
    )
    return Outcome(all_of([within(step.lower, step.upper, least) for step in steps]), number)


def _random_keeps_more(
    traces: Traces, activation: str, least: float = 0.0, near: float = NEAR_CEILING
) -> Outcome:
    table = _of(traces, activation)
    true, random = _paired(table, "share", 0.0, 1.0)
    if not len(true):
        return Outcome("inconclusive", "no network fitted both")
    more = interval(random - true)
    number = (
        f"I(X;T)/log2 N of {table['layer'].iloc[0]} {true.mean():.2f} with true and "
        f"{random.mean():.2f} with random labels, {bracketed(more)} more, "
        f"{len(true)} seeds that fitted both"
    )
    if random.mean() >= near:
        number += "; random labels leave it at the ceiling, so the difference is at least that"
    return Outcome(within(more.lower, more.upper, least), number)


def _bound_is_vacuous(traces: Traces, activation: str, majority: float = MAJORITY) -> Outcome:
    table = _of(traces, activation)
    true, random = (table.loc[table["fraction"] == f, "bound"].dropna() for f in (0.0, 1.0))
    bound = interval(true.to_numpy())
    number = (
        f"the bound is {bracketed(bound)} with true labels, where the test error is "
        f"{1 - table.loc[table['fraction'] == 0, 'test'].mean():.2f}, and {random.mean():.2f} "
        f"with random ones, {len(true)} seeds"
    )
    return Outcome(within(bound.lower, bound.upper, majority), number)


def _capacity_is_blind(traces: Traces, activation: str, factor: float = BLIND) -> Outcome:
    true, random = _paired(_of(traces, activation), "complexity", 0.0, 1.0)
    if not len(true):
        return Outcome("inconclusive", "no network fitted both")
    ratio = Interval(*np.exp(interval(np.log(random / true))))
    number = f"{bracketed(ratio, 1)} times as large with random labels, {len(true)} seeds"
    return Outcome(within(ratio.lower, ratio.upper, 1 / factor, factor), number)


def _less_stable(traces: Traces, activation: str, least: float = 0.0) -> Outcome:
    true, random = _paired(_of(traces, activation), "travel", 0.0, 1.0)
    if not len(true):
        return Outcome("inconclusive", "no network fitted both")
    more = interval(random - true)
    number = (
        f"one sample replaced moves the weights by {true.mean():.2f} of their way with true and "
        f"{random.mean():.2f} with random labels, {bracketed(more)} more, {len(true)} seeds"
    )
    return Outcome(within(more.lower, more.upper, least), number)


def _compression(
    traces: Traces, activation: str, percent: int, wanted: str, near: float = NEAR_CEILING
) -> Outcome:
    """A verdict on the last hidden layer where the fit and the ceiling allow one."""
    trace = traces[f"{activation}-{percent}"]
    layer = hidden(trace)[-1]
    table = measured({"": trace})
    fitted = int(table["fitted"].sum())
    share = float(table["share"].mean())
    start = float(curves(trace, I_TY, BINS, layer).iloc[:, 0].mean())
    number = f"I(X;T) ends at {share:.3f} of log2 N; I(T;Y) was {start:.2f} bits before training"
    if fitted < len(table):
        number = f"{number}; {len(table) - fitted} of {len(table)} networks have not fitted"
        return Outcome("inconclusive", f"no verdict: {number}")
    if share >= near:
        return Outcome(
            "inconclusive", f"no verdict: nearly every sample has a bin of its own: {number}"
        )
    (finding,) = judged(trace, BINS, [layer])
    outcome = by_call(finding, wanted)
    return Outcome(outcome.status, f"{outcome.number}; {number}")


def _claims(activation: str) -> tuple[Claim, ...]:
    ends = f"{activation}-0", f"{activation}-100"
    all_of_them = tuple(f"{activation}-{percent}" for percent in FRACTIONS)

    def claim(
        name: str,
        source: str,
        statement: str,
        test: Callable[..., Outcome],
        needs: tuple[str, ...],
        reads: Mapping[str, str] | None = None,
    ) -> Claim:
        return Claim(
            f"{name}-{activation}", source, f"{statement} ({activation})",
            partial(test, activation=activation), needs=needs, by=(BINS,), reads=reads or {},
        )  # fmt: skip

    return (
        claim(
            "memorisation", ZHANG, "Networks fit labels that are coin flips.", _memorised, ends[1:]
        ),
        claim(
            "time-to-fit",
            ZHANG,
            f"Fitting random labels takes longer, by a factor below {MOST_FACTOR:g}.",
            _takes_longer,
            ends,
        ),
        claim(
            "gap",
            ZHANG,
            "The gap between training and test accuracy grows with the fraction of random labels.",
            _gap_grows,
            all_of_them,
        ),
        claim(
            "bound-vacuous",
            "after Zhang et al. 2017; Dziugaite & Roy 2017",
            "A PAC-Bayes bound around the trained weights does not see that a network with true "
            "labels generalises: it is above the error of the majority class.",
            _bound_is_vacuous,
            ends,
            {BOUND: "pac_bayes"},
        ),
        claim(
            "capacity-blind",
            ZHANG,
            "Capacity measures do not tell a network that memorised from one that learnt a rule: "
            f"the margin-normalised spectral complexity is the same to a factor of {BLIND:g}.",
            _capacity_is_blind,
            ends,
            {COMPLEXITY: "norms"},
        ),
        claim(
            "less-stable",
            "after Hardt, Recht & Singer 2016",
            "Training on random labels is less stable: a sample that is replaced moves the weights "
            "by a larger share of their way.",
            _less_stable,
            ends,
            {TRAVEL: "stability"},
        ),
        claim(
            "random-keeps-more",
            "after Shwartz-Ziv & Tishby 2017",
            "A network that memorised random labels keeps more of I(X;T) in its last hidden layer "
            "than one that learnt a rule.",
            _random_keeps_more,
            ends,
        ),
        claim(
            "compression-true",
            "Shwartz-Ziv & Tishby 2017",
            "With true labels I(X;T) of the last hidden layer falls after a peak.",
            partial(_compression, percent=0, wanted="compresses"),
            ends[:1],
        ),
        claim(
            "compression-random",
            "Shwartz-Ziv & Tishby 2017",
            "With random labels, which nothing but memory fits, it does not.",
            partial(_compression, percent=100, wanted="does not compress"),
            ends[1:],
        ),
    )


def figure(traces: Traces) -> Figure:
    """Epochs to fit, gap, I(X;T)/log₂ N, bound and stability by the fraction of random labels."""
    from ibtrace.plots import Panel, against  # loads matplotlib

    table = measured(traces)
    table = table.rename(columns={"activation": "group", "fraction": "x", "fitted": "counts"})
    panels = (
        Panel("epochs", f"epochs to training accuracy {FITTED:g}", log=True),
        Panel("gap", "training minus test accuracy"),
        Panel(
            "share", f"I(X;T) / log₂ N, {table['layer'].iloc[0]}", line=(1.0, "every sample apart")
        ),
        Panel("bound", "PAC-Bayes bound on the error", line=(MAJORITY, "majority class")),
        Panel("travel", "twin's distance over travel"),
    )
    seen = tuple(panel for panel in panels if table[panel.column].notna().any())
    return against(table, seen, "fraction of random labels", "networks that did not fit")


PAPER = Paper(
    "zhang",
    "Zhang et al. 2017, Understanding Deep Learning Requires Rethinking Generalization",
    (*_claims("tanh"), *_claims("relu")),
    variants=variants,
    activations=("tanh", "relu"),
    figures={"fractions": figure},
)

"""Claims of Saxe et al. (2018): what compresses, under which bins, and whether it tells of fit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from ibtrace.claims import Claim, Outcome, within
from ibtrace.estimators import Binning
from ibtrace.papers._paper import Paper, Variants
from ibtrace.papers.measures import all_of, bracketed, by_call, curves, decided, hidden, judged
from ibtrace.plane import Rule, interval
from ibtrace.types import I_TY, I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAXE = "Saxe et al. 2018"
WIDTH = label(Binning.ibsgd(0.07))
"""Their bins on the 12-bit task."""
RANGE = label(Binning(bins=30, range="snapshot"))
MNIST_WIDTH = label(Binning.ibsgd(0.5))
"""Their bins on MNIST."""
RULE = Rule()
"""What counts as compression, by default."""
PART = 0.05
"""Bits by which I(T;Y) has to be larger on training than on test samples (ours)."""
OVERFIT = 0.02
"""The gap in accuracy from which networks overfit (ours)."""
MNIST_RUNS = ("mnist-tanh", "mnist-relu")
FEW = ("tanh-few-train", "tanh-few-test")
"""The same networks, measured on training and on test samples."""

Traces = Mapping[str, TraceLike]

_FULL_BATCH: Mapping[str, Any] = {
    "batch_size": 4096,
    "epochs": 5000,
    "optimizer.init_args.lr": 2e-3,
}
_FEW: Mapping[str, Any] = {"split.fraction": 0.3, "epochs": 2000, "probe.samples": 1200}
_MNIST: Mapping[str, Any] = {
    "data": {
        "class_path": "ibtrace.datasets.mnist",
        "init_args": {"part": "test", "fallback": "digits"},
    },
    "model.init_args.widths": [784, 1024, 20, 20, 20, 10],
    "model.init_args.init": "default",
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
    "epochs": 60,
    "seeds": 3,
    "batch_size": 128,
    "split": {"fraction": 0.2, "how": "stratified"},
    "probe": {"part": "test", "samples": 1000},
    "snapshots": 30,
    "estimators": [
        {"name": "binning.ibsgd", "width": 0.5},
        {"name": "binning", "bins": 30, "range": "snapshot"},
    ],
}
_MNIST_RELU: Mapping[str, Any] = {
    **_MNIST,
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},  # at 0.5 one diverges
}
_OWN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "tanh": {
        "tanh": {},
        "tanh-full": _FULL_BATCH,
        FEW[0]: {**_FEW, "probe.part": "train"},
        FEW[1]: {**_FEW, "probe.part": "test"},
        "mnist-tanh": _MNIST,
    },
    "relu": {"relu": {}, "relu-full": _FULL_BATCH, "mnist-relu": _MNIST_RELU},
    "linear": {"linear": {"epochs": 500, "layers": ["fc1", "fc2", "fc3", "fc4", "fc5", "softmax"]}},
}


def variants(activation: str) -> Variants:
    """The runs of one activation."""
    return {
        name: {"model.init_args.activation": activation, **keys}
        for name, keys in _OWN[activation].items()
    }


def _paper_size() -> Variants:
    """The runs at the size of the paper, 50 networks where it has averages."""
    kde = {"name": "kde", "noise_variance": 1e-3, "snapshots": 20}
    bins = [{"name": "binning.ibsgd", "width": 0.07}, {"name": "binning", "range": "snapshot"}]
    task = {
        "seeds": 50,
        "epochs": 10000,
        "optimizer.init_args.lr": 4e-4,
        "snapshots": 211,
        "estimators": [*bins, kde],
    }
    mnist = {
        "data.init_args.part": "all",
        "optimizer.init_args.lr": 1e-3,
        "epochs": 10000,
        "split": {"fraction": 6 / 7, "how": "contiguous"},  # its 60,000 training images
        "probe": {"part": "test"},
        "snapshots": 144,
    }
    every = {run: keys for activation in _OWN for run, keys in variants(activation).items()}
    return {
        run: {**keys, **(task if run not in MNIST_RUNS else mnist)} for run, keys in every.items()
    }


# --- claims -------------------------------------------------------------------------------------


def _last_layer(traces: Traces, run: str, by: str, wanted: str, rule: Rule = RULE) -> Outcome:
    """The verdict on the last hidden layer."""
    (finding,) = judged(traces[run], by, hidden(traces[run])[-1:], rule=rule)
    return by_call(finding, wanted)


def _parts(traces: Traces, least: float = PART) -> Outcome:
    """Whether I(T;Y) of the output parts, on training and on test samples of the same networks."""
    train, test = (curves(traces[run], I_TY, WIDTH, traces[run].layers[-1]) for run in FEW)
    gap = (train - test).dropna(how="all")
    opened = gap.iloc[:, -1] - gap.iloc[:, 0]
    outcome = decided(opened, "bits wider than at the start", least)
    number = (
        f"I(T;Y) of {traces[FEW[0]].layers[-1]} ends at {train.iloc[:, -1].mean():.3f} bits on "
        f"training and {test.iloc[:, -1].mean():.3f} on test samples; the gap is {outcome.number}"
    )
    return Outcome(outcome.status, number)


def _overfit_compresses(
    traces: Traces, overfit: float = OVERFIT, by: str = WIDTH, rule: Rule = RULE
) -> Outcome:
    """Whether networks that overfit compress like others."""
    trace = traces[FEW[1]]
    train, test = (_last_scalar(trace, f"{part}_accuracy") for part in ("train", "test"))
    gap = interval((train - test).to_numpy(dtype=float))
    (finding,) = judged(trace, by, hidden(trace)[-1:], rule=rule)
    outcome = by_call(finding, "compresses")
    number = f"accuracy {bracketed(gap, 3)} higher in training; {outcome.number}"
    overfits = within(gap.lower, gap.upper, overfit)
    if overfits != "held":
        return Outcome("inconclusive", f"{number}; these do not overfit by {overfit:g}")
    return Outcome(all_of([overfits, outcome.status]), number)


def _last_scalar(trace: TraceLike, name: str) -> pd.Series:
    """A scalar at the last look, by seed."""
    scalars = trace.scalars()
    own = scalars[scalars["name"] == name].sort_values("epoch")
    return own.groupby("seed")["value"].last()


def _claim(
    name: str, statement: str, run: str, by: str = WIDTH, wanted: str = "compresses"
) -> Claim:
    return Claim(
        name,
        SAXE,
        statement,
        partial(_last_layer, run=run, by=by, wanted=wanted),
        needs=(run,),
        by=(by,),
    )


_NOT = "does not compress"

CLAIMS = (
    _claim("tanh", "The last hidden tanh layer compresses (bins of 0.07, as theirs).", "tanh"),
    _claim(
        "relu",
        "ReLU networks do not compress: the last hidden layer (bins of 0.07, as theirs).",
        *("relu", WIDTH, _NOT),
    ),
    _claim(
        "relu-range",
        "ReLU networks do not compress: the last hidden layer (30 bins over the range of the "
        "data).",
        *("relu", RANGE, _NOT),
    ),
    _claim(
        "linear",
        "Linear networks do not compress: the last hidden layer (bins of 0.07).",
        *("linear", WIDTH, _NOT),
    ),
    _claim(
        "linear-range",
        "Linear networks do not compress: the last hidden layer (30 bins over the range of the "
        "data).",
        *("linear", RANGE, _NOT),
    ),
    _claim(
        "full-batch-tanh",
        "Stochasticity is no cause: with full-batch descent the last hidden tanh layer compresses "
        "too (bins of 0.07).",
        "tanh-full",
    ),
    _claim(
        "full-batch-relu",
        "With full-batch descent ReLU networks do not compress either: the last hidden layer "
        "(bins of 0.07).",
        *("relu-full", WIDTH, _NOT),
    ),
    Claim(
        "overfitting-parts",
        SAXE,
        "With overfitting I(T;Y) on training and on test samples part (output layer; tanh, 30 % "
        "to train on).",
        _parts,
        needs=FEW,
        by=(WIDTH,),
    ),
    Claim(
        "overfitting-compresses",
        SAXE,
        "Compression does not make networks generalise: tanh networks that overfit compress all "
        "the same (last hidden layer, bins of 0.07).",
        _overfit_compresses,
        needs=FEW[1:],
        by=(WIDTH,),
    ),
    _claim(
        "mnist-tanh",
        "On MNIST the last hidden tanh layer compresses (bins of 0.5, as theirs).",
        *("mnist-tanh", MNIST_WIDTH),
    ),
    _claim(
        "mnist-relu",
        "On MNIST ReLU networks do not compress: the last hidden layer (bins of 0.5, as theirs).",
        *("mnist-relu", MNIST_WIDTH, _NOT),
    ),
)


# --- figures ------------------------------------------------------------------------------------


def dynamics(traces: Traces) -> Figure:
    """I(X;T) under their bins and under others, a column for each run on the 12-bit task."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    titles = {
        "tanh": "tanh",
        "relu": "ReLU",
        "linear": "linear",
        "tanh-full": "tanh, full batches",
        "relu-full": "ReLU, full batches",
    }
    measures = (
        Measure(I_XT, WIDTH, "I(X;T), bins of 0.07 (bits)"),
        Measure(I_XT, RANGE, "I(X;T), 30 bins (bits)"),
    )
    return beside({t: traces[n] for n, t in titles.items() if n in traces}, measures)


def on_mnist(traces: Traces) -> Figure:
    """I(X;T) and I(T;Y) on MNIST, under their bins."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    titles = {"mnist-tanh": "tanh, MNIST", "mnist-relu": "ReLU, MNIST"}
    measures = (
        Measure(I_XT, MNIST_WIDTH, "I(X;T), bins of 0.5 (bits)"),
        Measure(I_TY, MNIST_WIDTH, "I(T;Y), bins of 0.5 (bits)"),
    )
    return beside({t: traces[n] for n, t in titles.items() if n in traces}, measures)


def overfitting(traces: Traces) -> Figure:
    """I(T;Y) on training and on test samples of networks with little to train on, and the fit."""
    from ibtrace.plots import Series, Strip, grid  # loads matplotlib

    strips = (
        Strip("I(T;Y), last hidden\nlayer (bits)"),
        Strip("I(T;Y), output\n(bits)"),
        Strip("accuracy"),
    )
    parts = {"train": ("training samples", FEW[0]), "test": ("test samples", FEW[1])}
    cells: tuple[list[Series], ...] = ([], [], [])
    for at, (part, (title, run)) in enumerate(parts.items()):
        trace = traces[run]
        bits = [_long(curves(trace, I_TY, WIDTH, layer)) for layer in trace.layers[-2:]]
        for cell, rows in zip(cells, (*bits, _scalars(trace, f"{part}_accuracy")), strict=True):
            cell.append(Series(title, rows, "curve", at))
    return grid({"tanh, 30 % to train on; bins of 0.07": cells}, strips, "epoch", log_x=True)


def _long(wide: pd.DataFrame) -> pd.DataFrame:
    """A table ``(seed, epoch)`` as `ibtrace.plots.Series` takes it."""
    rows = wide.reset_index().melt("seed", var_name="x", value_name="value")
    return rows.astype({"x": float})


def _scalars(trace: TraceLike, name: str) -> pd.DataFrame:
    scalars = trace.scalars()
    return scalars[scalars["name"] == name].rename(columns={"epoch": "x"})[["seed", "x", "value"]]


PAPER = Paper(
    "saxe",
    "Saxe et al. 2018, On the Information Bottleneck Theory of Deep Learning",
    CLAIMS,
    full={"variants": _paper_size()},
    variants=variants,
    activations=("tanh", "relu", "linear"),
    figures={"dynamics": dynamics, "overfitting": overfitting, "mnist": on_mnist},
)

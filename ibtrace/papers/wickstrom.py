"""Claims of Wickstrøm et al. (2019) on a CNN, seen by matrix-based Rényi information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ibtrace.claims import Claim, Outcome
from ibtrace.estimators import MatrixRenyi
from ibtrace.models import CNN
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import Floats, all_of, curves, decided
from ibtrace.types import I_TY, I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SILVERMAN = label(MatrixRenyi())
ALIGNED = label(MatrixRenyi(width="alignment"))
WIDTHS = {"silverman": SILVERMAN, "aligned": ALIGNED}
"""How wide the kernel is: by Silverman's rule, or the paper's, most like the labels' kernel."""
WICKSTROM = "Wickstrøm et al. 2019"
LEAST = 0.1
"""Bits that a rise or a fall has to have (ours)."""
PARTS = {"training": "train", "held-out": "test"}
"""The same networks, measured on images that they are trained on, and on others, by run."""

Traces = Mapping[str, TraceLike]


def network(
    channels: Sequence[int] = (8, 16), hidden: Sequence[int] = (64,), activation: str = "relu"
) -> nn.Module:
    """A convolutional network for images of 28 × 28, whose last layer is the softmax.

    Args:
        channels: Feature maps of each block.
        hidden: Units of each hidden layer of the head.
        activation: After each convolution and hidden layer.

    Example:
        >>> [name for name, _ in network().named_children()][-3:]
        ['hidden1', 'fc2', 'softmax']
    """
    net = CNN((1, 28, 28), channels, hidden, activation=activation)
    net.add_module("softmax", nn.Softmax(-1))
    return net


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The runs of one activation: on both parts of the data."""
    return {
        run: {"model.init_args.activation": activation, "probe.part": part}
        for run, part in PARTS.items()
    }


# --- numbers ------------------------------------------------------------------------------------


def fitting_begins(trace: TraceLike, by: str, layer: str) -> list[int]:
    """The look at which I(T;Y) of each network is lowest, from which on it fits.

    In its first epochs a network may lose information about the label, and about X with it, which
    is no compression after fitting.

    Args:
        trace: The trace.
        by: The estimator's label.
        layer: The layer.
    """
    return [int(at) for at in curves(trace, I_TY, by, layer).to_numpy().argmin(axis=1)]


def falls(
    trace: TraceLike,
    by: str,
    layer: str,
    since: Sequence[int],
    until: Sequence[int] | None = None,
) -> Floats:
    """The fall of I(X;T) from its peak, by seed, bits; 0 where it ends before it begins.

    Args:
        trace: The trace.
        by: The estimator's label.
        layer: The layer.
        since: The look of each network from which on a peak counts.
        until: The look at which each fall ends; None for the last.
    """
    bits = curves(trace, I_XT, by, layer).to_numpy()
    last = until or [bits.shape[1] - 1] * len(bits)
    seen = [row[a : b + 1] for row, a, b in zip(bits, since, last, strict=True)]
    return np.array([row.max() - row[-1] if len(row) else 0.0 for row in seen])


def falling(trace: TraceLike, by: str, least: float) -> dict[str, list[int]]:
    """The layers whose mean fall since fitting began is of at least some bits, and its looks."""
    begins = {name: fitting_begins(trace, by, name) for name in trace.layers}
    return {n: since for n, since in begins.items() if falls(trace, by, n, since).mean() >= least}


def stopped(trace: TraceLike) -> list[int]:
    """The look at which each network's test loss is lowest, where early stopping would stop."""
    scalars = trace.scalars()
    rows = scalars[(scalars["name"] == "test_loss") & (scalars["layer"] == "")]
    losses = rows.pivot(index="seed", columns="epoch", values="value")
    return [int(at) for at in losses.to_numpy().argmin(axis=1)]


# --- claims -------------------------------------------------------------------------------------


def _phases(traces: Traces, by: str, least: float = LEAST) -> Outcome:
    """Whether I(T;Y) of the last layer rises, and I(X;T) falls from its peak since it does."""
    trace = traces["training"]
    layer = trace.layers[-1]
    about_y = curves(trace, I_TY, by, layer).to_numpy()
    rise = decided(about_y[:, -1] - about_y.min(axis=1), "bits up", least)
    since = fitting_begins(trace, by, layer)
    fall = decided(falls(trace, by, layer, since), "bits down", least)
    number = f"{layer}: I(T;Y) {rise.number}; I(X;T) from its peak {fall.number}"
    return Outcome(all_of([rise.status, fall.status]), number)


def _more_on_training(traces: Traces, by: str, more: float = 0.0, least: float = LEAST) -> Outcome:
    """Whether layers that fall do so by more on images that the networks were trained on."""
    training, held_out = (traces[run] for run in PARTS)
    begins = falling(training, by, least)
    if not begins:
        return Outcome("inconclusive", f"no layer falls by {least:g} bit on training data")
    each = {
        name: falls(training, by, name, since) - falls(held_out, by, name, since)
        for name, since in begins.items()
    }
    outcome = decided(np.mean([*each.values()], axis=0), "bits more on training data", more)
    apart = ", ".join(
        f"{name} {falls(training, by, name, begins[name]).mean():.2f} on training data, "
        f"{extra.mean():.2f} more"
        for name, extra in each.items()
    )
    return Outcome(outcome.status, f"{outcome.number} (layers that fall: {apart})")


def _early_stopping(traces: Traces, by: str, least: float = LEAST) -> Outcome:
    """Whether I(X;T) has hardly fallen where test loss is lowest, of what it falls in the end."""
    trace = traces["training"]
    looks, begins = stopped(trace), falling(trace, by, least)
    if not begins:
        return Outcome("inconclusive", f"no layer falls by {least:g} bit: nothing to stop before")
    before = {name: falls(trace, by, name, since, looks) for name, since in begins.items()}
    outcome = decided(np.mean([*before.values()], axis=0), "bits down", -np.inf, least)
    epochs = sorted(curves(trace, I_XT, by, trace.layers[-1]).columns[looks])
    each = ", ".join(
        f"{name} {fall.mean():.2f} of {falls(trace, by, name, begins[name]).mean():.2f}"
        for name, fall in before.items()
    )
    number = (
        f"{outcome.number} at the lowest test loss (epochs {epochs[0]:g} to {epochs[-1]:g}) in "
        f"layers that fall: {each}"
    )
    return Outcome(outcome.status, number)


def _data_processing(traces: Traces, by: str, below: float = 0.0) -> Outcome:
    """Whether I(X;T), averaged over the looks, falls from each layer to the next."""
    trace = traces["training"]
    means = [curves(trace, I_XT, by, name).to_numpy().mean(axis=1) for name in trace.layers]
    steps = {
        f"{one} to {two}": decided(means[at] - means[at + 1], "bits", -below)
        for at, (one, two) in enumerate(zip(trace.layers, trace.layers[1:], strict=False))
    }
    each = ", ".join(f"{name} {step.number.partition(' bits')[0]}" for name, step in steps.items())
    statuses = [step.status for step in steps.values()]
    number = f"bits lost from layer to layer, mean over the looks: {each}"
    return Outcome(all_of(statuses), number)


def _of_width(width: str, by: str) -> tuple[Claim, ...]:
    where = {"silverman": "kernel width by Silverman's rule", "aligned": "kernel width aligned"}

    def claim(name: str, statement: str, test: Any, *runs: str) -> Claim:
        return Claim(
            f"{name}-{width}", WICKSTROM, f"{statement} ({where[width]}).", partial(test, by=by),
            needs=runs, by=(by,),
        )  # fmt: skip

    return (
        claim(
            "phases",
            "Training has a fitting and a compression phase: I(T;Y) of the last layer rises, and "
            "I(X;T) falls from its peak, on training data",
            _phases,
            "training",
        ),
        claim(
            "more-on-training",
            "Compression is seen on training data more than on test data",
            _more_on_training,
            *PARTS,
        ),
        claim(
            "early-stopping",
            "Early stopping ends training before the compression phase: where test loss is lowest "
            "I(X;T) has hardly fallen",
            _early_stopping,
            "training",
        ),
        claim(
            "data-processing",
            "The estimates comply with the data-processing inequality: I(X;T) falls from each "
            "layer to the next",
            _data_processing,
            "training",
        ),
    )


CLAIMS = tuple(claim for width, by in WIDTHS.items() for claim in _of_width(width, by))


def figure(traces: Traces) -> Figure:
    """I(X;T) by both widths, and I(T;Y), on training data and on held-out data."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    measures = (
        Measure(I_XT, SILVERMAN, "I(X;T), Silverman's\nwidth (bits)"),
        Measure(I_XT, ALIGNED, "I(X;T), aligned\nwidth (bits)"),
        Measure(I_TY, SILVERMAN, "I(T;Y), Silverman's\nwidth (bits)"),
    )
    return beside(traces, measures)


PAPER = Paper(
    "wickstrom",
    "Wickstrøm et al. 2019, Information Plane Analysis of Deep Neural Networks via Matrix-Based "
    "Rényi's Entropy and Tensor Kernels",
    CLAIMS,
    full={
        "data.init_args.part": "train",
        "model.init_args.channels": [16, 32],
        "model.init_args.hidden": [640, 64],
        "split.fraction": 0.8,
        "probe.samples": 1000,
        "epochs": 100,
    },
    activations=("relu",),
    variants=variants,
    figures={"parts": figure},
)

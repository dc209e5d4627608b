"""Claims of Lorenzen, Igel & Nielsen (2022) on quantized networks, whose I(X;T) is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from ibtrace.claims import Claim, Outcome
from ibtrace.estimators import Binning, Exact
from ibtrace.models import MLP, Init
from ibtrace.models.quantize import quantize
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import (
    by_call,
    curves,
    decided,
    drops,
    hidden,
    judged,
    mixed_calls,
    rank_correlation,
)
from ibtrace.plane import interval
from ibtrace.types import I_TY, I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXACT = label(Exact())
COARSE = label(Binning(bins=30, range="snapshot"))
FINE = label(Binning(bins=100, range="snapshot"))
LORENZEN = "Lorenzen et al. 2022"
WHOLE = 0.95
"""Share of H(Y) from which a layer has all of the label, and can fit no more."""
BINDS = 0.5
"""Rank correlation over layers from which those that fall are those that bind the label (ours)."""
LEAST = 0.1
"""Bits by which coarse bins have to see more of a fall to overstate it (ours)."""
VARIANTS = ("tanh-8", "tanh-4", "relu-8", "relu-4")

Traces = Mapping[str, TraceLike]


class Network(nn.Module):
    """A network of b bits on the 12-bit task, with its rounded probabilities beside its logits.

    It gives logits, on which it is trained: a softmax rounded to 2^b levels is 0 where it is small,
    and its logarithm teaches nothing. The rounded softmax is computed beside them, to be looked at.

    Args:
        bits: Of activations and weights.
        widths: Units of each layer, the inputs first.
        activation: After each hidden layer.
        init: See `ibtrace.models.MLP`.

    Example:
        >>> import torch
        >>> net = Network(2, widths=(12, 4, 2))
        >>> len(net.hidden1(torch.randn(1000)).unique())
        4
    """

    def __init__(
        self,
        bits: int = 8,
        widths: Sequence[int] = (12, 10, 7, 5, 4, 3, 2),
        activation: str = "tanh",
        init: Init = "default",
    ) -> None:
        super().__init__()
        rounded = quantize(MLP(widths, activation, "softmax", init), bits)
        for name, module in rounded.named_children():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        logits = x
        for module in self.children():
            x, logits = module(x), x
        return logits


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The runs of one activation, at 8 and at 4 bits."""
    return {
        f"{activation}-{bits}": {
            "model.init_args.activation": activation,
            "model.init_args.bits": bits,
        }
        for bits in (8, 4)
    }


# --- claims --------------------------------------------------------------------------------------


def _fits(traces: Traces, run: str, whole: float = WHOLE) -> Outcome:
    """Whether I(T;Y) rises in every layer that does not hold all of the label from the start."""
    trace, full, rises, falls = traces[run], [], [], []
    for layer in trace.layers:
        bits = curves(trace, I_TY, EXACT, layer).to_numpy()
        gain = interval(bits[:, -1] - bits[:, 0])
        if bits[:, 0].min() >= whole * float(trace.meta["label_entropy"]):
            full.append(layer)
        elif gain.lower > 0:
            rises.append(f"{layer} by {gain.mean:.2f} [{gain.lower:.2f}, {gain.upper:.2f}]")
        else:
            falls.append((layer, gain))
    number = f"I(T;Y) rises in {', '.join(rises) or 'none'} bits"
    number += f"; {', '.join(full)} had it all from the start" if full else ""
    if not falls:
        return Outcome("held" if rises else "inconclusive", number)
    number += "; not in " + ", ".join(
        f"{layer} ({gain.mean:.2f} [{gain.lower:.2f}, {gain.upper:.2f}])" for layer, gain in falls
    )
    return Outcome("failed" if any(g.upper <= 0 for _, g in falls) else "inconclusive", number)


def _output(traces: Traces, run: str) -> Outcome:
    trace = traces[run]
    (finding,) = judged(trace, EXACT, trace.layers[-1:])
    return by_call(finding, "compresses")


def _some_layers(traces: Traces, run: str) -> Outcome:
    """Whether some hidden layers compress, and some do not."""
    trace = traces[run]
    return mixed_calls(trace, EXACT, hidden(trace))


def _activations_differ(traces: Traces, least: float = LEAST) -> Outcome:
    """Whether exact falls of the hidden layers differ between tanh and ReLU, at 8 bits."""
    falls = []
    for run in ("tanh-8", "relu-8"):
        each = [drops(traces[run], EXACT, layer) for layer in traces[run].layers[:-1]]
        falls.append(np.mean(each, axis=0))
    tanh, relu = (interval(each) for each in falls)
    apart = tanh.lower > relu.upper or tanh.upper < relu.lower
    difference = interval(falls[0] - falls[1]) if len(falls[0]) == len(falls[1]) else None
    number = (
        f"mean drop of the hidden layers {tanh.mean:.2f} bits [{tanh.lower:.2f}, {tanh.upper:.2f}] "
        f"with tanh, {relu.mean:.2f} [{relu.lower:.2f}, {relu.upper:.2f}] with ReLU"
    )
    if apart:
        return Outcome("held", number)
    alike = difference is not None and -least < difference.lower and difference.upper < least
    return Outcome("failed" if alike else "inconclusive", number)


def _overstated(traces: Traces, run: str, least: float = LEAST) -> Outcome:
    """Whether coarse bins see the layers fall by more than they do."""
    trace = traces[run]
    more = [drops(trace, COARSE, name) - drops(trace, EXACT, name) for name in trace.layers]
    each = ", ".join(f"{n} {m.mean():+.2f}" for n, m in zip(trace.layers, more, strict=True))
    outcome = decided(np.mean(more, axis=0), "bits more by 30 bins than exactly", least)
    return Outcome(outcome.status, f"{outcome.number} (mean over the layers: {each})")


def _bins_decide(traces: Traces, run: str) -> Outcome:
    """Whether bins lead to another call of a layer than other bins, or than the truth."""
    trace = traces[run]
    calls = {
        name: [judged(trace, by, [name])[0] for by in (EXACT, FINE, COARSE)]
        for name in trace.layers
    }
    apart, open_ = [], False
    for layer, findings in calls.items():
        called = {finding.call for finding in findings}
        open_ = open_ or "inconclusive" in called
        if {"compresses", "does not compress"} <= called:
            falls = ", ".join(f"{f.evidence.held_out.mean:.2f} ({f.call})" for f in findings)
            apart.append(f"{layer} {falls}")
    if apart:
        return Outcome("held", f"exactly, in 100 and in 30 bins: {'; '.join(apart)} bits")
    number = f"no layer of {len(calls)} compresses by one and does not by another"
    return Outcome("inconclusive" if open_ else "failed", number)


def _binds(traces: Traces, run: str, least: float = BINDS) -> Outcome:
    """Whether the layers that fall are those whose information is about the label."""
    trace = traces[run]
    falls = np.stack([drops(trace, EXACT, name) for name in trace.layers], axis=1)
    about_y, about_x = (
        np.stack([curves(trace, q, EXACT, name).iloc[:, -1] for name in trace.layers], axis=1)
        for q in (I_TY, I_XT)
    )
    if falls.mean(axis=0).max() < LEAST:
        return Outcome("inconclusive", f"no layer falls by {LEAST:g} bit: nothing to order")
    bound = about_y / about_x
    ranks = np.array([rank_correlation(*both) for both in zip(falls, bound, strict=True)])
    outcome = decided(ranks, "rank correlation over layers", least, between=(-1, 1))
    each = ", ".join(
        f"{name} {fall:.2f} bits, {share:.2f}"
        for name, fall, share in zip(
            trace.layers, falls.mean(axis=0), bound.mean(axis=0), strict=True
        )
    )
    return Outcome(outcome.status, f"{outcome.number} (drop, I(T;Y)/I(X;T) at the end: {each})")


def _claim(name: str, statement: str, test: Any, runs: Sequence[str], *by: str) -> Claim:
    return Claim(name, LORENZEN, statement, test, needs=tuple(runs), by=(EXACT, *by))


def _of_run(run: str) -> tuple[Claim, ...]:
    activation, _, bits = run.partition("-")
    where = f"({activation}, {bits} bits)"
    return (
        _claim(
            f"fitting-{run}",
            f"There is a fitting phase for all layers: I(T;Y) rises {where}.",
            partial(_fits, run=run),
            [run],
        ),
        _claim(
            f"output-{run}",
            f"The output layer compresses in every experiment: exact I(X;T) falls {where}.",
            partial(_output, run=run),
            [run],
        ),
    )


CLAIMS = (
    *(claim for run in VARIANTS for claim in _of_run(run)),
    _claim(
        "some-layers",
        "Exact I(X;T) falls in some hidden layers and not in others (tanh, 8 bits).",
        partial(_some_layers, run="tanh-8"),
        ["tanh-8"],
    ),
    _claim(
        "binds-labels",
        "The layers that compress are those that bind the label: they fall by more the larger the "
        "share of their I(X;T) that is about Y (tanh, 8 bits).",
        partial(_binds, run="tanh-8"),
        ["tanh-8"],
    ),
    _claim(
        "activation",
        "Compression in the hidden layers depends on the activation function (8 bits).",
        _activations_differ,
        ["tanh-8", "relu-8"],
    ),
    _claim(
        "bins-overstate",
        "Coarse bins overstate compression: in 30 bins layers fall by more than exactly "
        "(tanh, 8 bits).",
        partial(_overstated, run="tanh-8"),
        ["tanh-8"],
        COARSE,
    ),
    _claim(
        "bins-decide",
        "Different ways of binning lead to qualitatively different results (tanh, 8 bits).",
        partial(_bins_decide, run="tanh-8"),
        ["tanh-8"],
        COARSE,
        FINE,
    ),
)


def figure(traces: Traces) -> Figure:
    """Exact I(X;T) and that in 30 bins, and exact I(T;Y), a column for each run."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    measures = (
        Measure(I_XT, EXACT, "I(X;T), exact (bits)"),
        Measure(I_XT, COARSE, "I(X;T), T in 30 bins (bits)"),
        Measure(I_TY, EXACT, "I(T;Y), exact (bits)"),
    )
    return beside({_title(name, trace): trace for name, trace in traces.items()}, measures)


def _title(name: str, trace: TraceLike) -> str:
    """A run with the seeds kept of those run: none is left out for its fit."""
    run = len(trace.meta.get("seeds") or trace.seeds)
    return f"{name} bits, {len(trace.seeds)} of {run} seeds"


PAPER = Paper(
    "lorenzen",
    "Lorenzen, Igel & Nielsen 2022, Information Bottleneck: Exact Analysis of (Quantized) Neural "
    "Networks",
    CLAIMS,
    full={
        "seeds": 50,
        "epochs": 8000,
        "batch_size": 256,
        "optimizer.init_args.lr": 1e-4,
        "model.init_args.init": "default",
    },
    variants=variants,
    activations=("tanh", "relu"),
    figures={"exact": figure},
)

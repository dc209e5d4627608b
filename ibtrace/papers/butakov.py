"""Claims of Butakov et al. (2024) on a noisy CNN, measured after a lossy compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import nn

from ibtrace.claims import Claim, Outcome
from ibtrace.estimators import Compressed
from ibtrace.models import CNN
from ibtrace.models.noise import inject_noise
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import by_count, curves, mixed_calls
from ibtrace.types import I_TY, I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BY = label(Compressed())
"""X and T compressed to 4 principal components each, then KSG."""
BUTAKOV = "Butakov et al. 2024"
LEAST = 0.1
"""Bits that a rise or a fall needs to be a phase (ours)."""
RUNS = ("relu", "tanh")

Traces = Mapping[str, TraceLike]


def network(
    std: float = 0.1,
    channels: Sequence[int] = (8, 16),
    hidden: Sequence[int] = (64,),
    activation: str = "relu",
) -> nn.Module:
    """A convolutional network for images of 28 × 28 with Gaussian noise after each block.

    The noise is there in training and when the network is looked at, so that a look at ``pool1``
    sees what the next layer sees, and I(X;T) is finite and a property of the network.

    Args:
        std: Standard deviation of the noise.
        channels: Feature maps of each block.
        hidden: Units of each hidden layer of the head.
        activation: After each convolution and hidden layer.

    Example:
        >>> [name for name, _ in network(channels=[4], hidden=[8]).named_modules() if name]
        ['conv1', 'maps1', 'pool1', 'pool1.clean', 'pool1.noise', 'flatten', 'fc1', 'hidden1',
         'hidden1.clean', 'hidden1.noise', 'fc2']
    """
    net = CNN((1, 28, 28), channels, hidden, activation=activation)
    return inject_noise(net, ["pool*", "hidden*"], std, in_eval=True)


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The run of one activation."""
    return {activation: {"model.init_args.activation": activation}}


# --- phases -------------------------------------------------------------------------------------


class Phase(NamedTuple):
    """A rise or a fall of a curve.

    Args:
        sign: 1 for a rise (fitting, of I(X;T)), -1 for a fall (compression).
        begins: The look at which it begins.
    """

    sign: int
    begins: int


def phases(bits: Sequence[float], least: float = LEAST) -> list[Phase]:
    """The alternating rises and falls of a curve, those of at least some bits.

    A phase ends at the extreme from which the curve goes back by as much: what wanders by less is
    noise, and not counted.

    Args:
        bits: I(X;T) at each look.
        least: Bits from one extreme to the next.

    Example:
        >>> phases([0.0, 3.0, 2.95, 3.2, 2.5, 2.55, 2.0], least=0.1)
        [Phase(sign=1, begins=0), Phase(sign=-1, begins=3)]
    """
    found: list[Phase] = []
    low = high = sign = 0
    for at, value in enumerate(bits):
        low = at if value < bits[low] else low
        high = at if value > bits[high] else high
        if sign >= 0 and bits[high] - value >= least:
            sign, begins = -1, high
        elif sign <= 0 and value - bits[low] >= least:
            sign, begins = 1, low
        else:
            continue
        found.append(Phase(sign, begins))
        low = high = at
    return found


def phases_of(trace: TraceLike, layer: str, least: float) -> list[list[Phase]]:
    """The phases of a layer's I(X;T), for each network."""
    return [phases(row, least) for row in curves(trace, I_XT, BY, layer).to_numpy().tolist()]


# --- claims -------------------------------------------------------------------------------------


def _repeats(traces: Traces, run: str, least: float = LEAST) -> Outcome:
    """Whether in each network some layer fits again after it has compressed."""
    trace = traces[run]
    each = {name: phases_of(trace, name, least) for name in trace.layers}
    again = [
        any(sum(phase.sign > 0 for phase in of[seed]) > 1 for of in each.values())
        for seed in range(len(trace.seeds))
    ]
    means = ", ".join(f"{name} {np.mean([*map(len, of)]):.1f}" for name, of in each.items())
    number = (
        f"in {sum(again)} of {len(again)} networks a layer rises again by {least:g} bits after a "
        f"fall; phases, mean over seeds: {means}"
    )
    return Outcome(by_count(sum(again), len(again)), number)


def _numbers_differ(traces: Traces, run: str, least: float = LEAST) -> Outcome:
    """Whether in each network layers have different numbers of phases."""
    trace = traces[run]
    each = [[len(own) for own in phases_of(trace, name, least)] for name in trace.layers]
    apart = [len({*counts}) > 1 for counts in zip(*each, strict=True)]
    spans = ", ".join(
        f"{name} {min(counts)} to {max(counts)}"
        for name, counts in zip(trace.layers, each, strict=True)
    )
    number = f"in {sum(apart)} of {len(apart)} networks; phases over seeds: {spans}"
    return Outcome(by_count(sum(apart), len(apart)), number)


def _not_always(traces: Traces, run: str) -> Outcome:
    """Whether some layers compress, and others do not."""
    trace = traces[run]
    return mixed_calls(trace, BY, trace.layers)


def _with_loss(traces: Traces, run: str, least: float = LEAST, looks: int = 1) -> Outcome:
    """Whether first falls begin within some looks of the steepest fall of the training loss."""
    trace = traces[run]
    scalars = trace.scalars()
    rows = scalars[(scalars["name"] == "train_loss") & (scalars["layer"] == "")]
    losses = rows.pivot(index="seed", columns="epoch", values="value")
    epochs = losses.columns.to_numpy(dtype=float)
    steepest = (np.diff(losses.to_numpy(), axis=1) / np.diff(epochs)).argmin(axis=1)
    begins = [
        (falls[0].begins, int(steep))
        for name in trace.layers
        for own, steep in zip(phases_of(trace, name, least), steepest, strict=True)
        if (falls := [phase for phase in own if phase.sign < 0])
    ]
    if not begins:
        return Outcome("inconclusive", f"no layer falls by {least:g} bits")
    near = [steep - looks <= first <= steep + 1 + looks for first, steep in begins]
    first, steep = (np.median(epochs[[*each]]) for each in zip(*begins, strict=True))
    number = (
        f"{sum(near)} of {len(near)} first falls of a layer begin within {looks} look of the "
        f"epochs in which the loss falls fastest (medians: epoch {first:g}, and from epoch "
        f"{steep:g} on)"
    )
    return Outcome(by_count(sum(near), len(near)), number)


def _of_run(run: str) -> tuple[Claim, ...]:
    def claim(name: str, statement: str, test: Any) -> Claim:
        return Claim(
            f"{name}-{run}", BUTAKOV, f"{statement} ({run}).", partial(test, run=run),
            needs=(run,), by=(BY,),
        )  # fmt: skip

    return (
        claim("repeats", "Fitting phases repeat: a layer that has compressed fits again", _repeats),
        claim(
            "numbers-differ",
            "The number of fitting and compression phases varies from layer to layer",
            _numbers_differ,
        ),
        claim(
            "not-always",
            "There is no general compression phase: some layers compress and others do not",
            _not_always,
        ),
        claim(
            "with-loss",
            "The first passage from fitting to compression comes with the fastest fall of the "
            "training loss",
            _with_loss,
        ),
    )


CLAIMS = tuple(claim for run in RUNS for claim in _of_run(run))


def figure(traces: Traces) -> Figure:
    """I(X;T) and I(T;Y) after the compression, a column for each run."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    measures = (
        Measure(I_XT, BY, "I(X;T), 4 components\neach (bits)"),
        Measure(I_TY, BY, "I(T;Y), 4 components\n(bits)"),
    )
    return beside(traces, measures)


PAPER = Paper(
    "butakov",
    "Butakov et al. 2024, Information Bottleneck Analysis of Deep Neural Networks via Lossy "
    "Compression",
    CLAIMS,
    full={
        "data.init_args.part": "train",
        "model.init_args.channels": [8, 16, 32],
        "model.init_args.hidden": [32],
        "split.fraction": 0.8,
        "layers": ["pool1", "pool2", "pool3", "hidden1", "output"],
        "probe.samples": 4000,
        "epochs": 200,
    },
    variants=variants,
    activations=RUNS,
    figures={"phases": figure},
)

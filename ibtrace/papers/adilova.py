"""Claims of Adilova, Geiger & Fischer (2023) on Gaussian dropout, which makes I(X;T) finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ibtrace.claims import Claim, Outcome
from ibtrace.estimators import Binning, NoisyChannel
from ibtrace.models import MLP, Init
from ibtrace.models.noise import ContinuousDropout, inject_noise
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import by_call, decided, drops, fall_of, finite, judged, tracks
from ibtrace.types import I_TY, I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STD = 0.5
ITSELF = label(NoisyChannel(noise_std=STD, samples=2, noise="multiplicative", in_network=True))
"""I(X;T) of the layer with its own dropout, by Monte Carlo."""
WIDTH = label(Binning.ibsgd(0.07))
RANGE = label(Binning(bins=30, range="snapshot"))
NC1 = "NC1 within over between classes"
LENS = "NeuralCollapse"
LAYER = "hidden3.clean"
ADILOVA = "Adilova et al. 2023"
BELOW = 0.95
"""Share of log₂ N above which an estimate says no more than that all samples are told apart."""
TRACKS = 0.5
"""One quantity tracks another if the rank correlation of their differences is larger (ours)."""
MOSTLY = 0.5
"""The share of a binned fall above which it is mostly no fall of the information (ours)."""
RUNS = ("tanh", "relu")

Traces = Mapping[str, TraceLike]


def network(
    layer: str = "hidden3",
    std: float = STD,
    widths: Sequence[int] = (12, 32, 16, 6, 2),
    activation: str = "tanh",
    init: Init = "xavier",
) -> nn.Module:
    """A network with Gaussian dropout after one hidden layer, in training.

    A look sees the centres of the noise, ``hidden3.clean``. Dropout is in one layer alone: below it
    all is a function of X, so that given x T has one Gaussian law, which `NoisyChannel` takes.

    Args:
        layer: Which layer.
        std: Standard deviation of the factors about 1; ``sqrt(p / (1 - p))`` for a rate p.
        widths: Units of each layer, the inputs first.
        activation: After each hidden layer.
        init: See `ibtrace.models.MLP`.

    Example:
        >>> [name for name, _ in network("hidden1", widths=(12, 4, 2)).named_modules() if name]
        ['fc1', 'hidden1', 'hidden1.clean', 'hidden1.noise', 'fc2']
    """
    return inject_noise(MLP(widths, activation, "logits", init), layer, std, make=ContinuousDropout)


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The run of one activation, with the initialisation that suits it."""
    init = "xavier" if activation == "tanh" else "he"
    keys = {"model.init_args.activation": activation, "model.init_args.init": init}
    return {activation: keys}


# --- claims --------------------------------------------------------------------------------------


def _finite(traces: Traces, run: str, below: float = BELOW) -> Outcome:
    return finite(traces[run], LAYER, ITSELF, below)


def _compresses(traces: Traces, run: str) -> Outcome:
    (finding,) = judged(traces[run], ITSELF, [LAYER])
    return by_call(finding, "compresses")


def _mostly_geometric(traces: Traces, run: str, by: str, mostly: float = MOSTLY) -> Outcome:
    """Whether most of what bins see to fall is no fall of the information itself."""
    trace = traces[run]
    (finding,) = judged(trace, by, [LAYER])
    if finding.call != "compresses":
        return Outcome("inconclusive", f"no fall to explain: {fall_of(finding)}; {finding.cause}")
    binned, itself = (drops(trace, each, LAYER).to_numpy() for each in (by, ITSELF))
    outcome = decided(1 - itself / binned, "of the binned drop is none of I(X;T) itself", mostly)
    number = (
        f"{outcome.number} (drops of {np.mean(binned):.2f} bits in bins, {np.mean(itself):.2f} "
        "bits itself)"
    )
    return Outcome(outcome.status, number)


def _bins_cluster(traces: Traces, run: str, least: float = TRACKS) -> Outcome:
    return tracks(traces[run], LAYER, WIDTH, NC1, LENS, least=least)


def _of_run(run: str) -> tuple[Claim, ...]:
    def claim(name: str, statement: str, test: Any, *by: str, reads: Any = None) -> Claim:
        return Claim(
            f"{name}-{run}", ADILOVA, f"{statement} ({run}).", partial(test, run=run),
            needs=(run,), by=by, reads=reads or {},
        )  # fmt: skip

    return (
        claim(
            "finite",
            "Dropout with continuous noise makes I(X;T) finite, and keeps it below log2 N",
            _finite,
            ITSELF,
        ),
        claim(
            "compresses",
            "The plane of a network with Gaussian dropout has a compression phase: I(X;T) itself "
            "falls",
            _compresses,
            ITSELF,
        ),
        claim(
            "geometric-width",
            "What bins see to fall is mostly geometric, no fall of I(X;T) itself: in bins of one "
            "width",
            partial(_mostly_geometric, by=WIDTH),
            ITSELF,
            WIDTH,
        ),
        claim(
            "geometric-range",
            "What bins see to fall is mostly geometric, no fall of I(X;T) itself: in bins over "
            "the range of the data",
            partial(_mostly_geometric, by=RANGE),
            ITSELF,
            RANGE,
        ),
        claim(
            "bins-cluster",
            "The fall of binned I(X;T) is essentially geometric compression: from its peak on it "
            "falls as the spread within classes over that between them does (NC1)",
            _bins_cluster,
            WIDTH,
            reads={NC1: "neural_collapse"},
        ),
    )


CLAIMS = tuple(claim for run in RUNS for claim in _of_run(run))


def figure(traces: Traces) -> Figure:
    """I(X;T) itself and in bins, and I(T;Y) itself, a column for each run."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    measures = (
        Measure(I_XT, ITSELF, "I(X;T) itself (bits)"),
        Measure(I_XT, WIDTH, "I(X;T), bins of 0.07 (bits)"),
        Measure(I_XT, RANGE, "I(X;T), 30 bins (bits)"),
        Measure(I_TY, ITSELF, "I(T;Y) itself (bits)"),
    )
    return beside(traces, measures)


PAPER = Paper(
    "adilova",
    "Adilova, Geiger & Fischer 2023, Information Plane Analysis for Dropout Neural Networks",
    CLAIMS,
    full={"seeds": 20, "epochs": 2000},
    variants=variants,
    activations=RUNS,
    figures={"dropout": figure},
)

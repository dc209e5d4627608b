"""Claims of Goldfeld et al. (2019) on networks with noise in a layer, where I(X;T) is finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from ibtrace.claims import Claim, Outcome
from ibtrace.estimators import Binning, NoisyChannel
from ibtrace.models import MLP, Init
from ibtrace.models.noise import inject_noise
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import by_call, finite, judged, tracks
from ibtrace.types import I_XT, TraceLike, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STD = 0.05
ITSELF = label(NoisyChannel(noise_std=STD, samples=2, in_network=True))
"""I(X;T) of the layer with its own noise, by Monte Carlo."""
BINS = label(Binning.idnns())
NC1 = "NC1 within over between classes"
LENS = "NeuralCollapse"
GOLDFELD = "Goldfeld et al. 2019"
BELOW = 0.95
"""Share of log₂ N above which an estimate says no more than that all samples are told apart."""
TRACKS = 0.5
"""One quantity tracks another if the rank correlation of their differences is larger (ours)."""
LAYERS = {"noisy-3": "hidden3", "noisy-4": "hidden4", "noisy-5": "hidden5"}
"""The one layer that has noise, by run."""

Traces = Mapping[str, TraceLike]


def network(
    layer: str = "hidden5",
    std: float = STD,
    widths: Sequence[int] = (12, 10, 7, 5, 4, 3, 2),
    activation: str = "tanh",
    init: Init = "idnns",
) -> nn.Module:
    """A network with Gaussian noise in one hidden layer, in training.

    A look sees the centres of the noise, ``hidden5.clean``. The noise is in one layer alone: below
    it all is a function of X, so that given x T has one Gaussian law, which `NoisyChannel` takes.

    Args:
        layer: Which layer.
        std: Standard deviation of the noise.
        widths: Units of each layer, the inputs first.
        activation: After each hidden layer.
        init: See `ibtrace.models.MLP`.

    Example:
        >>> [name for name, _ in network("hidden1", widths=(12, 4, 2)).named_modules() if name]
        ['fc1', 'hidden1', 'hidden1.clean', 'hidden1.noise', 'fc2', 'softmax']
    """
    return inject_noise(MLP(widths, activation, "softmax", init), layer, std)


def centres(run: str) -> str:
    """The layer that is traced: the one with noise, before its noise."""
    return f"{LAYERS[run]}.clean"


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The runs of one activation, one for each layer that may have the noise."""
    return {
        run: {
            "model.init_args.activation": activation,
            "model.init_args.layer": layer,
            "layers": [centres(run)],
        }
        for run, layer in LAYERS.items()
    }


# --- claims --------------------------------------------------------------------------------------


def _finite(traces: Traces, run: str, below: float = BELOW) -> Outcome:
    return finite(traces[run], centres(run), ITSELF, below)


def _compresses(traces: Traces, run: str) -> Outcome:
    (finding,) = judged(traces[run], ITSELF, [centres(run)])
    return by_call(finding, "compresses")


def _clusters(traces: Traces, run: str, by: str, least: float = TRACKS) -> Outcome:
    """Whether I(X;T) by an estimator falls as the classes draw together."""
    return tracks(traces[run], centres(run), by, NC1, LENS, least=least)


def _bins_follow(traces: Traces, run: str, least: float = TRACKS) -> Outcome:
    """Whether bins change as the information itself does, over the whole training."""
    trace, layer = traces[run], centres(run)
    return tracks(trace, layer, ITSELF, I_XT, BINS, least=least, from_peak=False)


def _of_run(run: str) -> tuple[Claim, ...]:
    lens = {NC1: "neural_collapse"}

    def claim(name: str, statement: str, test: Any, *by: str, reads: Any = None) -> Claim:
        return Claim(
            f"{name}-{run}", GOLDFELD, f"{statement} (noise in {LAYERS[run]}).",
            partial(test, run=run), needs=(run,), by=by, reads=reads or {},
        )  # fmt: skip

    return (
        claim(
            "finite", "With noise in the layer I(X;T) is finite, and below log2 N", _finite, ITSELF
        ),
        claim("compresses", "I(X;T) itself falls over training", _compresses, ITSELF),
        claim(
            "clustering",
            "Its fall is driven by clustering: from its peak on I(X;T) falls as the spread within "
            "classes over that between them does (NC1)",
            partial(_clusters, by=ITSELF),
            ITSELF,
            reads=lens,
        ),
        claim(
            "bins-cluster",
            "Binned I(X;T) measures the same clustering: from its peak on it falls as NC1 does",
            partial(_clusters, by=BINS),
            BINS,
            reads=lens,
        ),
        claim(
            "bins-follow",
            "Binned I(X;T) changes as the information itself does",
            _bins_follow,
            ITSELF,
            BINS,
        ),
    )


CLAIMS = tuple(claim for run in LAYERS for claim in _of_run(run))


def figure(traces: Traces) -> Figure:
    """I(X;T) itself, that in bins, and the clustering of classes, a column for each run."""
    from ibtrace.plots import Measure, beside  # loads matplotlib

    measures = [
        Measure(I_XT, ITSELF, "I(X;T) itself (bits)"),
        Measure(I_XT, BINS, "I(X;T), 30 bins on [-1, 1]"),
    ]
    if all((trace.readings()["quantity"] == NC1).any() for trace in traces.values()):
        measures.append(Measure(NC1, LENS, "within over between\nclasses (NC1)", log=True))
    return beside(traces, measures)


PAPER = Paper(
    "goldfeld",
    "Goldfeld et al. 2019, Estimating Information Flow in Deep Neural Networks",
    CLAIMS,
    full={"seeds": 20, "epochs": 8000, "optimizer.init_args.lr": 4e-4},
    activations=("tanh",),
    variants=variants,
    figures={"clustering": figure},
)

"""Claims of Shwartz-Ziv & Tishby (2017) and their critics, tested on the 12-bit task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ibtrace.claims import Claim, Outcome, within
from ibtrace.estimators import Exact
from ibtrace.papers._explanations import EXPLANATIONS
from ibtrace.papers._explanations import PAPERS_BINS as PAPERS_BINS
from ibtrace.papers._explanations import RANGED_BINS as RANGED_BINS
from ibtrace.papers._paper import Paper
from ibtrace.plane import Finding, interval, phases, verdict
from ibtrace.types import I_TY, I_XT, TraceLike, label

EXACT = label(Exact())
SZT = "Shwartz-Ziv & Tishby 2017"


def _hidden(trace: TraceLike) -> list[str]:
    """The hidden layers: all but the network's output."""
    return list(trace.layers[:-1])


def _numbers(trace: TraceLike, quantity: str, estimator: str) -> pd.DataFrame:
    frame = trace.frame()
    return frame[(frame["quantity"] == quantity) & (frame["estimator"] == estimator)]


def _judged(trace: TraceLike, estimator: str, layers: Sequence[str]) -> list[Finding]:
    judged = verdict(trace, estimators=[estimator])
    return [judged.of(layer, estimator) for layer in layers]


def _from_call(judged: Finding, wanted: str) -> Outcome:
    """A claim about one layer, by the call of an estimator on it."""
    drop, held_out = judged.evidence.drop, judged.evidence.held_out
    number = (
        f"{judged.layer} {judged.call}: peak-to-final drop {drop.mean:.2f} bits "
        f"[{drop.lower:.2f}, {drop.upper:.2f}], held out {held_out.mean:.2f} "
        f"[{held_out.lower:.2f}, {held_out.upper:.2f}], {len(judged.evidence.seeds.kept)} seeds"
    )
    if judged.call == "inconclusive":
        return Outcome("inconclusive", f"{number}; {judged.cause}")
    return Outcome("held" if judged.call == wanted else "failed", number)


def _decide(values: np.ndarray, unit: str, *, above: float) -> Outcome:
    """Held if the interval of the mean over seeds lies above a bound, failed if below."""
    mean, lower, upper = interval(values.astype(float))
    number = f"{mean:.2f} {unit} [{lower:.2f}, {upper:.2f}], {len(values)} seeds"
    return Outcome(within(lower, upper, above), number)


def _fitting(traces: Mapping[str, TraceLike]) -> Outcome:
    numbers = _numbers(traces["tanh"], I_TY, PAPERS_BINS)
    last = numbers[numbers["layer"] == _hidden(traces["tanh"])[-1]]
    curves = last.pivot(index="seed", columns="epoch", values="bits").to_numpy()
    return _decide(curves[:, -1] - curves[:, 0], "bits more than at the start", above=0.0)


def _last_tanh_compresses(traces: Mapping[str, TraceLike]) -> Outcome:
    layer = _hidden(traces["tanh"])[-1]
    (judged,) = _judged(traces["tanh"], PAPERS_BINS, [layer])
    return _from_call(judged, "compresses")


def _every_tanh_layer_compresses(traces: Mapping[str, TraceLike]) -> Outcome:
    judged = _judged(traces["tanh"], PAPERS_BINS, _hidden(traces["tanh"]))
    compress = [f.layer for f in judged if f.call == "compresses"]
    others = [f"{f.layer} {f.evidence.drop.mean:.2f}" for f in judged if f.layer not in compress]
    number = f"{len(compress)} of {len(judged)} compress ({', '.join(compress) or 'none'})"
    if not others:
        return Outcome("held", number)
    number = f"{number}; drops of the others in bits: {', '.join(others)}"
    # a layer that stays at the ceiling does not compress, whatever else is unknown of it
    undecided = any(f.call == "inconclusive" and f.cause.kind != "saturated" for f in judged)
    return Outcome("inconclusive" if undecided else "failed", number)


def _most_epochs_compress(traces: Mapping[str, TraceLike]) -> Outcome:
    trace = traces["tanh"]
    layer = _hidden(trace)[-1]
    (judged,) = _judged(trace, PAPERS_BINS, [layer])
    if judged.call != "compresses":
        return Outcome("inconclusive", f"{layer} {judged.call}: {judged.cause}")
    numbers = _numbers(trace, I_XT, PAPERS_BINS)
    peaks = phases(numbers[numbers["layer"] == layer])
    share = 1 - peaks["peak_epoch"].to_numpy() / judged.evidence.final.epoch
    return _decide(share, "of the epochs lie after the peak", above=0.5)


def _order_of_layers(traces: Mapping[str, TraceLike]) -> Outcome:
    numbers = _numbers(traces["tanh"], I_XT, PAPERS_BINS)
    table = numbers.pivot_table(index=["seed", "epoch"], columns="layer", values="bits")
    steps = np.diff(table[traces["tanh"].layers].to_numpy(), axis=1)
    share = float((steps <= 0).mean())
    number = f"{100 * share:.1f} % of {steps.size} neighbouring pairs do not increase"
    return Outcome("held" if share == 1 else "failed", number)


def _relu_does_not(traces: Mapping[str, TraceLike]) -> Outcome:
    layer = _hidden(traces["relu"])[-1]
    (judged,) = _judged(traces["relu"], RANGED_BINS, [layer])
    return _from_call(judged, "does not compress")


def _true_entropy_constant(traces: Mapping[str, TraceLike]) -> Outcome:
    trace = traces["tanh"]
    numbers = _numbers(trace, I_XT, EXACT)
    first = numbers[numbers["layer"].isin(_hidden(trace)[:4])]
    ceiling = float(trace.meta["input_entropy"])
    lowest = first.groupby("layer")["bits"].min()
    of_layers = ", ".join(f"{layer} {bits:.3f}" for layer, bits in lowest.items())
    number = f"lowest exact entropy over epochs and seeds, of {ceiling:.0f} bits: {of_layers}"
    return Outcome("held" if bool((lowest > ceiling - 0.01).all()) else "failed", number)


CLAIMS = (
    Claim(
        "fitting",
        SZT,
        "Training first raises I(T;Y): the last hidden tanh layer ends with more than it began.",
        _fitting,
        needs=("tanh",),
        by=(PAPERS_BINS,),
    ),
    Claim(
        "compression-last",
        SZT,
        "I(X;T) of the last hidden tanh layer falls after a peak (30 bins on [-1, 1]).",
        _last_tanh_compresses,
        needs=("tanh",),
        by=(PAPERS_BINS,),
    ),
    Claim(
        "compression-all",
        SZT,
        "Every hidden tanh layer compresses (30 bins on [-1, 1]).",
        _every_tanh_layer_compresses,
        needs=("tanh",),
        by=(PAPERS_BINS,),
    ),
    Claim(
        "most-epochs",
        SZT,
        "Most epochs are spent on compression: the last hidden tanh layer peaks in the first half.",
        _most_epochs_compress,
        needs=("tanh",),
        by=(PAPERS_BINS,),
    ),
    Claim(
        "order-of-layers",
        SZT,
        "The data-processing inequality orders the layers' binned I(X;T) at every epoch (tanh).",
        _order_of_layers,
        needs=("tanh",),
        by=(PAPERS_BINS,),
    ),
    Claim(
        "no-relu-compression",
        "Saxe et al. 2018",
        "With ReLU the last hidden layer does not compress (bins over the range of the data).",
        _relu_does_not,
        needs=("relu",),
        by=(RANGED_BINS,),
    ),
    Claim(
        "constant-information",
        "Saxe et al. 2018; Goldfeld et al. 2019",
        "The true I(X;T) of a deterministic network does not change: in tanh layers 1 to 4 all "
        "input patterns stay distinct, and what falls is the binned entropy.",
        _true_entropy_constant,
        needs=("tanh",),
        by=(EXACT,),
    ),
    *EXPLANATIONS,
)

PAPER = Paper(
    "tishby",
    "Shwartz-Ziv & Tishby 2017, Opening the Black Box of Deep Neural Networks via Information",
    CLAIMS,
    full={"seeds": 50, "epochs": 8000},
)

"""Claims of Shwartz-Ziv & Tishby (2017) and their critics, tested on the 12-bit task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from ibtrace.claims import Claim, Outcome
from ibtrace.estimators import Exact
from ibtrace.papers._explanations import EXPLANATIONS
from ibtrace.papers._explanations import PAPERS_BINS as PAPERS_BINS
from ibtrace.papers._explanations import RANGED_BINS as RANGED_BINS
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import by_call, curves, decided, hidden, judged
from ibtrace.plane import Rule
from ibtrace.types import I_TY, I_XT, TraceLike, label

EXACT = label(Exact())
SZT = "Shwartz-Ziv & Tishby 2017"
RULE = Rule()
"""What counts as compression, by default."""

Traces = Mapping[str, TraceLike]


def _fitting(traces: Traces, least: float = 0.0) -> Outcome:
    trace = traces["tanh"]
    bits = curves(trace, I_TY, PAPERS_BINS, hidden(trace)[-1])
    return decided(bits.iloc[:, -1] - bits.iloc[:, 0], "bits more than at the start", least)


def _last_layer(traces: Traces, run: str, by: str, wanted: str, rule: Rule = RULE) -> Outcome:
    layer = hidden(traces[run])[-1]
    (finding,) = judged(traces[run], by, [layer], rule=rule)
    return by_call(finding, wanted)


def _every_tanh_layer_compresses(traces: Traces, rule: Rule = RULE) -> Outcome:
    findings = judged(traces["tanh"], PAPERS_BINS, hidden(traces["tanh"]), rule=rule)
    compress = [f.layer for f in findings if f.call == "compresses"]
    others = [f"{f.layer} {f.evidence.drop.mean:.2f}" for f in findings if f.layer not in compress]
    number = f"{len(compress)} of {len(findings)} compress ({', '.join(compress) or 'none'})"
    if not others:
        return Outcome("held", number)
    number = f"{number}; drops of the others in bits: {', '.join(others)}"
    # a layer that stays at the ceiling does not compress, whatever else is unknown of it
    undecided = any(f.call == "inconclusive" and f.cause.kind != "saturated" for f in findings)
    return Outcome("inconclusive" if undecided else "failed", number)


def _most_epochs_compress(traces: Traces, share: float = 0.5, rule: Rule = RULE) -> Outcome:
    trace = traces["tanh"]
    layer = hidden(trace)[-1]
    (finding,) = judged(trace, PAPERS_BINS, [layer], rule=rule)
    if finding.call != "compresses":
        return Outcome("inconclusive", f"{layer} {finding.call}: {finding.cause}")
    peaks = curves(trace, I_XT, PAPERS_BINS, layer).idxmax(axis=1)
    after = 1 - peaks / finding.evidence.final.epoch
    return decided(after, "of the epochs lie after the peak", share, between=(0, 1))


def _order_of_layers(traces: Traces, share: float = 1.0) -> Outcome:
    trace = traces["tanh"]
    table = np.stack([curves(trace, I_XT, PAPERS_BINS, layer) for layer in trace.layers])
    steps = np.diff(table, axis=0)
    ordered = float((steps <= 0).mean())
    number = f"{100 * ordered:.1f} % of {steps.size} neighbouring pairs do not increase"
    return Outcome("held" if ordered >= share else "failed", number)


def _true_entropy_constant(traces: Traces, off: float = 0.01) -> Outcome:
    trace = traces["tanh"]
    names = hidden(trace)
    ceiling = float(trace.meta["input_entropy"])
    lowest = {
        layer: float(curves(trace, I_XT, EXACT, layer).to_numpy().min())
        for layer in names[:-1] or names
    }
    of_layers = ", ".join(f"{layer} {bits:.3f}" for layer, bits in lowest.items())
    number = f"lowest exact entropy over epochs and seeds, of {ceiling:.0f} bits: {of_layers}"
    return Outcome("held" if min(lowest.values()) > ceiling - off else "failed", number)


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
        partial(_last_layer, run="tanh", by=PAPERS_BINS, wanted="compresses"),
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
        partial(_last_layer, run="relu", by=RANGED_BINS, wanted="does not compress"),
        needs=("relu",),
        by=(RANGED_BINS,),
    ),
    Claim(
        "constant-information",
        "Saxe et al. 2018; Goldfeld et al. 2019",
        "The true I(X;T) of a deterministic network does not change: in the tanh layers before the "
        "last hidden one all input patterns stay distinct, and what falls is the binned entropy.",
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

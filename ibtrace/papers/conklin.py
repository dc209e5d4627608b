"""Claims of Conklin et al. (2026), that training first expands and then compresses, in small."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ibtrace.claims import Claim, Outcome
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import by_count, decided
from ibtrace.plane import on_clock
from ibtrace.types import TraceLike, about_source, about_target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOFT = "SoftEntropy"
CONKLIN = "Conklin et al. 2026"
TEXT, SHUFFLED = "text", "shuffled"
CONTEXTS = (1, 2, 3, 4)
NEXT = (1, 2)
LEAST = 0.05
"""Bits by which something has to rise or fall, or a ratio to change (ours)."""
NOTHING = 0.1
"""Bits below which nothing is told that is not told by chance (ours, as of `undersampled`)."""

Traces = Mapping[str, TraceLike]
Curves = pd.DataFrame


def x(order: int) -> str:
    """The quantity of the context of an order."""
    return about_source(f"context{order}")


def y(order: int) -> str:
    """The quantity of the continuation of an order."""
    return about_target(f"next{order}")


# --- what is measured ----------------------------------------------------------------------------


def bits(trace: TraceLike, quantity: str, layer: str | int = -1) -> Curves:
    """Bits of a layer beyond those of permuted labels, ``(seed, step)``.

    What permuted labels get (`null_bits`) is none of the information, and grows with the order: of
    long n-grams, each seen once or twice, it is most of the number.

    Args:
        trace: The trace.
        quantity: `x` or `y` of an order.
        layer: The layer's name, or its place.
    """
    name = trace.layers[layer] if isinstance(layer, int) else layer
    frame = on_clock(trace.frame())
    rows = frame[(frame["quantity"] == quantity) & (frame["layer"] == name)]
    rows = rows[rows["estimator"] == SOFT]
    rows = rows.assign(bits=rows["bits"] - rows["null_bits"].fillna(0.0))
    return rows.pivot(index="seed", columns="epoch", values="bits")


def ratio(trace: TraceLike, layer: str | int = -1) -> Curves:
    """I(T;next) over I(context;T), both of one token; NaN where T holds hardly any of the context.

    Args:
        trace: The trace.
        layer: The layer's name, or its place.
    """
    held = bits(trace, x(1), layer)
    return bits(trace, y(1), layer) / held.where(held > LEAST)


def peak(curves: Curves) -> dict[int, int]:
    """The step at which the mean over the other seeds is highest, by seed: it is held out."""
    seeds = [int(seed) for seed in curves.index]
    others = {seed: curves.drop(index=seed) if len(seeds) > 1 else curves for seed in seeds}
    return {seed: int(str(table.mean().idxmax())) for seed, table in others.items()}


def _at(curves: Curves, places: Mapping[int, int]) -> pd.Series:
    """The numbers of each seed at a step of its own."""
    table, steps = curves.to_numpy(), [*curves.columns]
    numbers = [table[at, steps.index(step)] for at, step in enumerate(places.values())]
    return pd.Series(numbers, index=curves.index)


# --- claims --------------------------------------------------------------------------------------


def _expands(traces: Traces, order: int, least: float = LEAST) -> Outcome:
    """From where the first steps have collapsed it to the peak."""
    curves = bits(traces[TEXT], x(order))
    highest = peak(curves)
    table, steps_of = curves.to_numpy(), [*curves.columns]
    before = [
        table[at, : steps_of.index(step) + 1].min() for at, step in enumerate(highest.values())
    ]
    rise = _at(curves, highest) - np.array(before)
    steps = ", ".join(map(str, sorted({*highest.values()})))
    return decided(rise, f"bits of {x(order)} risen to the peak at step {steps}", least)


def _compresses(traces: Traces, order: int, least: float = LEAST) -> Outcome:
    curves = bits(traces[TEXT], x(order))
    highest = peak(curves)
    fall = _at(curves, highest) - curves.iloc[:, -1]
    steps = ", ".join(map(str, sorted({*highest.values()})))
    words = f"bits of {x(order)} fallen from step {steps} to {curves.columns[-1]} (held out)"
    return decided(fall, words, least)


def _longer_later(traces: Traces) -> Outcome:
    steps = {order: _own_peaks(bits(traces[TEXT], x(order))) for order in CONTEXTS[:2]}
    later = int((steps[2] > steps[1]).sum())
    means = " and ".join(f"{steps[order].mean():.0f} of order {order}" for order in steps)
    status = by_count(later, len(steps[1]))
    return Outcome(status, f"later in {later} of {len(steps[1])} seeds; mean steps {means}")


def _own_peaks(curves: Curves) -> pd.Series:
    return curves.idxmax(axis=1).astype(float)


def _ratio_rises(traces: Traces, least: float = LEAST) -> Outcome:
    """From the peak of I(context;T) to the end."""
    curves = ratio(traces[TEXT])
    highest = peak(bits(traces[TEXT], x(1)))
    rise = curves.iloc[:, -1] - _at(curves, highest)
    words = f"risen from {_at(curves, highest).mean():.2f} to {curves.iloc[:, -1].mean():.2f}"
    return decided(rise, words, least)


def _ratio_learnt(traces: Traces, least: float = LEAST) -> Outcome:
    curves = ratio(traces[TEXT])
    words = f"above the {curves.iloc[:, 0].mean():.2f} of the network as initialised"
    return decided(curves.iloc[:, -1] - curves.iloc[:, 0], words, least)


def _over_blocks(
    traces: Traces, quantity: str, at: int, sign: float, least: float = LEAST
) -> Outcome:
    """Whether the last block has more (sign 1) or less (-1) than the first, at a look."""
    first, last = (bits(traces[TEXT], quantity, place).iloc[:, at] for place in (0, -1))
    word = "more" if sign > 0 else "less"
    words = f"bits of {quantity} {word} in the last block than in the first"
    return decided(sign * (last - first), f"{words} ({first.mean():.2f} there)", least)


def _shuffled_tells_nothing(traces: Traces, quantity: str, most: float = NOTHING) -> Outcome:
    curves = bits(traces[SHUFFLED], quantity)
    return decided(curves.iloc[:, -1], f"bits of {quantity} at the end", -most, most)


def _claim(
    name: str, statement: str, test: Any, *needs: str, source: str = CONKLIN, **arguments: Any
) -> Claim:
    return Claim(
        name, source, statement, partial(test, **arguments), needs=needs or (TEXT,), by=(SOFT,)
    )  # fmt: skip


CLAIMS = (
    _claim(
        "expands",
        "Training first expands: I(X;T) of the last block rises from where the first steps have "
        "collapsed it, X the token",
        _expands,
        order=1,
    ),
    _claim(
        "compresses",
        "Then it compresses: I(X;T) of the last block falls from its peak to the end, X the token",
        _compresses,
        order=1,
    ),
    _claim(
        "compresses-2",
        "Information on contexts falls as well: X the last two tokens",
        _compresses,
        order=2,
    ),
    _claim(
        "longer-later",
        "The longer the context, the later the fall: I(X;T) of two tokens peaks after that of one",
        _longer_later,
    ),
    _claim(
        "ratio",
        "Compression is towards the bound: I(T;Y)/I(X;T) of the last block rises from the peak of "
        "I(X;T) to the end",
        _ratio_rises,
    ),
    _claim(
        "blocks-context",
        "Later blocks hold less of the context: I(X;T) of the last is below that of the first, "
        "trained",
        _over_blocks,
        quantity=x(1),
        at=-1,
        sign=-1.0,
    ),
    _claim(
        "blocks-next",
        "Later blocks hold more of the next token: I(T;Y) of the last is above that of the first, "
        "trained",
        _over_blocks,
        quantity=y(1),
        at=-1,
        sign=1.0,
    ),
    _claim(
        "control-untrained-next",
        "Control: in the untrained network the last block holds less of the next token than the "
        "first",
        _over_blocks,
        source="ours",
        quantity=y(1),
        at=0,
        sign=-1.0,
    ),
    _claim(
        "control-untrained-ratio",
        "Control: I(T;Y)/I(X;T) of the trained network is above that of the untrained one",
        _ratio_learnt,
        source="ours",
    ),
    _claim(
        "control-shuffled-next",
        "Control: trained on shuffled text, T tells nothing of the next token",
        _shuffled_tells_nothing,
        SHUFFLED,
        source="ours",
        quantity=y(1),
    ),
    _claim(
        "control-shuffled-context",
        "Control: trained on shuffled text, where nothing follows from a token, T holds nothing of "
        "it: what expands is what predicts",
        _shuffled_tells_nothing,
        SHUFFLED,
        source="ours",
        quantity=x(1),
    ),
)


def figure(traces: Traces) -> Figure:
    """Contexts, continuations and the ratio against the step, a column for text and for shuffled.

    Contexts and continuations are of the last block, the ratio of each.
    """
    from ibtrace.plots import Strip, grid  # loads matplotlib

    strips = (
        Strip("I(context; T),\nlast block (bits)"),
        Strip("I(T; next),\nlast block (bits)"),
        Strip("I(T; next) /\nI(context; T)"),
    )
    columns = {name: _cells(trace) for name, trace in traces.items()}
    return grid(columns, strips, "step", log_x=True)


def _cells(trace: TraceLike) -> tuple[list[Any], ...]:
    """The series of a run, for each strip."""
    from ibtrace.plots import Series

    contexts = [
        Series(f"context of {order}", _long(bits(trace, x(order))), "curve", order - 1)
        for order in CONTEXTS
    ]
    following = [
        Series(f"next {order}", _long(bits(trace, y(order))), "points", order - 1) for order in NEXT
    ]
    ratios = [Series("first block", _long(ratio(trace, 0)), "line")]
    return contexts, following, [*ratios, Series("last block", _long(ratio(trace)), "curve")]


def _long(curves: Curves) -> pd.DataFrame:
    """``seed, x, value``; step 0 stands at 1 on a logarithmic axis."""
    table = curves.rename_axis(columns="x").reset_index().melt("seed", var_name="x")
    return table.assign(x=np.maximum(table["x"].astype(float), 1.0))


PAPER = Paper(
    "conklin",
    "Conklin et al. 2026, Learning is forgetting: LLM training as lossy compression",
    CLAIMS,
    full={"data.init_args.held_out": 50000, "seeds": 5},
    activations=("gelu",),
    figures={"planes": figure},
)

"""The points of the information plane and the phases of a curve, from a trace's table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ibtrace.errors import InvalidInput
from ibtrace.plane.drops import Array
from ibtrace.plane.pairs import pair, quantities
from ibtrace.types import I_TY, I_XT, TraceLike

_KEY = ["seed", "epoch", "layer", "estimator"]


def clock(frame: pd.DataFrame) -> str:
    """What tells a table's looks apart: ``epoch``, or ``step`` where an epoch has several.

    Args:
        frame: `Trace.frame`.
    """
    if "step" not in frame or frame["step"].isna().any():
        return "epoch"
    steps = frame.groupby(["seed", "epoch"])["step"].nunique()
    return "step" if len(steps) and int(steps.max()) > 1 else "epoch"


def on_clock(frame: pd.DataFrame, table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table with its looks counted by ``epoch``: the steps take its place if they count.

    Args:
        frame: `Trace.frame`.
        table: A table of the same run, if it is another than the frame.
    """
    table = frame if table is None else table
    if clock(frame) == "epoch":
        return table
    return table.dropna(subset="step").assign(epoch=lambda known: known["step"].astype("int64"))


def coordinates(frame: pd.DataFrame) -> pd.DataFrame:
    """The points of the information plane: ``seed, epoch, layer, estimator, I(X;T), I(T;Y)``.

    Args:
        frame: `Trace.frame`. A quantity that was not measured is NaN. Where an epoch has several
            looks, the epochs are steps.

    Raises:
        InvalidInput: If columns are missing or a number occurs twice.
    """
    frame = on_clock(frame)
    check_frame(frame)
    wide = frame.pivot(index=_KEY, columns="quantity", values="bits")
    wide = wide.reindex(columns=[I_XT, I_TY]).rename_axis(columns=None).reset_index()
    return in_order(wide, frame, ["seed", "epoch", "layer", "estimator"])


def mean_coordinates(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: ``epoch, layer, estimator, I(X;T), I(T;Y), seeds``.

    Only epochs that as many seeds reached as any epoch are kept: a mean over other seeds is
    another quantity, and the curve would jump.
    """
    points = coordinates(frame)
    groups = points.groupby(["epoch", "layer", "estimator"])
    means = groups[[I_XT, I_TY]].mean()
    means["seeds"] = groups["seed"].nunique()
    means = means.reset_index()
    most = means.groupby(["layer", "estimator"])["seeds"].transform("max")
    return in_order(means[means["seeds"] == most], frame, ["epoch", "layer", "estimator"])


def derived(trace: TraceLike, x: str | None = None, y: str | None = None) -> pd.DataFrame:
    """What is superfluous in T, and how much of what it holds is about Y, at each point.

    Columns ``seed, epoch, layer, estimator, I(X;T), I(T;Y)`` in bits of the two variables, then

    - ``superfluous``: I(X;T|Y) = I(X;T) - I(T;Y) in bits, which T holds of X beside Y; only where X
      decides Y on the probe;
    - ``ratio``: I(T;Y)/I(X;T), without unit: near 1 where T holds nothing of X but Y; only where
      I(X;T) is above 0;
    - ``reason``: why one of them is NaN; empty if none is.

    Args:
        trace: The run.
        x: The source of the probe that stands for X; None: the inputs themselves.
        y: The target of the probe that stands for Y; None: the first.

    Raises:
        UnknownName: If the trace has no such variable; lists those that it has.

    References:
        Federici, Dutta, Forré, Kushman & Akata 2020, Learning robust representations via multi-view
        information bottleneck, ICLR, arXiv:2002.07017.
    """
    seen = pair(trace, x, y)
    points = coordinates(seen.frame())
    of_x, of_y = points[I_XT], points[I_TY]
    decided = seen.meta.get("decided", {}).get(I_TY)
    called = quantities(seen.meta)
    undecided = "" if decided and I_XT in decided else f"{called[I_TY]}: X does not decide Y"
    if decided is None:
        undecided = "the trace does not say whether X decides Y"
    positive = of_x > 0
    reasons = np.where(positive, "", f"{called[I_XT]} is not above 0")
    told = [", ".join(filter(None, (undecided, str(reason)))) for reason in reasons]
    return points.assign(
        superfluous=np.nan if undecided else of_x - of_y,
        ratio=(of_y / of_x).where(positive),
        reason=told,
    )


def phases(frame: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """Fitting (rise of I(T;Y)) and compression (fall of I(X;T) after its peak) of each seed.

    Columns: ``seed, layer, estimator``; ``fitting_bits``, the rise of I(T;Y) from the first
    snapshot to its highest; ``fitting_onset`` and ``fitting_end``, the first epochs at which
    a ``share`` of that rise, and all but a ``share``, is done; ``peak_epoch`` and ``peak_bits``
    of I(X;T); ``compression_bits``, its fall from there to the last snapshot;
    ``compression_onset``, the first epoch after which it never again comes within a ``share`` of
    that fall to the peak. An epoch is NaN where there is no rise or fall.

    Args:
        frame: `Trace.frame`.
        share: Of the rise or fall, that counts as its begin.
    """
    points = coordinates(frame)
    records = []
    for (seed, layer, estimator), curve in points.groupby(["seed", "layer", "estimator"]):
        record = {"seed": seed, "layer": layer, "estimator": estimator}
        record |= _fitting(curve["epoch"].to_numpy(), curve[I_TY].to_numpy(), share)
        record |= _compression(curve["epoch"].to_numpy(), curve[I_XT].to_numpy(), share)
        records.append(record)
    return in_order(pd.DataFrame(records), frame, ["seed", "layer", "estimator"])


def _fitting(epochs: Array, bits: Array, share: float) -> dict[str, float]:
    nothing = {"fitting_bits": np.nan, "fitting_onset": np.nan, "fitting_end": np.nan}
    measured = np.isfinite(bits)
    epochs, bits = epochs[measured], bits[measured]
    if not len(bits):
        return nothing
    rise = float(bits.max() - bits[0])
    if rise <= 0:
        return {**nothing, "fitting_bits": rise}
    first = [int(np.argmax(bits - bits[0] >= part * rise)) for part in (share, 1 - share)]
    onset, end = (float(epochs[at]) for at in first)
    return {"fitting_bits": rise, "fitting_onset": onset, "fitting_end": end}


def _compression(epochs: Array, bits: Array, share: float) -> dict[str, float]:
    measured = np.isfinite(bits)
    epochs, bits = epochs[measured], bits[measured]
    names = ("peak_epoch", "peak_bits", "compression_bits", "compression_onset")
    if not len(bits):
        return dict.fromkeys(names, np.nan)
    peak = int(bits.argmax())
    drop = float(bits[peak] - bits[-1])
    onset = np.nan
    if drop > 0:
        last_near = int(np.flatnonzero(bits > bits[peak] - share * drop)[-1])
        onset = float(epochs[last_near + 1])
    values = (float(epochs[peak]), float(bits[peak]), drop, onset)
    return dict(zip(names, values, strict=True))


def check_frame(frame: pd.DataFrame) -> None:
    """Raise unless the table has a trace's columns and no number twice.

    Raises:
        InvalidInput: If it lacks one or has one.
    """
    needed = [*_KEY, "quantity", "bits"]
    if missing := [name for name in needed if name not in frame]:
        raise InvalidInput(f"the table lacks the columns {missing}; pass trace.frame()")
    if frame.duplicated([*_KEY, "quantity"]).any():
        raise InvalidInput("the table has a number twice; judge one run at a time")


def estimands(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """What stands for T in rows, each once: the estimand, and how T was made (`Row.variable`).

    Args:
        rows: Rows of `Trace.frame`; without a column ``variable`` T is every layer's output.
    """
    told = rows[["estimand"]].assign(variable=rows["variable"] if "variable" in rows else "")
    return tuple(told.drop_duplicates().itertuples(index=False, name=None))


def in_order(table: pd.DataFrame, frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sort with layers and estimators in the order in which the frame shows them."""

    def place(column: pd.Series) -> pd.Series:
        if column.name in ("layer", "estimator"):
            names = frame[str(column.name)].unique()
            return column.map({name: index for index, name in enumerate(names)})
        return column

    return table.sort_values(by, key=place, ignore_index=True)

"""The edge of stability, optimiser by optimiser (Cohen et al. 2021, 2022), on the 12-bit task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ibtrace.claims import Claim, Outcome, within
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import bracketed, by_count
from ibtrace.plane import Interval, interval
from ibtrace.predictions import Prediction, of_each
from ibtrace.types import TraceLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ibtrace.plots import Series

DESCENT = "Cohen et al. 2021"
ADAPTIVE = "Cohen et al. 2022"
FITTED = 0.99
"""Training accuracy from which on the curvature of the cross-entropy falls with the loss."""
AROUND = 1.25
"""A mean over looks is at its threshold if it is within this factor of it."""
_BLOCKS = 8  # of looks, for the error of a mean over looks that depend on each other

Traces = Mapping[str, TraceLike]


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The runs of one activation: full batches by three optimisers, and the recipe of tishby."""
    bounded = activation in ("tanh", "sigmoid")
    network: dict[str, Any] = {
        "model.init_args.activation": activation,
        "model.init_args.init": "idnns" if bounded else "he",
    }
    full = {
        "gd": ("torch.optim.SGD", {"lr": 0.5}),
        "momentum": ("torch.optim.SGD", {"lr": 0.05, "momentum": 0.9}),
        "adam": ("torch.optim.Adam", {"lr": 5e-3}),
    }
    runs = {
        name: {**network, "optimizer": {"class_path": kind, "init_args": fields}}
        for name, (kind, fields) in full.items()
    }
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 4e-4}}
    runs["tishby"] = {**network, "optimizer": adam, "batch_size": 512}
    return {f"{activation}-{name}": run for name, run in runs.items()}


# --- what is measured ---------------------------------------------------------------------------


def looks(trace: TraceLike) -> pd.DataFrame:
    """What was read of each network at each look of the lens `Edge`.

    Args:
        trace: A run.

    Returns:
        ``seed, epoch``; ``over``, λ_max(P⁻¹H) over the optimiser's own ``threshold``; ``raw``,
        λ_max(H) over 2/η, NaN at looks where it was not read; ``loss`` and ``accuracy`` on the
        training samples.
    """
    frame = trace.readings(diagnostics=True)
    parts = {
        "over": "sharpness over threshold",
        "raw": "largest Hessian eigenvalue",
        "loss": "train_loss",
        "accuracy": "train_accuracy",
    }
    columns = {
        name: frame[frame["quantity"] == quantity].set_index(["seed", "epoch"])["value"]
        for name, quantity in parts.items()
    }
    edge = frame[frame["quantity"] == parts["over"]].set_index(["seed", "epoch"])
    table = pd.DataFrame({name: column.reindex(edge.index) for name, column in columns.items()})
    table["threshold"] = edge["threshold"] if "threshold" in edge else np.nan
    table["raw"] *= float(trace.meta["config"]["optimizer"]["init_args"]["lr"]) / 2
    return table.reset_index()


def at_edge(trace: TraceLike) -> pd.DataFrame:
    """Each network at the edge: from its first look at or above the threshold until it fits.

    Once nearly all samples are classified with confidence, the Hessian of the cross-entropy
    vanishes with the loss, and the sharpness leaves the threshold.

    Args:
        trace: A run.

    Returns:
        ``seed``; ``start``, sharpness over threshold at the first look that has it; ``reached``,
        the epoch of the first look at 1 or above (NaN if there is none before it fits), ``left``,
        that of the last look before it fits; ``looks``, how many they are, their ``mean``, and
        ``margin``, half the width of the 95 % interval of that mean by the means of 8 blocks;
        ``rises``, on which share of them the loss was higher than at the look before, and ``fell``,
        the loss at the last of them over that at the first.
    """
    rows = [
        {"seed": seed, **_stay(part.sort_values("epoch").dropna(subset=["over"]))}
        for seed, part in looks(trace).groupby("seed")
    ]
    columns = ["seed", "start", "reached", "left", "looks", "mean", "margin", "rises", "fell"]
    return pd.DataFrame(rows, columns=columns)


def _stay(part: pd.DataFrame) -> dict[str, float]:
    """What `at_edge` says of one network."""
    if part.empty:
        return {}
    row = {"start": float(part["over"].iloc[0])}
    before = part[~(part["accuracy"] >= FITTED).cummax()]
    stay = before[(before["over"] >= 1).cummax()]
    if stay.empty:
        return row
    values = stay["over"].to_numpy(dtype=np.float64)
    row |= {
        "reached": float(stay["epoch"].iloc[0]),
        "left": float(stay["epoch"].iloc[-1]),
        "looks": float(len(values)),
        "mean": float(values.mean()),
        "margin": _margin(values),
        "rises": float((stay["loss"].diff().iloc[1:] > 0).mean()),
        "fell": float(stay["loss"].iloc[-1] / stay["loss"].iloc[0]),
    }
    return row


def _margin(values: NDArray[np.float64]) -> float:
    """Half the 95 % interval of the mean of a stretch whose neighbours depend on each other."""
    if len(values) < 2 * _BLOCKS:
        return float("nan")
    means = np.array([block.mean() for block in np.array_split(values, _BLOCKS)])
    error = means.std(ddof=1) / _BLOCKS**0.5
    return float(stats.t.ppf(0.975, _BLOCKS - 1) * error)


def _predicted(trace: TraceLike) -> pd.DataFrame:
    stays = at_edge(trace)
    stays = stays[stays["reached"].notna()]
    return pd.DataFrame(
        {
            "seed": stays["seed"],
            "predicted": 1.0,
            "measured": stays["mean"],
            "margin": stays["margin"],
            "unit": "1",
        }
    )


EDGE = Prediction(
    "edge threshold",
    f"{DESCENT}, {ADAPTIVE}",
    "From where the sharpness meets its optimiser's threshold until the samples are fitted, its "
    "mean is that threshold (a ratio of 1).",
    of_each(_predicted),
)


# --- claims -------------------------------------------------------------------------------------


def _sharpens(traces: Traces, name: str, below: float = 1.0) -> Outcome:
    stays = at_edge(traces[name])
    if stays["start"].isna().all():
        return Outcome("inconclusive", "the sharpness was not read")
    reached = int(stays["reached"].notna().sum())
    start = interval(stays["start"].dropna().to_numpy())
    number = (
        f"from {bracketed(start, 2)} of the threshold to it in {reached} of {len(stays)} networks"
    )
    if reached:
        number += f", at epoch {stays['reached'].median():,.0f} (median)"
    if not bool((stays["start"] < below).all()):
        return Outcome("failed", f"{number}; it is not below at the start")
    return Outcome(by_count(reached, len(stays)), number)


def _hovers(traces: Traces, name: str, around: float = AROUND) -> Outcome:
    stays = at_edge(traces[name]).dropna(subset=["mean"])
    if stays.empty:
        return Outcome("inconclusive", "no network reached the threshold")
    level = interval(stays["mean"].to_numpy())
    table = looks(traces[name]).merge(stays, on="seed")
    there = table[table["epoch"].between(table["reached"], table["left"])]["over"]
    low, high = there.quantile([0.1, 0.9])
    number = (
        f"mean {bracketed(level, 2)} of the threshold "
        f"(80 % of single looks {low:.2f} to {high:.2f}), {len(stays)} seeds"
    )
    return Outcome(within(level.lower, level.upper, 1 / around, around), number)


def _loss_rises_and_falls(
    traces: Traces, name: str, rising: float = 0.0, falling: float = 1.0
) -> Outcome:
    stays = at_edge(traces[name]).dropna(subset=["rises", "fell"])
    if stays.empty:
        return Outcome("inconclusive", "no network reached the threshold")
    rises = interval(stays["rises"].to_numpy())
    logs = interval(np.log(stays["fell"].to_numpy()))
    fell = Interval(*np.exp(logs))  # of a ratio, the geometric mean
    number = (
        f"higher than at the look before on {100 * rises.mean:.0f} % of looks "
        f"[{100 * rises.lower:.0f}, {100 * rises.upper:.0f}], and in the end "
        f"{bracketed(fell, 2)} times what it was, {len(stays)} seeds"
    )
    if rises.lower > rising and fell.upper < falling:
        return Outcome("held", number)
    return Outcome(
        "failed" if fell.lower > falling or rises.upper <= rising else "inconclusive", number
    )


def _above_plain(traces: Traces, name: str, least: float = 1.0) -> Outcome:
    table = looks(traces[name]).dropna(subset=["raw"])
    if table.empty:
        return Outcome("inconclusive", "the largest eigenvalue was not read")
    level = interval(table.groupby("seed")["raw"].max().to_numpy())
    number = f"λ_max(H) rises to {bracketed(level, 2)} times 2/η, {table['seed'].nunique()} seeds"
    return Outcome(within(level.lower, level.upper, least), number)


def _neither(traces: Traces, name: str, most: float = 1.0) -> Outcome:
    table = looks(traces[name])
    over, raw = table["over"].max(), table["raw"].max()
    if np.isnan([over, raw]).any():
        return Outcome("inconclusive", "the sharpness was not read")
    own = table["threshold"].max()
    number = (
        f"at most {over:.3f} of its own threshold ({own:,.0f}) and {raw:.2f} of 2/η in "
        f"{table['seed'].nunique()} networks"
    )
    return Outcome("held" if max(over, raw) < most else "failed", number)


def _claims(activation: str) -> tuple[Claim, ...]:
    whose = {
        "gd": ("2/η of full-batch descent", DESCENT),
        "momentum": ("(2 + 2β)/η of descent with momentum", DESCENT),
        "adam": ("(2 + 2β₁)/((1 - β₁)η) of Adam, preconditioned", ADAPTIVE),
    }

    def claim(kind: str, name: str, source: str, statement: str, test: Any) -> Claim:
        run = f"{activation}-{name}"
        return Claim(
            f"{kind}-{name}", source, f"{statement} ({run}).", partial(test, name=run), needs=(run,)
        )

    made = []
    for name, (line, source) in whose.items():
        statement = f"Progressive sharpening: the sharpness rises until it meets {line}"
        made.append(claim("sharpens", name, source, statement, _sharpens))
        statement = f"It then hovers there, within a factor {AROUND:g} in the mean, until it fits"
        made.append(claim("hovers", name, source, statement, _hovers))
    statement = "At the edge the loss rises over short times, and falls over long ones"
    made.append(claim("loss", "gd", DESCENT, statement, _loss_rises_and_falls))
    statement = "The line is the optimiser's own: momentum lets the sharpness pass 2/η"
    made.append(claim("own", "momentum", DESCENT, statement, _above_plain))
    statement = "Under Adam the raw sharpness keeps growing, far past 2/η"
    made.append(claim("own", "adam", ADAPTIVE, statement, _above_plain))
    statement = "The recipe of Shwartz-Ziv & Tishby, Adam in small steps and batches, meets no line"
    made.append(claim("below", "tishby", f"after {ADAPTIVE}", statement, _neither))
    return tuple(made)


# --- figure -------------------------------------------------------------------------------------


def figure(traces: Traces) -> Figure:
    """Sharpness over its threshold, raw sharpness over 2/η and the loss, a column an optimiser."""
    from ibtrace.plots import Strip, grid  # loads matplotlib

    strips = (
        Strip("$λ_{max}(P^{-1}H)$ over\nthe optimiser's threshold", log=True),
        Strip("$λ_{max}(H)$ over $2/η$", log=True),
        Strip("training loss (nats)", log=True),
    )
    columns = {_title(trace): _cells(looks(trace)) for trace in traces.values()}
    return grid(columns, strips, "epoch")


def _title(trace: TraceLike) -> str:
    configured = trace.meta["config"]
    kind = configured["optimizer"]["class_path"].rpartition(".")[2]
    fields = configured["optimizer"]["init_args"]
    parts = [f"{kind}, η = {fields['lr']:g}"]
    if "momentum" in fields:
        parts.append(f"β = {fields['momentum']:g}")
    if configured["batch_size"] < trace.meta["data"]["train_samples"]:
        parts.append(f"batch {configured['batch_size']}")
    return ", ".join(parts)


def _cells(table: pd.DataFrame) -> tuple[list[Series], ...]:
    """The series of a run, for each strip."""
    from ibtrace.plots import Series

    cells = []
    ends = pd.DataFrame({"seed": 0, "x": table["epoch"].agg(["min", "max"]), "value": 1.0})
    for at, column in enumerate(("over", "raw", "loss")):
        rows = table.rename(columns={"epoch": "x"}).assign(value=table[column])
        labels = {"over": "preconditioned sharpness", "raw": "raw sharpness", "loss": "loss"}
        cell = [Series(labels[column], rows, "curve", at)]
        if column != "loss":
            line = "threshold: the optimiser's own (top), of plain descent (middle)"
            cell.append(Series(line, ends, "theory"))
        cells.append(cell)
    return tuple(cells)


PAPER = Paper(
    "cohen",
    "Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of "
    "Stability; Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability",
    _claims("tanh"),
    variants=variants,
    activations=("tanh",),
    figures={"edge": figure},
    predictions=(EDGE,),
)

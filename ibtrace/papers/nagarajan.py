"""Norms, bounds and test error against the number of training samples (Nagarajan & Kolter 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ibtrace.claims import Claim, Outcome, within
from ibtrace.papers._paper import Paper
from ibtrace.papers.measures import bracketed, by_count
from ibtrace.plane import Interval, half_width, interval
from ibtrace.predictions import Prediction
from ibtrace.types import TraceLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE = "Nagarajan & Kolter 2019"
SIZES = (64, 128, 256, 512, 1024, 2048)
"""Training samples, of the 4096 patterns; the others are the test samples."""
MARGINS = (1.0, 4.0)
"""γ: a network is read where 99 % of its training margins are at least this (the paper's is 10)."""
_PATTERNS = 4096
_FEWEST = 3  # sizes that a slope needs, to have a residual

Traces = Mapping[str, TraceLike]


def variants(activation: str) -> dict[str, dict[str, Any]]:
    """The runs of one activation, one for each number of training samples."""
    bounded = activation in ("tanh", "sigmoid")
    return {
        f"{activation}-{size}": {
            "model.init_args.activation": activation,
            "model.init_args.init": "xavier" if bounded else "he",
            "split.fraction": size / _PATTERNS,
        }
        for size in SIZES
    }


# --- what is measured ---------------------------------------------------------------------------


def measured(traces: Traces, margin: float) -> pd.DataFrame:
    """One row a network, from the first look at which 99 % of its training margins are at least γ.

    Args:
        traces: By variant.
        margin: γ, in the unit of the logits.

    Returns:
        ``trace, activation, seed``; ``m``, the number of its training samples; ``reached``, the
        epoch of that look, and what was read there, NaN where it never came: ``distance``,
        ‖w - w₀‖; ``bound``, R‖X‖_F/(mγ), R the spectral complexity of Bartlett, Foster &
        Telgarsky, without constants and logarithms; ``error``, the share of test samples that are
        wrong.
    """
    rows = [row for name, trace in traces.items() for row in _of_run(name, trace, margin)]
    columns = ["trace", "activation", "seed", "m", "reached", "distance", "bound", "error"]
    return pd.DataFrame(rows, columns=columns)


def _of_run(name: str, trace: TraceLike, margin: float) -> list[dict[str, Any]]:
    readings = trace.readings()
    parts = {
        "low": "1 % margin",
        "middle": "median margin",
        "normalised": "margin-normalised complexity",
        "distance": "distance from the initial weights",
        "accuracy": "test_accuracy",
    }
    looks = pd.DataFrame(
        {
            column: readings[readings["quantity"] == quantity].set_index(["seed", "epoch"])["value"]
            for column, quantity in parts.items()
        }
    )
    configured = trace.meta["config"]
    rows = []
    for seed in trace.seeds:
        row = {
            "trace": name,
            "activation": configured["model"]["init_args"]["activation"],
            "seed": seed,
            "m": trace.meta["data"]["train_samples"],
        }
        own = looks[looks.index.get_level_values("seed") == seed].sort_index()
        there = own[own["low"] >= margin]
        if not there.empty:
            first = there.iloc[0]
            row |= {
                "reached": float(there.index[0][1]),
                "distance": first["distance"],
                # the lens divides by the median margin
                "bound": first["normalised"] * first["middle"] / margin,
                "error": 1 - first["accuracy"],
            }
        rows.append(row)
    return rows


def exponents(table: pd.DataFrame, column: str) -> pd.Series[float]:
    """The exponent a of column ∝ mᵃ for each seed, by least squares of logarithms.

    Args:
        table: What `measured` returned, of one activation.
        column: A number of it; networks where it is missing or 0 are left out.

    Returns:
        By seed; seeds that have fewer than three sizes are left out.
    """
    known = table[table[column] > 0]
    slopes = {
        seed: float(stats.linregress(np.log(part["m"]), np.log(part[column])).slope)
        for seed, part in known.groupby("seed")
        if part["m"].nunique() >= _FEWEST
    }
    return pd.Series(slopes, dtype=float)


# --- the law that is predicted ------------------------------------------------------------------


def _distance_law(traces: Traces) -> pd.DataFrame:
    """Mean ln ‖w - w₀‖ over seeds at each m, and by a straight line through the smaller ones."""
    rows = []
    for margin in MARGINS:
        table = measured(traces, margin).dropna(subset=["distance"])
        for activation, part in table.groupby("activation"):
            wide = part.pivot(index="seed", columns="m", values="distance").dropna()
            logs = np.log(wide.to_numpy(dtype=np.float64)).T  # (m, seed)
            names = part.groupby("m")["trace"].first()
            for at in range(_FEWEST, wide.shape[1] if len(wide) > 1 else 0):
                sizes = np.log(wide.columns.to_numpy(dtype=np.float64))
                slope, height = np.polyfit(sizes[:at], logs[:at], 1)
                predicted, actual = height + slope * sizes[at], logs[at]
                rows.append(
                    {
                        "trace": names.iloc[at],
                        "layer": f"{activation}, γ = {margin:g}",
                        "predicted": predicted.mean(),
                        "measured": actual.mean(),
                        "margin": half_width(predicted - actual),
                        "unit": "in ln(distance)",
                    }
                )
    columns = ["trace", "layer", "predicted", "measured", "margin", "unit"]
    return pd.DataFrame(rows, columns=columns)


DISTANCE_LAW = Prediction(
    "distance law",
    SOURCE,
    "The distance from the initial weights at a margin is a power of the number of training "
    "samples: its logarithm at each m from the fourth on lies on the line through the smaller ones "
    "(mean over seeds; margin: 95 % of the mean difference, over seeds, as each seed has a line of "
    "its own).",
    _distance_law,
)


# --- claims -------------------------------------------------------------------------------------


def _reaches(traces: Traces, activation: str, margin: float) -> Outcome:
    table = _of(traces, activation, margin)
    reached = int(table["reached"].notna().sum())
    number = f"{reached} of {len(table)} networks"
    if reached:
        slowest = table.groupby("m")["reached"].median()
        number += f", after {slowest.min():,.0f} to {slowest.max():,.0f} epochs (medians of a size)"
    return Outcome(by_count(reached, len(table)), number)


def _grows(
    traces: Traces, activation: str, margin: float, column: str, least: float = 0.0
) -> Outcome:
    exponent, number = _exponent(traces, activation, margin, column)
    return Outcome(within(exponent.lower, exponent.upper, least), number)


def _falls(
    traces: Traces, activation: str, margin: float, column: str, most: float = 0.0
) -> Outcome:
    exponent, number = _exponent(traces, activation, margin, column)
    return Outcome(within(exponent.lower, exponent.upper, -math.inf, most), number)


def _lags(traces: Traces, activation: str, margin: float, least: float = 0.0) -> Outcome:
    table = _of(traces, activation, margin)
    both = (exponents(table, "bound") - exponents(table, "error")).dropna()
    if both.empty:
        return Outcome("inconclusive", _TOO_FEW)
    difference = interval(np.asarray(both, dtype=np.float64))
    number = f"the exponents differ by {bracketed(difference, 3)}, {len(both)} seeds"
    return Outcome(within(difference.lower, difference.upper, least), number)


def _vacuous(traces: Traces, activation: str, margin: float, least: float = 1.0) -> Outcome:
    bounds = _of(traces, activation, margin)["bound"].dropna()
    if bounds.empty:
        return Outcome("inconclusive", _TOO_FEW)
    number = f"{bounds.min():,.3g} to {bounds.max():,.3g} in {len(bounds)} networks"
    return Outcome("held" if bounds.min() > least else "failed", number)


_TOO_FEW = f"no seed reached the margin at {_FEWEST} sizes"


def _of(traces: Traces, activation: str, margin: float) -> pd.DataFrame:
    table = measured(traces, margin)
    return table[table["activation"] == activation]


def _exponent(traces: Traces, activation: str, margin: float, column: str) -> tuple[Interval, str]:
    """The mean exponent over seeds, and what is said of it."""
    table = _of(traces, activation, margin)
    each = exponents(table, column)
    if each.empty:
        return Interval(math.nan, math.nan, math.nan), _TOO_FEW
    exponent = interval(np.asarray(each, dtype=np.float64))
    ends = table.dropna(subset=[column]).groupby("m")[column].mean()
    number = (
        f"∝ m^{bracketed(exponent, 3)}: {ends.iloc[0]:.3g} at m = {ends.index[0]}, "
        f"{ends.iloc[-1]:.3g} at {ends.index[-1]} (means), {len(each)} seeds"
    )
    if zeros := int((table[column] == 0).sum()):
        number += f"; {zeros} networks where it is 0 are left out of the exponent"
    return exponent, number


def _claims(activation: str) -> tuple[Claim, ...]:
    made = []
    bound = "The norm bound R‖X‖_F/(mγ), without its constants,"
    for margin in MARGINS:
        tests: dict[str, tuple[str, Callable[..., Outcome]]] = {
            "margin": (
                "Networks of all sizes are trained until 99 % of the margins are at least γ",
                _reaches,
            ),
            "distance": (
                "The distance from the initial weights grows with m",
                partial(_grows, column="distance"),
            ),
            "error": ("The test error falls with m", partial(_falls, column="error")),
            "bound-grows": (f"{bound} grows with m", partial(_grows, column="bound")),
            "bound-lags": (f"{bound} does not fall as the test error does", _lags),
            "vacuous": (f"{bound} is above 1, and says nothing, at each m", _vacuous),
        }
        made += [
            Claim(
                f"{name}-{margin:g}",
                SOURCE,
                f"{statement} (γ = {margin:g}).",
                partial(test, activation=activation, margin=margin),
                needs=tuple(variants(activation)),
            )
            for name, (statement, test) in tests.items()
        ]
    return tuple(made)


# --- figure -------------------------------------------------------------------------------------


def figure(traces: Traces) -> Figure:
    """Distance, bound and test error against m at each margin, with the exponents over seeds."""
    from ibtrace.plots import Panel, against  # loads matplotlib

    tables = {margin: measured(traces, margin) for margin in MARGINS}
    table = pd.concat([_drawn(part, margin) for margin, part in tables.items()], ignore_index=True)
    names = {
        "distance": "distance ‖w − w₀‖",
        "bound": "norm bound R‖X‖/(mγ)",
        "error": "test error",
    }
    panels = [
        Panel(column, f"{name}\n{_powers(tables, column)}", log=True)
        for column, name in names.items()
    ]
    return against(table, tuple(panels), "training samples m", log_x=True)


def _drawn(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """The networks that reached a margin, and how many did not, as `ibtrace.plots.against` asks."""
    parts = []
    for activation, part in table.groupby("activation", sort=False):
        there = part[part["reached"].notna()]
        short = f" ({len(there)} of {len(part)} networks)" if len(there) < len(part) else ""
        group = f"{activation}, γ = {margin:g}{short}"
        parts.append(there.assign(group=group, x=there["m"], counts=True))
    return pd.concat(parts)


def _powers(tables: Mapping[float, pd.DataFrame], column: str) -> str:
    """The exponents, in the order of the legend."""
    powers = [
        f"$m^{{{exponents(part, column).mean():.2f}}}$"
        for table in tables.values()
        for _, part in table.groupby("activation", sort=False)
    ]
    return f"∝ {', '.join(powers)}"


PAPER = Paper(
    "nagarajan",
    "Nagarajan & Kolter 2019, Uniform Convergence May Be Unable to Explain Generalization in Deep "
    "Learning",
    _claims("relu"),
    variants=variants,
    activations=("relu",),
    figures={"sizes": figure},
    predictions=(DISTANCE_LAW,),
)

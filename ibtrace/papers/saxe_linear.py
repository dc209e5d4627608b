"""Modes of a deep linear network against their closed form (Saxe, McClelland & Ganguli 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator
from torch import Tensor, nn

from ibtrace.claims import Claim, Outcome, within
from ibtrace.datasets import Dataset
from ibtrace.errors import ConfigError
from ibtrace.lenses import Modes
from ibtrace.models import MLP
from ibtrace.numerics import deep_linear
from ibtrace.papers._paper import Paper, Variants
from ibtrace.papers.measures import all_of
from ibtrace.plane import interval
from ibtrace.predictions import Prediction, of_each
from ibtrace.types import TraceLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ibtrace.plots import Series

SAXE = "Saxe, McClelland & Ganguli 2014"
BALANCED = ("balanced", "balanced-coarse")
RANDOM = "random"
EMERGED = 0.05
"""Learned share from which a mode of a random start is held to its closed form."""
FIRST_ORDER = 0.1
"""How far the delay of the steps may be from its first order."""
CLOSE = 0.01
"""How far a random start may be off, of a half-time."""
CONSERVED = 0.01
"""How far the balance may drift, of the squared weights of a unit."""
_MOST_MODES = 256  # whose names are known

Traces = Mapping[str, TraceLike]
Floats = NDArray[np.float64]


# --- the experiment -----------------------------------------------------------------------------


def contrasts() -> Tensor:
    """The distinctions of a tree of four leaves, ``(3, 4)``: two pairs, then within each.

    Of mean 0, variance 1 and uncorrelated over the leaves.
    """
    root = 2.0**0.5
    return torch.tensor([[1, 1, -1, -1], [root, -root, 0, 0], [0, 0, root, -root]]).double()


def tree(
    strengths: Sequence[float] = (0.9, 0.45, 0.15),
    features: int = 8,
    samples: int = 64,
    seed: int = 0,
) -> Dataset:
    """Four classes that are the leaves of a tree, and white features that tell them apart.

    Feature k correlates with the k-th distinction of the tree (`contrasts`) and with nothing else
    of the class; the others are noise. The first half of the rows and the second have both exactly
    the covariances E xxᵀ = 1, E yxᵀ = U S (y one-hot), with singular values sₖ = ρₖ/2; float64.

    Args:
        strengths: ρ of each distinction, between 0 and 1.
        features: Of them all.
        samples: In each half, a multiple of 4.
        seed: Of the noise.

    Raises:
        ConfigError: If the strengths are not three between 0 and 1, there are fewer features, or
            the samples are too few or no multiple of 4.
    """
    rho = torch.tensor([*strengths], dtype=torch.float64)
    if len(rho) != 3 or not bool(((rho > 0) & (rho < 1)).all()):
        raise ConfigError(f"tree: strengths must be three between 0 and 1, got {list(strengths)}")
    if features < 3 or samples % 4 or samples < features + 4:
        raise ConfigError(
            "tree: needs 3 features or more, and samples in fours, 4 more than features; got "
            f"{features} features and {samples} samples"
        )
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % 4
    told = contrasts()[:, y].T
    taken = torch.cat([torch.ones(samples, 1).double(), told], 1)
    halves = []
    for _ in range(2):
        draw = torch.randn(samples, features, generator=generator, dtype=torch.float64)
        # orthonormal to the classes and to each other
        noise = torch.linalg.qr(torch.cat([taken, draw], 1)).Q[:, 4:] * samples**0.5
        x = noise.clone()
        x[:, :3] = told * rho + noise[:, :3] * (1 - rho**2).sqrt()
        halves.append(x)
    return Dataset("tree", torch.cat(halves), y.repeat(2), 4)


def network(
    features: int = 8, hidden: int = 16, start: str = "balanced", scale: float = 1.5e-4
) -> nn.Module:
    """A linear network of one hidden layer and no biases, of a small start, in float64.

    Args:
        features: Inputs.
        hidden: Hidden units.
        start: ``balanced``: along the modes of a `tree`, W₁ = √a₀ R Vᵀ and W₂ = √a₀ U Rᵀ, with R a
            random rotation of each seed; ``random``: all weights normal.
        scale: a₀, the strength of each mode at the start; of a random start the strength that it
            has on average once the two layers have aligned.

    Raises:
        ConfigError: If the start is neither, or a number too small.
    """
    if start not in ("balanced", "random") or scale <= 0 or hidden < 3 or features < 3:
        got = f"start {start!r}, scale {scale}, {hidden} hidden units, {features} features"
        raise ConfigError(
            "network: start is balanced or random, scale above 0, widths 3 or more; got " + got
        )
    made = MLP((features, hidden, 4), "linear", "logits", bias=False).double()
    first, last = made.get_parameter("fc1.weight"), made.get_parameter("fc2.weight")
    with torch.no_grad():
        if start == "random":
            sigma = (2 * scale / hidden) ** 0.5  # |(W₁v + W₂ᵀu) / 2|² is then a₀ in the mean
            nn.init.normal_(first, std=sigma)
            nn.init.normal_(last, std=sigma)
        else:
            rotation = torch.linalg.qr(torch.randn(hidden, 3, dtype=torch.float64)).Q
            first.zero_()
            first[:, :3] = scale**0.5 * rotation
            last.copy_(scale**0.5 * (contrasts().T / 2) @ rotation.T)
    return made


def variants(activation: str) -> Variants:
    """There are none: the closed form is that of linear networks.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(f"saxe-linear is of linear networks: leave --activation {activation} out")


# --- what is measured ---------------------------------------------------------------------------


def learned(trace: TraceLike) -> pd.DataFrame:
    """The modes at each look, measured and by the closed form.

    The closed form starts at a mode's ``anchor``: the first look where the start was balanced,
    else the first at which 5 % of it are learned; before a random start has aligned, it is about
    something else.

    Args:
        trace: A run.

    Returns:
        ``mode, seed, step, share``; ``strength``, the singular value; ``time`` of a step;
        ``closed``, the share by the closed form; ``order``, what the first order in η adds to it;
        and ``anchor``, the step from which both hold. Modes that never get there have NaN.
    """
    frame = trace.readings(diagnostics=True)
    *shares, _ = Modes(modes=_MOST_MODES).tags.quantities
    mode = frame["quantity"].map({share.name: str(k) for k, share in enumerate(shares, start=1)})
    frame = frame.assign(mode=mode)[mode.notna() & frame["value"].notna()]
    if frame.empty:
        return pd.DataFrame(columns=["mode", "seed", "step", "share"])
    frame = frame.rename(columns={"value": "share"})
    frame["step"] = frame["step"].fillna(0).astype(float)
    frame["time"] = _time_of_step(trace)
    looks = frame[["mode", "seed", "step", "share", "strength", "time"]].sort_values(
        ["mode", "seed", "step"]
    )
    balanced = trace.meta["config"]["model"]["init_args"].get("start", "balanced") == "balanced"
    parts = [
        _with_closed_form(part, 0.0 if balanced else EMERGED)
        for _, part in looks.groupby(["mode", "seed"])
    ]
    return pd.concat(parts, ignore_index=True)


def _time_of_step(trace: TraceLike) -> float:
    """2η/C: the loss is the mean over C outputs, and the closed form's is half the sum."""
    configured = trace.meta["config"]
    return 2 * float(configured["optimizer"]["init_args"]["lr"]) / 4


def _with_closed_form(part: pd.DataFrame, least: float) -> pd.DataFrame:
    """One mode of one network, with what the closed form says from a learned share on."""
    share, strength, time = (part[name].to_numpy() for name in ("share", "strength", "time"))
    reached = (share > 0) & (share >= least) & (share < 1)
    if not reached.any():
        return part.assign(closed=np.nan, order=np.nan, anchor=np.nan)
    at = int(reached.argmax())
    anchor = float(part["step"].iloc[at])
    start = share[at] * strength[at]
    elapsed = (part["step"].to_numpy() - anchor) * time
    closed = deep_linear.mode(elapsed, strength, start)
    order = np.zeros_like(closed)
    short = closed < strength  # what is wholly learned is neither early nor late
    late = deep_linear.delay(closed[short], strength[short], start, time[short])
    order[short] = -2 * closed[short] * (1 - closed[short] / strength[short]) * late
    return part.assign(closed=closed / strength, order=order, anchor=anchor)


def half_times(trace: TraceLike) -> pd.DataFrame:
    """When half of each mode was learned, in steps, and when the closed form says so.

    Measured between looks by the cubic through the four next to the half, of the step against
    log(share / (1 - share)), which is straight on the closed form.

    Args:
        trace: A run.

    Returns:
        ``mode, seed, measured, closed, delay, margin``: ``delay`` is by how much the steps are
        late, to first order in η, and ``margin`` the size of the next order, hs times that, h the
        time of a step. A mode that was not learned has NaN.
    """
    rows = []
    for (mode, seed), part in learned(trace).groupby(["mode", "seed"]):
        at = part["anchor"].iloc[0] == part["step"]
        measured = _crossing(part["step"].to_numpy(), part["share"].to_numpy())
        row = {"mode": mode, "seed": seed, "measured": measured}
        if at.any():
            anchor = part[at].iloc[0]
            strength, time = anchor["strength"], anchor["time"]
            start = anchor["share"] * strength
            late = deep_linear.delay(strength / 2, strength, start, time) / time
            row["closed"] = anchor["step"] + deep_linear.half_time(strength, start) / time
            row |= {"delay": late, "margin": time * strength * late}
        rows.append(row)
    columns = ["mode", "seed", "measured", "closed", "delay", "margin"]
    return pd.DataFrame(rows, columns=columns)


def _crossing(steps: Floats, share: Floats) -> float:
    """The step at which a share passes a half, NaN if it does not."""
    past = share >= 0.5
    if not past.any() or past[0]:
        return float("nan")
    after = int(past.argmax())
    near = slice(max(0, after - 2), after + 2)
    steps, share = steps[near], share[near]
    inside = (share > 0) & (share < 1)
    odds = np.log(share[inside] / (1 - share[inside]))
    return float(BarycentricInterpolator(odds, steps[inside])(0.0))


def _mode_times(trace: TraceLike) -> pd.DataFrame:
    table = half_times(trace)
    return pd.DataFrame(
        {
            "seed": table["seed"],
            "layer": "mode " + table["mode"].astype(str),
            "predicted": table["closed"] + table["delay"],
            "measured": table["measured"],
            "margin": table["margin"],
            "unit": "steps",
        }
    )


MODE_TIMES = Prediction(
    "deep-linear mode times",
    SAXE,
    "Half of a mode is learned at ln(s/a₀ - 1) / 2s, and steps of descent are late by "
    "½h ln(f(w)/f(w₀)), to within hs of that (of a balanced start along the modes).",
    of_each(_mode_times),
)


# --- claims -------------------------------------------------------------------------------------


def _wide(trace: TraceLike, column: str) -> pd.DataFrame:
    """A number of each half-time, a row a seed and a column a mode."""
    return half_times(trace).pivot(index="seed", columns="mode", values=column)


def _larger_first(traces: Traces, name: str) -> Outcome:
    times = _wide(traces[name], "measured")
    if times.shape[1] < 2:
        return Outcome("inconclusive", f"{times.shape[1]} modes were seen")
    medians = ", ".join(f"{at:,.0f}" for at in times.median())
    whole = times.dropna()
    if whole.empty:
        return Outcome("inconclusive", f"no network learned half of each mode (at {medians})")
    ordered = int((whole.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum())
    number = f"in {ordered} of {len(whole)} networks; half of each at step {medians} (medians)"
    if len(whole) < len(times):
        number += f"; {len(times) - len(whole)} have not learned all"
        return Outcome("inconclusive", number)
    return Outcome("held" if ordered == len(whole) else "failed", number)


def _first_order(traces: Traces, name: str, off: float = FIRST_ORDER) -> Outcome:
    table = half_times(traces[name]).dropna()
    if table.empty:
        return Outcome("inconclusive", "no network learned half of a mode")
    late = table["measured"] - table["closed"]
    share = late / table["delay"]
    of_modes = ", ".join(f"{part:.3f}" for part in share.groupby(table["mode"]).mean())
    of_time = (late / table["closed"]).abs().max()
    number = (
        f"late by {late.min():.2f} to {late.max():.2f} steps (at most {100 * of_time:.2g} % of the "
        f"half-time): {of_modes} of the first order, modes from the strongest"
    )
    near = bool((share - 1).abs().max() <= off)
    return Outcome("held" if near else "failed", number)


def _random_follows(traces: Traces, off: float = CLOSE) -> Outcome:
    table = half_times(traces[RANDOM]).dropna()
    if table.empty:
        return Outcome("inconclusive", "no network learned half of a mode")
    late = (table["measured"] - table["closed"] - table["delay"]) / table["closed"]
    ends = [interval(part.to_numpy()) for _, part in late.groupby(table["mode"])]
    differences = ", ".join(
        f"{100 * e.mean:+.2g} % [{100 * e.lower:+.2g}, {100 * e.upper:+.2g}]" for e in ends
    )
    number = f"measured less predicted {differences} of the half-time, modes from the strongest"
    status = all_of([within(end.lower, end.upper, -off, off) for end in ends])
    return Outcome(status, f"{number}; {table['seed'].nunique()} seeds")


def _balance(traces: Traces, name: str, most: float = CONSERVED) -> Outcome:
    trace = traces[name]
    readings = trace.readings()
    drift = readings[readings["quantity"] == "mean drift of the balance"]["value"]
    strengths = learned(trace).groupby("mode")["strength"].first()
    if drift.empty or strengths.empty:
        return Outcome("inconclusive", "the balance was not read")
    hidden = trace.meta["config"]["model"]["init_args"].get("hidden", 16)
    size = strengths.sum() / hidden  # of a unit's squared weights, on each side, at the end
    number = (
        f"its largest drift is {drift.max():.1g} a unit, {100 * drift.max() / size:.2g} % of the "
        f"squared weights that a unit ends with ({size:.2g})"
    )
    return Outcome("held" if drift.max() < most * size else "failed", number)


def _claims() -> tuple[Claim, ...]:
    made = []
    for name in (*BALANCED, RANDOM):
        made.append(
            Claim(
                f"larger-first-{name}",
                SAXE,
                f"Larger modes are learned first ({name}).",
                partial(_larger_first, name=name),
                needs=(name,),
            )
        )
    for name in BALANCED:
        made.append(
            Claim(
                f"first-order-{name}",
                f"{SAXE}; the step's first order",
                "Half-times are those of the closed form but for the first order in the step, "
                f"within a tenth of it ({name}).",
                partial(_first_order, name=name),
                needs=(name,),
            )
        )
    made.append(
        Claim(
            "random-follows",
            SAXE,
            "A mode of a small random start follows the closed form once 5 % of it are learned: "
            "half-times within 1 %.",
            _random_follows,
            needs=(RANDOM,),
        )
    )
    for name in ("balanced", RANDOM):
        made.append(
            Claim(
                f"balance-{name}",
                "Du, Hu & Lee 2018",
                f"The balance of the layers is conserved, within 1 % of the weights ({name}).",
                partial(_balance, name=name),
                needs=(name,),
            )
        )
    return tuple(made)


# --- figure -------------------------------------------------------------------------------------


def figure(traces: Traces) -> Figure:
    """Modes and residuals against the step, a column for each start and step."""
    from ibtrace.plots import Strip, grid  # loads matplotlib

    strips = (
        Strip("learned share of the mode"),
        Strip("training less closed form", own=True),
    )
    columns = {_title(name, trace): _cells(learned(trace)) for name, trace in traces.items()}
    return grid(columns, strips, "step of descent", log_x=True)


def _title(name: str, trace: TraceLike) -> str:
    rate = trace.meta["config"]["optimizer"]["init_args"]["lr"]
    return f"{name.partition('-')[0]} start, η = {rate:g}"


def _cells(table: pd.DataFrame) -> tuple[list[Series], list[Series]]:
    """The series of a run: of the modes, and of their residuals."""
    from ibtrace.plots import Series

    shares: list[Series] = []
    residuals: list[Series] = []
    halves = table.loc[table["share"] >= 0.5].groupby("mode")["step"].min()
    if len(halves):  # nothing happens long before, or long after
        table = table[table["step"].between(halves.min() / 8, halves.max() * 2)]
    for at, (mode, part) in enumerate(table.groupby("mode")):
        part = part.rename(columns={"step": "x"})
        known = part[part["x"] >= part["anchor"]]
        closed, seen = (part.assign(value=part[column]) for column in ("closed", "share"))
        shares.append(Series(f"mode {mode}, closed form", closed, "theory", at))
        shares.append(Series(f"mode {mode}, training", seen, "points", at))
        off = known.assign(value=known["share"] - known["closed"])
        residuals.append(Series(f"mode {mode}, training", off, "points", at))
        first = known.assign(value=known["order"])
        residuals.append(Series("first order in η", first, "theory"))
    return shares, residuals


PAPER = Paper(
    "saxe-linear",
    "Saxe, McClelland & Ganguli 2014, Exact Solutions to the Nonlinear Dynamics of Learning in "
    "Deep Linear Neural Networks",
    _claims(),
    variants=variants,
    figures={"modes": figure},
    predictions=(MODE_TIMES,),
)

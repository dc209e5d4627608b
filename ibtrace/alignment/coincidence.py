"""What changes together: rank correlations of differences in log-epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import seed_number, several, shown, whole
from ibtrace.types import I_XT

Floats = NDArray[np.float64]
_KEYS = ["quantity", "layer", "instrument"]
_FEWEST_DRAWS = 100


class HasReadings(Protocol):
    """What is read of a trace: its numbers by look."""

    @property
    def clock(self) -> str:
        """What the looks are counted by: ``epoch`` or ``step``."""
        ...

    def readings(self) -> pd.DataFrame:
        """``seed, epoch, step, layer, quantity, instrument, value``, one row a number."""
        ...


def coincidence(
    trace: HasReadings,
    of: str | Sequence[str] = (I_XT,),
    with_: str | Sequence[str] | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    instrument: str | None = None,
    since: Mapping[int, float] | None = None,
    points: int = 24,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank correlations of how quantities change from look to look.

    Two curves that rise or fall are correlated whatever they measure; so it is their *differences*
    that are compared, on a grid that is even in log(1 + epoch), and raw correlations are not
    offered. For each pair: the mean over seeds, two or more, of Spearman's correlation. Its
    interval is from a bootstrap of seeds and, within each, of blocks of neighbouring differences,
    on Fisher's scale, at a level that holds for all pairs together (Bonferroni); it is wide rather
    than narrow: of independent random walks, white noise and smooth curves, at most 5 % of runs
    (2 % from three seeds on) had any interval without 0. Of one seed it would be too narrow (of
    white noise a tenth of the pairs lay beyond 0), and so there is none. A correlation is no cause:
    two quantities that follow a third coincide too.

    Args:
        trace: The trace.
        of: Quantities on the one side, one or several.
        with_: Quantities on the other, likewise; None: all others.
        layers: Only these layers and modules, and on the other side the network as a whole; None:
            every pair of layers.
        instrument: Only this one's on the one side; None: all.
        since: From which look on, by seed; seeds that it lacks are left out. None: from the first.
        points: How many differences, at most one between two looks.
        draws: Bootstrap draws, at least 100.
        level: Of all intervals together, between 0 and 1.
        seed: Seeds the bootstrap.

    Returns:
        Columns ``quantity, layer, instrument, other, other_layer, other_instrument, seeds, points,
        correlation, lower, upper``; strongest first.

    Raises:
        InvalidInput: If the trace has none of the quantities, fewer than five looks in common, or
            every pair in one seed only.
        ConfigError: If a number is out of its range, or quantities and layers are no names.
    """
    of, layers = _names("of", of), None if layers is None else _names("layers", layers)
    with_ = None if with_ is None else _names("with_", with_)
    points = whole("coincidence: points", points, least=4)
    draws = whole("coincidence: draws", draws, least=_FEWEST_DRAWS)
    seed = seed_number("coincidence: seed", seed)
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise ConfigError(f"coincidence: level must lie between 0 and 1, got {shown(level)}")
    readings = trace.readings()
    readings = readings[np.isfinite(readings["value"])]
    if since is not None:
        readings = readings[readings[trace.clock] >= readings["seed"].map(since)]
    others = [name for name in readings["quantity"].unique() if name not in of]
    with_ = others if with_ is None else with_
    ours = readings if instrument is None else readings[readings["instrument"] == instrument]
    theirs = readings
    if layers is not None:
        ours = ours[ours["layer"].isin(layers)]
        theirs = theirs[theirs["layer"].isin([*layers, ""])]
    left, right = _curves(ours, of, trace.clock), _curves(theirs, with_, trace.clock)
    if not left or not right:
        known = ", ".join(map(repr, readings["quantity"].unique()))
        raise InvalidInput(f"coincidence: nothing to compare; the trace has {known}")
    rows, alone = [], False
    generator = np.random.default_rng(seed)
    for (a, left_curves), (b, right_curves) in product(left.items(), right.items()):
        ranks = [
            _ranks(_differences(left_curves[at], right_curves[at], points))
            for at in sorted({*left_curves} & {*right_curves})
        ]
        ranks = [both for both in ranks if both.shape[1] >= 4 and both.std(axis=1).all()]
        alone |= len(ranks) == 1
        if len(ranks) > 1:
            rows.append(
                (*a, *b, len(ranks), ranks[0].shape[1], *_interval(ranks, draws, generator))
            )
    if not rows and alone:
        raise InvalidInput(
            "coincidence: one seed alone has the looks, and of one there is no honest interval; "
            "train two or more"
        )
    if not rows:
        raise InvalidInput("coincidence: no pair has five looks in common at which both change")
    names = [*_KEYS, "other", "other_layer", "other_instrument", "seeds", "points"]
    frame = pd.DataFrame(rows, columns=[*names, "correlation", "_z", "_sd"])
    width = ndtri(1 - (1 - level) / 2 / len(frame)) * frame.pop("_sd")
    z = frame.pop("_z")
    frame["lower"], frame["upper"] = np.tanh(z - width), np.tanh(z + width)
    strongest = frame["correlation"].abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[strongest].reset_index(drop=True)


def _names(argument: str, given: Any) -> list[str]:
    names = several(given)
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"coincidence: {argument} must be one or more names, got {shown(given)}")
    return names


def _curves(
    readings: pd.DataFrame, quantities: Sequence[str], clock: str
) -> dict[tuple[str, ...], dict[int, pd.Series]]:
    """``{(quantity, layer, instrument): {seed: values by log(1 + epoch)}}``."""
    curves: dict[tuple[str, ...], dict[int, pd.Series]] = {}
    rows = readings[readings["quantity"].isin(quantities)]
    for (*key, seed), part in rows.groupby([*_KEYS, "seed"], sort=False):
        name = tuple(map(str, key))
        values = part.groupby(clock)["value"].last()
        values.index = np.log1p(values.index.to_numpy(dtype=float))
        curves.setdefault(name, {})[int(str(seed))] = values
    return curves


def _differences(a: pd.Series, b: pd.Series, points: int) -> Floats:
    """Differences of both on an even grid of log-epoch within their common looks, ``(2, k)``."""
    common = a.index.intersection(b.index)
    if len(common) < 2:
        return np.empty((2, 0))
    grid = np.linspace(common[0], common[-1], min(points, len(common) - 1) + 1)
    curves = [np.interp(grid, common, curve.loc[common].to_numpy()) for curve in (a, b)]
    return np.diff(np.stack(curves), axis=1)


def _ranks(differences: Floats) -> Floats:
    from scipy.stats import rankdata  # here, as scipy.stats takes half a second to import

    return rankdata(differences, axis=1) if differences.shape[1] else differences


def _interval(
    ranks: Sequence[Floats], draws: int, generator: np.random.Generator
) -> tuple[float, float, float]:
    """The mean correlation, its Fisher transform, and the spread of that over draws."""
    block = 1 + round(ranks[0].shape[1] ** (1 / 3))
    each = np.stack([_resampled(both, draws, block, generator) for both in ranks])
    resampled = generator.integers(len(ranks), size=(len(ranks), draws))
    means = np.asarray(np.take_along_axis(each, resampled, axis=0).mean(axis=0))
    mean = float(np.mean([np.asarray(np.corrcoef(both))[0, 1] for both in ranks]))
    limit = 1 - 1e-6
    spread = float(np.arctanh(np.clip(means, -limit, limit)).std(ddof=1))
    return mean, float(np.arctanh(np.clip(mean, -limit, limit))), spread


def _resampled(both: Floats, draws: int, block: int, generator: np.random.Generator) -> Floats:
    """Correlations of circular blocks drawn with replacement, ``(draws,)``."""
    k = both.shape[1]
    starts = generator.integers(k, size=(draws, -(-k // block)))
    places = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, :k] % k
    a, b = both[0][places], both[1][places]
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    correlations: Floats = np.divide((a * b).sum(1), scale, out=np.zeros(draws), where=scale > 0)
    return correlations

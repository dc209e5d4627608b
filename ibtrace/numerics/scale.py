"""One scale for every variable, so that multiplying it by a constant changes no neighbour."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.numerics.columns import (
    Bounds,
    Spreads,
    extremes,
    median,
    ordered,
    rank,
    spreads,
    spreads_apart,
)
from ibtrace.numerics.gaussian import copula_normal

Norm = Literal["euclidean", "max"]
Scale = Literal["variable", "column", "rank", "none"]

APART = 10.0
"""Spreads with a larger ratio are apart: at N = 500 a column so much wider than another costs
.35 of 1.2 bits, and one 1000 times as wide all of them."""

_LARGEST = 2.0**100  # within it and its inverse, products of squares fit in float64
_TYPICAL = 2.0**50
_ROUNDING = 1e-6
_FEW_PLACES = 8
_STEPS = 100  # at fewer within a deviation, values repeat and the lowest bits are lost
_FAR, _MANY_FAR = 100, 0.01  # of a normal variable none; of Cauchy's 0.6 %

_WORDS: dict[Scale, str] = {
    "variable": "scaled as a whole",
    "column": "scaled column by column",
    "rank": "by its ranks",
    "none": "unscaled",
}


class Scaled(NamedTuple):
    """A variable at its scale, with what there is to say of it.

    Args:
        points: ``(..., n, d)`` float64; ids ``(..., n)`` as they were.
        spread: Of the points, ``(...)``; 1 for ids and for what never varies.
        apart: Whether its columns' spreads differ by more than `APART`, ``(...)``.
        extreme: Whether values were too large to be squared, ``(...)``; see `squarable`.
        heavy: Whether more than 1 % of the samples lie beyond 100 spreads, ``(...)``.
    """

    points: Tensor
    spread: Tensor
    apart: Tensor
    extreme: Tensor
    heavy: Tensor


def words(scale: Scale) -> str:
    """A scale as an estimand says it."""
    return _WORDS[scale]


def check_scale(name: str, scale: object) -> None:
    """Raise unless there is such a scale.

    Args:
        name: Whose field it is, for the message.
        scale: What was given.

    Raises:
        ConfigError: If there is none.
    """
    if scale not in get_args(Scale):
        known = "'variable', 'column', 'rank' or 'none'"
        raise ConfigError(f"{name}: scale must be {known}, got {scale!r}")


def centre(x: Tensor) -> Tensor:
    """The median of each column of ``x (..., n, d)``, ``(..., 1, d)``.

    Of an even n it is halfway between the two middle values. So it is the same in any order of
    the samples and for -x, and exact where most of them share a value.
    """
    return median(ordered(x)).to(x.dtype).unsqueeze(-2)


def spread(points: Tensor, norm: Norm = "euclidean") -> Tensor:
    """How far samples typically are from the centre, ``(...)``; 1 if all are there.

    The median of the distances from the centre that are not 0: one sample, however far, does
    not change it, nor does an atom that holds most samples (the zeros of a ReLU).

    Args:
        points: ``(..., n, d)`` float64 about their `centre`.
        norm: Of the distances.
    """
    size = points.abs()
    distance = size.amax(-1)
    if norm == "euclidean" and points.shape[-1] > 1:  # squares of huge values do not overflow
        largest = torch.where(distance > 0, distance, 1).unsqueeze(-1)
        distance = distance * (size / largest).square().sum(-1).sqrt()
    return _typical(distance)


def scaled(x: Tensor, scale: Scale, norm: Norm = "euclidean") -> Scaled:
    """A variable in float64 about its medians and over its spread.

    - ``"variable"``: all columns over one number, the variable's `spread`: distances within
      the variable keep their proportions, under rotations too.
    - ``"column"``: each column first over its own spread. Columns of any units count alike, and
      so do those that hold little but rounding.
    - ``"rank"``: each column first replaced by its normal scores Φ⁻¹(rank / (n + 1)): no
      monotone map of a column matters, nor how heavy its tails are.
    - ``"none"``: the variable as it is.

    What is then too far to be squared is moved nearer; see `squarable`.

    Args:
        x: ``(..., n, d)`` floats, or ids ``(..., n)``, which have no scale.
        scale: Which of these.
        norm: Of the spread.
    """
    if not x.is_floating_point():
        no = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
        return Scaled(x, torch.ones_like(no, dtype=torch.float64), no, no, no)
    raw = x.detach()  # narrow floats are sorted faster
    if scale == "rank":
        flat = raw.to(torch.float64).reshape(-1, *raw.shape[-2:])
        raw = torch.stack([copula_normal(each)[0] for each in flat]).reshape(raw.shape)
    columns = spreads(raw)
    raw = raw.to(torch.float64)
    points = raw - columns.middle.unsqueeze(-2)
    if scale in ("column", "rank"):
        points = points / columns.typical.unsqueeze(-2)
        apart = torch.zeros(points.shape[:-2], dtype=torch.bool, device=points.device)
    else:
        apart = _apart(columns)
    overall = spread(points, norm)
    far = points.abs().amax(-1) > _FAR * overall.unsqueeze(-1)
    heavy = far.double().mean(-1) > _MANY_FAR
    if scale == "none":
        points = raw
    else:
        points, overall = points / overall[..., None, None], torch.ones_like(overall)
    points, extreme = squarable(points)
    return Scaled(points, overall, apart, extreme, heavy)


def ends(x: Tensor) -> Bounds | None:
    """The `extremes` of what `squarable` and `rounded` look at; None of anything else."""
    if x.dtype not in (torch.float32, torch.float64) or x.dim() < 2 or x.numel() == 0:
        return None
    return extremes(x.detach())


def squarable(x: Tensor, known: Bounds | None = None) -> tuple[Tensor, Tensor]:
    """Values whose squares neither overflow nor vanish, and whether any had to change, ``(...)``.

    A problem whose largest value is beyond 2^±100 is multiplied by the power of 2, which is exact,
    that brings its typical value (the median of those that are not 0) within 2^±50. What is still
    farther than 2^100 is moved there: it remains the farthest.

    Args:
        x: Floats ``(..., n, d)``; anything else, and what holds NaN, is returned as it is.
        known: Its `ends`, if these are known.
    """
    none = torch.zeros((), dtype=torch.bool, device=x.device)
    known = known or ends(x)
    if known is None:
        return x, none
    values = x.detach()
    low, high = known
    largest = torch.maximum(-low, high).amax(-1)
    beyond = (largest > _LARGEST) | ((largest > 0) & (largest < 1 / _LARGEST))
    if not bool(beyond.any()) or not bool(values.isfinite().all()):
        return x, none.expand(largest.shape)
    typical = _typical(values.abs().flatten(-2))
    power = (typical.clamp(1 / _TYPICAL, _TYPICAL) / typical).log2().round()
    power = torch.where(beyond, power, 0)
    points = torch.ldexp(values, power[..., None, None])
    moved = (points.abs() > _LARGEST).any(-1).any(-1)
    return points.clamp(-_LARGEST, _LARGEST), (power != 0) | moved


def rounded(x: Tensor, known: Bounds | None = None) -> Tensor:
    """Whether a column varies by no more than 100 steps of its floats, ``(...)``.

    Far from 0 floats are far apart: of 10⁶ + z, z standard normal, float32 leaves 16 values to a
    deviation. What z knew beyond them is lost before any estimator sees it. Columns much narrower
    than another one (tanh units near 1 beside others) do not count, nor constant ones.

    Args:
        x: Floats ``(..., n, d)``, of float32 also where they come as float64; of anything else,
            never.
        known: Its `ends`, if these are known.
    """
    known = known or ends(x)
    if known is None:
        lead = x.shape[:-2] if x.is_floating_point() else x.shape[:-1]
        return torch.zeros(lead, dtype=torch.bool, device=x.device)
    if _surely_not_rounded(known, x.shape[-2]):
        return torch.zeros(x.shape[:-2], dtype=torch.bool, device=x.device)
    values = x.detach().to(torch.float64)
    narrow = (values.float() == values).all(-1).all(-1, keepdim=True)
    single, double = (torch.finfo(kind).eps for kind in (torch.float32, torch.float64))
    step = torch.where(narrow, single, double)
    low, high = values.aminmax(dim=-2)
    deviation = values.std(-2, correction=0)
    few: Tensor = (low < high) & (deviation <= _STEPS * step * values.mean(-2).abs())
    return (few & (APART * deviation >= deviation.amax(-1, keepdim=True))).any(-1)


def _surely_not_rounded(extremes: Bounds, n: int) -> bool:
    """Whether the extremes of the columns show it: a deviation is at least range / √(2n)."""
    low, high = (end.to(torch.float64) for end in extremes)
    largest = torch.maximum(low.abs(), high.abs())
    least = (high - low) / math.sqrt(2 * n)
    few = (low != high) & ~(least > 2 * _STEPS * torch.finfo(torch.float32).eps * largest)
    return not bool(few.any())


def columns_apart(x: Tensor, factor: float = APART) -> Tensor:
    """Whether spreads of columns differ by more than a factor, ``(...)``: as `scaled` sees them.

    Args:
        x: ``(..., n, d)`` floats; of ids ``(..., n)``, and of one column, never.
        factor: The factor.
    """
    if not x.is_floating_point() or x.shape[-1] < 2:
        lead = x.shape[:-2] if x.is_floating_point() else x.shape[:-1]
        return torch.zeros(lead, dtype=torch.bool, device=x.device)
    values = x.detach()
    if values.device.type != "cpu":
        return _apart(spreads(values), factor)
    return spreads_apart(values, factor, _ROUNDING)


def scale_flags(x: Scaled, y: Scaled) -> dict[str, Tensor]:
    """``scales_apart``, ``heavy_tails`` and ``extreme_values`` of a pair, ``(...)`` each.

    Args:
        x: The first variable.
        y: The second; where both are floats, their spreads may be apart too.
    """
    ratio = x.spread / y.spread
    both = x.points.is_floating_point() and y.points.is_floating_point()
    between = ((ratio > APART) | (ratio < 1 / APART)) & both
    return {
        "scales_apart": x.apart | y.apart | between,
        "heavy_tails": x.heavy | y.heavy,
        "extreme_values": x.extreme | y.extreme,
    }


def _typical(distance: Tensor) -> Tensor:
    """The median of the distances ``(..., n)`` that are not 0; 1 where there are none."""
    distance = distance.contiguous()
    zeros, n = (distance == 0).sum(-1, keepdim=True), distance.shape[-1]
    middle = rank(zeros, n)
    if distance.device.type != "cpu":
        ordered = distance.sort(-1).values
    else:  # selects and sorts many times faster than torch
        places = middle.unique().tolist()
        few = len(places) <= _FEW_PLACES
        array = distance.numpy()
        ordered = torch.from_numpy(np.partition(array, places) if few else np.sort(array))
    return torch.where(zeros < n, ordered.gather(-1, middle), 1.0).squeeze(-1)


def _apart(columns: Spreads, factor: float = APART) -> Tensor:
    """Whether spreads of columns differ, constant and merely rounded ones aside, ``(...)``."""
    still = ~columns.varies | (columns.typical <= _ROUNDING * columns.middle.abs())
    widest = columns.typical.masked_fill(still, 0).amax(-1)
    narrowest = columns.typical.masked_fill(still, torch.inf).amin(-1)
    return widest > factor * narrowest

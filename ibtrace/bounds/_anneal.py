"""The points of the curve: annealed in β, up and down, then where the curve bends between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ibtrace.numerics.blahut_arimoto import Encoder, Law, measured, solve
from ibtrace.numerics.concave import Floats, gaps

MOST = 400
"""How many β are looked at before the search for more points ends."""

_RATIO = 2.0  # between two β of the sweeps
_SWEEP = 16
_NOISE = 0.01  # how much of a warm start is drawn at random, for values of T to part
_SHARP = 0.999  # p(t|x) of a start that tells values of X apart
_NOTHING = 1e-12  # bits that are no information
_MISSED = 1e-6
_SAME = 1e-7  # bits by which two starts may differ and have found one thing


class Point(NamedTuple):
    """An encoder that is the best found at its β.

    Args:
        beta: β; infinite at the end of the curve.
        i_xt: I(X;T) in bits.
        i_ty: I(T;Y) in bits.
        log_p: ln p(t|x), ``(s, k)``.
    """

    beta: float
    i_xt: float
    i_ty: float
    log_p: Tensor

    def objective(self, beta: float) -> float:
        """I(T;Y) - I(X;T)/β in bits."""
        return self.i_ty - self.i_xt / beta


@dataclass
class Search:
    """Finds the best encoder of a law at one β after the other, and keeps book.

    Args:
        law: Of X and Y, each x with a p(y|x) of its own.
        values: How many values T may take.
        restarts: How many random starts are tried at every β, beside the warm ones.
        steps: How many iterations at most at one β.
        seed: Draws the starts.
    """

    law: Law
    values: int
    restarts: int
    steps: int
    seed: int
    solved: int = 0
    iterations: int = 0
    alone: list[float] = field(default_factory=list)
    """The β at which one start was better than all others."""
    unfinished: list[float] = field(default_factory=list)
    """The β at which the best start was still moving."""

    def __post_init__(self) -> None:
        self._random = torch.Generator().manual_seed(self.seed)

    def at(self, beta: float, warm: Iterable[Point]) -> Point:
        """The best encoder that all starts lead to.

        Args:
            beta: β.
            warm: Points of other β to begin from, beside random starts.
        """
        near = [self._stirred(point.log_p) for point in warm]
        starts = torch.stack([*near, *(self._drawn() for _ in range(self.restarts))])
        solved = solve(self.law, beta, starts, most=self.steps)
        objectives = solved.encoders.objective(beta)
        best = int(objectives.argmax())
        self.solved += 1
        self.iterations += solved.iterations
        if int((objectives >= objectives[best] - _SAME).sum()) == 1:
            self.alone.append(beta)
        if not solved.at_rest[best]:
            self.unfinished.append(beta)
        return _point(beta, solved.encoders, best)

    def origin(self) -> Point:
        """T tells nothing; on the curve until β is what `critical` says, or less."""
        shape = len(self.law.p_x), self.values
        alike = torch.zeros(shape, dtype=torch.float64).log_softmax(-1)
        return Point(self.critical(), 0.0, 0.0, alike)

    def end(self) -> Point:
        """T tells all of X that decides Y; on the curve at β = ∞, however few values T has."""
        some = len(self.law.p_x)
        apart = measured(self.law, torch.eye(some, dtype=torch.float64).clamp(min=1e-300).log())
        return Point(math.inf, float(apart.i_xt), float(apart.i_ty), self._sharp())

    def critical(self) -> float:
        """1/ρ², ρ the maximal correlation: there the origin stops to be a local maximum.

        Of independent variables it is infinite; 1 is given.
        """
        if len(self.law.p_x) == 1:
            return 1.0
        p = self.law.p_x[:, None] * self.law.p_y_x
        normed = p / (p.sum(1, keepdim=True) * p.sum(0)).sqrt()
        return 1 / float(torch.linalg.svdvals(normed)[1].square().clamp(1e-15, 1))

    def _sharp(self) -> Tensor:
        """Every x its own t; where there are too few of these, some share one at random."""
        some = len(self.law.p_x)
        order = torch.randperm(some, generator=self._random) if self.values < some else None
        own = torch.arange(some) if order is None else order % self.values
        sharp = torch.full((some, self.values), 1 - _SHARP, dtype=torch.float64) / self.values
        sharp[torch.arange(some), own] += _SHARP
        return sharp.log()

    def _drawn(self) -> Tensor:
        shape = len(self.law.p_x), self.values
        noise = torch.randn(shape, dtype=torch.float64, generator=self._random)
        return (2 * noise).log_softmax(-1)

    def _stirred(self, log_p: Tensor) -> Tensor:
        """A warm start: noise revives values of T that have died, and parts those alike."""
        noise = self._drawn() + math.log(_NOISE)
        return torch.logaddexp(log_p + math.log1p(-_NOISE), noise)


def points_of(
    search: Search, betas: Sequence[float] | None, tolerance: float
) -> tuple[list[Point], float]:
    """The points of the curve from the origin to its end.

    Args:
        search: Where to look.
        betas: Rising: look at these; None for as many as the tolerance needs.
        tolerance: Bits that a curve drawn through the points may be off by.

    Returns:
        Points in the order of β, and by how many bits a curve through them may be off.
    """
    origin, end = search.origin(), search.end()
    if end.i_ty <= _NOTHING:
        return [origin, end], 0.0
    if betas is None:
        return refined(search, swept(search), tolerance)
    given = [origin._replace(beta=1.0), *annealed(search, betas), end]
    points = sorted(given, key=lambda point: (point.beta, point.i_xt))
    x, y, slopes = as_arrays(points)
    return points, float(gaps(x, y, slopes).max()) / 2


def missed(points: Sequence[Point]) -> tuple[float, ...]:
    """The β at which another of the points does better, by more than a millionth of a bit.

    Args:
        points: Each the best that was found at its β.
    """
    x, y, slopes = as_arrays(points)
    best = (y - slopes[:, None] * x).max(1)
    low = y - slopes * x < best - _MISSED
    return tuple(point.beta for point, is_low in zip(points, low, strict=True) if is_low)


def annealed(search: Search, betas: Sequence[float]) -> list[Point]:
    """Sweep β up, values of T parting, and down again, values merging; the better of both.

    Args:
        search: Where to look.
        betas: Rising.
    """
    rising: list[Point] = []
    last = search.origin()
    for beta in betas:
        last = search.at(beta, [last])
        rising.append(last)
    best: list[Point] = []
    last = search.end()
    for point in reversed(rising):
        last = search.at(point.beta, [last, point])
        best.append(max(last, point, key=lambda each: each.objective(each.beta)))
    return best[::-1]


def swept(search: Search) -> list[Point]:
    """The origin, the annealed points up from the critical β, and the end of the curve.

    Args:
        search: Where to look.
    """
    origin, end = search.origin(), search.end()
    betas = [origin.beta * _RATIO**step for step in range(1, _SWEEP + 1)]
    points = annealed(search, betas)
    leap = search.at(origin.beta, points[:1]).objective(origin.beta) > _SAME
    # Beyond a leap the origin is left before it is unstable. No slope is above 1.
    return [origin._replace(beta=1.0) if leap else origin, *points, end]


def refined(search: Search, points: Sequence[Point], tolerance: float) -> tuple[list[Point], float]:
    """Points between points, until a curve through them is known to a tolerance.

    Between two points the best encoder is looked for at the β whose slope 1/β is that of their
    chord. If it is no better than the ends, the curve is the chord there. If it lies where the
    parabola through the ends has it, that part is done; else both halves are looked at.

    Args:
        search: Where to look.
        points: On the curve, in order.
        tolerance: Bits that a parabola may be off by.

    Returns:
        All points in the order of β, and the largest error of a parabola that was seen; where a
        part was not looked at, the largest that is possible.
    """
    found, off = list(points), 0.0
    parts: list[tuple[Point, Point]] = list(pairwise(points))
    while parts:
        left, right = parts.pop(0)
        width, rise = right.i_xt - left.i_xt, right.i_ty - left.i_ty
        if width <= _SAME or rise <= 0:
            continue
        beta, height = width / rise, _half_height(left, right)
        if height <= tolerance or search.solved >= MOST:
            off = max(off, height)
            continue
        best, chord = search.at(beta, [left, right]), left.objective(beta)
        if best.objective(beta) <= chord + _SAME:
            found += [left._replace(beta=beta), right._replace(beta=beta)]
            continue
        found.append(best)
        missed = abs(best.objective(beta) - chord - height)
        if missed <= tolerance:
            off = max(off, missed)
        else:
            parts += [(left, best), (best, right)]
    return sorted(found, key=lambda point: (point.beta, point.i_xt)), off


def _half_height(left: Point, right: Point) -> float:
    """How far the parabola rises above the chord of two points: half as far as the tangents."""
    x, y, slopes = as_arrays([left, right])
    return float(gaps(x, y, slopes)[0]) / 2


def as_arrays(points: Sequence[Point]) -> tuple[Floats, Floats, Floats]:
    """I(X;T), I(T;Y) and 1/β of points."""
    each = np.array([(point.i_xt, point.i_ty, 1 / point.beta) for point in points])
    return each[:, 0], each[:, 1], each[:, 2]


def _point(beta: float, encoders: Encoder, at: int) -> Point:
    i_xt, i_ty = float(encoders.i_xt[at]), float(encoders.i_ty[at])
    return Point(beta, i_xt, i_ty, encoders.log_p[at])

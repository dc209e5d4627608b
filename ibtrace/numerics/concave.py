"""Concave curves through points whose slopes are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_APART = 1e-9  # the chord of points nearer than this is of rounding


def on_envelope(x: Floats, y: Floats, *, slack: float = 1e-12) -> NDArray[np.bool_]:
    """Which points lie on the least concave curve above all of them.

    Args:
        x: Never falling, ``(n,)``.
        y: ``(n,)``.
        slack: How far below a point may lie.
    """
    hull: list[int] = []
    for at in range(len(x)):
        while len(hull) > 1 and _turns_up(x, y, hull[-2], hull[-1], at):
            hull.pop()
        while hull and x[hull[-1]] == x[at] and y[hull[-1]] <= y[at]:
            hull.pop()
        if not hull or x[hull[-1]] < x[at]:
            hull.append(at)
    return np.asarray(y >= np.interp(x, x[hull], y[hull]) - slack, dtype=np.bool_)


def _turns_up(x: Floats, y: Floats, first: int, middle: int, last: int) -> bool:
    rise = (y[middle] - y[first]) * (x[last] - x[first])
    return bool(rise < (y[last] - y[first]) * (x[middle] - x[first]))


def corners(x: Floats, y: Floats, slopes: Floats) -> tuple[Floats, Floats]:
    """Where the tangents at neighbouring points meet: no concave curve passes above.

    Args:
        x: Never falling, ``(n,)``.
        y: On a concave curve, ``(n,)``.
        slopes: Of tangents, ``(n,)``; each is taken no flatter than the chord ahead and no steeper
            than the chord behind, as those of a concave curve are.

    Returns:
        Their x and y, ``(n - 1,)`` each.
    """
    width, rise = np.diff(x), np.diff(y)
    chord = np.divide(rise, width, out=np.zeros_like(width), where=width > 0)
    wide = width > _APART
    ahead = np.maximum.accumulate(np.where(wide, chord, -np.inf)[::-1])[::-1]
    behind = np.minimum.accumulate(np.where(wide, chord, np.inf))
    left = np.minimum(np.maximum(slopes[:-1], ahead), np.r_[np.inf, behind[:-1]])
    right = np.maximum(np.minimum(slopes[1:], behind), np.r_[ahead[1:], -np.inf])
    turn = left - right
    share = np.divide(chord - right, turn, out=np.zeros_like(turn), where=turn > 0)
    return x[:-1] + share * width, y[:-1] + left * share * width


def above(x: Floats, y: Floats, slopes: Floats, at: Floats) -> Floats:
    """The least of the tangents at some places from x[0] to x[-1]: what no concave curve passes."""
    between, top = corners(x, y, slopes)
    across, up = np.r_[x[0], between, x[-1]], np.r_[y[0], top, y[-1]]
    return np.asarray(np.interp(at, across, up), dtype=np.float64)


def gaps(x: Floats, y: Floats, slopes: Floats) -> Floats:
    """How far the tangents rise above the chord between neighbouring points, ``(n - 1,)``."""
    at, top = corners(x, y, slopes)
    width = np.diff(x)
    chord = np.divide(np.diff(y), width, out=np.zeros_like(width), where=width > 0)
    return top - y[:-1] - chord * (at - x[:-1])


def interpolated(x: Floats, y: Floats, slopes: Floats, at: Floats) -> Floats:
    """The parabolas (of Bézier) that touch the tangents at both of their ends, at some places.

    The curve is concave, lies between chords and tangents, and is a line where these are one; of
    a smooth curve the error is of fourth order in the distance of the points.

    Args:
        x: Never falling, ``(n,)``, n at least 2.
        y: ``(n,)``.
        slopes: Never rising, ``(n,)``.
        at: Places from x[0] to x[-1].
    """
    corner, top = corners(x, y, slopes)
    part = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    start, middle, end = x[part], corner[part], x[part + 1]
    # x(u) = (1-u)² start + 2u(1-u) middle + u² end, solved for u without cancellation.
    linear, square, ahead = 2 * (middle - start), start - 2 * middle + end, at - start
    root = linear + np.sqrt(np.maximum(linear**2 + 4 * square * ahead, 0))
    u = np.clip(np.divide(2 * ahead, root, out=np.zeros_like(root), where=root > 0), 0, 1)
    curve = (1 - u) ** 2 * y[part] + 2 * u * (1 - u) * top[part] + u**2 * y[part + 1]
    return np.asarray(curve, dtype=np.float64)

"""The information-bottleneck curve: how much of Y a T can tell that tells so much of X."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ibtrace.bounds._law import Floats, Samples
from ibtrace.numerics.concave import above, gaps, interpolated, on_envelope
from ibtrace.runtime.text import wrap

_SLACK = 1e-6  # bits: a point so little above is on the curve

Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Check:
    """How sure the curve is: the objective has local maxima, and no method finds them all.

    Args:
        solved: At how many β the best encoder was looked for.
        starts: From how many random starts at each, beside those from neighbouring β.
        steps: How many iterations that took.
        values: How many values T could take.
        needed: How many are surely enough: how many different p(y|x) there are.
        error: Bits: the most that the curve between two points was seen to be off by, where it
            was put to the test, and may be off by where it was not.
        alone: The β at which only one of all starts found the best.
        unfinished: The β at which the best start was still rising after all steps allowed.
        below: The β at which all starts ended below the curve through the others.
    """

    solved: int
    starts: int
    steps: int
    values: int
    needed: int
    error: float
    alone: tuple[float, ...] = ()
    unfinished: tuple[float, ...] = ()
    below: tuple[float, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether T had values enough, and every β had an end that no other point outdid."""
        return not (self.unfinished or self.below) and self.values >= self.needed

    def __str__(self) -> str:
        lines = [
            f"Check: {self.solved} β, {self.starts} random starts each beside warm ones, "
            f"{self.steps:,} steps; between points the curve is off by at most {self.error:.1g} "
            f"bits; at {len(self.alone)} β only one start found the best."
        ]
        if self.unfinished:
            lines.append(f"Not at rest at {len(self.unfinished)} β: {_listed(self.unfinished)}.")
        if self.below:
            lines.append(
                f"Below the curve through the others at {len(self.below)} β: "
                f"{_listed(self.below)}; more restarts would find more."
            )
        if self.values < self.needed:
            lines.append(
                f"T has {self.values} values, and {self.needed} different p(y|x) might need as "
                "many: the curve can be reached, and the true one may lie above."
            )
        return "\n".join(map(wrap, lines))


@dataclass(frozen=True, eq=False)
class BottleneckCurve:
    """The most I(T;Y) of any T that has X only, at each I(X;T); ``print`` it.

    Points of the curve, each the best T for I(T;Y) - I(X;T)/β. A point of the plane above the
    curve belongs to no T that is made of X: it is a fault of its estimator, or of the law.

    Args:
        betas: β, rising; 1/β is the slope of the curve at a point, ∞ the end. ``(n,)``
        i_xt: I(X;T) of the points in bits, ``(n,)``.
        i_ty: I(T;Y) of the points in bits, ``(n,)``.
        h_x: H(X) in bits; infinite of a continuous X.
        h_y: H(Y) in bits; infinite of a continuous Y.
        i_xy: I(X;Y) in bits, the height of the curve.
        check: How sure the search is; None of a closed form.
        samples: What the law was estimated from; None of a law that is known.
    """

    betas: Floats
    i_xt: Floats
    i_ty: Floats
    h_x: float
    h_y: float
    i_xy: float
    check: Check | None = None
    samples: Samples | None = None

    @overload
    def at(self, i_xt: float) -> float: ...
    @overload
    def at(self, i_xt: Floats) -> Floats: ...
    def at(self, i_xt: Any) -> Any:
        """The most I(T;Y) in bits at I(X;T).

        The least concave curve above all points: parabolas that touch the tangents of slope 1/β,
        between chords and tangents. Below 0 bits, where no T is, it is NaN.

        Args:
            i_xt: I(X;T) in bits, a number or an array.
        """
        return self._read(interpolated, i_xt)

    @overload
    def distance(self, i_xt: float, i_ty: float) -> float: ...
    @overload
    def distance(self, i_xt: Floats, i_ty: Floats) -> Floats: ...
    def distance(self, i_xt: Any, i_ty: Any) -> Any:
        """How many bits of I(T;Y) a T lies below the curve; negative above it.

        Args:
            i_xt: I(X;T) in bits, a number or an array.
            i_ty: I(T;Y) in bits, likewise.
        """
        return self.at(i_xt) - np.asarray(i_ty, dtype=np.float64)

    @overload
    def impossible(self, i_xt: float, i_ty: float, *, margin: float = ...) -> bool: ...
    @overload
    def impossible(self, i_xt: Floats, i_ty: Floats, *, margin: float = ...) -> Booleans: ...
    def impossible(self, i_xt: Any, i_ty: Any, *, margin: float = 0.0) -> Any:
        """Whether no T can be there: above every tangent of the curve, below 0 or beyond H(X).

        Args:
            i_xt: I(X;T) in bits, a number or an array; of NaN nothing is impossible.
            i_ty: I(T;Y) in bits, likewise.
            margin: Bits that the numbers may be off by, beside a millionth.
        """
        x, y = np.asarray(i_xt, dtype=np.float64), np.asarray(i_ty, dtype=np.float64)
        slack = margin + _SLACK
        beyond = (x < -slack) | (x > self.h_x + slack) | (y < -slack)
        over = (y > self._read(above, np.maximum(x, 0)) + slack) | beyond
        over &= ~np.isnan(x + y)
        return over if over.ndim else bool(over)

    @property
    def gap(self) -> float:
        """The most, in bits, that tangents rise above chords: between them is the true curve."""
        return float(gaps(*self._envelope).max())

    @property
    def uncertain(self) -> bool:
        """Whether the curve is an estimate, or a search whose check did not pass."""
        return self.samples is not None or (self.check is not None and not self.check.passed)

    @cached_property
    def _envelope(self) -> tuple[Floats, Floats, Floats]:
        """I(X;T), I(T;Y) and slope of the points on the envelope of all."""
        order = np.argsort(self.i_xt, kind="stable")
        x, y, slopes = self.i_xt[order], self.i_ty[order], 1 / self.betas[order]
        kept = on_envelope(x, y)
        return x[kept], y[kept], slopes[kept]

    @property
    def _nearly_all(self) -> float:
        """I(X;T) at which a T can tell 99.9 % of I(X;Y)."""
        x, y, _ = self._envelope
        return float(x[np.searchsorted(y, 0.999 * self.i_xy)])

    def _read(self, curve: Any, i_xt: Any) -> Any:
        """A curve through the points, which goes on along its last tangent up to I(X;Y)."""
        at = np.asarray(i_xt, dtype=np.float64)
        x, y, slopes = self._envelope
        inside = curve(x, y, slopes, np.clip(np.nan_to_num(at), x[0], x[-1]))
        beyond = np.minimum(y[-1] + slopes[-1] * np.maximum(at - x[-1], 0), self.i_xy)
        read = np.where(at > x[-1], beyond, np.where(at >= 0, inside, math.nan))
        return read if read.ndim else float(read)

    def __str__(self) -> str:
        first = f"Information-bottleneck curve, {len(self.betas)} points; I(X;Y) = {self.i_xy:.4g}"
        if math.isfinite(self.h_x):
            first += f", H(X) = {self.h_x:.4g}, H(Y) = {self.h_y:.4g}"
        rows = [f"{'I(X;T)':>10}  {'I(T;Y) at most':>14}"]
        for share in range(6):
            bits = self._nearly_all * share / 5
            rows.append(f"{bits:>10.4f}  {self.at(bits):>14.4f}")
        lines = [f"{first} bits.", *rows]
        if self.samples is not None:
            n, x, y, pairs = self.samples
            lines.append(
                wrap(
                    f"An estimate, of the law of N = {n:,} samples: {x:,} values of X, {y:,} of Y, "
                    f"{pairs:,} pairs; I(X;Y) is too high by up to about "
                    f"{self.samples.bias:.2g} bits."
                )
            )
        lines.append(str(self.check) if self.check is not None else "A closed form.")
        return "\n".join(lines)


def _listed(betas: tuple[float, ...]) -> str:
    shown = ", ".join(f"{beta:.4g}" for beta in betas[:5])
    return shown + ", …" * (len(betas) > 5)

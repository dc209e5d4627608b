"""Laws of known information at the size of somebody's own data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ibtrace.comparison._trial import Trial, table
from ibtrace.errors import InvalidInput
from ibtrace.problems import GaussianChannel, Problem, Rescaled, SparseNormal, Swapped
from ibtrace.types import I_TY, I_XT

_LEVELS = (0.25, 0.75)
_MARGIN = 1e-3  # bits


@dataclass(frozen=True)
class CalibrationLaw:
    """A law of known information that stands for one quantity of a layer.

    Args:
        quantity: ``"I(X;T)"`` or ``"I(T;Y)"``.
        dimension: The dimension of T.
        problem: The law; of I(X;T) its Y is T, of I(T;Y) its X is.
    """

    quantity: str
    dimension: int
    problem: Problem

    @property
    def name(self) -> str:
        """The name in tables: quantity, dimension of T and bits."""
        return f"{self.quantity}, d = {self.dimension}, {self.problem.bits:.3g} bits"


def calibration_table(done: Iterable[Trial], laws: Iterable[CalibrationLaw]) -> pd.DataFrame:
    """Trials on calibration laws, with their ``quantity`` and ``dimension`` as two more columns.

    Args:
        done: Trials whose problems are the laws' names.
        laws: The laws.
    """
    frame, of_name = table(done), {law.name: law for law in laws}
    return frame.assign(
        quantity=[of_name[name].quantity for name in frame["problem"]],
        dimension=[of_name[name].dimension for name in frame["problem"]],
    )


def calibration_laws(
    n: int,
    x_dim: int,
    t_dims: Iterable[int],
    *,
    classes: int | None = None,
    y_dim: int = 1,
    x_scales: Sequence[float] = (),
    t_scales: Mapping[int, Sequence[float]] | None = None,
    y_scales: Sequence[float] = (),
) -> tuple[CalibrationLaw, ...]:
    """Laws at one's own N, dimensions and number of classes.

    For I(X;T), `layer_law` at a quarter and at three quarters of log2 N; for I(T;Y), `label_law`
    at a quarter and at three quarters of log2 ``classes``, or `layer_law` at 0.5 and 1.5 bits
    if Y is continuous.

    Args:
        n: Number of samples, of which the levels depend.
        x_dim: The dimension of X.
        t_dims: The dimensions of the layers; each once is enough.
        classes: Number of classes of Y; None if Y is continuous.
        y_dim: The dimension of Y, if it is continuous.
        x_scales: How wide each column of X is, relative to the law's; empty: all as in the law.
        t_scales: The same of the columns of T, by its dimension.
        y_scales: The same of Y, if it is continuous.

    Raises:
        InvalidInput: If a number is not positive.

    Example:
        >>> laws = calibration_laws(1024, 12, [10, 3], classes=2)
        >>> [law.name for law in laws[:3]]
        ['I(X;T), d = 10, 2.5 bits', 'I(X;T), d = 10, 7.5 bits', 'I(T;Y), d = 10, 0.25 bits']
        >>> laws[-1].quantity, laws[-1].dimension, round(laws[-1].problem.bits, 6)
        ('I(T;Y)', 3, 0.75)
    """
    if n < 2:
        raise InvalidInput(f"calibration_laws: n must be at least 2, got {n}")
    laws: list[CalibrationLaw] = []
    of_x, of_y = tuple(x_scales), tuple(y_scales)
    for d in dict.fromkeys(t_dims):
        of_t = tuple((t_scales or {}).get(d, ()))
        for bits in (share * math.log2(n) for share in _LEVELS):
            law = _rescaled(layer_law(x_dim, d, bits), of_x, of_t)
            laws.append(CalibrationLaw(I_XT, d, law))
        if classes is None:
            for bits in (0.5, 1.5):
                law = _rescaled(layer_law(d, y_dim, bits), of_t, of_y)
                laws.append(CalibrationLaw(I_TY, d, law))
        elif classes > 1:
            for bits in (share * math.log2(classes) for share in _LEVELS):
                law = _rescaled(label_law(d, classes, bits), of_t, ())
                laws.append(CalibrationLaw(I_TY, d, law))
    return tuple(laws)


def _rescaled(law: Problem, x: tuple[float, ...], y: tuple[float, ...]) -> Problem:
    return Rescaled(law, x, y) if x or y else law


def layer_law(x_dim: int, y_dim: int, bits: float) -> Problem:
    """Normal X and Y where every coordinate of the smaller is seen through Gaussian noise.

    Args:
        x_dim: The dimension of X.
        y_dim: The dimension of Y.
        bits: I(X;Y), shared equally by the pairs of coordinates.

    Raises:
        InvalidInput: If a number is not positive.

    Example:
        >>> round(layer_law(12, 5, 3.0).bits, 9)
        3.0
    """
    if min(x_dim, y_dim) < 1 or not bits > 0:
        got = f"{x_dim} and {y_dim} dimensions and {bits} bits"
        raise InvalidInput(f"layer_law: dimensions and bits must be positive, got {got}")
    pairs = min(x_dim, y_dim)
    correlation = math.sqrt(-math.expm1(-2 * bits / pairs * math.log(2)))
    strength = math.sqrt(correlation / (1 - correlation))
    return SparseNormal(x_dim, y_dim, pairs=pairs, strength=strength)


def label_law(t_dim: int, classes: int, bits: float) -> Problem:
    """Equally likely classes in a row of equal steps under isotropic Gaussian noise.

    Args:
        t_dim: The dimension of T; the noise fills all of it.
        classes: Number of classes of Y.
        bits: I(T;Y); the noise is chosen for it, to 1e-9 bit.

    Raises:
        InvalidInput: If ``bits`` does not lie between 0 and log2 ``classes``, by 0.001 bit.

    Example:
        >>> round(label_law(3, 10, 2.0).bits, 6)
        2.0
    """
    most = math.log2(classes) if classes > 1 else 0.0
    if t_dim < 1 or not _MARGIN <= bits <= most - _MARGIN:
        got = f"{bits} bits of {classes} classes in {t_dim} dimensions"
        raise InvalidInput(f"label_law: bits must lie between 0 and {most:.4g}, got {got}")

    def channel(log_noise: float) -> GaussianChannel:
        points = tuple((float(c), *(0.0,) * (t_dim - 1)) for c in range(classes))
        return GaussianChannel(points, math.exp(log_noise), title=f"{classes}-in-a-row")

    from scipy.optimize import brentq  # here, as it takes a third of a second to import

    ends = math.log(0.05), math.log(40.0 * classes)
    return Swapped(channel(brentq(lambda at: channel(at).bits - bits, *ends, xtol=1e-10)))

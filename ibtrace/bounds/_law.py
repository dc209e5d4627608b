"""What a joint law is made of, checked: a table of probabilities, or samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ibtrace.errors import InvalidInput, NonFinite, TooLarge
from ibtrace.numerics.blahut_arimoto import Law

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST = 2**27
"""Numbers that are held at once, at most: 1 GiB."""

_SUM = 1e-6  # how far from 1 a table may sum: float32's rounding
_ALIKE = 10  # digits to which two laws of Y are one


class Samples(NamedTuple):
    """What an empirical law is an estimate from.

    Args:
        n: How many samples.
        x: How many values of X occur.
        y: How many values of Y occur.
        pairs: How many pairs of them occur.
    """

    n: int
    x: int
    y: int
    pairs: int

    @property
    def bias(self) -> float:
        """By up to about how many bits I(X;Y) of the samples is too high.

        (x - 1)(y - 1) / (2 n ln 2), that of independent variables (Miller 1955).
        """
        return (self.x - 1) * (self.y - 1) / (2 * self.n * float(np.log(2)))


def table(p_xy: Any) -> Floats:
    """A joint law as an array, checked, of sum 1.

    Args:
        p_xy: p(x, y), ``(x values, y values)``: a tensor, an array, a data frame or lists.

    Raises:
        InvalidInput: If it is no table of numbers, has negative ones or does not sum to 1.
        NonFinite: If it holds NaN or infinite values.
    """
    p = as_array("bottleneck", "p_xy", p_xy)
    if p.dtype.kind not in "iuf" or p.ndim != 2 or 0 in p.shape:
        raise InvalidInput(
            "bottleneck: p_xy must be a table (values of x, values of y) of probabilities, got "
            f"shape {p.shape} of {p.dtype}; of samples, give ids: bottleneck(x=…, y=…)"
        )
    p = p.astype(np.float64)
    if bad := int((~np.isfinite(p)).sum()):
        raise NonFinite(f"bottleneck: p_xy has {bad} NaN or infinite values; mend them")
    if (p < 0).any():
        raise InvalidInput(
            f"bottleneck: p_xy has {int((p < 0).sum())} negative values, down to {p.min():g}; a "
            "probability is at least 0"
        )
    if abs(p.sum() - 1) > _SUM:
        raise InvalidInput(
            f"bottleneck: p_xy sums to {p.sum():g}, not to 1; of counts, give p_xy / p_xy.sum()"
        )
    return np.asarray(p / p.sum(), dtype=np.float64)


def empirical(x: Any, y: Any) -> tuple[Floats, Samples]:
    """The law of samples, and how many there were.

    Args:
        x: Ids, integers ``(n,)``.
        y: Ids, integers ``(n,)``.

    Raises:
        InvalidInput: If they are no ids, none, or not as many of one as of the other.
        TooLarge: If the table of their probabilities would take gigabytes.
    """
    a, b = _ids("x", x), _ids("y", y)
    if len(a) != len(b):
        raise InvalidInput(
            f"bottleneck: x has {len(a)} samples and y {len(b)}; give one y for each x"
        )
    of_x, at_x = np.unique(a, return_inverse=True)
    of_y, at_y = np.unique(b, return_inverse=True)
    if (cells := len(of_x) * len(of_y)) > MOST:
        raise TooLarge(
            f"bottleneck: {len(of_x):,} values of x by {len(of_y):,} of y are {cells:,} "
            f"probabilities, more than {MOST:,}; take coarser ids"
        )
    counts = np.zeros((len(of_x), len(of_y)), dtype=np.int64)
    np.add.at(counts, (at_x, at_y), 1)
    samples = Samples(len(a), len(of_x), len(of_y), int((counts > 0).sum()))
    return np.asarray(counts / len(a), dtype=np.float64), samples


def reduced(p_xy: Floats) -> Law:
    """The law of Y and of the least statistic of X that decides it: p(y|x) as a variable.

    No T can use of X what does not change p(y|x), so that the curve stays the same. Values of
    probability 0 are left out.

    Args:
        p_xy: A joint law.
    """
    p = p_xy[p_xy.sum(1) > 0][:, p_xy.sum(0) > 0]
    of_x = p.sum(1)
    given = p / of_x[:, None]
    _, group = np.unique(given.round(_ALIKE), axis=0, return_inverse=True)
    joint = np.zeros((int(group.max()) + 1, p.shape[1]))
    np.add.at(joint, group.ravel(), p)
    of_x = joint.sum(1)
    return Law(torch.from_numpy(of_x), torch.from_numpy(joint / of_x[:, None]))


def entropy(p: Floats) -> float:
    """Of a law, in bits."""
    positive = p[p > 0]
    return float(-(positive * np.log2(positive)).sum()) + 0.0


def as_array(who: str, role: str, value: Any) -> NDArray[Any]:
    """A tensor, an array, a data frame or lists as an array of their own type.

    Args:
        who: Who asks, for the error.
        role: What it is, for the error.
        value: What was given.

    Raises:
        InvalidInput: If it is none of them.
    """
    try:
        value = value.detach().cpu() if isinstance(value, torch.Tensor) else value
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"{who}: {role} cannot be read as an array ({error})") from error


def _ids(role: str, value: Any) -> Integers:
    ids = as_array("bottleneck", role, value)
    if ids.dtype.kind not in "biu":
        raise InvalidInput(
            f"bottleneck: {role} must be ids, integers, got {ids.dtype}; number the values "
            f"(numpy.unique(…, return_inverse=True)), or bin what is continuous"
        )
    if ids.ndim != 1 or len(ids) == 0:
        raise InvalidInput(
            f"bottleneck: {role} must be one id for each of at least 1 samples, got shape "
            f"{ids.shape}"
        )
    return ids.astype(np.int64)

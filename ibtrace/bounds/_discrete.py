"""The bottleneck of discrete variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ibtrace.bounds._anneal import Search, as_arrays, missed, points_of
from ibtrace.bounds._curve import BottleneckCurve, Check
from ibtrace.bounds._law import MOST, Floats, Samples, empirical, entropy, reduced, table
from ibtrace.errors import ConfigError, TooLarge
from ibtrace.runtime.arguments import seed_number, shown, whole

VALUES = 64
"""How many values T may take where nothing is said, at most."""

_STEPS = 20_000  # at one β


def bottleneck(
    p_xy: Any = None,
    *,
    x: Any = None,
    y: Any = None,
    betas: Sequence[float] | None = None,
    values: int | None = None,
    restarts: int = 4,
    tolerance: float = 2e-6,
    seed: int = 0,
) -> BottleneckCurve:
    """The information-bottleneck curve of two discrete variables: the bound on every T.

    At each β the encoder p(t|x) that maximises I(T;Y) - I(X;T)/β is looked for by Blahut and
    Arimoto's iteration on logarithms, from the encoders of neighbouring β below (values of T
    part) and above (they merge) and from random ones. β is annealed from the critical one,
    1/ρ² (ρ the maximal correlation of X and Y), up to the end of the curve and back; then
    points are added where the curve bends. Values of X of one p(y|x) are one to every T, and are
    taken together. Of p different p(y|x), q values of Y and k of T, a step takes p q k operations.

    Args:
        p_xy: p(x, y), ``(values of x, values of y)``: a tensor, an array, a data frame or lists.
        x: Instead of a law, samples: ids, integers ``(n,)``. The curve is then that of the
            samples' law, an estimate, and says so.
        y: The ids of Y, ``(n,)``.
        betas: Points at these β only (and both ends), all above 0; by default as many as it needs.
        values: How many values T may take; by default as many as X has different p(y|x), which are
            always enough, but at most 64.
        restarts: How many random starts at each β, beside warm ones.
        tolerance: Bits that the curve between two points may be off by.
        seed: Draws the random starts.

    Returns:
        The curve, with a check of the search.

    Raises:
        InvalidInput: If the law or the ids are none; says what is wrong with them.
        NonFinite: If the law holds NaN or infinite values.
        TooLarge: If so many values would take gigabytes.
        ConfigError: If an argument is impossible, or both or neither of law and ids are given.

    References:
        Tishby, Pereira & Bialek 1999, The information bottleneck method, arXiv:physics/0004057.
        Witsenhausen & Wyner 1975, IEEE Trans. Inf. Theory 21: the curve, and closed forms of it.

    Example:
        A fair bit X; Y is X, flipped with probability 0.1. Half of X is worth 0.303 bits of Y.

        >>> curve = bottleneck([[0.45, 0.05], [0.05, 0.45]])
        >>> round(curve.i_xy, 3), round(curve.at(0.5), 3), curve.check.passed
        (0.531, 0.303, True)
    """
    law, samples = _given(p_xy, x, y)
    whole("bottleneck: restarts", restarts, least=1)
    _require_positive("tolerance", tolerance)
    chosen = None if betas is None else _rising(betas)
    least = reduced(law)
    needed = len(least.p_x)
    most = min(needed, VALUES) if values is None else whole("bottleneck: values", values, least=2)
    search = Search(least, most, int(restarts), _STEPS, seed_number("bottleneck: seed", seed))
    if (size := needed * most * (int(restarts) + 2)) > MOST:
        raise TooLarge(
            f"bottleneck: {needed:,} values of X, {most} of T and {restarts} restarts take "
            f"{size:,} numbers, more than {MOST:,}; lower values= or restarts="
        )
    points, error = points_of(search, chosen, tolerance)
    check = Check(
        solved=search.solved,
        starts=int(restarts),
        steps=search.iterations,
        values=most,
        needed=needed,
        error=error,
        alone=tuple(search.alone),
        unfinished=tuple(search.unfinished),
        below=missed(points),
    )
    at, told, _ = as_arrays(points)
    beta = np.array([point.beta for point in points])
    h_x, h_y = entropy(law.sum(1)), entropy(law.sum(0))
    return BottleneckCurve(beta, at, told, h_x, h_y, h_x + h_y - entropy(law), check, samples)


def _given(p_xy: Any, x: Any, y: Any) -> tuple[Floats, Samples | None]:
    """The law that was given, or that of the samples that were."""
    if (p_xy is None) == (x is None and y is None) or (x is None) != (y is None):
        raise ConfigError(
            "bottleneck takes either a law or samples: bottleneck(p_xy), or bottleneck(x=…, y=…)"
        )
    return empirical(x, y) if p_xy is None else (table(p_xy), None)


def _rising(betas: Sequence[float]) -> list[float]:
    """Different β in order."""
    given = list(betas) if isinstance(betas, Sequence | np.ndarray) else [betas]
    for beta in given:
        _require_positive("betas: each", beta)
    if isinstance(betas, str) or not given:
        raise ConfigError(f"bottleneck: betas must be one number or more, got {shown(betas)}")
    return sorted({float(beta) for beta in given})


def _require_positive(name: str, value: Any) -> None:
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not 0 < float(value) < math.inf:
        raise ConfigError(
            f"bottleneck: {name} must be a number above 0 and finite, got {shown(value)}"
        )

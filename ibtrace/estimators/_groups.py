"""What groups of samples tell of floats: the calls of estimators that see one of the two as ids."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.estimators._checks import as_classes, determined, require_classes, undefined
from ibtrace.estimators._inputs import check_pair, each_estimates, is_ids
from ibtrace.types import Estimate, ProbeLike

Solve = Callable[[Tensor, list[Tensor], list[bool]], list[Estimate]]
"""One layer ``(n, d)``, groupings of its samples ``(n,)``, and of each whether its law is known, to
the estimates of each."""


def about_groups(who: str, solve: Solve, x: Tensor, y: Tensor) -> tuple[Estimate, Tensor]:
    """The estimate of floats and ids, whichever is which, and the floats.

    Raises:
        InvalidInput: If x or y is malformed.
        Unsupported: If both are ids, or both are floats and rows of x hardly repeat.
    """
    check_pair(who, x, y)
    require_classes(who, x, y)
    classes, t = (y, x) if is_ids(y) else (x, y)
    return each_estimates(lambda c, layer: solve(layer, [c], [False]), classes, t)[0], t


def plane_of_groups(
    who: str, solve: Solve, t: Tensor, probe: ProbeLike
) -> tuple[Estimate, Estimate]:
    """I(X;T) and I(T;Y) of a layer ``(..., n, d)``: the inputs and the classes group its samples.

    Where the labels are no classes I(T;Y) is undefined.

    Raises:
        InvalidInput: If ``t`` is malformed or does not pair with the probe.
        Unsupported: If ``t`` is ids.
    """
    ids, targets = probe.x_ids.to(t.device), probe.labels.to(t.device)
    check_pair(who, ids, t)
    check_pair(who, ids, targets)
    if is_ids(t):
        raise Unsupported(f"{who}: t must be floats, got ids")
    classes = as_classes(targets)
    groups = [] if classes is None else [classes]
    whole = probe.population

    def solve_all(c: Tensor, layer: Tensor) -> list[Estimate]:
        known = [whole or determined(c, layer), *(whole for _ in groups)]
        return solve(layer, [c, *groups], known)

    about_x, *about_y = each_estimates(solve_all, ids, t)
    return about_x, about_y[0] if about_y else undefined(about_x.bits.shape, t.device)

"""What groups of samples tell of floats: estimators that see one of the two variables as ids."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.estimators._checks import (
    as_classes,
    checked,
    determined,
    require_classes,
    undefined,
)
from ibtrace.estimators._inputs import check_pair, each_estimates, is_ids
from ibtrace.estimators._one_pass import ByOnePass
from ibtrace.numerics.scale import columns_apart
from ibtrace.types import Estimate, ProbeLike, label


@checked
class OfGroups(ByOnePass):
    """An estimator of floats and of classes of samples, whichever variable is which.

    A subclass says what several groupings of its samples tell of one layer (`_solve`).
    """

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """The estimate in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Seeds what is random, the same for every problem of a batch; without effect where
                nothing is.

        Raises:
            InvalidInput: If x or y is malformed.
            Unsupported: If both are ids, or both are floats and rows of x hardly repeat.
        """
        who = label(self)
        check_pair(who, x, y)
        require_classes(who, x, y)
        classes, t = (y, x) if is_ids(y) else (x, y)
        solved = each_estimates(lambda c, layer: self._solve(layer, [c], [False], seed), classes, t)
        return solved[0].flagged(scales_apart=self._apart(t))

    def informations(
        self, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike] = (), *, seed: int = 0
    ) -> list[Estimate]:
        """I(X;T) and I(T;Y) in bits of ``t (..., n, d)``, then I(T;Y) of others, from one look.

        The inputs and the classes group its samples; where the labels are no classes I(T;Y) is
        undefined.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe.
            Unsupported: If ``t`` is ids.
        """
        who, ids = label(self), probe.x_ids.to(t.device)
        targets = [each.labels.to(t.device) for each in (probe, *others)]
        check_pair(who, ids, t)
        for target in targets:
            check_pair(who, ids, target)
        if is_ids(t):
            raise Unsupported(f"{who}: t must be floats, got ids")
        classes = [as_classes(target) for target in targets]
        groups = [each for each in classes if each is not None]
        whole = probe.population

        def solve_all(c: Tensor, layer: Tensor) -> list[Estimate]:
            known = [whole or determined(c, layer), *(whole for _ in groups)]
            return self._solve(layer, [c, *groups], known, seed)

        about_x, *about_groups = each_estimates(solve_all, ids, t)
        rest = iter(about_groups)
        none = undefined(about_x.bits.shape, t.device)
        about_y = [none if each is None else next(rest) for each in classes]
        apart = self._apart(t)
        return [estimate.flagged(scales_apart=apart) for estimate in (about_x, *about_y)]

    def _solve(
        self, t: Tensor, groups: list[Tensor], known: list[bool], seed: int
    ) -> list[Estimate]:
        """The estimates of one layer.

        Args:
            t: The layer, ``(n, d)``.
            groups: Groupings of its samples, ``(n,)`` each.
            known: Of each grouping, whether its law is, so that no null is asked for.
            seed: Seeds what is random.
        """
        raise NotImplementedError

    def _apart(self, t: Tensor) -> Tensor:
        """Whether columns have spreads too different for what looks at them alike, ``(...)``."""
        return columns_apart(t)

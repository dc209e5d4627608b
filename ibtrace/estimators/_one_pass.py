"""What an estimator has that tells of many labels from one pass over T."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ibtrace.types import Estimate, ProbeLike


class ByOnePass:
    """An estimator whose two informations are the first two of its `informations`."""

    def informations(
        self, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike] = (), *, seed: int = 0
    ) -> list[Estimate]:
        """See `ibtrace.types.OnePass`."""
        raise NotImplementedError

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits of ``t (..., n, d)``, from one pass: see `informations`."""
        about_x, about_y = self.informations(t, probe, seed=seed)
        return about_x, about_y

"""What is seen of a layer of which no T is held: some of its rows, and the ends of its columns."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.capture.rounding import Rounding
from ibtrace.estimators import informations
from ibtrace.probe import Probe
from ibtrace.types import Estimate, Estimator

ROWS = 1000
"""Rows that are kept of a layer, evenly spaced."""


class Screen:
    """By what flags of T's values are raised, where T's statistics are added up and T is gone.

    Args:
        samples: How many rows T has, on all ranks.
    """

    def __init__(self, samples: int) -> None:
        self._every = -(-samples // ROWS)
        self._rows: dict[int, Tensor] = {}
        self._ends: Tensor | None = None
        self._rounding: Rounding | None = None

    def update(self, t: Tensor, first: int, rounding: Rounding | None) -> None:
        """See a batch.

        Args:
            t: Its T, ``(n, d)``.
            first: The place of its first row among all.
            rounding: By how much rows may differ by rounding alone, if they are means.
        """
        self._reach(torch.stack([t.amin(0), t.amax(0)]).cpu())
        places = range(-first % self._every, len(t), self._every)
        rows = t.detach()[places.start :: self._every].cpu()
        self._rows |= {first + place: row.clone() for place, row in zip(places, rows, strict=True)}
        self._rounding = self._rounding or rounding

    def merge(self, other: Screen) -> None:
        """See what another process has seen."""
        if other._ends is not None:
            self._reach(other._ends)
        self._rows |= other._rows
        self._rounding = self._rounding or other._rounding

    def _reach(self, ends: Tensor) -> None:
        low, high = ends if self._ends is None else torch.cat([self._ends, ends]).aminmax(dim=0)
        self._ends = torch.stack([low, high])

    def informations(self, estimator: Estimator, probe: Probe, seed: int) -> list[Estimate]:
        """What the estimator says of the rows kept, and how it flags them.

        Flagged ``rounded`` is also a T of which a column is a mean that differs between samples by
        rounding alone. Where T is held such a column is made constant.

        Args:
            estimator: Bound to the layer.
            probe: All samples.
            seed: Of the network.
        """
        places = torch.tensor(sorted(self._rows))
        rows = torch.stack([self._rows[place] for place in places.tolist()])
        part = probe.numbered(places.to(probe.device))
        told = informations(estimator, rows, part, part.others, seed=seed)
        if self._rounding is None or self._ends is None:
            return told
        rounded = self._rounding.constant(self._ends.to(self._rounding.bound.device)).any().cpu()
        return [
            each.flagged(rounded=each.flags.get("rounded", torch.zeros(())).bool() | rounded)
            for each in told
        ]

"""What is seen of a layer of which no T is held: some of its rows, and the ends of its columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibtrace.capture.rounding import Rounding
from ibtrace.estimators import informations
from ibtrace.probe import Probe
from ibtrace.types import Estimate, Estimator

ROWS = 1000
"""Rows that are kept of a layer, evenly spaced."""


@dataclass(frozen=True)
class Settled:
    """Makes columns constant that are so but for rounding, as they are where T is held.

    Args:
        columns: Which, bool ``(d,)``.
        first: The first sample's T, ``(d,)``.
        whole: Whether no other column varies.
    """

    columns: Tensor
    first: Tensor
    whole: bool

    def __call__(self, t: Tensor) -> Tensor:
        """T ``(n, d)`` with these columns as they are in the first sample."""
        return torch.where(self.columns.to(t.device), self.first.to(t.device, t.dtype), t)


class Screen:
    """By what flags of T's values are raised, where T's statistics are added up and T is gone.

    Args:
        samples: How many rows T has, on all ranks.
    """

    def __init__(self, samples: int) -> None:
        self._every = -(-samples // ROWS)
        self._rows: dict[int, Tensor] = {}
        self._ends: Tensor | None = None
        self._rounding: tuple[int, Rounding] | None = None  # and the first row it was seen at

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
        if rounding is not None and self._rounding is None:
            self._rounding = first, rounding

    def merge(self, other: Screen) -> None:
        """See what another process has seen."""
        if other._ends is not None:
            self._reach(other._ends)
        self._rows |= other._rows
        known = [of for of in (self._rounding, other._rounding) if of is not None]
        self._rounding = min(known, key=lambda of: of[0], default=None)

    def _reach(self, ends: Tensor) -> None:
        low, high = ends if self._ends is None else torch.cat([self._ends, ends]).aminmax(dim=0)
        self._ends = torch.stack([low, high])

    def settled(self) -> Settled | None:
        """The columns that are constant but for rounding, taken out of the rows kept; None: none.

        To be asked once, when all samples were seen.
        """
        if self._rounding is None or self._ends is None:
            return None
        rounding, ends = self._rounding[1], self._ends
        columns = rounding.constant(ends.to(rounding.bound.device)).cpu()
        if not bool(columns.any()):
            return None
        settled = Settled(columns, self._rows[0], bool((columns | (ends[0] == ends[1])).all()))
        self._rows = {place: settled(row[None])[0] for place, row in self._rows.items()}
        return settled

    def informations(self, estimator: Estimator, probe: Probe, seed: int) -> list[Estimate]:
        """What the estimator says of the rows kept, and how it flags them.

        Args:
            estimator: Bound to the layer.
            probe: All samples.
            seed: Of the network.
        """
        places = torch.tensor(sorted(self._rows))
        rows = torch.stack([self._rows[place] for place in places.tolist()])
        part = probe.numbered(places.to(probe.device))
        return informations(estimator, rows, part, part.others, seed=seed)

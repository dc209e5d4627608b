"""Neighbours of samples from laws with atoms, after Gao et al. 2017."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ibtrace.numerics.bins import dense_ids, row_ids
from ibtrace.numerics.distances import Distances, Norm, row_blocks
from ibtrace.numerics.knn import TIE, count_within, k_smallest, tree_neighbours

_TREE_DIMENSIONS = 6


class Rows(Protocol):
    """The distances of some samples to all; each sample is infinitely far from itself."""

    def rows(self, rows: slice) -> Tensor:
        """``(rows, n)``; not to be written to."""
        ...


@dataclass(frozen=True)
class Atoms:
    """Distances that know of atoms: two samples of one atom coincide, all others are far apart.

    Args:
        ids: The atom of each sample, ``(n,)``; -1 for a sample that is in none.
        rest: The distances among samples in no atom; not needed where there are none.
    """

    ids: Tensor
    rest: Rows | None

    def rows(self, rows: slice) -> Tensor:
        """Zero within an atom, infinite between an atom and anything else, ``(rows, n)``."""
        own = self.ids[rows].unsqueeze(1)
        apart = own != self.ids
        if self.rest is None:
            distances = torch.zeros(apart.shape, dtype=torch.float64, device=apart.device)
        else:
            distances = self.rest.rows(rows).masked_fill(own >= 0, 0)
        distances.masked_fill_(apart, torch.inf)
        distances.diagonal(rows.start).fill_(torch.inf)
        return distances


def space(x: Tensor, norm: Norm, *, apart_above: int | None, keep: bool = False) -> Rows:
    """The distances of a variable given as ids ``(n,)`` or floats ``(n, d)``.

    Args:
        x: The variable. Every id is an atom.
        norm: The norm of floats.
        apart_above: Rows of floats that occur more often are atoms; None if none is.
        keep: Whether to keep the distances of floats, where they fit.
    """
    if x.dim() == 1:
        return Atoms(dense_ids(x), None)
    distances = Distances(x.detach().to(torch.float64), norm, keep)
    if apart_above is None:
        return distances
    ids = row_ids(distances.points)
    sizes = torch.bincount(ids)[ids]
    atomic = sizes > apart_above
    return Atoms(torch.where(atomic, ids, -1), distances) if bool(atomic.any()) else distances


class MixedCounts(NamedTuple):
    """What Gao et al. count around each of n samples, ``(n,)`` each.

    Args:
        k: Neighbours that set the radius; at radius 0 the samples at the very same point.
        x: Samples nearer than the radius in x, the sample itself included.
        y: The same in y.
        atom: Whether the radius is 0.
        tied: Whether the k-th neighbour is as far as the next one, at a radius above 0.
    """

    k: Tensor
    x: Tensor
    y: Tensor
    atom: Tensor
    tied: Tensor


def _tree_counts(x: Rows, y: Rows, k: int) -> MixedCounts | None:
    """The counts by trees, where these are faster and nothing is tied."""
    if not (isinstance(x, Distances) and isinstance(y, Distances)):
        return None
    (n, dx), dy = x.points.shape, y.points.shape[1]
    applies = x.points.device.type == "cpu" and (x.norm == "max" or dx == dy == 1)
    if not applies or dx + dy > _TREE_DIMENSIONS:
        return None
    found = tree_neighbours(x.points, y.points, k, closed=False, stop_at_tie=True)
    if found is None:
        return None
    no = torch.zeros(n, dtype=torch.bool)
    return MixedCounts(torch.full((n,), k), found.x + 1, found.y + 1, no, no)


def mixed_counts(x: Rows, y: Rows, n: int, k: int, device: torch.device) -> MixedCounts:
    """Counts of neighbours within the distance of the k-th one in the joint space.

    Where fewer than k samples are at a finite distance, the farthest of these sets the radius;
    where none is, the radius is 0.

    Args:
        x: Distances in x.
        y: Distances in y.
        n: The number of samples.
        k: Which neighbour in the joint space sets the radius.
        device: Where the distances are.
    """
    trees = _tree_counts(x, y, k)
    if trees is not None:
        return trees
    within = partial(count_within, closed=False)
    parts: list[Sequence[Tensor]] = []
    for rows in row_blocks(n, device):
        dx, dy = x.rows(rows), y.rows(rows)
        joint = torch.maximum(dx, dy)
        nearest = k_smallest(joint, min(k + 1, n - 1))[0]
        finite = nearest[:, :k].isfinite().sum(1, keepdim=True)
        last = nearest.gather(1, (finite - 1).clamp(min=0))
        radius = torch.where(finite > 0, last, 0)
        atom = radius == 0
        # Distances that differ by rounding alone are equal, and equal ones are not inside.
        inside = torch.where(atom, torch.finfo(torch.float64).tiny, radius * (1 - TIE))
        same = finite.squeeze(1)
        if bool(atom.any()):
            same = torch.where(atom.squeeze(1), within(joint, inside) + 1, same)
        beyond = nearest.gather(1, finite.clamp(max=nearest.shape[1] - 1))
        tied = ~atom & (finite < nearest.shape[1]) & (beyond - radius <= TIE * radius)
        near = [within(distances, inside) + 1 for distances in (dx, dy)]
        parts.append((same, *near, atom.squeeze(1), tied.squeeze(1)))
    return MixedCounts(*(torch.cat(column) for column in zip(*parts, strict=True)))

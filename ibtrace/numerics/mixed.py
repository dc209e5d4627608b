"""Neighbours of samples from laws with atoms, after Gao et al. 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ibtrace.numerics.bins import joint_ids
from ibtrace.numerics.distances import Distances, Norm, row_blocks
from ibtrace.numerics.knn import TIE, count_within, k_smallest, neighbours

_LATTICE = 0.1  # share of tied samples
_TOLD = 0.1  # share of the pairs of a random order
_MADE_UP = 0.05  # nats
_NEARLY_ALL = 0.95
_FARTHER = 1 + 1e-9  # parts what is tied (see `knn.TIE`), and hardly anything else


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


def space(
    x: Tensor, ids: Tensor, norm: Norm, *, apart_above: int | None, keep: bool = False
) -> Rows:
    """The distances of a variable given as ids ``(n,)`` or floats ``(n, d)``.

    Args:
        x: The variable. Every id is an atom.
        ids: Which samples are equal, ids from 0, ``(n,)``.
        norm: The norm of floats.
        apart_above: Rows of floats that occur more often are atoms, if they lie in a continuum:
            where most distinct rows repeat, they are a lattice, whose distances mean something,
            and none is an atom. None if none is in any case.
        keep: Whether to keep the distances of floats, where they fit.
    """
    if x.dim() == 1:
        return Atoms(ids, None)
    distances = Distances(x.detach().to(torch.float64), norm, keep)
    if apart_above is None:
        return distances
    occurs = torch.bincount(ids)
    lattice = 2 * int((occurs > 1).sum()) > len(occurs)
    atomic = (occurs > apart_above)[ids]
    if lattice:
        return distances
    return Atoms(torch.where(atomic, ids, -1), distances) if bool(atomic.any()) else distances


class MixedBalls(NamedTuple):
    """What the ball around each of n samples tells, ``(n,)`` each.

    Args:
        nats: ψ(k̃) - ψ(n_x) - ψ(n_y) of the samples inside the ball, each with the sample itself.
        k: k̃, those inside it in the joint space; at radius 0 the samples at the very same point.
        atom: Whether the radius is 0.
        tied: Whether others are as far as the neighbour that sets the radius, above 0.
        few: Whether fewer than k samples are at a finite distance.
        gain: What the nats would gain if one of the k nearest were away; 0 of atoms and ties.
        nearest: The k nearest in the joint space, ``(n, k)``.
    """

    nats: Tensor
    k: Tensor
    atom: Tensor
    tied: Tensor
    few: Tensor
    gain: Tensor
    nearest: Tensor


def _without_ties(x: Rows, y: Rows, k: int) -> MixedBalls | None:
    """The same from Kraskov's counts, which are faster, where nothing is tied."""
    if not (isinstance(x, Distances) and isinstance(y, Distances)):
        return None
    if x.points.device.type != "cpu":
        return None
    n = len(x.points)
    counts = neighbours(x, y, k, closed=False, stop_at_tie=True)
    if counts is None:
        return None
    no = torch.zeros(n, dtype=torch.bool)
    inside = torch.full((n,), k)
    nats = _nats(inside, counts.x + 1, counts.y + 1)
    gain = _nats(inside, counts.fewer_x + 1, counts.fewer_y + 1) - nats
    return MixedBalls(nats, inside, no, no, no, gain, counts.nearest)


def mixed_balls(x: Rows, y: Rows, n: int, k: int, device: torch.device) -> MixedBalls:
    """The balls that reach to the k-th neighbour in the joint space, without their boundary.

    The same open ball counts in all three spaces. On a lattice whole shells lie on the boundary,
    and to count them in one space only makes up information. Where shells of x and of y
    coincide, too many are outside at once: if more than a tenth of the samples is tied, the two
    orders, x's shell a little farther than y's and a little nearer, are both taken, and the
    mean of their nats. Without ties the three are the same, but for copies.

    Where fewer than k samples are at a finite distance, the farthest of these sets the radius;
    where none is, the radius is 0.

    Args:
        x: Distances in x.
        y: Distances in y.
        n: The number of samples.
        k: Which neighbour in the joint space sets the radius.
        device: Where the distances are.
    """
    untied = _without_ties(x, y, k)
    if untied is not None:
        return untied
    balls = _all_balls(x, y, n, k, device)
    if float(balls.tied.double().mean()) <= _LATTICE:
        return balls
    orders = (1.0, _FARTHER), (_FARTHER, 1.0)
    nats = [_all_balls(x, y, n, k, device, factors).nats for factors in orders]
    return balls._replace(nats=(nats[0] + nats[1]) / 2)


def nats_of_places(x: Tensor, y: Tensor) -> Tensor | None:
    """The nats of samples by equal places alone; None where too few repeat to tell.

    On a lattice a ball that holds only what lies at the sample's own place has no length to be
    compared with distances in the other variable: where y's steps are finer than x's, a ball of
    x's first shell holds most of y. The counts of places know nothing of distances (Grassberger
    1988), but make up information where pairs of places hardly repeat. They are taken where half
    of the samples or more share their place in x, and in y, with others, and of these either one
    variable all but tells the other (a tenth of the pairs beyond that, of those that y in a random
    order has), or y in a random order would have no more pairs than give .05 nats.

    Args:
        x: Which samples are at one place in x, ids from 0, ``(n,)``.
        y: Likewise in y.
    """
    n = len(x)
    shared = (torch.bincount(x)[x] > 1) & (torch.bincount(y)[y] > 1)
    if 2 * int(shared.sum()) < n:
        return None
    a, b = (ids[shared].unique(return_inverse=True)[1] for ids in (x, y))
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(0)).to(a.device)
    places = [int(ids.max()) + 1 for ids in (a, b)]
    pairs, at_random = (int(joint_ids(a, ids).max()) + 1 for ids in (b, b[order]))
    told = any(pairs - k <= _TOLD * (at_random - k) for k in places)
    made_up = (at_random - sum(places) + 1) / (2 * len(a))
    if not told and (made_up > _MADE_UP or len(a) < _NEARLY_ALL * n):
        return None
    return _nats(*(torch.bincount(ids)[ids] for ids in (joint_ids(x, y), x, y)))


def is_lattice(balls: MixedBalls) -> bool:
    """Whether so many radii above 0 are tied that the samples lie on a lattice."""
    return int(balls.tied.sum()) > _LATTICE * int((~balls.atom).sum())


def _all_balls(
    x: Rows,
    y: Rows,
    n: int,
    k: int,
    device: torch.device,
    factors: tuple[float, float] | None = None,
) -> MixedBalls:
    """The balls of all samples, row block by row block; ``factors`` multiply the distances."""
    parts = []
    for rows in row_blocks(n, device):
        dx, dy = x.rows(rows), y.rows(rows)
        if factors is not None:
            dx, dy = dx * factors[0], dy * factors[1]
        parts.append(_balls(dx, dy, k))
    return MixedBalls(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _balls(dx: Tensor, dy: Tensor, k: int) -> MixedBalls:
    """The balls of some samples, from their distances to all in x and in y, ``(m, n)`` each."""
    joint = torch.maximum(dx, dy)
    nearest, columns = k_smallest(joint, min(k + 1, joint.shape[1] - 1))
    finite = nearest[:, :k].isfinite().sum(1, keepdim=True)
    radius = nearest.gather(1, (finite - 1).clamp(min=0))
    radius = torch.where(finite > 0, radius, 0)
    atom = radius == 0
    # Distances that differ by rounding alone are equal, and equal ones are not inside.
    inside = torch.where(atom, torch.finfo(torch.float64).tiny, radius * (1 - TIE))
    counts = [count_within(distances, inside, closed=False) + 1 for distances in (joint, dx, dy)]
    beyond = nearest.gather(1, finite.clamp(max=nearest.shape[1] - 1))
    tied = (finite < nearest.shape[1]) & (beyond - radius <= TIE * radius)
    tied = ~atom & (tied | (counts[0].unsqueeze(1) < finite))
    few = finite < k
    nats, after = _nats(*counts), nearest[:, -1:] * (1 - TIE)
    fewer = [count_within(distances, after, closed=False) for distances in (dx, dy)]
    smooth = (counts[0] == k) & after.isfinite().squeeze(1) & ~(atom | tied | few).squeeze(1)
    smooth &= nearest.shape[1] > k
    gain = (_nats(counts[0], *(f.clamp(min=1) for f in fewer)) - nats).where(smooth, 0.0)
    atom, tied, few = (v.squeeze(1) for v in (atom, tied, few))
    return MixedBalls(nats, counts[0], atom, tied, few, gain, columns[:, :k])


def _nats(k: Tensor, x: Tensor, y: Tensor) -> Tensor:
    psi_k, psi_x, psi_y = (torch.digamma(count.to(torch.float64)) for count in (k, x, y))
    return psi_k - psi_x - psi_y

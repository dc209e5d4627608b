"""Nearest neighbours in a joint space and the counts of neighbours in its marginals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibtrace.numerics.compiled import kernels
from ibtrace.numerics.distances import Distances, Space, direct, row_blocks

TIE = 1e-11
"""Two distances are tied if they differ by less than this part: rounding stays below it."""

_GROUP = 32
_SAMPLED_ROWS = 64
_ROWS = 512
_OPEN = 16  # a screen that leaves open more than one distance of so many is no help


class Neighbours(NamedTuple):
    """How many neighbours each of n samples has in each of two spaces, ``(n,)`` each.

    Args:
        x: In the first space.
        y: In the second.
        fewer_x: The same if one of the k nearest in the joint space were away.
        fewer_y: Likewise in the second.
        nearest: The k nearest in the joint space, ``(n, k)``.
    """

    x: Tensor
    y: Tensor
    fewer_x: Tensor
    fewer_y: Tensor
    nearest: Tensor


def taken_away(gain: Tensor, nearest: Tensor) -> Tensor:
    """What taking each sample away would add to the terms of those whose neighbour it is, ``(n,)``.

    Args:
        gain: Of each sample's term, if its j-th neighbour were away, ``(n, k)`` or ``(n, 1)``.
        nearest: The neighbours, ``(n, k)``.
    """
    added = torch.zeros(len(nearest), dtype=torch.float64, device=nearest.device)
    return added.scatter_add_(0, nearest.flatten(), gain.expand(nearest.shape).flatten())


def k_smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row of ``values (m, n)`` and their columns, ``(m, k)``, ascending."""
    if not _compiled(values):
        return k_smallest_by_groups(values, k)
    smallest = torch.empty(len(values), k, dtype=torch.float64)
    columns = torch.empty(len(values), k, dtype=torch.int64)
    rows = values.detach().contiguous().numpy()
    kernels("_neighbours").k_smallest(rows, smallest.numpy(), columns.numpy())
    return smallest, columns


def k_smallest_by_groups(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`k_smallest` in torch, on any device and of any type.

    The k smallest lie in the k groups of columns with the smallest minima, which is exact and
    reads the matrix once where a selection over whole rows takes several passes.
    """
    m, n = values.shape
    groups = n // _GROUP
    if groups <= 2 * k:
        smallest = values.topk(k, largest=False)
        return smallest.values, smallest.indices
    strided = values[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))
    nearest_groups = strided.amin(1).topk(k, largest=False).indices
    steps = torch.arange(0, groups * _GROUP, groups, device=values.device)
    columns = (nearest_groups.unsqueeze(1) + steps.view(1, -1, 1)).reshape(m, -1)
    tail = torch.arange(groups * _GROUP, n, device=values.device).expand(m, -1)
    columns = torch.cat([columns, tail], 1)
    smallest = values.gather(1, columns).topk(k, largest=False)
    return smallest.values, columns.gather(1, smallest.indices)


def count_within(distances: Tensor, radius: Tensor, *, closed: bool) -> Tensor:
    """How many of each row of ``distances (m, n)`` lie within its ``radius (m, 1)``, ``(m,)``."""
    if not _compiled(distances):
        inside = distances <= radius if closed else distances < radius
        return inside.view(torch.uint8).sum(1, dtype=torch.int64)
    counts = torch.empty(len(distances), dtype=torch.int64)
    rows, within = distances.contiguous().numpy(), radius.flatten().contiguous().numpy()
    kernels("_neighbours").count_within(rows, within, closed, counts.numpy())
    return counts


def _compiled(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype == torch.float64


def ties(nearest: Tensor) -> Tensor:
    """Which ascending distances ``(m, k)`` hold a zero, or two equal but for rounding, ``(m,)``.

    Infinite distances (to the point itself, to other classes) tie with nothing.
    """
    gaps = nearest[:, 1:] - nearest[:, :-1]
    tied = (gaps <= TIE * nearest[:, 1:]) & nearest[:, 1:].isfinite()
    return (nearest == 0).any(1) | tied.any(1)


def has_tie(nearest: Tensor) -> bool:
    """Whether any of these is tied."""
    return bool(ties(nearest).any())


def tied_share(space: Space, k: int) -> float:
    """The share of points that repeat or, if that is more, whose neighbours tie (a lattice).

    Neighbours are looked for around 64 points, evenly chosen: a rarer tie may go unseen.
    """
    if k not in space.ties:
        n = len(space.points)
        points, own = space.exact.points, torch.arange(0, n, -(-n // _SAMPLED_ROWS))
        distances = direct(points[own], points, space.norm)
        distances[torch.arange(len(own)), own] = torch.inf
        nearest = k_smallest(distances, min(k + 1, n - 1))[0]
        space.ties[k] = max(space.repeated, float(ties(nearest).double().mean()))
    return space.ties[k]


def trees_win(n: int, dimensions: int, *, screened: bool = False) -> bool:
    """Whether KD-trees beat loops over all pairs, in so many dimensions in all.

    Measured on one core: from 3,500 samples on in 2 dimensions, 10,000 in 4, 28,000 in 6; where
    coarse distances decide (`ibtrace.numerics.screens`) 36,000 in 4 and 200,000 in 6, and 700 in 2,
    where what is within a radius is told by the order of each column.
    """
    if screened:
        return n >= (700 if dimensions == 2 else 36_000 * 2 ** (1.25 * (dimensions - 4)))
    return n >= 3500 * 2 ** (0.75 * (dimensions - 2))


def neighbours(
    x: Distances, y: Distances, k: int, *, closed: bool, stop_at_tie: bool
) -> Neighbours | None:
    """`joint_neighbours`, by the way that is the fastest of those that give it.

    Trees where few dimensions and many samples let them (`trees_win`; their norm is the max-norm),
    else loops: compiled on the CPU, over products where these tell Euclidean distances faster.
    """
    (n, dx), dy = x.points.shape, y.points.shape[1]
    trees_apply = x.points.device.type == "cpu" and (x.norm == y.norm == "max" or dx == dy == 1)
    if trees_apply and trees_win(n, dx + dy, screened=True):
        return tree_neighbours(x.points, y.points, k, closed=closed, stop_at_tie=stop_at_tie)
    return joint_neighbours(x, y, k, closed=closed, stop_at_tie=stop_at_tie)


def joint_neighbours(
    x: Distances, y: Distances, k: int, *, closed: bool, stop_at_tie: bool
) -> Neighbours | None:
    """Kraskov's marginal counts: neighbours as near as the k-th in the joint space, x and y.

    The joint distance is the larger of the two marginal ones. Each sample itself is not counted.

    Args:
        x: The first marginal space, n points.
        y: The second marginal space.
        k: Which neighbour in the joint space sets the radius.
        closed: False (variant 1): one radius for both spaces, points strictly inside. True
            (variant 2): in each space its own largest distance to the k neighbours, inclusive.
        stop_at_tie: Return None at the first tied neighbours.
    """
    n, device = len(x.points), x.points.device
    counts = torch.empty(n, 4, dtype=torch.int64, device=device)
    nearest = torch.empty(n, min(k + 1, n - 1), dtype=torch.float64, device=device)
    columns = torch.empty(nearest.shape, dtype=torch.int64, device=device)
    count = _Counting(x, y, k, closed)
    for rows in count.blocks():
        count(rows, nearest[rows], columns[rows], counts[rows])
        if stop_at_tie and has_tie(nearest[rows]):
            return None
    of_x, of_y, fewer_x, fewer_y = counts.clamp_(min=0).unbind(1)  # it may not be inside a tie
    return Neighbours(of_x, of_y, fewer_x, fewer_y, columns[:, :k])


class _Counting:
    """Counts some samples after others, by what tells their distances the fastest.

    Args:
        x: As in `joint_neighbours`, with all that follows.
        y: Likewise.
        k: Likewise.
        closed: Likewise.
    """

    def __init__(self, x: Distances, y: Distances, k: int, closed: bool) -> None:
        self.spaces, self.k, self.closed = (x, y), k, closed
        screens = [space.screen for space in self.spaces if x.norm == y.norm]
        self.screens = [screen for screen in screens if screen is not None]

    def blocks(self) -> Iterator[slice]:
        """Slices of rows."""
        points = self.spaces[0].points
        if points.device.type != "cpu":
            yield from row_blocks(len(points), points.device)
            return
        for at in range(0, len(points), _ROWS):
            yield slice(at, min(at + _ROWS, len(points)))

    def __call__(self, rows: slice, nearest: Tensor, columns: Tensor, counts: Tensor) -> None:
        """Fill the nearest ``(m, k)``, or one more, with their columns, and counts ``(m, 4)``."""
        if nearest.device.type != "cpu":
            dx, dy = (space.rows(rows) for space in self.spaces)
            filled = count_block(dx, dy, self.k, closed=self.closed)
            for place, value in zip((nearest, columns, counts), filled, strict=True):
                place.copy_(value)
            return
        out = [each.numpy() for each in (nearest, columns, counts)]
        if len(self.screens) < len(self.spaces):
            self._exactly(rows, out)
        elif self._screened(rows, out) * _OPEN > len(nearest) * len(self.spaces[0].points):
            self.screens = []  # they decide too little here

    def _exactly(self, rows: slice, out: list[NDArray[Any]]) -> None:
        for part in row_blocks(len(self.spaces[0].points), torch.device("cpu"), rows):
            blocks = (space.rows(part).detach().contiguous().numpy() for space in self.spaces)
            filled = (each[part.start - rows.start : part.stop - rows.start] for each in out)
            kernels("_neighbours").joint_counts(*blocks, self.k, self.closed, *filled)

    def _screened(self, rows: slice, out: list[NDArray[Any]]) -> int:
        """How many distances had to be told all the same."""
        step = min(screen.step for screen in self.screens)
        rooms = [screen.room(step) for screen in self.screens]
        points = [space.points.detach().contiguous().numpy() for space in self.spaces]
        known, told = [screen.known for screen in self.screens], 0
        squared, count = self.spaces[0].norm == "euclidean", kernels("_screened").joint_counts
        for at in range(rows.start, rows.stop, step):
            part = slice(at, min(at + step, rows.stop))
            places = zip(self.spaces, rooms, strict=True)
            blocks = [space.coarse(part, room) for space, room in places]
            filled = (each[part.start - rows.start : part.stop - rows.start] for each in out)
            told += count(*blocks, *points, at, self.k, self.closed, squared, *known, *filled)
        return int(told)


def count_block(dx: Tensor, dy: Tensor, k: int, *, closed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest in the joint space of some samples, which they are, and the marginal counts.

    Args:
        dx: Their distances to all in the first space, ``(m, n)``.
        dy: In the second.
        k: As in `joint_neighbours`.
        closed: Likewise.

    Returns:
        The k + 1 nearest (k if there are no more others) with their columns, and four counts,
        ``(m, 4)``: of x and y, and the same with the next in place of one of the k.
    """
    nearest, columns = k_smallest(torch.maximum(dx, dy), min(k + 1, dx.shape[1] - 1))
    more = nearest.shape[1] - k  # 0 if there is no further one
    counts = []
    for extra in (0, more):
        radius = nearest[:, k - 1 + extra].unsqueeze(1)
        for distances in (dx, dy):
            if closed:
                radius = distances.gather(1, columns[:, : k + extra]).amax(1, keepdim=True)
            counts.append(count_within(distances, radius, closed=closed) - extra)
    return nearest, columns, torch.stack(counts, 1)


def tree_neighbours(
    x: Tensor, y: Tensor, k: int, *, closed: bool, stop_at_tie: bool
) -> Neighbours | None:
    """`joint_neighbours` in the max-norm by KD-trees on the CPU, for few dimensions."""
    from sklearn.neighbors import KDTree  # here, as scikit-learn takes a second to import

    a, b = x.numpy(), y.numpy()
    joint = np.hstack([a, b])
    distances, columns = KDTree(joint, metric="chebyshev").query(joint, min(k + 2, len(joint)))
    of_x, of_y = _Within(a), _Within(b)
    if stop_at_tie and has_tie(torch.from_numpy(distances[:, 1:])):
        return None
    counts = []
    for more in (0, distances.shape[1] - 1 - k):
        radius_x = radius_y = distances[:, k + more]
        if closed:
            inside = columns[:, : k + 1 + more]
            radius_x = np.abs(a[inside] - a[:, None]).max((1, 2))
            radius_y = np.abs(b[inside] - b[:, None]).max((1, 2))
        inside_both = of_x(radius_x, closed), of_y(radius_y, closed)
        counts += [(inside - more).clamp(min=0) for inside in inside_both]
    near = torch.from_numpy(columns[:, 1 : k + 1])
    return Neighbours(counts[0], counts[1], counts[2], counts[3], near)


class _Within:
    """How many others lie within each point's radius in the max-norm: by order, or by a tree.

    Args:
        points: ``(n, d)``.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        from sklearn.neighbors import KDTree

        self.points = points
        alone = points.shape[1] == 1
        self._line = _Line(points[:, 0]) if alone else None
        self._tree = None if alone else KDTree(points, metric="chebyshev")

    def __call__(self, radius: NDArray[np.float64], closed: bool) -> Tensor:
        """The counts ``(n,)``; a radius of 0 holds no other unless it is closed."""
        if self._line is not None:
            return self._line.within(radius, closed) - 1
        assert self._tree is not None
        reach = radius if closed else np.nextafter(radius, -1)
        inside = self._tree.query_radius(self.points, reach.clip(0), count_only=True) - 1
        return torch.from_numpy(np.where(reach < 0, 0, inside))


class _Line:
    """Numbers in ascending order.

    Args:
        values: ``(n,)``.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.order = values.argsort()
        self.ordered = np.ascontiguousarray(values[self.order])

    def within(
        self, radius: NDArray[np.float64], closed: bool, some: NDArray[np.int64] | None = None
    ) -> Tensor:
        """How many lie within each radius, itself included, of all or of some of the numbers."""
        places = np.empty_like(self.order)
        places[self.order] = np.arange(len(places))
        places = places if some is None else places[some]
        counts = torch.empty(len(places), dtype=torch.int64)
        kernels("_neighbours").count_on_a_line(
            self.ordered, places, np.ascontiguousarray(radius), closed, counts.numpy()
        )
        return counts

    def nearest(self, k: int) -> Tensor:
        """The distances to the k nearest others, ascending, ``(n, k)``, in the order given."""
        values = np.empty((len(self.ordered), k))
        kernels("_neighbours").nearest_on_a_line(self.ordered, values)
        given = np.empty_like(values)
        given[self.order] = values
        return torch.from_numpy(given)


def class_neighbours(
    space: Distances, sizes: Tensor, k: int, *, stop_at_tie: bool
) -> Tensor | None:
    """Ross's counts: points of any class strictly nearer than the k-th of the sample's own.

    Args:
        space: The continuous variable, n points, class after class.
        sizes: How many points each class has, at least two, ``(classes,)``.
        k: Which neighbour of its own class sets a sample's radius; the last one in a class of
            no more than k points.
        stop_at_tie: Return None at the first tied neighbours.
    """
    n, device = len(space.points), space.points.device
    if device.type == "cpu" and space.points.shape[1] == 1:
        return _class_neighbours_on_a_line(space.points[:, 0], sizes, k, stop_at_tie=stop_at_tie)
    counts = torch.empty(n, dtype=torch.int64, device=device)
    start = 0
    for size in sizes.tolist():
        own = slice(start, start + size)
        for rows in row_blocks(n, device, own):
            distances = space.rows(rows)
            nearest = k_smallest(distances[:, own], min(k + 1, size - 1))[0]
            if stop_at_tie and has_tie(nearest):
                return None
            radius = nearest[:, min(k, size - 1) - 1].unsqueeze(1)
            counts[rows] = count_within(distances, radius, closed=False).long()
        start += size
    return counts


def _class_neighbours_on_a_line(
    values: Tensor, sizes: Tensor, k: int, *, stop_at_tie: bool
) -> Tensor | None:
    """`class_neighbours` of one column, by its order, in which neighbours follow one another."""
    numbers = values.detach().to(torch.float64).numpy()
    line, radii, start = _Line(numbers), [], 0
    for size in sizes.tolist():
        nearest = _Line(numbers[start : start + size]).nearest(min(k + 1, size - 1))
        if stop_at_tie and has_tie(nearest):
            return None
        radii.append(nearest[:, min(k, size - 1) - 1])
        start += size
    radius = torch.cat(radii)
    return line.within(radius.numpy(), False) - 1

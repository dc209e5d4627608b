"""Sums of Gaussian kernels over all points and over each point's own class, in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ibtrace.numerics.columns import extremes
from ibtrace.numerics.compiled import kernels
from ibtrace.numerics.distances import centred, direct
from ibtrace.numerics.scale import centre

_ONE_HOT_CLASSES = 64
_LOWEST_EXPONENT = -700.0  # exp(-700) is still a normal float64; below, arithmetic slows down
_SMALLEST_FOURTH_ROOT = 1e-76  # its fourth power likewise; the sums it adds to are at least 1
_ROUNDING = 1e-9
_FAR = 1e6  # widths, of which float64 keeps a part of 1e-10
_NEGLIGIBLE = 37.0  # exp(-37) is less than half the step of float64 at 1
_BLOCK, _BLOCK_OF_CUDA = 256, 4096


def gaussian_sums(points: Tensor, variance: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """For each point i, sums over points j of two kernels of their squared distance D.

    Only one exponential per pair is taken: ``exp(-D / 2v) = exp(-D / 8v) ** 4``, in float64,
    where near pairs do not cancel. A point's kernel with itself is exactly 1. Of points so far
    apart that all their kernels together are lost in the rounding of that 1, none is taken.

    Args:
        points: ``(n, d)`` floats.
        variance: The variance v, positive, a scalar tensor.
        groups: Ways to put the points in classes, ids ``0..k-1`` ``(n,)`` each.

    Returns:
        ``(1 + groups, 2, n)`` float64: for all points and for those in i's class under each of
        the groups, the sums of ``exp(-D / 2v)`` and of ``exp(-D / 8v)``.
    """
    scaled = _about_their_middle(points, float((8 * variance.to(torch.float64)).sqrt()))
    return _sums(_Pairs(scaled, groups), 2).flip(0).transpose(0, 1)


def nested_gaussian_sums(
    points: Tensor, variance: float, levels: int, groups: Sequence[Tensor]
) -> Tensor:
    """For each point, sums of a kernel of the squared distances D at variances that part by 4.

    ``exp(-D / 2v)`` at a quarter of the variance is its own fourth power: one exponential per pair
    serves all levels, in float64. From one level to the next its relative error grows by 4; where
    all kernels are 0 or 1 the finer levels are the same. Of far pairs none is taken, as in
    `gaussian_sums`.

    Cost: one exponential, and for each level two products and a matrix product, per pair.

    Args:
        points: ``(n, d)`` floats.
        variance: The largest variance, above 0; at level k it is ``variance / 4 ** k``.
        levels: How many variances.
        groups: Ways to put the points in classes, ids ``0..k-1`` ``(n,)`` each.

    Returns:
        ``(levels, 1 + groups, n)`` float64: the sums over all points, and over those in each
        point's class, at the largest variance first.
    """
    scaled = _about_their_middle(points, (2 * variance) ** 0.5)
    return _sums(_Pairs(scaled, groups, finer=4.0 ** (levels - 1)), levels)


def _about_their_middle(points: Tensor, width: float) -> Tensor:
    """Points in parts of a width, float64: about their mean, or their medians.

    The mean follows a point that is far enough, and in what is left of the others their
    differences would be lost.
    """
    scaled = centred(points) / width
    if float(scaled.abs().amax()) < _FAR:
        return scaled
    wide = points.detach().to(torch.float64)
    return (wide - centre(wide)) / width


def _sums(pairs: _Pairs, levels: int) -> Tensor:
    """Sums of kernels of so many levels, ``(levels, 1 + groups, n)``, in the order given."""
    alone = [len(ids.unique()) == len(ids) for ids in pairs.groups]
    groups = [ids for ids, every in zip(pairs.groups, alone, strict=True) if not every]
    add = _compiled if pairs.points.device.type == "cpu" else _by_products
    found = iter(add(pairs, groups, levels).unbind(1))
    whole = next(found)
    own = [torch.ones_like(whole) if every else next(found) for every in alone]
    return pairs.as_given(torch.stack([whole, *own], 1))


def _compiled(pairs: _Pairs, groups: Sequence[Tensor], levels: int) -> Tensor:
    """Sums ``(levels, 1 + groups, n)`` by compiled loops, which read each pair once."""
    n, size, add_block = len(pairs.points), pairs.size, kernels("_gaussian_pairs").add_block
    sums = np.zeros((levels, 1 + len(groups), n))
    classes = np.stack([ids.numpy() for ids in groups]) if groups else np.zeros((0, n), np.int64)
    parts = [np.ascontiguousarray(classes[:, at : at + size]) for at in range(0, n, size)]
    squares = pairs.squares.numpy()
    for rows, columns in pairs.near():
        add_block(
            pairs.products(rows, columns).numpy(),
            squares[rows],
            squares[columns],
            parts[rows.start // size],
            parts[columns.start // size],
            rows == columns,
            rows.start,
            columns.start,
            -pairs.negligible,
            _SMALLEST_FOURTH_ROOT,
            sums,
        )
    return torch.from_numpy(sums)


def _by_products(pairs: _Pairs, groups: Sequence[Tensor], levels: int) -> Tensor:
    """The same by products of matrices, on any device."""
    membership = _Membership(groups, pairs.points)
    sums = membership.zeros(levels)
    for rows, columns, kernel in pairs:
        for level in range(levels):
            if level:
                kernel.clamp_(min=_SMALLEST_FOURTH_ROOT).square_().square_()
            membership.add(kernel, rows, columns, sums[level])
    return torch.stack([membership.own(of_level) for of_level in sums])


class _Pairs:
    """Blocks of ``exp(-D)`` of the squared distances D among points, each pair of blocks once.

    The points are put in an order in which each block holds near ones. Two blocks whose bounding
    boxes are so far apart that n kernels are less than float64 can add to 1 are left out. The
    exponents are accurate to `_ROUNDING`.

    Args:
        points: ``(n, d)`` float64.
        groups: Ways to put them in classes, ids ``(n,)`` each.
        finer: By how much the distances will yet be multiplied.
    """

    def __init__(self, points: Tensor, groups: Sequence[Tensor] = (), finer: float = 1.0) -> None:
        self.size = _BLOCK if points.device.type == "cpu" else _BLOCK_OF_CUDA
        self.order = compact_order(points, self.size)
        self.points, self.groups = points[self.order], [ids[self.order] for ids in groups]
        squares = self.points.square().sum(1)
        rounding = finer * float(squares.max()) * torch.finfo(torch.float64).eps
        self._expand = rounding < _ROUNDING
        self.squares = squares if self._expand else torch.zeros_like(squares)
        self.negligible = _NEGLIGIBLE + math.log(len(points))

    def near(self) -> Iterator[tuple[slice, slice]]:
        """The blocks of which kernels are to be taken, those on the diagonal included."""
        n = len(self.points)
        blocks = [slice(start, min(start + self.size, n)) for start in range(0, n, self.size)]
        ends = [extremes(self.points[block]) for block in blocks]
        low, high = (torch.stack(each) for each in zip(*ends, strict=True))
        for index, rows in enumerate(blocks):
            gap = torch.maximum(low[index] - high, low - high[index]).clamp_(min=0)
            near = gap.square().sum(1) <= self.negligible
            for at in near[index:].nonzero().flatten().tolist():
                yield rows, blocks[index + at]

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        for rows, columns in self.near():
            exponents = self.products(rows, columns)
            exponents.sub_(self.squares[columns]).sub_(self.squares[rows].unsqueeze(1))
            kernel = exponents.clamp_(_LOWEST_EXPONENT, 0).exp_()
            if rows == columns:
                kernel.fill_diagonal_(1)
            yield rows, columns, kernel

    def products(self, rows: slice, columns: slice) -> Tensor:
        """What is left of the exponents of a block when both `squares` are taken away."""
        a, b = self.points[rows], self.points[columns]
        return (2 * a) @ b.T if self._expand else -direct(a, b, "euclidean")

    def as_given(self, sums: Tensor) -> Tensor:
        """Numbers of the points ``(..., n)``, in the order in which these were given."""
        given = torch.empty_like(sums)
        given[..., self.order] = sums
        return given


def compact_order(points: Tensor, size: int) -> Tensor:
    """An order of points in which each block of a size holds near ones, ``(n,)``.

    They are cut in two along the column that is widest, as long as there is more than one block.

    Args:
        points: ``(n, d)``.
        size: How many points a block holds; the last one may hold fewer.
    """
    parts, done = [torch.arange(len(points), device=points.device)], []
    while parts:
        part = parts.pop()
        blocks = -(-len(part) // size)
        if blocks <= 1:
            done.append(part)
            continue
        low, high = extremes(points[part])
        order = points[part, (high - low).argmax()].argsort()
        cut = blocks // 2 * size
        parts += [part[order[cut:]], part[order[:cut]]]
    return torch.cat(done)


class _Membership:
    """Which class each point is in, under several groupings, as rows of sums to gather.

    A grouping into few classes has a row for each class, all found by one matrix product; one into
    many has a single row, its own class, found by a mask. What all points have is the sum over the
    classes of one, or a row of its own. The sums lie as rows: the product of a few rows with a
    square matrix takes a third to an eighth of the time of that of the matrix with a few columns.

    Args:
        groups: Ids ``0..k-1``, ``(n,)`` each.
        points: The points, ``(n, d)`` float64.
    """

    def __init__(self, groups: Sequence[Tensor], points: Tensor) -> None:
        n = len(points)
        one = points.new_ones(1, n)
        rows: list[Tensor] = []
        self.masked: list[tuple[int, Tensor]] = []
        self.place: list[Tensor] = []
        whole: slice | None = None
        width = 0
        for ids in groups:
            classes = int(ids.max()) + 1
            if classes <= _ONE_HOT_CLASSES:
                self.place.append(width + ids)
                whole = whole or slice(width, width + classes)
                rows.append(torch.nn.functional.one_hot(ids, classes).T.double())
            else:
                self.place.append(torch.full_like(ids, width))
                self.masked.append((width, ids))
                rows.append(torch.zeros_like(one))
            width += len(rows[-1])
        self.whole = whole or slice(width, width + 1)
        self.one_hot = torch.cat(rows if whole else [*rows, one])

    def zeros(self, levels: int) -> Tensor:
        """Sums to add to, ``(levels, width, n)``."""
        return self.one_hot.new_zeros(levels, *self.one_hot.shape)

    def add(self, kernel: Tensor, rows: slice, columns: slice, sums: Tensor) -> None:
        """Add a block of the kernel matrix to the sums of its points, and its mirror image."""
        sums[:, columns] += self._sums(kernel, rows, columns)
        if columns.start != rows.start:
            sums[:, rows] += self._sums(kernel.T, columns, rows)

    def _sums(self, kernel: Tensor, rows: slice, columns: slice) -> Tensor:
        """Sums over the rows of a block of the kernel matrix, ``(width, columns)``."""
        sums = self.one_hot[:, rows] @ kernel
        for place, ids in self.masked:
            same = ids[rows].unsqueeze(1) == ids[columns]
            sums[place] = kernel.masked_fill(~same, 0).sum(0)
        return sums

    def own(self, sums: Tensor) -> Tensor:
        """``sums (width, n)`` of all points and of each point's own classes."""
        own = [sums.gather(0, place.unsqueeze(0)).squeeze(0) for place in self.place]
        return torch.stack([sums[self.whole].sum(0), *own])

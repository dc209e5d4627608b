"""Sums of Gaussian kernels over all points and over each point's own class, in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ibtrace.numerics.distances import centred, direct

_ONE_HOT_CLASSES = 64
_LOWEST_EXPONENT = -700.0  # exp(-700) is still a normal float64; below, arithmetic slows down
_SMALLEST_FOURTH_ROOT = 1e-76  # its fourth power likewise; the sums it adds to are at least 1
_ROUNDING = 1e-9


def gaussian_sums(points: Tensor, variance: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """For each point i, sums over points j of two kernels of their squared distance D.

    Only one exponential per pair is taken: ``exp(-D / 2v) = exp(-D / 8v) ** 4``, in float64,
    where near pairs do not cancel. A point's kernel with itself is exactly 1.

    Args:
        points: ``(n, d)`` floats.
        variance: The variance v, positive, a scalar tensor.
        groups: Ways to put the points in classes, ids ``0..k-1`` ``(n,)`` each.

    Returns:
        ``(1 + groups, 2, n)`` float64: for all points and for those in i's class under each of
        the groups, the sums of ``exp(-D / 2v)`` and of ``exp(-D / 8v)``.
    """
    n, device = len(points), points.device
    scaled = centred(points) / (8 * variance.to(torch.float64)).sqrt()
    membership = _Membership(groups, n, device)
    sums = torch.zeros(2, n, membership.width, dtype=torch.float64, device=device)
    step = 512 if device.type == "cpu" else 4096
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    exponents = _Exponents(scaled)
    for index, rows in enumerate(blocks):
        for columns in blocks[index:]:
            wide = exponents(rows, columns).clamp_(_LOWEST_EXPONENT, 0).exp_()
            if columns is rows:
                wide.fill_diagonal_(1)
            narrow = wide.clamp(min=_SMALLEST_FOURTH_ROOT).square_().square_()
            for kernel, total in ((narrow, sums[0]), (wide, sums[1])):
                total[rows] += membership.sums(kernel, rows, columns)
                if columns is not rows:
                    total[columns] += membership.sums(kernel.T, columns, rows)
    return membership.own(sums)


def nested_gaussian_sums(
    points: Tensor, variance: float, levels: int, groups: Sequence[Tensor]
) -> Tensor:
    """For each point, sums of a kernel of the squared distances D at variances that part by 4.

    ``exp(-D / 2v)`` at a quarter of the variance is its own fourth power: one exponential per pair
    serves all levels, in float64. From one level to the next its relative error grows by 4; where
    all kernels are 0 or 1 the finer levels are the same.

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
    n, device = len(points), points.device
    scaled = centred(points) / (2 * variance) ** 0.5
    membership = _Membership(groups, n, device)
    sums = torch.zeros(levels, n, membership.width, dtype=torch.float64, device=device)
    step = 512 if device.type == "cpu" else 4096
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    exponents = _Exponents(scaled, finer=4.0 ** (levels - 1))
    for index, rows in enumerate(blocks):
        for columns in blocks[index:]:
            kernel = exponents(rows, columns).clamp_(_LOWEST_EXPONENT, 0).exp_()
            if columns is rows:
                kernel.fill_diagonal_(1)
            for level, total in enumerate(sums):
                if level:
                    kernel.clamp_(min=_SMALLEST_FOURTH_ROOT).square_().square_()
                total[rows] += membership.sums(kernel, rows, columns)
                if columns is not rows:
                    total[columns] += membership.sums(kernel.T, columns, rows)
    return torch.stack([membership.own(total[None])[:, 0] for total in sums])


class _Exponents:
    """Blocks of minus the squared distances among points, accurate to `_ROUNDING`.

    Args:
        points: ``(n, d)`` float64.
        finer: By how much the distances will yet be multiplied.
    """

    def __init__(self, points: Tensor, finer: float = 1.0) -> None:
        self.points = points
        self.squares = points.square().sum(1)
        rounding = finer * float(self.squares.max()) * torch.finfo(torch.float64).eps
        self.expand = rounding < _ROUNDING

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        a, b = self.points[rows], self.points[columns]
        if not self.expand:
            return -direct(a, b, "euclidean")
        exponent = torch.addmm(self.squares[columns], a, b.T, beta=-1, alpha=2)
        return exponent.sub_(self.squares[rows].unsqueeze(1))


class _Membership:
    """Which class each point is in, under several groupings, as columns of sums to gather.

    Column 0 sums over all points. A grouping into few classes has a column for each class, all
    found by one matrix product; one into many has a single column, its own class, found by a
    mask; one into single points needs none, its sums being the point's kernel with itself.
    """

    def __init__(self, groups: Sequence[Tensor], n: int, device: torch.device) -> None:
        columns = [torch.ones(n, 1, dtype=torch.float64, device=device)]
        self.masked: list[tuple[int, Tensor]] = []
        self.place: list[Tensor | None] = []
        self.width = 1
        for ids in groups:
            classes = int(ids.max()) + 1
            if classes == n:
                self.place.append(None)
                continue
            if classes <= _ONE_HOT_CLASSES:
                self.place.append(self.width + ids)
                columns.append(torch.nn.functional.one_hot(ids, classes).double())
            else:
                self.place.append(torch.full_like(ids, self.width))
                self.masked.append((self.width, ids))
                columns.append(torch.zeros_like(columns[0]))
            self.width += columns[-1].shape[1]
        self.one_hot = torch.cat(columns, 1)

    def sums(self, kernel: Tensor, rows: slice, columns: slice) -> Tensor:
        """Sums of a block of the kernel matrix, ``(rows, width)``."""
        sums = kernel @ self.one_hot[columns]
        for place, ids in self.masked:
            same = ids[rows].unsqueeze(1) == ids[columns]
            sums[:, place] = kernel.masked_fill(~same, 0).sum(1)
        return sums

    def own(self, sums: Tensor) -> Tensor:
        """``sums (kernels, n, width)`` of all points and of each point's own classes."""
        totals = [sums[..., 0]]
        for place in self.place:
            if place is None:
                totals.append(torch.ones_like(totals[0]))
            else:
                column = place.expand(len(sums), -1).unsqueeze(-1)
                totals.append(sums.gather(-1, column).squeeze(-1))
        return torch.stack(totals)

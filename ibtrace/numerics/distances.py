"""Pairwise distances in float64, row block by row block, exact where points nearly coincide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ibtrace.numerics import bins
from ibtrace.numerics.compiled import kernels
from ibtrace.numerics.scale import Norm as Norm
from ibtrace.numerics.scale import centre, spread
from ibtrace.numerics.screens import Coarse, Screen

KEEP_BYTES = 2**30
"""Largest matrix that `Distances` keeps: 1 GiB, which is 11,585 points, more if coarse."""

_NEAR = 1e-4
_DIRECT_DIMENSIONS = 12  # up to here a loop is no slower than a product (one core)
_EXPANDED_BELOW = 1e30  # where the mean still fits in float32


def centred(x: Tensor) -> Tensor:
    """``x (n, d)`` in float64 about its mean, which the expanded square needs for its accuracy.

    The mean is rounded to float32, so that float32 data, and the ties in them, survive exactly.
    """
    points = x.detach().to(torch.float64)
    return points - points.mean(0).to(torch.float32).to(torch.float64)


def direct(a: Tensor, b: Tensor, norm: Norm) -> Tensor:
    """Distances of ``a (m, d)`` to ``b (n, d)`` from the differences themselves, ``(m, n)``.

    Euclidean distances come squared, as everywhere in this module: ranks are all that is asked.
    """
    if a.device.type == "cpu":
        return _looped(a, b.detach().mT.contiguous(), norm)
    if norm == "max":
        return torch.cdist(a, b, p=float("inf"))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def _looped(a: Tensor, columns: Tensor, norm: Norm) -> Tensor:
    """`direct` by a compiled loop, b given column after column, ``(d, n)``."""
    block = torch.empty(len(a), columns.shape[1], dtype=torch.float64)
    loops = kernels("_neighbours")
    loop = loops.chebyshev if norm == "max" else loops.square_euclidean
    loop(a.detach().contiguous().numpy(), columns.numpy(), block.numpy())
    return block


def row_blocks(n: int, device: torch.device, within: slice | None = None) -> Iterator[slice]:
    """Slices of rows for which an ``(rows, n)`` float64 block stays in the cache of the device."""
    first, last = (0, n) if within is None else (within.start, within.stop)
    step = max(1, (2**18 if device.type == "cpu" else 2**25) // n)
    for start in range(first, last, step):
        yield slice(start, min(start + step, last))


@dataclass(frozen=True)
class Distances:
    """The distances among n points; each point is infinitely far from itself.

    Args:
        points: The points, ``(n, d)`` float64.
        norm: ``"euclidean"`` (squared distances) or ``"max"``.
        keep: Whether to compute the matrix once and keep it, where it fits in `KEEP_BYTES`.
    """

    points: Tensor
    norm: Norm
    keep: bool = False

    def rows(self, rows: slice) -> Tensor:
        """Distances of some points to all, ``(rows, n)``; not to be written to."""
        n = len(self.points)
        if self.keep and 8 * n * n <= KEEP_BYTES:
            return self._matrix[rows]
        return self.compute(rows)

    @cached_property
    def _matrix(self) -> Tensor:
        n, device = len(self.points), self.points.device
        matrix = torch.empty(n, n, dtype=torch.float64, device=device)
        for rows in row_blocks(n, device):
            matrix[rows] = self.compute(rows)
        return matrix

    def compute(self, rows: slice) -> Tensor:
        """The same, without keeping the whole matrix."""
        if self.direct:
            return self._direct(rows)
        return self._expanded(rows)

    @cached_property
    def screen(self) -> Screen | None:
        """What tells these distances coarsely on the CPU, if anything does."""
        if self.points.device.type != "cpu":
            return None
        return Screen.of(self.points.detach().contiguous().numpy(), self.norm)

    def coarse(self, rows: slice, room: Coarse) -> Coarse:
        """Coarse distances of some points to all; in ``room`` unless they are kept."""
        assert self.screen is not None
        if self.keep and self.screen.bytes <= KEEP_BYTES:
            return self._coarse_matrix[rows]
        block = room[: rows.stop - rows.start]
        self.screen.fill(rows.start, block)
        return block

    @cached_property
    def _coarse_matrix(self) -> Coarse:
        assert self.screen is not None
        matrix = self.screen.room(len(self.points))
        for start in range(0, len(matrix), self.screen.step):
            self.screen.fill(start, matrix[start : start + self.screen.step])
        return matrix

    def _direct(self, rows: slice) -> Tensor:
        """From the differences themselves; on the CPU by a compiled loop."""
        own = self.points[rows]
        if own.device.type == "cpu":
            block = _looped(own, self.columns, self.norm)
        else:
            block = direct(own, self.points, self.norm)
        block.diagonal(rows.start).fill_(torch.inf)
        return block

    @property
    def direct(self) -> bool:
        """Whether distances are computed from the differences themselves, not by a product."""
        few = self.points.shape[1] <= _DIRECT_DIMENSIONS
        return self.norm == "max" or few or self._huge

    @cached_property
    def columns(self) -> Tensor:
        """The points, column after column."""
        return self.points.detach().mT.contiguous()

    @cached_property
    def _huge(self) -> bool:
        """Whether the expanded square would subtract infinities."""
        return float(self.points.abs().amax()) > _EXPANDED_BELOW

    @cached_property
    def _lifted(self) -> tuple[Tensor, Tensor]:
        points = centred(self.points)
        squares = points.square().sum(1, keepdim=True)
        ones = torch.ones_like(squares)
        return torch.cat([-2 * points, squares, ones], 1), torch.cat([points, ones, squares], 1)

    def _expanded(self, rows: slice) -> Tensor:
        """|a|^2 - 2ab + |b|^2 in one product; pairs that it would leave inexact, directly."""
        left, right = self._lifted
        block = left[rows] @ right.T
        block.diagonal(rows.start).fill_(torch.inf)
        radius = _NEAR * float(right[:, -1].max())
        if float(block.amin()) >= radius:
            return block
        near = (block < radius).nonzero()
        if 16 * len(near) > block.numel():
            return self._direct(rows)
        i, j = near.unbind(1)
        difference = self.points[rows][i] - self.points[j]
        block[i, j] = difference.square().sum(1)
        return block


@dataclass(frozen=True)
class Space:
    """A continuous variable's points, as they are and with a jitter that breaks their ties.

    Args:
        points: The points, ``(n, d)`` floats.
        norm: The norm of the space.
        amplitude: Of the jitter, relative to the variable's spread (see `ibtrace.numerics.scale`).
        seed: Seeds the jitter.
        keep: Whether to keep the distances that are asked for, for the next call.
    """

    points: Tensor
    norm: Norm
    amplitude: float
    seed: int
    keep: bool = False
    ties: dict[int, float] = field(default_factory=dict, repr=False, compare=False)
    """The share of tied points, by the number of neighbours; filled by `knn.tied_share`."""

    @cached_property
    def repeated(self) -> float:
        """The share of points that occur more than once."""
        ids = row_ids(self.points)
        return float((torch.bincount(ids)[ids] > 1).double().mean())

    @cached_property
    def exact(self) -> Distances:
        """Distances among the points as they are."""
        return Distances(self.points.detach().to(torch.float64), self.norm, self.keep)

    @cached_property
    def jittered(self) -> Distances:
        """Distances among the jittered points."""
        return Distances(jittered(self.points, self.amplitude, self.seed), self.norm, self.keep)


def is_constant(x: Tensor) -> bool:
    """Whether all rows of ``x (n, d)``, or all ids of ``x (n,)``, are the same."""
    return bool((x == x[:1]).all())


def row_ids(x: Tensor) -> Tensor:
    """Ids ``0..k-1`` of the distinct rows of ``x (n, d)`` or values of ``x (n,)``, ``(n,)``."""
    rows = x.detach()
    return bins.row_ids(rows) if rows.dim() > 1 else bins.dense_ids(rows)


def jittered(x: Tensor, amplitude: float, seed: int) -> Tensor:
    """``x (n, d)`` about its medians, in float64, with uniform noise that breaks ties.

    The noise is ``amplitude`` times the variable's spread wide, so that no outlier drowns the
    others in it. It comes from a CPU generator, so that it is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
    points = x.detach().to(torch.float64)
    points = points - centre(points)  # far from 0 the noise would be lost in rounding
    return points + amplitude * spread(points) * noise

"""Mutual information of a randomly hashed graph, over an ensemble of bandwidths (EDGE)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._checks import checked, undersampled
from ibtrace.estimators._fields import unscaled
from ibtrace.estimators._inputs import check_pair, is_ids
from ibtrace.numerics.bins import dense_ids, joint_ids, parted_columns, row_ids
from ibtrace.numerics.entropy import (
    constant,
    local_information,
    null_information,
    removed,
    removed_information,
    sample_counts,
)
from ibtrace.numerics.scale import Scale, Scaled, centre, check_scale, scale_flags, scaled, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags, label

_NARROWEST, _WIDEST = 0.7, 2.8
_FLOOR_DIMENSIONS = 6
_SAMPLES_PER_BIT = 10
_GROWTH = 0.2  # bits; smooth laws within .1 bit of the truth reach it, none farther off is below
_NORMAL = 0.6745  # the median distance of a standard normal from 0


@checked
@dataclass(frozen=True)
class EDGE:
    """I(X;Y) of a dependency graph: the ensemble estimator of Noshad, Zeng & Hero (2019).

    Both variables are hashed to cells ⌊x / ε + b⌋ with a random offset b. The cells are the
    nodes of a bipartite graph whose edge (i, j) weighs how often they meet; in bits

        I_ε = Σ_ij N_ij/N log₂ (N_ij N / (N_i N_j)),        I = Σ_t w_t I_ε(t).

    Each column is first replaced by its normal scores (``scale``; the paper takes the columns as
    they are): no monotone map of it changes its information, and cells as wide as outliers need
    hold everything else. The bandwidths are ε(t) = t s N^(-1/(2d)), with s each column's
    standard deviation, d the dimensions of X and Y together (ids count 0), and t spaced
    geometrically from 0.7 √d to 2.8 √d.
    The weights are the ones of least norm with Σ w_t = 1 that cancel the two leading biases:
    Σ w_t t² = 0 (the loss to cells of finite width) and Σ w_t t^(-d) = 0 (few samples in
    many cells). The paper cancels t, …, t^d and leaves the latter, which at N = 5000 is still
    0.3 bit in two dimensions.

    Where a column of a variable falls into groups, with nothing between them over more than the
    width of the √N samples on either side, no cell reaches across (clusters, saturated units,
    repeated values). A cell across a gap mixes what may be opposites: its loss is of order t,
    which no weight cancels, and normal scores hide the gap. The groups of all columns together
    count if they are at most √N, so that their table stays filled.

    The paper bounds the likelihood ratio in the logarithm by U, and its code clips every term
    to [0.001, U], U = 10 bits, without a word. Here nothing is bounded unless ``cap`` is given,
    and then the flag ``capped`` says where it was reached. Cells are compared exactly, not by a
    hash of finite size. A column of offsets is the same for x and y, so that the two may be
    swapped. A variable with more than 6 columns is first projected to ⌊log₂(N / 10)⌋ of them
    or fewer by random normal directions (flag ``projected``), as in the authors' code: its
    information can only become less.

    Args:
        members: Number of bandwidths, at least 4.
        cap: The most that the log-likelihood ratio log₂ (N_ij N / N_i N_j) may be, in bits.
        scale: ``"rank"``: by normal scores. ``"column"``, ``"variable"``: s is 1.48 times the
            median distance of each column from its median (zeros aside), or the median of
            these over a variable's columns; heavy tails then fill cells of one sample each.
            ``"none"``: s is 1.

    Flags: those above; ``unresolved`` (the diagnostic ``growth`` is above 0.2 bit: by so much more
    than of samples paired at random do the middle cells show than those twice as wide, as they do
    while cells are wider than the dependence); ``undersampled`` (the diagnostic ``null_bits`` is
    above 0.1 bit: what the ensemble gives of samples that are paired at random, its mean over all
    pairings);
    ``near_ceiling`` (within 5 % of log₂ N: nearly every sample has a cell for itself);
    ``scales_apart``, ``heavy_tails`` and ``extreme_values`` (see `KSG`); ``constant`` (a variable
    that never varies: 0 bits). The standard error is that of the draw of the samples, the
    offsets held fixed: of the mean of the variances of the log-ratios and of the jackknife's
    pseudo-values (see `KSG`), less what the sizes of a sample's cells tell of them where a column's
    ranks, the same in every draw, settle these sizes.

    References:
        Noshad, Zeng & Hero 2019, Scalable mutual information estimation using dependence graphs,
        ICASSP, arXiv:1801.09125.

    Example:
        Two normals with correlation 0.9: 1.198 bits.

        >>> import torch
        >>> noise = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.19 ** 0.5 * noise[:, 1:]
        >>> abs(float(EDGE()(x, y).bits) - 1.198) < 0.1
        True
    """

    members: int = 16
    cap: float | None = None
    scale: Scale = "rank"

    def __post_init__(self) -> None:
        require_types(self)
        whole = isinstance(self.members, int) and not isinstance(self.members, bool)
        if not (whole and self.members >= 4):
            raise ConfigError(f"EDGE: members must be a whole number >= 4, got {self.members!r}")
        if self.cap is not None and not (math.isfinite(self.cap) and self.cap > 0):
            raise ConfigError(f"EDGE: cap must be above 0 bits or None, got {self.cap!r}")
        check_scale("EDGE", self.scale)

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        capped = "" if self.cap is None else f"; down where a log-ratio passes {self.cap:g} bits"
        return Tags(
            estimand="I(X;Y)",
            reference="Noshad, Zeng & Hero 2019, ICASSP, arXiv:1801.09125",
            question="density",
            scale_dependence=unscaled(self.scale),
            cost=f"{self.members} ensemble members times (N d + N log N) time, N d memory",
            bias="up by 0.1 bit at N = 400 near independence in 1 + 1 dimensions, in 2 + 2 by 0.5 "
            "at N = 500 and 0.2 at 5000 (flagged); down above 2 bits in two dimensions "
            "(2.8: by 0.6 at N = 500, 0.2 at 5000); far off in many, saturating at log2 N" + capped,
        )

    @property
    def estimand(self) -> str:
        """The layer itself, at its scale; the cells are a means."""
        capped = "" if self.cap is None else f", log-ratios capped at {self.cap:g} bits"
        return f"T as a continuous variable, {words(self.scale)}{capped}"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids; leading dimensions broadcast.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Seeds the offsets and the projections; all problems of a batch share them.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are fewer than 2 samples.
        """
        n = check_pair(label(self), x, y)
        pair = [scaled(value, self.scale) for value in (x, y)]
        hashed = [
            _Hashed(value, at_scale, n, seed, self.members, self.scale)
            for value, at_scale in zip((x, y), pair, strict=True)
        ]
        d = sum(side.width for side in hashed)
        ts, weights = ensemble(self.members, d)
        zero = torch.zeros((), dtype=torch.float64, device=x.device)
        local, pseudo, sizes, capped = zero, zero, [zero, zero], None
        means, nulls, null = [], [], zero
        for member, (t, weight) in enumerate(zip(ts, weights, strict=True)):
            width = t * n ** (-1 / (2 * max(d, 1)))
            cells = [side.cells(width, member) for side in hashed]
            first, second, both = (
                sample_counts(ids) for ids in (cells[0], cells[1], joint_ids(cells[0], cells[1]))
            )
            ratio = local_information(first, second, both)
            nulls.append(null_information(first, second))
            null = null + weight * nulls[-1]
            if self.cap is not None:
                over = (ratio > self.cap).any(-1)
                capped = over if capped is None else capped | over
                ratio = ratio.clamp(max=self.cap)
            local = local + weight * ratio
            pseudo = pseudo + weight * removed_information(first, second, both)
            pairs = zip(sizes, (first, second), strict=True)
            sizes = [size + weight * removed(counts) for size, counts in pairs]
            means.append(ratio.mean(-1))
        middle = len(means) // 2
        growth = means[middle] - means[-1] - (nulls[middle] - nulls[-1])
        diagnostics = {"growth": growth, "null_bits": null}
        estimate = Estimate.from_local(local, diagnostics=diagnostics)
        if d:
            settled = [
                size * side.distinct for size, side in zip(sizes, hashed, strict=True) if side.width
            ]
            known = settled if self.scale == "rank" else []
            errors = [Estimate.from_local(beyond(each, known)).stderr for each in (local, pseudo)]
            stderr = ((errors[0].square() + errors[1].square()) / 2).sqrt()
            estimate = dataclasses.replace(estimate, stderr=stderr)
        return estimate.flagged(
            constant=hashed[0].constant | hashed[1].constant,
            unresolved=growth > _GROWTH,
            near_ceiling=estimate.bits >= 0.95 * math.log2(n),
            capped=torch.zeros_like(estimate.bits) if capped is None else capped,
            projected=torch.full_like(estimate.bits, any(side.projected for side in hashed)),
            undersampled=undersampled(null),
            **scale_flags(*pair),
        )


class _Hashed:
    """A variable ready to be hashed at any bandwidth."""

    def __init__(
        self, raw: Tensor, scaled: Scaled, n: int, seed: int, members: int, scale: Scale
    ) -> None:
        value = scaled.points
        self.ids = dense_ids(value) if is_ids(value) else None
        self.projected, self.width = False, 0
        if self.ids is not None:
            self.constant = constant(sample_counts(self.ids))
            return
        self.groups = _groups(raw)
        alone = sample_counts(row_ids(raw.detach())) == 1
        self.distinct = alone.all(-1, keepdim=True).to(torch.float64)
        columns = _sized(value, scale)
        self.constant = (columns == columns[..., :1, :]).all(-1).all(-1)
        self.width = columns.shape[-1]
        if self.width > _FLOOR_DIMENSIONS:
            self.projected = True
            self.width = min(self.width, max(1, int(math.log2(max(n / _SAMPLES_PER_BIT, 2)))))
            shape = columns.shape[-1], self.width
            generator = torch.Generator().manual_seed(seed)
            directions = torch.randn(shape, generator=generator, dtype=torch.float64)
            columns = columns @ directions.to(value.device)
            columns = _sized(columns - centre(columns), "rank" if scale == "rank" else "column")
        self.columns = columns
        # Drawn from the seed and the width alone: x and y may be swapped.
        generator = torch.Generator().manual_seed(seed)
        offsets = torch.rand(members, self.width, generator=generator, dtype=torch.float64)
        self.offsets = offsets.to(value.device)

    def cells(self, width: float, member: int) -> Tensor:
        """Ids of the cells of a given width, offset as the member's are, ``(..., n)``."""
        if self.ids is not None:
            return self.ids
        cells = row_ids((self.columns / width + self.offsets[member]).floor_())
        return cells if self.groups is None else joint_ids(cells, self.groups)


def _groups(points: Tensor) -> Tensor | None:
    """Ids ``(..., n)`` of the groups that samples fall into; None where there are none.

    All 0 in a problem of one group, or of more than √n.
    """
    root = math.sqrt(points.shape[-2])
    parts = parted_columns(points.detach().to(torch.float64), least=max(2, math.ceil(root)))
    if not bool(parts.any()):
        return None
    ids = row_ids(parts.double())
    few = ids.amax(-1, keepdim=True) < root
    return torch.where(few, ids, 0)


def _sized(points: Tensor, scale: Scale) -> Tensor:
    """Columns about 0 of a typical size of 1, as a standard deviation is to normal ones."""
    if scale == "none":
        return points
    if scale == "rank":  # scores have no outliers
        points = points - points.mean(-2, keepdim=True)
        typical = points.square().mean(-2, keepdim=True).sqrt()
        return points / torch.where(typical > 0, typical, 1)
    size = points.abs()
    typical = size.masked_fill(size == 0, torch.nan).nanmedian(-2, keepdim=True).values
    if scale == "variable":
        typical = typical.nanmedian(-1, keepdim=True).values
    return _NORMAL * points / typical.nan_to_num(nan=1.0)


def beyond(values: Tensor, known: Sequence[Tensor]) -> Tensor:
    """What of values ``(..., n)`` is about 0 and no linear function of the known ones."""
    bases: list[Tensor] = []
    for each in [*known, values]:
        rest = each - each.mean(-1, keepdim=True)
        for base in bases:
            square = base.square().sum(-1, keepdim=True)
            along = (rest * base).sum(-1, keepdim=True)
            rest = rest - torch.where(square > 0, along / square, 0) * base
        bases.append(rest)
    return bases[-1]


@lru_cache(maxsize=256)
def ensemble(members: int, d: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The t and the weights of `EDGE` in d dimensions; one member of weight 1 if d is 0.

    Example:
        >>> ts, weights = ensemble(16, 2)
        >>> round(sum(weights), 9), abs(sum(w * t * t for t, w in zip(ts, weights))) < 1e-9
        (1.0, True)
    """
    if d == 0:
        return (1.0,), (1.0,)
    ts = np.geomspace(_NARROWEST, _WIDEST, members) * math.sqrt(d)
    # Scaled so that rows of very unequal size are solved alike.
    rows = np.stack([np.ones(members), (ts / ts[-1]) ** 2, (ts / ts[0]) ** -float(d)])
    weights = np.linalg.lstsq(rows, np.array([1.0, 0.0, 0.0]), rcond=None)[0]
    return tuple(float(t) for t in ts), tuple(float(weight) for weight in weights)

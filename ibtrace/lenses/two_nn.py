"""TwoNN: the intrinsic dimension of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._rows import some_rows
from ibtrace.numerics.intrinsic_dimension import two_nearest
from ibtrace.runtime.arguments import whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

DIMENSION = Quantity("intrinsic dimension", "1")

_MANY = 0.1


@dataclass(frozen=True)
class TwoNN:
    r"""The intrinsic dimension of each layer's cloud, from each point's two nearest neighbours.

    .. math:: \hat d = N \Big/ \sum_i \ln (r_{2,i} / r_{1,i})

    by maximum likelihood, r₁ < r₂ the distances to the two nearest. Its standard error is d/√N,
    as if the ratios were independent, which neighbours' are not quite.

    A sample whose row another repeats (r₁ = 0) is dropped; the share of these is the diagnostic
    ``duplicates``, and above a tenth a flag of that name: what is left of a ReLU layer that sends
    many samples to one point reads about 1 whatever its shape. Where every second neighbour is as
    near as the first (a lattice, such as bit patterns) the dimension is infinite, flagged
    ``infinite``; where every row is repeated, or there are fewer than three, it is undefined: NaN,
    flagged ``too_few``.

    Args:
        samples: More samples than this are thinned by the seed; how many are read is a diagnostic.
            With more points the neighbours are nearer: compare looks of the same number alone.

    Raises:
        ConfigError: If ``samples`` is no whole number above 2.

    Example:
        >>> TwoNN().tags.quantities
        (Quantity(name='intrinsic dimension', unit='1', per='layer'),)
    """

    samples: int = 1000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(DIMENSION,),
        reference="Facco et al. 2017, Estimating the intrinsic dimension of datasets by a minimal "
        "neighborhood information, Scientific Reports 7",
        needs=frozenset({"activations"}),
        cost="O(N² d) of each layer and network",
        caveats="of the finest scale that N points see, where rounding and noise live; biased low "
        "above about 10 dimensions; erratic from look to look",
        looks=25,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", whole("TwoNN: samples", self.samples, least=3))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The dimension of every layer; see `ibtrace.types.Lens`."""
        return {
            DIMENSION.name: {
                layer: Reading.stack([_of_one(rows) for rows in some_rows(t, self.samples, seed)])
                for layer, t in view.activations.items()
            }
        }


def _of_one(rows: Tensor) -> Reading:
    fit = two_nearest(rows)
    dimension = torch.tensor(fit.dimension, dtype=torch.float64)
    few = len(rows) < 3  # which have no two neighbours, repeated or not
    duplicates = float("nan") if few else 1 - fit.points / len(rows)
    return Reading(
        dimension,
        "1",
        stderr=torch.tensor(fit.stderr, dtype=torch.float64),
        flags={
            "too_few": dimension.isnan(),
            "infinite": dimension.isinf(),
            "duplicates": torch.tensor(duplicates > _MANY),
        },
        diagnostics={"samples": torch.tensor(len(rows)), "duplicates": torch.tensor(duplicates)},
    )

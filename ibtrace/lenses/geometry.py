"""Geometry: how many directions a layer fills, and how far it has turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._rows import some_rows
from ibtrace.numerics.representations import (
    effective_rank,
    linear_cka,
    participation_ratio,
    spectrum,
)
from ibtrace.runtime.arguments import whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

DIMENSIONS = Quantity("participation ratio", "1")
RANK = Quantity("effective rank", "1")
TO_INITIAL = Quantity("CKA to the initial look", "1")
TO_PREVIOUS = Quantity("CKA to the previous look", "1")


@dataclass(frozen=True)
class Geometry:
    r"""The dimension of each layer's cloud of activations, and its likeness to earlier looks.

    With λ the eigenvalues of the covariance of T over the samples and p = λ / Σλ:

    - participation ratio :math:`(\sum λ)^2 / \sum λ^2` and effective rank
      :math:`\exp(-\sum p \ln p)`: between 1 and the number of units, and the latter never the
      smaller. Roy & Vetterli define the rank on singular values; here p are shares of variance,
      as in the participation ratio;
    - linear CKA of T with T at the first look, and with T at the look before, of the same
      samples: :math:`\|X^\top Y\|_F^2 / (\|X^\top X\|_F \|Y^\top Y\|_F)`, columns centred. 1 for
      what differs by a rotation and a scale. At the first look there is none before.

    A layer that gives one value for all samples has no directions: NaN, flagged ``constant``.

    Args:
        samples: More samples than this are thinned by the seed; how many are read is a diagnostic.

    Raises:
        ConfigError: If ``samples`` is no whole number above 1.

    Example:
        >>> [quantity.name for quantity in Geometry().tags.quantities][:2]
        ['participation ratio', 'effective rank']
    """

    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(DIMENSIONS, RANK, TO_INITIAL, TO_PREVIOUS),
        reference="Roy & Vetterli 2007, The effective rank; Kornblith et al. 2019, Similarity of "
        "Neural Network Representations Revisited",
        needs=frozenset({"activations", "initial", "previous"}),
        cost="O(N d²) of each layer, or O(N² d) where d > N",
        caveats="one unit of large variance hides the others; both dimensions are linear: a bent "
        "line fills many; CKA follows the directions of largest variance alone",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", whole("Geometry: samples", self.samples, least=2))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        read: dict[str, dict[str, Reading]] = {q.name: {} for q in self.tags.quantities}
        past = {TO_INITIAL: view.initial.activations}
        if (previous := view.previous) is not None:
            past[TO_PREVIOUS] = previous.activations
        for layer, t in view.activations.items():
            rows = some_rows(t, self.samples, seed)
            values = spectrum(rows)
            read[DIMENSIONS.name][layer] = _reading(participation_ratio(values), rows)
            read[RANK.name][layer] = _reading(effective_rank(values), rows)
            for quantity, activations in past.items():
                before = some_rows(activations[layer], self.samples, seed)
                read[quantity.name][layer] = _reading(linear_cka(rows, before), rows)
        return read


def _reading(value: Tensor, rows: Tensor) -> Reading:
    return Reading(
        value,
        "1",
        flags={"constant": value.isnan()},
        diagnostics={"samples": torch.tensor(rows.shape[1])},
    )

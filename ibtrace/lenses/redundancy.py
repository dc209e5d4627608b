"""Redundancy: how often the units of a layer say the same of the label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._rows import classes_of, layers_of_samples
from ibtrace.numerics.bins import bins_within, dense_ids
from ibtrace.numerics.entropy import entropy, null_information, sample_counts
from ibtrace.numerics.shannon import invariants
from ibtrace.runtime.arguments import whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

REDUNDANCY = Quantity("degree of redundancy", "1")
VULNERABILITY = Quantity("degree of vulnerability", "1")

_BITS = 0.1  # that random labels may seem to carry


@dataclass(frozen=True)
class Redundancy:
    r"""The two Shannon invariants of the units T₁ … T_d of each layer about the label Y.

    .. math:: \bar r = \sum_i I(T_i;Y) / I(T;Y), \quad
              \bar v = \sum_i I(T_i;Y \mid T_{-i}) / I(T;Y)

    the average degree of redundancy (in how many units alone a piece of the information is found:
    d if each tells all, near 0 if it is in their combinations alone) and of vulnerability (how
    many units' loss destroys a piece: 0 if every unit can be spared, d for a parity). They average
    over every partial information decomposition without choosing one. Every unit is cut into
    ``bins`` equal bins on its own range at this look; all informations are plug-in.

    Flags: ``undersampled`` where random labels would seem to carry more than 0.1 bit about the
    binned T, unless the probe is all of X; ``near_ceiling`` where the binned T tells nearly every
    sample (H(T) above 95 % of log₂ n): I(T;Y) is then H(Y) whatever the network has learnt, and
    the vulnerability 0; ``no_information`` where I(T;Y) is 0, and the values NaN. Diagnostics:
    ``joint_bits``, I(T;Y); ``null_bits``, what random labels would give.

    Args:
        bins: Bins of each unit, at least 2. More make T finer, and nearly every sample unique.

    Raises:
        ConfigError: If ``bins`` is no whole number above 1.
        Unsupported: When called, if the labels are no classes.

    Example:
        >>> Redundancy(bins=2)
        Redundancy(bins=2)
    """

    bins: int = 4

    tags: ClassVar[LensTags] = LensTags(
        quantities=(REDUNDANCY, VULNERABILITY),
        reference="Gutknecht et al. 2025, Shannon invariants: a scalable approach to information "
        "decomposition",
        needs=frozenset({"activations"}),
        cost="O(d N log N) of each layer of d units",
        caveats="of the binned T, and it changes with the bins; in a wide layer the binned T tells "
        "nearly every sample, and the numbers say nothing of the label",
        looks=20,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "bins", whole("Redundancy: bins", self.bins, least=2))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both degrees of every layer; see `ibtrace.types.Lens`."""
        labels = classes_of(view, "Redundancy")
        redundancy, vulnerability = {}, {}
        for layer, t in layers_of_samples(view).items():
            read = _Layer.of(t, labels.to(t.device), self.bins, known=probe.population)
            redundancy[layer] = read.over(read.single)
            vulnerability[layer] = read.over(read.without)
        return {REDUNDANCY.name: redundancy, VULNERABILITY.name: vulnerability}


@dataclass(frozen=True)
class _Layer:
    """The informations of one layer, ``(s,)`` each, and what is said of them."""

    whole: Tensor
    single: Tensor
    without: Tensor
    flags: Mapping[str, Tensor]
    diagnostics: Mapping[str, Tensor]

    @classmethod
    def of(cls, t: Tensor, labels: Tensor, bins: int, *, known: bool) -> _Layer:
        low, high = t.amin(1, keepdim=True), t.amax(1, keepdim=True)
        parts = [dense_ids(unit) for unit in bins_within(t, low, high, bins).unbind(-1)]
        information = invariants(parts, labels)
        null = null_information(information.counts, sample_counts(labels))
        flags = {
            "no_information": information.whole <= 0,
            "near_ceiling": entropy(information.counts) >= 0.95 * math.log2(t.shape[1]),
            "undersampled": (null > _BITS) & (not known),
        }
        return cls(*information[:3], flags, {"joint_bits": information.whole, "null_bits": null})

    def over(self, bits: Tensor) -> Reading:
        """A sum of informations in units of the whole."""
        value = torch.where(self.whole > 0, bits / self.whole, torch.nan)
        return Reading(value, "1", flags=self.flags, diagnostics=self.diagnostics)

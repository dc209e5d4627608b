"""Stability: how much one training sample decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._classes import decisions_or_none
from ibtrace.numerics.flat import flattened
from ibtrace.types import LOSS, LensTags, ProbeLike, Quantity, Reading, View

DISTANCE = Quantity("twin distance", "1", per="network")
SHARE = Quantity("twin distance over travel", "1", per="network")
LARGEST = Quantity("largest twin loss difference", LOSS, per="network")
MEAN = Quantity("mean twin loss difference", LOSS, per="network")
GAP = Quantity("replace-one gap", LOSS, per="network")
DISAGREE = Quantity("twin disagreement", "1", per="network")


@dataclass(frozen=True)
class Stability:
    r"""How a network differs from its twin, trained alike but for one sample that was replaced.

    With w the network's weights, w' its twin's, w₀ the initial ones, z over the probe, and zᵢ the
    sample that the twin was not trained on:

    - twin distance ‖w - w'‖, and over travel ‖w - w'‖ / ‖w - w₀‖;
    - largest and mean |ℓ(w, z) - ℓ(w', z)|: uniform stability bounds the generalisation gap by
      the largest, if it holds for every sample and every training set, of which this is one;
    - replace-one gap ℓ(w', zᵢ) - ℓ(w, zᵢ): over training sets and samples drawn at random, its
      mean *is* the generalisation gap. One pair says little: it is heavy-tailed late in training;
      compare means over many seeds, each with a training set of its own;
    - twin disagreement: the share of the probe that the two classify differently; left out
      where they give no class to each sample.

    Two programs of one training are not bit-equal. Where a copy of the first network was trained
    beside the twins with nothing replaced, its distance is the diagnostic ``floor``, and what is
    not three times as far is flagged ``at_floor``.

    `ibtrace run` and `replicate` train the twins where this lens is among the lenses, which
    doubles the training; in a loop of your own, `ibtrace.Recipe` takes them as `ibtrace.Twins`.

    Raises:
        Unsupported: When called, if no twins were trained.

    Example:
        >>> Stability().tags.quantities[0].name
        'twin distance'
    """

    tags: ClassVar[LensTags] = LensTags(
        quantities=(DISTANCE, SHARE, LARGEST, MEAN, GAP, DISAGREE),
        reference="Bousquet & Elisseeff 2002, Stability and Generalization; Hardt, Recht & Singer "
        "2016, Train faster, generalize better",
        needs=frozenset({"loss", "initial", "twins"}),
        cost="a second training; at a look, two passes over N samples",
        caveats="one replaced sample a network; a split shared by all seeds leaves an offset in "
        "the gap that no number of seeds removes",
    )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        twins, replaced = view.twins, view.replaced
        if twins is None or replaced is None:
            raise Unsupported(
                "no twins were trained: name the lens in the configuration of a run, or give the "
                "tracer Recipe(data, twins=Twins(networks, replaced))"
            )
        networks = len(view.seeds)
        own, others = flattened(view.parameters), flattened(twins.parameters)
        distance = (own - others[:networks]).norm(dim=1)
        travel = (own - flattened(view.initial.parameters)).norm(dim=1)
        known, at_floor = _floor(own, others, distance)
        difference = (view.losses - twins.losses[:networks]).abs()
        left_out = replaced[0]
        without = left_out.twins
        assert without is not None  # as `twins` is not
        no_loss = {**at_floor, "not_finite": ~difference.isfinite().all(1)}
        gap = (without.losses[:networks] - left_out.losses)[:, 0]
        still = {"not_moved": travel == 0}
        read = {
            DISTANCE.name: {"": Reading(distance, "1", flags=at_floor, diagnostics=known)},
            SHARE.name: {"": Reading(distance / travel, "1", flags={**at_floor, **still})},
            LARGEST.name: {"": Reading(difference.amax(1), LOSS, flags=no_loss)},
            MEAN.name: {"": Reading(difference.mean(1), LOSS, flags=no_loss)},
            GAP.name: {"": Reading(gap, LOSS, flags={**at_floor, "not_finite": ~gap.isfinite()})},
        }
        if (own_decisions := decisions_or_none(view)) is not None:
            share = (own_decisions != twins.decisions[:networks]).double().flatten(1).mean(1)
            read[DISAGREE.name] = {"": Reading(share, "1", flags=at_floor)}
        return read


def _floor(
    own: Tensor, others: Tensor, distance: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The distance of the control from its original, and whether a twin's is not well above it."""
    if len(others) == len(own):
        return {}, {"at_floor": torch.zeros_like(distance, dtype=torch.bool)}
    floor = (own[0] - others[-1]).norm()
    return {"floor": floor}, {"at_floor": distance <= 3 * floor}

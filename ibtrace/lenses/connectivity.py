"""Connectivity: the barriers between networks of an ensemble."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._classes import error_rate, require_decisions
from ibtrace.lenses._curvature import together
from ibtrace.lenses._training import training_view
from ibtrace.lenses._variants import mean_loss, of_variants, outputs_differ
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.landscape import barrier, between
from ibtrace.numerics.matching import matched
from ibtrace.runtime.arguments import whole
from ibtrace.types import LOSS, LensTags, Link, ProbeLike, Quantity, Reading, View

LOSS_BARRIER = Quantity("loss barrier", LOSS, per="network")
ERROR_BARRIER = Quantity("error barrier", "1", per="network")
ALIGNED_LOSS = Quantity("aligned loss barrier", LOSS, per="network")
ALIGNED_ERROR = Quantity("aligned error barrier", "1", per="network")
SIGNED_LOSS = Quantity("sign-aligned loss barrier", LOSS, per="network")
SIGNED_ERROR = Quantity("sign-aligned error barrier", "1", per="network")


@dataclass(frozen=True)
class Connectivity:
    r"""The barriers on the straight line between each network and the one of the next seed.

    .. math:: \max_α L(α) - [(1 - α) L(0) + α L(1)], \quad L(α) = L((1 - α) w + α w')

    of the training loss and of the error rate, 0 where the line between the losses is never
    exceeded; the two differ, and each says what the other does not. The next seed is the next in
    order of size, the first one's after the last: its number is the diagnostic ``partner``.
    Three times:

    - as the networks are;
    - with the hidden units of w' put in the order in which their activations correlate most with
      those of w (of a chain of linear layers), which changes no output: the aligned barriers;
    - with signs too, for layers with an odd activation such as tanh, where w' with a unit and its
      weights negated is the same network; of no other is this a symmetry. Left out of networks
      without such a layer.

    The outputs of each aligned network are held against its own: where they differ the barrier is
    NaN, flagged ``outputs_changed``. The alignment is one of very many: a lower barrier may exist.

    Args:
        points: Of the line, both ends included.
        samples: More training samples than this are thinned by the seed.

    Raises:
        ConfigError: If a number is no whole number (``points`` at least 3, ``samples`` 1).
        Unsupported: When called, of one network alone, of labels that are no classes, and where
            the networks have buffers of their own (running means of batch normalisation), which
            weights on a line between have not.

    Example:
        >>> Connectivity().tags.among
        True
    """

    points: int = 25
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(
            *(LOSS_BARRIER, ERROR_BARRIER, ALIGNED_LOSS),
            *(ALIGNED_ERROR, SIGNED_LOSS, SIGNED_ERROR),
        ),
        reference="Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket "
        "Hypothesis; Entezari et al. 2022, The Role of Permutation Invariance; Ainsworth, Hayase & "
        "Srinivasa 2023, Git Re-Basin",
        needs=frozenset({"loss", "chain", "training"}),
        cost="75 passes over N samples, and an assignment problem of each layer; memory 25 P",
        caveats="each network is one of two pairs: the readings of neighbouring seeds are not "
        "independent; an alignment by activations is not the best there is",
        looks=50,
        among=True,
    )

    def __post_init__(self) -> None:
        for name, least in (("points", 3), ("samples", 1)):
            number = whole(f"Connectivity: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        if len(view.seeds) < 2:
            raise Unsupported(
                "a barrier lies between two networks, and this is one: trace an ibtrace.Ensemble"
            )
        partners = _next(view.seeds)
        _require_no_buffers(view, partners)
        training, flags = training_view(view)
        seen = training.thinned(self.samples, seed)
        require_decisions(seen, "Connectivity")
        other = {name: value[partners] for name, value in seen.parameters.items()}
        pairs = [(LOSS_BARRIER, ERROR_BARRIER, other)]
        links = _linear_chain(view)
        if links:
            pairs.append((ALIGNED_LOSS, ALIGNED_ERROR, _aligned(seen, other, links, signs=False)))
        if any(link.odd for link in links[:-1]):  # a unit and its weights may change sign
            pairs.append((SIGNED_LOSS, SIGNED_ERROR, _aligned(seen, other, links, signs=True)))
        known = {"partner": torch.tensor([view.seeds[at] for at in partners], dtype=torch.float64)}
        read: dict[str, Reading] = {}
        for of_loss, of_error, end in pairs:
            changed = outputs_differ(seen.at(end).logits, seen.at(other).logits)
            line = between(
                flattened(seen.parameters).double(), flattened(end).double(), self.points
            )
            for quantity, measure in ((of_loss, mean_loss), (of_error, error_rate)):
                height, alpha = barrier(of_variants(seen, line, measure))
                read[quantity.name] = Reading(
                    torch.where(changed, torch.nan, height),
                    quantity.unit,
                    flags={"outputs_changed": changed, "not_finite": ~height.isfinite()},
                    diagnostics={**known, "alpha": alpha},
                )
        return together(read, seen, flags)


def _next(seeds: Sequence[int]) -> list[int]:
    """Where the network of the next seed stands, of each."""
    order = sorted(range(len(seeds)), key=lambda at: seeds[at])
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    return [following[at] for at in range(len(seeds))]


def _require_no_buffers(view: View, partners: list[int]) -> None:
    few = view.thinned(64)
    swapped = few.at({name: value[partners] for name, value in few.parameters.items()})
    if bool(outputs_differ(swapped.logits, few.logits[partners]).any()):
        raise Unsupported(
            "the networks differ by more than their weights (buffers, such as the running means of "
            "batch normalisation): what lies on a line between them has none"
        )


def _linear_chain(view: View) -> Sequence[Link]:
    """The links of a chain of linear layers; none of another network."""
    try:
        links = view.chain
    except Unsupported:
        return ()
    return links if all(link.kind == "linear" for link in links) else ()


def _aligned(
    view: View, other: Mapping[str, Tensor], links: Sequence[Link], *, signs: bool
) -> dict[str, Tensor]:
    """The others with their hidden units in the order and with the signs of the networks' own."""
    own, theirs = view.link_inputs, view.at(other).link_inputs
    aligned = dict(other)
    for link, following in itertools.pairwise(links):
        turn = signs and link.odd
        before, after = own[following.name][0], theirs[following.name][0]
        pairs = [matched(*both, signs=turn) for both in zip(before, after, strict=True)]
        order, sign = (torch.stack(parts) for parts in zip(*pairs, strict=True))  # (s, d)
        for name, axis in _parts(link.name, following.name):
            if name in aligned:
                aligned[name] = _moved(aligned[name], order, sign, axis)
    return aligned


def _parts(module: str, following: str) -> list[tuple[str, int]]:
    """The parameters that a layer's units have an axis of, and which."""
    return [(f"{module}.weight", 1), (f"{module}.bias", 1), (f"{following}.weight", 2)]


def _moved(value: Tensor, order: Tensor, sign: Tensor, axis: int) -> Tensor:
    """Units of each network in its own order, with its own signs."""
    shape = [len(value), *[1] * (value.dim() - 1)]
    shape[axis] = -1
    at = order.view(shape).expand(value.shape)
    return value.gather(axis, at) * sign.view(shape).to(value)

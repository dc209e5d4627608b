"""Balance: a quantity that gradient flow conserves in ReLU networks, and its drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._curvature import diverged
from ibtrace.types import LensTags, Link, ProbeLike, Quantity, Reading, View

SIZE = Quantity("mean |balance|", "1")
DRIFT = Quantity("mean drift of the balance", "1")

_HOMOGENEOUS = {"relu", "leaky_relu", "Identity", "Dropout", "Flatten"}


@dataclass(frozen=True)
class Balance:
    r"""‖w_out‖² - ‖w_in‖² - b² of hidden units: the mean of its size, and of its drift.

    Of each hidden unit, by its outgoing and incoming weights and its bias, averaged over the units
    of each linear layer; the drift is from the first look. Under gradient flow it stands still
    where the activation is homogeneous (ReLU, linear): what drifts there is the work of the step
    size, of the noise, of momentum, of Adam or of weight decay. Where the activation is another
    (tanh), or not all of the weights are trained, nothing conserves it; that is flagged
    ``not_conserved``.

    Raises:
        Unsupported: When called, if the network is no chain of two or more linear layers.

    Example:
        >>> [quantity.name for quantity in Balance().tags.quantities]
        ['mean |balance|', 'mean drift of the balance']
    """

    tags: ClassVar[LensTags] = LensTags(
        quantities=(SIZE, DRIFT),
        reference="Du, Hu & Lee 2018, Algorithmic Regularization in Learning Deep Homogeneous "
        "Models: Layers are Automatically Balanced; Kunin et al. 2021, Neural Mechanics",
        needs=frozenset({"chain", "initial"}),
        cost="the norms of the weights",
        caveats="conserved by gradient flow alone, and in homogeneous networks",
    )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both quantities of every hidden linear layer; see `ibtrace.types.Lens`."""
        chain = view.chain
        now, start = _balances(chain), _balances(view.initial.chain)
        size: dict[str, Reading] = {}
        drift: dict[str, Reading] = {}
        lost = diverged(view)
        for link, after in pairwise(chain):
            value = now[link.name]
            conserved = set(link.then) <= _HOMOGENEOUS and _trained(view, link, after)
            flags = {"not_conserved": torch.full_like(lost, not conserved), "diverged": lost}
            moved = (value - start[link.name]).abs().mean(1)
            for read, of_units in ((size, value.abs().mean(1)), (drift, moved)):
                masked = of_units.masked_fill(lost, torch.nan)
                read[link.name] = Reading(masked, "1", flags=flags)
        return {SIZE.name: size, DRIFT.name: drift}


def _trained(view: View, link: Link, after: Link) -> bool:
    """Whether all weights are trained that a unit's balance is of."""
    names = [f"{link.name}.weight", f"{after.name}.weight"]
    names += [f"{link.name}.bias"] if link.bias is not None else []
    return all(name in view.parameters for name in names)


def _balances(chain: Sequence[Link]) -> dict[str, Tensor]:
    """The balance of each unit of each hidden layer, ``(s, units)``."""
    if len(chain) < 2 or any(link.kind != "linear" or link.weight is None for link in chain):
        raise Unsupported("the balance is of hidden units between linear layers")
    balances = {}
    for link, after in pairwise(chain):
        assert link.weight is not None
        assert after.weight is not None
        if after.weight.shape[2] != link.weight.shape[1]:
            raise Unsupported(f"{link.name} and {after.name} have no units in common")
        value = after.weight.double().square().sum(1) - link.weight.double().square().sum(2)
        balances[link.name] = value if link.bias is None else value - link.bias.double().square()
    return balances

"""Norms: what uniform convergence has to say of a chain of linear layers, vacuous as it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._training import training_view
from ibtrace.numerics.flat import flattened
from ibtrace.types import LensTags, Link, ProbeLike, Quantity, Reading, View

SPECTRAL = Quantity("spectral norm", "1")
PRODUCT = Quantity("product of spectral norms", "1", per="network")
COMPLEXITY = Quantity("spectral complexity", "1", per="network")
BOUND = Quantity("margin-normalised complexity", "1", per="network")
PATH = Quantity("path norm", "1", per="network")
SIZE = Quantity("weight norm", "1", per="network")
TRAVEL = Quantity("distance from the initial weights", "1", per="network")
MARGIN = Quantity("median margin", "1", per="network")
LOW_MARGIN = Quantity("10 % margin", "1", per="network")


@dataclass(frozen=True)
class Norms:
    r"""Norms of the weights, and the complexity that bounds on the generalisation gap are made of.

    Of a chain of linear layers W₁ … W_L, with M_l the initial weights and ‖Aᵀ‖₂,₁ the sum of the
    norms of A's rows:

    - spectral norm ‖W_l‖₂ of each layer, and their product;
    - spectral complexity (Bartlett, Foster & Telgarsky 2017), for activations of Lipschitz
      constant 1 that are 0 at 0, biases left out:

      .. math:: R = \prod_l \|W_l\|_2 \Big( \sum_l
                \big( \|(W_l - M_l)^\top\|_{2,1} / \|W_l\|_2 \big)^{2/3} \Big)^{3/2}

    - margin-normalised: R ‖X‖_F / (m γ), γ the median margin of the m training samples, NaN and
      flagged ``no_margin`` where it is not positive;
    - path norm: the root of the sum over paths of the product of squared weights, biases included;
    - ‖w‖ and ‖w - w₀‖ of all parameters; the median and the 10 % quantile of the margin, the logit
      of the label less the largest of the others.

    The bounds are vacuous on the networks of this field by orders of magnitude, and grow while the
    gap falls: they are here to be seen.

    Raises:
        Unsupported: When called, if the network is no chain of linear layers (a convolution's
            spectral norm depends on its padding), or the labels are no classes.

    Example:
        >>> Norms().tags.quantities[0].name
        'spectral norm'
    """

    tags: ClassVar[LensTags] = LensTags(
        quantities=(
            *(SPECTRAL, PRODUCT, COMPLEXITY, BOUND, PATH),
            *(SIZE, TRAVEL, MARGIN, LOW_MARGIN),
        ),
        reference="Bartlett, Foster & Telgarsky 2017, Spectrally-normalized margin bounds; "
        "Neyshabur, Tomioka & Srebro 2015, Norm-Based Capacity Control",
        needs=frozenset({"chain", "initial", "training", "inputs"}),
        cost="a singular value of each weight, and N margins",
        caveats="vacuous, and mostly moving the wrong way",
    )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        links = _linear(view.chain)
        seen, on_probe = training_view(view)
        weights = [weight.double() for _, weight, _ in links]
        before = {link.name: link.weight for link in view.initial.chain}
        spectral = [torch.linalg.matrix_norm(weight, 2) for weight in weights]
        product = torch.stack(spectral).prod(0)
        moved = [
            (weight - _held(before[name])).norm(dim=2).sum(1) / norm
            for (name, _, _), weight, norm in zip(links, weights, spectral, strict=True)
        ]
        complexity = product * (torch.stack(moved) ** (2 / 3)).sum(0) ** 1.5
        margins = _margins(seen)
        middle = margins.quantile(0.5, dim=1)
        size = seen.inputs.double().flatten(1).norm(dim=1)
        bound = (complexity * size / (seen.samples * middle)).masked_fill(middle <= 0, torch.nan)
        own, start = flattened(view.parameters), flattened(view.initial.parameters)

        def one(value: Tensor, **flags: Tensor) -> dict[str, Reading]:
            return {"": Reading(value, "1", flags=flags)}

        return {
            SPECTRAL.name: {
                name: Reading(norm, "1") for (name, _, _), norm in zip(links, spectral, strict=True)
            },
            PRODUCT.name: one(product),
            COMPLEXITY.name: one(complexity),
            BOUND.name: one(bound, no_margin=middle <= 0, **on_probe),
            PATH.name: one(_path_norm(links)),
            SIZE.name: one(own.double().norm(dim=1)),
            TRAVEL.name: one((own - start).double().norm(dim=1)),
            MARGIN.name: one(middle, **on_probe),
            LOW_MARGIN.name: one(margins.quantile(0.1, dim=1), **on_probe),
        }


_Linear = tuple[str, Tensor, Tensor | None]


def _linear(chain: Sequence[Link]) -> list[_Linear]:
    """Name, weight and bias of each linear layer.

    Raises:
        Unsupported: If another layer holds weights.
    """
    others = [link for link in chain if link.kind != "linear"]
    if others:
        raise Unsupported(
            f"norms are of linear layers; {others[0].name} is {others[0].kind}, whose operator "
            "norm depends on padding and on what its kernel is taken for"
        )
    return [(link.name, _held(link.weight), link.bias) for link in chain]


def _held(weight: Tensor | None) -> Tensor:
    if weight is None:
        raise Unsupported("a linear layer has no weight of its own (parametrised?)")
    return weight.double()


def _path_norm(links: Sequence[_Linear]) -> Tensor:
    """The root of the sum over paths, ``(s,)``: squared weights carry ones forward."""
    _, first, _ = links[0]
    flow = first.new_ones(len(first), first.shape[2], 1, dtype=torch.float64)
    for _, weight, bias in links:
        flow = weight.double().square() @ flow
        if bias is not None:
            flow = flow + bias.double().square()[..., None]
    return flow.sum((1, 2)).sqrt()


def _margins(view: View) -> Tensor:
    """The logit of each label less the largest of the others, ``(s, n)``."""
    labels, logits = view.labels, view.logits.double()
    if labels.is_floating_point() or logits.dim() != 3 or logits.shape[-1] < 2:
        raise Unsupported("margins need classes, one a sample")
    own = logits.gather(-1, labels[..., None])
    others = logits.scatter(-1, labels[..., None], -torch.inf).amax(-1)
    return own[..., 0] - others

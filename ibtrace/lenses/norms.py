"""Norms: what uniform convergence has to say of a network, vacuous as it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._classes import classes_or_none
from ibtrace.lenses._curvature import diverged
from ibtrace.lenses._training import training_view
from ibtrace.lenses.readings import layer_of
from ibtrace.numerics.flat import flattened
from ibtrace.runtime.arguments import shown
from ibtrace.types import LensTags, Link, ProbeLike, Quantity, Reading, View

Origin = Literal["initial", "zero"]

SPECTRAL = Quantity("spectral norm", "1")
FROBENIUS = Quantity("Frobenius norm", "1")
STABLE = Quantity("stable rank", "1")
PRODUCT = Quantity("product of spectral norms", "1", per="network")
FROBENIUS_PRODUCT = Quantity("product of Frobenius norms", "1", per="network")
COMPLEXITY = Quantity("spectral complexity", "1", per="network")
BOUND = Quantity("margin-normalised complexity", "1", per="network")
PATH = Quantity("path norm", "1", per="network")
SIZE = Quantity("weight norm", "1", per="network")
TRAVEL = Quantity("distance from the initial weights", "1", per="network")
MARGIN = Quantity("median margin", "1", per="network")
LOW_MARGIN = Quantity("10 % margin", "1", per="network")
LOWEST_MARGIN = Quantity("1 % margin", "1", per="network")


@dataclass(frozen=True)
class Norms:
    r"""Norms of the weights, and the complexity that bounds on the generalisation gap are made of.

    Of each linear or convolutional layer of a chain, W_l: the spectral norm ‖W_l‖₂, the Frobenius
    norm, and the stable rank ‖W_l‖_F² / ‖W_l‖₂². A convolution's are those of its kernel as a
    matrix (out, in · positions), flagged ``reshaped_kernel``: its operator's norm is
    another, and depends on the padding.

    Of a chain of linear layers, with M_l the initial weights and ‖Aᵀ‖₂,₁ the sum of the norms of
    A's rows, each NaN and flagged ``no_linear_chain`` of another network:

    - the products of the spectral and of the Frobenius norms;
    - spectral complexity (Bartlett, Foster & Telgarsky 2017), biases left out:

      .. math:: R = \prod_l \|W_l\|_2 \Big( \sum_l
                \big( \|(W_l - M_l)^\top\|_{2,1} / \|W_l\|_2 \big)^{2/3} \Big)^{3/2}

      flagged ``other_activation`` where one has a slope above 1 or is not 0 at 0 (sigmoid, GELU);
    - margin-normalised: R ‖X‖_F / (m γ), γ the median margin of the m training samples, NaN and
      flagged ``no_margin`` where it is not positive;
    - path norm: the root of the sum over paths of the product of squared weights, biases included;
      by the weights themselves, whatever the activation.

    Of any network: ‖w‖ and ‖w - w₀‖ of all parameters, frozen ones too; where the labels are
    classes the median, the 10 % and the 1 % quantile of the margin, the logit of the label less the
    largest of the others.

    The bounds are vacuous on the networks of this field by orders of magnitude, and grow while the
    gap falls: they are here to be seen.

    Args:
        origin: M_l: the ``"initial"`` weights, or ``"zero"``.

    Raises:
        ConfigError: If ``origin`` is neither.

    Example:
        >>> Norms().tags.quantities[0].name
        'spectral norm'
    """

    origin: Origin = "initial"

    tags: ClassVar[LensTags] = LensTags(
        quantities=(
            *(SPECTRAL, FROBENIUS, STABLE, PRODUCT, FROBENIUS_PRODUCT, COMPLEXITY, BOUND, PATH),
            *(SIZE, TRAVEL, MARGIN, LOW_MARGIN, LOWEST_MARGIN),
        ),
        reference="Bartlett, Foster & Telgarsky 2017, Spectrally-normalized margin bounds; "
        "Neyshabur, Tomioka & Srebro 2015, Norm-Based Capacity Control",
        needs=frozenset({"chain", "initial", "training", "inputs"}),
        cost="a singular value of each weight, and N margins",
        caveats="vacuous, and mostly moving the wrong way",
    )

    def __post_init__(self) -> None:
        if self.origin not in get_args(Origin):
            raise ConfigError(
                f"Norms: origin must be 'initial' or 'zero', got {shown(self.origin)}"
            )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities that the network has; see `ibtrace.types.Lens`."""
        lost = {"diverged": diverged(view)}
        links = [link for link in _links(view) if link.kind in ("linear", "conv")]
        read: dict[str, dict[str, Reading]] = {
            quantity.name: {} for quantity in (SPECTRAL, FROBENIUS, STABLE)
        }
        for link in links:
            if link.weight is None:  # parametrised
                continue
            spectral, size = _spectral(_matrix(link)), _matrix(link).norm(dim=(1, 2))
            conv = torch.full_like(spectral, link.kind != "linear", dtype=torch.bool)
            flags = {"reshaped_kernel": conv, "zero": spectral == 0, **lost}
            for quantity, value in (
                (SPECTRAL, spectral),
                (FROBENIUS, size),
                (STABLE, (size / spectral).square()),
            ):
                layer = layer_of(f"{link.name}.weight".lstrip("."))
                read[quantity.name][layer] = Reading(value, "1", flags=flags)
        own, start = (
            flattened({**each.parameters, **each.frozen}).double() for each in (view, view.initial)
        )
        of_network = {
            **self._of_chain(view),
            SIZE.name: Reading(own.norm(dim=1), "1"),
            TRAVEL.name: Reading((own - start).norm(dim=1), "1"),
        }
        for name, reading in of_network.items():
            read[name] = {"": Reading(reading.value, "1", flags={**reading.flags, **lost})}
        return read

    def _of_chain(self, view: View) -> dict[str, Reading]:
        """What is of a chain of linear layers, and the margins."""
        links = _links(view)
        networks = view.logits.new_full((len(view.seeds),), torch.nan, dtype=torch.float64)
        if not _is_linear_chain(links):
            flags = {"no_linear_chain": networks.isnan()}
            names = (PRODUCT, FROBENIUS_PRODUCT, COMPLEXITY, BOUND, PATH)
            read = {quantity.name: Reading(networks, "1", flags=flags) for quantity in names}
            return {**read, **_margins_of(view)}
        weights = [_matrix(link) for link in links]
        spectral = torch.stack([_spectral(weight) for weight in weights])
        before = {link.name: link for link in view.initial.chain}
        moved = [
            (weight if self.origin == "zero" else weight - _matrix(before[link.name]))
            .norm(dim=2)
            .sum(1)
            / norm
            for link, weight, norm in zip(links, weights, spectral, strict=True)
        ]
        complexity = spectral.prod(0) * (torch.stack(moved) ** (2 / 3)).sum(0) ** 1.5
        contracting = all(link.contracts for link in links[:-1])
        other = torch.full_like(networks, not contracting, dtype=torch.bool)
        flags = {"other_activation": other, "zero": (spectral == 0).any(0)}
        read = {
            PRODUCT.name: Reading(spectral.prod(0), "1"),
            FROBENIUS_PRODUCT.name: Reading(
                torch.stack([weight.norm(dim=(1, 2)) for weight in weights]).prod(0), "1"
            ),
            COMPLEXITY.name: Reading(complexity, "1", flags=flags),
            PATH.name: Reading(_path_norm(links), "1"),
        }
        margins = _margins_of(view)
        if margins:
            middle = margins[MARGIN.name]
            seen, _ = training_view(view)
            size = seen.inputs.double().flatten(1).norm(dim=1)
            bound = complexity * size / (seen.samples * middle.value)
            none = {"no_margin": ~(middle.value > 0)}
            read[BOUND.name] = Reading(
                bound.masked_fill(none["no_margin"], torch.nan),
                "1",
                flags={**flags, **middle.flags, **none},
            )
        return {**read, **margins}


def _links(view: View) -> Sequence[Link]:
    """The layers of weights of a chain of modules; none of another network."""
    try:
        return view.chain
    except Unsupported:
        return ()


def _is_linear_chain(links: Sequence[Link]) -> bool:
    if not links or any(link.kind != "linear" or link.weight is None for link in links):
        return False
    return all(_matrix(a).shape[1] == _matrix(b).shape[2] for a, b in pairwise(links))


def _matrix(link: Link) -> Tensor:
    """The weight as matrices, float64 ``(s, out, in)``; of a kernel, in · positions."""
    assert link.weight is not None
    return link.weight.double().flatten(2)


def _spectral(matrices: Tensor) -> Tensor:
    """The largest singular value of each, ``(s,)``; NaN of one with NaN."""
    finite = matrices.isfinite().flatten(1).all(1)
    norms: Tensor = torch.linalg.matrix_norm(matrices.nan_to_num(0.0, 0.0, 0.0), 2)
    return torch.where(finite, norms, torch.nan)


def _path_norm(links: Sequence[Link]) -> Tensor:
    """The root of the sum over paths, ``(s,)``: squared weights carry ones forward."""
    first = _matrix(links[0])
    flow = first.new_ones(len(first), first.shape[2], 1)
    for link in links:
        flow = _matrix(link).square() @ flow
        if link.bias is not None:
            flow = flow + link.bias.double().square()[..., None]
    return flow.sum((1, 2)).sqrt()


def _margins_of(view: View) -> dict[str, Reading]:
    """Three quantiles of the training samples' margins; nothing where the labels are no classes."""
    seen, on_probe = training_view(view)
    logits = seen.logits.double()
    labels = classes_or_none(seen) if logits.dim() == 3 and logits.shape[-1] > 1 else None
    if labels is None:
        return {}
    own = logits.gather(-1, labels[..., None])
    others = logits.scatter(-1, labels[..., None], -torch.inf).amax(-1)
    margins = own[..., 0] - others
    lost = {"not_finite": ~margins.isfinite().all(1), **on_probe}
    return {
        quantity.name: Reading(margins.quantile(share, dim=1), "1", flags=lost)
        for quantity, share in ((MARGIN, 0.5), (LOW_MARGIN, 0.1), (LOWEST_MARGIN, 0.01))
    }

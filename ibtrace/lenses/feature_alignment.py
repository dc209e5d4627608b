"""FeatureAlignment: whether a layer's weights look where the output depends on its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._classes import labels_or_none
from ibtrace.lenses.readings import layer_of
from ibtrace.runtime.arguments import whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

ALIGNED = Quantity("feature alignment", "1")


@dataclass(frozen=True)
class FeatureAlignment:
    r"""The cosine of WᵀW and the average gradient outer product, of each linear layer.

    With h the input of the layer (at every call, of one that is called several times) and f the
    logits, less their mean over the classes (of two
    classes: their difference; what is no logit of a class is taken as it is), over the samples:

    .. math:: \cos\big( W^\top W,\; \mathbb E \textstyle\sum_k \nabla_h f_k \nabla_h f_k^\top \big)

    in the Frobenius product. The neural feature ansatz (Radhakrishnan et al. 2024) says that
    training drives it towards 1.

    Args:
        samples: More than these are thinned by the seed.

    Raises:
        Unsupported: When called, if no layer is linear with one input vector a sample.
        ConfigError: If ``samples`` is no whole number above 0.

    Example:
        >>> FeatureAlignment().tags.quantities[0].name
        'feature alignment'
    """

    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(ALIGNED,),
        reference="Radhakrishnan, Beaglehole, Pandit & Belkin 2024, Mechanism for feature learning "
        "in neural networks and backpropagation-free machine learning models, Science 383",
        needs=frozenset({"chain"}),
        cost="a backward pass for each logit and network, and O(N d²)",
        caveats="high in the last layers from the start: their gradients are their weights",
        looks=4,
    )

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "samples", whole("FeatureAlignment: samples", self.samples, least=1)
        )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The alignment of every linear layer; see `ibtrace.types.Lens`."""
        seen = view.thinned(self.samples, seed)
        classes = _has_classes(view)
        known = {"samples": torch.tensor(seen.samples)}
        read: dict[str, Reading] = {}
        for module, (_, slopes) in seen.link_inputs.items():
            name = f"{module}.weight".lstrip(".")
            weight = view.parameters.get(name)
            if weight is None:  # frozen
                continue
            of_class = slopes - slopes.mean(2, keepdim=True) if classes else slopes
            rows = of_class.double().flatten(1, 2)
            outer = rows.mT @ rows
            value = _cosine(weight.double().mT @ weight.double(), outer)
            read[layer_of(name)] = Reading(
                value, "1", flags={"no_gradient": value.isnan()}, diagnostics=known
            )
        if not read:
            raise Unsupported("no linear layer is trained, whose features could be aligned")
        return {ALIGNED.name: read}


def _has_classes(view: View) -> bool:
    """Whether the outputs are logits, of which a constant over the classes means nothing."""
    labels = labels_or_none(view)
    return labels is not None and not labels.is_floating_point() and view.logits.shape[-1] > 1


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    product = (a * b).sum((1, 2))
    cosine: Tensor = product / (torch.linalg.matrix_norm(a) * torch.linalg.matrix_norm(b))
    return cosine

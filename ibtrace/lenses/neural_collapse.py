"""Neural collapse: classes that shrink to points, which form a simplex with the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._classes import classes_or_none
from ibtrace.lenses._rows import classes_of, layers_of_samples
from ibtrace.numerics.collapse import (
    classes,
    dual_distance,
    nearest_mean,
    simplex_angles,
    unequal_norms,
)
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

NC1 = Quantity("NC1 within over between classes", "1")
MEAN_NORMS = Quantity("NC2 spread of class means' norms", "1", per="network")
WEIGHT_NORMS = Quantity("NC2 spread of classifier norms", "1", per="network")
MEAN_ANGLES = Quantity("NC2 class means off the simplex", "1", per="network")
WEIGHT_ANGLES = Quantity("NC2 classifiers off the simplex", "1", per="network")
DUAL = Quantity("NC3 classifiers off the class means", "1", per="network")
NEAREST = Quantity("NC4 not the nearest class mean", "1", per="network")


@dataclass(frozen=True)
class NeuralCollapse:
    r"""The four signs of neural collapse; each is 0 where it is complete.

    NC1, of each layer: tr S_w / tr S_b, with S_w the covariance about the classes' own means and
    S_b that of these means about the mean of all samples, every sample counting the same.

    At the head, with h what goes into the last linear layer, W its weights, :math:`w_c` those of
    class c, :math:`μ_c` the class's mean of h about the mean of the c class means:

    - NC2: the spread of the norms of :math:`μ_c` (and of :math:`w_c`) by their mean, and the mean
      over pairs of :math:`|\cos + 1/(C-1)|`: 0 if the C vectors form a simplex;
    - NC3: :math:`\|W/\|W\|_F - M/\|M\|_F\|_F^2`, M the rows :math:`μ_c`;
    - NC4: the share of samples that the network does not give to the class whose mean is nearest.

    On the probe: Papyan et al. read it on training samples, so let the probe be those to compare.
    A network without a linear head of one logit a class has NC1 alone. NC1 of a layer whose class
    means are equal is undefined: NaN, flagged ``no_difference``.

    Raises:
        Unsupported: When called, if the labels are no classes, or are all one.

    Example:
        >>> NeuralCollapse().tags.quantities[0].name
        'NC1 within over between classes'
    """

    tags: ClassVar[LensTags] = LensTags(
        quantities=(NC1, MEAN_NORMS, WEIGHT_NORMS, MEAN_ANGLES, WEIGHT_ANGLES, DUAL, NEAREST),
        reference="Papyan, Han & Donoho 2020, Prevalence of neural collapse, PNAS 117",
        needs=frozenset({"activations", "head"}),
        cost="O(N d) of each layer, and one more pass",
        caveats="of two classes the means about their mean are always equally long and opposite: "
        "NC2 of means is 0 and says nothing; a bias that all weights share counts against W",
        looks=2,
    )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """NC1 of every layer, and the others of the head; see `ibtrace.types.Lens`."""
        labels = classes_of(view, "NeuralCollapse")
        count = int(labels.max()) + 1
        if count < 2:
            raise Unsupported("NeuralCollapse compares classes, and all labels are one")
        read: dict[str, dict[str, Reading]] = {NC1.name: {}}
        for layer, t in layers_of_samples(view).items():
            of = classes(t, labels.to(t.device), count)
            alike = {"no_difference": of.between == 0}
            ratio = torch.where(of.between == 0, torch.nan, of.within / of.between)
            read[NC1.name][layer] = Reading(ratio, "1", flags=alike)
        read.update({quantity.name: {"": number} for quantity, number in _at_the_head(view)})
        return read


def _at_the_head(view: View) -> Iterator[tuple[Quantity, Reading]]:
    try:
        head = view.head
    except Unsupported:
        return
    count, labels = head.weight.shape[-2], view.labels
    present = torch.nn.functional.one_hot(labels.clamp(0, count - 1), count).any(-2)
    if count < 2 or classes_or_none(view) is None or not bool(present.all()):
        return  # no logit for a class, or no class for a logit
    of = classes(head.features, labels, count)
    means = of.means - of.means.mean(-2, keepdim=True)
    weights = head.weight.to(torch.float64)
    predicted = head.logits.argmax(-1)
    differs = (predicted != nearest_mean(head.features, of.means)).double()
    error = differs.std(-1) / differs.shape[-1] ** 0.5
    yield MEAN_NORMS, _reading(unequal_norms(means))
    yield WEIGHT_NORMS, _reading(unequal_norms(weights))
    yield MEAN_ANGLES, _reading(simplex_angles(means))
    yield WEIGHT_ANGLES, _reading(simplex_angles(weights))
    yield DUAL, _reading(dual_distance(weights, means))
    yield NEAREST, Reading(differs.mean(-1), "1", stderr=error)


def _reading(value: Tensor) -> Reading:
    return Reading(value, "1", flags={"no_difference": value.isnan()})

"""Capacity: how easily classes of activations are told apart by a hyperplane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._rows import classes_of, drawn, layers_of_samples
from ibtrace.numerics.capacity import cone
from ibtrace.runtime.arguments import flag, whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

CAPACITY = Quantity("manifold capacity", "1")

_MOST_CLASSES = 20  # that are diagnostics each


@dataclass(frozen=True)
class Capacity:
    r"""The manifold capacity of the classes in each layer: classes per unit that can be told apart.

    .. math:: 1/α_c = E_t \min_{v \cdot s \ge 0\ \forall s \in c} \|t - v\|^2,
              \quad t \sim N(0, I)

    over the activations s of the samples of class c; a layer's capacity is 1 over the mean of
    1/α_c, the classes' own are the diagnostics ``class 0``, ``class 1``, … of up to 20 classes.
    A single point has 2, as a perceptron has; a class whose activations surround the origin has 1
    over the number of units, whatever else it does: flagged ``surrounds_origin``. A class of
    activations that are all 0 is no obstacle; if all are, the capacity is infinite, and flagged.

    The error is over the draws of t, not over that of the samples; more samples span wider cones,
    so compare numbers of the same ``samples`` alone. Classes are taken as they lie about the
    origin; Cohen et al. subtract the mean of all samples first (``centred``).

    Args:
        samples: Of each class at most so many, drawn by the seed; how many are read of all classes
            together is a diagnostic.
        draws: Of t, for each class.
        centred: Whether to subtract the mean over all samples of the probe.

    Raises:
        ConfigError: If a number is no whole number (samples at least 1, draws at least 2).
        Unsupported: When called, if the labels are no classes.

    Example:
        >>> Capacity(draws=50).tags.looks
        50
    """

    samples: int = 200
    draws: int = 200
    centred: bool = False

    tags: ClassVar[LensTags] = LensTags(
        quantities=(CAPACITY,),
        reference="Chung, Lee & Sompolinsky 2018, Classification and geometry of general "
        "perceptual manifolds, Physical Review X 8; Cohen et al. 2020, Nature Communications 11",
        needs=frozenset({"activations"}),
        cost="draws times a non-negative least-squares problem of d rows, for each class",
        caveats="of classes in random positions, which two classes of a trained network are not; "
        "in few units hardly more than whether a class surrounds the origin",
        looks=50,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", whole("Capacity: samples", self.samples, least=1))
        object.__setattr__(self, "draws", whole("Capacity: draws", self.draws, least=2))
        object.__setattr__(self, "centred", flag("Capacity: centred", self.centred))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The capacity of every layer; see `ibtrace.types.Lens`."""
        labels = classes_of(view, "Capacity").cpu()
        count = int(labels.max()) + 1
        read = {}
        for layer, t in layers_of_samples(view).items():
            generator = torch.Generator().manual_seed(seed)
            directions = torch.randn(
                count, self.draws, t.shape[2], generator=generator, dtype=torch.float64
            )
            read[layer] = Reading.stack(
                [
                    self._of_one(rows.cpu().double(), own, directions, seed)
                    for rows, own in zip(t, labels, strict=True)
                ]
            )
        return {CAPACITY.name: read}

    def _of_one(self, rows: Tensor, labels: Tensor, directions: Tensor, seed: int) -> Reading:
        """The capacity of one layer of one network, from rows ``(n, d)``."""
        if self.centred:
            rows = rows - rows.mean(0)
        cones, read = [], 0
        for at, draws in enumerate(directions):
            members = rows[labels == at]
            some = members[drawn(len(members), self.samples, seed)]
            cones.append(cone(some, draws))
            read += len(some)
        inverse = torch.tensor([c.dimension for c in cones], dtype=torch.float64)
        errors = torch.tensor([c.stderr for c in cones], dtype=torch.float64)
        capacity = 1 / inverse.mean()
        of_classes = {f"class {at}": 1 / value for at, value in enumerate(inverse[:_MOST_CLASSES])}
        return Reading(
            capacity,
            "1",
            stderr=errors.square().sum().sqrt() / len(cones) * capacity**2,
            flags={
                "surrounds_origin": torch.tensor(any(c.everything for c in cones)),
                "infinite": capacity.isinf(),
            },
            diagnostics={"samples": torch.tensor(read), **of_classes},
        )

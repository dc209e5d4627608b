"""Topology: the loops of each class in a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._rows import classes_of, drawn, layers_of_samples
from ibtrace.numerics.distances import direct
from ibtrace.numerics.representations import centred
from ibtrace.runtime.arguments import whole
from ibtrace.runtime.optional import require
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

LOOPS = Quantity("H1 total persistence", "1")

_MOST_CLASSES = 20  # that are diagnostics each


@dataclass(frozen=True)
class Topology:
    r"""The total persistence of the loops that each class's activations form in a layer.

    The Vietoris-Rips complex of a class's points joins those within a growing distance; a loop is
    born at one and filled at another. The reading is :math:`\sum (\text{death} - \text{birth})`
    over the loops (H1), the mean over the classes; each class's own is the diagnostic ``class 0``,
    ``class 1``, … of up to 20 classes. Distances are in units of the layer's standard deviation,
    the root of the mean variance of a unit over all samples: a layer that only grows keeps its
    number. 0 of a class of convex or tree-like shape, but for the noise of the draw.

    A layer that gives one value for all samples has no unit of distance: NaN, flagged
    ``constant``.

    Args:
        samples: Of each class at most so many, drawn by the seed; more make more small loops, so
            compare numbers of the same ``samples`` alone. How many are read of all classes together
            is a diagnostic.

    Raises:
        ConfigError: If ``samples`` is no whole number above 2.
        MissingDependency: When called, without ripser: ``pip install 'ibtrace[topology]'``.
        Unsupported: When called, if the labels are no classes.

    Example:
        >>> Topology(samples=100)
        Topology(samples=100)
    """

    samples: int = 150

    tags: ClassVar[LensTags] = LensTags(
        quantities=(LOOPS,),
        reference="Naitzat, Zhitnikov & Lim 2020, Topology of deep neural networks, JMLR 21; "
        "Bauer 2021, Ripser",
        needs=frozenset({"activations"}),
        cost="between O(m²) and O(m⁶) of m samples a class; 20 ms of 150 in the plane",
        caveats="many short loops of noise can outweigh one long one; of the drawn samples, not "
        "of the law",
        looks=50,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", whole("Topology: samples", self.samples, least=3))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The loops of every layer; see `ibtrace.types.Lens`."""
        ripser = require("topology", "ripser")
        labels = classes_of(view, "Topology").cpu()
        return {
            LOOPS.name: {
                layer: Reading.stack(
                    [
                        self._of_one(ripser, rows.cpu(), own, seed)
                        for rows, own in zip(t, labels, strict=True)
                    ]
                )
                for layer, t in layers_of_samples(view).items()
            }
        }

    def _of_one(self, ripser: Any, rows: Tensor, labels: Tensor, seed: int) -> Reading:
        """The loops of one layer of one network, from rows ``(n, d)``."""
        points = centred(rows)
        unit = points.square().mean().sqrt()
        persistence, read = [], 0
        for at in range(int(labels.max()) + 1):
            members = points[labels == at]
            drawn_rows = members[drawn(len(members), self.samples, seed)] / unit
            read += len(drawn_rows)
            persistence.append(float("nan") if unit == 0 else total_persistence(ripser, drawn_rows))
        each = torch.tensor(persistence, dtype=torch.float64)
        of_classes = {f"class {at}": value for at, value in enumerate(each[:_MOST_CLASSES])}
        return Reading(
            each.mean(),
            "1",
            flags={"constant": unit == 0},
            diagnostics={"samples": torch.tensor(read), **of_classes},
        )


def total_persistence(ripser: Any, points: Tensor) -> float:
    """Σ (death - birth) over the loops of the Rips complex of points ``(n, d)``.

    Args:
        ripser: The module.
        points: Float64.
    """
    distances = direct(points, points, "euclidean").sqrt().numpy()
    loops = ripser.ripser(distances, maxdim=1, distance_matrix=True)["dgms"][1]
    return float((loops[:, 1].astype(float) - loops[:, 0].astype(float)).sum())

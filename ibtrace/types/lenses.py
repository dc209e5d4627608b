"""What a lens is, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ibtrace.types.estimators import ProbeLike
from ibtrace.types.readings import Quantity, Reading
from ibtrace.types.views import View

Need = Literal[
    "activations",
    "loss",
    "gradient",
    "jacobian",
    "hessian",
    "inputs",
    "chain",
    "head",
    "initial",
    "previous",
    "training",
    "test",
    "optimizer",
    "twins",
]


@dataclass(frozen=True)
class LensTags:
    """What a lens measures, as data: tables, plots, tests and the tracer read it.

    Args:
        quantities: What it reads; where two lenses use one name, they mean the same by it.
        reference: Author, year, title or venue of the source.
        needs: What it asks of a view besides weights and outputs.
        cost: Time (and memory, where it differs) in N samples, P parameters, d dimensions.
        caveats: Where the number misleads.
        looks: It reads every ``looks``-th look that is due, the first and the last; more than 1
            for what is dear.
        among: Whether it compares each network with others: of one alone it is `Unsupported`.
        statement: What has to be said with its first quantity wherever that is printed.
    """

    quantities: tuple[Quantity, ...]
    reference: str
    needs: frozenset[Need] = frozenset()
    cost: str = ""
    caveats: str = ""
    looks: int = 1
    among: bool = False
    statement: str = ""


@runtime_checkable
class Lens(Protocol):
    """An instrument for any quantity that is not information: a frozen dataclass.

    Gradient noise, sharpness, saturation …: whatever one view of a network tells.
    """

    @property
    def tags(self) -> LensTags:
        """What it measures under this configuration."""
        ...

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Read every quantity of the tags.

        Args:
            view: The networks.
            probe: The inputs and labels that they are seen on.
            seed: Seeds whatever is random inside; the global generators are left alone.

        Returns:
            ``{quantity: {layer: reading}}`` with values of shape ``(s,)``; the layer ``""`` is the
            network as a whole. A layer that a quantity has no meaning for is left out.
        """
        ...

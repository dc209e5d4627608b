"""What a lens is, and the view of the networks that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ibtrace.types.estimators import ProbeLike
from ibtrace.types.readings import Quantity, Reading

Need = Literal["activations", "loss", "gradient", "jacobian", "hessian"]


@dataclass(frozen=True)
class LensTags:
    """What a lens measures, as data: tables, plots, tests and the tracer read it.

    Args:
        quantities: What it reads; where two lenses use one name, they mean the same by it.
        reference: Author, year, title or venue of the source.
        needs: What it asks of a view besides weights and outputs.
        cost: Time (and memory, where it differs) in N samples, P parameters, d dimensions.
        caveats: Where the number misleads.
    """

    quantities: tuple[Quantity, ...]
    reference: str
    needs: frozenset[Need] = frozenset()
    cost: str = ""
    caveats: str = ""


class View(Protocol):
    """One undisturbed view of one network, or of several, at one look.

    Each thing is computed when it is first asked for, once, and shared by all who ask. Every
    tensor has a leading dimension for the networks, ``s`` of them; nothing that is done with a
    view changes a network, its gradients or a random generator.
    """

    @property
    def epoch(self) -> int:
        """Epochs of training done."""
        ...

    @property
    def step(self) -> int | None:
        """Optimiser steps done, if known."""
        ...

    @property
    def seeds(self) -> Sequence[int]:
        """The seed of each network."""
        ...

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The trainable parameters, ``{name: (s, ...)}``, detached."""
        ...

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """T of each layer that is traced, ``{layer: (s, n, ...)}``."""
        ...

    @property
    def activation_ranges(self) -> Mapping[str, tuple[float, float] | None]:
        """The closed range of each layer's nonlinearity (tanh: ``(-1, 1)``); None if unbounded."""
        ...

    @property
    def outputs(self) -> Tensor:
        """What the networks give on the probe, ``(s, n, ...)``."""
        ...

    @property
    def losses(self) -> Tensor:
        """The loss of each sample of the probe, ``(s, n)``."""
        ...

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: ``"nats"``, or ``"loss"`` of one that is not known by name."""
        ...

    @property
    def loss(self) -> Tensor:
        """The mean loss over the probe, ``(s,)``."""
        ...

    @property
    def gradient(self) -> Mapping[str, Tensor]:
        """The gradient of the mean loss, ``{parameter: (s, ...)}``."""
        ...

    @property
    def sample_gradients(self) -> Mapping[str, Tensor]:
        """The gradient of each sample's loss, ``{parameter: (s, n, ...)}``."""
        ...

    @property
    def jacobian(self) -> Mapping[str, Tensor]:
        """Derivatives of the outputs, ``{parameter: (s, n, k, ...)}``, k output units."""
        ...

    def hessian_product(self, vector: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The Hessian of the mean loss times a vector, both ``{parameter: (s, ...)}``."""
        ...


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

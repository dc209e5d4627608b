"""Networks of one architecture, and how they are called and trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from ibtrace.capture.calling import Forward
from ibtrace.capture.recipe import Recipe, optimizer_state
from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.numerics.losses import LOSSES
from ibtrace.runtime.arguments import shown
from ibtrace.types import OptimizerState

_Value = TypeVar("_Value")

Loss = str | Callable[[Tensor, Tensor], Tensor]
"""A name of `ibtrace.numerics.losses.LOSSES`, or a function of outputs ``(n, ...)`` and labels
``(n, ...)`` to the mean over the samples."""


def require_loss(loss: Loss | None) -> None:
    """Raise for what is no loss.

    Raises:
        ConfigError: If it is neither the name of one, nor a function, nor None.
    """
    function = callable(loss) and not isinstance(loss, type)
    if loss is not None and not function and not (isinstance(loss, str) and loss in LOSSES):
        known = ", ".join(LOSSES)
        raise ConfigError(
            f"loss: {shown(loss)} is none of {known}; give one, or a function of outputs and labels"
        )


def doubled(value: _Value) -> _Value:
    """A tensor of numbers that are no whole ones in double precision; others as they are."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return cast("_Value", value.double())
    return value


@dataclass(frozen=True, eq=False)
class Stacked:
    """Networks of one architecture.

    Args:
        template: The network, or one of the structure of all.
        parameters: ``{name: (s, ...)}``, stacked over networks.
        buffers: Likewise.
        seeds: The seed of each.
        own: The parameters as the optimiser holds them, by name.
    """

    template: nn.Module
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    seeds: Sequence[int] = (0,)
    own: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_module(cls, model: nn.Module, seeds: Sequence[int] = (0,)) -> Stacked:
        """One network."""
        own = dict(model.named_parameters())
        parameters = {name: value.detach()[None] for name, value in own.items()}
        buffers = {name: value.detach()[None] for name, value in model.named_buffers()}
        return cls(model, parameters, buffers, seeds, own)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The parameters and the buffers, to be stored: fields of this class."""
        return {
            "parameters": {name: value.detach() for name, value in self.parameters.items()},
            "buffers": {name: value.detach() for name, value in self.buffers.items()},
        }

    def copied(self) -> Stacked:
        """The same with tensors that no training changes."""
        return replace(
            self,
            parameters={name: value.detach().clone() for name, value in self.parameters.items()},
            buffers={name: value.detach().clone() for name, value in self.buffers.items()},
        )

    def doubled(self) -> Stacked:
        """The same in double precision, but for what are whole numbers or flags."""
        return replace(
            self,
            parameters={name: doubled(value) for name, value in self.parameters.items()},
            buffers={name: doubled(value) for name, value in self.buffers.items()},
        )

    def variants(self, of: Tensor, tensors: Mapping[str, Tensor]) -> Stacked:
        """Networks with other values of some tensors.

        Args:
            of: Of which of these networks each of the k is a variant, by position, ``(k,)``.
            tensors: Parameters or buffers ``{name: (k, ...)}``; the others are those of these.

        Raises:
            InvalidInput: If a tensor is none of the networks'.
        """
        if unknown := sorted({*tensors} - {*self.parameters} - {*self.buffers}):
            raise InvalidInput(f"these networks have no parameter or buffer {unknown[0]}")

        def varied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: tensors[name] if name in tensors else value.detach()[of]
                for name, value in values.items()
            }

        return replace(
            self,
            parameters=varied(self.parameters),
            buffers=varied(self.buffers),
            seeds=[self.seeds[at] for at in of.tolist()],
            own={},
        )

    def optimizer_state(self, optimizer: Optimizer) -> OptimizerState:
        """How an optimiser of these networks will make its next step.

        Raises:
            Unsupported: If its groups of parameters differ in their settings, or all that it holds
                is frozen.
        """
        state = optimizer_state(optimizer, self.own)
        # one network's own parameters have no dimension for the networks, and so have its moments
        alone = {n for n, value in self.own.items() if value.dim() < self.parameters[n].dim()}
        moments = {n: v[None] if n in alone else v for n, v in state.adam.second.items()}
        learns = {name for name, value in self.template.named_parameters() if value.requires_grad}
        trained = tuple(name for name in state.trained if name in learns)
        if not trained:
            raise Unsupported("the optimiser of the recipe trains no parameter of the network")
        return replace(state, adam=replace(state.adam, second=moments), trained=trained)


@dataclass(frozen=True, eq=False)
class Setting:
    """How networks are called and trained: what stays the same over a run.

    Args:
        loss: What they are trained on; None: what needs a loss is refused.
        forward: See `ibtrace.capture.call`.
        batch_size: Samples per forward.
        recipe: How they are trained.
    """

    loss: Loss | None = None
    forward: Forward | None = None
    batch_size: int = 512
    recipe: Recipe = field(default_factory=Recipe)

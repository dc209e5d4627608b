"""The view of networks that a lens reads, and the records in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor

_Cached = TypeVar("_Cached")


@dataclass(frozen=True)
class Link:
    """A layer of weights of a network that is a chain of modules.

    Args:
        name: The module's name.
        kind: ``"linear"``, ``"conv"``, or the class's name of any other module with parameters.
        weight: ``(s, out, in, ...)``; None if the module has none of that name.
        bias: ``(s, out)``, or None.
        then: What comes before the next link: names of activations as
            `ibtrace.models.activations` has them, class names of other modules.
        contracts: Whether all of that has slopes of at most 1, and is 0 at 0, as it is set.
        odd: Whether there is an activation, and all of that is odd, f(-z) = -f(z), as it is set.
    """

    name: str
    kind: str
    weight: Tensor | None
    bias: Tensor | None
    then: tuple[str, ...] = ()
    contracts: bool = False
    odd: bool = False


@dataclass(frozen=True)
class Head:
    """The last linear layer of networks, which gives the logits.

    Args:
        features: What goes into it, ``(s, n, d)``.
        weight: ``(s, k, d)``.
        bias: ``(s, k)``, or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None

    @property
    def logits(self) -> Tensor:
        """What comes out of it, ``(s, n, k)``."""
        made = self.features @ self.weight.mT
        return made if self.bias is None else made + self.bias[:, None]

    def gives(self, logits: Tensor) -> bool:
        """Whether these are its logits, to rounding."""
        if self.features.shape[-1] != self.weight.shape[-1]:
            return False
        made = self.logits
        return made.shape == logits.shape and torch.allclose(made, logits, 1e-3, 1e-4)


@dataclass(frozen=True)
class AdamMoments:
    """What Adam and its kin divide a gradient by.

    Args:
        betas: Decay of the running means of gradients and of their squares.
        eps: Added to the root.
        second: Running mean of squared gradients, ``{parameter: (s, ...)}``; empty before the
            first step.
        steps: Steps done of each of these parameters: one that was unfrozen late has fewer.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    second: Mapping[str, Tensor] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerState:
    """How the next step is made: what `torch.optim` holds.

    Args:
        kind: ``"sgd"``, ``"adam"``, ``"adamw"`` (weight decay apart from the gradient), or the name
            of another class in small letters.
        lr: Learning rate.
        momentum: Of SGD.
        dampening: Of SGD.
        nesterov: Of SGD.
        weight_decay: Of SGD and Adam; of ``"adamw"`` apart from the gradient.
        maximize: Whether steps go up, to a larger loss.
        steps: Steps done, as Adam counts them; of the parameter with most.
        trained: The parameters that it trains, by name; empty: all.
        adam: Of Adam.
    """

    kind: str
    lr: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    maximize: bool = False
    steps: int = 0
    trained: tuple[str, ...] = ()
    adam: AdamMoments = field(default_factory=AdamMoments)


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
    def frozen(self) -> Mapping[str, Tensor]:
        """The other parameters, ``{name: (s, ...)}``, detached."""
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
    def samples(self) -> int:
        """n, the number of samples."""
        ...

    @property
    def inputs(self) -> Tensor:
        """The inputs that each network sees, ``(s, n, ...)``; of networks with one input."""
        ...

    @property
    def labels(self) -> Tensor:
        """The labels that each network sees, ``(s, n, ...)``."""
        ...

    @property
    def outputs(self) -> Tensor:
        """What the networks give on the samples, ``(s, n, ...)``."""
        ...

    @property
    def logits(self) -> Tensor:
        """The outputs, or what goes into a softmax or sigmoid if the networks end in one."""
        ...

    @property
    def decisions(self) -> Tensor:
        """The class that each network gives to each sample, ``(s, n)``, or to each of its labels.

        That of the largest logit; one output is the one of two labels that would cost less.
        """
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
        """Derivatives of the logits, ``{parameter: (s, n, k, ...)}``, k logits."""
        ...

    @property
    def input_jacobian(self) -> Tensor:
        """Derivatives of the logits in the inputs, ``(s, n, k, ...)``."""
        ...

    @property
    def chain(self) -> Sequence[Link]:
        """The layers of weights in order, of networks that are a chain of modules."""
        ...

    @property
    def head(self) -> Head:
        """The last linear layer, which gives the logits, and what goes into it."""
        ...

    @property
    def link_inputs(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """What goes into each linear layer, ``(s, n, d)``, and the logits' derivatives in it.

        The derivatives are ``(s, n, k, d)``, along all paths; keys are the layers' names. Of a
        layer that is called c times it is ``(s, c n, d)``, call after call.
        """
        ...

    def hessian_product(self, vector: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The Hessian of the mean loss times a vector, both ``{parameter: (s, ...)}``.

        Several vectors at once are ``{parameter: (m, s, ...)}``.
        """
        ...

    @property
    def hessian(self) -> Tensor:
        """The Hessian of the mean loss, ``(s, P, P)``, parameters in order, each flattened.

        In double precision where the networks can be called in it, whatever their own.
        """
        ...

    @property
    def initial(self) -> View:
        """The networks as they were at the first look, on the same samples.

        Its `parameters` are those that are trained now, whatever was trained then.
        """
        ...

    @property
    def previous(self) -> View | None:
        """The networks at the lens's last look before this, likewise.

        A look before is one of an earlier epoch (or step, where steps are counted).
        """
        ...

    @property
    def training(self) -> View | None:
        """The same networks on the samples that they are trained on, each on its own, if known."""
        ...

    @property
    def test(self) -> View | None:
        """The same networks on samples that they are not trained on, if known."""
        ...

    @property
    def random_split(self) -> bool:
        """Whether the training samples were drawn at random from the population."""
        ...

    @property
    def batch_size(self) -> int | None:
        """Samples in each step of the training, if known."""
        ...

    @property
    def optimizer(self) -> OptimizerState | None:
        """How the next step of the training will be made, if known."""
        ...

    @property
    def twins(self) -> View | None:
        """Each network as it is when one training sample is another, if such were trained.

        They may be followed by one more, a copy of the first network with nothing replaced.
        """
        ...

    @property
    def replaced(self) -> tuple[View, View] | None:
        """The networks on the sample of which each twin knows nothing, and on that in its place."""
        ...

    def at(self, parameters: Mapping[str, Tensor], networks: Sequence[int] | None = None) -> View:
        """Networks with other parameters ``{name: (k, ...)}`` on the same samples.

        Args:
            parameters: The trainable ones.
            networks: Of which of these networks each of the k is a variant, by position; None: of
                each one, in order.
        """
        ...

    def thinned(self, most: int, seed: int = 0) -> View:
        """The same networks on some of the samples, drawn once; all if they are no more."""
        ...

    def once(self, key: Hashable, compute: Callable[[], _Cached]) -> _Cached:
        """What ``compute`` gives, computed once for this view and this key."""
        ...

"""What a lens sees of one network, or of several: see `ibtrace.types.View`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ibtrace.capture import derivatives, structure
from ibtrace.capture.calls import Calls
from ibtrace.capture.curvature import Curves
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.objective import Objective
from ibtrace.capture.past import Past
from ibtrace.capture.recipe import Part, Recipe
from ibtrace.capture.samples import Samples
from ibtrace.capture.traced import Traced
from ibtrace.capture.transforms import Tensors
from ibtrace.probe import Probe
from ibtrace.types import Head, Link, OptimizerState

_log = logging.getLogger("ibtrace")

_Value = TypeVar("_Value")

_LARGE = (
    *("gradient", "sample_gradients", "jacobian", "hessian", "input_jacobian"),
    *("losses", "link_inputs", "head", "_curves"),
)


class NetworkView:
    """One network, or several of one architecture, at one look; see `ibtrace.types.View`.

    What it offers is computed elsewhere, and kept here: what each network sees by
    `ibtrace.capture.samples`, what it gives by `ibtrace.capture.calls`, its loss by
    `ibtrace.capture.objective`, and so on. Each raises what it says there.

    Args:
        networks: The networks.
        seen: The samples.
        setting: How they are called and trained.
        epoch: Epochs of training done.
        step: Optimiser steps done, if known.
        activations: T of each layer, ``{layer: (s, n, ...)}``; None: refused.
        activation_ranges: The closed range of each layer.
        past: Gives the view of the networks at the ``initial`` or the ``previous`` look.
    """

    def __init__(
        self,
        networks: Stacked,
        seen: Part | Probe,
        setting: Setting | None = None,
        *,
        epoch: int = 0,
        step: int | None = None,
        activations: Mapping[str, Tensor] | None = None,
        activation_ranges: Mapping[str, tuple[float, float] | None] | None = None,
        past: Callable[[str], NetworkView | None] | None = None,
    ) -> None:
        self.networks, self.seeds = networks, tuple(networks.seeds)
        self.epoch, self.step = epoch, step
        self.activation_ranges = dict(activation_ranges or {})
        part = Part.of(seen)
        tensors = [*networks.parameters.values()]
        device = tensors[0].device if tensors else part.probe.device
        self._setting = setting or Setting()
        self._past = Past(past)
        self._samples = Samples(part, len(self.seeds), device)
        self._traced = Traced(activations, self._samples.count)
        self._calls = Calls(networks, self._samples, self._setting)
        self._objective = Objective(self._calls)
        self._memory: dict[Hashable, Any] = {}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained, ``{name: (s, ...)}``."""
        return self._calls.trained

    @property
    def frozen(self) -> dict[str, Tensor]:
        """The other parameters, ``{name: (s, ...)}``."""
        every, trained = self.networks.parameters, self._calls.parameters
        return {name: value.detach() for name, value in every.items() if name not in trained}

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """T of each layer that is traced, ``{layer: (s, n, ...)}``."""
        return self._traced.layers

    # -- the samples, and other samples -------------------------------------------------------

    @property
    def samples(self) -> int:
        """n, the number of samples."""
        return self._samples.count

    @property
    def inputs(self) -> Tensor:
        """The inputs that each network sees, ``(s, n, ...)``."""
        return self._samples.inputs

    @property
    def labels(self) -> Tensor:
        """The labels that each network sees, ``(s, n, ...)``."""
        return self._samples.labels

    def thinned(self, most: int, seed: int = 0) -> NetworkView:
        """The same networks on some of the samples, drawn once; all if they are no more."""
        if self.samples <= most:
            return self

        def draw() -> NetworkView:
            part, rows = self._samples.drawn(most, seed)
            return self._on(part, lambda past: past.thinned(most, seed), rows)

        return self.once(("thinned", most, seed), draw)

    @property
    def training(self) -> NetworkView | None:
        """The same networks on the samples that they are trained on, each on its own, if known."""
        return self._on_part("data", lambda past: past.training)

    @property
    def test(self) -> NetworkView | None:
        """The same networks on samples that they are not trained on, if known."""
        return self._on_part("test", lambda past: past.test)

    @property
    def _probe(self) -> Probe:
        return self._samples.probe

    def _on_part(
        self, name: str, likewise: Callable[[NetworkView], NetworkView | None]
    ) -> NetworkView | None:
        part: Part | None = getattr(self._setting.recipe, name)
        if part is None:
            return None
        return self.once(name, lambda: self._on(part, likewise, self._samples.places(part)))

    def _on(
        self,
        part: Part,
        likewise: Callable[[NetworkView], NetworkView | None],
        rows: Tensor | None = None,
    ) -> NetworkView:
        """The same networks on other samples, as are the networks of the past.

        Args:
            part: The samples.
            likewise: Does the same to a view of the past.
            rows: Which samples of this view they are, if they are some.
        """
        view = self._like(self.networks, part)
        view.activation_ranges = self.activation_ranges
        view._past = Past.likewise(lambda: self._past, likewise)
        if rows is not None:
            view._traced = self._traced.at_rows(rows, view.samples)
        view._calls.learn(self._calls)
        return view

    def _like(self, networks: Stacked, part: Part) -> NetworkView:
        """Networks of this architecture on samples, at the same look."""
        return NetworkView(networks, part, self._setting, epoch=self.epoch, step=self.step)

    def apart(self) -> NetworkView:
        """The same look, which shares nothing with this that is computed later."""
        view = self._on(self._samples.part, NetworkView.apart)
        view._traced = Traced(self._traced.layers_or_none, self.samples)
        view._objective.learn(self._objective)
        return view

    # -- the training -------------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe:
        """How the networks are trained, as the tracer was told."""
        return self._setting.recipe

    @property
    def traced(self) -> Mapping[str, Tensor] | None:
        """The activations; None where none are known."""
        return self._traced.layers_or_none

    @property
    def random_split(self) -> bool:
        """Whether the training samples were drawn at random from the population."""
        return self._setting.recipe.random

    @property
    def batch_size(self) -> int | None:
        """Samples in each step of the training, if known."""
        return self._setting.recipe.batch_size

    @property
    def optimizer(self) -> OptimizerState | None:
        """How the next step of the training will be made, if known."""
        optimizer = self._setting.recipe.optimizer
        return None if optimizer is None else self.networks.optimizer_state(optimizer)

    # -- outputs and loss ---------------------------------------------------------------------

    @property
    def outputs(self) -> Tensor:
        """What the networks give on the samples, ``(s, n, ...)``."""
        return self._calls.outputs

    @property
    def logits(self) -> Tensor:
        """The outputs, or what goes into a softmax or sigmoid if the networks end in one."""
        return self._calls.logits

    @property
    def decisions(self) -> Tensor:
        """The class that each network gives to each sample, ``(s, n)``, or to each label."""
        return self._objective.decisions

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: ``"nats"``, or ``"loss"`` of one that is not known by name."""
        return self._objective.unit

    @cached_property
    def losses(self) -> Tensor:
        """The loss of each sample, ``(s, n)``."""
        return self._objective.of_samples

    @cached_property
    def loss(self) -> Tensor:
        """The mean loss over the samples, ``(s,)``; see `losses`."""
        return self.losses.mean(-1)

    # -- derivatives --------------------------------------------------------------------------

    @cached_property
    def gradient(self) -> Tensors:
        """The gradient of the mean loss, ``{parameter: (s, ...)}``."""
        return self._curves.gradient()

    def hessian_product(self, vector: Mapping[str, Tensor]) -> Tensors:
        """The Hessian of the mean loss times a vector, both ``{parameter: (s, ...)}``.

        Several vectors at once are ``{parameter: (m, s, ...)}``.
        """
        return self._curves.product(vector)

    @cached_property
    def hessian(self) -> Tensor:
        """The Hessian of the mean loss, ``(s, P, P)``, parameters in order, each flattened.

        In double precision, in which eigenvalues near 0 have their sign, of networks that can be
        called in it; else in the networks' own.
        """
        if any(value.dtype != torch.float64 for value in self._calls.parameters.values()):
            try:
                view = self._in_double()
                if view._calls.first_outputs.dtype == torch.float64:
                    return view._curves.matrix()
            except Exception:  # of many types; what is no matter of precision comes again
                _log.debug("not in double precision", exc_info=True)
        return self._curves.matrix()

    def _in_double(self) -> NetworkView:
        """The same networks on the same samples, all in double precision."""
        view = self._like(self.networks.doubled(), self._samples.part)
        self._calls.see_the_end()
        view._calls.learn(self._calls)
        view._calls.take(view.networks, self._calls.parameters)
        view._calls.in_double = True
        view._objective.learn(self._objective)
        return view

    @cached_property
    def _curves(self) -> Curves:
        return derivatives.curves(self._calls, self._objective)

    @cached_property
    def sample_gradients(self) -> Tensors:
        """The gradient of each sample's loss, ``{parameter: (s, n, ...)}``."""
        return derivatives.sample_gradients(self._calls, self._objective)

    @cached_property
    def jacobian(self) -> Tensors:
        """Derivatives of the logits, ``{parameter: (s, n, k, ...)}``, k logits."""
        return derivatives.jacobian(self._calls)

    @cached_property
    def input_jacobian(self) -> Tensor:
        """Derivatives of the logits in the inputs, ``(s, n, k, ...)``."""
        return derivatives.input_jacobian(self._calls)

    @cached_property
    def link_inputs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What goes into each linear layer, ``(s, n, d)``, and the logits' derivatives in it.

        The derivatives are ``(s, n, k, d)``, along all paths; keys are the layers' names. Of a
        layer that is called c times it is ``(s, c n, d)``, call after call.
        """
        return derivatives.link_inputs(self._calls)

    @property
    def chain(self) -> tuple[Link, ...]:
        """The layers of weights in order, of networks that are a chain of modules."""
        return self.once("chain", lambda: structure.chain(self._calls))

    @cached_property
    def head(self) -> Head:
        """The last linear layer, which gives the logits, and what goes into it."""
        return structure.head(self._calls)

    # -- other networks -----------------------------------------------------------------------

    def at(
        self, parameters: Mapping[str, Tensor], networks: Sequence[int] | None = None
    ) -> NetworkView:
        """Networks with other parameters ``{name: (k, ...)}`` on the same samples.

        Args:
            parameters: The trainable ones.
            networks: Of which of these networks each of the k is a variant, by position; None: of
                each one, in order.
        """
        places = list(range(len(self.seeds)) if networks is None else networks)
        of = torch.tensor(places, device=self._samples.device)
        part = self._samples.part
        if part.rows is not None and self._samples.differ:
            part = replace(part, rows=part.rows[of.to(part.rows.device)])
        view = self._like(self.networks.variants(of, parameters), part)
        self._calls.see_the_end()  # once for all variants
        view._calls.learn(self._calls)
        view._objective.learn(self._objective)
        return view

    @property
    def twins(self) -> NetworkView | None:
        """Each network as it is when one training sample is another, if such were trained.

        They may be followed by one more, a copy of the first network with nothing replaced.
        """
        twins = self._setting.recipe.twins
        if twins is None:
            return None

        def see() -> NetworkView:
            tensors = twins.tensors()
            places = [*range(len(self.seeds)), *([0] if twins.control else [])]
            return self.at({name: tensors[name] for name in self._calls.tensors}, places)

        return self.once("twins", see)

    @property
    def replaced(self) -> tuple[NetworkView, NetworkView] | None:
        """The networks on the sample of which each twin knows nothing, and on that in its place."""
        parts = self._setting.recipe.replaced
        if parts is None:
            return None
        out, into = (self._on(part, lambda past: None) for part in parts)
        return out, into

    @property
    def initial(self) -> NetworkView:
        """The networks as they were at the first look, on the same samples."""
        return self._past.initial._as_trained(tuple(self._calls.parameters))

    @property
    def previous(self) -> NetworkView | None:
        """The networks at the lens's last look before this, on the same samples."""
        view = self._past.previous
        return None if view is None else view._as_trained(tuple(self._calls.parameters))

    def _as_trained(self, names: tuple[str, ...]) -> NetworkView:
        """The same networks as functions of the parameters of these names."""
        if names == tuple(self._calls.parameters):
            return self

        def see() -> NetworkView:
            view = self._on(self._samples.part, lambda past: None)
            view._calls.take(view.networks, names)
            view._traced = self._traced
            return view

        return self.once(("as trained", names), see)

    # -- what is kept -------------------------------------------------------------------------

    def once(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """What ``compute`` gives, computed once for this view and this key."""
        if key not in self._memory:
            self._memory[key] = compute()
        return cast("_Value", self._memory[key])

    def release(self) -> None:
        """Let go of what is large and can be computed again; what `once` keeps stays."""
        for name in _LARGE:
            vars(self).pop(name, None)
        for value in self._memory.values():
            if isinstance(value, NetworkView) and value is not self:
                value.release()
        self._calls.release()
        self._traced.release()

    def remember(self, past: Callable[[str], NetworkView | None]) -> None:
        """Say where the views of the ``initial`` and the ``previous`` look are."""
        self._past = Past(past)

    def held(self) -> NetworkView:
        """This view with tensors that no training changes: what is remembered of a look."""
        self.networks = self.networks.copied()
        self._calls.take(self.networks)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What is seen of this look, to be stored: see `of_state`."""
        return {
            **self.networks.state_dict(),
            "activations": self._traced.layers_or_none,
            "epoch": self.epoch,
            "step": self.step,
        }

    def of_state(self, state: Mapping[str, Any]) -> NetworkView:
        """The same networks on the same samples at a look whose `state_dict` this is."""
        tensors = {name: state[name] for name in self.networks.state_dict()}
        return NetworkView(
            replace(self.networks, **tensors),
            self._samples.part,
            self._setting,
            epoch=state["epoch"],
            step=state["step"],
            activations=state["activations"],
            activation_ranges=self.activation_ranges,
        )

"""What a lens sees of one network, or of several: see `ibtrace.types.View`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ibtrace.capture import derivatives
from ibtrace.capture.calls import Calls
from ibtrace.capture.chain import chain_of
from ibtrace.capture.curvature import Curves
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.objective import Objective
from ibtrace.capture.recipe import Part, optimizer_state
from ibtrace.capture.samples import Samples
from ibtrace.capture.transforms import Tensors
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import Unsupported
from ibtrace.probe import Probe
from ibtrace.types import Head, Link, OptimizerState

_Value = TypeVar("_Value")

_LARGE = (
    *("gradient", "sample_gradients", "jacobian", "hessian", "input_jacobian"),
    *("losses", "logits", "link_inputs", "head", "_curves"),
)


class NetworkView:
    """One network, or several of one architecture, at one look; see `ibtrace.types.View`.

    What needs forwards is computed by `ibtrace.capture.calls.Calls`: undisturbed, several networks
    together.

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
        self._samples = Samples(part, len(self.seeds), device)
        self._calls = Calls(networks, self._samples, self._setting)
        self._objective = Objective(self._calls)
        self._activations, self._past = activations, past
        self._activations_of: tuple[NetworkView, Tensor] | None = None
        self._memory: dict[Hashable, Any] = {}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained, ``{name: (s, ...)}``."""
        return self._calls.parameters

    @property
    def _probe(self) -> Probe:
        return self._samples.probe

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """T of each layer that is traced, ``{layer: (s, n, ...)}``.

        Raises:
            Unsupported: If the view was made without, or of samples that were not traced.
        """
        if self._activations is None and self._activations_of is not None:
            self._activations = _cut(*self._activations_of)
        if self._activations is None:
            raise Unsupported(
                "this view holds no activations: a lens says that it needs them, and only samples "
                "of the tracer's probe have any"
            )
        return self._activations

    # -- the samples --------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """n, the number of samples."""
        return self._samples.count

    @property
    def inputs(self) -> Tensor:
        """The inputs that each network sees, ``(s, n, ...)``.

        Raises:
            Unsupported: If the networks have several inputs.
        """
        return self._samples.inputs

    @property
    def labels(self) -> Tensor:
        """The labels that each network sees, ``(s, n, ...)``.

        Raises:
            Unsupported: If there are none.
        """
        return self._samples.of_each(self._samples.all_labels)

    def thinned(self, most: int, seed: int = 0) -> NetworkView:
        """The same networks on some of the samples, drawn once; all if they are no more."""
        if self.samples <= most:
            return self

        def draw() -> NetworkView:
            part, numbers = self._samples.drawn(most, seed)
            return self._on(part, lambda past: past.thinned(most, seed), numbers)

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
    def random_split(self) -> bool:
        """Whether the training samples were drawn at random from the population."""
        return self._setting.recipe.random

    # -- the training -------------------------------------------------------------------------

    @property
    def batch_size(self) -> int | None:
        """Samples in each step of the training, if known."""
        return self._setting.recipe.batch_size

    @property
    def optimizer(self) -> OptimizerState | None:
        """How the next step of the training will be made, if known.

        Raises:
            Unsupported: If its groups of parameters differ in their settings.
        """
        optimizer = self._setting.recipe.optimizer
        if optimizer is None:
            return None
        own = self.networks.own
        state = optimizer_state(optimizer, own)
        alone = {n for n, v in own.items() if v.dim() < self.networks.parameters[n].dim()}
        moments = {n: v[None] if n in alone else v for n, v in state.second_moments.items()}
        return replace(state, second_moments=moments)

    @property
    def initial(self) -> NetworkView:
        """The networks as they were at the first look, on the same samples.

        Raises:
            Unsupported: If they are not known.
        """
        past = None if self._past is None else self._past("initial")
        if past is None:
            raise Unsupported(
                "the networks at the first look are not known: after resuming, give the tracer "
                "what its state_dict() gave before, by load_state_dict"
            )
        return past

    @property
    def previous(self) -> NetworkView | None:
        """The networks at the lens's last look before this, on the same samples."""
        return None if self._past is None else self._past("previous")

    @property
    def twins(self) -> NetworkView | None:
        """Each network as it is when one training sample is another, if such were trained.

        They may be followed by one more, a copy of the first network with nothing replaced.
        """
        twins = self._setting.recipe.twins
        if twins is None:
            return None

        def see() -> NetworkView:
            if isinstance(twins.networks, nn.Module):
                own = Stacked.of_module(twins.networks)
            else:
                held = twins.networks
                own = Stacked(self.networks.template, held.named_parameters(), held.named_buffers())
            places = [*range(len(self.seeds)), *([0] if twins.control else [])]
            buffers = {**own.parameters, **own.buffers}
            seen = self.at({name: own.parameters[name] for name in self.parameters}, places)
            fixed = self._calls.fixed
            seen._calls.fixed = {name: buffers[name].detach() for name in fixed}
            return seen

        return self.once("twins", see)

    @property
    def replaced(self) -> tuple[NetworkView, NetworkView] | None:
        """The networks on the sample of which each twin knows nothing, and on that in its place."""
        recipe = self._setting.recipe
        if recipe.twins is None or recipe.data is None:
            return None
        out, into = recipe.twins.replaced.unbind(1)
        probe = recipe.data.probe
        return (
            self._on(Part(probe, out[:, None]), lambda past: None),
            self._on(Part(probe, into[:, None]), lambda past: None),
        )

    # -- outputs and loss ---------------------------------------------------------------------

    @property
    def outputs(self) -> Tensor:
        """What the networks give on the samples, ``(s, n, ...)``."""
        return self._calls.outputs

    @cached_property
    def logits(self) -> Tensor:
        """The outputs, or what goes into the last softmax if the networks end in one.

        Raises:
            Unsupported: If the outputs are probabilities that no module makes.
        """
        softmax = self._calls.softmax
        return self.outputs if softmax is None else self._calls.forward(before=softmax)

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: ``"nats"``, or ``"loss"`` of one that is not known by name."""
        return self._objective.unit

    @cached_property
    def losses(self) -> Tensor:
        """The loss of each sample, ``(s, n)``.

        Raises:
            ConfigError: If the tracer was given no loss.
        """
        _, before = self._objective.mean
        return self._objective.of_samples(self.outputs if before is None else self.logits)

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

        Args:
            vector: As `parameters` has them; several vectors at once are ``(m, s, ...)``.
        """
        return self._curves.product(vector)

    @cached_property
    def hessian(self) -> Tensor:
        """The Hessian of the mean loss, ``(s, P, P)``, parameters in order, each flattened."""
        return self._curves.matrix()

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
        """Derivatives of the logits in the inputs, ``(s, n, k, ...)``.

        Raises:
            Unsupported: If the networks have several inputs, or these are no numbers.
        """
        return derivatives.input_jacobian(self._calls)

    @cached_property
    def _curves(self) -> Curves:
        return derivatives.curves(self._calls, self._objective)

    @property
    def chain(self) -> tuple[Link, ...]:
        """The layers of weights in order, of networks that are a chain of modules.

        Raises:
            Unsupported: If they are anything else.
        """

        def read() -> tuple[Link, ...]:
            template, few = self.networks.template, self._samples.few()
            with undisturbed(template):
                return chain_of(template, self._calls.tensors, few, self._setting.forward)

        return self.once("chain", read)

    @cached_property
    def head(self) -> Head:
        """The last linear layer, which gives the logits, and what goes into it.

        Raises:
            Unsupported: If the logits are not those of a linear layer.
        """
        tensors = self._calls.tensors
        for name, module in reversed([*self.networks.template.named_modules()]):
            of = f"{name}." if name else ""
            weight, bias = tensors.get(f"{of}weight"), tensors.get(f"{of}bias")
            if not isinstance(module, nn.Linear) or weight is None:
                continue
            features = self._calls.forward(before=module)
            head = Head(features, weight, bias)
            if features.dim() == 3 and head.gives(self.logits):
                return head
        raise Unsupported("the logits are not those of a linear layer, which a head is")

    @cached_property
    def link_inputs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What goes into each linear layer, ``(s, n, d)``, and the logits' derivatives in it.

        The derivatives are ``(s, n, k, d)``; keys are the layers' names.
        """
        return derivatives.link_inputs(self._calls)

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
        variants = torch.tensor(list(range(len(self.seeds)) if networks is None else networks))
        variants = variants.to(self._samples.device)
        own = {name: value[variants] for name, value in self._calls.fixed.items()}
        names = set(self.networks.parameters)
        varied = replace(
            self.networks,
            parameters={**{n: v for n, v in own.items() if n in names}, **parameters},
            buffers={n: v for n, v in own.items() if n not in names},
            seeds=[self.seeds[at] for at in variants.tolist()],
            own={},
        )
        rows = self._samples.rows
        if rows is not None and self._samples.differ:
            rows = rows[variants.to(rows.device)]
        part = Part(self._probe, rows)
        others = NetworkView(varied, part, self._setting, epoch=self.epoch, step=self.step)
        _ = self._calls.softmax  # seen once for all variants
        others._calls.learn(self._calls)
        others._objective.learn(self._objective)
        return others

    def once(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """What ``compute`` gives, computed once for this view and this key."""
        if key not in self._memory:
            self._memory[key] = compute()
        return cast("_Value", self._memory[key])

    def remember(self, past: Callable[[str], NetworkView | None]) -> None:
        """Say where the views of the ``initial`` and the ``previous`` look are."""
        self._past = past

    def held(self) -> NetworkView:
        """This view with tensors that no training changes: what is remembered of a look."""
        self.networks = self.networks.copied()
        self._calls.take(self.networks)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What is seen of this look, to be stored: see `of_state`."""
        return {
            "parameters": {
                name: value.detach() for name, value in self.networks.parameters.items()
            },
            "buffers": {name: value.detach() for name, value in self.networks.buffers.items()},
            "activations": self._activations,
            "epoch": self.epoch,
            "step": self.step,
        }

    def of_state(self, state: Mapping[str, Any]) -> NetworkView:
        """The same networks on the same samples at a look whose `state_dict` this is."""
        held = {name: state[name] for name in ("parameters", "buffers")}
        return NetworkView(
            replace(self.networks, **held),
            self._samples.part,
            self._setting,
            epoch=state["epoch"],
            step=state["step"],
            activations=state["activations"],
            activation_ranges=self.activation_ranges,
        )

    def release(self) -> None:
        """Let go of what is large and can be computed again; what `once` keeps stays."""
        for name in _LARGE:
            vars(self).pop(name, None)
        vars(self._calls).pop("outputs", None)
        for value in self._memory.values():
            if isinstance(value, NetworkView) and value is not self:
                value.release()
        if self._activations_of is not None:
            self._activations = None

    # -- how ----------------------------------------------------------------------------------

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
        among: Tensor | None = None,
    ) -> NetworkView:
        """The same networks on other samples, as are the networks of the past.

        Args:
            part: The samples.
            likewise: Does the same to a view of the past.
            among: Which samples of this view they are, if they are some.
        """

        def past(name: str) -> NetworkView | None:
            before = None if self._past is None else self._past(name)
            return None if before is None else likewise(before)

        view = NetworkView(
            self.networks,
            part,
            self._setting,
            epoch=self.epoch,
            step=self.step,
            activation_ranges=self.activation_ranges,
            past=past,
        )
        if among is not None and (self._activations is not None or self._activations_of):
            view._activations_of = self, among
        view._calls.learn(self._calls)
        return view


def _cut(view: NetworkView, chosen: Tensor) -> Tensors:
    """T on some of a view's samples, the same for all networks ``(m,)`` or ``(s, m)``."""
    layers = view.activations.items()
    of_samples = {name: t for name, t in layers if t.shape[1] == view.samples}
    if chosen.dim() == 1:
        return {name: t[:, chosen.to(t.device)] for name, t in of_samples.items()}
    networks = torch.arange(len(chosen))[:, None]
    return {n: t[networks.to(t.device), chosen.to(t.device)] for n, t in of_samples.items()}

"""What a lens sees of one network, or of several: see `ibtrace.types.View`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ibtrace.capture.chain import chain_of
from ibtrace.capture.curvature import Curves
from ibtrace.capture.logits import Called, last_softmax
from ibtrace.capture.networks import Setting, Stacked, require_loss
from ibtrace.capture.recipe import Part, optimizer_state
from ibtrace.capture.transforms import Tensors, differentiable, each, slopes
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.numerics.losses import LOSSES, NATS
from ibtrace.probe import Inputs, Probe
from ibtrace.probe.inputs import leaves, mapped
from ibtrace.runtime.arguments import shown
from ibtrace.types import Head, Link, OptimizerState

MeanLoss = Callable[[Tensor, Tensor], Tensor]

_log = logging.getLogger("ibtrace")

_FEW = 8  # samples on which a loss is seen to be a mean
_NUMBERS = 20_000_000  # of a batch: samples by parameters by networks
_Kept = TypeVar("_Kept")
_Result = TypeVar("_Result", Tensor, Tensors)
_OfBatch = Callable[[Tensors, Inputs, Tensor], _Result]


class NetworkView:
    """One network, or several of one architecture, at one look; see `ibtrace.types.View`.

    Everything is computed in eval mode on copies of the parameters' names (`functional_call`),
    inside `undisturbed`; several networks are computed together under `vmap`.

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
        trained = dict(networks.template.named_parameters())
        held = {name: value.detach() for name, value in networks.parameters.items()}
        self.parameters = {n: value for n, value in held.items() if trained[n].requires_grad}
        self._fixed = {name: value for name, value in held.items() if name not in self.parameters}
        self._fixed |= {name: value.detach() for name, value in networks.buffers.items()}
        part = Part.of(seen)
        self._probe, self._rows = part.probe, part.rows
        self._setting = setting or Setting()
        self._activations, self._past = activations, past
        self._activations_of: tuple[NetworkView, Tensor] | None = None
        self._device = next((value.device for value in held.values()), self._probe.device)
        self._memory: dict[Hashable, Any] = {}
        self._one_by_one = False  # whether torch cannot compute them together

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
        return self._probe.n if self._rows is None else self._rows.shape[-1]

    @property
    def inputs(self) -> Tensor:
        """The inputs that each network sees, ``(s, n, ...)``.

        Raises:
            Unsupported: If the networks have several inputs.
        """
        if (names := list(self._probe.inputs)) != [""] or self._probe.undivided:
            raise Unsupported(f"this lens takes networks of one input; these have {names}")
        return self._of_each(self._probe.inputs[""].to(self._device))

    @property
    def labels(self) -> Tensor:
        """The labels that each network sees, ``(s, n, ...)``.

        Raises:
            Unsupported: If there are none.
        """
        return self._of_each(self._all_labels)

    def thinned(self, most: int, seed: int = 0) -> NetworkView:
        """The same networks on some of the samples, drawn once; all if they are no more."""
        if self.samples <= most:
            return self
        if self._probe.undivided:
            raise Unsupported("inputs that belong to all samples together cannot be thinned")

        def draw() -> NetworkView:
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(self.samples, generator=generator)[:most].sort().values
            rows = chosen if self._rows is None else self._rows[..., chosen.to(self._rows.device)]
            return self._on(Part(self._probe, rows), lambda past: past.thinned(most, seed), chosen)

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
            seen._fixed = {name: buffers[name].detach() for name in self._fixed}
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

    @cached_property
    def outputs(self) -> Tensor:
        """What the networks give on the samples, ``(s, n, ...)``."""
        return self._forward(before=None)

    @cached_property
    def logits(self) -> Tensor:
        """The outputs, or what goes into the last softmax if the networks end in one.

        Raises:
            Unsupported: If the outputs are probabilities that no module makes.
        """
        return self.outputs if self._softmax is None else self._forward(before=self._softmax)

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: ``"nats"``, or ``"loss"`` of one that is not known by name."""
        return "nats" if self._setting.loss in NATS else "loss"

    @cached_property
    def losses(self) -> Tensor:
        """The loss of each sample, ``(s, n)``.

        Raises:
            ConfigError: If the tracer was given no loss.
        """
        mean, before = self._mean_loss
        given = self.outputs if before is None else self.logits
        targets = self._of_each(self._targets)

        def of_sample(output: Tensor, y: Tensor) -> Tensor:
            return mean(output[None], y[None])

        def losses(one_by_one: bool) -> Tensor:
            pairs = zip(given, targets, strict=True)
            return torch.stack(
                [each(of_sample, (0, 0), *pair, one_by_one=one_by_one) for pair in pairs]
            )

        with torch.no_grad():
            return self._together_if_possible(losses)

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
        mean, before = self._mean_loss

        def loss(at: Tensors, tensors: Tensors, rows: Tensors, y: Tensor) -> Tensor:
            return mean(self._call(self._single(rows), {**tensors, **at}, before), y[None])

        return self._of_samples(loss, number=True, labelled=True)

    @cached_property
    def jacobian(self) -> Tensors:
        """Derivatives of the logits, ``{parameter: (s, n, k, ...)}``, k logits."""
        before = self._softmax

        def logits(at: Tensors, tensors: Tensors, rows: Tensors, _: Tensor) -> Tensor:
            return self._call(self._single(rows), {**tensors, **at}, before).flatten()

        return self._of_samples(logits)

    @cached_property
    def input_jacobian(self) -> Tensor:
        """Derivatives of the logits in the inputs, ``(s, n, k, ...)``.

        Raises:
            Unsupported: If the networks have several inputs, or these are no numbers.
        """
        if not self.inputs.is_floating_point():
            raise Unsupported("inputs that are whole numbers have no derivatives")
        before = self._softmax

        def logits(at: Tensors, tensors: Tensors, _rows: Tensors, _: Tensor) -> Tensor:
            return self._call(self._single(at), tensors, before).flatten()

        return self._of_samples(logits, of_inputs=True)[""]

    @property
    def chain(self) -> tuple[Link, ...]:
        """The layers of weights in order, of networks that are a chain of modules.

        Raises:
            Unsupported: If they are anything else.
        """

        def read() -> tuple[Link, ...]:
            template, tensors = self.networks.template, {**self.parameters, **self._fixed}
            with undisturbed(template):
                return chain_of(template, tensors, self._few(), self._setting.forward)

        return self.once("chain", read)

    @cached_property
    def head(self) -> Head:
        """The last linear layer, which gives the logits, and what goes into it.

        Raises:
            Unsupported: If the logits are not those of a linear layer.
        """
        tensors = {**self.parameters, **self._fixed}
        for name, module in reversed([*self.networks.template.named_modules()]):
            of = f"{name}." if name else ""
            weight, bias = tensors.get(f"{of}weight"), tensors.get(f"{of}bias")
            if not isinstance(module, nn.Linear) or weight is None:
                continue
            features = self._forward(before=module)
            head = Head(features, weight, bias)
            if features.dim() == 3 and head.gives(self.logits):
                return head
        raise Unsupported("the logits are not those of a linear layer, which a head is")

    @cached_property
    def link_inputs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What goes into each linear layer, ``(s, n, d)``, and the logits' derivatives in it.

        The derivatives are ``(s, n, k, d)``; keys are the layers' names.
        """
        names = {
            name: module
            for name, module in self.networks.template.named_modules()
            if isinstance(module, nn.Linear)
        }
        seen = [self._link_inputs_of(at, names) for at in range(len(self.seeds))]
        return {
            name: (
                torch.stack([one[name][0] for one in seen]),
                torch.stack([one[name][1] for one in seen]),
            )
            for name in seen[0]
        }

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
        chosen = torch.tensor(list(range(len(self.seeds)) if networks is None else networks))
        chosen = chosen.to(self._device)
        own = {name: value[chosen] for name, value in self._fixed.items()}
        names = set(self.networks.parameters)
        varied = replace(
            self.networks,
            parameters={**{n: v for n, v in own.items() if n in names}, **parameters},
            buffers={n: v for n, v in own.items() if n not in names},
            seeds=[self.seeds[at] for at in chosen.tolist()],
            own={},
        )
        rows = self._rows
        rows = rows[chosen.to(rows.device)] if rows is not None and rows.dim() == 2 else rows
        made = NetworkView(
            varied, Part(self._probe, rows), self._setting, epoch=self.epoch, step=self.step
        )
        vars(made)["_softmax"] = self._softmax
        made._one_by_one = self._one_by_one
        if "loss" in self._memory:
            made._memory["loss"] = self._memory["loss"]
        return made

    def once(self, key: Hashable, compute: Callable[[], _Kept]) -> _Kept:
        """What ``compute`` gives, computed once for this view and this key."""
        if key not in self._memory:
            self._memory[key] = compute()
        return cast("_Kept", self._memory[key])

    def remember(self, past: Callable[[str], NetworkView | None]) -> None:
        """Say where the views of the ``initial`` and the ``previous`` look are."""
        self._past = past

    def held(self) -> NetworkView:
        """This view with tensors that no training changes: what is remembered of a look."""
        self.networks = self.networks.copied()
        names = self.parameters
        self.parameters = {name: self.networks.parameters[name] for name in names}
        copies = {**self.networks.parameters, **self.networks.buffers}
        self._fixed = {name: copies[name] for name in self._fixed}
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
            Part(self._probe, self._rows),
            self._setting,
            epoch=state["epoch"],
            step=state["step"],
            activations=state["activations"],
            activation_ranges=self.activation_ranges,
        )

    def release(self) -> None:
        """Let go of what is large and can be computed again; what `once` keeps stays."""
        for name in ("outputs", "losses", "gradient", "sample_gradients", "jacobian", "hessian"):
            vars(self).pop(name, None)
        for name in ("logits", "input_jacobian", "link_inputs", "head", "_curves"):
            vars(self).pop(name, None)
        for value in self._memory.values():
            if isinstance(value, NetworkView) and value is not self:
                value.release()
        if self._activations_of is not None:
            self._activations = None

    # -- how ----------------------------------------------------------------------------------

    @cached_property
    def _softmax(self) -> nn.Module | None:
        """The softmax that the networks end in."""
        template = self.networks.template
        with undisturbed(template):
            return last_softmax(template, self._few(), self._setting.forward)

    @property
    def _mean_loss(self) -> tuple[MeanLoss, nn.Module | None]:
        """The mean loss over samples, and the softmax before which its argument is taken.

        The log-likelihood of a softmax's probabilities is the cross-entropy of its logits, where
        no probability underflows.

        Raises:
            ConfigError: If the loss is not known.
        """
        loss = self._setting.loss
        if loss is None:
            raise ConfigError(
                'the loss is not known: give the tracer loss="cross_entropy" or another'
            )
        if callable(loss):
            return self.once("loss", lambda: self._mean_of_samples(loss)), None
        require_loss(loss)
        if loss == "nll" and isinstance(self._softmax_or_none, nn.Softmax):
            return LOSSES["cross_entropy"], self._softmax_or_none
        return LOSSES[loss], None

    @property
    def _softmax_or_none(self) -> nn.Module | None:
        try:
            return self._softmax
        except Unsupported:
            return None

    def _mean_of_samples(self, loss: Callable[[Tensor, Tensor], Tensor]) -> MeanLoss:
        """The user's loss, if it is the mean over the samples of what each alone costs.

        Raises:
            ConfigError: If it is not: a sum, a contrast of samples, shapes that broadcast.
        """
        few = [every[0][:_FEW] for every in (self._first_outputs, self._of_each(self._targets))]
        alone = [loss(*(part[at : at + 1] for part in few)) for at in range(len(few[0]))]
        mean, together = torch.stack([value.mean() for value in alone]).mean(), loss(*few)
        if together.dim() or not torch.allclose(together, mean, 1e-3, 1e-6, equal_nan=True):
            outputs, labels = (tuple(part.shape) for part in few)
            got = shown(together.item()) if not together.dim() else f"shape {tuple(together.shape)}"
            raise ConfigError(
                f"loss: of outputs {outputs} and labels {labels} together it gives {got}, and the "
                f"mean of what each sample alone gives is {mean.item():.6g}; it must be the mean "
                "over the samples (labels are given as the probe was given them)"
            )
        return loss

    @property
    def _all_labels(self) -> Tensor:
        self._require_labels()
        return self._probe.labels.to(self._device)

    @cached_property
    def _targets(self) -> Tensor:
        """The labels of all samples as the loss takes them, ``(all, ...)``.

        A function of the user's is given what the probe was given; a loss of classes takes their
        ids, and the squared error numbers, one for each output, or classes for one-hot rows.
        """
        self._require_labels()
        given = self._probe.targets.to(self._device)
        if callable(self._setting.loss):
            return given
        labels, outputs = self._all_labels, self._first_outputs.shape[2:]
        if self._setting.loss != "mse":
            return labels
        if given.shape[1:].numel() == outputs.numel():
            return given.reshape(len(given), *outputs)
        rows = labels.dim() == 1 and int(labels.max()) < outputs.numel()
        return (
            nn.functional.one_hot(labels, outputs.numel()) if rows else labels.view(len(labels), -1)
        )

    def _require_labels(self) -> None:
        if not self._probe.labelled:
            raise Unsupported("the probe has no labels, of which a loss could be taken")

    def _of_each(self, values: Tensor) -> Tensor:
        """Values of all samples ``(all, ...)`` as each network sees them, ``(s, n, ...)``."""
        chosen = values if self._rows is None else values[self._rows.to(values.device)]
        if self._rows is not None and self._rows.dim() == 2:
            return chosen
        return chosen.expand(len(self.seeds), *chosen.shape)

    def _on_part(
        self, name: str, likewise: Callable[[NetworkView], NetworkView | None]
    ) -> NetworkView | None:
        part: Part | None = getattr(self._setting.recipe, name)
        if part is None:
            return None
        return self.once(name, lambda: self._on(part, likewise, self._places(part)))

    def _places(self, part: Part) -> Tensor | None:
        """Where the samples of a part stand among this view's, if they are among them."""
        if self._rows is not None or not part.probe.same_samples(self._probe):
            return None
        return torch.arange(part.probe.n) if part.rows is None else part.rows

    def _on(
        self,
        part: Part,
        likewise: Callable[[NetworkView], NetworkView | None],
        chosen: Tensor | None = None,
    ) -> NetworkView:
        """The same networks on other samples, as are the networks of the past."""

        def past(name: str) -> NetworkView | None:
            before = None if self._past is None else self._past(name)
            return None if before is None else likewise(before)

        made = NetworkView(
            self.networks,
            part,
            self._setting,
            epoch=self.epoch,
            step=self.step,
            activation_ranges=self.activation_ranges,
            past=past,
        )
        if chosen is not None and (self._activations is not None or self._activations_of):
            made._activations_of = self, chosen
        if "_softmax" in vars(self):
            vars(made)["_softmax"] = self._softmax
        made._one_by_one = self._one_by_one
        return made

    def _few(self) -> Inputs:
        rows = slice(None) if self._probe.undivided else slice(2)
        return self._probe.batch(rows, self._device)

    def _call(self, batch: Inputs, tensors: Tensors, before: nn.Module | None) -> Tensor:
        """The output of a network with these tensors in place of its own."""
        # clones: a module that writes to its buffers even in eval mode must not reach ours
        own = {n: v.clone() if n in self._fixed else v for n, v in tensors.items()}
        named = {f"network.{name}": value for name, value in own.items()}
        called = Called(self.networks.template, self._setting.forward, before)
        output: Tensor = functional_call(called, named, (batch,))
        return output

    @property
    def _first_outputs(self) -> Tensor:
        """The outputs of the first samples, a few at least: all that are known already."""
        if "outputs" in vars(self):
            return self.outputs
        return self.once("first outputs", lambda: self._forward(before=None, most=_FEW))

    def _forward(self, before: nn.Module | None, most: int | None = None) -> Tensor:
        """The outputs of all samples, ``(s, n, ...)``, or of the first if they can be parted."""

        def outputs(tensors: Tensors, batch: Inputs, _: Tensor) -> Tensor:
            return self._call(batch, tensors, before)

        given = {**self.parameters, **self._fixed}

        def forward(one_by_one: bool) -> Tensor:
            size = self._setting.batch_size if most is None else most
            batches = [*self._batches(size)][: None if most is None else 1]
            parts = [self._each(outputs, given, rows, one_by_one) for rows in batches]
            return torch.cat(parts, dim=1)

        return self._computed(forward)

    def _computed(self, compute: Callable[[bool], _Kept]) -> _Kept:
        """``compute(one_by_one)`` of what calls the networks, undisturbed; see below."""
        template = self.networks.template

        def undisturbed_compute(one_by_one: bool) -> _Kept:
            with undisturbed(template), differentiable(template):
                return compute(one_by_one)

        return self._together_if_possible(undisturbed_compute)

    def _together_if_possible(self, compute: Callable[[bool], _Kept]) -> _Kept:
        """``compute(one_by_one)``: together, or where torch cannot, one by one.

        What it cannot it cannot of other samples and other weights either: views that are made of
        this one from then on do not try.
        """
        if not self._one_by_one:
            try:
                return compute(False)
            except Exception:  # of many types; what is the user's own comes again
                _log.debug("not together", exc_info=True)
        made = compute(True)
        self._one_by_one = True
        return made

    @cached_property
    def _curves(self) -> Curves:
        """The mean loss as a function of the parameters, batch by batch."""
        mean, before = self._mean_loss
        networks = len(self.seeds)
        count = sum(v[0].numel() for v in self.parameters.values())
        size = max(self._setting.batch_size, _NUMBERS // max(1, count * networks))

        def of_batch(tensors: Tensors, batch: Inputs, y: Tensor) -> Tensor:
            return mean(self._call(batch, tensors, before), y)

        def mean_loss(parameters: Tensors, rows: slice, one_by_one: bool) -> Tensor:
            share = (rows.stop - rows.start) / self.samples
            given = {**parameters, **self._fixed}
            loss: Tensor = share * self._each(of_batch, given, rows, one_by_one, labelled=True)
            return loss

        return Curves(
            self.parameters,
            mean_loss,
            list(self._batches(size)),
            self._computed,
            keeps=count * networks * self.samples <= 10 * _NUMBERS,
        )

    def _batches(self, size: int) -> Iterator[slice]:
        size = self.samples if self._probe.undivided else size
        for start in range(0, self.samples, size):
            yield slice(start, min(start + size, self.samples))

    def _each(
        self,
        what: _OfBatch[_Result],
        tensors: Tensors,
        rows: slice,
        one_by_one: bool,
        *,
        labelled: bool = False,
    ) -> _Result:
        """``what(tensors, batch, labels)`` of each network, the results with the networks first.

        The labels are those that the loss takes, None unless ``labelled``.
        """
        several = self._rows is not None and self._rows.dim() == 2
        if self._rows is None:
            at: slice | Tensor = rows
        else:
            at = self._rows[..., rows].to(self._probe.device)
        batch = self._probe.batch(at, self._device)
        where = at.to(self._device) if isinstance(at, Tensor) else at
        y = self._targets[where] if labelled else None
        cut = {name: v for name, v in _leaves_of(batch).items() if name in self._probe.inputs}

        def of_one(own: Tensors, parts: Tensors, labels: Tensor | None) -> _Result:
            whole = mapped(batch, lambda name, value: parts.get(name, value))
            return what(own, whole, cast("Tensor", labels))

        if len(self.seeds) > 1:
            dims = (0, 0, 0 if labelled else None) if several else (0, None, None)
            together: _Result = each(of_one, dims, tensors, cut, y, one_by_one=one_by_one)
            return together
        first = {name: value[0] for name, value in tensors.items()}
        if several:
            cut = {name: value[0] for name, value in cut.items()}
            y = None if y is None else y[0]
        alone = of_one(first, cut, y)
        if isinstance(alone, Tensor):
            return alone[None]
        return {name: value[None] for name, value in alone.items()}

    def _of_samples(
        self,
        value: Callable[[Tensors, Tensors, Tensors, Tensor], Tensor],
        *,
        number: bool = False,
        labelled: bool = False,
        of_inputs: bool = False,
    ) -> Tensors:
        """Derivatives of ``value(at, tensors, one sample's inputs, its label)`` of all samples.

        Args:
            value: One number, or ``(k,)``.
            number: Whether it is one.
            labelled: Whether it takes the label.
            of_inputs: In the inputs, not in the parameters.

        Raises:
            Unsupported: If some inputs belong to all samples.
        """
        if self._probe.undivided:
            raise Unsupported("inputs that belong to all samples have no gradient of one sample")
        given = {**self.parameters, **self._fixed}

        def computed(one_by_one: bool) -> Tensors:
            def of_sample(tensors: Tensors, rows: Tensors, y: Tensor) -> Tensors:
                at = rows if of_inputs else {name: tensors[name] for name in self.parameters}
                return slopes(
                    lambda at: value(at, tensors, rows, y),
                    at,
                    number=number,
                    one_by_one=one_by_one,
                )

            def of_batch(tensors: Tensors, batch: Inputs, y: Tensor) -> Tensors:
                cut = {n: v for n, v in _leaves_of(batch).items() if n in self._probe.inputs}
                dims = (None, 0, None if y is None else 0)
                return each(of_sample, dims, tensors, cut, y, one_by_one=one_by_one)

            parts = [
                self._each(of_batch, given, rows, one_by_one, labelled=labelled)
                for rows in self._batches(self._setting.batch_size)
            ]
            return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}

        return self._computed(computed)

    def _single(self, rows: Tensors) -> Inputs:
        """One sample's inputs as a batch."""
        return mapped(self._probe.x, lambda name, v: rows[name][None] if name in rows else v)

    def _link_inputs_of(
        self, at: int, modules: Mapping[str, nn.Module]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """`link_inputs` of one network, ``(n, d)`` and ``(n, k, d)``."""
        tensors = {n: v[at].clone() for n, v in {**self.parameters, **self._fixed}.items()}
        x = self.inputs[at].clone()
        given: dict[str, Tensor] = {}
        before, handles = self._softmax, []
        try:
            for name, module in modules.items():

                def note(_: nn.Module, args: tuple[Any, ...], name: str = name) -> Any:
                    h = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
                    given.setdefault(name, h)
                    return h, *args[1:]

                handles.append(module.register_forward_pre_hook(note))
            template = self.networks.template
            with undisturbed(template), differentiable(template), torch.enable_grad():
                logits = self._call(self._probe_like(x), tensors, before).flatten(1)
        finally:
            for handle in handles:
                handle.remove()
        if not given:
            raise Unsupported("no linear layer is called as a module, so none has inputs to see")
        found = [
            torch.autograd.grad(logit.sum(), [*given.values()], retain_graph=True)
            for logit in logits.unbind(1)
        ]
        bent = [torch.stack(parts, dim=1) for parts in zip(*found, strict=True)]
        flat = [h for h in given.values() if h.dim() == 2]
        if len(flat) < len(given):
            raise Unsupported("linear layers of several positions have no one input a sample")
        return {
            name: (h.detach(), slope) for (name, h), slope in zip(given.items(), bent, strict=True)
        }

    def _probe_like(self, x: Tensor) -> Inputs:
        return cast("Tensor", mapped(self._probe.x, lambda name, value: x))


def _cut(view: NetworkView, chosen: Tensor) -> Tensors:
    """T on some of a view's samples, the same for all networks ``(m,)`` or ``(s, m)``."""
    layers = view.activations.items()
    of_samples = {name: t for name, t in layers if t.shape[1] == view.samples}
    if chosen.dim() == 1:
        return {name: t[:, chosen.to(t.device)] for name, t in of_samples.items()}
    networks = torch.arange(len(chosen))[:, None]
    return {n: t[networks.to(t.device), chosen.to(t.device)] for n, t in of_samples.items()}


def _leaves_of(batch: Inputs) -> Tensors:

    return {name: value for name, value in leaves(batch) if isinstance(value, Tensor)}

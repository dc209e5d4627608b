"""What a lens sees of one network, or of several: see `ibtrace.types.View`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from ibtrace.capture.calling import Forward, call
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.numerics.losses import LOSSES
from ibtrace.probe import Inputs, Probe
from ibtrace.probe.inputs import mapped

Tensors = dict[str, Tensor]
Loss = str | Callable[[Tensor, Tensor], Tensor]
"""A name of `ibtrace.numerics.losses.LOSSES`, or a function of outputs ``(n, ...)`` and labels
``(n, ...)`` to the mean over the samples."""

_NATS = ("cross_entropy", "nll")
_Result = TypeVar("_Result", Tensor, Tensors)


class NetworkView:
    """One network, or several of one architecture, at one look; see `ibtrace.types.View`.

    Everything is computed in eval mode on copies of the parameters' names (`functional_call`),
    inside `undisturbed`; several networks are computed together under `vmap`.

    Args:
        template: The network, or one of the structure of all.
        parameters: ``{name: (s, ...)}``, stacked over networks.
        buffers: Likewise.
        probe: What they are seen on.
        seeds: The seed of each.
        epoch: Epochs of training done.
        step: Optimiser steps done, if known.
        loss: What they were trained on; None: what needs a loss is refused.
        forward: See `ibtrace.capture.call`.
        batch_size: Samples per forward.
        activations: T of each layer, ``{layer: (s, n, ...)}``; None: refused.
        activation_ranges: The closed range of each layer.
    """

    def __init__(
        self,
        template: nn.Module,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        probe: Probe,
        *,
        seeds: Sequence[int],
        epoch: int,
        step: int | None = None,
        loss: Loss | None = None,
        forward: Forward | None = None,
        batch_size: int = 512,
        activations: Mapping[str, Tensor] | None = None,
        activation_ranges: Mapping[str, tuple[float, float] | None] | None = None,
    ) -> None:
        self.seeds, self.epoch, self.step = tuple(seeds), epoch, step
        self.activation_ranges = dict(activation_ranges or {})
        trained = dict(template.named_parameters())
        held = {name: value.detach() for name, value in parameters.items()}
        self.parameters = {n: value for n, value in held.items() if trained[n].requires_grad}
        self._fixed = {name: value for name, value in held.items() if name not in self.parameters}
        self._fixed |= {name: value.detach() for name, value in buffers.items()}
        self._network = _Caller(template, forward)
        self._probe, self._batch_size = probe, batch_size
        self._loss, self._activations = loss, activations
        self._device = next((value.device for value in held.values()), probe.device)

    @classmethod
    def of_module(cls, model: nn.Module, probe: Probe, **arguments: Any) -> NetworkView:
        """The view of one network; see the class for the arguments."""
        parameters = {name: value.detach()[None] for name, value in model.named_parameters()}
        buffers = {name: value.detach()[None] for name, value in model.named_buffers()}
        return cls(model, parameters, buffers, probe, **{"seeds": (0,), "epoch": 0, **arguments})

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """T of each layer that is traced, ``{layer: (s, n, ...)}``.

        Raises:
            Unsupported: If the view was made without.
        """
        if self._activations is None:
            raise Unsupported("this view holds no activations; a lens says so by its tags' needs")
        return self._activations

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: ``"nats"``, or ``"loss"`` of one that is not known by name."""
        return "nats" if self._loss in _NATS else "loss"

    @cached_property
    def outputs(self) -> Tensor:
        """What the networks give on the probe, ``(s, n, ...)``."""
        with undisturbed(self._network.network):
            parts = [self._each(partial(self._call, batch)) for batch, _ in self._batches()]
        return torch.cat(parts, dim=1)

    @cached_property
    def losses(self) -> Tensor:
        """The loss of each sample of the probe, ``(s, n)``.

        Raises:
            ConfigError: If the tracer was given no loss.
        """
        mean, labels = self._mean_loss, self._labels
        of_samples = vmap(lambda output, y: mean(output[None], y[None]))
        return torch.stack([of_samples(outputs, labels) for outputs in self.outputs])

    @cached_property
    def loss(self) -> Tensor:
        """The mean loss over the probe, ``(s,)``; see `losses`."""
        return self.losses.mean(-1)

    @cached_property
    def gradient(self) -> Tensors:
        """The gradient of the mean loss, ``{parameter: (s, ...)}``."""
        return self._summed(lambda loss, parameters: grad(loss)(parameters))

    def hessian_product(self, vector: Mapping[str, Tensor]) -> Tensors:
        """The Hessian of the mean loss times a vector, both ``{parameter: (s, ...)}``.

        Args:
            vector: As `parameters` has them.
        """

        def product(loss: Callable[[Tensors], Tensor], given: Tensors) -> Tensors:
            parameters, along = _apart(given)

            def slope(at: Tensors) -> Tensor:
                gradient = grad(loss)(at)
                return torch.stack([(gradient[n] * along[n]).sum() for n in along]).sum()

            return cast("Tensors", grad(slope)(parameters))

        return self._summed(product, {f"{_ALONG}{name}": vector[name] for name in self.parameters})

    @cached_property
    def sample_gradients(self) -> Tensors:
        """The gradient of each sample's loss, ``{parameter: (s, n, ...)}``."""
        mean = self._mean_loss

        def of_sample(parameters: Tensors, rows: Tensors, y: Tensor) -> Tensors:
            def loss(at: Tensors) -> Tensor:
                return mean(self._call(self._one(rows), {**parameters, **at}), y[None])

            slopes: Tensors = grad(loss)(self._trained(parameters))
            return slopes

        return self._of_samples(of_sample)

    @cached_property
    def jacobian(self) -> Tensors:
        """Derivatives of the outputs, ``{parameter: (s, n, k, ...)}``, k output units."""

        def of_sample(parameters: Tensors, rows: Tensors, _: Tensor) -> Tensors:
            def output(at: Tensors) -> Tensor:
                return self._call(self._one(rows), {**parameters, **at}).flatten()

            slopes: Tensors = jacrev(output)(self._trained(parameters))
            return slopes

        return self._of_samples(of_sample)

    @property
    def _mean_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        if self._loss is None:
            raise ConfigError(
                'the loss is not known: give the tracer loss="cross_entropy" or another'
            )
        if callable(self._loss):
            return self._loss
        if self._loss not in LOSSES:
            known = ", ".join(LOSSES)
            raise ConfigError(f"loss: {self._loss!r} is none of {known}; give one, or a function")
        return LOSSES[self._loss]

    @property
    def _labels(self) -> Tensor:
        if not self._probe.labelled:
            raise Unsupported("the probe has no labels, of which a loss could be taken")
        return self._probe.labels.to(self._device)

    def _trained(self, parameters: Tensors) -> Tensors:
        return {name: parameters[name] for name in self.parameters}

    def _call(self, batch: Inputs, parameters: Tensors) -> Tensor:
        """The output of a network with these tensors in place of its own."""
        # clones: a module that writes to its buffers even in eval mode must not reach ours
        own = {n: v.clone() if n in self._fixed else v for n, v in parameters.items()}
        named = {f"network.{name}": value for name, value in own.items()}
        return _tensor(functional_call(self._network, named, (batch,)))

    def _batches(self) -> Iterator[tuple[Inputs, slice]]:
        size = self._probe.n if self._probe.whole else self._batch_size
        for start in range(0, self._probe.n, size):
            rows = slice(start, min(start + size, self._probe.n))
            yield self._probe.batch(rows, self._device), rows

    def _each(
        self, what: Callable[[Tensors], _Result], more: Mapping[str, Tensor] | None = None
    ) -> _Result:
        """``what(tensors)`` for each network, the results with the networks first."""
        given = {**self.parameters, **self._fixed, **(more or {})}
        if len(self.seeds) > 1:
            together: _Result = vmap(what, randomness="same")(given)
            return together
        alone = what({name: value[0] for name, value in given.items()})
        if isinstance(alone, Tensor):
            return alone[None]
        return {name: value[None] for name, value in alone.items()}

    def _summed(
        self,
        what: Callable[[Callable[[Tensors], Tensor], Tensors], Tensors],
        more: Mapping[str, Tensor] | None = None,
    ) -> Tensors:
        """What is linear in the loss, summed over batches, each by its share of the samples."""
        mean, labels = self._mean_loss, self._labels
        total: Tensors = {}
        with undisturbed(self._network.network):
            for batch, rows in self._batches():
                share, y = (rows.stop - rows.start) / self._probe.n, labels[rows]

                def part(given: Tensors, batch: Inputs = batch, y: Tensor = y) -> Tensors:
                    def loss(at: Tensors) -> Tensor:
                        return mean(self._call(batch, {**_apart(given)[0], **at}), y)

                    along = {n: value for n, value in given.items() if n.startswith(_ALONG)}
                    return what(loss, {**self._trained(given), **along})

                for name, value in self._each(part, more).items():
                    total[name] = total.get(name, torch.zeros_like(value)) + share * value
        return total

    def _of_samples(self, what: Callable[[Tensors, Tensors, Tensor], Tensors]) -> Tensors:
        """``what(tensors, one sample's inputs, its label)`` for all samples and networks."""
        if self._probe.whole:
            raise Unsupported("inputs that belong to all samples have no gradient of one sample")
        parts: list[Tensors] = []
        labels = self._probe.labels.to(self._device)
        inputs = {name: value.to(self._device) for name, value in self._probe.inputs.items()}
        with undisturbed(self._network.network):
            for start in range(0, self._probe.n, self._batch_size):
                rows = slice(start, start + self._batch_size)
                cut, y = {name: value[rows] for name, value in inputs.items()}, labels[rows]

                def part(given: Tensors, cut: Tensors = cut, y: Tensor = y) -> Tensors:
                    found: Tensors = vmap(what, in_dims=(None, 0, 0), randomness="same")(
                        given, cut, y
                    )
                    return found

                parts.append(self._each(part))
        return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}

    def _one(self, rows: Tensors) -> Inputs:
        """One sample's inputs as a batch."""
        return mapped(self._probe.x, lambda name, v: rows[name][None] if name in rows else v)


_ALONG = "along:"


def _apart(given: Tensors) -> tuple[Tensors, Tensors]:
    """Parameters, and the vector that came along under marked names."""
    along = {n.removeprefix(_ALONG): value for n, value in given.items() if n.startswith(_ALONG)}
    return {n: value for n, value in given.items() if not n.startswith(_ALONG)}, along


class _Caller(nn.Module):
    """Calls a network as the tracer does, with tensors that `functional_call` replaces."""

    def __init__(self, network: nn.Module, forward: Forward | None) -> None:
        super().__init__()
        self.network, self._forward = network, forward

    def forward(self, batch: Inputs) -> Any:
        """The network's output."""
        return call(self.network, batch, self._forward)


def _tensor(output: Any) -> Tensor:
    """The tensor among what a network gives: itself, its ``logits``, or the first of several."""
    if isinstance(output, Tensor):
        return output
    logits = (
        output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    )
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise Unsupported(
        f"the network gives a {type(output).__name__}, of which a lens cannot tell the output; "
        "give the tracer forward=lambda model, batch: … that returns one tensor"
    )

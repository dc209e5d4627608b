"""Derivatives of what networks give: of losses and logits, in parameters, inputs and layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.capture.calls import Calls
from ibtrace.capture.curvature import Curves
from ibtrace.capture.objective import Objective
from ibtrace.capture.transforms import Tensors, differentiable, each, slopes
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import Unsupported
from ibtrace.probe import Inputs

_NUMBERS = 20_000_000  # of a batch: samples by parameters by networks


def curves(calls: Calls, objective: Objective) -> Curves:
    """The mean loss as a function of the parameters, batch by batch."""
    mean, before = objective.mean
    networks, samples = calls.samples.networks, calls.samples.count
    count = sum(v[0].numel() for v in calls.trained.values())
    size = max(calls.setting.batch_size, _NUMBERS // max(1, count * networks))

    def of_batch(tensors: Tensors, batch: Inputs, y: Tensor) -> Tensor:
        return mean(calls.call(batch, tensors, before), y)

    def mean_loss(parameters: Tensors, part: slice, one_by_one: bool) -> Tensor:
        share = (part.stop - part.start) / samples
        tensors = {**parameters, **calls.fixed}
        loss: Tensor = share * calls.of_part(of_batch, tensors, part, one_by_one, objective.targets)
        return loss

    return Curves(
        calls.parameters,
        mean_loss,
        list(calls.samples.batches(size)),
        calls.computed,
        keeps=count * networks * samples <= 10 * _NUMBERS,
    )


def sample_gradients(calls: Calls, objective: Objective) -> Tensors:
    """The gradient of each sample's loss, ``{parameter: (s, n, ...)}``."""
    mean, before = objective.mean

    def loss(at: Tensors, tensors: Tensors, inputs: Tensors, y: Tensor) -> Tensor:
        batch = calls.samples.single(inputs)
        return mean(calls.call(batch, {**tensors, **at}, before), y[None])

    return _of_samples(calls, loss, number=True, targets=objective.targets)


def jacobian(calls: Calls) -> Tensors:
    """Derivatives of the logits, ``{parameter: (s, n, k, ...)}``, k logits."""
    before = calls.squash

    def logits(at: Tensors, tensors: Tensors, inputs: Tensors, _: Tensor) -> Tensor:
        return calls.call(calls.samples.single(inputs), {**tensors, **at}, before).flatten()

    return _of_samples(calls, logits)


def input_jacobian(calls: Calls) -> Tensor:
    """Derivatives of the logits in the inputs, ``(s, n, k, ...)``.

    Raises:
        Unsupported: If the networks have several inputs, or these are no numbers.
    """
    if not calls.samples.inputs.is_floating_point():
        raise Unsupported("inputs that are whole numbers have no derivatives")
    before = calls.squash

    def logits(at: Tensors, tensors: Tensors, _inputs: Tensors, _: Tensor) -> Tensor:
        return calls.call(calls.samples.single(at), tensors, before).flatten()

    return _of_samples(calls, logits, of_inputs=True)[""]


def _of_samples(
    calls: Calls,
    value: Callable[[Tensors, Tensors, Tensors, Tensor], Tensor],
    *,
    number: bool = False,
    targets: Tensor | None = None,
    of_inputs: bool = False,
) -> Tensors:
    """Derivatives of ``value(at, tensors, one sample's inputs, its label)`` of all samples.

    Args:
        calls: The networks.
        value: One number, or ``(k,)``.
        number: Whether it is one.
        targets: The labels of all samples, if it takes them.
        of_inputs: In the inputs, not in the parameters.

    Raises:
        Unsupported: If some inputs belong to all samples.
    """
    samples = calls.samples
    if samples.probe.undivided:
        raise Unsupported("inputs that belong to all samples have no gradient of one sample")

    def computed(one_by_one: bool) -> Tensors:
        def of_sample(tensors: Tensors, inputs: Tensors, y: Tensor) -> Tensors:
            at = inputs if of_inputs else {name: tensors[name] for name in calls.trained}
            return slopes(
                lambda at: value(at, tensors, inputs, y),
                at,
                number=number,
                one_by_one=one_by_one,
            )

        def of_batch(tensors: Tensors, batch: Inputs, y: Tensor) -> Tensors:
            dims = (None, 0, None if y is None else 0)
            return each(of_sample, dims, tensors, samples.cut(batch), y, one_by_one=one_by_one)

        parts = [
            calls.of_part(of_batch, calls.tensors, rows, one_by_one, targets)
            for rows in samples.batches(calls.setting.batch_size)
        ]
        return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}

    return calls.computed(computed)


def link_inputs(calls: Calls) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into each linear layer, ``(s, n, d)``, and the logits' derivatives in it.

    The derivatives are ``(s, n, k, d)``, along all paths; keys are the layers' names. Of a layer
    that is called c times it is ``(s, c n, d)``, call after call.

    Raises:
        Unsupported: If no linear layer is called as a module, or one has several positions.
    """
    linear = {n: m for n, m in calls.template.named_modules() if isinstance(m, nn.Linear)}
    networks = [_link_inputs_of(calls, at, linear) for at in range(calls.samples.networks)]
    return {
        name: (
            torch.stack([of_layers[name][0] for of_layers in networks]),
            torch.stack([of_layers[name][1] for of_layers in networks]),
        )
        for name in networks[0]
    }


def _link_inputs_of(
    calls: Calls, at: int, linear: Mapping[str, nn.Module]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The same of one network, ``(n, d)`` and ``(n, k, d)``."""
    inputs: dict[str, list[Tensor]] = {}
    before, handles = calls.squash, []
    try:
        for name, module in linear.items():

            def note(_: nn.Module, args: tuple[Any, ...], name: str = name) -> Any:
                h = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
                inputs.setdefault(name, []).append(h)
                return h, *args[1:]

            handles.append(module.register_forward_pre_hook(note))
        template = calls.template
        with undisturbed(template), differentiable(template), torch.enable_grad():
            # differentiable from the start, so that a tensor which several layers read is one
            weights = dict(template.named_parameters())
            tensors = {
                name: _differentiable(value[at]) if name in weights else value[at].clone()
                for name, value in calls.tensors.items()
            }
            x = _differentiable(calls.samples.inputs[at])
            logits = calls.call(calls.samples.like(x), tensors, before).flatten(1)
    finally:
        for handle in handles:
            handle.remove()
    if not inputs:
        raise Unsupported("no linear layer is called as a module, so none has inputs to see")
    if any(h.dim() != 2 for of_calls in inputs.values() for h in of_calls):
        raise Unsupported("linear layers of several positions have no one input a sample")
    every = [h for of_calls in inputs.values() for h in of_calls]
    of_logits = [
        torch.autograd.grad(logit.sum(), every, retain_graph=True, materialize_grads=True)
        for logit in logits.unbind(1)
    ]
    slopes = iter([torch.stack(parts, dim=1) for parts in zip(*of_logits, strict=True)])
    return {
        name: (torch.cat(of_calls).detach(), torch.cat([next(slopes) for _ in of_calls]))
        for name, of_calls in inputs.items()
    }


def _differentiable(value: Tensor) -> Tensor:
    """A copy that has derivatives, and may be written to; of whole numbers just a copy."""
    if not value.is_floating_point():
        return value.clone()
    return value.detach().clone().requires_grad_().clone()

"""The same for several at once, and derivatives of each: by torch's transforms, or one by one.

`torch.func` computes all networks, or all samples, in one pass, but not of every module: one that
asks for a tensor's value (masks of attention), writes to its own state, or is made of an operation
without a batching rule (recurrent layers). There the same is done by a loop and plain autograd.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = dict[str, Tensor]

_Result = TypeVar("_Result", Tensor, Tensors)

_SLOW = "There is a performance drop because we have not yet implemented the batching rule"


def each(
    what: Callable[..., _Result], dims: Sequence[int | None], *given: Any, one_by_one: bool
) -> _Result:
    """``what(*given)`` for each index of the leading dimension, the results stacked.

    Args:
        what: A function of tensors or dictionaries of tensors.
        dims: Of each argument 0, or None if it is the same for all.
        *given: The arguments.
        one_by_one: By a loop, not by vmap.
    """
    if not one_by_one:
        with batching_quietly():
            together: _Result = vmap(what, in_dims=tuple(dims), randomness="same")(*given)
        return together
    count = next(_length(v) for v, dim in zip(given, dims, strict=True) if dim is not None)
    made = [
        what(*(_at(v, at) if dim == 0 else v for v, dim in zip(given, dims, strict=True)))
        for at in range(count)
    ]
    if isinstance(made[0], Tensor):
        return torch.stack(made)
    return {name: torch.stack([part[name] for part in made]) for name in made[0]}


def slopes(
    value: Callable[[Tensors], Tensor], at: Tensors, *, number: bool = False, one_by_one: bool
) -> Tensors:
    """Derivatives of ``value (...)`` in each of the tensors, ``{name: (..., *shape)}``.

    Args:
        value: A function of the tensors.
        at: Where, ``{name: shape}``.
        number: Whether the value is one number: that is faster.
        one_by_one: By plain autograd, not by transforms.
    """
    if not one_by_one:
        gradients: Tensors = (grad if number else jacrev)(value)(at)
        return gradients
    # Of copies: the network's own tensors are not to be marked as needing gradients.
    leaves = {name: held.detach().clone().requires_grad_() for name, held in at.items()}
    with torch.enable_grad():
        made = value(leaves)
        rows = [_gradient(entry, [*leaves.values()]) for entry in made.flatten()]
    stacked = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return {
        name: part.view(*made.shape, *part.shape[1:])
        for name, part in zip(leaves, stacked, strict=True)
    }


def _gradient(value: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor]:
    if not value.requires_grad:  # it depends on none of them, which autograd refuses to say
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(value, leaves, retain_graph=True, materialize_grads=True)


@contextmanager
def batching_quietly() -> Iterator[None]:
    """Without torch's warning that an operation is batched by a loop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _SLOW, UserWarning)
        yield


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Attention, and recurrent layers on CUDA, by operations that have second derivatives."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel([SDPBackend.MATH]))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def _length(value: Any) -> int:
    return len(next(iter(value.values())) if isinstance(value, dict) else value)


def _at(value: Any, index: int) -> Any:
    if isinstance(value, dict):
        return {name: part[index] for name, part in value.items()}
    return value[index]

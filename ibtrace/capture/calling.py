"""How a model is called with a probe's inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.errors import IbtraceError, InvalidInput
from ibtrace.probe import Graph, Inputs
from ibtrace.probe.inputs import leaves

Forward = Callable[[nn.Module, Any], Any]
"""Calls a model with a batch of a probe's inputs: ``lambda model, batch: model(batch, flag=True)``.
A batch has the form of the probe's x, cut to some of its samples."""

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_OF_A_CALL = (
    *(TypeError, ValueError, AttributeError, LookupError, RuntimeError),
    *(AssertionError, ArithmeticError),
)
_SPEAKS_FOR_ITSELF = (IbtraceError, torch.OutOfMemoryError)
_OWN = "it is called as forward(model, batch) with the network and a batch of that form"
_HOW = "say how it is called: forward=lambda model, batch: model(…)"


def call(model: nn.Module, batch: Inputs, forward: Forward | None = None) -> Any:
    """The model's output for a batch.

    Without ``forward`` it is called as ``model(x)`` for a tensor; as ``model(**x)`` for a mapping
    and as ``model(*x)`` for a tuple where its forward takes those arguments, else with the mapping
    or tuple as its one argument; a graph too is its one argument, if its forward does not name
    its ``x`` and ``edge_index`` (and what else it holds).

    Args:
        model: Any module.
        batch: See `ibtrace.probe.Probe.batch`.
        forward: Calls it in another way.

    Raises:
        InvalidInput: If its forward, or yours, cannot take the batch, or fails on it; says which
            and what it got.
    """
    try:
        if forward is not None:
            return forward(model, batch)
        args, kwargs = arguments(model, batch)
        return model(*args, **kwargs)
    except _OF_A_CALL as error:
        if isinstance(error, _SPEAKS_FOR_ITSELF):
            raise
        message = str(error).strip().split("\n", maxsplit=1)[0]
        who, mend = type(model).__name__, _mend(message, model, batch)
        if forward is not None:
            who = f"your forward= ({getattr(forward, '__name__', type(forward).__name__)})"
            mend = _OWN if mend == _HOW else mend
        raise InvalidInput(
            f"{who} failed on the probe's x ({described(batch)}): "
            f"{type(error).__name__}: {message}; {mend}"
        ) from error


def arguments(model: nn.Module, batch: Inputs) -> _Arguments:
    """The positional and named arguments that a batch means for a model.

    Raises:
        InvalidInput: If its forward can take the batch neither in parts nor as one argument.
    """
    if not isinstance(batch, (Mapping, tuple, Graph)):
        return (batch,), {}
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # scripted: it says itself what it does not take
        signature = inspect.signature(lambda *args, **kwargs: None)
    for args, kwargs in _candidates(batch, signature.parameters):
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            continue
        return args, kwargs
    raise InvalidInput(
        f"{type(model).__name__}.forward{signature} does not take the probe's x "
        f"({described(batch)}); {_HOW}"
    )


def _candidates(batch: Inputs, known: Container[str]) -> list[_Arguments]:
    """The arguments that a batch may mean, the likeliest first."""
    if isinstance(batch, tuple):
        return [(batch, {}), ((batch,), {})]
    if isinstance(batch, Graph):
        as_built: list[_Arguments] = [((batch.built(),), {})]
        named = {key: value for key, value in batch.fields.items() if key in known}
        return [((), named), *as_built] if {"x", "edge_index"} <= named.keys() else as_built
    by_name = all(isinstance(key, str) for key in batch)
    return [*([((), dict(batch))] if by_name else []), ((batch,), {})]


def described(batch: Inputs) -> str:
    """The leaves of inputs with their shapes, in a line."""
    parts = []
    for name, value in leaves(batch):
        kind = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else ""
        shown = f"{kind} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        parts.append(f"{name}: {shown}" if name else shown)
    return ", ".join(parts)


def _mend(message: str, model: nn.Module, batch: Inputs) -> str:
    """What to do about a failed call: gradients, types that differ, or the way of calling."""
    if "does not require grad" in message:
        return (
            "a look is without gradients, so a forward that takes some has to say so: "
            "with torch.enable_grad(): around that part of it"
        )
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if "type" not in message:
        return _HOW
    for name, value in leaves(batch):
        known = isinstance(value, Tensor) and value.is_floating_point()
        if known and len(kinds) == 1 and value.dtype not in kinds:
            kind = str(next(iter(kinds))).removeprefix("torch.")
            return f"its weights are {kind}: give {name or 'x'} as torch.{kind}"
    return _HOW

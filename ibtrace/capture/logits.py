"""A network called with tensors in place of its own, up to what makes probabilities of logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ibtrace.capture.calling import Forward, call
from ibtrace.errors import Unsupported
from ibtrace.probe import Inputs

_SQUASHES: dict[Any, str] = {
    **dict.fromkeys((torch.softmax, F.softmax, Tensor.softmax, torch.special.softmax), "softmax"),
    **dict.fromkeys((torch.log_softmax, F.log_softmax, Tensor.log_softmax), "log_softmax"),
    torch.special.log_softmax: "log_softmax",
    **dict.fromkeys((torch.sigmoid, F.sigmoid, Tensor.sigmoid, torch.special.expit), "sigmoid"),
    F.logsigmoid: "logsigmoid",
}
"""Functions of logits to probabilities or their logarithms; torch's modules call them too."""


@dataclass(frozen=True)
class Squash:
    """What makes a network's outputs, probabilities or their logarithms, of its logits.

    Args:
        function: ``"softmax"``, ``"log_softmax"``, ``"sigmoid"`` or ``"logsigmoid"``.
        later: How many such functions are called after it.
    """

    function: str
    later: int


Before = nn.Module | Squash | None
"""What a network is called up to; None: to its end."""


class _Calls(TorchFunctionMode):
    """Notes each call of such a function: its name, what it was given, and what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Tensor, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        result = func(*args, **named)
        name = _SQUASHES.get(func)
        if name is not None and isinstance(result, Tensor):
            self.seen.append((name, args[0] if args else named["input"], result))
        return result


class Called(nn.Module):
    """Calls a network as the tracer does, with tensors that `functional_call` replaces.

    Args:
        network: Any module.
        forward: See `ibtrace.capture.call`.
        before: A module whose input (at its last call) is given, or what makes the output of
            logits, which are then given; None: the network's output.
    """

    def __init__(self, network: nn.Module, forward: Forward | None, before: Before = None) -> None:
        super().__init__()
        self.network, self._forward = network, forward
        object.__setattr__(self, "_before", before)  # a part of the network, no second child

    def forward(self, batch: Inputs) -> Tensor:
        """The network's output, its logits, or what goes into one of its modules."""
        before: Before = vars(self)["_before"]
        if before is None:
            return tensor_of(call(self.network, batch, self._forward))
        if isinstance(before, Squash):
            with _Calls() as calls:
                output = tensor_of(call(self.network, batch, self._forward))
            logits: Tensor = calls.seen[-1 - before.later][1].reshape(output.shape)
            return logits
        given: list[Tensor] = []
        handle = before.register_forward_pre_hook(lambda module, args: given.append(args[0]))
        try:
            call(self.network, batch, self._forward)
        finally:
            handle.remove()
        return given[-1]


def last_squash(network: nn.Module, batch: Inputs, forward: Forward | None) -> Squash | None:
    """What makes the outputs of logits; None if they are logits, or numbers of another kind.

    A softmax or sigmoid, a module or called, whose result is the output, in whatever shape.

    Args:
        network: Any module, which is called once; see `ibtrace.capture.undisturbed`.
        batch: A few samples.
        forward: See `ibtrace.capture.call`.

    Raises:
        Unsupported: If the outputs are probabilities or their logarithms, and no such function
            makes them.
    """
    with _Calls() as calls:
        output = tensor_of(call(network, batch, forward))
    for later, (name, given, result) in enumerate(reversed(calls.seen)):
        if given.shape == result.shape and _is_same(result, output):
            return Squash(name, later)
    kind = "probabilities" if sum_to_one(output) else "logarithms of probabilities"
    if sum_to_one(output) or sum_to_one(output.exp() if output.is_floating_point() else output):
        raise Unsupported(
            f"the network's outputs are {kind}, and not made by a softmax of which lenses could "
            "see the logits: make it a softmax (nn.Softmax, F.log_softmax), or return the logits"
        )
    return None


def _is_same(result: Tensor, output: Tensor) -> bool:
    """Whether an output is a function's result, or its numbers in another shape."""
    if result is output:
        return True
    if result.numel() != output.numel() or result.dtype != output.dtype:
        return False
    return torch.equal(result.flatten(), output.flatten())


def sum_to_one(values: Tensor) -> bool:
    """Whether rows are probabilities of several classes, to their type's rounding."""
    if not values.is_floating_point() or values.dim() < 2 or values.shape[-1] < 2:
        return False
    off = (values.double().sum(-1) - 1).abs()
    return bool((values >= 0).all()) and bool((off < _rounding(values.dtype)).all())


def _rounding(dtype: torch.dtype) -> float:
    return max(1e-4, 4 * torch.finfo(dtype).eps)


def tensor_of(output: Any) -> Tensor:
    """The tensor among what a network gives: itself, its ``logits``, or the first of several.

    Raises:
        Unsupported: If there is no telling.
    """
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

"""A network called with tensors in place of its own, up to its last softmax if that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ibtrace.capture.calling import Forward, call
from ibtrace.errors import Unsupported
from ibtrace.probe import Inputs

_SOFTMAXES = (nn.Softmax, nn.LogSoftmax)


class Called(nn.Module):
    """Calls a network as the tracer does, with tensors that `functional_call` replaces.

    Args:
        network: Any module.
        forward: See `ibtrace.capture.call`.
        before: A module whose input (at its last call) is given; None: the network's output.
    """

    def __init__(
        self, network: nn.Module, forward: Forward | None, before: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.network, self._forward = network, forward
        object.__setattr__(self, "_before", before)  # a part of the network, no second child

    def forward(self, batch: Inputs) -> Tensor:
        """The network's output, or what goes into one of its modules."""
        before: nn.Module | None = vars(self)["_before"]
        if before is None:
            return tensor_of(call(self.network, batch, self._forward))
        given: list[Tensor] = []
        handle = before.register_forward_pre_hook(lambda module, args: given.append(args[0]))
        try:
            call(self.network, batch, self._forward)
        finally:
            handle.remove()
        return given[-1]


def last_softmax(network: nn.Module, batch: Inputs, forward: Forward | None) -> nn.Module | None:
    """The softmax module whose output is the network's; None if it does not end in one.

    Args:
        network: Any module, which is called once; see `ibtrace.capture.undisturbed`.
        batch: A few samples.
        forward: See `ibtrace.capture.call`.

    Raises:
        Unsupported: If the outputs are probabilities, and no module makes them.
    """
    given: list[tuple[nn.Module, Any]] = []
    modules = [module for module in network.modules() if isinstance(module, _SOFTMAXES)]
    handles = [m.register_forward_hook(lambda m, _, out: given.append((m, out))) for m in modules]
    try:
        output = tensor_of(call(network, batch, forward))
    finally:
        for handle in handles:
            handle.remove()
    for module, value in given:
        if value is output:
            return module
    if _are_probabilities(output):
        raise Unsupported(
            "the network's outputs are probabilities made by a called softmax, of which lenses "
            "cannot see the logits: make it a module (nn.Softmax), or return the logits"
        )
    return None


def _are_probabilities(output: Tensor) -> bool:
    if not output.is_floating_point() or output.dim() < 2 or output.shape[-1] < 2:
        return False
    sums = output.double().sum(-1)
    return bool((output >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())


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

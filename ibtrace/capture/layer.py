"""What was captured of one layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ibtrace.errors import NonFinite
from ibtrace.numerics.finite import count_non_finite


@dataclass(frozen=True)
class Layer:
    """What was captured of one layer.

    Args:
        values: T, ``(n, d)`` after reduction, in the precision in which the layer computed.
        variable: What T is, where it is not simply the layer's float32 output: ``gap``.
        shape: The layer's own output for one sample.
        activation_range: The closed range that T lies in, if the layer is bounded.
        token_inputs: If the samples are tokens: the names of the inputs whose tokens they are.
        random: Whether something random had been drawn in the forward before it.
    """

    values: Tensor
    variable: str
    shape: tuple[int, ...]
    activation_range: tuple[float, float] | None
    token_inputs: tuple[str, ...] | None
    random: bool = False

    def map(self, change: Callable[[Tensor], Tensor]) -> Layer:
        """The same layer with other values."""
        return replace(self, values=change(self.values))

    def record(self) -> dict[str, Any]:
        """What a trace keeps of it, as JSON values."""
        return {
            "shape": list(self.shape),
            "variable": self.variable,
            "width": self.values.shape[-1],
            "activation_range": self.activation_range and list(self.activation_range),
            "token_inputs": self.token_inputs and list(self.token_inputs),
        }


def require_finite(layer: str, value: Tensor) -> None:
    """Raise if activations hold NaN or infinite values.

    Args:
        layer: The layer's name, for the message.
        value: Its activations.

    Raises:
        NonFinite: Naming the layer and how many values are bad.
    """
    if bad := count_non_finite(value):
        raise NonFinite(
            f"layer {layer!r} has {bad} of {value.numel()} activations NaN or infinite; "
            "has the training diverged?"
        )

"""What was captured of one layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ibtrace.capture.rounding import Rounding
from ibtrace.errors import ConstantMean, NonFinite, PaddingGuessed
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
        rounded: Whether T is a mean that differed between samples by rounding alone, and was made
            the constant that it is.
        padding: What is to be said of padding in T that nobody stated; empty if nothing is.
        rounding: By how much samples may differ by rounding alone, if T is a mean.
        module: The layer's name by its module, where a trace calls it otherwise.
    """

    values: Tensor
    variable: str
    shape: tuple[int, ...]
    activation_range: tuple[float, float] | None
    token_inputs: tuple[str, ...] | None
    random: bool = False
    rounded: bool = False
    padding: str = ""
    rounding: Rounding | None = None
    module: str = ""

    def map(self, change: Callable[[Tensor], Tensor]) -> Layer:
        """The same layer with other values."""
        return replace(self, values=change(self.values))

    def record(self) -> dict[str, Any]:
        """What a trace keeps of it, as JSON values."""
        by_module = {"module": self.module} if self.module else {}
        return {
            "shape": list(self.shape),
            "variable": self.variable,
            "width": self.values.shape[-1],
            "activation_range": self.activation_range and list(self.activation_range),
            "token_inputs": self.token_inputs and list(self.token_inputs),
            **by_module,
        }


def say_rounded(layers: Mapping[str, Layer], known: set[str]) -> None:
    """Warn of layers whose T is a constant because it is a mean, each once for all looks.

    Args:
        layers: Those of a look.
        known: Those that were named already; added to.
    """
    new = [name for name, layer in layers.items() if layer.rounded and name not in known]
    known.update(new)
    if new:
        warnings.warn(
            f"T of {listed(new)} is the same for every sample: it is the mean over positions of "
            "what a softmax or a norm made to have one mean, and differs by rounding alone, which "
            f"is taken out; reduce={{{new[0]!r}: 'flatten'}} keeps what the mean loses",
            ConstantMean,
            stacklevel=3,
        )


def say_padding(layers: Mapping[str, Layer], known: set[str]) -> None:
    """Warn of padding that was guessed, or may be there, each layer once for all looks.

    Args:
        layers: Those of a look.
        known: Those that were named already; added to.
    """
    new: dict[str, list[str]] = {}
    for name, layer in layers.items():
        if layer.padding and name not in known:
            new.setdefault(layer.padding, []).append(name)
    for notice, names in new.items():
        known.update(names)
        warnings.warn(f"T of {listed(names)} {notice}", PaddingGuessed, stacklevel=3)


def listed(names: Sequence[str]) -> str:
    """The first six names, and how many more there are."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


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

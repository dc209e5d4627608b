"""Where the weights of networks stand: the chain of their layers, and the head of it."""

from __future__ import annotations

from torch import nn

from ibtrace.capture.calls import Calls
from ibtrace.capture.chain import chain_of
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import Unsupported
from ibtrace.types import Head, Link


def chain(calls: Calls) -> tuple[Link, ...]:
    """The layers of weights in order, of networks that are a chain of modules."""
    with undisturbed(calls.template):
        return chain_of(calls.template, calls.tensors, calls.samples.few(), calls.setting.forward)


def head(calls: Calls) -> Head:
    """The last linear layer, which gives the logits, and what goes into it.

    Raises:
        Unsupported: If the logits are not those of a linear layer.
    """
    tensors = calls.tensors
    for name, module in reversed([*calls.template.named_modules()]):
        prefix = f"{name}." if name else ""
        weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
        if not isinstance(module, nn.Linear) or weight is None:
            continue
        features = calls.forward(before=module)
        linear = Head(features, weight, bias)
        if features.dim() == 3 and linear.gives(calls.logits):
            return linear
    raise Unsupported("the logits are not those of a linear layer, which a head is")

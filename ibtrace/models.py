"""The networks of the experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import nn

from ibtrace.types import ConfigError, UnknownName

Init = Literal["idnns", "ibsgd", "default"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "linear": nn.Identity,
}

_OUTPUTS: dict[str, Callable[[], nn.Module] | None] = {
    "logits": None,
    "softmax": lambda: nn.Softmax(dim=-1),
    "log_softmax": lambda: nn.LogSoftmax(dim=-1),
    "sigmoid": nn.Sigmoid,
}


class MLP(nn.Sequential):
    """A fully connected network whose layers are named fc1, hidden1, fc2, hidden2, …, softmax.

    Initialisations: ``idnns`` (Shwartz-Ziv & Tishby's code) draws weights from a normal law of
    σ = 1/√fan_in cut at 2σ; ``ibsgd`` (Saxe et al. 2018) the same with σ = 1/√fan_out; biases are
    0 in both. ``default`` is `torch.nn.Linear`'s own.

    Args:
        widths: Units of each layer, the inputs first: ``(12, 10, 7, 5, 4, 3, 2)``.
        activation: After each hidden layer: tanh, relu, sigmoid, leaky_relu, elu, gelu, silu,
            softplus, softsign, hardtanh, relu6 or linear.
        output: After the last layer: softmax, log_softmax, sigmoid, or logits for nothing.
        init: ``idnns``, ``ibsgd`` or ``default``.
        generator: Draws the initial weights. None draws them from torch's global generator, as
            every torch module does.

    Raises:
        ConfigError: If there are fewer than two widths, or one below 1.
        UnknownName: If the activation, output or initialisation does not exist.

    Example:
        >>> net = MLP((12, 10, 2), init="idnns", generator=torch.Generator().manual_seed(0))
        >>> [name for name, _ in net.named_children()]
        ['fc1', 'hidden1', 'fc2', 'softmax']
    """

    def __init__(
        self,
        widths: Sequence[int] = (12, 10, 7, 5, 4, 3, 2),
        activation: str = "tanh",
        output: str = "softmax",
        init: Init = "default",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ConfigError(f"MLP: widths must be two or more of at least 1, got {list(widths)}")
        _check("activation", activation, _ACTIVATIONS)
        _check("output", output, _OUTPUTS)
        _check("init", init, get_args(Init))
        last = len(widths) - 1
        for k, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            # skip_init: a plain Linear would draw weights from the global generator first
            layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
            initialise(layer, init, generator)
            self.add_module(f"fc{k}", layer)
            if k < last:
                self.add_module(f"hidden{k}", _ACTIVATIONS[activation]())
        final = _OUTPUTS[output]
        if final is not None:
            self.add_module(output, final())


def initialise(layer: nn.Linear, init: Init, generator: torch.Generator | None) -> None:
    """Draw a layer's weights and biases anew, in place.

    Args:
        layer: The layer.
        init: See `MLP`.
        generator: Where the numbers come from; None is torch's global generator.
    """
    fan_out, fan_in = layer.weight.shape
    if init == "default":
        bound = fan_in**-0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        return
    sigma = (fan_in if init == "idnns" else fan_out) ** -0.5
    nn.init.trunc_normal_(layer.weight, std=sigma, a=-2 * sigma, b=2 * sigma, generator=generator)
    nn.init.zeros_(layer.bias)


def _check(what: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise UnknownName(f"MLP: no {what} {given!r}; choose one of: {', '.join(known)}")

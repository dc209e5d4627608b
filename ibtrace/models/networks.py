"""The networks of the experiments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import nn

from ibtrace.errors import ConfigError, UnknownName
from ibtrace.models.activations import TABLE

Init = Literal["idnns", "ibsgd", "xavier", "he", "default"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **{known.name: known.modules[0] for known in TABLE if known.plain},
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
    σ = 1/√fan_in cut at 2σ; ``ibsgd`` (Saxe et al. 2018) the same with σ = 1/√fan_out; ``xavier``
    (Glorot & Bengio 2010) from a normal law of σ² = 2/(fan_in + fan_out), ``he`` (He et al. 2015)
    of σ² = 2/fan_in; biases are 0 in all of these. ``default`` is `torch.nn.Linear`'s own.

    Args:
        widths: Units of each layer, the inputs first: ``(12, 10, 7, 5, 4, 3, 2)``.
        activation: After each hidden layer: the name of any that acts unit by unit in
            `ibtrace.models.activations.TABLE` (tanh, relu, sigmoid, gelu, …), or linear.
        output: After the last layer: softmax, log_softmax, sigmoid, or logits for nothing.
        init: ``idnns``, ``ibsgd``, ``xavier``, ``he`` or ``default``.
        generator: Draws the initial weights. None draws them from torch's global generator, as
            every torch module does.
        bias: Whether the layers have biases.

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
        bias: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ConfigError(f"MLP: widths must be two or more of at least 1, got {list(widths)}")
        _check("MLP", "activation", activation, _ACTIVATIONS)
        _check("MLP", "output", output, _OUTPUTS)
        _check("MLP", "init", init, get_args(Init))
        last = len(widths) - 1
        for k, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
            # skip_init: a plain Linear would draw weights from the global generator first
            layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=bias)
            initialise(layer, init, generator)
            self.add_module(f"fc{k}", layer)
            if k < last:
                self.add_module(f"hidden{k}", _ACTIVATIONS[activation]())
        final = _OUTPUTS[output]
        if final is not None:
            self.add_module(output, final())


class CNN(nn.Sequential):
    """A convolutional network with the layers conv1, maps1, pool1, …, flatten, fc1, hidden1, fc2.

    Each block is a 3×3 convolution that keeps the size of the image, batch normalisation if asked
    for (``norm1``), the activation (``maps1``) and 2×2 max pooling; the head is fully connected
    and gives logits (``fc2`` above). By default a tracer looks at the activations: ``maps1``,
    ``maps2``, ``hidden1``, and at the output.

    Args:
        image: Channels, height and width of an input: ``(1, 28, 28)``.
        channels: Feature maps of each block.
        hidden: Units of each hidden layer of the head.
        classes: Units of the output.
        activation: After each convolution and hidden layer; see `MLP`.
        batch_norm: Normalise each feature map over the batch, before the activation.
        generator: Draws the initial weights, by torch's own law; None is the global generator.

    Raises:
        ConfigError: If there is no block, a size is below 1, or so many blocks halve the image
            that nothing is left.
        UnknownName: If the activation does not exist.

    Example:
        >>> net = CNN(batch_norm=True, generator=torch.Generator().manual_seed(0))
        >>> [name for name, _ in net.named_children()]
        ['conv1', 'norm1', 'maps1', 'pool1', 'conv2', 'norm2', 'maps2', 'pool2', 'flatten', 'fc1',
         'hidden1', 'fc2']
        >>> sum(p.numel() for p in net.parameters())
        1015418
    """

    def __init__(
        self,
        image: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (16, 32),
        hidden: Sequence[int] = (640,),
        classes: int = 10,
        activation: str = "relu",
        batch_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        given = f"image {list(image)}, channels {list(channels)}, hidden {list(hidden)}"
        if len(image) != 3 or not channels or min(*image, *channels, *hidden, classes) < 1:
            raise ConfigError(f"CNN: all sizes must be at least 1, image (c, h, w), got {given}")
        _check("CNN", "activation", activation, _ACTIVATIONS)
        depth, *size = image
        for k, maps in enumerate(channels, start=1):
            if min(size) < 2:
                raise ConfigError(f"CNN: nothing is left of the image to pool, got {given}")
            # skip_init: a plain layer would draw weights from the global generator first
            conv = nn.utils.skip_init(nn.Conv2d, depth, maps, 3, padding=1, bias=not batch_norm)
            initialise(conv, "default", generator)
            self.add_module(f"conv{k}", conv)
            if batch_norm:
                self.add_module(f"norm{k}", nn.BatchNorm2d(maps))
            self.add_module(f"maps{k}", _ACTIVATIONS[activation]())
            self.add_module(f"pool{k}", nn.MaxPool2d(2))
            depth, size = maps, [side // 2 for side in size]
        self.add_module("flatten", nn.Flatten())
        widths = [depth * math.prod(size), *hidden, classes]
        head = MLP(widths, activation, output="logits", generator=generator)
        for name, layer in head.named_children():
            self.add_module(name, layer)
        # maps in this order are pooled several times faster on a CPU
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)


def initialise(layer: nn.Linear | nn.Conv2d, init: Init, generator: torch.Generator | None) -> None:
    """Draw a layer's weights and biases anew, in place.

    Args:
        layer: The layer; the fans of a convolution count its kernel.
        init: See `MLP`.
        generator: Where the numbers come from; None is torch's global generator.
    """
    kernel = layer.weight[0, 0].numel()
    fan_out, fan_in = (size * kernel for size in layer.weight.shape[:2])
    if init == "default":
        bound = fan_in**-0.5
        for parameter in (layer.weight, layer.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        return
    if init in ("idnns", "ibsgd"):
        sigma = (fan_in if init == "idnns" else fan_out) ** -0.5
        ends = -2 * sigma, 2 * sigma
        nn.init.trunc_normal_(layer.weight, std=sigma, a=ends[0], b=ends[1], generator=generator)
    else:
        sigma = (2 / (fan_in if init == "he" else fan_in + fan_out)) ** 0.5
        nn.init.normal_(layer.weight, std=sigma, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _check(what: str, kind: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise UnknownName(f"{what}: no {kind} {given!r}; choose one of: {', '.join(known)}")

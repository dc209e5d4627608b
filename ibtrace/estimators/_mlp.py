"""Small networks that estimators train: plain tensors, a local generator, float64.

Double precision makes a training reproducible to many digits across devices, input types and
batch layouts, which for networks this small costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

Layer = tuple[Tensor, Tensor]
MLP = list[Layer]


def mlp(widths: Sequence[int], generator: torch.Generator, device: torch.device) -> MLP:
    """Weights ``(in, out)`` and biases ``(out,)`` of a network, He-uniform and 0.

    Args:
        widths: Units of each layer, the inputs first.
        generator: A CPU generator, so that the weights are the same on every device.
        device: Where the network lives.
    """
    layers = []
    for fan_in, fan_out in pairwise(widths):
        uniform = torch.rand(fan_in, fan_out, generator=generator, dtype=torch.float64)
        weight = ((2 * uniform - 1) * (6 / fan_in) ** 0.5).to(device)
        bias = torch.zeros(fan_out, dtype=torch.float64, device=device)
        layers.append((weight.requires_grad_(), bias.requires_grad_()))
    return layers


def forward(network: MLP, x: Tensor) -> Tensor:
    """Outputs ``(n, out)`` for floats ``(n, in)``, or for ids ``(n,)`` taken as one-hot rows."""
    (weight, bias), *rest = network
    h = (x @ weight if x.is_floating_point() else weight[x]) + bias
    for weight, bias in rest:
        h = h.relu() @ weight + bias
    return h


def parameters(*networks: MLP) -> list[Tensor]:
    """All tensors of some networks."""
    return [tensor for network in networks for layer in network for tensor in layer]


def descend(
    networks: Sequence[MLP],
    loss: Callable[[Tensor], Tensor],
    n: int,
    *,
    batch: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Iterator[int]:
    """Train by Adam, one step for each number that is drawn from this iterator, without end.

    Args:
        networks: Trained in place.
        loss: Of a batch, given the numbers of its samples ``(batch,)``.
        n: How many samples there are; each pass takes them in a new order.
        batch: Samples in a batch; a last one that is smaller is left to the next order.
        learning_rate: Adam's.
        generator: A CPU generator that draws the orders.

    Yields:
        The number of steps done.
    """
    tensors = parameters(*networks)
    optimiser = torch.optim.Adam(tensors, lr=learning_rate)
    device, step, batch = tensors[0].device, 0, min(batch, n)
    while True:
        order = torch.randperm(n, generator=generator).to(device)
        for start in range(0, n - batch + 1, batch):
            optimiser.zero_grad()
            loss(order[start : start + batch]).backward()
            optimiser.step()
            step += 1
            yield step


@contextmanager
def trainable() -> Iterator[None]:
    """Gradients on within the block, whatever the caller's mode.

    Yields:
        Nothing.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield

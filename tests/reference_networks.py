"""The 12-bit network with weights that are a formula, on which lenses are held to ten digits.

Each parameter by itself: k = 1, 2, … in row-major order; weight = (2 / √fan_in) wave(k²), bias =
0.1 wave(k²). (Plain wave(k) has rank 2 in every layer.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ibtrace import datasets
from ibtrace.capture import Recipe, resolve, snapshot
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.models import MLP
from ibtrace.probe import Probe

Kind = Literal["tanh", "relu"]
Wave = Callable[[Tensor], Tensor]

WIDTHS = [12, 10, 7, 5, 4, 3, 2]
BITS = datasets.tishby()
PROBE = Probe(BITS.x.double(), BITS.y)


def network(kind: Kind, wave: Wave = torch.sin, output: str = "logits") -> nn.Module:
    """The network, in double precision."""
    model = MLP(WIDTHS, activation=kind, output=output).double()
    with torch.no_grad():
        for value in model.parameters():
            k = torch.arange(1, value.numel() + 1, dtype=torch.float64)
            scale = 2 / value.shape[1] ** 0.5 if value.dim() == 2 else 0.1
            value.copy_((scale * wave(k * k)).view_as(value))
    return model


def stacked(networks: Sequence[nn.Module]) -> Stacked:
    """Networks of one architecture as one."""
    each = [dict(model.named_parameters()) for model in networks]
    parameters = {n: torch.stack([one[n].detach() for one in each]) for n in each[0]}
    return Stacked(networks[0], parameters, {}, range(len(networks)))


def view_of(
    *networks: nn.Module, probe: Probe = PROBE, loss: Any = "cross_entropy", **recipe: Any
) -> NetworkView:
    """The view of networks of one architecture on all 4096 patterns."""
    seen = [snapshot(model, probe) for model in networks]
    ranges = {target.name: target.activation_range for target in resolve(networks[0])}
    return NetworkView(
        stacked(networks),
        probe,
        Setting(loss, recipe=Recipe(**recipe)),
        activations={n: torch.stack([one[n].detach() for one in seen]) for n in seen[0]},
        activation_ranges={n: ranges.get(n) for n in seen[0]},
    )


def after_descent(
    kind: Kind, *, steps: int = 200, lr: float = 0.05, rows: Tensor | None = None
) -> nn.Module:
    """The network after full-batch steps of plain descent, on these of the patterns."""
    x, y = PROBE.x, PROBE.labels
    if rows is not None:
        x, y = x[rows], y[rows]
    model = network(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model

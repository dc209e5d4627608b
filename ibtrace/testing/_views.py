"""The views on which a lens is checked: small networks that are trained on nothing yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibtrace.capture import resolve, snapshot
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.probe import Probe
from ibtrace.types import Need, View

SEEDS = (3, 0, 8)
N, CLASSES = 24, 3

BASE = frozenset(
    {
        *("epoch", "step", "seeds", "parameters", "outputs", "logits", "labels", "samples"),
        *("loss_unit", "random_split", "batch_size", "at", "thinned", "once"),
    }
)
"""What every lens may ask of a view."""

OFFERS: Mapping[str, Need] = {
    "activations": "activations",
    "activation_ranges": "activations",
    "losses": "loss",
    "loss": "loss",
    "gradient": "gradient",
    "sample_gradients": "gradient",
    "jacobian": "jacobian",
    "hessian_product": "hessian",
    "hessian": "hessian",
    "inputs": "inputs",
    "input_jacobian": "inputs",
    "chain": "chain",
    "link_inputs": "chain",
    "initial": "initial",
    "previous": "previous",
    "training": "training",
    "test": "test",
    "optimizer": "optimizer",
}
"""What a lens may ask of a view if its tags name the need."""


@dataclass(frozen=True)
class Case:
    """Networks of one architecture on their probe.

    Args:
        name: What they are, for a message.
        build: Makes one; drawn from torch's global generator.
        probe: What they are seen on.
    """

    name: str
    build: Callable[[], nn.Module]
    probe: Probe

    def view(self, seeds: Sequence[int] = SEEDS) -> NetworkView:
        """A new view of the networks of these seeds, in double precision."""
        networks = [self._network(seed) for seed in seeds]
        seen = [snapshot(network, self.probe) for network in networks]
        ranges = {target.name: target.activation_range for target in resolve(networks[0])}
        stacked = Stacked(
            networks[0],
            _stacked([dict(network.named_parameters()) for network in networks]),
            _stacked([dict(network.named_buffers()) for network in networks]),
            seeds,
        )
        view = NetworkView(
            stacked,
            self.probe,
            Setting("cross_entropy"),
            epoch=3,
            step=30,
            activations={n: t.flatten(2) for n, t in _stacked(seen).items()},
            activation_ranges={name: ranges.get(name) for name in seen[0]},
        )
        return view

    def _network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build().double()


def cases() -> list[Case]:
    """A network of dense layers with two ends, one end and none, and a convolutional one."""
    draw = torch.Generator().manual_seed(0)
    flat = torch.randn(N, 4, generator=draw, dtype=torch.float64)
    maps = torch.randn(N, 1, 5, 5, generator=draw, dtype=torch.float64)
    labels = torch.arange(N) % CLASSES
    return [
        Case("a dense network", _dense, Probe(flat, labels)),
        Case("a convolutional network", _convolutional, Probe(maps, labels)),
    ]


class Narrow:
    """A view that has only what the tags of a lens name, and notes what is asked for.

    Args:
        view: The whole view.
        needs: What the tags name.
    """

    def __init__(self, view: View, needs: frozenset[Need]) -> None:
        self._view, self._needs = view, needs
        self.asked: set[Need] = set()

    def __getattr__(self, name: str) -> object:
        need = OFFERS.get(name)
        if need is not None:
            self.asked.add(need)
            if need not in self._needs:
                raise AssertionError(f"view.{name} is asked for, and tags.needs lacks {need!r}")
        elif name not in BASE:
            raise AssertionError(f"view.{name} is not in the protocol of a view")
        return getattr(self._view, name)


def _dense() -> nn.Module:
    layers = nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES)
    return nn.Sequential(*layers)


def _convolutional() -> nn.Module:
    first = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid(), nn.Flatten()
    return nn.Sequential(*first, nn.Linear(27, CLASSES))


def _stacked(each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name].detach() for one in each]) for name in each[0]}

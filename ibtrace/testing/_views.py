"""The views on which a lens is checked: small networks that are trained on nothing yet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibtrace.capture import resolve, snapshot
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.recipe import Part, Recipe, Twins
from ibtrace.capture.view import NetworkView
from ibtrace.probe import Probe
from ibtrace.types import Need, View

SEEDS = (3, 0, 8)
N, CLASSES, BITS = 24, 3, 5

BASE = frozenset(
    {
        *("epoch", "step", "seeds", "parameters", "frozen", "outputs", "logits"),
        *("labels", "samples"),
        *("decisions", "loss_unit", "random_split", "batch_size", "at", "thinned", "once"),
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
    "head": "head",
    "link_inputs": "chain",
    "initial": "initial",
    "previous": "previous",
    "training": "training",
    "test": "test",
    "optimizer": "optimizer",
    "twins": "twins",
    "replaced": "twins",
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
        """A new view of the networks of these seeds, in double precision, in the midst of training.

        It knows all that a view can: the training and test samples, twins, the optimiser's state
        and the looks before.
        """
        view = self._seen(seeds, 0.0, epoch=3)
        earlier = {
            name: self._seen(seeds, by, epoch)
            for name, by, epoch in (("initial", 0.3, 0), ("previous", 0.1, 2))
        }
        view.remember(earlier.get)
        return view

    def _seen(self, seeds: Sequence[int], by: float, epoch: int) -> NetworkView:
        """A view of the networks of these seeds, each moved by so much."""
        networks = [_moved(self._network(seed), by) for seed in seeds]
        seen = [
            self._activations(network, seed, by)
            for network, seed in zip(networks, seeds, strict=True)
        ]
        ranges = {target.name: target.activation_range for target in resolve(networks[0])}
        stacked = _stacked_networks(networks, seeds)
        return NetworkView(
            stacked,
            self.probe,
            Setting("cross_entropy", recipe=self._recipe(networks, seeds, stacked.own)),
            epoch=epoch,
            step=10 * epoch,
            activations={n: t.flatten(2) for n, t in _stacked(seen).items()},
            activation_ranges={name: ranges.get(name) for name in seen[0]},
        )

    def _activations(self, network: nn.Module, seed: int, by: float) -> dict[str, Tensor]:
        """Those of a network of a seed, captured once: a lens is handed copies."""
        key = self.name, seed, by
        if key not in _CAPTURED:
            _CAPTURED[key] = snapshot(network, self.probe)
        return {name: value.clone() for name, value in _CAPTURED[key].items()}

    def _recipe(
        self, networks: Sequence[nn.Module], seeds: Sequence[int], own: Mapping[str, Tensor]
    ) -> Recipe:
        """Even rows to train on, odd ones to test, and Adam after one step of no length."""
        optimizer = torch.optim.Adam([*own.values()], lr=0.01)
        for value in own.values():
            value.grad = 0.1 + value.detach().abs()
        with torch.no_grad():
            before = [value.clone() for value in own.values()]
            optimizer.step()
            for value, held in zip(own.values(), before, strict=True):
                value.copy_(held)
                value.grad = None
        moved = [_moved(network, 0.05) for network in networks]
        twins = _Held(_stacked_networks(moved, range(len(moved))))
        rows = torch.arange(self.probe.n)
        replaced = torch.tensor([[2 * seed, 2 * seed + 1] for seed in seeds])
        return Recipe(
            Part(self.probe, rows[::2]),
            Part(self.probe, rows[1::2]),
            optimizer,
            batch_size=8,
            twins=Twins(twins, replaced),
        )

    def _network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build().double()


_CAPTURED: dict[tuple[str, int, float], dict[str, Tensor]] = {}


def cases() -> list[Case]:
    """Networks: of dense layers with two ends, one end and none; convolutional; of bits."""
    draw = torch.Generator().manual_seed(0)
    flat = torch.randn(N, 4, generator=draw, dtype=torch.float64)
    maps = torch.randn(N, 1, 5, 5, generator=draw, dtype=torch.float64)
    labels = torch.arange(N) % CLASSES
    order = torch.randperm(2**BITS, generator=draw)
    bits = (order[:, None] >> torch.arange(BITS) & 1).double()
    majority = (bits.sum(1) > BITS / 2).long()
    return [
        Case("a dense network", _dense, Probe(flat, labels)),
        Case("a convolutional network", _convolutional, Probe(maps, labels)),
        Case("a network of bits", _of_bits, Probe(bits, majority, population=True)),
    ]


class Narrow:
    """A view that has only what the tags of a lens name, and notes what is asked for.

    Args:
        view: The whole view.
        needs: What the tags name.
    """

    def __init__(self, view: View, needs: frozenset[Need], asked: set[Need] | None = None) -> None:
        self._view, self._needs = view, needs
        self.asked: set[Need] = set() if asked is None else asked

    def __getattr__(self, name: str) -> object:
        need = OFFERS.get(name)
        if need is not None:
            self.asked.add(need)
            if need not in self._needs:
                raise AssertionError(f"view.{name} is asked for, and tags.needs lacks {need!r}")
        elif name not in BASE:
            raise AssertionError(f"view.{name} is not in the protocol of a view")
        given = getattr(self._view, name)
        if name in ("at", "thinned"):
            return lambda *args, **fields: self._narrow(given(*args, **fields))
        return self._narrow(given)

    def _narrow(self, given: object) -> object:
        """What was asked for; a view of other samples, weights or looks is as narrow."""
        return Narrow(given, self._needs, self.asked) if isinstance(given, NetworkView) else given


def _dense() -> nn.Module:
    layers = nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES)
    return nn.Sequential(*layers)


def _of_bits() -> nn.Module:
    return nn.Sequential(nn.Linear(BITS, 4), nn.Tanh(), nn.Linear(4, 2))


def _convolutional() -> nn.Module:
    first = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid(), nn.Flatten()
    return nn.Sequential(*first, nn.Linear(27, CLASSES))


@dataclass(frozen=True)
class _Held:
    """Networks as an ensemble holds them."""

    networks: Stacked

    def named_parameters(self) -> Mapping[str, Tensor]:
        return self.networks.parameters

    def named_buffers(self) -> Mapping[str, Tensor]:
        return self.networks.buffers


def _stacked_networks(networks: Sequence[nn.Module], seeds: Sequence[int]) -> Stacked:
    parameters = _stacked([dict(network.named_parameters()) for network in networks])
    own = {name: nn.Parameter(value) for name, value in parameters.items()}
    buffers = _stacked([dict(network.named_buffers()) for network in networks])
    return Stacked(networks[0], own, buffers, seeds, own)


def _moved(network: nn.Module, by: float) -> nn.Module:
    """A copy with every parameter a little larger."""
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for value in moved.parameters():
            value.add_(by * (1 + value.abs()))  # by 0 it is the same to the last bit
    return moved


def _stacked(each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([network[name].detach() for network in each]) for name in each[0]}

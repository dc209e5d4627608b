"""The contract of a lens, as checks that anybody can run on their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from ibtrace.capture import Look, looks
from ibtrace.capture.view import NetworkView
from ibtrace.probe import Probe
from ibtrace.types import INFORMATION, Lens, LensTags, Need, Reading

Numbers = dict[tuple[str, str], Reading]

_N = 24
_ASKED: dict[Need, tuple[str, ...]] = {
    "activations": ("activations", "activation_ranges"),
    "loss": ("loss", "losses"),
    "gradient": ("gradient", "sample_gradients"),
    "jacobian": ("jacobian",),
    "hessian": ("hessian_product",),
}


def check_lens(lens: Lens) -> None:
    """Run the contract of a lens on small tanh and ReLU networks.

    It is a frozen dataclass with complete tags; it reads the quantities that these name, in their
    units, one number for each network, of layers that are there; the same seed gives the same
    numbers; it asks for no more than the tags' ``needs``; the global generators and the view stay
    as they are; and several networks seen together give the numbers of each seen alone.

    Args:
        lens: Any object of the `ibtrace.types.Lens` protocol.

    Raises:
        AssertionError: If it breaks one of these; says which.

    Example:
        >>> from ibtrace.lenses import Saturation
        >>> check_lens(Saturation())
    """
    _check_tags(lens)
    for activation in (nn.Tanh, nn.ReLU):
        networks = [_network(activation, seed) for seed in range(3)]
        together = _read(lens, networks)
        _check_same(lens, together, _read(lens, networks), "one seed gives two results")
        backwards = _read(lens, networks[::-1])
        flipped = {key: reading[[2, 1, 0]] for key, reading in backwards.items()}
        _check_same(lens, together, flipped, "the networks' order changes their numbers")
        for place, network in enumerate(networks):
            alone = _read(lens, [network])
            one = {key: reading[place : place + 1] for key, reading in together.items()}
            _check_same(lens, alone, one, "a network alone gives other numbers than among others")


def _check_tags(lens: Lens) -> None:
    frozen = dataclasses.is_dataclass(lens) and lens.__dataclass_params__.frozen
    assert frozen, f"{lens!r} is no frozen dataclass: its fields are its configuration"
    tags = lens.tags
    assert isinstance(tags, LensTags), f"{lens!r}: tags must be LensTags, got {tags!r}"
    assert tags.quantities, f"{lens!r}: tags name no quantity"
    assert tags.reference, f"{lens!r}: tags name no source"
    names = [quantity.name for quantity in tags.quantities]
    assert len({*names}) == len(names), f"{lens!r}: two quantities have one name in {names}"
    assert not {*names} & {*INFORMATION}, f"{lens!r}: information is what estimators measure"
    for quantity in tags.quantities:
        said = f"{lens!r}: {quantity!r} needs a name and a unit (1 for a pure number)"
        assert quantity.name, said
        assert quantity.unit, said


def _network(activation: type[nn.Module], seed: int) -> nn.Sequential:
    draw = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 4), activation())
    network.append(nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return network.double()


def _probe() -> Probe:
    x = torch.randn(_N, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Probe(x, (x[:, 0] > 0).long())


def _view(networks: Sequence[nn.Module], probe: Probe) -> NetworkView:
    seen = [next(looks(network, probe, Look(["1", "3", "4"]))) for network in networks]
    parameters, buffers = stack_module_state([*networks])
    return NetworkView(
        networks[0],
        parameters,
        buffers,
        probe,
        seeds=range(len(networks)),
        epoch=1,
        loss="cross_entropy",
        activations={n: torch.stack([s[n].values for s in seen]) for n in seen[0]},
        activation_ranges={name: layer.activation_range for name, layer in seen[0].items()},
    )


class _Honest:
    """A view that gives what a lens says it needs, and nothing else."""

    def __init__(self, lens: Lens, view: NetworkView) -> None:
        self._lens, self._view = lens, view

    def __getattr__(self, name: str) -> Any:
        for need, names in _ASKED.items():
            said = f"{self._lens!r} asks for {name}, and its tags' needs lack {need!r}"
            assert name not in names or need in self._lens.tags.needs, said
        return getattr(self._view, name)


def _read(lens: Lens, networks: Sequence[nn.Module]) -> Numbers:
    """The readings, each checked by itself, and nothing else changed."""
    probe = _probe()
    view = _view(networks, probe)
    held = {**view.parameters, **view.activations}
    before = {name: value.clone() for name, value in held.items()}
    state = torch.get_rng_state()
    readings = lens(_Honest(lens, view), probe, seed=7)
    assert torch.equal(torch.get_rng_state(), state), f"{lens!r} draws from the global generator"
    for name, value in before.items():
        assert torch.equal(held[name], value), f"{lens!r} changes {name} of the view"
    return _checked(lens, readings, view)


def _checked(
    lens: Lens, readings: Mapping[str, Mapping[str, Reading]], view: NetworkView
) -> Numbers:
    known = {quantity.name: quantity for quantity in lens.tags.quantities}
    unread = sorted(known.keys() - readings.keys())
    assert not unread, f"{lens!r}: its tags name {unread}, which it does not read"
    numbers: Numbers = {}
    for name, of_layers in readings.items():
        assert name in known, f"{lens!r} reads {name!r}, which its tags do not name"
        for layer, reading in of_layers.items():
            per = "network" if layer == "" else "layer"
            said = f"{lens!r}: {name} is per {known[name].per}, and was read of {layer!r}"
            assert per == known[name].per, said
            assert layer in {"", *view.activations}, f"{lens!r} reads {layer!r}, which is not there"
            said = f"{lens!r}: {name} is in {known[name].unit!r}, and was read in {reading.unit!r}"
            assert reading.unit == known[name].unit, said
            shape = tuple(reading.value.shape)
            said = f"{lens!r}: {name} must be one number a network, got shape {shape}"
            assert shape == (len(view.seeds),), said
            numbers[name, layer] = reading
    return numbers


def _check_same(lens: Lens, found: Numbers, wanted: Numbers, what: str) -> None:
    assert found.keys() == wanted.keys(), f"{lens!r}: {what} (which layers it reads)"
    for (name, layer), reading in found.items():
        other: Tensor = wanted[name, layer].value
        close = torch.allclose(reading.value, other, rtol=1e-5, atol=1e-9, equal_nan=True)
        got = f"{name} of {layer or 'the network'}: {reading.value.tolist()}, {other.tolist()}"
        assert close, f"{lens!r}: {what} ({got})"

"""What a lens read, held to what its tags say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from ibtrace.errors import InvalidInput
from ibtrace.runtime.arguments import shown
from ibtrace.types import LOSS, RESERVED, Lens, Quantity, Reading, View


def checked(
    lens: Lens,
    readings: Mapping[str, Mapping[str, Reading]],
    view: View,
    layers: Collection[str],
) -> Iterator[tuple[str, str, Reading]]:
    """Quantity, layer and reading, in the order of the lens's tags and each as they say.

    The loss's own unit is filled in.

    Args:
        lens: The lens.
        readings: What it returned.
        view: What it was shown.
        layers: Those that are traced.

    Raises:
        InvalidInput: If a quantity, unit, layer or shape is not what the tags or the view say, or
            a diagnostic has the name of a column, or something is no reading.
    """
    known = {quantity.name: quantity for quantity in lens.tags.quantities}
    _require_mapping("it", readings, "{quantity: {layer: Reading}}")
    if unknown := [name for name in readings if name not in known]:
        raise InvalidInput(f"it reads {unknown[0]!r}, which its tags do not name")
    for name in filter(readings.__contains__, known):
        _require_mapping(name, readings[name], '{layer: Reading}, with "" for the network')
        for layer, reading in readings[name].items():
            _require_fitting(known[name], layer, reading, len(view.seeds), layers)
            yield name, layer, replace(reading, unit=unit_of(known[name], view))


def _require_mapping(what: str, value: object, form: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what} must be read as {form}, got {shown(value)}")


def unit_of(quantity: Quantity, view: View) -> str:
    """A quantity's unit where the loss is known: ``"loss²"`` is nats² of a cross-entropy."""
    return quantity.unit.replace(LOSS, view.loss_unit)


def _require_fitting(
    quantity: Quantity, layer: str, reading: Reading, networks: int, layers: Collection[str]
) -> None:
    name = quantity.name
    if not isinstance(reading, Reading):
        raise InvalidInput(
            f"{name} of {layer!r} must be a Reading(value, unit), got {shown(reading)}"
        )
    if (layer == "") is not (quantity.per == "network"):
        raise InvalidInput(f"{name} is per {quantity.per}, and was read of {layer!r}")
    if layer and layer not in layers:
        raise InvalidInput(f"{name} was read of {layer!r}, no layer that is traced")
    if reading.unit != quantity.unit:
        raise InvalidInput(f"{name} is in {quantity.unit!r}, and was {reading.unit!r}")
    if taken := sorted(RESERVED & {*reading.diagnostics}):
        raise InvalidInput(f"{name}: diagnostics {taken} have a column's name; rename them")
    if (got := tuple(reading.value.shape)) != (networks,):
        raise InvalidInput(f"{name} must be one number a network, got shape {got}")
    if bool((reading.stderr < 0).any()):
        raise InvalidInput(f"{name} has a standard error below 0: {shown(reading.stderr.tolist())}")


def modules_of(view: View) -> dict[str, list[str]]:
    """The modules that hold trainable parameters, with the parameters of each by name."""
    modules: dict[str, list[str]] = {}
    for name in view.parameters:
        modules.setdefault(layer_of(name), []).append(name)
    return modules


def layer_of(parameter: str) -> str:
    """What the layer of a parameter is called.

    Of a module without a name (a network that is one layer) the parameter's own name stands.

    Example:
        >>> layer_of("fc1.weight"), layer_of("weight")
        ('fc1', 'weight')
    """
    return parameter.rpartition(".")[0] or parameter

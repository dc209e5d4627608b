"""A look at a model: its layers' activations on the whole probe, within a bound of memory."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace

import torch
from torch import Tensor, nn

from ibtrace.capture.defaults import default_choice
from ibtrace.capture.evidence import Evidence
from ibtrace.capture.layer import Layer, say_padding, say_rounded
from ibtrace.capture.look import Look
from ibtrace.capture.one_pass import Pass, refuse_all, say_left_out
from ibtrace.capture.plan import named_by_modules, read_layers, rows_for_defaults, standing_out_of
from ibtrace.capture.store import LayerStore
from ibtrace.capture.targets import (
    Layers,
    Selection,
    is_default,
    resolve,
    shown_names,
)
from ibtrace.errors import InvalidInput
from ibtrace.numerics.types import numeric
from ibtrace.probe import Probe
from ibtrace.runtime.arguments import require_instance, require_model
from ibtrace.runtime.wrappers import unwrap


def looks(
    model: nn.Module,
    probe: Probe,
    look: Look | Layers = None,
    *,
    evidence: Evidence | None = None,
) -> Iterator[dict[str, Layer]]:
    """The chosen layers on the whole probe, as many at a time as fit into ``look.max_bytes``.

    Each part is one pass over the probe: every batch is reduced as it comes and copied once into
    its place. The model is as it was whenever a part is given out, and after the last.

    Args:
        model: Any module, on the device of its parameters.
        probe: The fixed inputs, forwarded in order.
        look: How it is looked at, or a choice of layers.
        evidence: What `read_layers` found for these arguments, where there are several looks.

    Yields:
        ``{layer: what was captured}``, in the order of the forward pass.

    Raises:
        UnknownName: If a layer does not exist, or was not reached; lists those that were.
        Unsupported: If a layer is scripted.
        InvalidInput: If a layer's output does not have the samples first, cannot be reduced as
            asked, or is by itself larger than ``look.max_bytes``.
        NonFinite: If activations hold NaN or infinite values; names the layer.
    """
    model, look = unwrap(model), Look.of(look)
    if evidence is None:
        look = named_by_modules(model, probe, look)
        evidence = read_layers(model, probe, look)
    wanted: Set[str] | None = None
    anything, refused = False, dict[str, str]()
    look = look.at(evidence.defaults or look.layers)
    while wanted is None or wanted:
        current = Pass(model, probe, look, evidence, wanted)
        part = current.run()
        wanted = current.left
        anything, refused = anything or bool(part), {**refused, **current.refused}
        if not anything and not wanted and not evidence.beyond:
            refuse_all(refused)
        say_left_out(evidence, current.refused)
        say_rounded(part, evidence.rounded)
        say_padding(part, evidence.guessed)
        if part:
            yield _as_shown(part, look.layers)
        del part, current


def _as_shown(part: dict[str, Layer], layers: Layers) -> dict[str, Layer]:
    """What was captured, by the names that a trace has for it."""
    shown = shown_names(layers)
    return {
        shown.get(name, name): replace(layer, module=name) if name in shown else layer
        for name, layer in part.items()
    }


def snapshot(model: nn.Module, probe: Probe, look: Look | Layers = None) -> dict[str, Tensor]:
    """The activations of the chosen layers on the whole probe, the model left as it was.

    Args:
        model: Any module, on the device of its parameters.
        probe: The fixed inputs, forwarded in order.
        look: How it is looked at, or a choice of layers. Nothing is reduced or projected, and all
            layers are held at once.

    Returns:
        ``{layer: (n, ...)}`` in the order of the forward pass, on the model's device.

    Raises:
        UnknownName: If a layer does not exist, or was not reached; lists those that were.
        Unsupported: If a layer is scripted.
        InvalidInput: If a layer's output does not have the samples first.
        NonFinite: If activations hold NaN or infinite values; names the layer.
    """
    require_model(model)
    require_instance("probe", probe, Probe, "an ibtrace.Probe, such as Probe.of(data)")
    model, look = unwrap(model), replace(Look.of(look), max_bytes=None, max_width=None)
    look = named_by_modules(model, probe, look)
    if is_default(look.layers):
        resolve(model, look.layers)  # what cannot be hooked is an error
        rows = rows_for_defaults(model, probe, look)
        standing_out = standing_out_of(model, probe, look, rows)
        exclude = look.layers.exclude if isinstance(look.layers, Selection) else ()
        look = look.at(replace(default_choice(standing_out, lambda name: False), exclude=exclude))
    first_pass = Pass(model, probe, look, None, None)
    captured = first_pass.run()
    if first_pass.left:
        second_pass = Pass(model, probe, look, None, first_pass.left)
        captured |= second_pass.run()
        first_pass.refused |= second_pass.refused
    if not captured:
        refuse_all(first_pass.refused)
    say_left_out(Evidence(), first_pass.refused)
    return {name: layer.values for name, layer in _as_shown(captured, look.layers).items()}


def reduced(
    name: str,
    outputs: Tensor,
    bounds: tuple[float, float] | None,
    evidence: Evidence,
    max_width: int | None = None,
) -> Layer:
    """A layer of several networks at once, reduced like that of one.

    Args:
        name: The layer's name.
        outputs: What it computed, ``(networks, n, ...)``.
        bounds: Its closed range, if it is bounded.
        evidence: What is known of the layers of one of the networks.
        max_width: See `looks`.

    Raises:
        InvalidInput: If the layer cannot be read.
    """
    reading = evidence.of(name)
    if reading.reduction is None:
        raise InvalidInput(f"layer {name!r}: {reading.trouble}")
    stores = [
        LayerStore(name, output, reading, bounds, max_width, outputs.shape[1]) for output in outputs
    ]
    if outputs.dim() == 3 and not reading.reduction.name and max_width is None:
        return stores[0].layer(numeric(outputs))
    pairs = zip(stores, outputs, strict=True)
    values = torch.stack([store.reduced(output, slice(None)) for store, output in pairs])
    rounded = [store.settle(own) for store, own in zip(stores, values, strict=True)]
    layer = stores[0].layer(values, all(rounded))
    say_rounded({name: layer}, evidence.rounded)
    say_padding({name: layer}, evidence.guessed)
    return layer

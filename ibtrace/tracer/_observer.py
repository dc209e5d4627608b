"""What a tracer looks at: one network or many, on one rank or several, within its memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ibtrace.capture import (
    Evidence,
    Layer,
    Layers,
    Look,
    looks,
    read_layers,
    reduced,
    require_finite,
    resolve,
    undisturbed,
)
from ibtrace.capture.calling import call
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.streaming import Take, streamed
from ibtrace.capture.targets import shown_names
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.probe import Probe, ReadAnew, as_x
from ibtrace.runtime import distributed
from ibtrace.runtime.generators import Draws
from ibtrace.runtime.wrappers import unwrap


@runtime_checkable
class Networks(Protocol):
    """Several networks at once (see `ibtrace.ensemble.Ensemble`): traced like one."""

    @property
    def seeds(self) -> Sequence[int]:
        """The seed of each network."""
        ...

    @property
    def template(self) -> nn.Module:
        """A module of the networks' structure, by which layers are chosen."""
        ...

    def activations(self, x: Tensor, layers: Layers = None) -> dict[str, Tensor]:
        """``{layer: (seeds, n, ...)}`` of all networks on the inputs x."""
        ...

    def named_parameters(self) -> Mapping[str, Tensor]:
        """``{name: (seeds, ...)}``, named as in one network."""
        ...

    def named_buffers(self) -> Mapping[str, Tensor]:
        """``{name: (seeds, ...)}``, named as in one network."""
        ...


@dataclass(frozen=True)
class Observer:
    """How the layers of a model, or of several networks, are seen.

    Args:
        model: One module, or several networks.
        shard: The probe, or this rank's part of it.
        look: How they are seen.
        streams: Whether what does not fit into ``look.max_bytes`` by itself may be handed on batch
            by batch.

    Raises:
        UnknownName: If a layer does not exist.
        Unsupported: If a layer is scripted.
        ConfigError: If several networks are asked for functional activations.
    """

    model: nn.Module | Networks
    shard: Probe
    look: Look
    streams: bool = False

    @property
    def sharded(self) -> bool:
        """Whether each rank has a part of the probe."""
        return self.look.sharded and distributed.running()

    @property
    def apart(self) -> bool:
        """Whether the probe, or the model, lies in parts on several ranks."""
        of_model = isinstance(self.model, nn.Module) and distributed.is_sharded(self.model)
        return self.sharded or of_model

    def __post_init__(self) -> None:
        if isinstance(self.shard.x, ReadAnew) and self.sharded:
            raise Unsupported(
                "sharded=True needs each rank's part of the probe in memory, and it is read anew; "
                "Probe.of(loader) holds it, or let rank 0 read all: sharded=False"
            )
        if isinstance(self.model, nn.Module):
            resolve(self.model, self.look.layers)
            return
        resolve(self.model.template, self.look.layers)
        if self.look.functional:
            raise ConfigError("functional=True needs one network; an Ensemble has many")
        if isinstance(self.shard.x, ReadAnew):
            raise Unsupported(
                "an Ensemble is called with all samples at once, and they are read anew; "
                "Probe.of(loader) holds them"
            )
        if self.look.forward is not None or list(self.shard.inputs) != [""]:
            raise ConfigError(
                "an Ensemble is called with one tensor; trace networks that are called in another "
                "way (forward=, several inputs) one by one, with seed= for each"
            )

    def probe(self) -> Probe:
        """The probe that is measured on: that of all ranks, if each has a part."""
        if not self.sharded:
            return self.shard
        equal = distributed.same_everywhere(self.shard.n)
        if not equal and isinstance(self.model, nn.Module) and distributed.is_sharded(self.model):
            raise InvalidInput("a sharded model needs parts of the probe of one size on all ranks")
        means: tuple[Any, ...] = (self.shard.label_kind, self.shard.class_names)
        means += tuple((each.quantity, each.kind, each.names) for each in self.shard.named)
        if not distributed.same_everywhere(zlib.crc32(repr(means).encode())):
            raise InvalidInput(
                f"the ranks do not read their labels alike (here {means[0]}, names {means[1]}); "
                "give class ids, or Probe(x, y, classes=...) with all names on every rank"
            )
        if not distributed.same_everywhere(zlib.crc32(repr(self.shard.padding).encode())):
            raise InvalidInput(
                f"the ranks do not find the same padding (here {self.shard.padding or 'none'}); "
                "say what it is on every rank: Probe(x, y, padding=…)"
            )
        inputs = {name: distributed.gathered(x) for name, x in self.shard.inputs.items()}
        y, targets = distributed.gathered(self.shard.y), distributed.gathered(self.shard.targets)
        named = [replace(v, values=distributed.gathered(v.values)) for v in self.shard.named]
        return self.shard.replaced(as_x(inputs), y, targets=targets, named=named)

    @cached_property
    def evidence(self) -> Evidence:
        """What T is of each layer, found at the first look and kept for all."""
        model, look = self.model, self.look
        if not isinstance(model, nn.Module):
            model = model.template
            look = look.at([target.name for target in resolve(model, look.layers)])
        evidence = read_layers(model, self.shard, look)
        alone = isinstance(self.model, nn.Module) and self.streams
        return replace(evidence, stream_above=self._most_bytes() if alone else None)

    def _most_bytes(self) -> int | None:
        """How much T of one layer this rank holds at most: its part of what rank 0 would."""
        most = self.look.max_bytes
        if most is None or not self.sharded:
            return most
        everyone: int = sum(distributed.of_all(self.shard.n))
        return most * self.shard.n // everyone

    @property
    def beyond(self) -> set[str]:
        """The layers, by module, that are too large to be held; known after the first look."""
        return set(self.evidence.beyond) if "evidence" in vars(self) else set()

    def stream(self, take: Take, names: Set[str]) -> dict[str, Layer]:
        """One pass in which T of layers that are too large is handed on batch by batch.

        Of a sharded probe each rank hands on its own part; every rank has to call it where the
        model or the probe is sharded.

        Args:
            take: Given each batch of each layer.
            names: The layers, of those `beyond`.
        """
        assert isinstance(self.model, nn.Module)
        model, look = unwrap(self.model), self.look
        if not self.sharded:
            return streamed(model, self.shard, look, self.evidence, names, take)
        with undisturbed(model):
            distributed.share_buffers(model)
            return streamed(model, self.shard, look, self.evidence, names, take)

    @property
    def left_out(self) -> dict[str, str]:
        """The layers that are not traced, and why; empty before the first look."""
        return dict(self.evidence.left_out) if "evidence" in vars(self) else {}

    @property
    def note(self) -> str:
        """How the default layers were chosen; empty if the user chose, or all are traced."""
        defaults = self.evidence.defaults if "evidence" in vars(self) else None
        return "" if defaults is None else defaults.note

    def view(
        self,
        activations: Mapping[str, Layer],
        setting: Setting,
        *,
        seeds: Sequence[int],
        epoch: int,
        step: int | None,
    ) -> NetworkView:
        """What lenses see of the networks at a look.

        Args:
            activations: The layers that were seen at this look.
            setting: How the networks are called and trained.
            seeds: The seed of each network.
            epoch: Epochs of training done.
            step: Optimiser steps done, if known.

        Raises:
            Unsupported: If the networks' parameters, or the probe, lie on several ranks.
        """
        model = self.model
        if self.apart:
            raise Unsupported("lenses need the whole model and probe on rank 0; these are sharded")
        if isinstance(model, nn.Module):
            networks = Stacked.of_module(unwrap(model), seeds)
        else:
            parameters, buffers = model.named_parameters(), model.named_buffers()
            networks = Stacked(model.template, parameters, buffers, seeds, parameters)
        return NetworkView(
            networks,
            self.shard,
            setting,
            epoch=epoch,
            step=step,
            activations={name: layer.values for name, layer in activations.items()},
            activation_ranges={n: layer.activation_range for n, layer in activations.items()},
        )

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, ``{name: (seeds, ...)}``."""
        model = unwrap(self.model) if isinstance(self.model, nn.Module) else self.model
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        alone = isinstance(model, nn.Module)
        return {name: value.detach()[None] if alone else value for name, value in tensors.items()}

    def forward(self) -> None:
        """Forward two samples of the probe (all, where they belong together) and look at nothing.

        It is for the caller to undo what that changes: `undisturbed`.
        """
        if not isinstance(self.model, nn.Module):
            return
        model, rows = unwrap(self.model), slice(None if self.shard.undivided else 2)
        device = next((p.device for p in model.parameters()), self.shard.device)
        call(model, self.shard.batch(rows, device), self.look.forward)

    def looks(self) -> Iterator[dict[str, Layer]]:
        """The layers with their values as ``(seeds, n, d)``, part by part; on rank 0 only."""
        leads = distributed.rank() == 0
        if not isinstance(self.model, nn.Module):
            parts: Iterable[dict[str, Layer]] = [self._look_at_networks(self.model)]
        elif leads or self.sharded or distributed.is_sharded(self.model):
            parts = self._look_at_module(self.model)
        else:
            return
        for part in parts:
            if leads:
                yield part

    def _look_at_module(self, model: nn.Module) -> Iterator[dict[str, Layer]]:
        for part in self._parts(unwrap(model)):
            yield {name: layer.map(lambda values: values[None]) for name, layer in part.items()}

    def _parts(self, model: nn.Module) -> Iterator[dict[str, Layer]]:
        see = partial(looks, model, self.shard, evidence=self.evidence)
        if not self.sharded:
            yield from see(self.look)
            return
        with undisturbed(model):
            distributed.share_buffers(model)
            held = replace(self.look, max_bytes=None)
            whole = {name: layer for part in see(held) for name, layer in part.items()}
        for beyond in distributed.of_all(self.evidence.beyond):
            self.evidence.beyond.update(beyond)
        whole = {n: layer for n, layer in whole.items() if n not in self._beyond_by_name()}
        if not distributed.same_everywhere(zlib.crc32(repr([*whole]).encode())):
            raise InvalidInput(
                f"the ranks do not trace the same layers (here {', '.join(whole)}): what can be "
                "traced is seen on each rank's own part of the probe; name the layers, or leave "
                "those that differ out by exclude="
            )
        yield {name: _of_all_ranks(layer) for name, layer in whole.items()}

    def _beyond_by_name(self) -> set[str]:
        shown = shown_names(self.evidence.defaults or self.look.layers)
        return {shown.get(name, name) for name in self.evidence.beyond}

    @cached_property
    def _random(self) -> bool:
        """Whether the forward of several networks draws something, seen on two samples."""
        template = self.model if isinstance(self.model, nn.Module) else self.model.template
        device = next((p.device for p in template.parameters()), self.shard.device)
        with undisturbed(template) as generators:
            draws = Draws(generators)
            template(self.shard.batch(slice(2), device))
            return draws.happened()

    def _look_at_networks(self, networks: Networks) -> dict[str, Layer]:
        outputs = networks.activations(self.shard.batch(slice(None)), self.look.layers)
        ranges = {t.name: t.activation_range for t in resolve(networks.template, self.look.layers)}
        layers = {}
        for name, value in outputs.items():
            bounds = ranges.get(name.partition(":")[0])
            layer = reduced(name, value, bounds, self.evidence, self.look.max_width)
            layers[name] = replace(layer, random=self._random)
            for seed, rows in zip(networks.seeds, layers[name].values, strict=True):
                require_finite(f"{name} (seed {seed})", rows)
        return layers


def _of_all_ranks(layer: Layer) -> Layer:
    """The rows of all ranks on rank 0, where a mean is one constant, not one for each rank."""
    whole = layer.map(distributed.gathered)
    if layer.rounding is not None:
        layer.rounding.settle(whole.values)
    return whole

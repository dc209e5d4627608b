"""A look at a model: its layers' activations on the whole probe, within a bound of memory."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.capture.calling import Forward, call
from ibtrace.capture.evidence import Evidence, Reading, Run, gather
from ibtrace.capture.functional import Functional
from ibtrace.capture.hooks import Keep, hooked
from ibtrace.capture.targets import Layers, require_reached, resolve
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.numerics.finite import count_non_finite
from ibtrace.numerics.projections import orthonormal
from ibtrace.probe import Probe
from ibtrace.reduce import Reduce, Reduction
from ibtrace.types import InvalidInput, NonFinite
from ibtrace.wrappers import unwrap

MAX_BYTES = 2**31
"""How much activation memory a look holds at a time, if nothing else is said."""

_AS_IT_IS = Reading(Reduction("", lambda output, mask: output))


@dataclass(frozen=True)
class Layer:
    """What was captured of one layer.

    Args:
        values: T, ``(n, d)`` after reduction, in the precision in which the layer computed.
        variable: What T is, where it is not simply the layer's float32 output: ``gap``.
        shape: The layer's own output for one sample.
        activation_range: The closed range that T lies in, if the layer is bounded.
        token_inputs: If the samples are tokens: the names of the inputs whose tokens they are.
    """

    values: Tensor
    variable: str
    shape: tuple[int, ...]
    activation_range: tuple[float, float] | None
    token_inputs: tuple[str, ...] | None

    def map(self, change: Callable[[Tensor], Tensor]) -> Layer:
        """The same layer with other values."""
        return replace(self, values=change(self.values))

    def record(self) -> dict[str, Any]:
        """What a trace keeps of it, as JSON values."""
        return {
            "shape": list(self.shape),
            "variable": self.variable,
            "activation_range": self.activation_range and list(self.activation_range),
            "token_inputs": self.token_inputs and list(self.token_inputs),
        }


def looks(
    model: nn.Module,
    probe: Probe,
    layers: Layers = None,
    *,
    reduce: Reduce = None,
    functional: Functional = False,
    forward: Forward | None = None,
    batch_size: int = 512,
    max_bytes: int | None = MAX_BYTES,
    max_width: int | None = None,
    evidence: Evidence | None = None,
) -> Iterator[dict[str, Layer]]:
    """The chosen layers on the whole probe, as many at a time as fit into ``max_bytes``.

    Each part is one pass over the probe: every batch is reduced as it comes and copied once into
    its place. The model is as it was whenever a part is given out, and after the last.

    Args:
        model: Any module, on the device of its parameters.
        probe: The fixed inputs, forwarded in order.
        layers: See `resolve`.
        reduce: See `ibtrace.reduce`.
        functional: See `capture`.
        forward: How the model is called; None goes by the form of the probe's x. See `call`.
        batch_size: Samples per forward; all of them where an input belongs to all together.
        max_bytes: Bytes of activations held at a time; a lower bound means more passes. None: all.
        max_width: Wider T are projected to this many dimensions by a fixed random orthonormal
            frame (always the same for a layer's name and width).
        evidence: What `read_layers` found for these arguments, where there are several looks.

    Yields:
        ``{layer: what was captured}``, in the order of the forward pass.

    Raises:
        UnknownName: If a layer does not exist, or was not reached; lists those that were.
        Unsupported: If a layer is scripted.
        InvalidInput: If a layer's output does not have the samples first, cannot be reduced as
            asked, or is by itself larger than ``max_bytes``.
        NonFinite: If activations hold NaN or infinite values; names the layer.
    """
    model = unwrap(model)
    if evidence is None:
        evidence = read_layers(
            model,
            probe,
            layers,
            reduce=reduce,
            functional=functional,
            forward=forward,
            batch_size=batch_size,
        )
    wanted: Set[str] | None = None
    while wanted is None or wanted:
        one = _Pass(model, probe, layers, evidence, max_bytes, max_width, wanted)
        found = one.run(functional, batch_size, forward)
        wanted = one.left
        yield found
        del found, one


def read_layers(
    model: nn.Module,
    probe: Probe,
    layers: Layers = None,
    *,
    reduce: Reduce = None,
    functional: Functional = False,
    forward: Forward | None = None,
    batch_size: int = 512,
) -> Evidence:
    """What T will be of each layer, by a few forwards of a few samples.

    Layers that nobody named and that cannot be read are left out of a look, with a warning here.

    Args:
        model: See `looks`.
        probe: See `looks`.
        layers: See `resolve`.
        reduce: See `ibtrace.reduce`.
        functional: See `capture`.
        forward: See `call`.
        batch_size: Samples per forward.
    """
    evidence = gather(
        _runner(unwrap(model), layers, functional, forward), probe, reduce, batch_size
    )
    if layers is None:
        for name, layer in evidence.layers.items():
            if layer.trouble:
                warnings.warn(f"layer {name!r} is left out: {layer.trouble}", stacklevel=2)
    return evidence


def _runner(
    model: nn.Module, layers: Layers, functional: Functional, forward: Forward | None
) -> Run:
    """What runs the model on a probe, under hooks on these layers."""

    def run(probe: Probe, keep: Keep) -> None:
        with (
            undisturbed(model),
            hooked(
                model,
                resolve(model, layers),
                keep,
                functional=functional,
                drop_repeated_output=layers is None,
            ) as begin,
        ):
            device = next((p.device for p in model.parameters()), probe.device)
            begin()
            call(model, probe.batch(slice(None), device), forward)

    return run


def snapshot(
    model: nn.Module,
    probe: Probe,
    layers: Layers = None,
    *,
    functional: Functional = False,
    forward: Forward | None = None,
    batch_size: int = 512,
) -> dict[str, Tensor]:
    """The activations of the chosen layers on the whole probe, the model left as it was.

    Args:
        model: Any module, on the device of its parameters.
        probe: The fixed inputs, forwarded in order.
        layers: See `resolve`.
        functional: See `capture`.
        forward: How the model is called; see `call`.
        batch_size: Samples per forward.

    Returns:
        ``{layer: (n, ...)}`` in the order of the forward pass, on the model's device.

    Raises:
        UnknownName: If a layer does not exist, or was not reached; lists those that were.
        Unsupported: If a layer is scripted.
        InvalidInput: If a layer's output does not have the samples first.
        NonFinite: If activations hold NaN or infinite values; names the layer.
    """
    one = _Pass(unwrap(model), probe, layers, None, None, None, None)
    return {name: layer.values for name, layer in one.run(functional, batch_size, forward).items()}


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
    store = _Store(name, outputs[0], reading, bounds, max_width, outputs.shape[1])
    if outputs.dim() == 3 and not reading.reduction.name and max_width is None:
        return store.layer(outputs)
    return store.layer(torch.stack([store.reduced(one, slice(None)) for one in outputs]))


class _Store:
    """The place of one layer, filled batch by batch."""

    def __init__(
        self,
        name: str,
        output: Tensor,
        reading: Reading,
        bounds: tuple[float, float] | None,
        max_width: int | None,
        samples: int,
    ) -> None:
        assert reading.reduction is not None
        self.reduction = reading.reduction
        self.per_token = self.reduction.per_token
        self._reading = reading
        self._samples = samples
        shape = list(output.shape)
        del shape[self.reduction.axes.batch]
        self._shape = tuple(shape)
        self._bounds = bounds
        self._frame: Tensor | None = None
        self._filled = 0
        self._values: Tensor | None = None
        self._name = name
        self._max_width = max_width
        self._said = [self.reduction.name] if self.reduction.name else []
        if output.dtype != torch.float32:
            self._said.append(str(output.dtype).removeprefix("torch."))

    def reduced(self, output: Tensor, rows: slice) -> Tensor:
        """T of a batch, these rows of the probe."""
        size = len(range(*rows.indices(self._samples)))
        try:
            t = self.reduction(output, self._reading.mask(rows))
        except InvalidInput as error:
            raise InvalidInput(f"layer {self._name!r}: {error}") from error
        if t.dim() < 1 or (len(t) != size and not self.per_token):
            raise InvalidInput(
                f"layer {self._name!r}: reduce made {tuple(t.shape)} of {tuple(output.shape)}; "
                "it must keep the samples first"
            )
        if self._frame is None and self._max_width and t[0].numel() > self._max_width:
            self._frame = _frame(self._name, t.shape[1], self._max_width).to(t.device)
            self._said.append(f"{self._max_width} random projections of {t.shape[1]}")
            self._bounds = None
        if self._frame is not None:
            t = (t.double() @ self._frame).to(t.dtype)
        return t

    def size(self, t: Tensor, rows: int) -> int:
        """Bytes of the whole layer, judged by the T of one sample or token."""
        return rows * t[:1].numel() * t.element_size()

    def add(self, t: Tensor, rows: int) -> None:
        """Put the T of a batch into its place among ``rows`` in all."""
        if self._values is None:
            self._values = t.new_empty((rows, *t.shape[1:]))
        self._values[self._filled : self._filled + len(t)] = t
        self._filled += len(t)

    def filled(self) -> Layer:
        """What was captured."""
        assert self._values is not None
        return self.layer(self._values)

    def layer(self, values: Tensor) -> Layer:
        """These values as the layer's T."""
        stream = self._reading.stream
        tokens = None if not self.per_token else () if stream is None else stream.inputs
        return Layer(values, ", ".join(self._said), self._shape, self._bounds, tokens)


class _Pass:
    """One pass over the probe for the layers that are wanted and fit."""

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        layers: Layers,
        evidence: Evidence | None,
        max_bytes: int | None,
        max_width: int | None,
        wanted: Set[str] | None,
    ) -> None:
        self.model, self.probe, self.layers = model, probe, layers
        self.evidence, self.max_bytes, self.max_width = evidence, max_bytes, max_width
        self.wanted = wanted
        self.left: set[str] = set()
        self.stores: dict[str, _Store] = {}
        self.held = 0
        self.fired: list[str] = []
        self.rows = slice(0, 0)

    def run(
        self, functional: Functional, batch_size: int, forward: Forward | None
    ) -> dict[str, Layer]:
        """Forward the probe; what was captured."""
        model, probe = self.model, self.probe
        device = next((p.device for p in model.parameters()), probe.device)
        targets = resolve(model, self.layers)
        batch_size = probe.n if probe.undivided else batch_size
        with (
            torch.inference_mode(False),  # its tensors could not be restored or measured
            undisturbed(model),
            hooked(
                model,
                targets,
                self.keep,
                functional=functional,
                drop_repeated_output=self.layers is None,
            ) as begin,
        ):
            for start in range(0, probe.n, batch_size):
                self.rows = slice(start, min(start + batch_size, probe.n))
                begin()
                call(model, probe.batch(self.rows, device), forward)
                if start == 0 and self.layers is not None:
                    require_reached((target.name for target in targets), self.fired)
        found = {name: store.filled() for name, store in self.stores.items()}
        for name, layer in found.items():
            require_finite(name, layer.values)
        return found

    def keep(self, name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
        """Take one batch of one layer."""
        first = self.rows.start == 0
        if first:
            self.fired.append(name)
        if (self.wanted is not None and name not in self.wanted) or name in self.left:
            return
        reading = _AS_IT_IS if self.evidence is None else self.evidence.of(name)
        if reading.reduction is None:
            if self.layers is None:
                return  # `read_layers` has warned
            raise InvalidInput(f"layer {name!r}: {reading.trouble}")
        size, axis = self.rows.stop - self.rows.start, reading.reduction.axes.batch
        if not reading.reduction.raw and (output.dim() <= axis or output.shape[axis] != size):
            raise InvalidInput(
                f"layer {name!r} gave shape {tuple(output.shape)} for {size} samples; "
                "choose a layer whose output has the samples first"
            )
        if first:
            self.stores[name] = _Store(name, output, reading, bounds, self.max_width, self.probe.n)
        store = self.stores[name]
        t = store.reduced(output, self.rows)
        rows = self._rows(reading, t) if store.per_token else self.probe.n
        if first and not self._fits(name, store.size(t, rows)):
            return
        store.add(t, rows)

    def _rows(self, reading: Reading, t: Tensor) -> int:
        """How many tokens the probe has in all."""
        if reading.stream is not None and reading.stream.real is not None:
            return int(reading.stream.real.sum())
        return len(t) // (self.rows.stop - self.rows.start) * self.probe.n

    def _fits(self, name: str, size: int) -> bool:
        """Reserve memory for a layer, or leave it to the next pass."""
        if self.max_bytes is None:
            return True
        if size > self.max_bytes:
            raise InvalidInput(
                f"layer {name!r} needs {size:,} bytes on this probe, max_bytes is "
                f"{self.max_bytes:,}; reduce it (reduce=, max_width=), or raise max_bytes"
            )
        if self.held + size > self.max_bytes or self.left:
            self.left.add(name)
            del self.stores[name]
            return False
        self.held += size
        return True


def _frame(name: str, width: int, to: int) -> Tensor:
    """The fixed frame by which a wide layer is projected, ``(width, to)`` float64."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{width}/{to}".encode()))
    return orthonormal(1, width, to, generator)[0]


def require_finite(layer: str, value: Tensor) -> None:
    """Raise if activations hold NaN or infinite values.

    Args:
        layer: The layer's name, for the message.
        value: Its activations.

    Raises:
        NonFinite: Naming the layer and how many values are bad.
    """
    if bad := count_non_finite(value):
        raise NonFinite(
            f"layer {layer!r} has {bad} of {value.numel()} activations NaN or infinite; "
            "has the training diverged?"
        )

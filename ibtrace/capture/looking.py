"""A look at a model: its layers' activations on the whole probe, within a bound of memory."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.capture.calling import call
from ibtrace.capture.defaults import Candidate, all_of, candidates, chosen
from ibtrace.capture.evidence import Evidence, Reading, Run, gather, settling_rows
from ibtrace.capture.functional import Functional
from ibtrace.capture.hooks import Keep, hooked
from ibtrace.capture.look import Look
from ibtrace.capture.reduce import Reduction
from ibtrace.capture.targets import (
    Defaults,
    Layers,
    Selection,
    Target,
    aliases,
    another_name,
    excludes,
    is_default,
    named_layers,
    output_name,
    renamed,
    resolve,
    scripted,
    silent,
    stem,
)
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import InvalidInput, LeftOut, NonFinite, UnknownName
from ibtrace.numerics.finite import count_non_finite
from ibtrace.numerics.projections import orthonormal
from ibtrace.numerics.types import numeric
from ibtrace.probe import Probe
from ibtrace.runtime.generators import Draws
from ibtrace.runtime.patterns import is_pattern, matches
from ibtrace.runtime.wrappers import unwrap

_SCRIPTED = "it is a torch.jit module, whose hooks never run; trace what it was made from"
_ANOTHER = "choose another layer"
_ONE_BATCH = f"forward the probe as one batch (batch_size=n), or {_ANOTHER}"

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
        random: Whether something random had been drawn in the forward before it.
    """

    values: Tensor
    variable: str
    shape: tuple[int, ...]
    activation_range: tuple[float, float] | None
    token_inputs: tuple[str, ...] | None
    random: bool = False

    def map(self, change: Callable[[Tensor], Tensor]) -> Layer:
        """The same layer with other values."""
        return replace(self, values=change(self.values))

    def record(self) -> dict[str, Any]:
        """What a trace keeps of it, as JSON values."""
        return {
            "shape": list(self.shape),
            "variable": self.variable,
            "width": self.values.shape[-1],
            "activation_range": self.activation_range and list(self.activation_range),
            "token_inputs": self.token_inputs and list(self.token_inputs),
        }


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
        evidence = read_layers(model, probe, look)
    wanted: Set[str] | None = None
    anything, refused = False, dict[str, str]()
    look = look.at(evidence.defaults or look.layers)
    while wanted is None or wanted:
        one = _Pass(model, probe, look, evidence, wanted)
        part = one.run()
        wanted = one.left
        anything, refused = anything or bool(part), {**refused, **one.refused}
        if not anything and not wanted:
            _refuse_all(refused)
        _say_left_out(evidence, one.refused)
        if part:
            yield part
        del part, one


def read_layers(model: nn.Module, probe: Probe, look: Look | Layers = None) -> Evidence:
    """What T will be of each layer, by a few forwards of a few samples.

    Layers that nobody wrote out and that cannot be read are left out of a look, with a warning.

    Args:
        model: See `looks`.
        probe: See `looks`.
        look: See `looks`.
    """
    model, look = unwrap(model), Look.of(look)
    if not is_default(look.layers):
        evidence = gather(runner(model, look), probe, look.reduce, look.batch_size)
        require_excludes(model, look.layers, [*evidence.layers])
        _require_called(model, look.functional, evidence.layers)
        return evidence
    resolve(model, look.layers)  # what cannot be hooked is an error
    rows = _rows_for_defaults(model, probe, look)
    standing_out = _standing_out(model, probe, look, rows)
    everything = all_of(standing_out)
    run = runner(model, replace(look.at(everything), functional=everything.called))
    evidence = gather(run, probe, look.reduce, look.batch_size, rows)
    defaults = chosen(standing_out, lambda name: bool(evidence.of(name).trouble))
    _require_called(model, look.functional, [c.name for c in standing_out])
    exclude = look.layers.exclude if isinstance(look.layers, Selection) else ()
    return replace(evidence, defaults=replace(defaults, exclude=exclude))


def _require_called(model: nn.Module, functional: Functional, ran: Iterable[str]) -> None:
    """Raise if a choice of called activations means none: it is a slip of the pen."""
    names = dict.fromkeys(map(stem, ran))
    known = [name for name in names if name not in named_layers(model)]
    patterns = [functional] if isinstance(functional, str) else functional
    for pattern in () if isinstance(patterns, bool) or not names else patterns:
        if not any(matches(name, pattern) for name in known):
            raise UnknownName(
                f"functional: no activation that is called is meant by {pattern!r}; see "
                "ibtrace.layers(model, x), or functional=True for all"
            )


def require_excludes(model: nn.Module, layers: Layers, others: Sequence[str] = ()) -> None:
    """Raise if an exclusion means no layer: it is a slip of the pen.

    Args:
        model: The model.
        layers: The choice of layers.
        others: Names of called activations, or of calls, that it may mean too.

    Raises:
        UnknownName: Naming the exclusion, and the layers there are; or the first name of the one
            that it means by another.
    """
    if not isinstance(layers, Selection):
        return
    modules, first = {**named_layers(model), output_name(model): model}, aliases(model)
    for choice in layers.exclude:
        known = [*modules.items(), *((name, None) for name in others)]
        meant = [name for name, module in known if excludes([choice], name, module)]
        if meant and all(name in first for name in meant):
            why = another_name(first[meant[0]])
            raise UnknownName(f"exclude: layer {meant[0]!r}: {why}; say {first[meant[0]]!r}")
        if not meant:
            names = ", ".join(dict.fromkeys([*modules, *others]))
            raise UnknownName(f"exclude: nothing is meant by {choice!r}; there are: {names}")


def _rows_for_defaults(model: nn.Module, probe: Probe, look: Look) -> Tensor:
    """The samples by which defaults are found: those on which most of the model runs."""
    modules = {**named_layers(model), output_name(model): model}
    names = tuple(n for n, m in modules.items() if not isinstance(m, torch.jit.ScriptModule))
    everything = replace(look.at(Defaults(names, frozenset(names))), functional=True)
    return settling_rows(runner(model, everything), probe, look.batch_size)


def _standing_out(model: nn.Module, probe: Probe, look: Look, rows: Tensor) -> list[Candidate]:
    """The layers to choose from where nobody chose any, by a forward of a few samples."""
    exclude = look.layers.exclude if isinstance(look.layers, Selection) else ()
    seen: list[str] = []
    device = next((p.device for p in model.parameters()), probe.device)

    def excluded(name: str, module: nn.Module | None) -> bool:
        seen.append(name)
        return bool(exclude) and excludes(exclude, name, module)

    def see(few: Probe) -> list[Candidate]:
        with undisturbed(model), candidates(model, look.functional, excluded) as standing_out:
            call(model, few.batch(slice(None), device), look.forward)
        return standing_out

    try:
        standing_out = see(probe.take(rows))
    except InvalidInput:  # it may ask for more samples than a few
        standing_out = see(probe if probe.undivided else probe.take(slice(look.batch_size)))
    require_excludes(model, look.layers, seen)
    return standing_out


def runner(model: nn.Module, look: Look) -> Run:
    """What runs the model on a probe, under hooks on these layers."""

    def run(probe: Probe, keep: Keep) -> None:
        with (
            torch.inference_mode(False),
            undisturbed(model),
            hooked(
                model,
                resolve(model, look.layers),
                keep,
                functional=look.functional,
                refuse=lambda name, why: None,  # the look itself will say so
            ) as begin,
        ):
            device = next((p.device for p in model.parameters()), probe.device)
            begin()
            call(model, probe.batch(slice(None), device), look.forward)

    return run


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
    model, look = unwrap(model), replace(Look.of(look), max_bytes=None, max_width=None)
    if is_default(look.layers):
        resolve(model, look.layers)  # what cannot be hooked is an error
        rows = _rows_for_defaults(model, probe, look)
        standing_out = _standing_out(model, probe, look, rows)
        exclude = look.layers.exclude if isinstance(look.layers, Selection) else ()
        look = look.at(replace(chosen(standing_out, lambda name: False), exclude=exclude))
    one = _Pass(model, probe, look, None, None)
    captured = one.run()
    if one.left:
        more = _Pass(model, probe, look, None, one.left)
        captured |= more.run()
        one.refused |= more.refused
    if not captured:
        _refuse_all(one.refused)
    _say_left_out(Evidence(), one.refused)
    return {name: layer.values for name, layer in captured.items()}


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
        return store.layer(numeric(outputs))
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
        self.random = False
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

    def add(self, t: Tensor, rows: int) -> str:
        """Put the T of a batch into its place; why not, if it does not fit.

        Args:
            t: T of the batch.
            rows: How many there are in all; counts for the first batch.
        """
        if self._values is None:
            self._values = t.new_empty((rows, *t.shape[1:]))
        held, rows = self._values, len(self._values)
        if t.shape[1:] != held.shape[1:] or t.dtype != held.dtype:
            then, now = (f"{tuple(v.shape[1:])} {v.dtype}" for v in (held, t))
            return f"T is {then} a sample in one batch and {now} in another; {_ONE_BATCH}"
        if self._filled + len(t) > rows:
            return f"it gave more than {rows} rows; {_ONE_BATCH}"
        held[self._filled : self._filled + len(t)] = t
        self._filled += len(t)
        return ""

    @property
    def missing(self) -> str:
        """Why it is not whole after a pass; empty if it is."""
        rows = 0 if self._values is None else len(self._values)
        if self._filled == rows:
            return ""
        return f"it ran for {self._filled} of {rows} rows, not in every batch; {_ONE_BATCH}"

    def filled(self) -> Layer:
        """What was captured."""
        assert self._values is not None
        return self.layer(self._values)

    def layer(self, values: Tensor) -> Layer:
        """These values as the layer's T."""
        stream = self._reading.stream
        tokens = None if not self.per_token else () if stream is None else stream.inputs
        said = ", ".join(self._said)
        return Layer(values, said, self._shape, self._bounds, tokens, self.random)


class _Pass:
    """One pass over the probe for the layers that are wanted and fit."""

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        look: Look,
        evidence: Evidence | None,
        wanted: Set[str] | None,
    ) -> None:
        self.model, self.probe, self.look, self.layers = model, probe, look, look.layers
        self.evidence, self.wanted = evidence, wanted
        self.left: set[str] = set()
        self.stores: dict[str, _Store] = {}
        self.held = 0
        self.fired: list[str] = []
        self.refused: dict[str, str] = {}
        self.targets: list[Target] = []
        self.rows = slice(0, 0)
        self.draws = Draws()
        self.doubled: set[str] | None = None
        self._mend = _ONE_BATCH

    def run(self) -> dict[str, Layer]:
        """Forward the probe; what was captured."""
        model, probe, functional = self.model, self.probe, self.look.functional
        device = next((p.device for p in model.parameters()), probe.device)
        self.targets = resolve(model, self.layers)
        for name in scripted(model, self.layers):
            self.refused[name] = _SCRIPTED
        self.refused |= renamed(model, self.layers)
        self._written = {t.name for t in self.targets if t.choice == ""} | _names(functional)
        if isinstance(self.layers, Defaults):
            functional = self.layers.called
        batch_size = probe.n if probe.undivided else self.look.batch_size
        self._mend = _ONE_BATCH if batch_size < probe.n else _ANOTHER
        with (
            torch.inference_mode(False),  # its tensors could not be restored or measured
            undisturbed(model) as generators,
            hooked(
                model,
                self.targets,
                self.keep,
                functional=functional,
                pass_over=self.pass_over if self.wanted is None else None,
                refuse=self.refuse,
            ) as begin,
        ):
            for start in range(0, probe.n, batch_size):
                self.rows = slice(start, min(start + batch_size, probe.n))
                begin()
                self.draws = Draws(generators)
                call(model, probe.batch(self.rows, device), self.look.forward)
                if start == 0:
                    reached = [*self.fired, *self.refused]
                    for name in silent(self.targets, reached):
                        self.refuse(name, "it is not called in the forward pass")
        if isinstance(self.layers, Defaults):
            for name in set(self.layers.names) - {*self.fired, *self.refused, output_name(model)}:
                self.refuse(name, f"it ran on the first samples, but not always; {self._mend}")
        for name, store in list(self.stores.items()):
            if store.missing:
                self.refuse(name, store.missing)
        if self.doubled is not None and not self.doubled - self.refused.keys():
            self.left.add(output_name(model))
        captured = {name: store.filled() for name, store in self.stores.items()}
        for name, layer in captured.items():
            require_finite(name, layer.values)
        return captured

    def pass_over(self, name: str, same: Sequence[str]) -> bool:
        """Whether the output is another default's very tensor: then it is passed over.

        If it is not so in every batch, the output is left for a pass of its own.

        Args:
            name: What the output is called.
            same: The layers whose very tensor it is in this batch.
        """
        if not isinstance(self.layers, Defaults) or not self.layers.doubled:
            return False
        same_now = self.layers.doubled.intersection(same)
        if self.rows.start == 0:
            self.doubled = set(same_now) or None
        elif self.doubled is not None:
            self.doubled &= same_now
        return self.doubled is not None

    def refuse(self, name: str, why: str) -> None:
        """Leave a layer out, or raise if it was written out."""
        if stem(name) in self._written:
            raise InvalidInput(f"layer {name!r}: {why}")
        self.refused[name] = why
        self.stores.pop(name, None)

    def keep(self, name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
        """Take one batch of one layer."""
        first = self.rows.start == 0
        if first:
            self.fired.append(name)
        not_now = (self.wanted is not None and name not in self.wanted) or self._excluded(name)
        if not_now or name in self.left or name in self.refused or self._not_chosen(name):
            return
        reading = _AS_IT_IS if self.evidence is None else self.evidence.of(name)
        if why := self._why_not(reading, output):
            self.refuse(name, why)
            return
        try:
            if first and name not in self.stores:
                self._begin(name, output, reading, bounds)
            elif name in self.stores:
                self._add(name, self.stores[name].reduced(output, self.rows))
            else:
                self.refuse(name, f"it did not run in the first batch; {_ONE_BATCH}")
        except InvalidInput as error:
            self.refuse(name, str(error).removeprefix(f"layer {name!r}: "))

    def _excluded(self, name: str) -> bool:
        """Whether a call, or a called activation, is among those that are not meant."""
        choice = self.layers
        return isinstance(choice, (Selection, Defaults)) and excludes(choice.exclude, name, None)

    def _not_chosen(self, name: str) -> bool:
        """Whether a default trace passes over a layer; says so of a call that was not foreseen."""
        if not isinstance(self.layers, Defaults) or name in self.layers.names:
            return False
        if self.layers.doubled and name == output_name(self.model):
            return False
        if name not in self.layers.known and stem(name) in map(stem, self.layers.names):
            when = "in the first batch" if self._mend == _ONE_BATCH else "when the trace began"
            self.refuse(name, f"it did not run {when}; {self._mend}")
        return True

    def _why_not(self, reading: Reading, output: Tensor) -> str:
        """Why a batch of a layer cannot be taken; empty if it can."""
        if reading.reduction is None:
            return reading.trouble
        if output.layout != torch.strided or output.is_nested:
            return "its output is sparse or nested; choose a layer with a plain tensor"
        if output.is_complex():
            return "its output is complex; give torch.view_as_real of it by a callable in reduce="
        size, axis = self.rows.stop - self.rows.start, reading.reduction.axes.batch
        if not reading.reduction.raw and (output.dim() <= axis or output.shape[axis] != size):
            shape = tuple(output.shape)
            return (
                f"it gave shape {shape} for {size} samples; choose a layer whose output has the "
                "samples first, or unfold it by a callable in reduce="
            )
        return "" if output.numel() else f"its output {tuple(output.shape)} is empty"

    def _begin(
        self, name: str, output: Tensor, reading: Reading, bounds: tuple[float, float] | None
    ) -> None:
        """Make the place of a layer, and put its first batch there."""
        store = _Store(name, output, reading, bounds, self.look.max_width, self.probe.n)
        t = store.reduced(output, self.rows)
        rows = self._rows(reading, t) if store.per_token else self.probe.n
        self.stores[name] = store
        if self._fits(name, store.size(t, rows)):
            self._add(name, t, rows)

    def _add(self, name: str, t: Tensor, rows: int = 0) -> None:
        store = self.stores[name]
        store.random = store.random or self.draws.happened()
        if why := store.add(t, rows):
            self.refuse(name, why)

    def _rows(self, reading: Reading, t: Tensor) -> int:
        """How many tokens the probe has in all."""
        if reading.stream is not None and reading.stream.real is not None:
            return int(reading.stream.real.sum())
        return len(t) // (self.rows.stop - self.rows.start) * self.probe.n

    def _fits(self, name: str, size: int) -> bool:
        """Reserve memory for a layer, or leave it to the next pass."""
        if self.look.max_bytes is None:
            return True
        if size > self.look.max_bytes:
            raise InvalidInput(
                f"layer {name!r}: it needs {size:,} bytes on this probe, max_bytes is "
                f"{self.look.max_bytes:,}; reduce it (reduce=, max_width=), or raise max_bytes"
            )
        if self.held + size > self.look.max_bytes or self.left:
            self.left.add(name)
            del self.stores[name]
            return False
        self.held += size
        return True


def _names(functional: Functional) -> set[str]:
    """The called activations that were written out, not meant by a pattern."""
    wanted = [functional] if isinstance(functional, str) else functional
    return set() if isinstance(wanted, bool) else {name for name in wanted if not is_pattern(name)}


def _say_left_out(evidence: Evidence, refused: Mapping[str, str]) -> None:
    """Warn of layers that are not traced, each once for all looks."""
    new = {name: why for name, why in refused.items() if name not in evidence.left_out}
    evidence.left_out.update(new)
    by_cause: dict[str, list[str]] = {}
    for name, why in new.items():
        by_cause.setdefault(why, []).append(name)
    if new:
        said = "; ".join(f"{_listed(names)}: {why}" for why, names in by_cause.items())
        warnings.warn(f"left out of the trace: {said}", LeftOut, stacklevel=3)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _refuse_all(left_out: Mapping[str, str]) -> None:
    name, why = next(iter(left_out.items()), ("output", "no layer ran"))
    raise InvalidInput(f"no layer can be traced; layer {name!r}: {why}")


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

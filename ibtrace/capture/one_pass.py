"""One pass over the probe: the layers that are wanted and fit, batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from ibtrace.capture.calling import call
from ibtrace.capture.evidence import Evidence, Reading
from ibtrace.capture.functional import Functional
from ibtrace.capture.hooks import hooked
from ibtrace.capture.layer import Layer, listed, require_finite
from ibtrace.capture.look import Look
from ibtrace.capture.reduce import Reduction
from ibtrace.capture.store import ANOTHER, ONE_BATCH, LayerStore
from ibtrace.capture.targets import (
    Defaults,
    Selection,
    Target,
    excludes,
    output_name,
    renamed,
    resolve,
    scripted,
    silent,
    stem,
)
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.estimators import adding
from ibtrace.probe import Probe
from ibtrace.runtime.generators import Draws
from ibtrace.runtime.patterns import is_pattern

_SCRIPTED = "it is a torch.jit module, whose hooks never run; trace what it was made from"

_AS_IT_IS = Reading(Reduction("", lambda output, mask: output))


class Pass:
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
        self.stores: dict[str, LayerStore] = {}
        self.held = 0
        self.fired: list[str] = []
        self.refused: dict[str, str] = {}
        self.targets: list[Target] = []
        self.rows = slice(0, 0)
        self.draws = Draws()
        self.doubled: set[str] | None = None
        self._mend = ONE_BATCH
        self._reading = False  # what runs then is the data's own, and no layer

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
        self._mend = ONE_BATCH if batch_size < probe.n else ANOTHER
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
                self._reading = True
                inputs = probe.batch(self.rows, device)
                self._reading = False
                begin()
                self.draws = Draws(generators)
                call(model, inputs, self.look.forward)
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
        if self._reading:
            return
        first = self.rows.start == 0
        if first:
            self.fired.append(name)
        not_now = (self.wanted is not None and name not in self.wanted) or self._excluded(name)
        not_now = not_now or self._passed_over(name)
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
                self.refuse(name, f"it did not run in the first batch; {ONE_BATCH}")
        except InvalidInput as error:
            self.refuse(name, str(error).removeprefix(f"layer {name!r}: "))

    def _passed_over(self, name: str) -> bool:
        """Whether a layer is one of those that no pass holds."""
        return self.evidence is not None and name in self.evidence.beyond

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
            when = "in the first batch" if self._mend == ONE_BATCH else "when the trace began"
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
        store = self._store(name, output, reading, bounds)
        t = store.reduced(output, self.rows)
        rows = self._rows(reading, t) if store.per_token else self.probe.n
        self.stores[name] = store
        if self._fits(name, store.size(t, rows)):
            self._add(name, t, rows)

    def _store(
        self, name: str, output: Tensor, reading: Reading, bounds: tuple[float, float] | None
    ) -> LayerStore:
        """An empty place for a layer."""
        return LayerStore(name, output, reading, bounds, self.look.max_width, self.probe.n)

    def _add(self, name: str, t: Tensor, rows: int = 0) -> None:
        store = self.stores[name]
        store.random = store.random or self.draws.happened()
        if why := store.add(t, rows):
            self.refuse(name, why)

    def _rows(self, reading: Reading, t: Tensor) -> int:
        """How many tokens the probe has in all."""
        stream = reading.stream
        if stream is not None and (stream.real is not None or stream.left_out is not None):
            return int(stream.measured(self.probe.n).sum())
        return len(t) // (self.rows.stop - self.rows.start) * self.probe.n

    def _fits(self, name: str, size: int) -> bool:
        """Reserve memory for a layer, or leave it to the next pass."""
        above = None if self.evidence is None else self.evidence.stream_above
        if self.evidence is not None and above is not None and size > above:
            self.evidence.beyond.add(name)
            del self.stores[name]
            return False
        if self.look.max_bytes is None:
            return True
        if size > self.look.max_bytes:
            raise InvalidInput(
                f"layer {name!r}: it needs {size:,} bytes on this probe, max_bytes is "
                f"{self.look.max_bytes:,}; reduce it (reduce=, max_width=), raise max_bytes, or "
                f"measure by estimators alone that add up over batches ({', '.join(adding())})"
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


def say_left_out(evidence: Evidence, refused: Mapping[str, str]) -> None:
    """Warn of layers that are not traced, each once for all looks."""
    new = {name: why for name, why in refused.items() if name not in evidence.left_out}
    evidence.left_out.update(new)
    by_cause: dict[str, list[str]] = {}
    for name, why in new.items():
        by_cause.setdefault(why, []).append(name)
    if new:
        causes = "; ".join(f"{listed(names)}: {why}" for why, names in by_cause.items())
        warnings.warn(f"left out of the trace: {causes}", LeftOut, stacklevel=3)


def refuse_all(left_out: Mapping[str, str]) -> None:
    """Raise where no layer is left to trace: names the first, and why it is not.

    Raises:
        InvalidInput: Always.
    """
    if not left_out:
        raise InvalidInput(
            "no layer can be traced: none ran that is chosen and not excluded; see "
            "ibtrace.layers(model, x)"
        )
    name, why = next(iter(left_out.items()))
    raise InvalidInput(f"no layer can be traced; layer {name!r}: {why}")

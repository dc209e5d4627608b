"""Layers whose T is handed on batch by batch and held by nobody: for what adds up over batches."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import replace

import torch
from torch import Tensor, nn

from ibtrace.capture.evidence import Evidence, Reading
from ibtrace.capture.layer import Layer, require_finite, say_padding
from ibtrace.capture.look import Look
from ibtrace.capture.one_pass import Pass
from ibtrace.capture.rounding import Rounding
from ibtrace.capture.store import ONE_BATCH, LayerStore
from ibtrace.capture.targets import shown_names
from ibtrace.probe import Probe

Take = Callable[[str, Layer, slice, Rounding | None], None]
"""Takes a layer's name, a batch of it (not to be held), which of its rows these are, and by how
much they may differ by rounding alone, if they are means."""


def streamed(
    model: nn.Module, probe: Probe, look: Look, evidence: Evidence, names: Set[str], take: Take
) -> dict[str, Layer]:
    """One pass over the probe, in which T of some layers is handed on as it comes.

    Columns that differ by rounding alone are left as they are: ``take`` sees all samples.

    Args:
        model: The module, without wrappers.
        probe: The samples, forwarded in order.
        look: How the model is looked at.
        evidence: What T is of each layer.
        names: The layers.
        take: Given each batch of each, by the layer's name in a trace.

    Returns:
        ``{name in a trace: the layer}`` with no rows of T.

    Raises:
        InvalidInput: If a layer's T is not of one form in all batches.
        NonFinite: If activations hold NaN or infinite values; names the layer.
    """
    look = look.at(evidence.defaults or look.layers)
    shown = shown_names(look.layers)
    layers = _Streaming(model, probe, look, evidence, names, take).run()
    say_padding(layers, evidence.guessed)
    return {
        shown.get(name, name): replace(layer, module=name if name in shown else "")
        for name, layer in layers.items()
    }


class _Streaming(Pass):
    """A pass that holds no layer."""

    def __init__(
        self,
        model: nn.Module,
        probe: Probe,
        look: Look,
        evidence: Evidence,
        wanted: Set[str],
        take: Take,
    ) -> None:
        super().__init__(model, probe, look, evidence, wanted)
        self._take = take
        self._shown = shown_names(look.layers)

    def _passed_over(self, name: str) -> bool:
        return False

    def _fits(self, name: str, size: int) -> bool:
        return True

    def _store(
        self, name: str, output: Tensor, reading: Reading, bounds: tuple[float, float] | None
    ) -> LayerStore:
        place = name, output, reading, bounds, self.look.max_width, self.probe.n
        return _Handed(*place, take=self._take, shown=self._shown.get(name, name))


class _Handed(LayerStore):
    """The place of a layer that is not filled: what comes is handed on.

    Args:
        *place: As of a `LayerStore`.
        take: Given each batch.
        shown: The layer's name in a trace.
    """

    def __init__(self, *place: object, take: Take, shown: str) -> None:
        super().__init__(*place)  # type: ignore[arg-type]  # as of the base
        self._take, self._shown_name = take, shown
        self._expected = 0
        self._none: Tensor | None = None

    def add(self, t: Tensor, rows: int) -> str:
        """Hand on the T of a batch; why not, if it is of another form than the first."""
        if self._none is None:
            self._none, self._expected = t.new_empty((0, *t.shape[1:])), rows
        if t.shape[1:] != self._none.shape[1:] or t.dtype != self._none.dtype:
            then, now = (f"{tuple(v.shape[1:])} {v.dtype}" for v in (self._none, t))
            return f"T is {then} a sample in one batch and {now} in another; {ONE_BATCH}"
        if self._filled + len(t) > self._expected:
            return f"it gave more than {self._expected} rows; {ONE_BATCH}"
        require_finite(self._name, t)
        at = slice(self._filled, self._filled + len(t))
        self._take(self._shown_name, self.layer(t), at, self._rounding)
        self._filled = at.stop
        return ""

    @property
    def missing(self) -> str:
        """Why it was not handed on whole after a pass; empty if it was."""
        if self._filled == self._expected:
            return ""
        return (
            f"it ran for {self._filled} of {self._expected} rows, not in every batch; {ONE_BATCH}"
        )

    def filled(self) -> Layer:
        """The layer without any row."""
        assert self._none is not None
        return self.layer(torch.empty_like(self._none))

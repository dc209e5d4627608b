"""Layers whose activations are those of the look before: what was measured of them stands."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ibtrace.measure import measure
from ibtrace.probe import Probe
from ibtrace.types import Estimator, LayerContext, Row, label

_LOOKED_AT = 1024  # values of a layer that tell most changes


@dataclass
class _Layer:
    """A layer at its last look, with the rows of each estimator since it last changed."""

    context: LayerContext
    glance: bytes
    digest: bytes | None = None
    rows: dict[str, list[Row]] = field(default_factory=dict)


class Unchanged:
    """What was measured of layers that have not changed since, for a frozen layer to have it again.

    Estimates are functions of the activations alone, so that they stand while these do. That they
    do is told by a digest of all their bits, which is taken only where a glance at some of them
    shows no change: of a layer that trains it costs nothing, and one that is frozen is measured
    twice more.
    """

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}

    def measure(
        self,
        activations: Mapping[str, Tensor],
        contexts: Mapping[str, LayerContext],
        probe: Probe,
        estimators: Sequence[Estimator],
        *,
        seeds: Sequence[int],
        epoch: int,
        step: int | None,
    ) -> list[Row]:
        """The rows of `ibtrace.measure.measure`, which is asked only where something has changed.

        Args:
            activations: As there, with all that follows; of the same probe and seeds every time.
            contexts: Likewise.
            probe: Likewise.
            estimators: Likewise.
            seeds: Likewise.
            epoch: Likewise.
            step: Likewise.
        """
        open_: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, values in activations.items():
            known = self._known(name, values, contexts[name])
            open_[tuple(label(e) for e in estimators if label(e) not in known)].append(name)
        fresh: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for labels, names in open_.items():
            if not labels:
                continue
            missing = [estimator for estimator in estimators if label(estimator) in labels]
            changed = {name: activations[name] for name in names}
            told = measure(changed, contexts, probe, missing, seeds=seeds, epoch=epoch, step=step)
            for row in told:
                fresh[row.layer, row.instrument].append(row)
        rows = []
        for name in activations:
            known = self._layers[name].rows
            for instrument in map(label, estimators):
                if (name, instrument) in fresh:
                    known[instrument] = fresh[name, instrument]
                    rows += known[instrument]
                else:
                    again = known.get(instrument, [])
                    rows += [replace(row, epoch=epoch, step=step, seconds=0.0) for row in again]
        return rows

    def _known(self, name: str, values: Tensor, context: LayerContext) -> Mapping[str, list[Row]]:
        """What was measured of a layer since it last changed."""
        before, glance = self._layers.get(name), _glance(values)
        if before is None or (before.context, before.glance) != (context, glance):
            self._layers[name] = _Layer(context, glance)
            return {}
        digest = _digest(values)
        if before.digest != digest:
            self._layers[name] = _Layer(context, glance, digest)
        return self._layers[name].rows


def _glance(values: Tensor) -> bytes:
    """The kind of the values, and some of them, evenly chosen."""
    flat = values.detach().reshape(-1)
    some = flat[:: max(1, len(flat) // _LOOKED_AT)]
    return f"{values.dtype} {tuple(values.shape)} ".encode() + _bits(some)


def _digest(values: Tensor) -> bytes:
    return hashlib.blake2b(_bits(values.detach())).digest()


def _bits(values: Tensor) -> bytes:
    return values.cpu().contiguous().view(torch.uint8).numpy().tobytes() if len(values) else b""

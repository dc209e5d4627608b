"""The rows of layers of which no T is held: statistics that add up over batches and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import nn

from ibtrace.capture import Layer
from ibtrace.capture.layer import say_rounded
from ibtrace.capture.rounding import Rounding
from ibtrace.errors import InvalidInput
from ibtrace.estimators import adding, checked_sums
from ibtrace.measure import as_variable, context, plain_numbers
from ibtrace.numerics.compiled import clock
from ibtrace.probe import Probe
from ibtrace.runtime import distributed
from ibtrace.tracer._observer import Observer
from ibtrace.tracer._screen import Screen, Settled
from ibtrace.types import (
    Accumulator,
    AddsUp,
    Estimate,
    Estimator,
    Row,
    Targets,
    adds_up,
    bound_to,
    label,
    on_bounded,
)

_Tokens = tuple[str, ...] | None


def may_add_up(estimators: Sequence[Estimator]) -> bool:
    """Whether all of them add up over batches, on a layer that is bounded."""
    return bool(estimators) and all(adds_up(on_bounded(e)) for e in estimators)


class Streams:
    """Accumulators of the layers of one look, by layer and estimator.

    Args:
        observer: What is looked at.
        probe: The samples of all ranks; on other ranks than 0 that of this one.
        estimators: What is due.
        seed: Of the network.
    """

    def __init__(
        self, observer: Observer, probe: Probe, estimators: Sequence[Estimator], seed: int
    ) -> None:
        self._observer, self._probe, self._estimators = observer, probe, estimators
        self._seed = seed
        self._of: dict[tuple[str, int], Accumulator] = {}
        self._bound: dict[tuple[str, int], AddsUp] = {}
        self._done: set[tuple[str, int]] = set()
        self._screens: dict[str, Screen] = {}
        self._screened: set[str] = set()
        self._settled: dict[str, Settled] = {}
        self._tokens: dict[str, _Tokens] = {}
        self._targets: dict[tuple[_Tokens, int], Targets] = {}
        self._seconds = 0.0

    def layers(self) -> dict[str, Layer]:
        """Every pass that is needed, on every rank that takes part; the layers, without rows."""
        observer = self._observer
        leads, sharded = distributed.rank() == 0, observer.sharded
        of_model = isinstance(observer.model, nn.Module) and distributed.is_sharded(observer.model)
        if not (leads or sharded or of_model):
            return {}
        self._share_targets()
        layers: dict[str, Layer] = {}
        for names in self._parts():
            again = True
            while again:
                part = observer.stream(self._take if leads or sharded else _ignore, names)
                if sharded:
                    self._come_together()
                again = self._begin_next()
            layers |= {
                name: replace(layer, rounded=name in self._settled and self._settled[name].whole)
                for name, layer in part.items()
            }
        if leads:
            say_rounded(layers, observer.evidence.rounded)
        return layers

    def _begin_next(self) -> bool:
        """End a pass; whether another one over the same layers is needed, on any rank.

        Of a layer of which columns turn out to be constant but for rounding all begins anew.
        """
        begun_anew = set()
        for name in self._screens.keys() - self._screened:
            if (settled := self._screens[name].settled()) is not None:
                self._settled[name] = settled
                begun_anew.add(name)
        self._screened |= self._screens.keys()
        for name, at in self._of:
            if name in begun_anew:
                width = len(self._settled[name].columns)
                self._of[name, at] = self._bound[name, at].accumulator(width)
        going_on = {key for key in self._of if key not in self._done}
        ended = {key for key in going_on if key[0] not in begun_anew}
        self._done |= {key for key in ended if not self._of[key].begin_next()}
        again = bool(going_on - self._done)
        if self._observer.apart and distributed.running():
            again = distributed.anywhere(again)
        return again

    def _parts(self) -> list[set[str]]:
        """The layers, as many at a time as have accumulators that fit into ``max_bytes``."""
        observer = self._observer
        parts: list[set[str]] = []
        if observer.sharded or distributed.rank() == 0:
            most, held = observer.look.max_bytes or 0, 0
            forward = {name: at for at, name in enumerate(observer.evidence.layers)}
            for name in sorted(observer.beyond, key=lambda n: (forward.get(n, len(forward)), n)):
                size = self._bytes_of(self._kind(name))
                if not parts or held + size > most:
                    parts, held = [*parts, set()], 0
                parts[-1].add(name)
                held += size
        shared: list[set[str]] = distributed.of_all(parts)[0] if observer.apart else parts
        return shared

    def _bytes_of(self, tokens: _Tokens) -> int:
        """What the accumulators of one layer come to, with all estimators."""
        bounded = map(on_bounded, self._estimators)
        return sum(
            estimator.accumulated_bytes(self._target(tokens, at))
            for at, estimator in enumerate(bounded)
            if isinstance(estimator, AddsUp)
        )

    def rows(self, layers: Mapping[str, Layer], epoch: int, step: int | None) -> list[Row]:
        """The rows of the estimates, in the order of the layers.

        Args:
            layers: What `layers` gave.
            epoch: Epochs of training done.
            step: Optimiser steps done, if known.
        """
        rows = []
        shares = self._seconds / max(len(self._of), 1)
        for name, layer in layers.items():
            for at, estimator in enumerate(self._estimators):
                bound = self._bound[name, at]
                start = clock()
                estimates = self._of[name, at].result()
                samples = self._target(self._tokens[name], at).samples
                subject = self._probe.samples_of(self._tokens[name])
                seen = self._screens[name].informations(bound, subject, self._seed)
                seconds = shares + clock() - start
                told = _in_order(subject, estimates)
                checked = checked_sums(bound, told, seen, subject, subject.others)
                for quantity, estimate in zip(subject.quantities, checked, strict=True):
                    (numbers,) = plain_numbers(estimate.reading, samples=samples)
                    rows.append(
                        Row(
                            seed=self._seed,
                            epoch=epoch,
                            step=step,
                            layer=name,
                            quantity=quantity,
                            instrument=label(estimator),
                            estimand=bound.estimand,
                            variable=layer.variable,
                            seconds=seconds,
                            **numbers,
                        )
                    )
        return rows

    def _take(self, name: str, layer: Layer, rows: slice, rounding: Rounding | None) -> None:
        start = clock()
        self._tokens[name] = layer.token_inputs
        offset = self._offset(layer.token_inputs)
        here = slice(rows.start + offset, rows.stop + offset)
        values = as_variable(layer.values[None])[0]
        if name in self._settled:
            values = self._settled[name](values)
        for at, estimator in enumerate(self._estimators):
            if (name, at) in self._done:
                continue
            if (name, at) not in self._of:
                self._of[name, at] = self._begun(name, at, layer, estimator)
            targets = self._target(layer.token_inputs, at)
            self._of[name, at].update(values, targets.at(here))
        if name not in self._screened:
            samples = self._target(layer.token_inputs, 0).samples
            self._screens.setdefault(name, Screen(samples)).update(values, here.start, rounding)
        self._seconds += clock() - start

    def _begun(self, name: str, at: int, layer: Layer, estimator: Estimator) -> Accumulator:
        bound = bound_to(estimator, context(name, layer.record()))
        if not isinstance(bound, AddsUp) or not adds_up(bound):
            raise InvalidInput(
                f"layer {name!r}: it needs more than max_bytes by itself, and {label(estimator)} "
                f"all of it at once: estimators that add up over batches are {', '.join(adding())} "
                "(Binning of a fixed range or width); or reduce it (reduce=, max_width=), or "
                "raise max_bytes"
            )
        self._bound[name, at] = bound
        return bound.accumulator(layer.values.flatten(1).shape[1])

    def _target(self, tokens: _Tokens, at: int) -> Targets:
        if (tokens, at) not in self._targets:
            bound = on_bounded(self._estimators[at])
            assert isinstance(bound, AddsUp)
            self._targets[tokens, at] = _all_targets(bound, self._probe.samples_of(tokens))
        return self._targets[tokens, at]

    def _share_targets(self) -> None:
        """Give all ranks the targets of the samples of all, which rank 0 has."""
        if not self._observer.sharded:
            return
        if distributed.rank() == 0:
            for tokens in self._kinds():
                for at in range(len(self._estimators)):
                    self._target(tokens, at)
        self._targets = distributed.of_all(self._targets)[0]

    def _kinds(self) -> set[_Tokens]:
        return {self._kind(name) for name in self._observer.beyond}

    def _kind(self, name: str) -> _Tokens:
        """The inputs whose tokens are the samples of a layer; None if it is the samples' own."""
        reading = self._observer.evidence.of(name)
        inputs = () if reading.stream is None else reading.stream.inputs
        per_token = reading.reduction is not None and reading.reduction.per_token
        return inputs if per_token else None

    def _offset(self, tokens: _Tokens) -> int:
        """How many samples, or tokens, the ranks before this one have."""
        return self._before.get(tokens, 0) if self._observer.sharded else 0

    @cached_property
    def _before(self) -> dict[_Tokens, int]:
        """Of each kind of layers the samples, or tokens, of the ranks before this one."""
        own = {kind: self._observer.shard.samples_of(kind).n for kind in self._kinds()}
        earlier = distributed.of_all(own)[: distributed.rank()]
        return {kind: sum(each[kind] for each in earlier) for kind in own}

    def _come_together(self) -> None:
        """Merge what all ranks took up in this pass, on every rank."""
        here = distributed.rank()
        screens = {name: s for name, s in self._screens.items() if name not in self._screened}
        for rank, seen in enumerate(distributed.of_all(screens)):
            for name in screens if rank != here else ():
                screens[name].merge(seen[name])
        going_on = {key: a for key, a in self._of.items() if key not in self._done}
        for rank, others in enumerate(distributed.of_all(going_on)):
            for key in going_on if rank != here else ():
                going_on[key].merge(others[key])


def _all_targets(estimator: AddsUp, probe: Probe) -> Targets:
    """Inputs and labels, and the variables of the probe that have names of their own."""
    targets = estimator.targets(probe)
    groups = dict(targets.groups)
    for at, other in enumerate(probe.others):
        if (named := estimator.targets(other).groups.get("y")) is not None:
            groups[_other(at)] = named
    return replace(targets, groups=groups)


def _in_order(probe: Probe, estimates: Mapping[str, Estimate]) -> list[Estimate]:
    """The estimates in the order of the probe's quantities; NaN of what is no classes."""
    names = ["x", *(["y"] if probe.labelled else []), *map(_other, range(len(probe.others)))]
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    none = Estimate(nan, flags={"undefined": nan.isnan(), "not_finite": nan.isnan()})
    return [estimates.get(name, none) for name in names]


def _other(at: int) -> str:
    """What an accumulator calls another variable of a probe."""
    return f"other{at}"


def _ignore(name: str, layer: Layer, rows: slice, rounding: Rounding | None) -> None:
    """What ranks do that only take part in the forward."""

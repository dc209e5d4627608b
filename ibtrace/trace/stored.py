"""Looks whose activations a trace keeps, as they are measured again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, LeftOut, RunError
from ibtrace.measure import context
from ibtrace.probe import Probe
from ibtrace.types import LayerContext, TraceLike


class StoredTrace(TraceLike, Protocol):
    """What is asked of a trace that keeps activations."""

    def activation_epochs(self, seed: int | None = None) -> list[int]:
        """The looks at which activations were kept, for a seed, or for any."""
        ...

    def activations(self, epoch: int, seed: int | None = None) -> dict[str, Tensor]:
        """The activations kept at a look, ``{layer: (n, …)}``."""
        ...

    def look(self, at: int) -> tuple[int, int | None]:
        """Epoch and step of a look."""
        ...

    def probe(self) -> Probe:
        """The inputs and labels that the trace was measured on."""
        ...


class StoredLook(NamedTuple):
    """One look at some networks, as it is kept.

    Args:
        activations: ``{layer: (seeds, n, ...)}``.
        contexts: What an estimator is told of each layer.
        epoch: Epochs of training done.
        step: Optimiser steps done, if known.
    """

    activations: dict[str, Tensor]
    contexts: dict[str, LayerContext]
    epoch: int
    step: int | None


def stored_look(
    trace: StoredTrace,
    seeds: Sequence[int],
    at: int,
    pooled: Mapping[str, Tensor] | None = None,
) -> StoredLook:
    """Read a look.

    Args:
        trace: A trace with activations.
        seeds: Which networks.
        at: Which look: its place on the trace's clock.
        pooled: Values of each layer over the whole trace, for estimators that ask for them: of
            one network alone.

    Raises:
        RunError: If it was not kept, or cannot be read.
    """
    captured = trace.meta.get("captured", {})
    each = [trace.activations(at, seed) for seed in seeds]
    activations = {name: torch.stack([kept[name] for kept in each]) for name in each[0]}
    contexts = {
        name: context(name, captured.get(name, {}), pooled[name] if pooled else None)
        for name in activations
    }
    return StoredLook(activations, contexts, *trace.look(at))


def shared_looks(
    trace: StoredTrace, seeds: Sequence[int] | None = None, looks: int | None = None
) -> tuple[list[int], list[int]]:
    """Seeds with activations, and the looks at which all of them have some.

    Args:
        trace: The trace.
        seeds: Only these; None for all that have activations.
        looks: At most so many, evenly by their place, the first and the last among them.

    Raises:
        RunError: If the trace keeps none, or the seeds share none.
        InvalidInput: If a seed has none, no seed is named, or ``looks`` is not positive.
    """
    if looks is not None and looks < 1:
        raise InvalidInput(f"looks must be positive, got {looks}")
    require_activations(trace)
    having = [seed for seed in trace.seeds if trace.activation_epochs(seed)]
    if seeds is not None and (not isinstance(seeds, Sequence) or not seeds):
        raise InvalidInput(f"seeds must be a list with one at least, got {seeds!r}")
    if missing := sorted({*(seeds or ())} - {*having}):
        raise InvalidInput(f"seed {missing[0]} has no activations; those that have: {having}")
    if seeds is None:
        chosen = _to_the_end({seed: trace.activation_epochs(seed) for seed in having})
    else:
        chosen = list(dict.fromkeys(seeds))
    shared = sorted(set.intersection(*({*trace.activation_epochs(seed)} for seed in chosen)))
    if not shared:
        raise RunError("the seeds of the trace share no look with activations; name some by seeds=")
    return chosen, shared if looks is None else spread(shared, looks)


def _to_the_end(kept: Mapping[int, Sequence[int]]) -> list[int]:
    """The seeds whose looks go as far as any's: one that stopped early would cut all of them."""
    end = max(looks[-1] for looks in kept.values())
    short = [seed for seed, looks in kept.items() if looks[-1] < end]
    if short:
        warnings.warn(
            f"left out, as their activations end before {end}: seed"
            f"{'s' * (len(short) > 1)} {', '.join(map(str, short))}; name seeds to have them",
            LeftOut,
            stacklevel=3,
        )
    return [seed for seed in kept if seed not in short]


def require_activations(trace: StoredTrace) -> None:
    """Raise unless a trace keeps activations.

    Raises:
        RunError: If it does not; says how to keep them, or to make them of checkpoints.
    """
    if not trace.activation_epochs():
        raise RunError(
            f"{trace!r} keeps no activations: train with store_activations: true "
            "(Keep(FOLDER, activations=True)), or make them of checkpoints: ibtrace trace CONFIG "
            "--checkpoints … --set store_activations=true"
        )


def spread(places: Sequence[int], count: int) -> list[int]:
    """``count`` of some looks, evenly by their place: log-spaced ones stay so; of one, the last.

    Example:
        >>> spread([0, 1, 10, 100, 1000], 3)
        [0, 10, 1000]
    """
    if count == 1:
        return [places[-1]]
    index = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
    return [places[at] for at in sorted(set(index.tolist()))]


def thinned(probe: Probe, n: int | None) -> tuple[Probe, Tensor]:
    """The probe, or n of its samples at random, and which they are.

    Args:
        probe: The probe.
        n: How many samples; None for all. The same n always takes the same.

    Raises:
        InvalidInput: If n is below 2 or above those of the probe.
    """
    if n is None or n == probe.n:
        return probe, torch.arange(probe.n)
    if not 2 <= n < probe.n:
        raise InvalidInput(f"n must lie between 2 and the probe's {probe.n} samples, got {n}")
    order = np.random.default_rng(0).permutation(probe.n)[:n]
    rows = torch.from_numpy(np.sort(order))
    return probe.take(rows), rows

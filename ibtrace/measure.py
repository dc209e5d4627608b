"""From activations to rows: every estimator on every layer and seed of one snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.estimators import informations
from ibtrace.estimators._inputs import is_ids, rows_as_ids
from ibtrace.numerics.compiled import clock
from ibtrace.probe import Probe, ReadAnew
from ibtrace.types import (
    Estimator,
    LayerContext,
    Reading,
    Row,
    bound_to,
    join_flags,
    label,
)

_NUMBERS = ("value", "stderr", "lower", "upper")


def flatten(activations: Tensor) -> Tensor:
    """Activations ``(seeds, n, ...)`` as ``(seeds, n, d)``; scalars per sample get d = 1."""
    return activations.flatten(2) if activations.dim() > 2 else activations[..., None]


def as_variable(activations: Tensor) -> Tensor:
    """Floats ``(seeds, n, d)``, 32 bits at least, or ids ``(seeds, n)``.

    Integers and truth values are symbols, one for each different row.
    """
    flat = flatten(activations)
    if is_ids(flat):
        return rows_as_ids(flat)
    return flat.float() if flat.element_size() < 4 else flat


def context(
    name: str, captured: Mapping[str, Any], trace_values: Tensor | None = None
) -> LayerContext:
    """What an estimator is told of a layer.

    Args:
        name: The layer's name.
        captured: What a trace records of it in its meta entry ``captured``.
        trace_values: See `LayerContext`.
    """
    bounds, tokens = captured.get("activation_range"), captured.get("token_inputs")
    return LayerContext(
        name=name,
        activation_range=None if bounds is None else (float(bounds[0]), float(bounds[1])),
        trace_values=trace_values,
        variable=str(captured.get("variable", "")),
        token_inputs=None if tokens is None else tuple(map(str, tokens)),
    )


_Group: TypeAlias = "tuple[torch.Size, tuple[str, ...] | None, object]"


def _identity(estimator: Estimator) -> object:
    """Equal for two estimators only if they are: the estimator, or its id if it cannot be hashed.

    Not its ``repr``, which may leave fields out, and shortens long tensors.
    """
    try:
        hash(estimator)
    except TypeError:
        return id(estimator)
    return estimator


def measure(
    activations: Mapping[str, Tensor],
    contexts: Mapping[str, LayerContext],
    probe: Probe,
    estimators: Sequence[Estimator],
    *,
    seeds: Sequence[int],
    epoch: int,
    step: int | None = None,
) -> list[Row]:
    """I(X;T), I(T;Y) and those of named variables by every estimator, of all layers and seeds.

    Layers of equal width that an estimator treats alike go through it in one batched call.

    Args:
        activations: ``{layer: (seeds, n, d)}``, floats or integers; n counts tokens where T is one
            token.
        contexts: What each layer settles of an estimator's configuration.
        probe: The inputs and labels the activations belong to.
        estimators: Applied in order.
        seeds: The seed of each leading index.
        epoch: Epochs of training done.
        step: Optimiser steps done, if known.

    Returns:
        A row for each quantity of the probe, estimator, layer and seed, in the order of the layers:
        two, where nothing has a name of its own; without labels the one about X.

    Raises:
        Unsupported: If an estimator declines T, or needs inputs that are read anew.
    """
    flat = {name: as_variable(value) for name, value in activations.items()}
    probe = probe.to(next((value.device for value in flat.values()), probe.device))
    rows: list[Row] = []
    for estimator in estimators:
        groups: dict[_Group, list[str]] = defaultdict(list)
        bound = {name: bound_to(estimator, contexts[name]) for name in flat}
        for name, value in flat.items():
            tokens = contexts[name].token_inputs
            groups[value.shape, tokens, _identity(bound[name])].append(name)
        for (shape, tokens, _), names in groups.items():
            settled = bound[names[0]]
            subject = probe if tokens is None else probe.tokens(shape[1], tokens)
            start = clock()
            stacked = torch.stack([flat[name] for name in names])
            try:
                estimates = informations(settled, stacked, subject, subject.others)
            except Unsupported as error:
                if not isinstance(subject.x, ReadAnew):
                    raise
                raise Unsupported(f"{label(estimator)}: {error}") from error
            if not subject.labelled:
                del estimates[1]
            keys = list(product(names, seeds))
            # Plain numbers before the clock stops: a GPU answers before it has computed.
            plain = [
                list(zip(keys, plain_numbers(estimate.reading, samples=subject.n), strict=True))
                for estimate in estimates
            ]
            seconds = (clock() - start) / len(keys)
            for quantity, numbered in zip(subject.quantities, plain, strict=True):
                for (name, seed), numbers in numbered:
                    rows.append(
                        Row(
                            seed=seed,
                            epoch=epoch,
                            step=step,
                            layer=name,
                            quantity=quantity,
                            instrument=label(estimator),
                            estimand=settled.estimand,
                            variable=contexts[name].variable,
                            seconds=seconds,
                            **numbers,
                        )
                    )
    place = {name: index for index, name in enumerate(flat)}
    return sorted(rows, key=lambda row: place[row.layer])


def plain_numbers(reading: Reading, samples: int) -> Iterator[dict[str, Any]]:
    """The numbers of a batched reading as the fields of a `Row`, one dictionary for each.

    Args:
        reading: The reading.
        samples: Of how many samples it is: a diagnostic, where the instrument itself gives none.
    """

    def column(value: Tensor) -> list[Any]:
        plain: list[Any] = value.reshape(-1).tolist()
        return plain

    numbers = {name: column(getattr(reading, name)) for name in _NUMBERS}
    flags = {name: column(value) for name, value in reading.flags.items()}
    diagnostics = {"samples": [float(samples)] * reading.value.numel()}
    diagnostics |= {name: column(value) for name, value in reading.diagnostics.items()}
    for index in range(reading.value.numel()):
        yield {
            **{name: values[index] for name, values in numbers.items()},
            "unit": reading.unit,
            "flags": join_flags(name for name, raised in flags.items() if raised[index]),
            "diagnostics": {name: values[index] for name, values in diagnostics.items()},
        }

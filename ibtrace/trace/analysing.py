"""The multiverse of a trace: every layer judged under a grid of analysis choices.

Each estimate is made once, at every look, in a batch over the seeds, from the activations that the
trace keeps. What only changes the judging (the share of the training, the seeds, the least drop)
is applied to the same estimates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ibtrace.errors import IbtraceError, InvalidInput
from ibtrace.estimators import plane
from ibtrace.measure import as_variable, plain_numbers
from ibtrace.plane import Multiverse, Rule
from ibtrace.probe import Probe
from ibtrace.runtime.arguments import whole
from ibtrace.runtime.workers import results
from ibtrace.trace.choices import Choices
from ibtrace.trace.judging import Measured, columns, judged
from ibtrace.trace.pooling import pooled
from ibtrace.trace.stored import StoredLook, StoredTrace, shared_looks, stored_look, thinned
from ibtrace.types import (
    I_XT,
    Estimator,
    LayerContext,
    Variable,
    bound_to,
    label,
    needs_trace,
    variable_of,
)

_NOTHING: Mapping[str, Any] = {"value": np.nan, "stderr": np.nan, "flags": "", "diagnostics": {}}
"""Of a network whose activations are not finite."""


class _Estimation(NamedTuple):
    """One estimator on one share of the probe."""

    name: str
    estimator: Estimator
    samples: Fraction


class _Plan(NamedTuple):
    """What is measured of every look.

    Args:
        layers: Of these layers.
        seeds: Of these networks.
        estimations: By these estimators.
        settled: What the whole trace settled of an estimator, by its name, seed and layer.
        probes: The share of the probe, and which samples it is.
        n: Samples of the whole probe.
    """

    layers: Sequence[str]
    seeds: Sequence[int]
    estimations: Sequence[_Estimation]
    settled: Mapping[tuple[str, int, str], Estimator]
    probes: Mapping[Fraction, tuple[Probe, torch.Tensor]]
    n: int


def analyse(
    trace: StoredTrace,
    grid: Choices | Mapping[str, Any] | str | PathLike[str] | None = None,
    *,
    layers: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    rule: Rule | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Multiverse:
    """Judge every layer under every combination of analysis choices.

    Args:
        trace: A trace that keeps activations.
        grid: The choices: a YAML file, what one says, or `Choices`; None is the default grid, the
            file ``multiverse.yaml`` beside this module.
        layers: Only these; None for all.
        seeds: Only these; None for all that have activations.
        rule: What else counts as compression; the least drop is the grid's.
        jobs: Processes.
        progress: Draw a progress bar.

    Raises:
        RunError: If the trace keeps no activations, or not the probe, or the file cannot be read.
        ConfigError: If the grid is wrong; says where.
        UnknownName: If there is no such estimator.
        InvalidInput: If a layer or a seed is not there, or no estimate could be made.
    """
    jobs = whole("multiverse: jobs", jobs, least=1)
    choices = Choices.read(grid)
    chosen, places = shared_looks(trace, seeds, choices.looks)
    last = stored_look(trace, chosen[:1], places[-1])
    names = _layers(last, layers)
    estimations = _estimations(choices)
    probe = trace.probe()
    shares = {each.samples for each in estimations}
    plan = _Plan(
        layers=names,
        seeds=chosen,
        estimations=estimations,
        settled=_settled(trace, chosen, names, estimations),
        probes={share: thinned(probe, _size(probe.n, share)) for share in shares},
        n=probe.n,
    )
    parts = [places] if jobs == 1 else [places[at :: 4 * jobs] for at in range(4 * jobs)]
    tasks = [(trace, plan, [at]) for at in places] if jobs == 1 else []
    tasks = tasks or [(trace, plan, part) for part in parts if part]
    bar: Any = {"total": len(tasks), "desc": "multiverse", "disable": not progress}
    rows: list[dict[str, Any]] = []
    declined: dict[tuple[str, str], str] = {}
    for measured, reasons in tqdm(results(_measured, tasks, jobs), **bar):
        rows += measured
        declined = {**reasons, **declined}
    # an estimator that declines a layer at one look has no curve there, whatever its other looks
    rows = [row for row in rows if (row["estimator"], row["layer"]) not in declined]
    if not rows:
        why = "; ".join(dict.fromkeys(declined.values()))
        raise InvalidInput(f"multiverse: no estimate could be made: {why}")
    measured_rows = Measured(
        rows=pd.DataFrame(rows),
        layers=names,
        seeds=chosen,
        probes={share: probe for share, (probe, _) in plan.probes.items()},
        questions={each.name: each.estimator.tags.question for each in estimations},
        variables=_variables(estimations, last, names),
    )
    table, notes = judged(trace, choices, measured_rows, rule or Rule())
    return Multiverse(
        table=table,
        layers=tuple(names),
        choices=columns(choices),
        seeds=tuple(chosen),
        looks=len(places),
        clock=trace.clock,
        declined=declined,
        notes=notes,
    )


def _layers(look: StoredLook, asked: Sequence[str] | None) -> list[str]:
    if unknown := [name for name in asked or () if name not in look.activations]:
        there = ", ".join(look.activations)
        raise InvalidInput(f"no activations of {unknown[0]!r} are kept; they are of {there}")
    return [*look.activations] if asked is None else list(dict.fromkeys(asked))


def _estimations(choices: Choices) -> list[_Estimation]:
    """Each estimate that is needed, once."""
    needed: dict[tuple[str, Fraction], _Estimation] = {}
    for family in choices.families:
        for (estimator, _), share in product(family.estimators, family.samples):
            name = label(estimator)
            needed.setdefault((name, share), _Estimation(name, estimator, share))
    return list(needed.values())


def _size(n: int, share: Fraction) -> int | None:
    return None if share == 1 else max(2, round(n * share))


def _settled(
    trace: StoredTrace,
    seeds: Sequence[int],
    layers: Sequence[str],
    estimations: Sequence[_Estimation],
) -> dict[tuple[str, int, str], Estimator]:
    """Estimators that ask for the whole trace, settled for each network and layer."""
    asking = {each.name: each.estimator for each in estimations if needs_trace(each.estimator)}
    settled = {}
    for seed in seeds if asking else ():
        values = pooled(trace, seed)
        for layer, (name, estimator) in product(layers, asking.items()):
            told = LayerContext(layer, trace_values=values[layer])
            settled[name, seed, layer] = bound_to(estimator, told)
    return settled


def _measured(
    trace: StoredTrace, plan: _Plan, places: Sequence[int]
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:
    """I(X;T) of all layers at some looks, and why an estimator declined a layer."""
    rows: list[dict[str, Any]] = []
    declined: dict[tuple[str, str], str] = {}
    for at in places:
        look = stored_look(trace, plan.seeds, at)
        for layer, estimation in product(plan.layers, plan.estimations):
            if (estimation.name, layer) in declined:
                continue
            try:
                rows += _estimates(look, at, layer, estimation, plan)
            except IbtraceError as error:
                declined[estimation.name, layer] = str(error)
    return rows, declined


def _estimates(
    look: StoredLook, at: int, layer: str, estimation: _Estimation, plan: _Plan
) -> Iterator[dict[str, Any]]:
    """One estimator on one layer at one look, a row for each network; NaN of what is not finite."""
    probe, chosen = plan.probes[estimation.samples]
    told = look.contexts[layer]
    values = look.activations[layer]
    if told.token_inputs is not None:
        if probe.n < plan.n:
            raise InvalidInput("each token is a sample here; only the whole probe is measured")
        probe = probe.tokens(values.shape[1], told.token_inputs)
    elif probe.n < plan.n:
        values = values[:, chosen]
    variable = as_variable(values)
    finite = variable.isfinite().flatten(1).all(1)
    for networks, estimator in _bound(estimation, layer, told, plan):
        measured = [place for place in networks if finite[place]]
        numbers = dict.fromkeys(networks, _NOTHING)
        if measured:
            estimate = plane(estimator, variable[measured], probe)[0]
            rows = plain_numbers(estimate.reading, samples=probe.n)
            numbers |= dict(zip(measured, rows, strict=True))
        for place in networks:
            own = numbers[place]
            yield {
                "seed": plan.seeds[place],
                "epoch": at,
                "layer": layer,
                "quantity": I_XT,
                "estimator": estimation.name,
                "samples_share": estimation.samples,
                "estimand": estimator.estimand,
                "variable": told.variable,
                "bits": own["value"],
                "stderr": own["stderr"],
                "flags": own["flags"],
                "ceiling": own["diagnostics"].get("ceiling", np.nan),
                "samples": own["diagnostics"].get("samples", float(probe.n)),
            }


def _bound(
    estimation: _Estimation, layer: str, told: LayerContext, plan: _Plan
) -> Iterator[tuple[list[int], Estimator]]:
    """Which networks are measured together, and by what."""
    if needs_trace(estimation.estimator):
        for place, seed in enumerate(plan.seeds):
            yield [place], plan.settled[estimation.name, seed, layer]
    else:
        yield [*range(len(plan.seeds))], bound_to(estimation.estimator, told)


def _variables(
    estimations: Sequence[_Estimation], look: StoredLook, layers: Sequence[str]
) -> dict[str, dict[str, Variable]]:
    """What stands for T by each estimator in each layer."""
    widths = {}
    for layer in layers:
        value = as_variable(look.activations[layer])
        widths[layer] = value.shape[-1] if value.is_floating_point() else None
    return {
        each.name: {layer: variable_of(each.estimator, width) for layer, width in widths.items()}
        for each in estimations
    }

"""What the activations that a trace keeps say of its estimates: chance, samples, cells, units."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ibtrace.alignment import coincidence
from ibtrace.errors import IbtraceError, InvalidInput
from ibtrace.estimators import make, plane
from ibtrace.measure import as_variable
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.collapse import classes
from ibtrace.numerics.entropy import entropy, sample_counts
from ibtrace.numerics.saturation import dead_share, near_ends
from ibtrace.probe import Probe
from ibtrace.runtime.arguments import whole
from ibtrace.runtime.workers import results
from ibtrace.trace.examination import Examination
from ibtrace.trace.pooling import pooled
from ibtrace.trace.remaking import used
from ibtrace.trace.stored import StoredTrace, shared_looks, spread, stored_look
from ibtrace.types import I_TY, I_XT, Estimator, LayerContext, bound_to, label, needs_trace

SATURATED = 0.99
"""A unit further from the middle of its range than this share of half of it is saturated."""

RATIO = "within over between"
"""The geometric reading: tr S_w / tr S_b of the classes, without unit."""

_GEOMETRY_LOOKS = 40  # cheap, and wanted as a curve
_BATCH = 25  # permutations measured together
_OTHERS = 8  # numbers of a layer at a look beside those of permutations
_PLACE = ["seed", "epoch", "layer"]
_BY = [*_PLACE, "estimator"]


def examine(
    trace: StoredTrace,
    estimators: Sequence[str | Estimator] | None = None,
    *,
    looks: int = 4,
    permutations: int = 99,
    layers: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    most_seconds: float = math.inf,
    jobs: int = 1,
    progress: bool = False,
) -> Examination:
    """Measure the activations that a trace keeps again, against chance, on fewer samples.

    Args:
        trace: A trace that keeps activations.
        estimators: Names, estimators, or labels of estimators of the trace; None for all those
            that its own numbers are by. Of these some cannot be made again: the result says which,
            and why.
        looks: At most so many, evenly by their place, the first and the last among them; 1 is the
            last.
        permutations: m, random orders of the labels; 19 can show a p of 0.05 and no less.
        layers: Only these; None for all.
        seeds: Only these; None for all that have activations.
        most_seconds: Estimators of the trace that would take longer, as long as its own numbers
            took, are left out.
        jobs: Processes.
        progress: Draw a progress bar.

    Raises:
        RunError: If the trace keeps no activations, or not the probe.
        InvalidInput: If a layer or a seed is not there, or the probe has fewer than 8 samples.
        ConfigError: If a number is no whole number above 0.
        UnknownName: If there is no such estimator.
    """
    permutations = whole("examine: permutations", permutations, least=1)
    jobs = whole("examine: jobs", jobs, least=1)
    chosen, places = shared_looks(trace, seeds, whole("examine: looks", looks, least=1))
    last = stored_look(trace, chosen[:1], places[-1])
    if unknown := [name for name in layers or () if name not in last.activations]:
        there = ", ".join(last.activations)
        raise InvalidInput(f"no activations of {unknown[0]!r} are kept; they are of {there}")
    if trace.probe().n < 8:
        raise InvalidInput(f"examine needs at least 8 samples, got {trace.probe().n}")
    names = list(last.activations if layers is None else dict.fromkeys(layers))
    made, left_out = _chosen(trace, estimators)
    rounds = -(-len(chosen) // jobs)  # a process takes a network
    numbers = rounds * len(places) * len(names)
    slow = _slow(trace, made, numbers * (permutations + _OTHERS), most_seconds)
    made, left_out = [one for one in made if label(one) not in slow], {**left_out, **slow}
    every = spread(shared_looks(trace, chosen)[1], max(_GEOMETRY_LOOKS, len(places)))
    tasks = [(trace, made, names, seed, places, every, permutations) for seed in chosen]
    bar: Any = {"total": len(tasks), "desc": "examine", "disable": not progress}
    found = list(tqdm(results(_of_network, tasks, jobs), **bar))
    declined: dict[tuple[str, str], str] = {}
    tables: dict[str, pd.DataFrame] = {}
    for table, columns in _COLUMNS.items():
        rows = [row for part, _ in found for row in part[table]]
        tables[table] = pd.DataFrame(rows, columns=columns)
    for _, reasons in found:
        declined |= reasons
    together = _together(trace, tables["geometry"])
    return Examination(**tables, coincidence=together, declined=declined, left_out=left_out)


def _chosen(
    trace: StoredTrace, estimators: Sequence[str | Estimator] | None
) -> tuple[list[Estimator], dict[str, str]]:
    """The estimators to examine, and why others of the trace cannot be."""
    if estimators is None:
        return used(trace)
    made: list[Estimator] = []
    left_out: dict[str, str] = {}
    for one in estimators:
        if isinstance(one, str) and one in trace.estimators:
            again, reasons = used(trace, [one])
            made += again
            left_out |= reasons
        else:
            made.append(make(one) if isinstance(one, str) else one)
    return made, left_out


def _slow(
    trace: StoredTrace, estimators: Sequence[Estimator], numbers: int, most: float
) -> dict[str, str]:
    """Estimators by which so many numbers would take too long, and how long."""
    each = trace.frame().groupby("estimator")["seconds"].mean()
    needed = {name: numbers * float(each.get(name, math.nan)) for name in map(label, estimators)}
    return {
        name: f"it would take {_duration(seconds)}, as its numbers in the trace did; name it alone"
        for name, seconds in needed.items()
        if seconds > most
    }


def _duration(seconds: float) -> str:
    hours, minutes = seconds / 3600, seconds / 60
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(minutes))} minutes"


_COLUMNS = {
    "null": [*_BY, "bits", "null_mean", "null_95", "p", "permutations"],
    "sizes": [*_BY, "part", "samples", I_XT, I_TY],
    "cells": [*_BY, "occupied", "prediction_bits"],
    "units": [*_PLACE, "units", "saturated", "dead"],
    "geometry": [*_PLACE, "within", "between", "ratio"],
}
_Rows = dict[str, list[dict[str, Any]]]


def _of_network(
    trace: StoredTrace,
    estimators: Sequence[Estimator],
    layers: Sequence[str],
    seed: int,
    places: Sequence[int],
    every: Sequence[int],
    permutations: int,
) -> tuple[_Rows, dict[tuple[str, str], str]]:
    """All tables of one network."""
    values = pooled(trace, seed) if any(map(needs_trace, estimators)) else None
    whole_probe = trace.probe()
    rows: _Rows = {table: [] for table in _COLUMNS}
    declined: dict[tuple[str, str], str] = {}
    for at in sorted({*places, *every}):
        look = stored_look(trace, [seed], at, values)
        predicted = _predictions(look.activations[trace.layers[-1]][0], whole_probe)
        for layer in layers:
            told, raw = look.contexts[layer], look.activations[layer]
            tokens = told.token_inputs is not None
            probe = whole_probe.tokens(raw.shape[1], told.token_inputs) if tokens else whole_probe
            t = as_variable(raw)[0]
            place = {"seed": seed, "epoch": at, "layer": layer}
            rows["units"] += [{**place, **_units(t, told)}]
            rows["geometry"] += [{**place, **_distances(t, probe)}]
            for estimator in estimators if at in places else ():
                name = label(estimator)
                by = {**place, "estimator": name}
                try:
                    bound = bound_to(estimator, told)
                    rows["sizes"] += [{**by, **row} for row in _sizes(bound, t, probe)]
                    rows["cells"] += [{**by, **_cells(bound, t, None if tokens else predicted)}]
                    if probe.labelled:
                        rows["null"] += [{**by, **_chance(bound, t, probe.labels, permutations)}]
                except IbtraceError as error:
                    declined[name, layer] = str(error)
    return rows, declined


def _chance(estimator: Estimator, t: Tensor, y: Tensor, permutations: int) -> dict[str, float]:
    """I(T;Y), and what it is of labels in random orders."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(y), generator=generator) for _ in range(permutations)]
    bits = float(estimator(t, y).bits)
    parts = []
    for start in range(0, permutations, _BATCH):
        some = torch.stack([y[order.to(y.device)] for order in orders[start : start + _BATCH]])
        parts.append(estimator(t.expand(len(some), *t.shape), some).bits)
    null = torch.cat(parts).numpy()
    as_much = int((null >= bits - 1e-12).sum())
    known = math.isfinite(bits) and bool(np.isfinite(null).all())
    return {
        "bits": bits,
        "null_mean": float(null.mean()),
        "null_95": float(np.quantile(null, 0.95)),
        "p": (1 + as_much) / (1 + permutations) if known else math.nan,
        "permutations": permutations,
    }


def _sizes(estimator: Estimator, t: Tensor, probe: Probe) -> Iterator[dict[str, Any]]:
    """Both informations of all samples, of two halves that share none, and of a quarter."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(probe.n))
    half = probe.n // 2
    parts = {
        "all": None,
        "half": order[:half],
        "other half": order[half : 2 * half],
        "quarter": order[: probe.n // 4],
    }
    for part, places in parts.items():
        chosen = None if places is None else places.sort().values
        some = probe if chosen is None else probe.take(chosen)
        about_x, about_y = plane(estimator, t if chosen is None else t[chosen], some)
        yield {
            "part": part,
            "samples": some.n,
            I_XT: float(about_x.bits),
            I_TY: float(about_y.bits),
        }


def _cells(estimator: Estimator, t: Tensor, predicted: Tensor | None) -> dict[str, float]:
    """Occupied bins, and what is left of the prediction once T is seen: H(ŷ) - I(ŷ; seen T)."""
    if predicted is None:
        return {"occupied": math.nan, "prediction_bits": math.nan}
    estimate = estimator(t, predicted)
    whole_of = float(entropy(sample_counts(predicted), "none"))
    occupied = estimate.diagnostics.get("occupied_bins", torch.tensor(math.nan))
    return {
        "occupied": float(occupied),
        # an estimate that takes T for continuous is not what is seen of T
        "prediction_bits": math.nan
        if estimator.tags.question == "density"
        else whole_of - float(estimate.bits),
    }


def _predictions(outputs: Tensor, probe: Probe) -> Tensor | None:
    """The class of the largest output of each sample; None where outputs are no classes."""
    if outputs.dim() != 2 or outputs.shape[1] < 2 or probe.label_kind != "classes":
        return None
    if outputs.shape[1] != int(probe.labels.unique().numel()):  # a layer, and not the output
        return None
    return dense_ids(outputs.argmax(-1))


def _units(t: Tensor, told: LayerContext) -> dict[str, float]:
    values = t if t.dim() > 1 else t[:, None]
    ends = told.activation_range
    saturated = math.nan if ends is None else float(near_ends(values, *ends, SATURATED).mean())
    return {
        "units": values.shape[-1],
        "saturated": saturated,
        "dead": float(dead_share(values)),
    }


def _distances(t: Tensor, probe: Probe) -> dict[str, float]:
    """Mean squared distances within and between classes."""
    nothing = dict.fromkeys(("within", "between", "ratio"), math.nan)
    if probe.label_kind != "classes" or not t.is_floating_point():
        return nothing
    y = dense_ids(probe.labels)
    found = classes(t, y, int(y.max()) + 1)
    within, between = float(found.within), float(found.between)
    return {
        "within": within,
        "between": between,
        "ratio": within / between if between > 0 else math.nan,
    }


@dataclass(frozen=True)
class _Readings:
    """Readings of a trace and of the geometry, as `coincidence` asks for them."""

    table: pd.DataFrame
    clock: str

    def readings(self) -> pd.DataFrame:
        """The table."""
        return self.table


def _together(trace: StoredTrace, geometry: pd.DataFrame) -> pd.DataFrame:
    """How the classes' geometry changes with the trace's own I(X;T), layer by layer."""
    ratios = geometry.rename(columns={"epoch": trace.clock, "ratio": "value"})
    ratios = ratios.assign(quantity=RATIO, instrument="activations")
    columns = ["seed", trace.clock, "layer", "quantity", "instrument", "value"]
    own = trace.readings()
    own = own[own["quantity"] == I_XT]
    table = pd.concat([own[columns], ratios[columns]], ignore_index=True)
    parts = []
    for layer in dict.fromkeys(geometry["layer"]):
        with contextlib.suppress(InvalidInput):  # fewer than five looks, or nothing that changes
            readings = _Readings(table[table["layer"] == layer], trace.clock)
            parts.append(coincidence(readings, (I_XT,), (RATIO,)))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

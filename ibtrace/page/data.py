"""The numbers of traces as the page's scripts read them: dense, rounded to what a figure shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from ibtrace.errors import InvalidInput
from ibtrace.page.embed import packed
from ibtrace.page.planes import PagePlane, planes
from ibtrace.plane import (
    QUESTIONS,
    LayerMultiverse,
    LayerResolution,
    Multiverse,
    PlaneBound,
    Resolution,
    clock,
    on_clock,
    pair,
    quantities,
)
from ibtrace.types import I_TY, I_XT, TraceLike

CONFIDENCE = 0.95
_ROOM = 5_500_000  # bytes: with the drawing library the page stays under 8 MB
_BYTES = 4 * (4 + 1 + 1) / 3  # of a number, its flags and the checks that it fails, in base64
_LEAST = 24  # looks that a curve keeps, however many networks there are

Block = dict[str, Any]


def numbers(
    traces: Mapping[str, TraceLike],
    maps: Mapping[str, Resolution] | None = None,
    multiverses: Mapping[str, Multiverse] | None = None,
    bounds: Mapping[str, PlaneBound] | None = None,
) -> dict[str, Any]:
    """All that is drawn of traces, as JSON values.

    ``planes`` names the axes of the planes that can be drawn: one, or where variables have names
    one for each source with each target. ``runs`` holds for each trace its own of them, and its
    ``blocks``: the numbers of one quantity by one instrument as an array ``(layers, seeds,
    looks)``, with an index into ``flags`` for each, and for each plane one into ``fails``, the
    checks that its point fails there. Epochs are those of the trace's clock. Where all numbers
    would need too much room, long curves are thinned, and ``thinned`` says to how many looks.

    Args:
        traces: The traces by name.
        maps: Resolution maps of some of them.
        multiverses: Verdicts under many analyses of some of them.
        bounds: The bottleneck curves of some of them, of the inputs and the first target.

    Raises:
        InvalidInput: If there is none, one is empty, or their looks are not counted alike.
    """
    tables = {name: _table(name, trace) for name, trace in traces.items()}
    if not tables:
        raise InvalidInput("report: there is no trace to report; pass one, or {name: trace}")
    clocks = {name: counted for name, (counted, _) in tables.items()}
    if len(set(clocks.values())) > 1:
        said = ", ".join(f"{name or 'one'} counts {counted}s" for name, counted in clocks.items())
        raise InvalidInput(f"report: traces in one report need one clock, but {said}; report each")
    drawn = {name: planes(trace, (bounds or {}).get(name)) for name, trace in traces.items()}
    axes = list(dict.fromkeys(plane.quantities for own in drawn.values() for plane in own))
    for name, (_, table) in tables.items():
        for plane in drawn[name]:
            table[_failing(axes, plane)] = plane.failures(table)
    groups = {name: _groups(table) for name, (_, table) in tables.items()}
    most = _looks_each([rows for parts in groups.values() for _, rows in parts])
    known = {column: _told(tables, column) for column in ("flags", "fails")}
    runs = [
        {
            "name": name,
            "seeds": sorted(map(int, tables[name][1]["seed"].unique())),
            "planes": [plane.facts() for plane in drawn[name]],
            "blocks": [
                _block(key, rows, trace, known, most, [_failing(axes, p) for p in drawn[name]])
                for key, rows in groups[name]
            ],
            "maps": [_map(layer, trace) for layer in (maps or {}).get(name, ())],
            "analyses": [_analyses(layer) for layer in (multiverses or {}).get(name, ())],
        }
        for name, trace in traces.items()
    ]
    longest = max(
        (rows["epoch"].nunique() for parts in groups.values() for _, rows in parts), default=0
    )
    seeds = max(len(run["seeds"]) for run in runs)
    freedom = np.arange(1, max(2, seeds))  # the first is that of 2 seeds
    student = np.asarray(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    return {
        "clock": next(iter(clocks.values())),
        "layers": _joined(trace.layers for trace in traces.values()),
        "estimators": _joined(trace.estimators for trace in traces.values()),
        "planes": [list(names) for names in axes],
        **{column: names.to_list() for column, names in known.items()},
        "confidence": CONFIDENCE,
        "student": student.round(6).tolist(),
        "thinned": [most, longest] if most < longest else None,
        "runs": runs,
    }


def _table(name: str, trace: TraceLike) -> tuple[str, pd.DataFrame]:
    """The trace's clock, and all its numbers with their looks counted by it."""
    frame, readings = trace.frame(), trace.readings()
    if readings.empty:
        raise InvalidInput(f"report: the trace {name!r} is empty; take a snapshot first")
    counted = frame if len(frame) else readings
    return clock(counted), on_clock(counted, readings).copy()  # it gets columns here


def _failing(axes: Sequence[tuple[str, str]], plane: PagePlane) -> str:
    """The column of what fails in a plane: it ends with the plane's place among all."""
    return f"fails {axes.index(plane.quantities)}"


def _told(tables: Mapping[str, tuple[str, pd.DataFrame]], what: str) -> pd.Index:
    """What the columns that begin with a word hold, each once, '' first."""
    columns = [
        table[name] for _, table in tables.values() for name in table if str(name).startswith(what)
    ]
    return pd.Index(sorted({"", *(each for column in columns for each in column.unique())}))


def _groups(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of each quantity by each instrument that gave a number, in the trace's order."""
    return [
        ((str(quantity), str(instrument)), rows)
        for (quantity, instrument), rows in table.groupby(["quantity", "instrument"], sort=False)
        if np.isfinite(rows["value"]).any()
    ]


def _joined(names: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(name for each in names for name in each))


def _looks_each(groups: Sequence[pd.DataFrame]) -> int:
    """The most looks that a curve may have for the page to stay small."""
    curves = np.array([rows["layer"].nunique() * rows["seed"].nunique() for rows in groups])
    looks = np.array([rows["epoch"].nunique() for rows in groups])
    most = int(looks.max(initial=0))
    while most > _LEAST and float((curves * np.minimum(looks, most)).sum()) * _BYTES > _ROOM:
        most -= 1
    return most


def _block(
    key: tuple[str, str],
    rows: pd.DataFrame,
    trace: TraceLike,
    known: Mapping[str, pd.Index],
    most: int,
    failing: Sequence[str],
) -> Block:
    """The numbers of one quantity by one instrument; ``known`` has the names to point into."""
    quantity, instrument = key
    names = ["", *trace.layers, *trace.modules]
    present = set(rows["layer"])
    layers = [name for name in names if name in present]
    looks = np.array(sorted(rows["epoch"].unique()))
    if len(looks) > most:
        looks = looks[np.unique(np.linspace(0, len(looks) - 1, most).round().astype(int))]
    seeds = sorted(rows["seed"].unique())
    places = pd.MultiIndex.from_product([layers, seeds, looks], names=["layer", "seed", "epoch"])
    dense = rows.set_index(["layer", "seed", "epoch"]).reindex(places)
    shape = len(layers), len(seeds), len(looks)
    block = {
        "quantity": quantity,
        "instrument": instrument,
        "unit": str(rows["unit"].iloc[0]),
        "layers": layers,
        "seeds": [int(seed) for seed in seeds],
        "looks": looks.tolist(),
        "values": packed(dense["value"].to_numpy()),
    }
    block["flags"] = _indexed(dense["flags"], known["flags"])
    fails = {name.split()[-1]: _indexed(dense[name], known["fails"]) for name in failing}
    block["fails"] = {plane: packed for plane, packed in fails.items() if packed is not None}
    # the instrument's own error, of which one number a look is told: the mean over seeds
    for name in ("stderr", "lower", "upper"):
        own = dense[name].to_numpy().reshape(shape)
        block[name] = packed(_mean(own)) if np.isfinite(own).any() else None
    return block


def _indexed(column: pd.Series[str], known: pd.Index) -> str | None:
    """The place of each text among those known, packed; nothing where all are ''."""
    raised = known.get_indexer(pd.Index(column.fillna("")))
    return packed(raised, "<u2" if len(known) > 255 else "<u1") if raised.any() else None


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over seeds, of those that have a number; NaN where none has."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0).sum(axis=1)
    counts = finite.sum(axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _map(layer: LayerResolution, trace: TraceLike) -> dict[str, Any]:
    """A layer at every resolution: bits ``(scales, looks)``, means over seeds."""
    called = quantities(pair(trace).meta)
    means = {called[I_XT]: layer.mean_x, called[I_TY]: layer.mean_y}
    known = {quantity: bits for quantity, bits in means.items() if np.isfinite(bits).any()}
    return {
        "layer": layer.layer,
        "reader": layer.reader,
        "quantities": [called[I_XT], called[I_TY]],
        "scales": layer.scales.tolist(),
        "looks": layer.epochs.tolist(),
        "seeds": layer.about_x.shape[1],
        "bits": {quantity: packed(bits) for quantity, bits in known.items()},
        "most": {quantity: float(np.nanmax(bits)) for quantity, bits in known.items()},
        "peaks": layer.peaks.tolist(),
        "bands": [list(band) for band in layer.bands],
        "fall": [[_finite(value) for value in ends] for ends in layer.held_out],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _analyses(layer: LayerMultiverse) -> dict[str, Any]:
    """A layer under every analysis, question by question, in the order of the falls.

    Those without a fall are the last of their question. Where several questions are asked, which
    is the first of the choices.
    """
    place = {question: at for at, question in enumerate(QUESTIONS)}
    rows = layer.rows.assign(_question=layer.rows["question"].map(place))
    rows = rows.sort_values(["_question", "held_out"], kind="stable", ignore_index=True)
    asked = rows["question"].map(QUESTIONS)
    questions = [{"name": "question", "levels": asked.tolist()}] if asked.nunique() > 1 else []
    ends = {"fall": "held_out", "lower": "held_out_lower", "upper": "held_out_upper"}
    return {
        "layer": layer.layer,
        "sentence": layer.sentence(),
        "call": rows["call"].tolist(),
        **{key: [_finite(value) for value in rows[column]] for key, column in ends.items()},
        "choices": [
            *questions,
            *({"name": name, "levels": rows[name].tolist()} for name in layer.varied),
        ],
    }

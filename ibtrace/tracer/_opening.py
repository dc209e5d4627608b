"""The trace that a tracer appends to: a new one, or one that holds nothing it disagrees with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibtrace.errors import RunError
from ibtrace.trace import Trace

_SHARED = {"population": "population", "labels": "labels", "forward": "forward="}
"""What all seeds of a run agree in, beside the probe and the clock, and its words in an error."""


def require_same_t(name: str, held: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Raise if a layer's T is not what the run holds under its name.

    Args:
        name: The layer's name.
        held: What the run records of it.
        record: What this look records.

    Raises:
        RunError: If they differ; says in what.
    """
    differing = [key for key in record if key in held and held[key] != record[key]]
    if differing:
        stored, now = (
            ", ".join(f"{key.replace('_', ' ')} {each[key] or 'none'}" for key in differing)
            for each in (held, record)
        )
        raise RunError(
            f"layer {name!r} is another T than the one this run holds: {stored} there, {now} here; "
            "seeds of one run are judged together, choose another folder"
        )


def open_trace(
    run: str | Path | None, seeds: Sequence[int], resume: bool, meta: Mapping[str, Any]
) -> Trace:
    """A new trace, or the one in the folder if it may be added to.

    Args:
        run: The folder; None keeps the trace in memory.
        seeds: The seeds that will be added.
        resume: Whether these may be there already.
        meta: What the tracer records of the run.

    Raises:
        RunError: If the run was traced otherwise, or holds a seed and is not to be resumed.
    """
    if run is None or not (Path(run) / "trace.sqlite").exists():
        return Trace.create(run, meta=meta)
    trace = Trace.load(run)
    if trace.meta.get("probe_digest") != meta["probe_digest"]:
        raise RunError(
            f"{run} was traced on another probe; choose another folder, or, where the data draw "
            "their samples or augmentations anew, make one Probe.of(data) for all seeds"
        )
    if trace.clock != meta["clock"]:
        raise RunError(f"{run} counts {trace.clock}s, not {meta['clock']}s; choose another folder")
    for name, what in _SHARED.items():
        if name in trace.meta and (stored := trace.meta[name]) != meta[name]:
            raise RunError(
                f"{run} was traced with {what} {stored!r}, not {meta[name]!r}; seeds of one run "
                "are judged together, choose another folder"
            )
    held = sorted(set(seeds) & set(trace.seeds))
    if held and not resume:
        raise RunError(
            f"{run} already holds seed {', '.join(map(str, held))}; "
            "choose another folder, or resume=True to go on"
        )
    return trace

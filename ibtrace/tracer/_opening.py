"""The trace that a tracer appends to: a new one, or one that holds nothing it disagrees with."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibtrace.errors import RunError
from ibtrace.runtime.text import shorten
from ibtrace.trace import Trace
from ibtrace.tracer._architecture import first_difference

_log = logging.getLogger("ibtrace")

_SHARED = {
    "population": "population",
    "padding": "padding",
    "labels": "labels",
    "forward": "forward=",
}
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
    if held.get("module") != record.get("module") and "module" not in differing:
        differing.append("module")  # which only one of them names
    if differing:
        stored, now = (
            ", ".join(f"{key.replace('_', ' ')} {each.get(key) or 'none'}" for key in differing)
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

    Warns:
        UserWarning: If the run was measured by other estimators or lenses.
    """
    if run is None or not (Path(run) / "trace.sqlite").exists():
        trace = Trace.create(run, meta=meta)
        trace.claim(seeds)
        return trace
    trace = Trace.load(run)
    if trace.meta.get("probe_digest") != meta["probe_digest"]:
        raise RunError(
            f"{run} was traced on another probe; choose another folder, or, where the data draw "
            "their samples or augmentations anew, make one Probe.of(data) for all seeds"
        )
    if trace.clock != meta["clock"]:
        raise RunError(f"{run} counts {trace.clock}s, not {meta['clock']}s; choose another folder")
    now = meta["architecture"]
    for name, what in _SHARED.items():
        if name in trace.meta and (stored := trace.meta[name]) != meta[name]:
            raise RunError(
                f"{run} was traced with {what} {stored!r}, not {meta[name]!r}; seeds of one run "
                "are judged together, choose another folder"
            )
    differs = first_difference(trace.meta.get("architecture") or now, now)
    if now and differs:
        raise RunError(
            f"{run} was traced on another model: {differs}; seeds of one run are judged together, "
            "choose another folder"
        )
    held = sorted(set(seeds) & trace.places().keys())
    if held and not resume:
        raise RunError(
            f"{run} already holds seed {', '.join(map(str, held))}; "
            "choose another folder, or resume=True to go on"
        )
    _require_same_settings(str(run), trace, meta["settings"], resumed=bool(held))
    trace.claim(seeds)
    _join_instruments(str(run), trace, meta)
    return trace


def _require_same_settings(
    run: str, trace: Trace, now: Mapping[str, Mapping[str, str]], resumed: bool
) -> None:
    """Refuse other functions in the model, and warn of other numbers and words in it.

    A number may be what the seed is, or what a training has counted: it does not refuse a run, and
    of one that is resumed nothing is said.

    Raises:
        RunError: If the model's functions are others.
    """
    held = trace.meta.get("settings")
    if held is None:  # of an earlier version
        return
    if differs := first_difference(held["functions"], now["functions"]):
        raise RunError(
            f"{run} was traced on a model that computes otherwise: {differs}; seeds of one run "
            "are judged together, choose another folder"
        )
    if not resumed and (differs := first_difference(held["values"], now["values"])):
        warnings.warn(
            f"{run} was traced on a model of other settings: {differs}; if that changes what it "
            "computes, choose another folder",
            stacklevel=6,
        )


def seen_places(trace: Trace, seeds: Sequence[int], initial: bool) -> list[int]:
    """Where a run that is opened holds looks at these networks: none, or, of all, the first too.

    Args:
        trace: The trace of the run.
        seeds: Those of the networks.
        initial: Whether a new run begins with a look at the network as it is, as epoch 0.

    Raises:
        RunError: If some seeds are there and others not, or there are looks and none is the first:
            what the network is now is nobody's epoch 0.
    """
    of_each = trace.places()
    held, new = ([seed for seed in seeds if (seed in of_each) is there] for there in (True, False))
    if held and new:
        there, here = (", ".join(map(str, group)) for group in (held, new))
        raise RunError(
            f"the run holds seed {there}, and not {here}: networks that are trained together are "
            "resumed together; choose another folder, or a tracer for each"
        )
    late = [seed for seed in held if 0 not in of_each[seed]]
    if initial and late:
        raise RunError(
            f"the run holds seed {late[0]} from {trace.clock} {of_each[late[0]][0]} on: the "
            "network as it is now would be measured as the untrained one; to go on, "
            "look=Look(initial=False); else choose another folder"
        )
    return sorted({at for seed in held for at in of_each[seed]})


def cut(trace: Trace, seeds: Sequence[int], after: int) -> None:
    """Forget, of some seeds, what a run holds after a place, and log that.

    Args:
        trace: The trace of the run.
        seeds: The seeds.
        after: The last place to keep.
    """
    of_each = trace.places()
    if later := sorted({at for seed in seeds for at in of_each.get(seed, ()) if at > after}):
        _log.warning(
            "%s: seed %s goes on after %s %d; looks of an earlier training at %s are dropped",
            trace.path,
            ", ".join(map(str, seeds)),
            trace.clock,
            after,
            shorten(", ".join(map(str, later))),
        )
    trace.truncate(after, seeds)


def _join_instruments(run: str, trace: Trace, meta: Mapping[str, Any]) -> None:
    """Record the estimators and lenses that join those of the run; warn where they differ."""
    for key, kind in (("configurations", "estimators"), ("lens_configurations", "lenses")):
        held, now = trace.meta.get(key, {}), meta[key]
        for label in held.keys() & now.keys():
            if held[label] != now[label]:
                raise RunError(
                    f"{run} holds numbers of {label} as {held[label]}, this is {now[label]}; "
                    "choose another folder"
                )
        gone = ", ".join(label for label in held if label not in now)
        new = ", ".join(label for label in now if label not in held)
        if key in trace.meta and (gone or new):
            parts = [f"without {gone}"] * bool(gone) + [f"with {new} as well"] * bool(new)
            warnings.warn(
                f"{run} goes on {' and '.join(parts)}: only {kind} that every seed has at every "
                "epoch can be judged over the run",
                stacklevel=6,
            )
        trace.update_meta({key: {**held, **now}})
    trace.update_meta({"questions": {**trace.meta.get("questions", {}), **meta["questions"]}})

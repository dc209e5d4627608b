"""What holds for a whole run, in sentences beside its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ibtrace.plane.finding import Finding
from ibtrace.plane.rule import Rule


def stopped(meta: Mapping[str, Any], frame: pd.DataFrame) -> list[str]:
    """Whether training ended before the epochs that were configured.

    Args:
        meta: Of the trace.
        frame: `Trace.frame`.
    """
    epochs = (meta.get("config") or {}).get("epochs")
    if epochs is None:
        return []
    ends = frame.groupby("seed")["epoch"].max()
    seeds = meta.get("seeds") or ends.index
    short = {seed: int(end) for seed, end in ends.items() if end < epochs}
    missing = [str(seed) for seed in seeds if seed not in ends.index]
    places = {f"epoch {end} of {epochs}" for end in short.values()}
    notes = []
    if len(places) == 1:
        who = "" if len(short) == len(ends) else f"Seed {', '.join(map(str, short))} "
        notes.append(f"{who or 'Training '}stopped at {places.pop()}.")
    elif places:
        each = ", ".join(f"seed {seed} at epoch {end}" for seed, end in short.items())
        notes.append(f"Training stopped before epoch {epochs}: {each}.")
    if missing:
        notes.append(f"Not begun: seed {', '.join(missing)} of {len(seeds)} seeds.")
    return notes


def of_layers(meta: Mapping[str, Any]) -> list[str]:
    """Which layers a trace does not have.

    Args:
        meta: Of the trace.
    """
    notes = [str(meta["layers_note"])] if meta.get("layers_note") else []
    if left_out := meta.get("left_out"):
        names = ", ".join([*left_out][:6]) + (", …" if len(left_out) > 6 else "")
        notes.append(f"Left out of the trace: {names}; trace.meta['left_out'] says why.")
    return notes


def silent(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Which estimators say nothing of I(X;T).

    Args:
        findings: What every estimator says of every layer.
    """
    names = dict.fromkeys(finding.estimator for finding in findings if finding.silent)
    return (f"No I(X;T) is given by {', '.join(names)}.",) if names else ()


def repeated(copies: Mapping[int, int]) -> tuple[str, ...]:
    """Which seeds are one network.

    Args:
        copies: ``{seed: the first}``.
    """
    return tuple(
        f"Seed {copy} is seed {first} over again, number for number: one network, which counts "
        "once; give every network a seed of its own."
        for copy, first in copies.items()
    )


def few_seeds(seeds: int, rule: Rule) -> tuple[str, ...]:
    """That a few seeds make for long intervals.

    Args:
        seeds: How many were kept.
        rule: How few make no call.
    """
    if not rule.least_seeds <= seeds < 5:
        return ()
    return (f"{seeds} seeds are few: their interval is long, and a fall is often missed; run 5.",)

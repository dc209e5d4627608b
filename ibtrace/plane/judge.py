"""The judge: does this layer compress?

1. A seed's *peak-to-final drop* is ``max over epochs of I(X;T) - I(X;T) at the last epoch``. The
   maximum of a noisy curve lies above the curve, so this is positive for a layer that does
   nothing. It is reported with its interval, as the field does, but it does not decide.
2. The *held-out fall* decides: the peak comes from the mean curve of the other seeds, the fall
   from the seed left out, between means over a tenth of the snapshots (`Rule.window_share`): at
   the peak, and at the end. Its expectation is zero where nothing moves, be the noise white or a
   slow wandering. Where seeds peak at different epochs it understates the fall. Its interval is
   Student's, made longer for the peaks that the seeds share (`half_width`).

   Simulated false "compresses" on curves without a trend, with offsets of the seeds' own and white,
   wandering or Student-t (2.5) noise of .1, .3, .5, 1 or 3 bits, 12, 60 or 200 snapshots: 1 % or
   less on average over the noises for every number of seeds from 3 to 50, 2.2 % at worst (nominal:
   2.5 %). A fall of .5 bit in white noise of .1 bit is seen with 3, 4, 5, 10 seeds in 96, 99.9,
   100, 100 % of runs of 60 snapshots, and in 40, 77, 92, 100 % of runs of 12, where a window is
   one snapshot.
   The interval assumes seeds that are independent given the probe. What all of them share, such as
   the noise of one order of batches, really falls in all these seeds and is no chance to it:
   with a shared part as large as each seed's own, 10 % of curves without a trend are called
   "compresses" at 3 seeds and 74 % at 20. Give every seed its own order of batches.
3. "compresses" if its whole interval lies above `Rule.least_drop`. "does not compress" if the
   whole interval lies below, and so does that of the *lasting drop*, from a seed's own peak to the
   highest of its last snapshots (else a few seeds that fall would hide among others that rise), the
   estimate is not saturated and training had converged. Else "inconclusive".
4. A curve that shows nothing gets no call: one at 0 within `Rule.errors` standard errors at every
   look, and one that falls below 0 by more. Nor does one that ends before others of the run do.
5. At every look the tracer counts the distinct rows of T, which give the exact I(X;T) on the
   probe. Where that did not move, a fall of an estimate of T itself is one of the estimate
   ("inconclusive"); a variable made of T (binned, noisy) may lose information, but the estimators
   together do not say that the layer compresses. Where the probe is all of X, the count speaks for
   the law: the layer "does not compress", and at H(X) nothing is saturated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ibtrace.errors import InvalidInput
from ibtrace.plane.consensus import consensus
from ibtrace.plane.coordinates import check_frame, clock, on_clock
from ibtrace.plane.evidence import training, truths
from ibtrace.plane.layer import Curve, judge_layer
from ibtrace.plane.result import LayerVerdict, Rule, Verdict
from ibtrace.runtime.arguments import require_instance, require_members
from ibtrace.types import I_XT, TraceLike, Variable


def verdict(
    trace: TraceLike, rule: Rule | None = None, *, estimators: Sequence[str] | None = None
) -> Verdict:
    """Judge every layer of a trace by every estimator.

    Args:
        trace: The trace; its meta entries ``n``, ``input_entropy``, ``population``, ``variables``
            and ``seeds``, its scalar ``train_loss`` and the exact bits of its layers are used where
            they exist.
        rule: What counts as compression (default: ``Rule()``).
        estimators: Only by the estimators of these labels; None for all of the trace.

    Raises:
        InvalidInput: If the trace has no I(X;T), by these estimators.
        ConfigError: If ``trace`` is no trace, or ``rule`` no rule.
    """
    form = "a Trace, such as ibtrace.Trace.load(folder)"
    require_members("verdict: trace", trace, ("frame", "scalars"), form)
    if rule is not None:
        require_instance("verdict: rule", rule, Rule, "an ibtrace.Rule")
    meta, frame = trace.meta, trace.frame()
    if estimators is not None:
        frame = frame[frame["estimator"].isin(list(estimators))]
    judged = judge(
        frame,
        n=meta.get("n"),
        input_entropy=meta.get("input_entropy"),
        layer_entropies={
            name: float(record["input_entropy"])
            for name, record in meta.get("captured", {}).items()
            if "input_entropy" in record
        },
        scalars=trace.scalars(),
        seeds=meta.get("seeds"),
        population=bool(meta.get("population", False)),
        variables=meta.get("variables"),
        rule=rule,
    )
    stopped = _stopped(meta, trace.frame())
    return replace(judged, notes=(*stopped, *judged.notes, *_of_layers(meta)))


def _stopped(meta: Mapping[str, Any], frame: pd.DataFrame) -> list[str]:
    """Whether training ended before the epochs that were configured, in a sentence."""
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


def _of_layers(meta: Mapping[str, Any]) -> list[str]:
    """Which layers a trace does not have, in sentences."""
    notes = [str(meta["layers_note"])] if meta.get("layers_note") else []
    if left_out := meta.get("left_out"):
        names = ", ".join([*left_out][:6]) + (", …" if len(left_out) > 6 else "")
        notes.append(f"Left out of the trace: {names}; trace.meta['left_out'] says why.")
    return notes


def judge(
    frame: pd.DataFrame,
    *,
    n: int | None = None,
    input_entropy: float | None = None,
    layer_entropies: Mapping[str, float] | None = None,
    scalars: pd.DataFrame | None = None,
    seeds: Sequence[int] | None = None,
    population: bool = False,
    variables: Mapping[str, Mapping[str, Variable]] | None = None,
    rule: Rule | None = None,
) -> Verdict:
    """Judge every layer of a table by every estimator.

    Args:
        frame: `Trace.frame`.
        n: Samples of the probe: log2 n bounds a plug-in estimate.
        input_entropy: H(X) of the probe in bits, a lower ceiling where inputs repeat.
        layer_entropies: H(X) where it is another for a layer: of one token, ``{layer: bits}``.
        scalars: `Trace.scalars`; ``train_loss`` tells whether training had converged, the exact
            bits of a layer whether its true I(X;T) moved.
        seeds: The seeds that were run, if some of them may have left no row.
        population: Whether the probe is all of X: H(X) is then no ceiling but the truth where
            nothing is lost.
        variables: What stands for T by each estimator in each layer, ``{label: {layer: variable}}``
            (`ibtrace.types.variable_of`); ``made`` where it is not there.
        rule: What counts as compression (default: ``Rule()``).

    Raises:
        InvalidInput: If the table has no I(X;T), lacks columns or has a number twice.
    """
    rule, counted = rule or Rule(), clock(frame)
    scalars = None if scalars is None else on_clock(frame, scalars)
    frame = on_clock(frame)
    check_frame(frame)
    rows = frame[frame["quantity"] == I_XT]
    if rows.empty:
        raise InvalidInput("there is no I(X;T) to judge; trace at least one snapshot")
    copies = _copies(rows)
    rows = rows[~rows["seed"].isin(copies)]
    run = sorted({*rows["seed"].tolist(), *(seeds or ())} - {*copies})
    sampled = min(np.log2(n) if n else np.inf, np.inf if input_entropy is None else input_entropy)
    layers = [str(layer) for layer in rows["layer"].unique()]
    entropies = {layer: (layer_entropies or {}).get(layer, sampled) for layer in layers}
    known = truths(rows, scalars, entropies)
    still = {layer: truth for layer, truth in known.items() if truth.moved < rule.least_drop}
    trained = training(scalars, rule, counted)
    judged = []
    for estimator, layer in rows[["estimator", "layer"]].drop_duplicates().itertuples(index=False):
        of_layer = rows[(rows["estimator"] == estimator) & (rows["layer"] == layer)]
        curve = Curve(
            rows=of_layer,
            run=run,
            entropy=min(np.inf if population else entropies[layer], _part_ceiling(of_layer, n)),
            training=trained,
            still=still.get(layer),
            of_itself=(variables or {}).get(estimator, {}).get(layer) == "itself",
            clock=counted,
            end=int(rows["epoch"].max()),
        )
        judged.append(judge_layer(curve, rule))
    vote = population and trained.converged is not False
    together = tuple(
        consensus(layer, [v for v in judged if v.layer == layer], still.get(layer), vote)
        for layer in layers
    )
    notes = (
        trained.note,
        *_silent(judged),
        *(
            f"Seed {copy} is seed {first} over again, number for number: one network, which counts "
            "once; give every network a seed of its own."
            for copy, first in copies.items()
        ),
        *(("The probe is all of X: H(X) is the truth where nothing is lost.",) * population),
        *_few_seeds(max(len(v.seeds_kept) for v in judged), rule),
    )
    return Verdict(tuple(judged), together, notes, rule, counted)


def _copies(rows: pd.DataFrame) -> dict[int, int]:
    """Seeds whose I(X;T) is another's to the last digit at every look: ``{seed: the first}``.

    Curves that stand still all along tell nothing: those of different networks may be equal.
    """
    moving = rows.groupby(["estimator", "layer"])["bits"].transform("nunique") > 1
    table = rows[moving].pivot_table(
        index=["estimator", "layer", "epoch"], columns="seed", values="bits", sort=False
    )
    firsts: dict[tuple[float, ...], int] = {}
    seeds = sorted(map(int, table.columns))
    found = {seed: tuple(map(float, table[seed])) for seed in seeds}
    return {
        seed: first
        for seed, curve in found.items()
        if (first := firsts.setdefault(curve, seed)) != seed
    }


def _silent(judged: Sequence[LayerVerdict]) -> tuple[str, ...]:
    """Which estimators have no vote, in a sentence."""
    names = dict.fromkeys(v.estimator for v in judged if v.silent)
    return (f"No I(X;T) is given by {', '.join(names)}: no vote on it.",) if names else ()


def _part_ceiling(rows: pd.DataFrame, n: int | None) -> float:
    """log2 of the samples that were measured, if these are a part of the n of the probe; or inf."""
    samples = float(rows["samples"].max()) if "samples" in rows else np.nan
    return float(np.log2(samples)) if n and samples < n else np.inf


def _few_seeds(seeds: int, rule: Rule) -> tuple[str, ...]:
    if not rule.least_seeds <= seeds < 5:
        return ()
    return (f"{seeds} seeds are few: their interval is long, and a fall is often missed; run 5.",)

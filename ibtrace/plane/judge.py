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
3. "compresses" if its whole interval lies above `Rule.least_drop`. "does not compress" if the
   whole interval lies below, and so does that of the *lasting drop*, from a seed's own peak to the
   highest of its last snapshots (else a few seeds that fall would hide among others that rise), the
   estimate is not saturated and training had converged. Else "inconclusive".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ibtrace.plane.coordinates import check_frame
from ibtrace.plane.drops import (
    Array,
    Interval,
    held_out_drops,
    interval,
    lasting_drops,
    peak_to_final_drops,
    windowed,
)
from ibtrace.plane.result import Call, Consensus, LayerVerdict, Rule, Verdict
from ibtrace.trace import Trace
from ibtrace.types import I_XT, InvalidInput, either

_ALL_DISTINCT = "all_distinct"


class _Training(NamedTuple):
    """What the training loss says: had training converged (None: unknown), and in words."""

    converged: bool | None
    note: str


def verdict(
    trace: Trace, rule: Rule | None = None, *, estimators: Sequence[str] | None = None
) -> Verdict:
    """Judge every layer of a trace by every estimator.

    Args:
        trace: The trace; its meta entries ``n``, ``input_entropy`` and ``seeds`` and its scalar
            ``train_loss`` are used where they exist.
        rule: What counts as compression (default: ``Rule()``).
        estimators: Only by the estimators of these labels; None for all of the trace.

    Raises:
        InvalidInput: If the trace has no I(X;T), by these estimators.
    """
    meta, frame = trace.meta, trace.frame()
    if estimators is not None:
        frame = frame[frame["estimator"].isin(list(estimators))]
    return judge(
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
        rule=rule,
    )


def judge(
    frame: pd.DataFrame,
    *,
    n: int | None = None,
    input_entropy: float | None = None,
    layer_entropies: Mapping[str, float] | None = None,
    scalars: pd.DataFrame | None = None,
    seeds: Sequence[int] | None = None,
    rule: Rule | None = None,
) -> Verdict:
    """Judge every layer of a table by every estimator.

    Args:
        frame: `Trace.frame`.
        n: Samples of the probe: log2 n bounds a plug-in estimate.
        input_entropy: H(X) of the probe in bits, a lower ceiling where inputs repeat.
        layer_entropies: H(X) where it is another for a layer: of one token, ``{layer: bits}``.
        scalars: `Trace.scalars`; ``train_loss`` tells whether training had converged.
        seeds: The seeds that were run, if some of them may have left no row.
        rule: What counts as compression (default: ``Rule()``).

    Raises:
        InvalidInput: If the table has no I(X;T), lacks columns or has a number twice.
    """
    rule = rule or Rule()
    check_frame(frame)
    rows = frame[frame["quantity"] == I_XT]
    if rows.empty:
        raise InvalidInput("there is no I(X;T) to judge; trace at least one snapshot")
    run = sorted({*rows["seed"].tolist(), *(seeds or ())})
    ceiling = min(np.log2(n) if n else np.inf, np.inf if input_entropy is None else input_entropy)
    training = _training(scalars, rule)
    constant = _truly_constant(rows)
    found = []
    for estimator, layer in rows[["estimator", "layer"]].drop_duplicates().itertuples(index=False):
        mine = rows[(rows["estimator"] == estimator) & (rows["layer"] == layer)]
        most = (layer_entropies or {}).get(layer, ceiling)
        found.append(_judge_layer(mine, run, most, training, layer in constant, rule))
    layers = rows["layer"].unique()
    together = tuple(_consensus(layer, [v for v in found if v.layer == layer]) for layer in layers)
    notes = (training.note, *_few_seeds(max(len(v.seeds_kept) for v in found), rule))
    return Verdict(tuple(found), together, notes, rule)


def _judge_layer(
    rows: pd.DataFrame,
    run: Sequence[int],
    ceiling: float,
    training: _Training,
    truly_constant: bool,
    rule: Rule,
) -> LayerVerdict:
    kept, epochs, curves = _curves(rows)
    drops = peak_to_final_drops(curves)
    held_out_each = held_out_drops(windowed(curves, rule.window_share))
    lasting = lasting_drops(curves, rule.final_share)
    held_out = interval(held_out_each, rule.confidence, held_out=True)
    falling = np.fmax(held_out_each, lasting) > rule.least_drop
    mean = curves.mean(axis=0) if kept else np.full(len(epochs), np.nan)
    peak = int(mean.argmax())
    ends = rows[rows["epoch"].isin([epochs[peak], epochs[-1]])]
    flags = _flag_shares(ends)
    call, cause = (
        _no_call(len(kept), len(epochs), flags, rule)
        or _fall(held_out, rule)
        or _saturation(min(mean[peak], mean[-1]), _ceiling(rows, ceiling), ceiling, rule)
        or _no_fall(held_out, lasting, training, rule)
    )
    remarks = (
        *_seed_remarks(run, kept),
        *(("highest before training",) if call == "compresses" and peak == 0 else ()),
        *(("training had not converged",) if training.converged is False else ()),
        *(
            f"flagged {name} in {share} numbers at peak and end"
            for name, share in flags.items()
            if not (name.startswith("near_") and cause.startswith("saturated"))
        ),
        *(_constant_remarks(rows["estimator"].iloc[0]) if truly_constant else ()),
    )
    return LayerVerdict(
        layer=rows["layer"].iloc[0],
        estimator=rows["estimator"].iloc[0],
        estimand=either(rows["estimand"]),
        call=call,
        cause=cause,
        remarks=tuple(text for text in remarks if text not in cause),
        drop=interval(drops, rule.confidence),
        held_out=held_out,
        peak_epoch=epochs[peak],
        peak_bits=float(mean[peak]),
        final_epoch=epochs[-1],
        final_bits=float(mean[-1]),
        drops=dict(zip(kept, drops.tolist(), strict=True)),
        seeds_that_fall=tuple(np.array(kept, dtype=int)[falling].tolist()),
        seeds_run=tuple(run),
        seeds_kept=tuple(kept),
    )


_Finding = tuple[Call, str]


def _no_call(seeds: int, snapshots: int, flags: Mapping[str, str], rule: Rule) -> _Finding | None:
    """What forbids a call before the numbers are looked at."""
    if snapshots < 2:
        return "inconclusive", "one snapshot"
    if flags.get("constant") == "all":
        return "inconclusive", "the layer is constant"
    if seeds >= rule.least_seeds:
        return None
    if not seeds:
        return "inconclusive", "no seed has a number at the last epoch"
    number = f"{seeds} seed{'s' * (seeds > 1)}"
    return "inconclusive", f"{number}, at least {rule.least_seeds} are needed"


def _fall(held_out: Interval, rule: Rule) -> _Finding | None:
    if held_out.lower > rule.least_drop:
        return "compresses", f"held-out fall above {rule.least_drop:g} bit"
    return None


def _saturation(lowest: float, ceiling: float, entropy: float, rule: Rule) -> _Finding | None:
    if not lowest >= (1 - rule.near_ceiling) * ceiling:
        return None
    own = "log2 N" if ceiling >= entropy else f"the estimator's ceiling, {ceiling:.2f} bits"
    return "inconclusive", f"saturated at {own}"


def _ceiling(rows: pd.DataFrame, entropy: float) -> float:
    """The most the estimator can say: H(X), or less where it reports a ``ceiling`` of its own."""
    own = rows["ceiling"].max() if "ceiling" in rows else np.nan
    return entropy if np.isnan(own) else min(float(own), entropy)


def _no_fall(held_out: Interval, lasting: Array, training: _Training, rule: Rule) -> _Finding:
    if held_out.upper >= rule.least_drop:
        return "inconclusive", f"the interval of the held-out fall spans {rule.least_drop:g} bit"
    if interval(lasting, rule.confidence).upper >= rule.least_drop:
        number = int((lasting > rule.least_drop).sum())
        falling = f"{number} of {len(lasting)} seeds {'falls' if number == 1 else 'fall'} for good"
        most = f"by up to {lasting.max():.2f} bits"
        return "inconclusive", f"{falling}, {most}, but not together"
    if training.converged is False:
        return "inconclusive", "training had not converged"
    return "does not compress", f"held-out fall below {rule.least_drop:g} bit"


def _curves(rows: pd.DataFrame) -> tuple[list[int], list[int], Array]:
    """Seeds with a finite last number, epochs at which all of them have one, and their curves."""
    table = rows.pivot(index="seed", columns="epoch", values="bits")
    bits = table.to_numpy(dtype=np.float64)
    kept = np.isfinite(bits[:, -1])
    whole = np.isfinite(bits[kept]).all(axis=0)
    seeds, epochs = table.index[kept].tolist(), table.columns[whole].tolist()
    return seeds, epochs, bits[kept][:, whole]


def _flag_shares(ends: pd.DataFrame) -> dict[str, str]:
    """The flags raised at the peak and the last epoch, ``{flag: "all" or "some"}``."""
    raised = [set(filter(None, flags.split(","))) - {_ALL_DISTINCT} for flags in ends["flags"]]
    names = sorted(set().union(*raised))
    return {name: "all" if all(name in r for r in raised) else "some" for name in names}


def _seed_remarks(run: Sequence[int], kept: Sequence[int]) -> tuple[str, ...]:
    lost = [str(seed) for seed in run if seed not in kept]
    if not lost:
        return ()
    return (f"{len(lost)} of {len(run)} seeds lack the last epoch ({', '.join(lost)})",)


def _constant_remarks(estimator: str) -> tuple[str, ...]:
    if estimator.startswith("Exact"):
        return ()
    moving = "binned entropy" if "Binning" in estimator else "estimate, not the information"
    return (f"true I(X;T) is log2 N throughout: what moves is the {moving}",)


def _few_seeds(kept: int, rule: Rule) -> tuple[str, ...]:
    if not rule.least_seeds <= kept < 5:
        return ()
    return (f"{kept} seeds are few: their interval is long, and a fall is often missed; run 5.",)


def _truly_constant(rows: pd.DataFrame) -> set[str]:
    """Layers whose patterns `Exact` found all distinct, at every epoch and seed."""
    exact = rows[rows["estimator"].str.match(r"Exact\b")]
    distinct = exact["flags"].str.split(",").map(lambda flags: _ALL_DISTINCT in flags)
    return {layer for layer, all_distinct in distinct.groupby(exact["layer"]) if all_distinct.all()}


def _training(scalars: pd.DataFrame | None, rule: Rule) -> _Training:
    """Share of the training loss's fall that came in the last half of the epochs."""
    unknown = "whether training had converged is unknown."
    if scalars is None or not (scalars["name"] == "train_loss").any():
        return _Training(None, f"No train_loss was recorded: {unknown}")
    losses = scalars[(scalars["name"] == "train_loss") & np.isfinite(scalars["value"])]
    if losses["epoch"].nunique() < 3:
        return _Training(None, f"Fewer than 3 epochs have a train_loss: {unknown}")
    loss = losses.groupby("epoch")["value"].mean()
    epochs = loss.index.to_numpy()
    half = loss[epochs[epochs <= (epochs[0] + epochs[-1]) / 2][-1]]
    first, last = float(loss.iloc[0]), float(loss.iloc[-1])
    if last >= first:
        return _Training(False, f"Training loss did not fall ({first:.3g} to {last:.3g}).")
    late = float(half - last) / (first - last)
    converged = late <= rule.late_share
    fall = f"{100 * late:.0f} % of the fall of the training loss ({first:.3g} to {last:.3g})"
    said = "had converged" if converged else "had not converged"
    return _Training(converged, f"Training {said}: {fall} came in the last half of the epochs.")


def _consensus(layer: str, found: Sequence[LayerVerdict]) -> Consensus:
    calls: dict[Call, list[str]] = {}
    for one in found:
        calls.setdefault(one.call, []).append(one.estimator)
    said = "; ".join(f"{call} by {', '.join(names)}" for call, names in calls.items())
    if len(calls) == 1:
        said = "by all estimators"
    decided = [call for call in calls if call != "inconclusive"]
    if len(decided) == 2:
        return Consensus(layer, "estimator-dependent", said)
    if decided and 2 * len(calls[decided[0]]) >= len(found):
        return Consensus(layer, decided[0], said)
    return Consensus(layer, "inconclusive", said)

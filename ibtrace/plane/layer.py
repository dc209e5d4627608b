"""One layer by one estimator: what its curves show is gathered first, and decides then.

The rules are those of `ibtrace.plane.judge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ibtrace.plane.cause import Cause
from ibtrace.plane.coordinates import estimands
from ibtrace.plane.drops import (
    Array,
    Interval,
    held_out_drops,
    interval,
    lasting_drops,
    peak_to_final_drops,
    windowed,
)
from ibtrace.plane.evidence import Training, Truth, empty_of_information
from ibtrace.plane.result import LayerVerdict, Rule
from ibtrace.types import split_flags

_UNDEFINED, _CONSTANT = "undefined", "constant"
_ALL_DISTINCT = "all_distinct"  # of a deterministic network nearly always, and no fault
_NEAR_CEILING = "near_ceiling"


@dataclass(frozen=True)
class Curve:
    """What a layer is judged by, for one estimator.

    Args:
        rows: Its rows of I(X;T).
        run: All seeds of the run.
        entropy: The most that the samples can show, in bits.
        training: What the training loss says.
        still: The true I(X;T), if it is known not to have moved.
        of_itself: Whether the estimator's number is of T itself, not of a variable made of it.
        clock: What its looks are counted by.
        end: The last look of the run by any estimator.
    """

    rows: pd.DataFrame
    run: Sequence[int]
    entropy: float
    training: Training
    still: Truth | None
    of_itself: bool
    clock: str
    end: int


@dataclass(frozen=True)
class _Evidence:
    """What the curves show, all that the decision rests on; bits.

    Args:
        curve: What is judged.
        silent: Whether I(X;T) is undefined at every look.
        seeds: Those with a finite number at the last look.
        epochs: The looks at which all of these have one.
        mean: Their mean curve, ``(epochs,)``.
        errors: Its standard error, ``(epochs,)``.
        drops: Peak-to-final drop of each seed, ``(seeds,)``.
        held_out_each: Held-out fall of each seed, ``(seeds,)``.
        held_out: Its mean and interval.
        lasting: Lasting drop of each seed, ``(seeds,)``.
        ceiling: The most that the estimator can say.
        flags: The flags raised at the peak and the last look, ``{flag: "all" or "some"}``.
    """

    curve: Curve
    silent: bool
    seeds: Sequence[int]
    epochs: Sequence[int]
    mean: Array
    errors: Array
    drops: Array
    held_out_each: Array
    held_out: Interval
    lasting: Array
    ceiling: float
    flags: Mapping[str, str]

    @property
    def peak(self) -> int:
        """The index of the look at which the mean curve is highest."""
        return int(self.mean.argmax())


def judge_layer(curve: Curve, rule: Rule) -> LayerVerdict:
    """Whether the layer compresses by the estimator.

    Args:
        curve: What it is judged by.
        rule: What counts as compression.
    """
    evidence = _gathered(curve, rule)
    cause = _decided(evidence, rule)
    seeds, epochs, peak = evidence.seeds, evidence.epochs, evidence.peak
    falling = np.fmax(evidence.held_out_each, evidence.lasting) > rule.least_drop
    return LayerVerdict(
        layer=curve.rows["layer"].iloc[0],
        estimator=curve.rows["estimator"].iloc[0],
        estimands=estimands(curve.rows),
        cause=cause,
        remarks=_remarks(evidence, cause),
        drop=interval(evidence.drops, rule.confidence),
        held_out=evidence.held_out,
        peak_epoch=epochs[peak],
        peak_bits=float(evidence.mean[peak]),
        final_epoch=epochs[-1],
        final_bits=float(evidence.mean[-1]),
        drops=dict(zip(seeds, evidence.drops.tolist(), strict=True)),
        seeds_that_fall=tuple(np.array(seeds, dtype=int)[falling].tolist()),
        seeds_run=tuple(curve.run),
        seeds_kept=tuple(seeds),
    )


# --- gathering ------------------------------------------------------------------------------


def _gathered(curve: Curve, rule: Rule) -> _Evidence:
    rows = curve.rows
    undefined = rows["bits"].isna() & np.array([_UNDEFINED in f for f in _flags(rows)], dtype=bool)
    seeds, epochs, curves, errors = _curves(rows)
    mean = curves.mean(axis=0) if seeds else np.full(len(epochs), np.nan)
    held_out_each = held_out_drops(windowed(curves, rule.window_share))
    ends = rows[rows["epoch"].isin([epochs[int(mean.argmax())], epochs[-1]])]
    return _Evidence(
        curve=curve,
        silent=bool(undefined.all()),
        seeds=seeds,
        epochs=epochs,
        mean=mean,
        errors=errors,
        drops=peak_to_final_drops(curves),
        held_out_each=held_out_each,
        held_out=interval(held_out_each, rule.confidence, held_out=True),
        lasting=lasting_drops(curves, rule.final_share),
        ceiling=_ceiling(rows, curve.entropy),
        flags=_flag_shares(ends),
    )


def _curves(rows: pd.DataFrame) -> tuple[list[int], list[int], Array, Array]:
    """Seeds with a finite last number, epochs at which all of them have one, and their curves.

    The last is the standard error of the mean curve: the estimator's own, which seeds that share
    a probe do not average out, or where it gives none the mean spread of the seeds.
    """
    table = rows.pivot(index="seed", columns="epoch", values="bits")
    bits = table.to_numpy(dtype=np.float64)
    finite = np.isfinite(bits[:, -1])
    whole = np.isfinite(bits[finite]).all(axis=0)
    seeds, epochs = table.index[finite].tolist(), table.columns[whole].tolist()
    curves = bits[finite][:, whole]
    if len(seeds) < 2 or "stderr" not in rows:
        return seeds, epochs, curves, np.zeros(len(epochs))
    own = rows.pivot(index="seed", columns="epoch", values="stderr").to_numpy(dtype=np.float64)
    errors = own[finite][:, whole].mean(axis=0)
    spread = np.sqrt(curves.var(axis=0, ddof=1).mean())
    return seeds, epochs, curves, np.where(np.isnan(errors), spread, errors)


def _ceiling(rows: pd.DataFrame, entropy: float) -> float:
    """The most the estimator can say: H(X), or less where it reports a ``ceiling`` of its own."""
    own = rows["ceiling"].max() if "ceiling" in rows else np.nan
    return entropy if np.isnan(own) else min(float(own), entropy)


def _flags(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    return [split_flags(text) for text in rows["flags"]]


def _flag_shares(ends: pd.DataFrame) -> dict[str, str]:
    """The flags raised at the peak and the last epoch, ``{flag: "all" or "some"}``."""
    raised = [{*flags} - {_ALL_DISTINCT} for flags in _flags(ends)]
    names = sorted(set().union(*raised))
    return {name: "all" if all(name in r for r in raised) else "some" for name in names}


# --- deciding -------------------------------------------------------------------------------


def _decided(evidence: _Evidence, rule: Rule) -> Cause:
    """The first that holds."""
    return (
        _nothing_to_judge(evidence, rule)
        or empty_of_information(evidence.mean, evidence.errors, rule)
        or _fall(evidence, rule)
        or _saturation(evidence, rule)
        or _no_fall(evidence, rule)
    )


def _nothing_to_judge(evidence: _Evidence, rule: Rule) -> Cause | None:
    """What forbids a call before the numbers are looked at."""
    if evidence.silent:
        return Cause("no I(X;T)", "gives no I(X;T) here")
    if len(evidence.epochs) < 2:
        return Cause("one snapshot", "one snapshot")
    curve = evidence.curve
    if (last := int(curve.rows["epoch"].max())) < curve.end:
        return Cause("not to the end", f"not measured after {curve.clock} {last} of {curve.end}")
    if evidence.flags.get(_CONSTANT) == "all":
        return Cause("constant", "the layer is constant")
    seeds = len(evidence.seeds)
    if seeds >= rule.least_seeds:
        return None
    if not seeds:
        return Cause("few seeds", f"no seed has a number at the last {evidence.curve.clock}")
    number = f"{seeds} seed{'s' * (seeds > 1)}"
    return Cause("few seeds", f"{number}, at least {rule.least_seeds} are needed")


def _fall(evidence: _Evidence, rule: Rule) -> Cause | None:
    if not evidence.held_out.lower > rule.least_drop:
        return None
    if (still := evidence.curve.still) and evidence.curve.of_itself:
        return Cause("estimate falls", f"what falls is the estimate: {still}")
    return Cause("fall", f"held-out fall above {rule.least_drop:g} bit")


def _saturation(evidence: _Evidence, rule: Rule) -> Cause | None:
    lowest = min(evidence.mean[evidence.peak], evidence.mean[-1])
    ceiling, entropy = evidence.ceiling, evidence.curve.entropy
    if not lowest >= (1 - rule.near_ceiling) * ceiling:
        return None
    own = "log2 N" if ceiling >= entropy else f"the estimator's ceiling, {ceiling:.2f} bits"
    return Cause("saturated", f"saturated at {own}")


def _no_fall(evidence: _Evidence, rule: Rule) -> Cause:
    lasting = evidence.lasting
    if evidence.held_out.upper >= rule.least_drop:
        text = f"the interval of the held-out fall spans {rule.least_drop:g} bit"
        return Cause("wide interval", text)
    if interval(lasting, rule.confidence).upper >= rule.least_drop:
        number = int((lasting > rule.least_drop).sum())
        falling = f"{number} of {len(lasting)} seeds {'falls' if number == 1 else 'fall'} for good"
        most = f"by up to {lasting.max():.2f} bits"
        return Cause("seeds apart", f"{falling}, {most}, but not together")
    if evidence.curve.training.converged is False:
        return Cause("not converged", "training had not converged")
    return Cause("no fall", f"held-out fall below {rule.least_drop:g} bit")


# --- remarks --------------------------------------------------------------------------------


def _remarks(evidence: _Evidence, cause: Cause) -> tuple[str, ...]:
    """What else one must know to read the number, beside its cause."""
    if evidence.silent:
        return ()
    curve = evidence.curve
    remarks = [*_lost_seeds(curve, evidence.seeds)]
    if cause.call == "compresses" and evidence.peak == 0:
        remarks.append("highest before training")
    if curve.training.converged is False and cause.kind != "not converged":
        remarks.append("training had not converged")
    # where nothing can be higher, or the cause has said it, to be near the ceiling is no news
    near_is_known = np.isinf(curve.entropy) or cause.kind == "saturated"
    for flag, share in evidence.flags.items():
        if not (flag == _NEAR_CEILING and near_is_known):
            remarks.append(f"flagged {flag} in {share} numbers at peak and end")
    if curve.still and cause.kind != "estimate falls":
        remarks.append(_still_remark(curve.still, cause))
    return tuple(remarks)


def _lost_seeds(curve: Curve, seeds: Sequence[int]) -> tuple[str, ...]:
    lost = [str(seed) for seed in curve.run if seed not in seeds]
    if not lost:
        return ()
    return (
        f"{len(lost)} of {len(curve.run)} seeds lack the last {curve.clock} ({', '.join(lost)})",
    )


def _still_remark(still: Truth, cause: Cause) -> str:
    of_made = "; what falls is its estimand, a variable made of T"
    return f"{still}{of_made if cause.call == 'compresses' else ''}"

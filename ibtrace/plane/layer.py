"""One layer by one estimator: what its curves show decides.

The rules are those of `ibtrace.plane.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ibtrace.plane.cause import Cause
from ibtrace.plane.circumstances import empty_of_information
from ibtrace.plane.coordinates import estimands
from ibtrace.plane.drops import interval
from ibtrace.plane.finding import Evidence, Finding, Point, Seeds
from ibtrace.plane.gathering import Curve, Gathered, Run, gather
from ibtrace.plane.rule import Rule

_CONSTANT, _NEAR_CEILING = "constant", "near_ceiling"


def judge_layer(curve: Curve, rule: Rule) -> Finding:
    """Whether the layer compresses by the estimator.

    Args:
        curve: What it is judged by.
        rule: What counts as compression.
    """
    gathered = gather(curve, rule)
    cause = _decided(gathered, rule)
    return Finding(
        layer=curve.rows["layer"].iloc[0],
        estimator=curve.rows["estimator"].iloc[0],
        question=curve.question,
        variable=curve.variable,
        estimands=estimands(curve.rows),
        samples=curve.samples,
        whole=curve.whole,
        cause=cause,
        remarks=_remarks(gathered, cause),
        evidence=_evidence(gathered, rule),
    )


def _evidence(gathered: Gathered, rule: Rule) -> Evidence:
    means, falls = gathered.means, gathered.falls
    falling = np.fmax(falls.each_held_out, falls.lasting) > rule.least_drop
    kept = np.array(means.seeds, dtype=int)
    return Evidence(
        drop=interval(falls.drops, rule.confidence),
        held_out=falls.held_out,
        peak=Point(means.epochs[means.peak], float(means.mean[means.peak])),
        final=Point(means.epochs[-1], float(means.mean[-1])),
        lowest=float(means.bits.min(initial=np.inf)),
        highest=float(means.bits.max(initial=-np.inf)),
        drops=dict(zip(means.seeds, falls.drops.tolist(), strict=True)),
        seeds=Seeds(
            tuple(gathered.curve.run.seeds), tuple(means.seeds), tuple(kept[falling].tolist())
        ),
    )


# --- deciding -------------------------------------------------------------------------------


def _decided(gathered: Gathered, rule: Rule) -> Cause:
    """The first that holds."""
    return (
        _nothing_to_judge(gathered, rule)
        or empty_of_information(gathered.means.mean, gathered.means.errors, rule)
        or _fall(gathered, rule)
        or _saturation(gathered, rule)
        or _no_fall(gathered, rule)
    )


def _nothing_to_judge(gathered: Gathered, rule: Rule) -> Cause | None:
    """What forbids a call before the numbers are looked at."""
    if gathered.silent:
        return Cause("no I(X;T)", "gives no I(X;T) here")
    if len(gathered.means.epochs) < 2:
        return Cause("one snapshot", "one snapshot")
    run = gathered.curve.run
    if (last := int(gathered.curve.rows["epoch"].max())) < run.end:
        return Cause("not to the end", f"not measured after {run.clock} {last} of {run.end}")
    if gathered.flags.get(_CONSTANT) == "all":
        return Cause("constant", "the layer is constant")
    seeds = len(gathered.means.seeds)
    if seeds >= rule.least_seeds:
        return None
    if not seeds:
        return Cause("few seeds", f"no seed has a number at the last {run.clock}")
    number = f"{seeds} seed{'s' * (seeds > 1)}"
    return Cause("few seeds", f"{number}, at least {rule.least_seeds} are needed")


def _fall(gathered: Gathered, rule: Rule) -> Cause | None:
    if not gathered.falls.held_out.lower > rule.least_drop:
        return None
    curve = gathered.curve
    if curve.still and curve.question == "density" and curve.variable == "itself":
        return Cause("estimate falls", f"what falls is the estimate: {curve.still}")
    return Cause("fall", f"held-out fall above {rule.least_drop:g} bit")


def _saturation(gathered: Gathered, rule: Rule) -> Cause | None:
    mean = gathered.means.mean
    lowest = min(mean[gathered.means.peak], mean[-1])
    ceiling, entropy = gathered.ceiling, gathered.curve.entropy
    if not lowest >= (1 - rule.near_ceiling) * ceiling:
        return None
    own = "log2 N" if ceiling >= entropy else f"the estimator's ceiling, {ceiling:.2f} bits"
    return Cause("saturated", f"saturated at {own}")


def _no_fall(gathered: Gathered, rule: Rule) -> Cause:
    lasting = gathered.falls.lasting
    if gathered.falls.held_out.upper >= rule.least_drop:
        text = f"the interval of the held-out fall spans {rule.least_drop:g} bit"
        return Cause("wide interval", text)
    if interval(lasting, rule.confidence).upper >= rule.least_drop:
        number = int((lasting > rule.least_drop).sum())
        falling = f"{number} of {len(lasting)} seeds {'falls' if number == 1 else 'fall'} for good"
        most = f"by up to {lasting.max():.2f} bits"
        return Cause("seeds apart", f"{falling}, {most}, but not together")
    if gathered.curve.run.training.converged is False:
        return Cause("not converged", "training had not converged")
    return Cause("no fall", f"held-out fall below {rule.least_drop:g} bit")


# --- remarks --------------------------------------------------------------------------------


def _remarks(gathered: Gathered, cause: Cause) -> tuple[str, ...]:
    """What else one must know to read the number, beside its cause."""
    if gathered.silent:
        return ()
    curve = gathered.curve
    remarks = [*_lost_seeds(curve.run, gathered.means.seeds)]
    if cause.call == "compresses" and gathered.means.peak == 0:
        remarks.append("highest before training")
    if curve.run.training.converged is False and cause.kind != "not converged":
        remarks.append("training had not converged")
    # where nothing can be higher, or the cause has said it, to be near the ceiling is no news
    near_is_known = np.isinf(curve.entropy) or cause.kind == "saturated"
    for flag, share in gathered.flags.items():
        if not (flag == _NEAR_CEILING and near_is_known):
            remarks.append(f"flagged {flag} in {share} numbers at peak and end")
    return tuple(remarks)


def _lost_seeds(run: Run, seeds: Sequence[int]) -> tuple[str, ...]:
    lost = [str(seed) for seed in run.seeds if seed not in seeds]
    if not lost:
        return ()
    return (f"{len(lost)} of {len(run.seeds)} seeds lack the last {run.clock} ({', '.join(lost)})",)

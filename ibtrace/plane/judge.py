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
5. Estimators that ask different things are never counted together (`Tags.question`): the
   information itself, what is left of it at a resolution, and what estimates of densities give.
   The answer to a question is what all say that ask it and can see a fall; where some say the one
   and some the other, that it hangs on the resolution, or on the estimator.
6. At every look the tracer counts the distinct rows of T, which give the exact I(X;T) on the
   probe where T is a function of X: the information itself is judged by them where no estimator
   asks for it. Where that did not move, a fall of an estimate of T's density is one of the estimate
   ("inconclusive"). Where the probe is all of X, H(X) is no ceiling: a layer that stays there "does
   not compress".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ibtrace.bounds import BottleneckCurve
from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.plane import notes
from ibtrace.plane.answer import layer_verdict
from ibtrace.plane.ceilings import layer_entropies
from ibtrace.plane.circumstances import ROWS_OF_T, Truth, count, training
from ibtrace.plane.coordinates import check_frame, clock, on_clock
from ibtrace.plane.copies import copies
from ibtrace.plane.finding import Finding
from ibtrace.plane.gathering import Curve, Run
from ibtrace.plane.layer import judge_layer
from ibtrace.plane.pairs import pair, quantities
from ibtrace.plane.result import Verdict
from ibtrace.plane.rule import Rule
from ibtrace.plane.sentences import Known
from ibtrace.plane.to_bound import notes_of_bound, to_bound
from ibtrace.plane.trust import trust
from ibtrace.runtime.arguments import require_instance, require_members
from ibtrace.types import I_XT, Question, TraceLike, Variable


def verdict(
    trace: TraceLike,
    rule: Rule | None = None,
    *,
    estimators: Sequence[str] | None = None,
    x: str | None = None,
    bound: BottleneckCurve | None = None,
) -> Verdict:
    """Judge every layer of a trace by every estimator.

    Args:
        trace: The trace; its meta entries ``n``, ``input_entropy``, ``population``, ``questions``,
            ``variables`` and ``seeds``, its scalar ``train_loss`` and the exact bits of its layers
            are used where they exist.
        rule: What counts as compression (default: ``Rule()``).
        estimators: Only by the estimators of these labels; None for all of the trace.
        x: The source of the probe that stands for X; None: the inputs themselves.
        bound: The bottleneck curve of X and Y: then the distances to it are told too, and what
            lies above it.

    Raises:
        InvalidInput: If the trace has no I(X;T), by these estimators.
        ConfigError: If ``trace`` is no trace, or ``rule`` no rule.
        UnknownName: If the trace lacks an estimator, or a source; lists those that it has.
    """
    form = "a Trace, such as ibtrace.Trace.load(folder)"
    require_members("verdict: trace", trace, ("frame", "scalars"), form)
    if rule is not None:
        require_instance("verdict: rule", rule, Rule, "an ibtrace.Rule")
    trace = pair(trace, x)
    meta, frame = trace.meta, trace.frame()
    if estimators is not None:
        known = list(frame["estimator"].unique())
        named = [estimators] if isinstance(estimators, str) else list(estimators)
        if unknown := [name for name in named if name not in known]:
            listed = ", ".join(known) or "none"
            raise UnknownName(f"no estimator {', '.join(unknown)} in the trace; it has {listed}")
        frame = frame[frame["estimator"].isin(named)]
    judged = judge(
        frame,
        n=meta.get("n"),
        input_entropy=meta.get("input_entropy"),
        layer_entropies=layer_entropies(meta),
        scalars=trace.scalars(),
        seeds=meta.get("seeds"),
        population=bool(meta.get("population", False)),
        questions=meta.get("questions"),
        variables=meta.get("variables"),
        rule=rule,
    )
    stopped = notes.stopped(meta, trace.frame())
    failing = trust(trace, chain=(), rule=rule).by(estimators).failing  # a chain is an assumption
    places = () if bound is None else to_bound(frame, bound)
    of_bound = () if bound is None else notes_of_bound(places, bound)
    said = (*stopped, *judged.notes, *failing, *of_bound, *notes.of_layers(meta))
    return replace(judged, notes=said, quantity=quantities(meta)[I_XT], to_bound=places)


def judge(
    frame: pd.DataFrame,
    *,
    n: int | None = None,
    input_entropy: float | None = None,
    layer_entropies: Mapping[str, float] | None = None,
    scalars: pd.DataFrame | None = None,
    seeds: Sequence[int] | None = None,
    population: bool = False,
    questions: Mapping[str, Question] | None = None,
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
            bits of a layer what its I(X;T) itself is.
        seeds: The seeds that were run, if some of them may have left no row.
        population: Whether the probe is all of X: H(X) is then no ceiling but the truth where
            nothing is lost.
        questions: What each estimator asks, ``{label: question}`` (`Tags.question`); where it is
            not there, of a ``resolution``, which claims least.
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
    counts = count(frame, scalars)
    rows = frame[frame["quantity"] == I_XT]
    if rows.empty and not counts.known:
        raise InvalidInput("there is no I(X;T) to judge; trace at least one snapshot")
    again = _copies(rows)
    rows = pd.concat([rows, counts.rows()], ignore_index=True) if counts.known else rows
    rows = rows[~rows["seed"].isin(again)]
    layers = [str(layer) for layer in rows["layer"].unique()]
    sampled = min(np.log2(n) if n else np.inf, np.inf if input_entropy is None else input_entropy)
    probe = _Probe(
        n=n,
        entropies={layer: (layer_entropies or {}).get(layer, sampled) for layer in layers},
        tokens=frozenset(layer_entropies or ()),
        population=population,
    )
    measured = _Measured(
        rows=rows,
        probe=probe,
        questions={**(questions or {}), ROWS_OF_T: "information"},
        variables={**(variables or {}), ROWS_OF_T: dict.fromkeys(layers, "itself")},
        still={
            layer: truth
            for layer, truth in counts.truths(probe.entropies).items()
            if truth.moved < rule.least_drop
        },
        run=Run(
            seeds=sorted({*rows["seed"].tolist(), *(seeds or ())} - {*again}),
            training=training(scalars, rule, counted),
            clock=counted,
            end=int(rows["epoch"].max()),
        ),
    )
    pairs = rows[["estimator", "layer"]].drop_duplicates().itertuples(index=False)
    findings = [judge_layer(measured.curve(*pair), rule) for pair in pairs]
    said = (
        measured.run.training.note,
        *notes.silent(findings),
        *notes.repeated(again),
        *(("The probe is all of X: H(X) is the truth where nothing is lost.",) * population),
        *notes.few_seeds(max(len(finding.evidence.seeds.kept) for finding in findings), rule),
    )
    answered = (
        layer_verdict(
            layer,
            _asked(findings, layer),
            Known(probe.entropies[layer], counts.given_x(layer), counted),
        )
        for layer in layers
    )
    return Verdict(tuple(answered), said, rule, counted)


@dataclass(frozen=True)
class _Probe:
    """What the samples can show.

    Args:
        n: How many they are, if known.
        entropies: H(X) for each layer, in bits.
        tokens: Layers whose samples are tokens.
        population: Whether they are all of X.
    """

    n: int | None
    entropies: Mapping[str, float]
    tokens: frozenset[str]
    population: bool


@dataclass(frozen=True)
class _Measured:
    """What a table holds, as the judge of a layer takes it.

    Args:
        rows: Rows of I(X;T), of the count of the rows of T as well.
        probe: The samples.
        questions: What each estimator asks.
        variables: What stands for T by each estimator in each layer.
        still: The true I(X;T) of layers of which it is known not to have moved.
        run: The run.
    """

    rows: pd.DataFrame
    probe: _Probe
    questions: Mapping[str, Question]
    variables: Mapping[str, Mapping[str, Variable]]
    still: Mapping[str, Truth]
    run: Run

    def curve(self, estimator: str, layer: str) -> Curve:
        """What a layer is judged by, for one estimator."""
        rows, probe = self.rows, self.probe
        rows = rows[(rows["estimator"] == estimator) & (rows["layer"] == layer)]
        part = _part(rows, probe.n)
        entropy = np.inf if probe.population else probe.entropies[layer]
        return Curve(
            rows=rows,
            question=self.questions.get(estimator, "resolution"),
            variable=self.variables.get(estimator, {}).get(layer, "made"),
            samples=part or (None if layer in probe.tokens else probe.n),
            entropy=min(entropy, np.log2(part) if part else np.inf),
            whole=probe.population and part is None,
            still=self.still.get(layer),
            run=self.run,
        )


def _asked(findings: Sequence[Finding], layer: str) -> list[Finding]:
    """The findings of a layer; the count of its rows only where no estimator tells the same."""
    of_layer = [finding for finding in findings if finding.layer == layer]
    estimated = [finding for finding in of_layer if finding.estimator != ROWS_OF_T]
    told = any(
        finding.question == "information"
        and finding.cause.kind not in ("no I(X;T)", "not to the end")
        for finding in estimated
    )
    return estimated if told else of_layer


def _copies(rows: pd.DataFrame) -> dict[int, int]:
    """Seeds that are another's network, by their I(X;T) at every look: ``{seed: the first}``."""
    table = rows.pivot(index=["estimator", "layer", "epoch"], columns="seed", values="bits")
    curves = (curve.to_numpy().T for _, curve in table.groupby(level=["estimator", "layer"]))
    return copies(curves, [*map(int, table.columns)])


def _part(rows: pd.DataFrame, n: int | None) -> int | None:
    """The samples that were measured, if these are a part of the n of the probe."""
    samples = float(rows["samples"].max()) if "samples" in rows else np.nan
    return int(samples) if n and samples < n else None

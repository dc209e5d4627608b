"""Estimates of a trace judged under every combination of choices that need no new estimate."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

import pandas as pd

from ibtrace.errors import InvalidInput
from ibtrace.plane import Finding, Rule, judge, layer_entropies
from ibtrace.probe import Probe
from ibtrace.trace.choices import ALL, BEST_HALF, LEAVE_ONE_OUT, Choices, Judging
from ibtrace.trace.stored import StoredTrace
from ibtrace.types import Estimator, Question, Variable, label


@dataclass(frozen=True)
class Measured:
    """Estimates of I(X;T).

    Args:
        rows: As rows of `Trace.frame`, with the share of the probe in ``samples_share``.
        layers: The layers, in order.
        seeds: The networks.
        probes: The samples behind each share of the probe.
        questions: What each estimator asks of I(X;T).
        variables: What stands for T by each estimator in each layer.
    """

    rows: pd.DataFrame
    layers: Sequence[str]
    seeds: Sequence[int]
    probes: Mapping[Fraction, Probe]
    questions: Mapping[str, Question]
    variables: Mapping[str, Mapping[str, Variable]]


class _Analysis(NamedTuple):
    """An estimator of a family, as it is judged."""

    family: str
    own: Mapping[str, str]
    estimator: Estimator


def judged(
    trace: StoredTrace, choices: Choices, measured: Measured, rule: Rule
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Every analysis of every layer, a row each: the table of a `Multiverse`, and its notes.

    What comes to the same estimates judged alike is one analysis, whatever it is called: the same
    settings in two families, the first three seeds of three, a tenth of the training without the
    last look. The first of them is counted.

    Args:
        trace: Where the estimates are of: its scalars are read.
        choices: The grid.
        measured: The estimates.
        rule: What counts as compression, but for the least drop.

    Raises:
        InvalidInput: If there are fewer seeds than a choice takes, or no loss to choose them by.
    """
    scalars = trace.scalars()
    if trace.clock == "step":
        scalars = scalars.dropna(subset="step").assign(epoch=lambda s: s["step"].astype("int64"))
    records: list[dict[str, Any]] = []
    made: dict[Hashable, Mapping[str, str]] = {}
    repeated: Counter[str] = Counter()
    for (share, judging), analyses in _together(choices).items():
        names = {label(analysis.estimator) for analysis in analyses}
        of_share = measured.rows["samples_share"] == share
        rows = measured.rows[of_share & measured.rows["estimator"].isin(names)]
        if rows.empty:
            continue
        for which, seeds in _some_seeds(measured.seeds, judging.seeds, scalars):
            findings = _findings(trace, measured, rows, scalars, (share, judging), seeds, rule)
            common = {
                "samples": _part("N", share),
                "training": "whole" if judging.training == 1 else f"first {judging.training}",
                "seeds": which,
                "least_drop": f"{judging.least_drop:g} bit",
            }
            end = rows["epoch"].max() * float(judging.training)
            looks = tuple(sorted({*rows["epoch"][rows["epoch"] <= end]}))
            how = (measured.probes[share].n, judging.least_drop, frozenset(seeds), looks)
            for family, own, estimator in analyses:
                told = {"family": family, **own, **common}
                first = made.setdefault((_settings(estimator), how), told)
                if first is not told:
                    repeated[_differing(told, first)] += 1
                    continue
                name = label(estimator)
                records += [
                    {"estimator": name, **told, **_record(finding)}
                    for finding in findings.get(name, ())
                ]
    notes = tuple(
        f"Not counted, as others over again: {count} of the grid ({what})."
        for what, count in repeated.items()
    )
    return _numbered(pd.DataFrame(records), columns(choices), measured.layers), notes


def _settings(estimator: Any) -> Hashable:
    """The estimator without the name that its settings have together."""
    fields = [field.name for field in dataclasses.fields(estimator) if field.name != "preset"]
    return type(estimator), tuple(getattr(estimator, name) for name in fields)


def _differing(told: Mapping[str, str], first: Mapping[str, str]) -> str:
    """In which choices an analysis is called otherwise than the one that it repeats."""
    return ", ".join(
        f"{name} {told.get(name, 'none')} is as {first.get(name, 'none')}"
        for name in dict.fromkeys((*first, *told))
        if told.get(name) != first.get(name)
    )


def _together(choices: Choices) -> dict[tuple[Fraction, Judging], list[_Analysis]]:
    """Analyses that share their samples and their judging, whatever their family."""
    together: dict[tuple[Fraction, Judging], list[_Analysis]] = defaultdict(list)
    for family in choices.families:
        grid = product(family.estimators, family.samples, family.judgings)
        for (estimator, own), share, judging in grid:
            together[share, judging].append(_Analysis(family.name, own, estimator))
    return together


def _findings(
    trace: StoredTrace,
    measured: Measured,
    rows: pd.DataFrame,
    scalars: pd.DataFrame,
    how: tuple[Fraction, Judging],
    seeds: Sequence[int],
    rule: Rule,
) -> dict[str, list[Finding]]:
    """What every estimator says of every layer, judged in one way, by estimator."""
    share, judging = how
    probe, end = measured.probes[share], float(rows["epoch"].max() * judging.training)
    verdict = judge(
        rows[rows["seed"].isin(seeds) & (rows["epoch"] <= end)],
        n=probe.n,
        input_entropy=probe.input_entropy,
        layer_entropies=layer_entropies(trace.meta),
        scalars=scalars[scalars["seed"].isin(seeds) & (scalars["epoch"] <= end)],
        seeds=seeds,
        population=probe.population,
        questions=measured.questions,
        variables=measured.variables,
        rule=dataclasses.replace(rule, least_drop=judging.least_drop),
    )
    by_name: dict[str, list[Finding]] = defaultdict(list)
    for finding in verdict.findings:
        by_name[finding.estimator].append(finding)
    return by_name


def _record(finding: Finding) -> dict[str, Any]:
    evidence = finding.evidence
    return {
        "layer": finding.layer,
        "question": finding.question,
        "held_out": evidence.held_out.mean,
        "held_out_lower": evidence.held_out.lower,
        "held_out_upper": evidence.held_out.upper,
        "call": finding.call,
        "cause": finding.cause.kind,
        "peak_epoch": evidence.peak.epoch,
        "peak_bits": evidence.peak.bits,
        "final_bits": evidence.final.bits,
    }


def _numbered(table: pd.DataFrame, names: Sequence[str], layers: Sequence[str]) -> pd.DataFrame:
    """The analyses numbered from 0, in the order of the grid, layer by layer."""
    for column in names:  # which a family that declined would have had
        table[column] = table[column].fillna("") if column in table else ""
    table["analysis"] = table.groupby([*names], sort=False).ngroup()
    place = {layer: at for at, layer in enumerate(layers)}
    order = table["layer"].map(place)
    table = table.assign(_order=order).sort_values(["_order", "analysis"], ignore_index=True)
    first = ["analysis", "layer", *names]
    rest = [name for name in table.columns if name not in (*first, "_order")]
    return table[[*first, *rest]]


def columns(choices: Choices) -> tuple[str, ...]:
    """The choices by name: the family, the fields of estimators, what is common."""
    own = [name for family in choices.families for _, own in family.estimators for name in own]
    return ("family", *dict.fromkeys(own), "samples", "training", "seeds", "least_drop")


def _part(whole_of: str, share: Fraction) -> str:
    if share == 1:
        return whole_of
    return f"{whole_of}/{share.denominator}" if share.numerator == 1 else f"{share} {whole_of}"


def _some_seeds(
    seeds: Sequence[int], which: str | int, scalars: pd.DataFrame
) -> list[tuple[str, list[int]]]:
    """Which seeds a choice takes, and its name; to leave one out are as many analyses as seeds."""
    if which == ALL:
        return [(ALL, [*seeds])]
    if which == LEAVE_ONE_OUT:
        return [(f"without {out}", [seed for seed in seeds if seed != out]) for out in seeds]
    if which == BEST_HALF:
        return [(BEST_HALF, _best_half(seeds, scalars))]
    number = int(which)
    if number > len(seeds):
        raise InvalidInput(f"multiverse: the first {number} seeds of {len(seeds)}; lower seeds")
    return [(f"first {number}", [*seeds[:number]])]


def _best_half(seeds: Sequence[int], scalars: pd.DataFrame) -> list[int]:
    """The half of the seeds with the lowest training loss at the end: survivorship.

    Raises:
        InvalidInput: If some seed has no training loss.
    """
    losses = scalars[(scalars["name"] == "train_loss") & scalars["seed"].isin(seeds)]
    last = losses.sort_values("epoch").groupby("seed")["value"].last().dropna()
    if missing := [seed for seed in seeds if seed not in last.index]:
        raise InvalidInput(
            f"multiverse: the best half of the seeds needs a train_loss, and seed {missing[0]} "
            f"has none; take seeds: {ALL}"
        )
    best = last.sort_values(kind="stable").index[: -(-len(seeds) // 2)]
    return sorted(int(seed) for seed in best)

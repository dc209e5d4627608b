"""Answers in numbers and plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ibtrace.plane.cause import CauseKind
from ibtrace.plane.circumstances import GivenX
from ibtrace.plane.finding import Finding, bits, ends

_UNCALLED: frozenset[CauseKind] = frozenset(
    {"one snapshot", "not to the end", "constant", "few seeds", "nothing seen", "below zero"}
)
"""Causes by which the numbers decide nothing."""

_STILL = 0.005  # bits: what two decimals do not show


@dataclass(frozen=True)
class Known:
    """What a trace says of a layer beside the curves.

    Args:
        entropy: H(X) of the probe in bits; infinite if unknown.
        given_x: What T is once X is given: ``a function`` of it at every look (its distinct rows
            were counted), ``maybe random`` at some, or ``unknown``.
        clock: What the looks are counted by.
    """

    entropy: float
    given_x: GivenX
    clock: str


def of_the_information(findings: Sequence[Finding], known: Known) -> str:
    """What is known of I(X;T) itself.

    Args:
        findings: Those that speak of it.
        known: What the trace says beside.
    """
    if findings:
        return " ".join(_itself(finding, known) for finding in findings)
    if known.given_x == "maybe random":
        return (
            "I(X;T) itself is not known: T may be random given X, so that its distinct rows do not "
            "tell."
        )
    return "I(X;T) itself is not known: the trace holds no count of the distinct rows of T."


def at_a_resolution(findings: Sequence[Finding], known: Known, *, hangs: bool) -> str:
    """What bins, noise and kernels leave of it, each at its scale.

    Args:
        findings: Of the estimators that have a resolution and say something.
        known: What the trace says beside.
        hangs: Whether they contradict each other.
    """
    scales = {f"as {finding.estimand}": finding for finding in findings}
    parts = [f"{names}, it {clause}" for names, clause in _clauses(scales, known)]
    start = "Whether a fall is seen hangs on the resolution:" if hangs else "Seen"
    return f"{start} {'; '.join([*parts, *_shared(findings)])}."


def of_densities(findings: Sequence[Finding], known: Known, *, hangs: bool) -> str:
    """What estimators of densities say, and whether there is a density.

    Args:
        findings: Of the estimators of densities that say something.
        known: What the trace says beside.
        hangs: Whether they contradict each other.
    """
    labels = {finding.estimator: finding for finding in findings}
    parts = [f"by {names} it {clause}" for names, clause in _clauses(labels, known)]
    start = "Taken for continuous" + ", a fall hangs on the estimator" * hangs
    if known.given_x == "a function" and any(f.variable == "itself" for f in findings):
        start += ", though T is a function of X and they have no joint density"
    return f"{start}: {'; '.join([*parts, *_shared(findings)])}."


def _itself(finding: Finding, known: Known) -> str:
    """One estimator on the information itself."""
    evidence, kind = finding.evidence, finding.cause.kind
    by = f"by {finding.estimator}"
    if finding.whole or finding.samples is not None:
        by += ", all of X" if finding.whole else f", on {finding.samples:,} samples"
    if np.isnan(evidence.final.bits):
        return f"I(X;T) {_seen(finding, known)} ({by})."
    if evidence.highest - evidence.lowest >= _STILL:
        end = "" if kind in ("no fall", "saturated") else f"; it ends at {_last(finding)}"
        return f"I(X;T) {_seen(finding, known)} ({by}){end}."
    level = f"I(X;T) is {_last(finding)} throughout ({by})"
    if kind == "saturated":
        return f"{level}, the most that they can show: whether it falls is open."
    if kind != "no fall":
        return f"{level}; no call: {finding.cause}."
    if finding.whole and evidence.lowest >= known.entropy - _STILL:
        return f"{level}: that is H(X), nothing is lost."
    return f"{level}."


def _clauses(findings: Mapping[str, Finding], known: Known) -> Iterator[tuple[str, str]]:
    """Names and what is said by them, once for all of which the same is said."""
    alike: dict[str, list[str]] = {}
    why = not _shared([*findings.values()])
    for name, finding in findings.items():
        alike.setdefault(_seen(finding, known, why=why), []).append(name)
    return ((" and ".join(names), clause) for clause, names in alike.items())


def _shared(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Why there is no call, if that is the same for all of several estimators."""
    causes = {finding.cause for finding in findings}
    if len(findings) < 2 or len(causes) > 1:
        return ()
    (cause,) = causes
    return (f"no call: {cause}",) if cause.kind in _UNCALLED else ()


def _seen(finding: Finding, known: Known, *, why: bool = True) -> str:
    """What one estimator sees, as the end of a sentence; with the cause if there is no call."""
    held_out = finding.evidence.held_out
    fall = f"{bits(held_out.mean)} bits {ends(held_out)}"
    match finding.cause.kind:
        case "fall":
            return f"falls by {fall} after {known.clock} {finding.evidence.peak.epoch}"
        case "no fall":
            return f"does not fall and ends at {_last(finding)}"
        case "saturated":
            return f"ends at {_last(finding)}, near its ceiling, where no fall would be seen"
        case "wide interval":
            return f"may or may not fall, by {fall}"
        case "seeds apart":
            return f"may or may not fall: {finding.cause}"
        case "not converged":
            return f"does not fall so far ({fall}), but training had not converged"
        case _:
            return _uncalled(finding, why=why)


def _uncalled(finding: Finding, *, why: bool) -> str:
    peak, final = finding.evidence.peak.bits, finding.evidence.final.bits
    if np.isnan(final):
        return f"gets no call: {finding.cause}" if why else "has no last number"
    end = f"ends at {_last(finding)}, {bits(peak - final)} below its peak"
    return f"{end}, without a call: {finding.cause}" if why else end


def _last(finding: Finding) -> str:
    return f"{bits(finding.evidence.final.bits)} bits"

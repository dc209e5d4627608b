"""Two verdicts side by side: which answers and findings differ, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from ibtrace.errors import InvalidInput
from ibtrace.plane.answer import QUESTIONS
from ibtrace.plane.drops import Interval
from ibtrace.plane.finding import Finding, bits, ends
from ibtrace.plane.result import Verdict
from ibtrace.runtime.text import wrap
from ibtrace.types import Question


@dataclass(frozen=True)
class AnswerChange:
    """A layer of which two runs say different things, to one question.

    Args:
        layer: The layer.
        question: What is asked of I(X;T).
        call: What the run says.
        other: What the run that it is held against says.
    """

    layer: str
    question: Question
    call: str
    other: str


@dataclass(frozen=True)
class FindingChange:
    """One layer by one estimator, in two runs.

    Args:
        finding: Of the run.
        other: Of the run that it is held against.
        fall: How much more the run falls, held out, in bits, with an interval.
    """

    finding: Finding
    other: Finding
    fall: Interval

    @property
    def sure(self) -> bool:
        """Whether the interval of the difference lies on one side of 0."""
        return self.fall.lower > 0 or self.fall.upper < 0

    @property
    def differs(self) -> bool:
        """Whether the call is another, or the falls surely differ."""
        return self.sure or self.finding.call != self.other.call


@dataclass(frozen=True)
class Against:
    """What differs between the verdicts on two runs; ``print`` it.

    Args:
        answers: The answers that differ, by layer and question.
        findings: Every layer and estimator that both have, whether they differ or not.
        alone: Layers and estimators that only one of them has, in words.
    """

    answers: tuple[AnswerChange, ...]
    findings: tuple[FindingChange, ...]
    alone: tuple[str, ...]

    def __iter__(self) -> Iterator[FindingChange]:
        return (change for change in self.findings if change.differs)

    def table(self) -> pd.DataFrame:
        """One row for each layer and estimator: calls, held-out falls and their difference, bits.

        Columns ``layer, estimator, question, call, other_call, fall, other_fall, more,
        more_lower, more_upper, differs``.
        """
        return pd.DataFrame(
            {
                "layer": change.finding.layer,
                "estimator": change.finding.estimator,
                "question": change.finding.question,
                "call": change.finding.call,
                "other_call": change.other.call,
                "fall": change.finding.evidence.held_out.mean,
                "other_fall": change.other.evidence.held_out.mean,
                "more": change.fall.mean,
                "more_lower": change.fall.lower,
                "more_upper": change.fall.upper,
                "differs": change.differs,
            }
            for change in self.findings
        )

    def __str__(self) -> str:
        lines = [self._count()]
        for answer in self.answers:
            words = QUESTIONS[answer.question]
            lines.append(wrap(f"{answer.layer}, {words}: {answer.call}, there {answer.other}"))
        if changes := list(self):
            lines += ["", "Estimators that differ (held-out fall of I(X;T), bits)"]
            lines += [wrap(_change(change), rest="    ") for change in changes]
        lines += ["", *map(wrap, self.alone)] if self.alone else []
        return "\n".join(lines)

    def _count(self) -> str:
        if not self.findings:
            return "No layer is judged by the same estimator in both runs."
        differing = sum(1 for _ in self)
        answers = f"{len(self.answers)} answer" + "s" * (len(self.answers) != 1)
        findings = f"{differing} of {len(self.findings)} findings (a layer by an estimator)"
        return f"{answers} and {findings} differ from the other run."


def against(verdict: Verdict, other: Verdict) -> Against:
    """Hold a verdict against another: which layers and estimators changed, and by how much.

    The difference of two falls has the interval that follows from theirs, of independent runs:
    its lower end is ``m₁ - m₂ - √((m₁ - l₁)² + (u₂ - m₂)²)`` (Zou & Donner 2008). Runs that share
    their seeds are not told apart from others: the interval is then longer than need be.

    Args:
        verdict: On the run.
        other: On the run that it is held against.

    Returns:
        What differs; layers and estimators are told apart by name.

    Raises:
        InvalidInput: If one is no verdict.

    Example:
        >>> from ibtrace.plane.rule import Rule
        >>> nothing = Verdict((), (), Rule())
        >>> print(against(nothing, nothing))
        No layer is judged by the same estimator in both runs.
    """
    for each in (verdict, other):
        if not isinstance(each, Verdict):
            got = type(each).__name__
            raise InvalidInput(f"against takes two verdicts, got {got}; give trace.verdict()")
    there = {(finding.layer, finding.estimator): finding for finding in other.findings}
    here = {(finding.layer, finding.estimator): finding for finding in verdict.findings}
    changes = tuple(
        FindingChange(finding, there[key], _difference(finding, there[key]))
        for key, finding in here.items()
        if key in there
    )
    alone = [
        f"Only in {which} run: {', '.join(f'{layer} by {estimator}' for layer, estimator in keys)}."
        for which, keys in (
            ("this", [key for key in here if key not in there]),
            ("the other", [key for key in there if key not in here]),
        )
        if keys
    ]
    return Against(_answers(verdict, other), changes, tuple(alone))


def _answers(verdict: Verdict, other: Verdict) -> tuple[AnswerChange, ...]:
    there = {(layer.layer, answer.question): answer.call for layer in other for answer in layer}
    return tuple(
        AnswerChange(layer.layer, answer.question, answer.call, there[layer.layer, answer.question])
        for layer in verdict
        for answer in layer
        if there.get((layer.layer, answer.question), answer.call) != answer.call
    )


def _difference(finding: Finding, other: Finding) -> Interval:
    """How much more the one falls than the other."""
    one, two = finding.evidence.held_out, other.evidence.held_out
    mean = one.mean - two.mean
    below = math.hypot(one.mean - one.lower, two.upper - two.mean)
    above = math.hypot(one.upper - one.mean, two.mean - two.lower)
    return Interval(mean, mean - below, mean + above)


def _change(change: FindingChange) -> str:
    one, two = change.finding, change.other
    calls = one.call if one.call == two.call else f"{one.call}, there {two.call}"
    falls = " against ".join(
        f"{bits(each.evidence.held_out.mean)} {ends(each.evidence.held_out)}".strip()
        for each in (one, two)
    )
    more = f"{bits(change.fall.mean)} {ends(change.fall)}".strip()
    sure = " (sure)" if change.sure else ""
    return f"  {one.layer} by {one.estimator}: {calls}; {falls}, more by {more}{sure}"

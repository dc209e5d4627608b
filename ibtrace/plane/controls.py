"""Does a control compress as much as its subject? By held-out falls and their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from ibtrace.plane.against import against
from ibtrace.plane.cause import CauseKind
from ibtrace.plane.drops import Interval
from ibtrace.plane.finding import Finding, bits, ends
from ibtrace.plane.judge import verdict
from ibtrace.plane.rule import Rule
from ibtrace.runtime.text import wrap
from ibtrace.types import (
    CONTROLS,
    CONTROLS_LEFT_OUT,
    I_XT,
    ControlKind,
    TraceLike,
    control_of,
)

Outcome = Literal[
    "as much",
    "more",
    "less",
    "does not fall",
    "open",
    "ends apart",
    "control alone",
    "neither falls",
]
"""How a control falls beside its subject; see `controlled`."""

_CURVE = ["seed", "layer", "quantity", "estimator"]
_LOSS = "train_loss"
_NO_FALL: tuple[CauseKind, ...] = ("no fall", "constant", "saturated")
"""What a control may be said not to fall by; others leave it open, whatever its mean."""

_WORDS: Mapping[Outcome, str] = {
    "as much": "falls as much (as far as the seeds tell)",
    "more": "falls more",
    "less": "falls less",
    "does not fall": "does not fall",
    "open": "leaves it open",
    "ends apart": "ends elsewhere, which leaves it open",
}


@dataclass(frozen=True)
class ControlFinding:
    """One layer by one estimator, in a subject and in its control.

    Args:
        kind: Which control.
        finding: Of the subject.
        control: Of the control.
        more: How much more the subject falls, held out, in bits, with an interval.
        outcome: How the control falls beside the subject.
    """

    kind: ControlKind
    finding: Finding
    control: Finding
    more: Interval
    outcome: Outcome


@dataclass(frozen=True)
class Controlled:
    """A subject beside its controls; ``print`` it.

    Args:
        findings: Every control by every layer and estimator of the subject.
        notes: What one must know of the controls, and which there are not, and why.
    """

    findings: tuple[ControlFinding, ...]
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[ControlFinding]:
        return iter(self.findings)

    def table(self) -> pd.DataFrame:
        """One row for each control, layer and estimator, in bits.

        Columns ``control, layer, estimator, outcome, fall, fall_lower, fall_upper, control_fall,
        control_lower, control_upper, more, more_lower, more_upper``.
        """
        return pd.DataFrame(
            {
                "control": CONTROLS[each.kind],
                "layer": each.finding.layer,
                "estimator": each.finding.estimator,
                "outcome": each.outcome,
                **_ends("fall", each.finding.evidence.held_out, "fall"),
                **_ends("control_fall", each.control.evidence.held_out, "control"),
                **_ends("more", each.more, "more"),
            }
            for each in self.findings
        )

    def __str__(self) -> str:
        kinds = list(dict.fromkeys(each.kind for each in self.findings))
        lines = ["A finding is a layer by an estimator."] if kinds else []
        lines += [wrap(self.sentence(kind), rest="    ") for kind in kinds]
        if told := list(_lines(self.findings)):
            lines += ["", "Held-out fall of I(X;T), bits: the subject's, then the controls'"]
            lines += [wrap(line, rest="      ") for line in told]
        lines += [wrap(note) for note in self.notes]
        return "\n".join(lines)

    def sentence(self, kind: ControlKind) -> str:
        """Whether a control compresses where the subject does, counted over its findings.

        Args:
            kind: Which control.
        """
        of_kind = [each for each in self.findings if each.kind == kind]
        falls = [each.outcome for each in of_kind if each.finding.call == "compresses"]
        others = [each.outcome for each in of_kind if each.finding.call != "compresses"]
        fallen, outcomes = Counter(falls), Counter(others)
        each = ", ".join(
            f"{text} in {fallen[name]}" for name, text in _WORDS.items() if fallen[name]
        )
        of = f"of {len(falls)} findings in which the subject falls, the control {each}"
        parts = [of if falls else "the subject falls in no finding"]
        if alone := outcomes["control alone"]:
            parts.append(f"the control falls alone in {alone}")
        if neither := outcomes["neither falls"]:
            parts.append(f"neither surely falls in {neither}")
        if apart := outcomes["ends apart"]:
            parts.append(f"the control ends elsewhere in {apart}")
        return f"{CONTROLS[kind].capitalize()}: {'; '.join(parts)}."


def controlled(
    subject: TraceLike, controls: Mapping[str, TraceLike], rule: Rule | None = None
) -> Controlled:
    """Hold the verdict on a subject against those on its controls.

    Where the subject falls by an estimator (its call is "compresses"), the control

    - "does not fall", if its held-out fall is surely below `Rule.least_drop`;
    - falls "less" or "more", if it surely falls too and the interval of the difference of the two
      falls lies on one side of 0; falls "as much" if that interval holds 0;
    - is "open", if it neither surely falls nor surely does not.

    Of a control whose curve ends at another epoch than the subject's nothing is said, whatever it
    does: it "ends apart", and a note tells where.

    A control whose numbers are the subject's to the last digit is the subject itself: it is refused
    with a note.

    Args:
        subject: The trace of the subject.
        controls: The traces of its controls, by name.
        rule: What counts as compression (default: ``Rule()``).

    Raises:
        InvalidInput: If one of the traces has no I(X;T) to judge.
    """
    rule = rule or Rule()
    judged = verdict(subject, rule)
    findings, notes = [], []
    for name, trace in controls.items():
        control = control_of(trace.meta)
        if control is None:
            notes.append(f"{name} is no control: its trace does not say of what.")
        elif trace.clock != subject.clock:
            notes.append(
                f"{name} is left out: it counts {trace.clock}s, its subject {subject.clock}s."
            )
        elif _same(subject, trace):
            notes.append(
                f"{name} is no control: it is the subject over again, number for number, and its "
                "falls say nothing."
            )
        else:
            found = [
                _found(control.kind, change.finding, change.other, change.fall, rule)
                for change in against(judged, verdict(trace, rule)).findings
            ]
            findings += found
            notes += _ends_apart(name, found, subject.clock)
            notes += [_labels(trace.meta)] if control.kind == "shuffled_labels" else []
    for kind, why in subject.meta.get(CONTROLS_LEFT_OUT, {}).items():
        notes.append(f"No control {kind}: {why}.")
    return Controlled(tuple(findings), tuple(notes))


def _found(
    kind: ControlKind, finding: Finding, control: Finding, more: Interval, rule: Rule
) -> ControlFinding:
    return ControlFinding(kind, finding, control, more, _outcome(finding, control, more, rule))


def _outcome(finding: Finding, control: Finding, more: Interval, rule: Rule) -> Outcome:
    if finding.evidence.final.epoch != control.evidence.final.epoch:
        return "ends apart"
    falls = control.call == "compresses"
    if finding.call != "compresses":
        return "control alone" if falls else "neither falls"
    if not falls:
        low = control.evidence.held_out.upper < rule.least_drop
        return "does not fall" if low and control.cause.kind in _NO_FALL else "open"
    if more.lower > 0:
        return "less"
    return "more" if more.upper < 0 else "as much"


def _ends_apart(name: str, found: Sequence[ControlFinding], clock: str) -> list[str]:
    """Where a control and its subject end, if that is not at the same look."""
    apart = [each for each in found if each.outcome == "ends apart"]
    if not apart:
        return []
    here, there = (
        _span(finding.evidence.final.epoch for finding in findings)
        for findings in ([each.control for each in apart], [each.finding for each in apart])
    )
    return [
        f"{name} ends at {clock} {here}, its subject at {clock} {there} ({len(apart)} of "
        f"{len(found)} findings): what it does by then is no evidence, and its verdict is left "
        "open; trace both as far."
    ]


def _span(epochs: Iterable[int]) -> str:
    """The first and the last of some epochs; estimators have looks of their own."""
    first, *_, last = [*sorted(epochs)] * 2
    return f"{first}" if first == last else f"{first} to {last}"


def _same(subject: TraceLike, control: TraceLike) -> bool:
    """Whether a control is its subject to the last digit, in all that moves in training."""
    alike = []
    for one, two, keys, value in (
        (subject.frame(), control.frame(), _CURVE, "bits"),
        (subject.scalars(), control.scalars(), ["seed", "layer", "name"], "value"),
    ):
        look = [*keys, "epoch"]
        one, two = (
            rows[rows["quantity"] == I_XT] if "quantity" in rows else rows[rows["name"] == _LOSS]
            for rows in (one, two)
        )
        both = one.merge(two, on=look, suffixes=("", "_control"))
        moving = both[both.groupby(keys)[value].transform("nunique") > 1]
        ours, theirs = moving[value], moving[f"{value}_control"]
        equal = (ours == theirs) | (ours.isna() & theirs.isna())
        alike += [bool(equal.all())] * bool(len(moving))
    return bool(alike) and all(alike)


def _labels(meta: Mapping[str, Any]) -> str:
    """What I(T;Y) is about, of a control with shuffled labels."""
    if meta.get("data", {}).get("measured_part") == "test":
        return "With shuffled labels, I(T;Y) is with the true labels of held-out samples."
    return (
        "With shuffled labels, I(T;Y) is with the labels as shuffled, those the network was "
        "trained on, not with the true ones."
    )


def _lines(findings: Sequence[ControlFinding]) -> Iterator[str]:
    """One line for each layer and estimator by which anything falls: the subject, every control."""
    together: dict[tuple[str, str], list[ControlFinding]] = {}
    for each in findings:
        together.setdefault((each.finding.layer, each.finding.estimator), []).append(each)
    for (layer, estimator), controls in together.items():
        if not any(_falls(each) for each in controls):
            continue
        parts = [f"  {layer} by {estimator}: {_fall(controls[0].finding)}"]
        parts += [f"{CONTROLS[c.kind]} {_fall(c.control)} ({_outcome_text(c)})" for c in controls]
        yield "; ".join(parts)


def _falls(found: ControlFinding) -> bool:
    """Whether the subject falls, or the control as far as is known of it."""
    return "compresses" in (found.finding.call, found.control.call)


def _fall(finding: Finding) -> str:
    held_out = finding.evidence.held_out
    return f"{bits(held_out.mean)} {ends(held_out)}".strip()


def _outcome_text(found: ControlFinding) -> str:
    """The outcome, and that the control could not fall, where that is why."""
    if found.outcome == "neither falls":
        return "no sure fall"
    if found.outcome == "does not fall" and found.control.cause.kind == "saturated":
        return f"{found.outcome}: {found.control.cause}"
    if found.outcome == "ends apart":
        return f"only to {found.control.evidence.final.epoch}: open"
    return found.outcome


def _ends(name: str, of: Interval, short: str) -> dict[str, float]:
    return {name: of.mean, f"{short}_lower": of.lower, f"{short}_upper": of.upper}

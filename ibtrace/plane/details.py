"""The tables of a verdict as text: every layer by every estimator, a question at a time."""

from __future__ import annotations

from collections.abc import Sequence

from ibtrace.plane.answer import QUESTIONS, LayerVerdict
from ibtrace.plane.finding import Finding, bits, ends
from ibtrace.plane.rule import Rule
from ibtrace.runtime.text import wrap
from ibtrace.types import either

_LAYER_WIDTH, _ANSWER_WIDTH = 16, 40


def blocks(findings: Sequence[Finding], rule: Rule, clock: str) -> list[str]:
    """A heading, and a table for each estimator under its question.

    Args:
        findings: What every estimator says of every layer.
        rule: What it was judged by.
        clock: What the looks are counted by.
    """
    if not findings:
        return []
    parts = [_heading(rule, clock)]
    for question, words in QUESTIONS.items():
        asked = [finding for finding in findings if finding.question == question]
        for place, estimator in enumerate(dict.fromkeys(finding.estimator for finding in asked)):
            title = f"{words.capitalize()}\n{'-' * len(words)}\n" if place == 0 else ""
            of_estimator = [finding for finding in asked if finding.estimator == estimator]
            parts.append(title + _block(of_estimator, clock))
    return parts


def calls(layers: Sequence[LayerVerdict]) -> str:
    """The answers of all layers in one table: a column for each question that is asked.

    Args:
        layers: The layers.
    """
    asked = {answer.question for layer in layers for answer in layer}
    questions = [question for question in QUESTIONS if question in asked]
    head = ["layer", *(QUESTIONS[question] for question in questions)]
    lines = [head]
    for layer in layers:
        answers = {answer.question: str(answer.call) for answer in layer}
        lines.append([layer.layer, *(answers.get(question, "") for question in questions)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    widths[0] = min(widths[0], _ANSWER_WIDTH)
    rows = []
    for name, *cells in lines:
        padded = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        rows.append(f"{_name(name, widths[0])}  {padded}".rstrip())
    return "\n".join(("Answers (no vote is taken across questions)", *rows))


def _heading(rule: Rule, clock: str) -> str:
    percent = f"{rule.confidence:.0%}".replace("%", " %")
    lines = (
        f"Fall of I(X;T) from its peak to the last {clock}: bits, mean over seeds,"
        f" {percent} interval.",
        "drop: each seed from its own peak, which noise makes look high.",
        f"held out: between means over {rule.window_share:.0%} of the snapshots, from the"
        " peak of the other seeds to the end;",
        f"  its interval decides at {rule.least_drop:g} bit.",
        "seeds: that fall, together or for good / kept / run.",
    )
    return "\n".join(lines)


def _block(findings: Sequence[Finding], clock: str) -> str:
    width = min(_LAYER_WIDTH, max(5, *(len(finding.layer) for finding in findings)))
    estimands = either(pair for finding in findings for pair in finding.estimands)
    head = (
        f"{'layer':{width}}   peak  {clock:>5}  final   {'drop':19}   {'held out':19}"
        f"  {'seeds':>8}  call"
    )
    title = wrap(f"{findings[0].estimator}: {estimands}")
    lines = [title, head, *(_line(finding, width) for finding in findings)]
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        for text in (finding.cause.text, *finding.remarks):
            reasons.setdefault(text, []).append(finding.layer)
    for text, names in reasons.items():
        who = "all layers" if len(names) == len(findings) > 1 else ", ".join(names)
        lines.append(wrap(f"{who}: {text}", first="  ", rest="    "))
    return "\n".join(lines)


def _line(finding: Finding, width: int) -> str:
    evidence = finding.evidence
    numbers = (evidence.seeds.falling, evidence.seeds.kept, evidence.seeds.run)
    seeds = "/".join(str(len(each)) for each in numbers)
    return (
        f"{_name(finding.layer, width)}  {bits(evidence.peak.bits):>5}"
        f" {evidence.peak.epoch:6d}  {bits(evidence.final.bits):>5}"
        f"  {bits(evidence.drop.mean):>5} {ends(evidence.drop):14}"
        f"  {bits(evidence.held_out.mean):>5} {ends(evidence.held_out):14}  {seeds:>8}"
        f"  {finding.call}"
    )


def _name(layer: str, width: int) -> str:
    """A layer's name in a column; a longer one has a line to itself.

    Cut, the layers of a deep network would look alike.
    """
    return f"{layer:{width}}" if len(layer) <= width else f"{layer}\n{'':{width}}"

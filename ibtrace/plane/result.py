"""What a verdict is: an answer to each question about each layer, the rule, and the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.plane.answer import QUESTIONS, LayerVerdict
from ibtrace.plane.circumstances import ROWS_OF_T
from ibtrace.plane.details import blocks, calls
from ibtrace.plane.finding import Finding
from ibtrace.plane.rule import Rule
from ibtrace.plane.to_bound import ToBound
from ibtrace.runtime.text import WIDTH, wrap
from ibtrace.types import I_XT

_SCREEN = 40
_SHOWN = 8
_NAME = 24  # columns of a layer's name beside its sentence
_MORE = "Every number: verdict.details() or .table(), ibtrace verdict RUN --details."


@dataclass(frozen=True)
class Verdict:
    """Does each layer compress: the information itself, and as it is seen; ``print`` it.

    As text it is its `details`, or its `summary` where they are longer than a screen.

    Args:
        layers: One for each layer, in the network's order.
        notes: What holds for the whole run.
        rule: What it was judged by.
        clock: What the looks are counted by: ``epoch`` or ``step``.
        quantity: What I(X;T) is called in the text: of a named source ``I(bigram;T)``.
        to_bound: How far each layer is from the bottleneck curve, if that was asked.
    """

    layers: tuple[LayerVerdict, ...]
    notes: tuple[str, ...]
    rule: Rule
    clock: str = "epoch"
    quantity: str = I_XT
    to_bound: tuple[ToBound, ...] = ()

    def __iter__(self) -> Iterator[LayerVerdict]:
        return iter(self.layers)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What every estimator says of every layer: by layer, then by question."""
        return tuple(
            finding for layer in self.layers for answer in layer for finding in answer.findings
        )

    def layer(self, name: str) -> LayerVerdict:
        """The answers about a layer.

        Args:
            name: The layer.

        Raises:
            UnknownName: If it is not there; lists those that are.
        """
        for layer in self.layers:
            if layer.layer == name:
                return layer
        known = ", ".join(layer.layer for layer in self.layers)
        raise UnknownName(f"no verdict on a layer {name!r}; on {known or 'none'}")

    def of(self, layer: str, estimator: str | None = None) -> Finding:
        """What an estimator says of a layer.

        Args:
            layer: The layer.
            estimator: Its label; None if there is but one (the count of the distinct rows of T,
                which is beside them, is meant only where it is alone).

        Raises:
            UnknownName: If there is none; lists those that there are.
            InvalidInput: If there are several and none was named.
        """
        findings = [finding for finding in self.findings if finding.layer == layer]
        asked = [f for f in findings if estimator in (None, f.estimator)]
        if estimator is None and len(asked) > 1:
            asked = [finding for finding in asked if finding.estimator != ROWS_OF_T]
        if len(asked) > 1:
            names = ", ".join(finding.estimator for finding in asked)
            raise InvalidInput(f"{layer} was judged by {names}: name one")
        if asked:
            return asked[0]
        known = ", ".join(f"{f.layer} by {f.estimator}" for f in self.findings)
        raise UnknownName(f"no verdict on {layer!r} by {estimator or 'any estimator'}; on {known}")

    def table(self) -> pd.DataFrame:
        """One row for each layer and estimator, all in bits; ``peak_step`` where steps count."""
        records = [
            {**_record(finding), "answer": answer.call}
            for layer in self.layers
            for answer in layer
            for finding in answer.findings
        ]
        names = {f"{end}_epoch": f"{end}_{self.clock}" for end in ("peak", "final")}
        return pd.DataFrame(records).rename(columns=names)

    def __str__(self) -> str:
        details = self.details()
        return details if details.count("\n") < _SCREEN else self.summary()

    def summary(self) -> str:
        """What was found of every layer, in a sentence each; of many layers how many say what."""
        sentences = self._sentences()
        notes = [wrap(note) for note in self.notes]
        lines = [*sentences, "", *notes, _MORE]
        if sum(1 + line.count("\n") for line in lines) > _SCREEN:
            lines = [*self._counts(), "", *notes, _MORE]
        return self._named("\n".join(lines))

    def _named(self, text: str) -> str:
        """The text with the quantity by its own name."""
        return text.replace(I_XT, self.quantity)

    def details(self) -> str:
        """The sentences, and every layer by every estimator, with numbers, causes and remarks."""
        parts = []
        if self.layers:
            parts += ["\n".join(self._sentences()), *blocks(self.findings, self.rule, self.clock)]
            parts.append(calls(self.layers))
        if self.notes:
            parts.append("\n".join(wrap(note) for note in self.notes))
        return self._named("\n\n".join(parts))

    def _sentences(self) -> list[str]:
        """What was found of each layer; layers of which the same is said together."""
        together: dict[str, list[str]] = {}
        for layer in self.layers:
            together.setdefault(layer.sentence, []).append(layer.layer)
        named = {text: _few(names) for text, names in together.items()}
        width = min(_NAME, max(map(len, named.values()), default=0))
        lines = []
        for text, names in named.items():
            own = len(names) > width  # longer names have lines to themselves
            lines += [wrap(names, rest="")] * own
            first = f"{'' if own else names:{width}}  "
            lines.append(wrap(text, first=first, rest=" " * (width + 2)))
        return lines

    def _counts(self) -> list[str]:
        """How many layers get which answer to which question, and what decided most of them."""
        lines = [f"{_count(len(self.layers), 'layer')}, a question at a time:"]
        answers: dict[tuple[str, str], list[str]] = {}
        for layer in self.layers:
            for answer in layer:
                key = (QUESTIONS[answer.question], answer.call)
                answers.setdefault(key, []).append(layer.layer)
        for question in QUESTIONS.values():
            called = {call: names for (asked, call), names in answers.items() if asked == question}
            lines += [f"{question.capitalize()}:"] if called else []
            width = max(map(len, called), default=0)
            for call, names in sorted(called.items(), key=lambda item: -len(item[1])):
                lines.append(wrap(f"{len(names):5}  {call:{width}}  {_few(names)}"))
        lines += ["", "What decided, and for how many layers by how many estimators:"]
        causes = Counter(f"{finding.call}: {finding.cause}" for finding in self.findings)
        shown = causes.most_common(_SHOWN)
        lines += [wrap(f"{number:5}  {cause}") for cause, number in shown]
        if rest := sum(causes.values()) - sum(number for _, number in shown):
            lines.append(f"{rest:5}  other causes")
        return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _few(names: Sequence[str]) -> str:
    """The first names, as many as two lines hold, and how many more there are."""
    shown = 0
    while shown < len(names) and len(", ".join(names[: shown + 1])) <= WIDTH:
        shown += 1
    shown = max(1, shown)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def _record(finding: Finding) -> dict[str, object]:
    evidence = finding.evidence
    return {
        "layer": finding.layer,
        "question": finding.question,
        "estimator": finding.estimator,
        "estimand": finding.estimand,
        "call": finding.call,
        "reason": finding.reason,
        "drop": evidence.drop.mean,
        "lower": evidence.drop.lower,
        "upper": evidence.drop.upper,
        "held_out": evidence.held_out.mean,
        "held_out_lower": evidence.held_out.lower,
        "held_out_upper": evidence.held_out.upper,
        "peak_epoch": evidence.peak.epoch,
        "peak_bits": evidence.peak.bits,
        "final_epoch": evidence.final.epoch,
        "final_bits": evidence.final.bits,
        "share": evidence.seeds.share,
        "seeds_kept": len(evidence.seeds.kept),
        "seeds_run": len(evidence.seeds.run),
    }

"""What each question gets for an answer: the information itself, at a resolution, by densities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ibtrace.plane import sentences
from ibtrace.plane.cause import CauseKind
from ibtrace.plane.finding import Finding
from ibtrace.plane.sentences import Known
from ibtrace.types import Question

AnswerCall = Literal[
    "compresses",
    "does not compress",
    "inconclusive",
    "hangs on the resolution",
    "hangs on the estimator",
]

QUESTIONS: Mapping[Question, str] = {
    "information": "the information itself",
    "resolution": "seen at a resolution",
    "density": "taken for continuous",
}
"""How each question is called in tables."""

_BLIND: frozenset[CauseKind] = frozenset(
    {"no I(X;T)", "not to the end", "saturated", "nothing seen", "constant"}
)
"""What leaves a finding without a say: where a fall could not have been seen."""

_HANGS: Mapping[Question, AnswerCall] = {
    "information": "hangs on the estimator",
    "resolution": "hangs on the resolution",
    "density": "hangs on the estimator",
}


@dataclass(frozen=True)
class Answer:
    """The answer to one question about one layer.

    Args:
        question: What is asked of I(X;T): see `ibtrace.types.Tags`.
        call: What all estimators say that ask it and can see a fall; that it hangs on the
            resolution, or the estimator, where some say the one and some the other; else
            ``inconclusive``.
        sentence: The same with its numbers; empty if none of them gives I(X;T).
        findings: What each estimator says, in the order of the trace.
    """

    question: Question
    call: AnswerCall
    sentence: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class LayerVerdict:
    """Does one layer compress: a question at a time, for no vote is taken across them.

    Args:
        layer: The layer.
        information: Whether the information itself falls; where nothing is known of it, that.
        resolution: Whether T seen in bins, under noise or through a kernel loses information; None
            if no estimator of the trace asks.
        density: Whether estimates of densities fall; None if there are none.
    """

    layer: str
    information: Answer
    resolution: Answer | None
    density: Answer | None

    def __iter__(self) -> Iterator[Answer]:
        answers = (self.information, self.resolution, self.density)
        return (answer for answer in answers if answer is not None)

    @property
    def sentence(self) -> str:
        """What is found of the layer, in numbers: the information itself, then how it is seen."""
        return " ".join(answer.sentence for answer in self if answer.sentence)


def layer_verdict(layer: str, findings: Sequence[Finding], known: Known) -> LayerVerdict:
    """The answers of a layer.

    Args:
        layer: The layer.
        findings: What each estimator says of it.
        known: What the trace says beside.
    """

    def asked(question: Question) -> tuple[Finding, ...]:
        return tuple(finding for finding in findings if finding.question == question)

    def seen(question: Question) -> Answer | None:
        if not asked(question):
            return None
        heard = [finding for finding in asked(question) if not finding.silent]
        call = _together(question, heard)
        write = sentences.of_densities if question == "density" else sentences.at_a_resolution
        sentence = write(heard, known, hangs=call == _HANGS[question]) if heard else ""
        return Answer(question, call, sentence, asked(question))

    itself = _about_itself(asked("information"), known)
    information = Answer(
        "information",
        _together("information", itself),
        sentences.of_the_information(itself, known),
        asked("information"),
    )
    return LayerVerdict(layer, information, seen("resolution"), seen("density"))


def _about_itself(findings: Sequence[Finding], known: Known) -> list[Finding]:
    """Those that speak of the information itself.

    Through the network's own noise there is nothing else to ask, and what is counted before it is
    another variable. Rows of a T that may be random given X tell nothing: each is one draw.
    """
    heard = [finding for finding in findings if not finding.silent]
    noisy = [finding for finding in heard if finding.variable == "made"]
    return noisy or ([] if known.given_x == "maybe random" else heard)


def _together(question: Question, findings: Sequence[Finding]) -> AnswerCall:
    """What all say that can see; never what more of them say."""
    calls = {finding.call for finding in findings if finding.cause.kind not in _BLIND}
    if {"compresses", "does not compress"} <= calls:
        return _HANGS[question]
    return calls.pop() if len(calls) == 1 else "inconclusive"

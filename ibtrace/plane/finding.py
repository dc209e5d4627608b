"""One layer by one estimator: what its curves show, and what that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ibtrace.plane.cause import Call, Cause
from ibtrace.plane.drops import Interval
from ibtrace.types import Question, Variable, either


class Point(NamedTuple):
    """A place on the mean curve.

    Args:
        epoch: By `Verdict.clock`, the epoch or the step.
        bits: I(X;T) there.
    """

    epoch: int
    bits: float


@dataclass(frozen=True)
class Seeds:
    """The networks behind a finding.

    Args:
        run: All seeds of the run.
        kept: Those with a finite number at the last look: none is dropped for its fit.
        falling: Those kept whose own held-out or lasting drop exceeds the least drop.
    """

    run: tuple[int, ...]
    kept: tuple[int, ...]
    falling: tuple[int, ...]

    @property
    def share(self) -> float:
        """The share of the seeds kept that fall; NaN if none was kept."""
        return len(self.falling) / len(self.kept) if self.kept else np.nan


@dataclass(frozen=True)
class Evidence:
    """What the curves of a layer show, by one estimator; bits.

    Args:
        drop: Peak-to-final drop of I(X;T): mean over the seeds kept, and interval.
        held_out: Drop from the peak epoch of the other seeds: the number that decides.
        peak: Where the mean curve peaks.
        final: Its last look.
        lowest: The lowest number of any seed kept at any look that all of them have.
        highest: The highest.
        drops: Peak-to-final drop of each seed kept, ``{seed: bits}``.
        seeds: The networks.
    """

    drop: Interval
    held_out: Interval
    peak: Point
    final: Point
    lowest: float
    highest: float
    drops: Mapping[int, float]
    seeds: Seeds


@dataclass(frozen=True)
class Finding:
    """Whether one layer compresses by one estimator, in answer to the question that it asks.

    Args:
        layer: The layer.
        estimator: The estimator's label.
        question: What it asks of I(X;T): see `ibtrace.types.Tags`.
        variable: What stands for T: T itself, or a variable made of it.
        estimands: What stands for T in I(X;T), and how T was made of the layer's output: pairs of
            `Row.estimand` and `Row.variable`.
        samples: How many samples it was measured on, if known.
        whole: Whether it was measured on all of X, so that log2 N is no ceiling of samples.
        cause: What decided the call.
        remarks: What else one must know to read the number.
        evidence: What the curves show.
    """

    layer: str
    estimator: str
    question: Question
    variable: Variable
    estimands: tuple[tuple[str, str], ...]
    samples: int | None
    whole: bool
    cause: Cause
    remarks: tuple[str, ...]
    evidence: Evidence

    @property
    def estimand(self) -> str:
        """What stands for T in I(X;T), in words."""
        return either(self.estimands)

    @property
    def call(self) -> Call:
        """The verdict."""
        return self.cause.call

    @property
    def silent(self) -> bool:
        """Whether the estimator gives no I(X;T) of this layer, at any look."""
        return self.cause.kind == "no I(X;T)"

    @property
    def reason(self) -> str:
        """Cause, with the interval that decided, and remarks as one sentence."""
        held_out = self.evidence.held_out
        if np.isnan(held_out.lower):
            return "; ".join((self.cause.text, *self.remarks))
        fall = f"held-out fall {bits(held_out.mean)} {ends(held_out)}"
        return "; ".join((f"{self.cause} ({fall})", *self.remarks))


def bits(value: float) -> str:
    """A number of bits with two decimals; a dash where there is none.

    Args:
        value: The number.
    """
    # Adding zero after rounding keeps "-0.00" out of the table.
    return "–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"


def ends(interval: Interval) -> str:
    """An interval's ends in brackets; empty where there are none.

    Args:
        interval: The interval.
    """
    if np.isnan(interval.lower):
        return ""
    return f"[{bits(interval.lower)}, {bits(interval.upper)}]"

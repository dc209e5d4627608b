"""What the curves of a layer show, by one estimator: gathered before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ibtrace.plane.circumstances import Training, Truth
from ibtrace.plane.drops import (
    Array,
    Interval,
    held_out_drops,
    interval,
    lasting_drops,
    peak_to_final_drops,
    windowed,
)
from ibtrace.plane.rule import Rule
from ibtrace.types import Question, Variable, split_flags

_UNDEFINED = "undefined"
_ALL_DISTINCT = "all_distinct"  # of a deterministic network nearly always, and no fault


@dataclass(frozen=True)
class Run:
    """What holds for all curves of a run.

    Args:
        seeds: All that were run.
        training: What the training loss says.
        clock: What the looks are counted by.
        end: The last look by any estimator.
    """

    seeds: Sequence[int]
    training: Training
    clock: str
    end: int


@dataclass(frozen=True)
class Curve:
    """What a layer is judged by, for one estimator.

    Args:
        rows: Its rows of I(X;T).
        question: What the estimator asks.
        variable: What stands for T: T itself, or a variable made of it.
        samples: How many samples it was measured on, if known.
        entropy: The most that samples of X can show, in bits; infinite of all of X.
        whole: Whether it was measured on all of X.
        still: The true I(X;T), if it is known not to have moved.
        run: The run it is of.
    """

    rows: pd.DataFrame
    question: Question
    variable: Variable
    samples: int | None
    entropy: float
    whole: bool
    still: Truth | None
    run: Run


@dataclass(frozen=True)
class Means:
    """The curves of the seeds that have a last number, and their mean; bits.

    Args:
        seeds: Those with a finite number at the last look.
        epochs: The looks at which all of these have one.
        bits: Their curves, ``(seeds, epochs)``.
        errors: The standard error of the mean curve, ``(epochs,)``.
    """

    seeds: Sequence[int]
    epochs: Sequence[int]
    bits: Array
    errors: Array

    @property
    def mean(self) -> Array:
        """The mean curve, ``(epochs,)``; NaN without seeds."""
        if not self.seeds:
            return np.full(len(self.epochs), np.nan)
        mean: Array = self.bits.mean(axis=0)
        return mean

    @property
    def peak(self) -> int:
        """The index of the look at which the mean curve is highest."""
        return int(self.mean.argmax())


@dataclass(frozen=True)
class Falls:
    """How far each seed falls, in bits, ``(seeds,)``, and what decides.

    Args:
        drops: Peak-to-final drops.
        each_held_out: Held-out falls.
        held_out: Their mean and interval.
        lasting: Lasting drops.
    """

    drops: Array
    each_held_out: Array
    held_out: Interval
    lasting: Array


@dataclass(frozen=True)
class Gathered:
    """All that the decision rests on.

    Args:
        curve: What is judged.
        silent: Whether I(X;T) is undefined at every look.
        means: The curves.
        falls: How far they fall.
        ceiling: The most that the estimator can say.
        flags: The flags raised at the peak and the last look, ``{flag: "all" or "some"}``.
    """

    curve: Curve
    silent: bool
    means: Means
    falls: Falls
    ceiling: float
    flags: Mapping[str, str]


def gather(curve: Curve, rule: Rule) -> Gathered:
    """All that the decision on a curve rests on.

    Args:
        curve: What is judged.
        rule: How wide windows are, how sure intervals.
    """
    rows = curve.rows
    undefined = rows["bits"].isna() & np.array([_UNDEFINED in f for f in _flags(rows)], dtype=bool)
    means = _means(rows)
    held_out = held_out_drops(windowed(means.bits, rule.window_share))
    ends = rows[rows["epoch"].isin([means.epochs[means.peak], means.epochs[-1]])]
    return Gathered(
        curve=curve,
        silent=bool(undefined.all()),
        means=means,
        falls=Falls(
            drops=peak_to_final_drops(means.bits),
            each_held_out=held_out,
            held_out=interval(held_out, rule.confidence, held_out=True),
            lasting=lasting_drops(means.bits, rule.final_share),
        ),
        ceiling=_ceiling(curve),
        flags=_flag_shares(ends),
    )


def _means(rows: pd.DataFrame) -> Means:
    """Seeds with a finite last number, epochs at which all of them have one, and their curves.

    The error of the mean curve is the estimator's own, which seeds that share a probe do not
    average out, or where it gives none the mean spread of the seeds.
    """
    table = rows.pivot(index="seed", columns="epoch", values="bits")
    bits = table.to_numpy(dtype=np.float64)
    finite = np.isfinite(bits[:, -1])
    whole = np.isfinite(bits[finite]).all(axis=0)
    seeds, epochs = table.index[finite].tolist(), table.columns[whole].tolist()
    curves = bits[finite][:, whole]
    if len(seeds) < 2 or "stderr" not in rows:
        return Means(seeds, epochs, curves, np.zeros(len(epochs)))
    own = rows.pivot(index="seed", columns="epoch", values="stderr").to_numpy(dtype=np.float64)
    errors = own[finite][:, whole].mean(axis=0)
    spread = np.sqrt(curves.var(axis=0, ddof=1).mean())
    return Means(seeds, epochs, curves, np.where(np.isnan(errors), spread, errors))


def _ceiling(curve: Curve) -> float:
    """The most the estimator can say: H(X), or less where it reports a ``ceiling`` of its own.

    What asks for the information itself has no ceiling but that of the samples: at H(X) of all of
    X, it is what it says.
    """
    rows = curve.rows
    own = rows["ceiling"].max() if "ceiling" in rows else np.nan
    if np.isnan(own) or curve.question == "information":
        return curve.entropy
    return min(float(own), curve.entropy)


def _flags(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    codes, texts = pd.factorize(rows["flags"])
    known = [split_flags(text) for text in texts]
    return [known[code] for code in codes]


def _flag_shares(ends: pd.DataFrame) -> dict[str, str]:
    """The flags raised at the peak and the last epoch, ``{flag: "all" or "some"}``."""
    raised = [{*flags} - {_ALL_DISTINCT} for flags in _flags(ends)]
    names = sorted(set().union(*raised))
    return {name: "all" if all(name in r for r in raised) else "some" for name in names}

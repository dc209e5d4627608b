"""What one trial of an estimator on a law was, and the table of many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from ibtrace.types import Kind

NAN = float("nan")
INFORMATION = "I(X;Y)"

Status = Literal["ok", "not applicable", "failed"]
OK: Status = "ok"
DECLINED: Status = "not applicable"
FAILED: Status = "failed"


@dataclass(frozen=True)
class Sample:
    """One sample of one law.

    Args:
        problem: The law's name.
        n: Number of samples.
        seed: The seed of the sample, and of the estimator.
        truth: I(X;Y) of the law, in bits.
        kinds: The kinds of X and Y.
        dims: The dimensions of X and Y.
    """

    problem: str
    n: int
    seed: int
    truth: float
    kinds: tuple[Kind, Kind]
    dims: tuple[int, int]


@dataclass(frozen=True)
class Outcome:
    """What an estimator gives on a sample, in bits.

    Args:
        bits: The estimate; NaN where there is none.
        stderr: Its standard error by the estimator's own account.
        lower: Lower end of the estimator's own interval.
        upper: Upper end of it.
        seconds: Wall time of the estimate.
        flags: The flags raised, as `ibtrace.types.join_flags` writes them.
        status: Whether there is an estimate; ``"not applicable"`` where the estimator declines.
        reason: Why there is none; empty where there is one.
    """

    bits: float = NAN
    stderr: float = NAN
    lower: float = NAN
    upper: float = NAN
    seconds: float = NAN
    flags: str = ""
    status: Status = OK
    reason: str = ""


@dataclass(frozen=True)
class Trial:
    """One estimator on one sample of one law.

    Args:
        estimator: The estimator's label.
        sample: What it is given.
        outcome: What it gives.
        measures: What the estimator estimates, by its tags; I(X;Y) on two discrete variables.
        of_information: Whether that is I(X;Y) itself, by its tags; so on two discrete variables.
    """

    estimator: str
    sample: Sample
    outcome: Outcome
    measures: str = INFORMATION
    of_information: bool = True

    def row(self) -> dict[str, Any]:
        """The trial as a row of `table`, by column.

        ``error`` is the estimate less the truth; where it is not ``of_information``, also a
        difference of what is estimated. ``x_kind``, ``y_kind``, ``x_dim`` and ``y_dim`` are the
        sample's kinds and dimensions.
        """
        sample, outcome = self.sample, self.outcome
        return {
            "estimator": self.estimator,
            "problem": sample.problem,
            "n": sample.n,
            "seed": sample.seed,
            "truth": sample.truth,
            "bits": outcome.bits,
            "stderr": outcome.stderr,
            "lower": outcome.lower,
            "upper": outcome.upper,
            "error": outcome.bits - sample.truth,
            "seconds": outcome.seconds,
            "flags": outcome.flags,
            "status": outcome.status,
            "reason": outcome.reason,
            "measures": self.measures,
            "of_information": self.of_information,
            "x_kind": sample.kinds[0],
            "y_kind": sample.kinds[1],
            "x_dim": sample.dims[0],
            "y_dim": sample.dims[1],
        }


_ANY_SAMPLE = Sample("", 0, 0, NAN, ("continuous", "continuous"), (1, 1))
COLUMNS = tuple(Trial("", _ANY_SAMPLE, Outcome()).row())
"""The columns of `table`, in order."""


def table(done: Iterable[Trial]) -> pd.DataFrame:
    """Trials as a tidy DataFrame, one row each."""
    frame = pd.DataFrame([trial.row() for trial in done], columns=[*COLUMNS])
    return frame.reset_index(drop=True)

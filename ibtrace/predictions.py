"""Predictions: numbers that a theory says before they are measured, and how often it was right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ibtrace.runtime.text import wrap
from ibtrace.types import TraceLike

Z = 1.959963984540054
"""Standard errors on each side of a 95 % interval."""

Compare = Callable[[Mapping[str, TraceLike]], pd.DataFrame]
"""Predicted and measured numbers of the traces of a run; see `Prediction`."""


_COLUMNS = ["trace", "predicted", "measured", "margin", "unit"]


@dataclass(frozen=True)
class Prediction:
    """Numbers that a theory says of a training, and those that are then measured.

    Args:
        name: A word or two.
        source: Author, year and title of the theory.
        statement: What it says, in a sentence.
        compare: Both numbers of the traces of a run (of each alone: `of_each`), one row for each
            prediction: ``trace`` (whose number it is), ``predicted``, ``measured``, ``margin``
            (half the width of the interval of their difference: 1.96 standard errors, or a bound
            on what the theory leaves out), ``unit``, and what tells the rows apart (``seed``,
            ``epoch``, ``layer``, …). No row where the traces say nothing of it.
    """

    name: str
    source: str
    statement: str
    compare: Compare

    def residuals(self, traces: Mapping[str, TraceLike]) -> pd.DataFrame:
        """What ``compare`` gives, without rows that lack a number, and ``inside``.

        Args:
            traces: The traces of a run, by name.

        Returns:
            ``inside`` says whether the two numbers differ by no more than the margin.
        """
        frame = self.compare(traces).dropna(subset=["predicted", "measured", "margin"])
        residual = (frame["predicted"] - frame["measured"]).abs()
        return frame.assign(inside=residual <= frame["margin"])


def of_each(compare: Callable[[TraceLike], pd.DataFrame]) -> Compare:
    """A comparison that looks at each trace alone.

    Args:
        compare: Both numbers of a trace, as in `Prediction` but for the column ``trace``.
    """

    def compare_all(traces: Mapping[str, TraceLike]) -> pd.DataFrame:
        frames = [compare(trace).assign(trace=name) for name, trace in traces.items()]
        # an empty frame would decide on the types of the others' columns
        filled = [frame for frame in frames if not frame.empty]
        return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=_COLUMNS)

    return compare_all


def at_each_look(predicted: str, measured: str, residual: str | None = None) -> Compare:
    """Compares two quantities at each look at which both were read.

    The margin is 1.96 standard errors of both together; where neither has one there is none, and
    the look says nothing.

    Args:
        predicted: The quantity that is predicted; see `Trace.readings`.
        measured: The quantity that it is held against.
        residual: The quantity whose standard error is that of their difference, where the two are
            of the same samples; None: the two are independent.
    """

    def compare(trace: TraceLike) -> pd.DataFrame:
        readings = trace.readings()
        keys = ["seed", "epoch", "step", "layer"]
        parts = [
            readings.loc[readings["quantity"] == name, [*keys, "value", "stderr", "unit"]]
            for name in (predicted, measured)
        ]
        both = parts[0].merge(parts[1], on=keys, suffixes=("", "_measured"))
        errors = both[["stderr", "stderr_measured"]]
        error = np.sqrt(errors.fillna(0.0).pow(2).sum(axis=1)).where(errors.notna().any(axis=1))
        if residual is not None:
            of_both = readings.loc[readings["quantity"] == residual, [*keys, "stderr"]]
            error = both[keys].merge(of_both, on=keys, how="left")["stderr"]
        return both[keys].assign(
            predicted=both["value"],
            measured=both["value_measured"],
            margin=Z * error,
            unit=both["unit"],
        )

    return of_each(compare)


PREDICTIONS: tuple[Prediction, ...] = (
    Prediction(
        "one-step",
        "second-order expansion; Smith et al. 2021",
        "One step of plain descent changes the training loss by -η‖g‖² + ½η²gᵀHg + ½(η²/b)"
        "(1 - b/n) tr(HΣ).",
        at_each_look("predicted loss change", "measured loss change"),
    ),
    Prediction(
        "linearised",
        "Jacot et al. 2018; Lee et al. 2019",
        "Ten steps of descent on the squared loss change it as if the tangent kernel stood still: "
        "f = y + (I - ηK/n)ᵏ(f₀ - y).",
        at_each_look(
            "linearised change of squared loss",
            "measured change of squared loss",
            "measured less linearised change",
        ),
    ),
)
"""Those that lenses of the package make."""


def predictions_table(
    predictions: Iterable[Prediction], traces: Mapping[str, TraceLike]
) -> pd.DataFrame:
    """How many predictions fell inside their own interval.

    Columns: ``trace, name, inside, predictions, bias, unit, statement, source``; ``bias`` is the
    mean residual, predicted less measured. What no trace says anything of is left out.

    Args:
        predictions: The predictions.
        traces: The traces of a run, by name.
    """
    rows = []
    for prediction in predictions:
        for name, frame in prediction.residuals(traces).groupby("trace", sort=False):
            bias = float((frame["predicted"] - frame["measured"]).mean())
            counts = int(frame["inside"].sum()), len(frame), bias, str(frame["unit"].iloc[0])
            rows.append((name, prediction.name, *counts, prediction.statement, prediction.source))
    columns = ["trace", "name", "inside", "predictions", "bias", "unit", "statement", "source"]
    return pd.DataFrame(rows, columns=columns)


def predictions_text(table: pd.DataFrame) -> str:
    """The table for a person: each prediction, and how it fared in each run."""
    lines = []
    for (statement, source), part in table.groupby(["statement", "source"], sort=False):
        lines.append(wrap(f"{statement} ({source})"))
        for row in part.itertuples(index=False, name=None):
            trace, _, inside, count, bias, unit = row[:6]
            counted = f"{inside} of {count} inside their own interval ({inside / count:.0%})"
            away = f"{bias:+.3g}" + ("" if unit == "1" else f" {unit}")
            sentence = f"{counted}; predicted less measured {away} on average"
            lines.append(
                wrap(f"{trace}: {sentence}" if trace else sentence, first="  ", rest="    ")
            )
    return "\n".join(lines)

"""Predictions: numbers that a theory says before they are measured, and how often it was right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ibtrace.runtime.text import wrap
from ibtrace.types import TraceLike

_Z = 1.959963984540054  # of 95 %


@dataclass(frozen=True)
class Prediction:
    """A quantity that is predicted at each look, and the one that is then measured.

    Args:
        name: A word or two.
        source: Author, year and title of the theory.
        statement: What it says, in a sentence.
        predicted: The quantity that is predicted; see `Trace.readings`.
        measured: The quantity that it is held against.

    The interval of a prediction is 1.96 standard errors of both numbers together; looks at which
    neither has one say nothing and are not counted.
    """

    name: str
    source: str
    statement: str
    predicted: str
    measured: str

    def residuals(self, trace: TraceLike) -> pd.DataFrame:
        """Predicted less measured: ``seed, epoch, step, layer, predicted, measured, stderr, unit``.

        With ``inside``: whether the residual is within 1.96 standard errors.

        Args:
            trace: A trace; without the two quantities there is no row.
        """
        readings = trace.readings()
        keys = ["seed", "epoch", "step", "layer"]
        parts = [
            readings.loc[readings["quantity"] == name, [*keys, "value", "stderr", "unit"]]
            for name in (self.predicted, self.measured)
        ]
        both = parts[0].merge(parts[1], on=keys, suffixes=("", "_measured"))
        errors = both[["stderr", "stderr_measured"]]
        frame = both[keys].assign(
            predicted=both["value"],
            measured=both["value_measured"],
            stderr=np.sqrt(errors.fillna(0.0).pow(2).sum(axis=1)).where(errors.notna().any(axis=1)),
            unit=both["unit"],
        )
        frame = frame.dropna(subset=["predicted", "measured", "stderr"])
        residual = (frame["predicted"] - frame["measured"]).abs()
        return frame.assign(inside=residual <= _Z * frame["stderr"])


PREDICTIONS: tuple[Prediction, ...] = (
    Prediction(
        "one-step",
        "second-order expansion; Smith et al. 2021",
        "One step of plain descent changes the training loss by -η‖g‖² + ½η²gᵀHg + ½(η²/b)"
        "(1 - b/n) tr(HΣ).",
        "predicted loss change",
        "measured loss change",
    ),
)
"""Those that lenses of the package make."""


def predictions_table(
    predictions: Iterable[Prediction], traces: Mapping[str, TraceLike]
) -> pd.DataFrame:
    """How many predictions fell inside their own interval.

    Columns: ``trace, name, inside, predictions, bias, unit, statement, source``; ``bias`` is the
    mean residual, predicted less measured. Those that a trace says nothing of are left out.

    Args:
        predictions: The predictions.
        traces: The traces of a run, by name.
    """
    rows = []
    for name, trace in traces.items():
        for prediction in predictions:
            frame = prediction.residuals(trace)
            if frame.empty:
                continue
            bias = float((frame["predicted"] - frame["measured"]).mean())
            said = (int(frame["inside"].sum()), len(frame), bias, str(frame["unit"].iloc[0]))
            rows.append((name, prediction.name, *said, prediction.statement, prediction.source))
    columns = ["trace", "name", "inside", "predictions", "bias", "unit", "statement", "source"]
    return pd.DataFrame(rows, columns=columns)


def predictions_text(table: pd.DataFrame) -> str:
    """The table for a person: each prediction, and how it fared in each run."""
    lines = []
    for (statement, source), part in table.groupby(["statement", "source"], sort=False):
        lines.append(wrap(f"{statement} ({source})"))
        for row in part.itertuples(index=False, name=None):
            trace, _, inside, count, bias, unit = row[:6]
            counted = f"{inside} of {count} inside their own 95 % interval ({inside / count:.0%})"
            away = f"{bias:+.3g}" + ("" if unit == "1" else f" {unit}")
            said = f"{counted}; predicted less measured {away} on average"
            lines.append(wrap(f"{trace}: {said}" if trace else said, first="  ", rest="    "))
    return "\n".join(lines)

"""Predictions are counted against their own intervals: known laws, and no luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import ibtrace
from ibtrace.predictions import (
    PREDICTIONS,
    Prediction,
    at_each_look,
    of_each,
    predictions_table,
    predictions_text,
)
from ibtrace.trace import Trace
from ibtrace.types import Row, TraceLike

_NONE = float("nan")
PREDICTION = Prediction(
    "step", "Nobody 2026", "A step does as it is told.", at_each_look("told", "done")
)


def traced(bias: float, *, seeds: int = 20, looks: int = 30, error: float = 0.5) -> Trace:
    """Measured is predicted and normal noise of this standard error, less a bias."""
    draw = np.random.default_rng(0)
    trace = Trace.create(meta={"n": 8})

    def row(seed: int, epoch: int, quantity: str, value: float, stderr: float) -> Row:
        fields = {"seed": seed, "epoch": epoch, "quantity": quantity, "value": value}
        return Row(
            **fields,  # type: ignore[arg-type]  # each field has its own type
            step=None,
            layer="",
            instrument="Step",
            estimand="",
            stderr=stderr,
            lower=_NONE,
            upper=_NONE,
            flags="",
            diagnostics={},
            seconds=0.0,
            unit="nats",
        )

    for seed in range(seeds):
        for epoch in range(looks):
            told = float(draw.normal())
            done = told - bias + error * float(draw.normal())
            rows = [
                row(seed, epoch, "told", told, _NONE),
                row(seed, epoch, "done", done, error),
            ]
            trace.append(rows)
    return trace


def test_a_true_prediction_is_inside_as_often_as_its_interval_says() -> None:
    table = predictions_table([PREDICTION], {"tanh": traced(0.0)})
    assert table["predictions"].tolist() == [600]
    assert table["inside"].item() / 600 == pytest.approx(0.95, abs=0.03)
    assert table["bias"].item() == pytest.approx(0.0, abs=0.06)


def test_each_trace_is_counted_by_itself() -> None:
    nothing = Trace.create(meta={"n": 8})
    table = predictions_table([PREDICTION], {"a": traced(0.0), "none": nothing, "b": traced(2.0)})
    assert table["trace"].tolist() == ["a", "b"]
    assert table["predictions"].tolist() == [600, 600]
    assert table["inside"][0] > 500 > 60 > table["inside"][1]


def test_a_biased_one_is_outside() -> None:
    table = predictions_table([PREDICTION], {"": traced(2.0)})
    assert table["inside"].item() / 600 < 0.1
    assert table["bias"].item() == pytest.approx(2.0, abs=0.06)
    text = predictions_text(table)
    assert "A step does as it is told. (Nobody 2026)" in text
    assert "nats on average" in text


def test_what_has_no_error_is_not_counted() -> None:
    trace = traced(0.0, error=_NONE)
    assert predictions_table([PREDICTION], {"": trace}).empty
    assert predictions_table([PREDICTION], {"": Trace.create(meta={"n": 8})}).empty


@pytest.mark.parametrize(("margin", "inside"), [(0.5, 1), (0.4, 0)])
def test_a_number_of_a_whole_run_has_a_margin_of_its_own(margin: float, inside: int) -> None:
    def compare(trace: TraceLike) -> pd.DataFrame:
        row = {"seed": 0, "predicted": 1.0, "measured": 1.5, "margin": margin, "unit": "1"}
        return pd.DataFrame([row, {**row, "seed": 1, "measured": np.nan}])

    own = Prediction("time", "Nobody 2026", "It takes a while.", of_each(compare))
    table = predictions_table([own], {"": Trace.create(meta={"n": 8})})
    assert table[["inside", "predictions", "bias"]].values.tolist() == [[inside, 1, -0.5]]


@pytest.mark.parametrize(("error", "inside"), [(0.3, 1), (0.2, 0)])
def test_the_margin_of_two_numbers_of_the_same_samples_is_their_difference_s(
    error: float, inside: int
) -> None:
    trace = traced(0.0, seeds=1, looks=0)
    kinds = {"told": (1.0, _NONE), "done": (1.5, 9.0), "missed": (0.5, error)}
    trace.append(
        Row(*(0, 0, None, "", name, "Step", "", value), *(stderr, _NONE, _NONE, "", {}, 0.0))
        for name, (value, stderr) in kinds.items()
    )
    compare = at_each_look("told", "done", "missed")
    table = predictions_table([Prediction("step", "", "", compare)], {"": trace})
    assert table[["inside", "predictions"]].values.tolist() == [[inside, 1]]


def test_predictions_of_lenses_are_of_quantities_that_they_read() -> None:
    x, y = torch.randn(80, 4, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 2
    model = torch.nn.Linear(4, 2)
    descent = torch.optim.SGD(model.parameters(), 0.1)
    recipe = ibtrace.Recipe((x, y), optimizer=descent, batch_size=20)
    lenses = ["one_step", "ntk"]
    tracer = ibtrace.Tracer(
        *(model, (x, y)), estimators=["exact"], lenses=lenses, recipe=recipe, loss="cross_entropy"
    )
    table = predictions_table(PREDICTIONS, {"": tracer.trace}).set_index("name")
    assert table["predictions"].to_dict() == {"one-step": 1, "linearised": 1}
    assert table.loc["linearised", "inside"] == 1  # of a linear model

"""Layers and variables of integers are symbols by row; what is ambiguous is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace import Tracer, estimators
from ibtrace.errors import InvalidInput
from ibtrace.estimators import information, make
from ibtrace.measure import context, measure
from ibtrace.probe import Probe
from ibtrace.trace import Trace
from ibtrace.tracer import Keep
from ibtrace.training.comparing_run import compare_run

N = 64
DTYPES = [
    torch.bool,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + 2 * (X[:, 1] > 1).long()
FAST: dict[str, dict[str, Any]] = {
    "variational": {"hidden": 8, "embedding": 4, "steps": 20, "batch": 16},
    "sliced": {"directions": 4},
}


def codes(d: int) -> Tensor:
    """Integer rows of which the first two columns count."""
    signs = (X.repeat(1, d)[:, :d] > 0).long()
    signs[:, 2:] = 1
    return signs


def plug_in(rows: Tensor, labels: Tensor) -> float:
    def entropy(columns: np.ndarray[Any, Any]) -> float:
        p = np.unique(columns, axis=0, return_counts=True)[1] / len(columns)
        return float(-(p * np.log2(p)).sum())

    t, y = rows.numpy(), labels.numpy()[:, None]
    return entropy(t) + entropy(y) - entropy(np.concatenate([t, y], 1))


@pytest.mark.parametrize("d", [2, 5, N, N + 1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_traced_layer_of_integers_is_its_rows(dtype: torch.dtype, d: int) -> None:
    rows = codes(d)
    done = measure(
        {"codes": torch.stack([rows, rows]).to(dtype)},
        {"codes": context("codes", {})},
        Probe(X, Y),
        [make("exact"), make("binning")],
        seeds=[0, 1],
        epoch=0,
    )
    truth = plug_in(rows, Y)
    about_y = [row.value for row in done if row.quantity == "I(T;Y)"]
    assert about_y == pytest.approx([truth] * 4)


@pytest.mark.parametrize("name", estimators.names())
def test_every_estimator_takes_symbols_or_says_that_it_does_not(name: str) -> None:
    pair = information(make(name, **FAST.get(name, {})), codes(4), Probe(X[:, :1], Y))
    for estimate in pair:
        assert estimate.bits.shape == ()
        finite = bool(estimate.bits.isfinite())
        assert finite != bool(estimate.flags.get("undefined", torch.tensor(False)))
        if finite:
            assert float(estimate.bits) < 2.1  # four symbols


class Codes(nn.Module):
    """A layer whose output is integer codes, as many as there are samples."""

    def __init__(self) -> None:
        super().__init__()
        self.quantize = Signs()
        self.head = nn.Linear(N, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.quantize(x).float())
        return logits


class Signs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        signs = (x.repeat(1, N)[:, :N] > 0).long()
        return signs * (torch.arange(N) < 2)


def test_a_live_trace_and_compare_take_integer_codes(tmp_path: Path) -> None:
    with Tracer(
        Codes(),
        (X, Y),
        look=["quantize"],
        estimators=["exact"],
        keep=Keep(run=tmp_path / "run", activations=True),
    ) as tracer:
        frame = tracer.trace.frame()
    live = float(frame[frame.quantity == "I(T;Y)"].bits.iloc[0])
    assert live == pytest.approx(plug_in(codes(N), Y))
    source = Trace.load(tmp_path / "run")
    found = compare_run(source, estimators=["exact", "ross"], jobs=1, progress=False)
    again = found.trace.frame()
    exact = again[(again.quantity == "I(T;Y)") & (again.estimator == "Exact")]
    assert float(exact.bits.iloc[0]) == pytest.approx(live)


@pytest.mark.parametrize("name", estimators.names())
@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.int64], ids=str)
def test_a_call_with_integer_rows_is_refused_with_the_way_out(
    name: str, dtype: torch.dtype
) -> None:
    estimator, rows, square = make(name), codes(9).to(dtype), codes(N).to(dtype)
    ids, floats = Y, X[:, :1]
    pairs = [(rows, rows), (rows, ids), (ids, rows), (rows, floats), (floats, rows)]
    pairs += [(square, square), (square, floats), (floats, square), (square, ids)]
    for x, y in pairs:
        with pytest.raises(InvalidInput, match=r"integers with more than one.*torch\.unique\("):
            estimator(x, y)


def test_the_way_out_works() -> None:
    rows = codes(9)
    ids = torch.unique(rows, dim=0, return_inverse=True)[1]
    assert float(make("exact")(ids, Y).bits) == pytest.approx(plug_in(rows, Y))


def test_square_integers_are_refused_by_information() -> None:
    with pytest.raises(InvalidInput, match=r"64 rows of 64 columns or the ids of 64 problems"):
        information(make("exact"), codes(N), Probe(X, Y))

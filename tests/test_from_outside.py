"""One of each kind is added from outside the package, in one file: a user's own.

An estimator of one's own is in docs/estimators.md, a lens of one's own in test_lenses_of_runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import ibtrace
from ibtrace.claims import Claim, Outcome, claims_table
from ibtrace.papers import Paper
from ibtrace.problems import Problem
from ibtrace.types import Kind, TraceLike


@dataclass(frozen=True)
class Coins(Problem):
    """Two fair coins that agree with a probability: a law."""

    agree: float = 0.9

    formula: ClassVar[str] = "1 - h(p)"
    source: ClassVar[str] = "a textbook"

    @property
    def name(self) -> str:
        return f"coins-{self.agree}"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        return ("discrete", "discrete")

    @property
    def bits(self) -> float:
        p = self.agree
        return 1 + p * math.log2(p) + (1 - p) * math.log2(1 - p)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x, alike = rng.integers(0, 2, n), rng.random(n) < self.agree
        return torch.as_tensor(x), torch.as_tensor(np.where(alike, x, 1 - x))

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        agree = torch.tensor(self.agree, dtype=torch.float64)
        return torch.where(x == y, 2 * agree, 2 * (1 - agree)).log()


def test_a_law() -> None:
    table = ibtrace.compare(["exact"], [Coins()], n=4000, seeds=2)
    assert table["status"].tolist() == ["ok", "ok"]
    assert abs(table["error"].mean()) < 0.02


def parity() -> ibtrace.Dataset:
    """All strings of four bits and their parity: a data set."""
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    return ibtrace.Dataset("parity", x, x.sum(1).long() % 2, population=True)


def trace() -> ibtrace.Trace:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with ibtrace.Tracer(net, parity(), estimators=["exact"]) as tracer:
        tracer.snapshot(1)
    return tracer.trace


def test_a_data_set() -> None:
    traced = trace()
    assert (traced.meta["n"], traced.meta["population"]) == (16, True)
    assert traced.frame().query("quantity == 'I(X;T)'")["bits"].max() == 4.0


def _all_told(traces: Mapping[str, TraceLike]) -> Outcome:
    bits = traces["net"].frame().query("quantity == 'I(X;T)'")["bits"].max()
    return Outcome("held" if bits == 4.0 else "failed", f"{bits:g} bits")


PAPER = Paper(
    "parity",
    "Nobody 2026, On four bits",
    [Claim("told", "Nobody 2026", "T tells all inputs apart.", _all_told, needs=("net",))],
)


def test_a_paper() -> None:
    table = claims_table(PAPER.claims, {"net": trace()})
    assert table[["name", "status", "number"]].values.tolist() == [["told", "held", "4 bits"]]


def largest(trace: TraceLike) -> Figure:
    """The largest I(X;T) of each layer: a plot."""
    figure = Figure()
    bits = trace.frame().query("quantity == 'I(X;T)'").groupby("layer")["bits"].max()
    figure.subplots().bar(trace.layers, bits[list(trace.layers)])
    return figure


def test_a_plot() -> None:
    bars = largest(trace()).axes[0].patches
    assert [bar.get_height() for bar in bars if hasattr(bar, "get_height")] == [4.0] * len(bars)

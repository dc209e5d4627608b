"""Inputs and labels that differ are different ones still when they are measured, or are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look
from ibtrace.datasets import read_labels
from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer

N = 256
RNG = np.random.default_rng(0)
SECONDS = 1.7e9 + np.arange(N, dtype=np.float64)
CLOSE = 1.0 + 1e-9 * np.arange(N, dtype=np.float64)
NOISE = RNG.normal(size=(N, 3))
IDS = 2**24 + np.arange(N)
HUGE = 2**60 + np.arange(N)
LABELS = np.arange(N) % 2


def batches(x: np.ndarray[Any, Any], size: int) -> Iterator[tuple[Any, Any]]:
    for first in range(0, N, size):
        yield x[first : first + size, None], LABELS[first : first + size]


MERGED: dict[str, Any] = {
    "seconds": SECONDS[:, None],
    "a list": SECONDS[:, None].tolist(),
    "close values": CLOSE[:, None],
    "some close rows": np.r_[NOISE, NOISE[:5] + 1e-12],
    "a column beside others": np.c_[SECONDS, NOISE],
    "the last of many columns": np.c_[np.tile(NOISE, 40), SECONDS],
    "a table": pd.DataFrame({"id": IDS, "weight": LABELS / 3}),
    "a table whose rows differ": pd.DataFrame({"id": IDS, "weight": NOISE[:, 0]}),
    "a table of long ids": pd.DataFrame({"id": HUGE, "weight": LABELS / 3}),
    "objects": np.array([[int(i), 0.5] for i in HUGE], dtype=object),
    "long doubles": (np.longdouble(1) + np.longdouble(2) ** -60 * np.arange(N))[:, None],
    "one of a tuple": (NOISE, SECONDS[:, None]),
    "one of a dictionary": {"noise": NOISE, "time": SECONDS[:, None]},
    "one within": {"noise": NOISE, "more": {"time": SECONDS[:, None]}},
}


@pytest.mark.parametrize("name", MERGED)
def test_what_a_cast_merges_is_refused_with_the_way_out(name: str) -> None:
    y = np.r_[LABELS, LABELS[:5]] if name == "some close rows" else LABELS
    with pytest.raises(InvalidInput, match=r"stay distinct; (take|give) .* near its mean"):
        Probe(MERGED[name], y)


@pytest.mark.parametrize("size", [1, 50, N])
def test_so_is_what_comes_in_batches(size: int) -> None:
    """Within batches of one nothing is merged: only together do samples become equal."""
    with pytest.raises(InvalidInput, match=r"x is float64; as float32, .*: 3 of its 256"):
        Probe.of(batches(SECONDS, size))


def test_the_error_counts() -> None:
    with pytest.raises(InvalidInput, match="3 of its 256 distinct rows stay distinct"):
        Probe(SECONDS[:, None], LABELS)
    with pytest.raises(InvalidInput, match="3 of 256 values of column 1 stay distinct"):
        Probe(np.c_[NOISE[:, :1], SECONDS], LABELS)
    with pytest.raises(InvalidInput, match=r"x\[1\] is float64"):
        Probe((NOISE, SECONDS[:, None]), LABELS)


KEPT: dict[str, Any] = {
    "noise": NOISE,
    "pixels": RNG.integers(0, 256, (N, 20)) / 255,
    "a constant": np.c_[NOISE, np.full(N, 1.7e9 + 0.1)],
    "centred": (SECONDS - SECONDS.mean())[:, None],
    "doubles": torch.from_numpy(SECONDS[:, None]),
    "a table": pd.DataFrame({"id": np.arange(N), "weight": NOISE[:, 0]}),
    "the user's own cast": SECONDS[:, None].astype("float32"),
    "repeats": np.repeat(NOISE, 2, axis=0)[:N],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_stays_apart_is_taken(name: str) -> None:
    probe = Probe(KEPT[name], LABELS)
    entropy = {"repeats": math.log2(N) - 1, "the user's own cast": probe.input_entropy}
    assert probe.input_entropy == pytest.approx(entropy.get(name, math.log2(N)), abs=1e-9)


def test_rounding_of_a_continuous_number_is_no_fault() -> None:
    """Of 100,000 samples of a law some are equal in single precision by chance."""
    x = np.random.default_rng(1).normal(size=(100_000, 1))
    probe = Probe(x)
    assert len(torch.unique(probe.x)) < len(x)
    assert probe.input_entropy == pytest.approx(math.log2(len(x)), abs=0.01)


WHOLE: dict[str, tuple[Any, float]] = {
    "long ids": (torch.from_numpy(HUGE)[:, None], 8.0),
    "ids": (torch.from_numpy(IDS)[:, None], 8.0),
    "32-bit ids": (torch.from_numpy(IDS).int()[:, None], 8.0),
    "ids beside numbers": ((torch.from_numpy(IDS), torch.zeros(N, 2)), 8.0),
    "ids beside half precision": ((torch.arange(N) + 2048, torch.zeros(N, 2).half()), 8.0),
    "doubles beside singles": ((torch.from_numpy(CLOSE), torch.zeros(N, 2)), 8.0),
    "two ids": ({"a": torch.from_numpy(HUGE) // 2, "b": torch.from_numpy(HUGE) % 2}, 8.0),
    "half precision": (torch.arange(N)[:, None].half(), 8.0),
    "unsigned": (np.arange(N, dtype=np.uint64)[:, None] + np.uint64(2**62), 8.0),
}


@pytest.mark.parametrize("name", WHOLE)
def test_integers_and_mixtures_keep_their_values(name: str) -> None:
    x, entropy = WHOLE[name]
    probe = Probe(x, LABELS, padding=None)
    assert probe.input_entropy == pytest.approx(entropy, abs=1e-9)
    if "long" not in name and name not in ("two ids", "unsigned"):  # beyond 2^53 only as ids
        assert len(probe.features.unique(dim=0)) == N
    kind = {"half precision": torch.float16, "ids beside half precision": torch.float32}
    assert probe.features.dtype == kind.get(name, torch.float64)


def test_labels_too() -> None:
    assert read_labels(torch.from_numpy(HUGE), classes=N + 2**61).values.tolist() == HUGE.tolist()
    assert len(read_labels(torch.from_numpy(IDS), classes=0).values.unique()) == N
    assert len(read_labels(SECONDS).values.unique()) == N
    for y in (torch.from_numpy(HUGE), HUGE):
        with pytest.raises(InvalidInput, match="y as float64: 2 of its 256 distinct rows"):
            Probe(NOISE, y, classes=0)
    table = pd.DataFrame({"id": HUGE, "share": LABELS / 3})
    with pytest.raises(InvalidInput, match="y as float64: 4 of its 256 distinct rows"):
        Probe(NOISE, table)
    mixed = [int(each) if at % 2 else float(at) for at, each in enumerate(HUGE)]
    with pytest.raises(InvalidInput, match="y as float64: 130 of its 256 distinct rows"):
        Probe(NOISE, pd.Series(mixed, dtype=object))


def test_continuous_labels_of_batches_are_double_as_they_are_at_once() -> None:
    pieces = [
        (NOISE[at : at + 64].astype("float32"), SECONDS[at : at + 64]) for at in range(0, N, 64)
    ]
    probe = Probe.of(iter(pieces))
    assert probe.y.dtype == torch.float64
    assert len(probe.y.unique()) == N


def test_whole_numbers_among_batches_of_floats_are_not_merged() -> None:
    ids = [(torch.from_numpy(IDS[:128, None]), LABELS[:128])]
    rest = [(torch.rand(128, 1), LABELS[128:])]
    with pytest.raises(InvalidInput, match="x is float64; as float32"):
        Probe.of(iter(ids + rest))


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x)
        return out


@pytest.mark.parametrize("reduce", [None, "flatten"])
def test_layers_in_double_precision_are_measured_in_it(reduce: str | None) -> None:
    """T is x, 1e-9 apart: all 8 bits, by counting and by every single layer's own type."""
    x = torch.from_numpy(CLOSE[:, None])
    look = Look(layers="act", reduce=reduce)
    with Tracer(Double(), (x, LABELS), estimators="exact", look=look) as tracer:
        pass
    frame = tracer.trace.frame().query("quantity == 'I(X;T)'")
    assert frame["bits"].tolist() == pytest.approx([8.0])
    assert tracer.trace.scalars().query("name == 'distinct_rows'")["value"].tolist() == [N]

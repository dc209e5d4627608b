"""What pandas names row by row is paired by these names, or refused: never by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ibtrace import Dataset, Probe, Tracer
from ibtrace.errors import InvalidInput

N = 8
NAMES = list("hgfedcba")


def frame(index: Any = None) -> pd.DataFrame:
    return pd.DataFrame(np.arange(2.0 * N).reshape(N, 2), index=index)


def series(index: Any = None) -> pd.Series[int]:
    return pd.Series([0, 1] * (N // 2), index=index)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh())


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "Probe": lambda x, y: Probe(x, y),
    "Probe.of": lambda x, y: Probe.of((x, y)),
    "draw": lambda x, y: Probe.draw(x, y, 4),
    "mapping": lambda x, y: Probe.of({"a": x, "labels": y}),
    "batches": lambda x, y: Probe.of((x, y) for _ in range(2)),
    "inputs": lambda x, y: Probe((x, y)),
    "Dataset": lambda x, y: Dataset("mine", x, y),
    "Tracer": lambda x, y: Tracer(network(), (x, y), estimators="exact"),
}
OTHER_ORDERS: dict[str, tuple[Any, Any]] = {
    "names": (NAMES, sorted(NAMES)),
    "sampled": (None, np.random.default_rng(0).permutation(N)),
    "sampled x": (np.random.default_rng(0).permutation(N), None),
    "of floats": (range(N), np.arange(N, 0.0, -1) - 1),
    "dates": (pd.date_range("2020", periods=N), pd.date_range("2020", periods=N)[::-1]),
    "two levels": (
        pd.MultiIndex.from_product([[0, 1], [0, 1, 2, 3]]),
        pd.MultiIndex.from_product([[1, 0], [0, 1, 2, 3]]),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_another_order_of_the_same_names_is_refused_wherever_it_comes_through(way: str) -> None:
    x, y = frame(NAMES), series(sorted(NAMES))
    with pytest.raises(InvalidInput, match=r"same row names in another order.*\.loc\[x.*to_numpy"):
        WAYS[way](x, y)
    WAYS[way](x, y.loc[x.index])
    WAYS[way](x, y.to_numpy())


@pytest.mark.parametrize("order", OTHER_ORDERS)
def test_another_order_is_seen_in_an_index_of_any_kind(order: str) -> None:
    of_x, of_y = OTHER_ORDERS[order]
    for y in (series(of_y), series(of_y).to_frame()):
        with pytest.raises(InvalidInput, match="same row names in another order than x"):
            Probe(frame(of_x), y)


@pytest.mark.parametrize(
    ("of_x", "of_y"),
    [
        (NAMES, [*NAMES[1:], "z"]),  # moved by one
        (NAMES, list("ijklmnop")),  # the other part of a split
        (range(1, N + 1), range(2, N + 2)),
    ],
)
def test_other_names_are_refused_and_positions_are_to_be_said(of_x: Any, of_y: Any) -> None:
    with pytest.raises(InvalidInput, match=r"other row names \(index\) than x; give y.to_numpy"):
        Probe(frame(of_x), series(of_y))


def test_names_that_stand_twice_cannot_be_looked_up() -> None:
    with pytest.raises(InvalidInput, match=r"than x; give y\.to_numpy\(\) to pair"):
        Probe(frame([0, 1] * 4), series([0] * 4 + [1] * 4))


@pytest.mark.parametrize(
    ("of_x", "of_y"),
    [
        (None, None),
        (NAMES, NAMES),
        (NAMES, None),  # predictions or labels made anew: plainly by position
        (None, NAMES),
        (None, [19, 3, 7, 5, 11, 2, 13, 17]),  # a part of a split beside an array made a frame
        (range(N), np.arange(float(N))),
    ],
)
def test_one_order_or_no_names_at_all_are_paired_by_position(of_x: Any, of_y: Any) -> None:
    x, y = frame(of_x), series(of_y)
    probe = Probe(x, y)
    assert torch.equal(probe.y, torch.tensor(y.to_numpy()))
    assert torch.equal(probe.features, torch.tensor(x.to_numpy()).float())


def test_inputs_among_themselves_are_paired_too() -> None:
    with pytest.raises(InvalidInput, match=r"x\[1\] has the same row names in another order than"):
        Probe((frame(NAMES), frame(sorted(NAMES))), [0, 1] * 4)

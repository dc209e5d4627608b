"""A lens reads the same alone, beside any others, in any order, and at a second look."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from ibtrace import At, Recipe, Tracer, lenses
from ibtrace.errors import LensFailed
from ibtrace.lenses import NTK

X = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 5)
Y = (X.sum(1) > 2).long()


def run(asked: Any, epochs: int = 2, again: Iterable[int] = (), every: int = 1) -> pd.DataFrame:
    """The readings of a short training; the looks ``again`` are taken twice."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    recipe = Recipe((X[:24], Y[:24]), (X[24:], Y[24:]), optimizer=optimizer, batch_size=8)
    how: dict[str, Any] = {"loss": "cross_entropy", "recipe": recipe, "estimators": "exact"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LensFailed)
        with Tracer(model, (X, Y), lenses=asked, every=every, **how) as tracer:
            for epoch in range(1, epochs + 1):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X), Y).backward()
                optimizer.step()
                tracer.snapshot(epoch)
                if epoch in again:
                    tracer.snapshot(epoch, force=True)
    rows = tracer.trace.readings().drop(columns="seconds")
    order = ["instrument", "epoch", "quantity", "layer"]
    return rows.sort_values(order).reset_index(drop=True)


def of(rows: pd.DataFrame, instrument: str) -> pd.DataFrame:
    return rows[rows["instrument"] == instrument].reset_index(drop=True)


@cache
def together() -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [At(name, every=1) for name in lenses.names()]
    return run(names), run(names[::-1])


def test_the_order_of_all_lenses_does_not_matter() -> None:
    in_order, reversed_order = together()
    pd.testing.assert_frame_equal(in_order, reversed_order)
    assert in_order["instrument"].nunique() > 20


@pytest.mark.parametrize("name", lenses.names())
def test_alone_each_reads_what_it_reads_after_all_others(name: str) -> None:
    lens = lenses.registry[name].__name__
    alone = of(run([At(name, every=1)]), lens)
    pd.testing.assert_frame_equal(alone, of(together()[0], lens))


def test_two_of_one_lens_have_each_its_own_look_before() -> None:
    rare = At(NTK(samples=20), every=2)
    both, alone = run([At("ntk", every=1), rare], 4), run([rare], 4)
    name = str(alone["instrument"].iloc[0])
    pd.testing.assert_frame_equal(of(both, name), of(alone, name))
    velocities = alone.query("quantity == 'NTK velocity'")
    assert velocities["epoch"].tolist() == [2, 4]
    assert (velocities["value"] > 1e-6).all()


@pytest.mark.parametrize("name", ["geometry", "ntk"])
def test_a_second_look_at_one_epoch_is_no_look_before(name: str) -> None:
    lens = lenses.registry[name].__name__
    once, twice = run([At(name, every=1)], 3), run([At(name, every=1)], 3, again=[1, 3])
    pd.testing.assert_frame_equal(once, twice)
    beside = run([At(name, every=1), At("curvature", every=2)], 3)  # close() looks at 3 again
    pd.testing.assert_frame_equal(of(beside, lens), of(once, lens))

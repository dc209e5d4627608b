"""Weights that are frozen, or unfrozen, while they are traced: against a network of its own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ibtrace import At, Recipe, Tracer
from ibtrace.errors import LensFailed
from ibtrace.lenses import NTK, Norms, PACBayes, Slice
from ibtrace.types import Lens

X = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 5).double()
Y = (X.sum(1) > 2).long()
LENSES: list[Lens] = [Norms(), Slice(points=5), PACBayes(draws=4), NTK(steps=2)]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def traced(
    frozen: Sequence[Sequence[str]], lenses: Sequence[Lens] = LENSES
) -> tuple[pd.DataFrame, list[nn.Sequential]]:
    """The readings of a training by descent, and the networks at the looks.

    Args:
        frozen: Which parameters are, from each look on.
        lenses: What is read.
    """
    model = net()

    def freeze(names: Sequence[str]) -> None:
        for name, value in model.named_parameters():
            value.requires_grad_(name not in names)

    freeze(frozen[0])
    seen = [copy.deepcopy(model)]
    how: dict[str, Any] = {"recipe": Recipe((X, Y)), "loss": "cross_entropy", "estimators": "exact"}
    with Tracer(model, (X, Y), lenses=[At(lens, every=1) for lens in lenses], **how) as tracer:
        for epoch, names in enumerate(frozen[1:], start=1):
            freeze(names)
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X), Y).backward()
                optimizer.step()
            seen.append(copy.deepcopy(model))
            tracer.snapshot(epoch, force=True)
    return tracer.trace.readings(), seen


def value(rows: pd.DataFrame, quantity: str, epoch: int) -> float:
    return float(rows.query("quantity == @quantity and epoch == @epoch")["value"].iloc[0])


def flat(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def kernel(model: nn.Module, names: Sequence[str]) -> Tensor:
    """K of some parameters, one logit of one sample at a time."""
    own = [value for name, value in model.named_parameters() if name in names]
    for each in own:
        each.requires_grad_(True)
    logits = model(X).flatten()
    slopes = [torch.autograd.grad(logit, own, retain_graph=True) for logit in logits]
    j = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in slopes])
    return j @ j.T


def turned(a: Tensor, b: Tensor) -> float:
    return 1 - float((a * b).sum() / (a.norm() * b.norm()))


WEIGHTS = ("0.weight", "0.bias", "2.weight", "2.bias")


@pytest.mark.parametrize("frozen", [[["0.weight"], [], []], [[], ["0.weight"], []]])
def test_of_what_is_trained_now_the_past_is_read(frozen: Sequence[Sequence[str]]) -> None:
    rows, seen = traced(frozen)
    for epoch in (1, 2):
        trained = [name for name in WEIGHTS if name not in frozen[epoch]]
        now, before, start = (kernel(seen[at], trained) for at in (epoch, epoch - 1, 0))
        assert value(rows, "NTK velocity", epoch) == pytest.approx(turned(now, before), abs=1e-12)
        distance = value(rows, "NTK distance to the initial look", epoch)
        assert distance == pytest.approx(turned(now, start), abs=1e-12)
        travel = (flat(seen[epoch]) - flat(seen[0])).norm().item()
        assert value(rows, "distance from the initial weights", epoch) == pytest.approx(travel)
        assert value(rows, "weight norm", epoch) == pytest.approx(flat(seen[epoch]).norm().item())
        assert value(rows, "KL to the prior", epoch) > 0
    assert not rows["flags"].str.contains("frozen_since").any()


def test_a_weight_that_moved_and_is_frozen_has_seen_the_samples() -> None:
    with pytest.warns(LensFailed, match="weights that were frozen later"):
        rows, seen = traced([[], [], ["0.weight"]])
    barrier = rows.query("quantity == 'barrier from the start'").set_index("epoch")["flags"]
    assert ["frozen_since" in flags for flags in barrier] == [False, False, True]
    travel = (flat(seen[2]) - flat(seen[0])).norm().item()
    assert value(rows, "distance from the initial weights", 2) == pytest.approx(travel)
    assert rows.query("quantity == 'PAC-Bayes bound'")["epoch"].tolist() == [0, 1]

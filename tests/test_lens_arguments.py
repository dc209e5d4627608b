"""What lenses and twins are made of is checked by name, before any work."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace import Recipe, Twins, lenses
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError
from ibtrace.lenses.pac_bayes import first_least
from ibtrace.tracer import Tracer

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
ROWS = torch.tensor([[0, 1]])
FIELDS = [
    (name, field.name)
    for name, kind in lenses.registry.items()
    for field in dataclasses.fields(kind)
]
WRONG = ["a", object(), {}, [[]], float("nan"), True, -1, torch.zeros(2), int]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_value_that_a_field_cannot_have_is_refused_by_name(name: str, field: str) -> None:
    kind, messages = lenses.registry[name], []
    for value in [*WRONG, None]:
        try:
            kind(**{field: value})
        except ConfigError as error:
            messages.append(str(error))
    of_flag = isinstance(getattr(kind(), field), bool)
    assert len(messages) >= len(WRONG) - of_flag  # True is a flag, and None may be a default
    assert all(kind.__name__ in message and field in message for message in messages), messages


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"replaced": [[0, 1]]},
            r"replaced must be a tensor of rows \(out, in\).*got \[\[0, 1\]\]",
        ),
        ({"replaced": ROWS.float()}, r"replaced must be .*got shape \(1, 2\) of torch.float32"),
        ({"replaced": ROWS[0]}, r"replaced must be .*got shape \(2,\) of torch.int64"),
        ({"replaced": -ROWS}, r"replaced must be .* from 0 on, got shape"),
        ({"replaced": ROWS.expand(2, 2)}, "2 rows are replaced, which is of 2 networks, and there"),
        ({"control": True}, "1 rows are replaced and a control, which is of 2 networks, and there"),
        ({"control": 1}, "control must be True or False, got 1"),
        ({"networks": nn.Linear}, "networks must be a torch.nn.Module or an ibtrace.Ensemble"),
        ({"networks": [nn.Linear(3, 2)]}, "networks must be a torch.nn.Module or an ibtrace.Ens"),
    ],
)
def test_twins_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"Twins: {message}"):
        Twins(**{"networks": nn.Linear(3, 2), "replaced": ROWS, **given})


def test_twins_of_other_networks_or_of_other_samples_are_refused() -> None:
    data = X[:12], Y[:12]
    with pytest.raises(ConfigError, match=r"Twins: row 12 is replaced, .* has rows 0 … 11"):
        Recipe(data, twins=Twins(nn.Linear(3, 2), torch.tensor([[0, 12]])))

    def traced(model: Any, twin: nn.Module) -> None:
        recipe = Recipe(data, twins=Twins(twin, ROWS))
        Tracer(model, (X, Y), estimators="binning", recipe=recipe)

    with pytest.raises(ConfigError, match=r"bias is \(2,\) and \(4,\) \(networks, twins\)"):
        traced(nn.Linear(3, 2), nn.Linear(3, 4))
    with pytest.raises(ConfigError, match=r"architecture: bias is \(2,\) and none"):
        traced(nn.Linear(3, 2), nn.Linear(3, 2, bias=False))
    with pytest.raises(ConfigError, match="one twin, and 2 are traced: replaced has 1 rows"):
        traced(Ensemble(lambda seed: nn.Linear(3, 2), seeds=[0, 1]), nn.Linear(3, 2))
    traced(nn.Linear(3, 2), nn.Linear(3, 2))


def no_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """NaN, with derivatives that are numbers: that of log x is 1/x."""
    return (outputs[:, 0] - 5).log().mean() + 0 * labels.sum()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("curvature", {}),
        ("curvature", {"exact": 0, "density": True}),
        ("edge", {}),
        ("one_step", {}),
        ("gradient_noise", {}),
        ("effective_dimension", {"of": "hessian"}),
        ("stability", {}),
    ],
)
def test_of_a_loss_that_is_no_number_nothing_is(name: str, fields: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model, twin = (nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)) for _ in range(2))
    recipe = Recipe(
        (X, Y),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        batch_size=6,
        twins=Twins(twin, ROWS),
    )
    lens = lenses.make(name, **fields)
    given: dict[str, Any] = {"loss": no_loss, "recipe": recipe, "estimators": "binning"}
    with Tracer(model, (X, Y), lenses=lens, **given) as tracer:
        readings = tracer.trace.readings()
    assert not tracer.trace.meta.get("lenses_failed")
    read = readings[readings["instrument"] == tracer.trace.lenses[0]]
    distances = ("twin distance", "twin distance over travel", "twin disagreement")
    of_loss = read[~read["quantity"].isin(distances)]
    assert len(of_loss)
    assert of_loss["value"].isna().all()
    assert of_loss["flags"].str.contains("not_finite").all()


def test_of_scales_with_one_bound_the_first_is_taken() -> None:
    bounds = torch.rand(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first_least(bounds), bounds.argmin(1))
    equal = torch.where(bounds < 0.5, 0.1, bounds)
    rounded = equal * (1 + 1e-15 * torch.arange(7, 0, -1))
    first = [row.index(min(row)) for row in equal.tolist()]
    assert first_least(rounded).tolist() == first

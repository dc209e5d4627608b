"""Classes have one number in the probe, in the training samples and in the test samples."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ibtrace import Recipe
from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer

N = 60
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
IDS = torch.bucketize(X[:, 0].clone(), torch.tensor([-0.4, 0.4]))


def _net(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, outputs)


def _losses(net: nn.Module, y: Any, rows: Tensor, part: Any) -> tuple[float, float]:
    """Training and test loss as the lens reads them, trained on a part of the probe's samples."""
    with Tracer(
        net,
        (X, y),
        estimators=["binning"],
        lenses=["generalization", "norms"],
        loss="cross_entropy",
        recipe=Recipe((X[rows], part), (X, y)),
    ) as tracer:
        read = tracer.trace.readings().query("epoch == 0").groupby("quantity")["value"].first()
    return float(read["training loss"]), float(read["test loss"])


def _names(ids: Tensor, names: str) -> list[str]:
    return [names[at] for at in ids.tolist()]


@pytest.mark.parametrize("kept", [[1, 2], [2], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("kind", ["list", "categorical", "strings of numbers"])
def test_a_part_that_lacks_a_class_counts_the_others_as_the_probe_does(
    kept: list[int], kind: str
) -> None:
    net, rows = _net(3), torch.isin(IDS, torch.tensor(kept)).nonzero()[:, 0]
    letters = "012" if kind == "strings of numbers" else "abc"
    y: Any = _names(IDS, letters)
    part: Any = _names(IDS[rows], letters)
    if kind == "categorical":
        y, part = pd.Categorical(y), pd.Categorical(part)
    if kind == "strings of numbers":
        y = IDS  # whose ids are their names
    wanted = nn.functional.cross_entropy(net(X[rows]), IDS[rows]).item()
    whole = nn.functional.cross_entropy(net(X), IDS).item()
    assert _losses(net, y, rows, part) == pytest.approx((wanted, whole), rel=1e-5)


def test_labels_of_one_sign_are_the_class_of_that_sign() -> None:
    y = torch.where(X[:, 0] > 0, 1, -1)
    rows = (y > 0).nonzero()[:, 0]
    net = _net(2)
    wanted = nn.functional.cross_entropy(net(X[rows]), torch.ones(len(rows)).long()).item()
    assert _losses(net, y, rows, y[rows])[0] == pytest.approx(wanted, rel=1e-5)


def test_what_a_loss_takes_stays_what_was_given() -> None:
    signs = torch.tensor([-1.0, 1.0, 1.0, -1.0])
    part = Probe(X[:4], signs).labelled_like(Probe(X[:4], -signs), "Recipe: data")
    assert part.targets.tolist() == signs.tolist()
    words = Probe(X[:2], ["b", "b"]).labelled_like(Probe(X[:2], ["a", "b"]), "Recipe: data")
    assert words.targets.tolist() == words.y.tolist() == [1, 1]
    assert (words.classes, words.class_names) == (2, ("a", "b"))
    numbers = Probe(X[:4], ["1", "-1", "1", "1"]).labelled_like(Probe(X[:4], signs), "Recipe: data")
    assert numbers.y.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("y", [["a", "b"] * 30, torch.arange(N) % 2, torch.arange(N) % 2 * 2.0 - 1])
@pytest.mark.parametrize("name", ["data", "test"])
def test_a_class_that_the_probe_lacks_is_refused_by_name(y: Any, name: str) -> None:
    part: Any = X[:2], ["a", "maybe"] if isinstance(y, list) else ["maybe"] * 2
    recipe = Recipe(part) if name == "data" else Recipe(test=part)
    with pytest.raises(InvalidInput, match=rf"Recipe: {name}: its class 'maybe' is none of"):
        Tracer(_net(2), (X, y), estimators=["binning"], recipe=recipe)


def test_rows_that_are_read_otherwise_than_the_probes_are_refused() -> None:
    rows = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]])
    probe, part = Probe(X[:4], rows), Probe(X[:2], rows[:2])
    with pytest.raises(InvalidInput, match="its labels are classes, those of the probe joint"):
        part.labelled_like(probe, "Recipe: data")
    hot, turned = (Probe(X[:2], rows[:2], names) for names in (["a", "b"], ["b", "a"]))
    with pytest.raises(InvalidInput, match=r"its one-hot columns are \['a', 'b'\], those of the"):
        hot.labelled_like(turned, "Recipe: data")

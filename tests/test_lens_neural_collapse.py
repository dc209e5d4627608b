"""Neural collapse: complete in a simplex, to ten digits on networks whose weights are a formula."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from ibtrace.errors import Unsupported
from ibtrace.lenses import NeuralCollapse
from ibtrace.probe import Probe
from ibtrace.types import Reading
from tests.layer_views import layer_view
from tests.reference_networks import PROBE, Kind, network, view_of

NC1 = "NC1 within over between classes"
REFERENCE = {
    "tanh": (40.299943, 90.554213, 51.796633, 35.316787, 33.709140),
    "relu": (8.946074, 16.452306, 540.549304, 245.128388, 138.701212),
}


def read(t: Tensor, labels: Tensor) -> Reading:
    view = layer_view(t, labels)
    return NeuralCollapse()(view, view._probe)[NC1]["t"]


def of_head(h: Tensor, weight: Tensor, labels: Tensor) -> Mapping[str, float]:
    """The readings of a network that is a linear layer, which sees h."""
    model = nn.Linear(h.shape[1], len(weight)).double()
    with torch.no_grad():
        model.weight.copy_(weight)
        model.bias.zero_()
    probe = Probe(h.double(), labels)
    view = view_of(model, probe=probe)
    readings = NeuralCollapse()(view, probe)
    return {name: of[""].value.item() for name, of in readings.items() if "" in of}


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_reference_networks_to_eight_digits(kind: Kind) -> None:
    readings = NeuralCollapse()(view_of(network(kind)), PROBE)[NC1]
    values = [readings[f"hidden{at}"].value.item() for at in range(1, 6)]
    assert values == pytest.approx(REFERENCE[kind], rel=1e-7)


def test_spread_by_hand() -> None:
    t = torch.tensor([[[0.0], [2.0], [10.0], [10.0], [13.0]]])
    reading = read(t, torch.tensor([0, 0, 1, 1, 1]))  # means 1 and 11, of all 7
    within, between = (1 + 1 + 1 + 1 + 4) / 5, (2 * 36 + 3 * 16) / 5
    assert reading.value.tolist() == pytest.approx([within / between])


def test_classes_that_have_one_mean_are_undefined_and_say_so() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    equal = torch.full((4, 2), 0.1)
    apart = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    reading = read(torch.stack([equal, apart]), labels)
    assert reading.flags["no_difference"].tolist() == [True, False]
    assert reading.value.isnan().tolist() == [True, False]
    assert reading.value[1] == 0  # collapsed


def simplex(classes: int) -> Tensor:
    corners = torch.eye(classes).double()
    return corners - corners.mean(0)


def test_a_simplex_is_complete_collapse() -> None:
    corners, labels = simplex(4), torch.arange(12) % 4
    readings = of_head(corners[labels] + 3, 2 * corners, labels)
    zeros = {name: value for name, value in readings.items() if value > 1e-7}
    assert len(readings) == 6
    assert not zeros


def test_each_sign_is_broken_alone() -> None:
    corners, labels = simplex(3), torch.arange(9) % 3
    long = torch.tensor([[1.0], [1], [2]])
    readings = of_head(corners[labels], long * corners, labels)
    assert readings["NC2 spread of classifier norms"] == pytest.approx(2**0.5 / 3 / (4 / 3))
    assert readings["NC2 classifiers off the simplex"] == pytest.approx(0, abs=1e-12)
    assert readings["NC2 spread of class means' norms"] == pytest.approx(0, abs=1e-12)
    assert readings["NC3 classifiers off the class means"] > 0.1
    flipped = of_head(corners[labels], -corners, labels)
    assert flipped["NC3 classifiers off the class means"] == pytest.approx(4)
    assert flipped["NC4 not the nearest class mean"] == 1
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    angles = of_head(corners[labels][:, :2], square, labels)["NC2 classifiers off the simplex"]
    assert angles == pytest.approx((0.5 + 0.5 + 0.5) / 3)


def test_a_logit_without_a_class_leaves_the_head_out() -> None:
    labels = torch.arange(8) % 2
    readings = of_head(torch.randn(8, 3), torch.randn(3, 3), labels)
    assert not readings
    bent = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double()
    probe = Probe(torch.randn(8, 3).double(), labels)
    assert [*NeuralCollapse()(view_of(bent, probe=probe), probe)] == [NC1]


def test_labels_that_are_no_classes_or_only_one_are_refused() -> None:
    t = torch.randn(1, 6, 2)
    with pytest.raises(Unsupported, match="NeuralCollapse takes one class a sample"):
        read(t, torch.randn(6))
    with pytest.raises(Unsupported, match="all labels are one"):
        read(t, torch.zeros(6, dtype=torch.long))

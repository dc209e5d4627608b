"""What lenses are made of, held to ten digits on networks whose weights are a formula."""

from __future__ import annotations

import pytest
import torch

from ibtrace.numerics.flat import flattened, unflattened
from tests.reference_networks import Kind, network, view_of

REFERENCE = {  # loss at sin, at cos; accuracy at sin; |g|; λ_max, λ_2, λ_min, trace, |H|²; gᵀHg/gᵀg
    "tanh": (
        *(0.8322414157, 1.433375145, 0.5808105469, 0.6994603707),
        *(7.900314108, 1.576675613, -1.150394219, 7.815182072, 74.65329182, 1.279486525),
    ),
    "relu": (
        *(0.7193022256, 1.946497899, 0.4829101562, 0.3512456201),
        *(2.016581287, 0.4035729319, -0.2840238015, 3.314210246, 4.620030666, 1.941522606),
    ),
}


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_loss_gradient_and_hessian_to_ten_digits(kind: Kind) -> None:
    view = view_of(network(kind), network(kind, torch.cos))
    hessian, gradient = view.hessian[0], flattened(view.gradient)[0]
    values = torch.linalg.eigvalsh(hessian)
    got = (
        view.loss[0],
        view.loss[1],
        (view.logits[0].argmax(-1) == view.labels[0]).double().mean(),
        gradient.norm(),
        values[-1],
        values[-2],
        values[0],
        hessian.trace(),
        hessian.square().sum(),
        gradient @ hessian @ gradient / gradient.square().sum(),
    )
    assert [float(value) for value in got] == pytest.approx(REFERENCE[kind], rel=1e-9)


def test_probabilities_are_seen_before_the_softmax() -> None:
    logits = view_of(network("tanh"))
    probabilities = view_of(network("tanh", output="softmax"), loss="nll")
    assert torch.equal(probabilities.logits, logits.logits)
    torch.testing.assert_close(probabilities.loss, logits.loss)
    torch.testing.assert_close(probabilities.outputs, logits.logits.softmax(-1))
    for name, slope in logits.gradient.items():
        torch.testing.assert_close(probabilities.gradient[name], slope)


def test_numbers_in_a_row_go_back_to_where_they_were() -> None:
    parameters = {"a": torch.randn(2, 3, 4), "b": torch.randn(2), "c": torch.randn(2, 5)}
    shapes = {name: value.shape[1:] for name, value in parameters.items()}
    flat = flattened(parameters)
    assert flat.shape == (2, 12 + 1 + 5)
    for name, value in unflattened(flat, shapes).items():
        assert torch.equal(value, parameters[name])

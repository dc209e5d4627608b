"""A view's loss is the training's, whatever labels it was given; what is no mean is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.numerics.losses import mse
from ibtrace.probe import Probe

functional = nn.functional
N = 24
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
SIGN = X[:, 0].sign()
IDS = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
ROWS = (X > 0).float()

Loss = Callable[[Tensor, Tensor], Tensor]


def view_of(model: nn.Module, y: Any, loss: str | Loss) -> NetworkView:
    return NetworkView(Stacked.of_module(model), Probe(X, y), Setting(loss=loss))


def linear(outputs: int) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, outputs)


def first(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(outputs[:, 0], y)


def hinge(outputs: Tensor, y: Tensor) -> Tensor:
    return (1 - outputs[:, 0] * y).relu().mean()


@pytest.mark.parametrize(
    ("y", "outputs", "loss", "true", "targets"),
    [
        pytest.param(SIGN, 1, "mse", functional.mse_loss, SIGN[:, None], id="mse of -1/+1"),
        pytest.param(SIGN.long(), 1, "mse", functional.mse_loss, SIGN[:, None], id="of integers"),
        pytest.param(
            SIGN[:, None], 1, functional.mse_loss, functional.mse_loss, SIGN[:, None], id="column"
        ),
        pytest.param(SIGN, 1, first, first, SIGN, id="own loss of -1/+1"),
        pytest.param(SIGN.double().numpy(), 1, hinge, hinge, SIGN.double(), id="hinge"),
        pytest.param(
            ROWS[:, :1],
            1,
            functional.binary_cross_entropy_with_logits,
            functional.binary_cross_entropy_with_logits,
            ROWS[:, :1],
            id="binary cross-entropy",
        ),
        pytest.param(
            ROWS,
            3,
            functional.binary_cross_entropy_with_logits,
            functional.binary_cross_entropy_with_logits,
            ROWS,
            id="several labels",
        ),
        pytest.param(2 * ROWS - 1, 3, "mse", functional.mse_loss, 2 * ROWS - 1, id="rows of -1/+1"),
        pytest.param(ROWS, 3, "mse", functional.mse_loss, ROWS, id="mse of several labels"),
        pytest.param(
            functional.one_hot(IDS, 4).float(),
            4,
            functional.cross_entropy,
            functional.cross_entropy,
            functional.one_hot(IDS, 4).float(),
            id="one-hot rows",
        ),
        pytest.param(
            functional.one_hot(IDS, 4),
            4,
            "cross_entropy",
            functional.cross_entropy,
            IDS,
            id="one-hot rows, by name",
        ),
        pytest.param(
            IDS.float(), 4, "cross_entropy", functional.cross_entropy, IDS, id="ids as floats"
        ),
        pytest.param(
            IDS.float()[:, None],
            4,
            "mse",
            functional.mse_loss,
            functional.one_hot(IDS, 4).float(),
            id="mse of ids",
        ),
        pytest.param(
            SIGN, 2, "cross_entropy", functional.cross_entropy, (SIGN > 0).long(), id="-1/+1"
        ),
        pytest.param(
            ["abc"[i] for i in IDS], 3, "cross_entropy", functional.cross_entropy, IDS, id="names"
        ),
        pytest.param(X[:, :2], 2, "mse", functional.mse_loss, X[:, :2], id="numbers"),
        pytest.param(X[:, 0], 1, first, first, X[:, 0], id="own loss of numbers"),
    ],
)
def test_the_loss_is_that_of_the_labels_as_they_were_given(
    y: Any, outputs: int, loss: str | Loss, true: Loss, targets: Tensor
) -> None:
    model = linear(outputs)
    view = view_of(model, y, loss)
    wanted = true(model(X), targets)
    torch.testing.assert_close(view.loss[0], wanted.detach(), check_dtype=False)
    slopes = torch.autograd.grad(wanted, [*model.parameters()])
    for (name, _), slope in zip(model.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(view.gradient[name][0], slope, check_dtype=False)
        torch.testing.assert_close(view.sample_gradients[name][0].mean(0), slope, check_dtype=False)
    some = view.thinned(7)
    rows = (X[:, None] == some.inputs[0]).all(-1).any(1)
    torch.testing.assert_close(
        some.loss[0], true(model(X[rows]), targets[rows]).detach(), check_dtype=False
    )


def total(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y, reduction="sum")


def each(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y, reduction="none")


def weighted(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y, torch.tensor([1.0, 5.0, 2.0]))


def ignoring(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y, ignore_index=2)


SORTED = IDS.sort().values  # the first samples are of one class
ONE_RARE = torch.tensor([0] * (N - 1) + [2])


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("y", "outputs", "loss"),
    [
        (IDS, 3, total),
        (IDS, 3, each),
        (IDS, 3, weighted),
        (SORTED, 3, weighted),
        (ONE_RARE, 3, weighted),
        (SORTED, 3, ignoring),
        (ONE_RARE, 3, ignoring),
        (SIGN, 1, functional.mse_loss),
    ],
    ids=[
        *("a sum", "one a sample", "weights of classes", "weights, sorted", "weights, one rare"),
        *("a class left out", "left out, one rare", "shapes that broadcast"),
    ],
)
def test_a_loss_that_is_no_mean_over_the_samples_is_refused(
    y: Tensor, outputs: int, loss: Loss
) -> None:
    view = view_of(linear(outputs), y, loss)
    for read in (lambda: view.loss, lambda: view.gradient, lambda: view.sample_gradients):
        with pytest.raises(ConfigError, match="must be the mean over the samples"):
            read()


def test_a_squared_error_of_other_numbers_than_outputs_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2 targets a sample for 3 outputs"):
        _ = view_of(linear(3), X[:, :2], "mse").loss
    with pytest.raises(InvalidInput, match="1 targets a sample for 3 outputs"):
        mse(torch.zeros(4, 3), torch.zeros(4, 1))


def test_outputs_need_no_labels_that_a_loss_could_take() -> None:
    tokens = Probe(X, torch.arange(2 * N).reshape(N, 2) % 5)
    view = NetworkView(Stacked.of_module(linear(2)), tokens, Setting(loss="cross_entropy"))
    assert view.outputs.shape == (1, N, 2)
    assert view.input_jacobian.shape == (1, N, 2, 3)
    with pytest.raises(Unsupported, match=r"several class ids .* given as a function"):
        _ = view.loss


@pytest.mark.parametrize("loss", ["cross_entropy", "nll"])
def test_classes_that_the_network_has_no_output_for_are_named(loss: str) -> None:
    for y, said in (
        (IDS + 2, "labels 2 … 4 are not among the classes 0 … 2"),
        (X[:, 0], "numbers"),
    ):
        view = NetworkView(
            Stacked.of_module(nn.Sequential(linear(3), nn.Softmax(-1))), Probe(X, y), Setting(loss)
        )
        with pytest.raises(Unsupported, match=said):
            _ = view.loss
        with pytest.raises(Unsupported, match=said):
            _ = view.sample_gradients


def test_probes_that_are_made_of_one_keep_what_it_was_given() -> None:
    probe = Probe(X, SIGN)
    assert probe.y.tolist() == ((SIGN + 1) / 2).tolist()
    for made, wanted in (
        (probe.take(slice(5)), SIGN[:5]),
        (probe.take(torch.tensor([3, 1])), SIGN[[3, 1]]),
        (probe.with_inputs({"": -X}), SIGN),
        (Probe.of(probe, n=4), SIGN[:4]),
    ):
        assert made.targets.tolist() == wanted.tolist()

"""LinearProbe: what it was not fitted to is judged, against scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge

from ibtrace.capture.recipe import Part
from ibtrace.errors import ConfigError, TooFewSamples, Unsupported
from ibtrace.lenses import LinearProbe
from ibtrace.numerics.ridge import ridge_classes
from tests.layer_views import layer_view

NAME = "linear probe accuracy"


@pytest.mark.parametrize("shape", [(40, 5), (12, 30)])
def test_the_classifier_against_scikit_learn(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    n, d = shape
    points = 3 * torch.randn(2, n, d, generator=generator).double() + 5
    labels = torch.randint(3, (2, n), generator=generator)
    others = 3 * torch.randn(2, 50, d, generator=generator).double() + 5
    found = ridge_classes(points, labels, others, ridge=0.3)
    for at in range(2):
        alpha = 0.3 * n * float(points[at].var(0, correction=0).mean())
        hot = torch.nn.functional.one_hot(labels[at], 3).double()
        theirs = Ridge(alpha).fit(points[at].numpy(), hot.numpy()).predict(others[at].numpy())
        assert found[at].tolist() == theirs.argmax(1).tolist()


def test_what_was_fitted_is_not_judged() -> None:
    t = torch.randn(2, 60, 40, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 2  # nothing to learn: 40 units fit 30 samples by heart
    view = layer_view(t, labels)
    reading = LinearProbe()(view, view._probe)[NAME]["t"]
    assert (reading.value < 0.8).all()
    assert reading.flags["halves"].all()
    assert reading.diagnostics["fitted"].tolist() == [30, 30]
    error = (reading.value * (1 - reading.value) / 30).sqrt()
    torch.testing.assert_close(reading.stderr, error)
    assert reading.diagnostics["majority"].min() >= 0.5


def test_training_and_test_samples_are_taken_where_t_is_known() -> None:
    labels = torch.arange(40) % 2
    t = labels.double()[None, :, None].clone()
    train, test = torch.arange(0, 30), torch.arange(30, 40)
    t[:, 36:] = 1 - t[:, 36:]  # 4 of the 10 test samples lie wrong
    probe = layer_view(t, labels)._probe
    view = layer_view(t, labels, data=Part(probe, train), test=Part(probe, test))
    reading = LinearProbe()(view, probe)[NAME]["t"]
    assert reading.value.tolist() == [0.6]
    assert not reading.flags["halves"].any()
    assert reading.diagnostics["judged"].tolist() == [10]
    thinned = LinearProbe(samples=8)(view, probe)[NAME]["t"].diagnostics
    assert (thinned["fitted"].item(), thinned["judged"].item()) == (8, 8)


def test_a_class_that_a_part_lacks_keeps_its_name() -> None:
    labels = torch.tensor([1, 2, 1, 2, 1, 2, 2, 2])
    t = labels.double()[None, :, None]
    probe = layer_view(t, labels)._probe
    parts = {"data": Part(probe, torch.arange(6)), "test": Part(probe, torch.arange(6, 8))}
    view = layer_view(t, labels, **parts)
    assert LinearProbe()(view, probe)[NAME]["t"].value.tolist() == [1.0]


def test_a_dead_layer_gives_the_largest_class() -> None:
    labels = torch.tensor([0, 0, 0, 1] * 5)
    view = layer_view(torch.full((1, 20, 3), 0.1), labels)
    reading = LinearProbe()(view, view._probe)[NAME]["t"]
    assert reading.value.tolist() == reading.diagnostics["majority"].tolist()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="LinearProbe: ridge must be above 0, got 0"):
        LinearProbe(ridge=0)
    few = layer_view(torch.randn(1, 3, 2))
    with pytest.raises(TooFewSamples, match="LinearProbe needs at least 4 samples, got 3"):
        LinearProbe()(few, few._probe)
    numbers = layer_view(torch.randn(1, 9, 2), torch.randn(9))
    with pytest.raises(Unsupported, match="LinearProbe takes one class a sample"):
        LinearProbe()(numbers, numbers._probe)

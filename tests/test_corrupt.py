"""Random labels: a share of the training labels, by draws of their own; true ones judge."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ibtrace import datasets
from ibtrace.datasets import Dataset, corrupt, corrupted
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.training import config
from ibtrace.training.experiment import Experiment
from ibtrace.training.parts import probe_of
from ibtrace.training.trainers import _Together

Y = torch.arange(20_000) % 5


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_a_fraction_is_drawn_from_all_classes(fraction: float) -> None:
    y = corrupt(Y, fraction, seed=3)
    share = float((y != Y).double().mean())
    assert share == pytest.approx(fraction * 4 / 5, abs=0.015)
    shares = y.bincount(minlength=5).double() / len(y)
    assert shares.tolist() == pytest.approx([0.2] * 5, abs=0.02)
    if fraction == 1:  # nothing is left of the true ones
        kept = torch.stack([(y[Y == c] == c).double().mean() for c in range(5)])
        assert kept.tolist() == pytest.approx([0.2] * 5, abs=0.03)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_what_is_replaced_at_a_fraction_is_replaced_at_a_larger(
    seed: int, one: float, other: float
) -> None:
    small, large = sorted([one, other])
    y = Y[:200]
    few, many = corrupt(y, small, seed), corrupt(y, large, seed)
    assert torch.equal(few[few != y], many[few != y])


def test_seeds_differ_and_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (corrupt(Y, 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_corrupted_data_set_remembers_the_truth() -> None:
    data = corrupted(datasets.tishby(signs=True), 0.5, seed=4)
    true = datasets.tishby()
    assert data.name == "tishby(corrupted=0.5, seed=4)"
    assert data.x.unique().tolist() == [-1, 1]
    assert torch.equal((data.x + 1) / 2, true.x)
    assert torch.equal(data.truth, true.y)
    assert torch.equal(data.y, corrupt(true.y, 0.5, 4))
    assert torch.equal(corrupted(data, 0.5, seed=5).truth, true.y)
    assert torch.equal(true.truth, true.y)


def experiment(**changes: Any) -> Experiment:
    raw = {
        "data": {
            "class_path": "ibtrace.datasets.corrupted",
            "init_args": {
                "data": {"class_path": "ibtrace.datasets.tishby", "init_args": {"signs": True}},
                "fraction": 1.0,
            },
        },
        "model": {"class_path": "ibtrace.models.MLP", "init_args": {"output": "logits"}},
        "optimizer": {"class_path": "torch.optim.Adam"},
        "epochs": 1,
        "loss": "cross_entropy",
        "split": {"fraction": 0.25},
        **changes,
    }
    return config.build(raw)


def test_corrupted_labels_are_trained_on_and_true_ones_judge() -> None:
    made = experiment(seeds=2)
    training = _Together(made, [0, 1])
    recipe = training.recipe()
    train, test = training.parts["train"], training.parts["test"]
    assert torch.equal(recipe.data.probe.labels[recipe.data.rows], made.data.y[train])
    assert torch.equal(recipe.test.probe.labels[recipe.test.rows], made.data.truth[test])
    x, y = next(iter(training.batches))
    label_of = {
        tuple(row): label
        for row, label in zip(made.data.x.tolist(), made.data.y.tolist(), strict=True)
    }
    assert [label_of[tuple(row)] for row in x[0].tolist()] == y[0].tolist()
    chosen = training.outputs(made.data.x[test]).argmax(-1)
    right = (chosen == made.data.truth[test]).double().mean(-1)
    accuracy, _ = training.metrics()["test_accuracy"]
    assert accuracy.tolist() == pytest.approx(right.tolist())


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_probe_has_the_labels_of_its_part(part: str) -> None:
    made = experiment(probe={"part": part})
    train, test = datasets.split(made.data.y, 0.25, seed=0)
    rows = (train if part == "train" else test).sort().values
    labels = made.data.y if part == "train" else made.data.truth
    assert torch.equal(probe_of(made).labels, labels[rows])


def test_what_cannot_be_is_refused() -> None:
    for fraction in (-0.1, 1.1, float("nan"), True):
        with pytest.raises(ConfigError, match="corrupt: fraction must lie between 0 and 1, got"):
            corrupt(Y, fraction)
    with pytest.raises(InvalidInput, match=r"corrupt takes class ids \(n,\), got torch.float32"):
        corrupt(torch.rand(4), 0.5)
    with pytest.raises(InvalidInput, match="clean labels must be one for each of y"):
        Dataset("x", torch.rand(4, 2), torch.arange(4) % 2, clean=torch.zeros(3))

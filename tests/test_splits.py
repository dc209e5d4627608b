"""Training and test parts cover the data once, and batches give each seed what is its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.datasets import Batches, Order, split, tishby
from ibtrace.errors import InvalidInput, RunError, UnknownName

HOW: list[Order] = ["shuffled", "stratified", "contiguous"]
LABELS = st.lists(st.integers(0, 4), min_size=5, max_size=80).map(torch.tensor)


@given(y=LABELS, fraction=st.floats(0.2, 0.8), how=st.sampled_from(HOW), seed=st.integers(0, 9))
def test_parts_cover_the_data_once(y: Tensor, fraction: float, how: Order, seed: int) -> None:
    train, test = split(y, fraction, how, seed)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(y)))
    assert len(train) == round(fraction * len(y))


@given(y=LABELS, fraction=st.floats(0.2, 0.8), seed=st.integers(0, 9))
def test_stratified_shares_differ_by_less_than_one_sample(
    y: Tensor, fraction: float, seed: int
) -> None:
    train, _ = split(y, fraction, "stratified", seed)
    share = len(train) / len(y)
    for label in y.unique():
        here = int((y[train] == label).sum())
        assert abs(here - share * int((y == label).sum())) < 1


def test_contiguous_is_the_legacy_with_its_unequal_labels() -> None:
    y = tishby().y
    train, test = split(y, 0.8, "contiguous")
    assert torch.equal(train, torch.arange(3277))
    assert torch.equal(test, torch.arange(3277, 4096))
    assert float(y[train].double().mean()) == pytest.approx(0.437, abs=5e-4)
    assert float(y[test].double().mean()) == pytest.approx(0.836, abs=5e-4)


@pytest.mark.parametrize("how", ["shuffled", "stratified"])
def test_shuffling_depends_on_the_seed_alone(how: Order) -> None:
    y, state = tishby().y, torch.get_rng_state()
    assert torch.equal(split(y, 0.8, how, 1)[0], split(y, 0.8, how, 1)[0])
    assert not torch.equal(split(y, 0.8, how, 1)[0], split(y, 0.8, how, 2)[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert float(y[split(y, 0.8, how)[1]].double().mean()) == pytest.approx(0.517, abs=0.05)


def test_stratified_parts_are_not_sorted_by_class() -> None:
    y = torch.arange(2).repeat_interleave(50)
    train, _ = split(y, 0.5, "stratified")
    assert 0.3 < float(y[train[:25]].double().mean()) < 0.7


def test_errors_say_what_to_do() -> None:
    with pytest.raises(InvalidInput, match="leaves a part empty"):
        split(10, 1.0)
    with pytest.raises(InvalidInput, match="leaves a part empty"):
        split(3, 0.01)
    with pytest.raises(InvalidInput, match="give y instead"):
        split(10, 0.5, "stratified")
    with pytest.raises(UnknownName, match="choose one of: shuffled, stratified, contiguous"):
        split(10, 0.5, "random")  # type: ignore[arg-type]  # refused


# --- batches --------------------------------------------------------------------------------


def batches(
    seeds: list[int], *, n: int = 23, size: int = 5, shuffle: bool = True, how: Order = "shuffled"
) -> Batches:
    x = torch.arange(n, dtype=torch.float32).unsqueeze(1)
    train = [split(n, 0.8, how, seed)[0] for seed in seeds]
    return Batches(x, torch.arange(n), train, seeds, size, shuffle)


def drawn(given: Batches) -> Tensor:
    """The samples that an epoch gave to each seed, in order."""
    epoch = list(given)
    for x, y in epoch:
        assert torch.equal(x.squeeze(-1), y.float())
    return torch.cat([y for _, y in epoch], 1)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_gives_each_seed_its_training_part_once(shuffle: bool) -> None:
    given = batches([0, 1, 7], shuffle=shuffle)
    for _ in range(3):
        epoch = drawn(given)
        for seed, samples in zip([0, 1, 7], epoch, strict=True):
            train = split(23, 0.8, "shuffled", seed)[0]
            assert sorted(samples.tolist()) == sorted(train.tolist())
            assert shuffle or torch.equal(samples, train)


def test_the_last_batch_holds_what_is_left_over() -> None:
    given = batches([0, 1], n=23, size=5)
    assert [tuple(y.shape) for _, y in given] == [(2, 5), (2, 5), (2, 5), (2, 3)]
    assert len(given) == 4


@given(seeds=st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True))
def test_a_seed_is_given_the_same_alone(seeds: list[int]) -> None:
    together = batches(seeds)
    alone = [batches([seed]) for seed in seeds]
    for _ in range(2):
        epoch = drawn(together)
        for i, one in enumerate(alone):
            assert torch.equal(epoch[i], drawn(one)[0])


def test_epochs_and_seeds_differ() -> None:
    given = batches([0, 1], how="contiguous")
    first, second = drawn(given), drawn(given)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("how", HOW[::2])
def test_sequential_batches_of_one_part_equal_gathered_ones(how: Order) -> None:
    together, one = batches([3, 4], shuffle=False, how=how), batches([4], shuffle=False, how=how)
    assert torch.equal(drawn(together)[1], drawn(one)[0])


@given(stop=st.integers(0, 14), shuffle=st.booleans())
def test_resumed_batches_go_on_where_they_stopped(stop: int, shuffle: bool) -> None:
    def stream(given: Batches, count: int) -> list[list[int]]:
        got: list[list[int]] = []
        while len(got) < count:
            for _, y in given:
                got.append(y.flatten().tolist())
                if len(got) == count:
                    break
        return got

    whole = stream(batches([0, 1], shuffle=shuffle), 15)
    first = batches([0, 1], shuffle=shuffle)
    before = stream(first, stop)
    later = batches([0, 1], shuffle=shuffle)
    later.load_state_dict(first.state_dict())
    assert before + stream(later, 15 - stop) == whole
    assert before + stream(first, 15 - stop) == whole


def test_batches_refuse_what_cannot_be_stacked() -> None:
    x, y = torch.zeros(6, 2), torch.zeros(6)
    parts = [torch.arange(3), torch.arange(4)]
    with pytest.raises(InvalidInput, match=r"2 seeds need .* got 2 of sizes \[3, 4\]"):
        Batches(x, y, parts, [0, 1], 2)
    with pytest.raises(InvalidInput, match="3 seeds need"):
        Batches(x, y, [torch.arange(3)] * 2, [0, 1, 2], 2)
    with pytest.raises(InvalidInput, match=r"lie in 0\.\.5, got 0\.\.6"):
        Batches(x, y, torch.arange(7), [0], 2)
    with pytest.raises(InvalidInput, match="6 inputs and 5 labels"):
        Batches(x, y[:5], torch.arange(3), [0], 2)
    with pytest.raises(InvalidInput, match="batch_size must be at least 1"):
        Batches(x, y, torch.arange(3), [0], 0)
    with pytest.raises(RunError, match=r"seeds \(0,\) cannot resume \(1,\)"):
        batches([0]).load_state_dict(batches([1]).state_dict())

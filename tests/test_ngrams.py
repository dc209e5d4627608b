"""n-grams are exact: equal tuples, equal ids, and none across a boundary or over padding."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace import ngrams
from ibtrace.datasets import NO_NGRAM
from ibtrace.errors import ConfigError, InvalidInput


def naive(
    ids: Tensor, order: int, ahead: bool, documents: Tensor | None, mask: Tensor | None
) -> list[list[tuple[int, ...] | None]]:
    """The tuple of each position by a loop, or None."""
    told: list[list[tuple[int, ...] | None]] = []
    for row in range(len(ids)):
        told.append([])
        for i in range(ids.shape[1]):
            places = range(i + 1, i + order + 1) if ahead else range(i - order + 1, i + 1)
            inside = all(0 <= j < ids.shape[1] for j in places)
            real = mask is None or (
                inside and all(bool(mask[row, j]) for j in places) and bool(mask[row, i])
            )
            same = documents is None or (
                inside and all(int(documents[row, j]) == int(documents[row, i]) for j in places)
            )
            whole = inside and real and same
            told[-1].append(tuple(int(ids[row, j]) for j in places) if whole else None)
    return told


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_they_are_the_tuples_of_a_loop(
    seed: int, order: int, ahead: bool, parted: bool, padded: bool
) -> None:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(-2, 3, (3, 7), generator=draw)
    documents = torch.randint(2, (3, 7), generator=draw).cumsum(1) // 2 if parted else None
    mask = torch.arange(7) < torch.randint(1, 8, (3, 1), generator=draw) if padded else None
    numbered = ngrams(ids, order, ahead=ahead, documents=documents, mask=mask)
    known: dict[tuple[int, ...], int] = {}
    for row, tuples in enumerate(naive(ids, order, ahead, documents, mask)):
        for i, each in enumerate(tuples):
            got = int(numbered[row, i])
            assert (got == NO_NGRAM) == (each is None)
            if each is not None:
                assert known.setdefault(each, got) == got
    assert sorted(known.values()) == list(range(len(known)))
    assert sorted(known, key=known.__getitem__) == sorted(known)


def test_no_order_and_no_vocabulary_overflows() -> None:
    """128,000⁴ is beyond int64: packed tuples would meet, numbered ones do not."""
    rows = random.Random(0).sample(range(2**40), 64)
    ids = torch.tensor([rows])
    packed = sum(2**40 ** (5 - k) * int(ids[0, k]) for k in range(6))
    assert packed > 2**63
    numbered = ngrams(ids, 6)[0, 5:]
    assert numbered.unique().numel() == 59
    assert numbered.max() == 58


def test_one_text_is_a_row() -> None:
    ids = torch.tensor([3, 1, 3, 1, 2])
    assert ngrams(ids, 2).tolist() == ngrams(ids[None], 2)[0].tolist() == [NO_NGRAM, 2, 1, 2, 0]


def test_a_longer_order_than_the_row_has_none() -> None:
    assert ngrams(torch.arange(6).reshape(2, 3), 4).unique().tolist() == [NO_NGRAM]


def test_what_is_wrong_is_said() -> None:
    ids = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(InvalidInput, match=r"ngrams: ids must be integers .* got float32 \(2, 3\)"):
        ngrams(ids.float(), 1)
    with pytest.raises(ConfigError, match=r"ngrams: order.* 1"):
        ngrams(ids, 0)
    with pytest.raises(InvalidInput, match=r"ngrams: mask must be a tensor of the shape of ids"):
        ngrams(ids, 1, mask=torch.ones(2))

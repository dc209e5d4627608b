"""A probe from whatever yields samples: the same each time, in one order, and never without end."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from ibtrace.errors import InvalidInput, TooFewSamples
from ibtrace.probe import Probe
from ibtrace.runtime.generators import Generators, held_generators

N = 20
X = torch.arange(2.0 * N).reshape(N, 2)
Y = torch.arange(N) % 3
PAIRS = TensorDataset(X, Y)


class Stream(IterableDataset[Any]):
    """Samples without a length."""

    def __init__(self, make: Callable[[int], Any], n: float = N) -> None:
        self.make, self.n = make, n

    def __iter__(self) -> Iterator[Any]:
        for i in itertools.takewhile(lambda i: i < self.n, itertools.count()):
            yield self.make(i)


class Rows(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return self.make(i)


def pair(i: int) -> tuple[Tensor, int]:
    return X[i], int(Y[i])


def batch(i: int) -> tuple[Tensor, Tensor]:
    return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


SOURCES: dict[str, Callable[[], Any]] = {
    "a stream": lambda: Stream(pair),
    "a stream of batches": lambda: Stream(batch, 5),
    "a loader of a stream": lambda: DataLoader(Stream(pair), 8),
    "a loader of a stream of samples": lambda: DataLoader(Stream(pair), batch_size=None),
    "a loader of a stream of batches": lambda: DataLoader(Stream(batch, 5), batch_size=None),
    "a loader of samples": lambda: DataLoader(PAIRS, batch_size=None),
    "a loader": lambda: DataLoader(PAIRS, 8),
    "a shuffling loader": lambda: DataLoader(PAIRS, 8, shuffle=True),
    "a shuffling loader that drops": lambda: DataLoader(PAIRS, 8, shuffle=True, drop_last=True),
    "a shuffling loader of samples": lambda: DataLoader(PAIRS, batch_size=None, shuffle=True),
    "a sampler of a subset": lambda: DataLoader(PAIRS, 8, sampler=SubsetRandomSampler(range(N))),
    "a batch sampler": lambda: DataLoader(
        PAIRS, batch_sampler=BatchSampler(RandomSampler(PAIRS), 3, False)
    ),
    "a data set": lambda: PAIRS,
    "a subset": lambda: Subset(PAIRS, range(N)),
    "samples": lambda: [pair(i) for i in range(N)],
    "a generator of samples": lambda: (pair(i) for i in range(N)),
    "a generator of batches": lambda: (batch(i) for i in range(5)),
    "NumPy samples": lambda: [(X[i].numpy(), np.int64(Y[i])) for i in range(N)],
    "mappings": lambda: DataLoader(Rows(lambda i: {"x": X[i], "label": int(Y[i])}), 8),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [None, 7])
def test_every_source_gives_its_samples_in_order(source: str, n: int | None) -> None:
    probes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        probes.append(Probe.of(SOURCES[source](), n))
    probe = probes[0]
    assert probe.digest == probes[1].digest  # whatever the generators were
    assert probe.n == (n or N)
    rows = (probe.features[:, 0] / 2).long()
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(probe.features, X[rows])
    assert torch.equal(probe.y, Y[rows])
    if "shuff" in source or "sampler" in source:  # some of all, not the first, which may be alike
        assert n is None or rows.tolist() != list(range(n))
    else:
        assert rows.tolist() == list(range(n or N))


def test_a_random_choice_or_augmentation_is_the_same_each_time() -> None:
    weighted = WeightedRandomSampler([1.0] * N, N)
    noisy = Rows(lambda i: (X[i] + torch.rand(2) + np.random.rand(), int(Y[i])))
    for make in (lambda: DataLoader(PAIRS, 8, sampler=weighted), lambda: DataLoader(noisy, 8)):
        torch.manual_seed(1)
        first = Probe.of(make())
        torch.manual_seed(2)
        assert Probe.of(make()).digest == first.digest


OF_THE_FILE = np.random.default_rng(0)


def jittered(value: Tensor) -> Tensor:
    return value + float(OF_THE_FILE.normal())


class Augmented(Dataset[tuple[Tensor, int]]):
    """Draws from a generator of its own, and from what its transform draws from."""

    shared = random.Random(0)

    def __init__(self, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        self.rng = np.random.RandomState(3)
        self.transform = transform

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = X[index] + float(self.rng.normal()) + self.shared.random()
        return (x if self.transform is None else self.transform(x)), int(Y[index])


class Jitter:
    __slots__ = ("generator",)

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def __call__(self, value: Tensor) -> Tensor:
        return value + torch.rand((), generator=self.generator)


def closing_over(rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    return lambda value: value + float(rng.normal())


def of_an_argument(rng: random.Random, value: Tensor) -> Tensor:
    return value + rng.random()


def collated(samples: list[tuple[Tensor, int]]) -> Any:
    return torch.utils.data.default_collate([(jittered(x), y) for x, y in samples])


TRANSFORMS: dict[str, Callable[[], Callable[[Tensor], Tensor] | None]] = {
    "none": lambda: None,
    "an object": Jitter,
    "a method": lambda: Jitter().__call__,
    "a closure": lambda: closing_over(np.random.default_rng(3)),
    "a partial": lambda: partial(of_an_argument, random.Random(3)),
    "a global": lambda: jittered,
    "a global in a lambda": lambda: lambda value: jittered(value) * 2,
}
HOLDERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda data: data,
    "a loader": lambda data: DataLoader(data, 5),
    "a shuffling loader": lambda data: DataLoader(data, 5, shuffle=True),
    "a loader that collates": lambda data: DataLoader(data, 5, collate_fn=collated),
    "a subset": lambda data: DataLoader(Subset(data, range(N)), 5),
    "several": lambda data: ConcatDataset([data, data]),
    "a stream": lambda data: Stream(data.__getitem__),
    "a generator": lambda data: (data[i] for i in range(N)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_no_generator_is_moved_by_reading(holder: str, transform: str) -> None:
    data = Augmented(TRANSFORMS[transform]())
    held = HOLDERS[holder](data)

    def after() -> list[float]:
        return [jittered(X[0])[0].item(), data.shared.random(), *data[0][0].tolist()]

    states = held_generators(data, jittered)
    watched = Generators(*states)
    before = watched.states()
    expected = after()
    watched.restore(before)
    first = Probe.of(held)
    assert after() == expected
    if holder != "a generator":  # which is read but once
        assert Probe.of(held).digest == first.digest


def test_what_has_no_end_needs_n() -> None:
    endless = Stream(lambda i: batch(0), float("inf"))
    for source in (endless, DataLoader(endless, batch_size=None), itertools.repeat(batch(0))):
        assert Probe.of(source, n=10).n == 10
    samples = (torch.zeros(4096, 2), torch.zeros(4096).long())
    with pytest.raises(InvalidInput, match=r"more come; say how many: data=Probe\.of\(data, n="):
        Probe.of(itertools.repeat(samples))


def test_what_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibtrace.probe.reading.MOST_BYTES", 100)
    read = []
    # mypy: append is called for what it does
    rows = Rows(lambda i: (read.append(i), X[i], 0)[1:])  # type: ignore[func-returns-value]
    with pytest.raises(InvalidInput, match=r"13 samples \(.*more come"):
        Probe.of(rows)
    assert len(read) == 13
    assert Probe.of(rows, n=12).n == 12


def tokens(length: int, left: bool = False) -> dict[str, Tensor]:
    """Six sequences of which half are one token shorter, padded with 9."""
    ids = torch.arange(6 * length).reshape(6, length) % 7
    mask = torch.ones(6, length).long()
    place = 0 if left else length - 1
    ids[:3, place], mask[:3, place] = 9, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(6) % 2}


@pytest.mark.parametrize("left", [False, True])
def test_batches_padded_to_their_own_longest_are_padded_to_the_longest(left: bool) -> None:
    parts = [tokens(length, left) for length in (5, 7, 6)]
    probe = Probe.of(parts)
    ids, mask = probe.inputs["input_ids"], probe.inputs["attention_mask"]
    assert ids.shape == mask.shape == (18, 7)
    assert (ids[mask == 0] == 9).all()
    real = torch.cat([part["input_ids"][part["attention_mask"] == 1] for part in parts])
    assert torch.equal(ids[mask == 1], real)
    padded_side = mask[:, 0] if left else mask[:, -1]
    assert padded_side.tolist().count(0) == 6 + 3 + 6


@pytest.mark.parametrize("left", [False, True])
def test_labels_of_tokens_are_padded_where_their_tokens_are(left: bool) -> None:
    parts = [tokens(length, left) for length in (5, 7, 6)]
    for part in parts:
        part["labels"] = part["input_ids"] + 1
    probe = Probe.of(parts)
    real = probe.inputs["attention_mask"] == 1
    assert torch.equal(probe.y[real], probe.inputs["input_ids"][real] + 1)
    assert (probe.y[~real] == -100).any()


def batches_of(*lengths: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.zeros(x, 2), torch.zeros(y).long()) for x, y in lengths]


def test_batches_have_a_label_for_each_sample() -> None:
    uneven = batches_of((8, 7), (8, 9))  # as many labels as samples, in all
    two: Any = [0, 1]
    with pytest.raises(InvalidInput, match="a batch has 8 samples and 7 labels; give each"):
        Probe.of(DataLoader(two, collate_fn=lambda i: uneven[i[0]]))
    with pytest.raises(InvalidInput, match=r"y has samples of shapes \(7,\) and \(9,\); give all"):
        Probe.of(uneven)
    names = [({"x": torch.zeros(4, 2)}, ["a", "b", "c"])] * 2
    with pytest.raises(InvalidInput, match="4 samples and 3 labels"):
        Probe.of(DataLoader(two, collate_fn=lambda i: names[i[0]]))
    longer = [{**tokens(n), "labels": torch.zeros(6, n + n % 2).long()} for n in (5, 6, 7)]
    with pytest.raises(InvalidInput, match="y has samples of shapes"):
        Probe.of(longer)  # whose tokens they are is not known


@pytest.mark.parametrize("kind", [lambda v: v, lambda v: v.numpy()])
@pytest.mark.parametrize("x", [X, X.long(), X[:, 0]])
def test_two_batches_of_x_are_no_x_and_y(x: Tensor, kind: Callable[[Tensor], Any]) -> None:
    for at in (10, 7):
        with pytest.raises(InvalidInput, match=r"a list of two alike, .*\(x, y\), or .*torch.cat"):
            Probe.of([kind(x[:at]), kind(x[at:])])
    assert Probe.of((kind(x), kind(x))).labelled  # said by a tuple: what is to be found again


UNPLAIN: dict[str, Callable[[], Any]] = {
    "csr_matrix": lambda: scipy.sparse.csr_matrix(X.numpy()),
    "coo_array": lambda: scipy.sparse.coo_array(X.numpy()),
    "nested": lambda: torch.nested.nested_tensor([X[:2], X[:1]]),
    "nested jagged": lambda: torch.nested.nested_tensor([X[:2], X[:1]], layout=torch.jagged),
}


@pytest.mark.parametrize("kind", UNPLAIN)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_what_has_no_plain_rows_is_one_line_wherever_it_stands(kind: str) -> None:
    value = UNPLAIN[kind]()
    match = "nested tensor; give torch.nested.to_padded" if "nested" in kind else "its toarray()"
    calls: list[Callable[[], Any]] = [
        *(lambda x=x: Probe(x, Y) for x in (value, {"a": value}, (value, X))),
        lambda: Probe(X, value),
        *(
            lambda data=data: Probe.of(data)
            for data in (
                value,
                (value, Y),
                (X, value),
                {"x": value, "y": Y},
                [value, Y],
                [value, value],
                [(value, Y)],
                [(X, value), (X, value)],
                [{"x": {"a": value}, "y": Y}],
            )
        ),
    ]
    if "nested" in kind:
        calls += [lambda: Probe([value, value], Y), lambda: Probe(X, [value, value])]
    for call in calls:
        with pytest.raises(InvalidInput, match=re.escape(match)) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_lists_of_tokens_are_put_together_with_their_mask() -> None:
    def make(i: int) -> dict[str, Any]:
        length = 1 + i % 3
        return {"input_ids": [1] * length, "attention_mask": [1] * length, "labels": i % 2}

    probe = Probe.of(Rows(make))
    assert probe.inputs["input_ids"].shape == (N, 3)
    assert probe.inputs["attention_mask"].sum(1).tolist() == [1 + i % 3 for i in range(N)]


def test_lists_of_one_length_are_not_turned_on_their_side() -> None:
    rows = Rows(lambda i: {"input_ids": [i, i + 1, i + 2], "labels": i % 2})
    probe = Probe.of(DataLoader(rows, 8))
    assert probe.inputs["input_ids"].tolist() == [[i, i + 1, i + 2] for i in range(N)]


def test_a_batch_of_hugging_face_is_a_mapping() -> None:
    BatchEncoding = pytest.importorskip("transformers").BatchEncoding
    data = {"input_ids": X.long(), "attention_mask": torch.ones(N, 2).long()}
    probe = Probe(BatchEncoding(data), Y)
    assert Probe.of([BatchEncoding({**data, "labels": Y})]).digest == probe.digest


@pytest.mark.parametrize(
    "data",
    [
        X,
        X.numpy(),
        DataLoader(TensorDataset(X), 8),
        DataLoader(Rows(lambda i: X[i]), 8),
        Rows(lambda i: X[i]),
        (X, None),
    ],
)
def test_inputs_alone_are_a_probe_without_labels(data: Any) -> None:
    probe = Probe.of(data)
    assert (probe.n, probe.label_kind, probe.labelled) == (N, "none", False)
    assert torch.equal(probe.features, X)
    assert probe.take(slice(4)).labelled is False


def test_mappings_without_labels_are_inputs() -> None:
    probe = Probe.of([{"input_ids": X.long()[:8]}, {"input_ids": X.long()[8:]}])
    assert (list(probe.inputs), probe.label_kind) == (["input_ids"], "none")
    whole = Probe.of({"input_ids": X.long(), "targets": Y})
    assert (list(whole.inputs), whole.label_kind) == (["input_ids"], "classes")


def test_text_beside_the_tokens_is_left_out_with_a_warning() -> None:
    rows = Rows(lambda i: {"input_ids": X[i], "text": f"text {i}", "labels": "ab"[i % 2]})
    for data in (rows, DataLoader(rows, 8)):
        with pytest.warns(UserWarning, match="text: text, left out"):
            probe = Probe.of(data)
        assert (list(probe.inputs), probe.class_names) == (["input_ids"], ("a", "b"))


def test_three_in_a_batch_are_named_and_a_generator_settles_it() -> None:
    loader = DataLoader(TensorDataset(X, 2 * X, Y), 8)
    with pytest.raises(InvalidInput, match=r"got list of 3; .* a generator of \(\(x, …\), y\)"):
        Probe.of(loader)
    probe = Probe.of(((a, b), y) for a, b, y in loader)
    assert [tuple(x.shape) for x in probe.inputs.values()] == [(N, 2), (N, 2)]
    assert torch.equal(probe.y, Y)


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ([(X[:4, :1], Y[:4]), (X[4:], Y[4:])], InvalidInput, r"shapes \(1,\) and \(2,\); give all"),
        ([{"a": X, "y": Y}, {"b": X, "y": Y}], InvalidInput, "different x: a; b; make all alike"),
        (DataLoader(Rows(lambda i: X[i % 2 :, 0]), 4), InvalidInput, "cannot put its samples"),
        (DataLoader(Rows(lambda i: (object(), 1)), 4), InvalidInput, "cannot put its samples"),
        ([], TooFewSamples, "empty data set"),
        ("a path", InvalidInput, "got str"),
        ((X, X, Y), InvalidInput, r"tuple of 3; give \(x, y\), x a tuple"),
        ([{"text": ["a"], "label": [1]}], InvalidInput, "no inputs"),
    ],
)
@pytest.mark.filterwarnings("ignore:Probe. text")
def test_what_cannot_be_read_is_one_line(data: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        Probe.of(data)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_data_set_is_its_own() -> None:
    def broken(i: int) -> Any:
        raise RuntimeError("file 3 is missing")

    with pytest.raises(RuntimeError, match="file 3 is missing"):
        Probe.of(DataLoader(Rows(broken), 4))

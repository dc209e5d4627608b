"""Labels are taken for what they are, in whatever form they come; where that is open, one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.datasets import Dataset, read_labels
from ibtrace.errors import IbtraceError, InvalidInput, NonFinite
from ibtrace.probe import Probe

IDS = [0, 1, 2, 1, 0, 2, 0, 0]
X = torch.arange(16.0).reshape(8, 2)
NAMES = ["ant", "bee", "cat"]
INTEGERS = [
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def as_tensor(kind: torch.dtype) -> Callable[[Any], Tensor]:
    return lambda values: torch.as_tensor(values).to(kind)


def masked(values: Any, mask: Any) -> Any:
    return np.ma.array(values, mask=mask)


FORMS: dict[str, Callable[[list[int]], Any]] = {
    **{str(kind): as_tensor(kind) for kind in [*INTEGERS, *FLOATS]},
    "list": lambda ids: ids,
    "tuple": tuple,
    "list of tensors": lambda ids: [torch.tensor(i) for i in ids],
    "range of floats": lambda ids: [float(i) for i in ids],
    "NumPy": np.array,
    "NumPy unmasked": lambda ids: np.ma.array(ids, mask=False),
    "NumPy big-endian": lambda ids: np.array(ids, dtype=">i4"),
    "NumPy unsigned": lambda ids: np.array(ids, dtype=np.uint32),
    "NumPy objects": lambda ids: np.array(ids, dtype=object),
    "Series after a split": lambda ids: pd.Series(ids, index=range(90, 90 - 7 * len(ids), -7)),
    "Series that may miss": lambda ids: pd.Series(ids, dtype="Int64"),
    "DataFrame": lambda ids: pd.DataFrame({"label": ids}),
    "column": lambda ids: torch.tensor(ids)[:, None],
    "column of floats": lambda ids: torch.tensor(ids)[:, None].float(),
    "one-hot": lambda ids: torch.eye(3)[ids],
    "one-hot integers": lambda ids: torch.eye(3).long()[ids],
    "one-hot Boolean": lambda ids: torch.eye(3).bool()[ids],
    "sparse": lambda ids: torch.eye(3)[ids].to_sparse(),
    "strings": lambda ids: [NAMES[i] for i in ids],
    "NumPy strings": lambda ids: np.array([NAMES[i] for i in ids]),
    "NumPy bytes": lambda ids: np.array([NAMES[i].encode() for i in ids]),
    "column of strings": lambda ids: np.array([[NAMES[i]] for i in ids]),
    "Series of strings": lambda ids: pd.Series(
        [NAMES[i] for i in ids], index=range(3, 3 + len(ids))
    ),
    "Series of pandas' strings": lambda ids: pd.Series([NAMES[i] for i in ids], dtype="string"),
    "Categorical": lambda ids: pd.Categorical([NAMES[i] for i in ids]),
    "Categorical in another order": lambda ids: pd.Categorical(
        [NAMES[i] for i in ids], categories=[*NAMES[::-1], "dog"]
    ),
    "Series of categories": lambda ids: pd.Series([NAMES[i] for i in ids]).astype("category"),
}


@pytest.mark.parametrize("form", FORMS)
def test_class_labels_are_the_same_ids_in_every_form(form: str) -> None:
    y = FORMS[form](IDS)
    probe = Probe(X, y)
    assert probe.labels.dtype == torch.int64
    assert probe.labels.tolist() == IDS
    assert probe.label_kind == "classes"
    assert probe.digest == Probe(X, torch.tensor(IDS)).digest
    named = any(word in form for word in ("string", "bytes", "ategor"))
    assert probe.class_names == (tuple(NAMES) if named else None)
    data = Dataset("ours", X, y)
    assert (data.y.tolist(), data.classes, data.class_names) == (IDS, 3, probe.class_names)
    assert Probe.of(data).class_names == probe.class_names


@pytest.mark.parametrize("kind", [torch.int8, torch.int32, torch.int64, *FLOATS])
@pytest.mark.parametrize("column", [False, True])
def test_minus_one_and_one_are_two_classes(kind: torch.dtype, column: bool) -> None:
    y = torch.tensor([-1, 1, 1, -1, 1, 1, -1, -1]).to(kind)
    probe = Probe(X, y[:, None] if column else y)
    assert probe.labels.tolist() == [0, 1, 1, 0, 1, 1, 0, 0]
    assert probe.class_names == ("-1", "1")


@pytest.mark.parametrize("kind", [torch.bool, *INTEGERS, *FLOATS])
def test_several_labels_of_a_sample_are_one_joint_label(kind: torch.dtype) -> None:
    rows = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]] * 2)
    probe = Probe(X, rows.to(kind))
    same = probe.labels[:, None] == probe.labels
    assert torch.equal(same, (rows[:, None] == rows).all(2))
    assert (probe.label_kind, probe.label_entropy) == ("joint", 1.5)


@pytest.mark.parametrize("classes", [None, 40, 0])
def test_whole_numbered_floats_are_classes_where_they_are_few_or_it_is_said(
    classes: int | None,
) -> None:
    x = torch.randn(40, 2)
    few, many = torch.arange(40.0) % 4, torch.arange(40.0)
    assert Probe(x, few, classes).discrete == (classes != 0)
    assert Probe(x, many, classes).discrete == (classes == 40)
    if classes == 0:
        assert Probe(x, few.long(), classes).labels.shape == (40, 1)


def test_what_was_read_once_is_not_read_again() -> None:
    probe = Probe(torch.arange(40.0)[:, None], torch.arange(40.0))  # numbers, 40 of them
    part = probe.take(torch.tensor([0, 0, 0, 1, 1, 1]))  # of which these might be classes
    assert not part.discrete
    named = Probe(X, [NAMES[i] for i in IDS]).take(slice(2))
    assert named.class_names == tuple(NAMES)


@pytest.mark.parametrize("values", [[10, 2], [-5, 3], [0.5, 0.25]])
def test_categories_that_are_numbers_are_classes_in_their_order(values: list[float]) -> None:
    labels = read_labels(pd.Series(values * 4).astype("category"))
    assert labels.values.tolist() == [sorted(values).index(v) for v in values] * 4
    assert labels.names == tuple(map(str, sorted(values)))


def test_names_may_be_given_in_order() -> None:
    assert Probe(X, ["low", "high"] * 4, ["low", "high"]).labels.tolist() == [0, 1] * 4
    assert Probe(X, [0, 1] * 4, ["low", "high"]).class_names == ("low", "high")
    with pytest.raises(InvalidInput, match="'mid', which classes= does not name"):
        Probe(X, ["low", "mid"] * 4, ["low", "high"])


COUNTS: list[Callable[[int], Any]] = [
    *(int, np.int64, np.uint8, torch.tensor, np.array),
]


@pytest.mark.parametrize("kind", COUNTS)
def test_classes_may_be_an_integer_of_any_kind(kind: Callable[[int], Any]) -> None:
    many = torch.arange(8.0)
    assert not Probe(X, many.long(), kind(0)).discrete
    probe = Probe(X, many, kind(9))
    assert (probe.discrete, probe.classes) == (True, 9)
    with pytest.raises(InvalidInput, match=r"class ids must be 0\.\.6"):
        Probe(X, many, kind(7))


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index, pd.Series, pd.Categorical])
def test_names_may_be_a_sequence_of_any_kind(kind: Callable[[Any], Any]) -> None:
    names = kind(["low", "high"])
    for y in (["low", "high"] * 4, [0, 1] * 4):
        probe = Probe(X, y, names)
        assert (probe.labels.tolist(), probe.class_names) == ([0, 1] * 4, ("low", "high"))
        given: Any = y
        assert Dataset("ours", X, given, class_names=names).y.tolist() == [0, 1] * 4


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        *((bad, "give an integer .* or a list of names") for bad in (2.0, True, "ab", object())),
        *((bad, "give an integer .* or a list of names") for bad in ({"a": 0}, {"a"}, np.eye(2))),
        (np.bool_(True), "give an integer"),
        (torch.tensor(2.0), "give an integer"),
        (-1, "classes=-1; give 1 or more"),
        (np.int64(-1), "classes=-1; give 1 or more"),
        (["a", "a"], "names 'a' twice"),
        (np.array(["b", "a", "b"]), "names 'b' twice"),
        (["a", None], "classes has 1 missing"),
        ([], "no names"),
    ],
)
@pytest.mark.parametrize("y", [["a", "b"] * 4, [0, 1] * 4, torch.rand(8)], ids=["a", "0", ".5"])
def test_classes_that_say_nothing_plain_are_one_line(y: Any, classes: Any, match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        Probe(X, y, classes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [list, np.array, pd.Series, pd.Categorical])
def test_names_are_as_many_as_it_is_said(form: Callable[[Any], Any]) -> None:
    y = form(["a", "b"] * 4)
    assert Probe(X, y, 2).class_names == ("a", "b")
    with pytest.raises(InvalidInput, match="y has 2 names, but classes=3 means 3 classes; leave"):
        Probe(X, y, 3)
    with pytest.raises(InvalidInput, match="y has 2 names, but classes=0 means numbers; leave"):
        Probe(X, y, 0)


@given(st.lists(st.text(max_size=3), min_size=2, max_size=20))
def test_names_are_given_back_by_their_ids(names: list[str]) -> None:
    labels = read_labels(names)
    assert labels.names is not None
    assert [labels.names[i] for i in labels.values.tolist()] == names
    assert list(labels.names) == sorted(set(names))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.sampled_from(INTEGERS))
def test_ids_stay_as_they_are(ids: list[int], kind: torch.dtype) -> None:
    values = read_labels(torch.tensor(ids).to(kind)).values
    assert (values.dtype, values.tolist()) == (torch.int64, ids)


BAD: list[tuple[str, Any, type[IbtraceError], str]] = [
    ("missing name", ["a", None] * 4, InvalidInput, "4 missing values; remove"),
    ("missing id", pd.Series([0, None] * 4, dtype="Int64"), IbtraceError, "4 (missing|NaN)"),
    ("missing number", [0.5, float("nan")] * 4, NonFinite, "4 NaN or infinite"),
    ("missing category", pd.Categorical(["a", None] * 4), InvalidInput, "4 missing values"),
    ("mixed", np.array([1, "a"] * 4, dtype=object), InvalidInput, "mixes int, str; make"),
    ("mixed list", ["a", 1] * 4, InvalidInput, "mixes int, str; make"),
    ("mixed list, a number first", [1.5, "a"] * 4, InvalidInput, "mixes float, str; make"),
    ("mixed column", [["a"], [1]] * 4, InvalidInput, "mixes int, str; make"),
    ("a flag among names", [True, "a"] * 4, InvalidInput, "mixes bool, str; make"),
    ("bytes among names", [b"a", "a"] * 4, InvalidInput, "mixes bytes, str; make"),
    ("NaN among names", ["a", float("nan")] * 4, InvalidInput, "4 missing values; remove"),
    ("NaN before names", [np.nan, "a"] * 4, InvalidInput, "4 missing values; remove"),
    ("NaN in a column", [["a"], [np.nan]] * 4, InvalidInput, "4 missing values; remove"),
    ("masked", masked(IDS, [1, 0] * 4), InvalidInput, "4 masked values; remove"),
    (
        "masked rows",
        [np.ma.array([0.5, i], mask=[i == 1, False]) for i in IDS],
        InvalidInput,
        "y has 2 masked values; remove",
    ),
    ("all of them -1", [-1] * 8, InvalidInput, r"got -1\.\.-1; remove"),
    ("all of them -1.0", torch.full((8,), -1.0), InvalidInput, r"got -1\.\.-1; remove"),
    ("two columns of names", pd.DataFrame({"a": NAMES, "b": NAMES}), InvalidInput, r"shape \(3, 2"),
    ("dates", pd.Series(pd.date_range("2020", periods=8)), InvalidInput, "datetime64.*give class"),
    ("complex", torch.ones(8, dtype=torch.complex64), InvalidInput, "complex; give"),
    ("ragged", [[1, 2], [1]] * 4, InvalidInput, "cannot be made an array"),
    ("tensors that differ", [torch.ones(1), torch.ones(2)], InvalidInput, "differ in shape; give"),
    ("one number", 3, InvalidInput, "one value for each sample, got 3"),
    (
        "a generator",
        (i for i in range(8)),
        InvalidInput,
        "one value for each sample, got generator",
    ),
    ("objects", [{}, {}], InvalidInput, "holds dict; give"),
    ("unlabelled ids", torch.tensor([-100, 0, 1, 2] * 2), InvalidInput, r"got -100\.\.2; remove"),
    ("huge ids", torch.tensor([2**63] * 8, dtype=torch.uint64), InvalidInput, r"2\*\*63 or more"),
    ("images", torch.rand(8, 2, 2), InvalidInput, r"\(8, 2, 2\); y.flatten\(1\) makes it so"),
]


@pytest.mark.parametrize(("y", "error", "match"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_labels_without_a_plain_meaning_are_one_line(
    y: Any, error: type[IbtraceError], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        Probe(X, y)
    assert "\n" not in str(caught.value)
    assert "argmax" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "classes", "match"),
    [
        (torch.tensor([0, 1, 2, 3] * 2), 3, r"0\.\.2, got 0\.\.3$"),
        (torch.tensor([1, 2, 3, 3] * 2), 3, "ids count from 0: y - 1"),
        (torch.rand(8), 3, "not whole-numbered; leave classes out"),
    ],
)
def test_labels_must_fit_the_classes(y: Tensor, classes: int, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        Probe(X, y, classes)


@pytest.mark.parametrize("shape", [(8, 5), (8, 4, 4)])
def test_labels_of_tokens_or_pixels_are_no_label_of_the_sample(shape: tuple[int, ...]) -> None:
    y = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(0))
    probe = Probe(X, y)
    assert probe.label_kind == "tokens"
    with pytest.raises(InvalidInput, match=r"reduce='tokens'.*one id a sample.*return_inverse"):
        _ = probe.labels


INPUTS: dict[str, Callable[[Tensor], Any]] = {
    **{str(kind): as_tensor(kind) for kind in [*INTEGERS, *FLOATS]},
    "list": lambda x: x.tolist(),
    "list of tensors": list,
    "NumPy": lambda x: x.numpy(),
    "NumPy doubles": lambda x: x.double().numpy(),
    "DataFrame": lambda x: pd.DataFrame(x.numpy(), index=range(5, 5 + len(x))),
    "DataFrame of objects": lambda x: pd.DataFrame(x.numpy().astype(object)),
    "sparse": lambda x: x.to_sparse(),
    "with a gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("form", INPUTS)
def test_inputs_are_the_same_numbers_in_every_form(form: str) -> None:
    probe = Probe(INPUTS[form](X), IDS)
    assert torch.equal(probe.features.double(), X.double())
    assert not probe.features.requires_grad
    assert len(probe.x_ids.unique()) == 8
    assert probe.take(torch.tensor([1, 3])).features.tolist() == X[[1, 3]].tolist()


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (["a text"] * 8, "words or objects; give numbers: tokens"),
        (pd.DataFrame({"a": NAMES}), "words or objects"),
        (X.to(torch.complex64), "complex; give"),
        ({1, 2}, "x is a set; give a tensor"),
        ([torch.ones(1), torch.ones(2)], "different shapes; give a tuple"),
        (np.ma.array(X.numpy(), mask=X.numpy() > 14), "x has 1 masked values; remove"),
        ({"a": masked(IDS, [0, 1] * 4)}, "a has 4 masked values; remove"),
        (None, "no tensor of the samples"),
        (np.array(["2020"] * 8, dtype="datetime64[Y]"), "datetime64"),
    ],
)
def test_inputs_that_are_no_numbers_are_one_line(x: Any, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        Probe(x, IDS)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint32])
def test_integers_that_nearly_all_differ_are_no_classes_unless_told(dtype: type) -> None:
    money = 200_000 + 50_000 * np.random.default_rng(0).normal(size=1000)
    dollars: Any = money.round().astype(dtype)
    for given_ids in (dollars, dollars[:, None], torch.from_numpy(dollars.astype(np.int64))):
        with pytest.raises(InvalidInput, match=r"integers of \d+ values in 1000 samples, hardly"):
            read_labels(given_ids)
        assert read_labels(given_ids, classes=0).values.is_floating_point()
    assert not read_labels(dollars, classes=10**6).values.is_floating_point()
    assert read_labels(np.arange(100)).values.tolist() == list(range(100))
    assert len(read_labels(np.arange(1000) % 400).values) == 1000

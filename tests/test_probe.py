"""A probe is fixed, checked when made, and computes what depends on X alone once."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ibtrace.capture import Look
from ibtrace.datasets import Dataset
from ibtrace.errors import InvalidInput, NonFinite, TooFewSamples
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from tests.arguments import grouped

X = torch.arange(12.0).reshape(6, 2)
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def test_later_changes_to_the_callers_tensors_do_not_reach_the_probe() -> None:
    x, y = X.clone(), Y.clone()
    probe = Probe(x, y)
    before = probe.digest
    x.zero_()
    y.zero_()
    assert torch.equal(probe.inputs[""], X)
    assert torch.equal(probe.y, Y)
    assert Probe(probe.x, probe.y).digest == before


@pytest.mark.parametrize(
    ("x", "y"), [(X + 1e-6, Y), (X, Y.flip(0)), (X.double(), Y), (X.reshape(6, 2, 1), Y)]
)
def test_the_digest_tells_any_other_data(x: Tensor, y: Tensor) -> None:
    assert Probe(x, y).digest != Probe(X, Y).digest


def test_entropies_of_inputs_and_labels() -> None:
    probe = Probe(torch.tensor([[0.0], [0.0], [1.0], [1.0], [2.0], [2.0]]), Y)
    assert probe.input_entropy == pytest.approx(torch.log2(torch.tensor(3.0)).item())
    assert probe.label_entropy == pytest.approx(torch.log2(torch.tensor(3.0)).item())
    assert probe.x_ids.tolist()[::2] != probe.x_ids.tolist()[0:1] * 3
    assert len(probe.x_ids.unique()) == 3


def test_continuous_targets_become_columns_and_tokens_become_features() -> None:
    probe = Probe(torch.tensor([[1, 2], [3, 4]]), torch.tensor([0.5, 1.5]))
    assert probe.labels.shape == (2, 1)
    assert probe.features.dtype == torch.float32
    assert not probe.discrete


def test_what_is_cached_is_computed_once() -> None:
    calls: list[int] = []
    probe = Probe(X, Y)
    for _ in range(3):
        # mypy: append is called for what it does
        assert probe.cached("key", lambda: calls.append(1) or 7) == 7  # type: ignore[func-returns-value]
    assert calls == [1]


def test_draw_is_seeded_keeps_order_and_leaves_the_global_generator() -> None:
    x, y = torch.arange(100.0)[:, None], torch.arange(100)
    state = torch.get_rng_state()
    first, again, other = (Probe.draw(x, y, 10, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.digest == again.digest != other.digest
    assert torch.equal(first.features[:, 0].long(), first.y)
    assert torch.equal(first.y, first.y.sort().values)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((X, Y[:4]), InvalidInput, r"x \(6, 2\) and y \(4,\)"),
        ((X[:1], Y[:1]), TooFewSamples, "at least 2 samples, got 1"),
        ((X.log(), Y), NonFinite, "x has 1 NaN or infinite"),
        ((X, torch.full((6,), torch.nan)), NonFinite, "y has 6 NaN or infinite"),
        ((X, Y - 1), InvalidInput, r"0 or more, got -1\.\.1"),
        ((X, Y, 2), InvalidInput, r"must be 0\.\.1, got 0\.\.2"),
        ((X, torch.zeros(6, 2, 2)), InvalidInput, r"\(n, dy\)"),
    ],
)
def test_bad_data_is_one_clear_error(
    arguments: tuple[Any, ...], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Probe(*arguments)


def test_drawing_more_than_there_is_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="7 samples are wanted of 6"):
        Probe.draw(X, Y, 7)


def test_inputs_by_name_are_one_x() -> None:
    tokens = torch.tensor([[1, 2, 0], [3, 4, 5], [1, 2, 0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    probe = Probe({"input_ids": tokens, "attention_mask": mask}, torch.tensor([0, 1, 0]))
    assert probe.features.shape == (3, 6)
    assert probe.x_ids[0] == probe.x_ids[2] != probe.x_ids[1]
    (stream,) = probe.streams
    assert stream.inputs == ("input_ids",)
    assert stream.tokens(probe.n).sum() == 7
    other = Probe({"input_ids": mask, "attention_mask": tokens}, probe.y)
    assert other.digest != probe.digest
    assert probe.take(slice(2)).inputs["input_ids"].shape == (2, 3)


class Pairs(TorchDataset[tuple[Tensor, Tensor]]):
    """Augmented with every generator there is, as real data sets are."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        jitter = torch.rand(2) + np.random.rand() + random.random()
        return X[index] + 0 * jitter.float(), Y[index]


def hugging_face_sample(i: int) -> dict[str, Any]:
    return {"input_ids": X[i], "attention_mask": torch.ones(2), "labels": int(Y[i])}


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        Pairs(),
        DataLoader(Pairs(), batch_size=4),
        DataLoader(Pairs(), batch_size=2, num_workers=1, persistent_workers=True),
        [(X[:2], Y[:2]), (X[2:], Y[2:])],
        Dataset("ours", X, Y, 3),
        Probe(X, Y),
    ],
)
def test_whatever_holds_the_samples_is_a_probe(data: Any) -> None:
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    probe = Probe.of(data)
    after = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert isinstance(probe.x, Tensor)  # with nothing to name it, x is not a mapping
    assert torch.equal(probe.features, X)
    assert torch.equal(probe.y, Y)
    assert Probe.of(data, n=4).n == 4


def test_a_shuffled_loaders_own_generator_is_restored() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(Pairs(), batch_size=4, shuffle=True, generator=generator)
    before = generator.get_state()
    probe = Probe.of(loader)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(probe.features[probe.features[:, 0].argsort()], X)


def test_mappings_with_labels_are_the_models_arguments() -> None:
    probe = Probe.of(HuggingFace())
    assert list(probe.inputs) == ["input_ids", "attention_mask"]
    assert torch.equal(probe.inputs["input_ids"], X)
    assert torch.equal(probe.y, Y)


class HuggingFace(TorchDataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return hugging_face_sample(index)


@pytest.mark.parametrize(
    ("data", "n", "match"),
    [
        (7, None, "got int"),
        ([(X, Y, Y)], None, "got list of 3|got tuple of 3"),
        ((X, Y), 7, "7 samples are wanted of 6"),
        ([], None, "empty data set"),
        (({}, Y), None, "holds no tensor"),
    ],
)
def test_what_cannot_be_a_probe_is_named(data: Any, n: int | None, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        Probe.of(data, n)


class Tagger(nn.Module):
    """Tokens in, a vector and a class for each token out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.act = nn.Embedding(9, 2), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.act(self.embedding(input_ids))
        return out


def sentences() -> tuple[dict[str, Tensor], Tensor]:
    """Tokens 1 to 8 of which the last of every other sentence is padding; labelled by parity."""
    ids = torch.randint(1, 9, (40, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[::2, -1] = mask[::2, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}, torch.where(mask == 1, ids % 2, -100)


def test_labels_of_tokens_are_measured_on_tokens() -> None:
    x, y = sentences()
    model = Tagger()
    tracer = Tracer(model, (x, y), look=Look(layers=["act"], reduce="tokens"), estimators=["exact"])
    row = tracer.trace.frame().set_index("quantity").bits
    real = x["input_ids"][x["attention_mask"] == 1]
    # an embedding holds which token it was given, and so its parity
    shares = {q: torch.bincount(v).double() / len(v) for q, v in (("x", real), ("y", real % 2))}
    entropy = {q: -float(torch.xlogy(p, p).sum()) / math.log(2) for q, p in shares.items()}
    assert row["I(X;T)"] == pytest.approx(entropy["x"])
    assert row["I(T;Y)"] == pytest.approx(entropy["y"])
    with pytest.raises(InvalidInput, match="reduce='tokens'"):
        Tracer(model, (x, y), look=["act"], estimators=["exact"])


def test_a_token_that_counts_has_a_label() -> None:
    x, y = sentences()
    y[1, 0] = -100
    with pytest.raises(InvalidInput, match="1 real tokens have a negative label; give them"):
        Tracer(Tagger(), (x, y), look=Look(layers=["act"], reduce="tokens"), estimators=["exact"])


FIVE = torch.randn(64, 5, 4, generator=torch.Generator().manual_seed(0))
MARKED = nn.functional.one_hot(torch.arange(64) % 5, 5)  # one token of each sequence


def of_tokens(y: Tensor, **arguments: Any) -> Any:
    given = {"estimators": ["exact"], "reduce": "tokens", "layers": ["0"], **arguments}
    tracer = Tracer(nn.Sequential(nn.Tanh()), (FIVE, y), **grouped(**given))
    return tracer.trace.frame().set_index("quantity").bits["I(T;Y)"]


@pytest.mark.parametrize(
    ("y", "match"),
    [
        *(
            (MARKED.to(kind), r"one-hot rows of 5, .*y.argmax\(1\) for a class .* y.long\(\) \+ 1")
            for kind in (torch.int64, torch.int8, torch.bool, torch.float32)
        ),
        (2 * MARKED - 1, r"one-hot rows of 5"),
        (MARKED.float().to_sparse(), r"one-hot rows of 5"),
        (torch.arange(320.0).reshape(64, 5) % 3, r"rows of 5 numbers, .*y.long\(\) for a class"),
        (FIVE[..., 0], r"rows of 5 numbers, .*reduce='token:mean'"),
    ],
)
def test_labels_that_may_be_the_sequences_or_the_tokens_are_asked_about(
    y: Tensor, match: str
) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        of_tokens(y)
    assert "\n" not in str(caught.value)
    # where tokens are no samples, it is no question
    assert of_tokens(y, reduce="flatten", estimators=["binning"]) >= 0


def test_labels_of_tokens_and_of_sequences_are_what_the_errors_say() -> None:
    each = -(0.2 * math.log2(0.2) + 0.8 * math.log2(0.8))
    sequence = torch.bincount(MARKED.argmax(1)).double() / 64
    assert of_tokens(MARKED.long() + 1) == pytest.approx(each)
    assert of_tokens(MARKED.argmax(1)) == pytest.approx(-float(sequence @ sequence.log2()))
    ids = torch.arange(320.0).reshape(64, 5) % 3
    assert of_tokens(ids.long()) == pytest.approx(math.log2(3), abs=1e-4)
    four = nn.functional.one_hot(torch.arange(64) % 4, 4)  # there are no four tokens
    assert of_tokens(four) == pytest.approx(2.0)


def test_several_labels_are_measured_as_one_and_classes_are_remembered() -> None:
    x = torch.eye(8)
    rows = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]] * 2)
    model = nn.Identity()
    frame = Tracer(model, (x, rows), estimators=["exact"]).trace.frame()
    assert frame.set_index("quantity").bits["I(T;Y)"] == pytest.approx(2.0)
    trace = Tracer(model, (x, ["yes", "no"] * 4), estimators=["exact"]).trace
    assert trace.meta["class_names"] == ["no", "yes"]
    assert trace.meta["label_entropy"] == 1.0


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool])
def test_a_model_that_gives_classes_is_traced(kind: torch.dtype) -> None:
    class Decides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x[:, 0] > 0).to(kind)

    x = torch.tensor([[-1.0], [1.0], [2.0], [-3.0]] * 5)
    tracer = Tracer(Decides(), (x, (x[:, 0] > 0).long()), estimators=["exact", "binning"])
    assert tracer.trace.frame().bits.tolist() == pytest.approx([1.0] * 4)

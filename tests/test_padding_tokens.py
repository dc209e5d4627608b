"""Padding that no mask says, which a model finds by its own tokens: seen, or said."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, looks, read_layers
from ibtrace.errors import ConfigError, InvalidInput, RunError
from ibtrace.probe import Probe
from ibtrace.tracer import Keep, Tracer

N, LENGTH, KINDS = 60, 9, 12


def real(*, left: bool = False) -> Tensor:
    lengths = torch.randint(2, LENGTH + 1, (N, 1), generator=torch.Generator().manual_seed(1))
    tokens = torch.arange(LENGTH) < lengths
    return tokens.flip(1) if left else tokens


def ids(pad: int = 0, *, left: bool = False) -> Tensor:
    drawn = torch.randint(1, KINDS, (N, LENGTH), generator=torch.Generator().manual_seed(2))
    drawn[drawn == pad] = 0
    return torch.where(real(left=left), drawn, pad)


def vectors() -> Tensor:
    drawn = torch.randn(N, LENGTH, 3, generator=torch.Generator().manual_seed(3))
    return drawn * real()[..., None]


Y = torch.arange(N) % 2


class Attending(nn.Module):
    """Masks in its forward what is padding by its id, and pools the rest."""

    def __init__(self, pad: int = 0) -> None:
        super().__init__()
        self.pad, self.embed = pad, nn.Embedding(KINDS, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        padding = x == self.pad
        hidden = self.block(self.embed(x), src_key_padding_mask=padding)
        pooled = hidden.masked_fill(padding[..., None], 0).sum(1) / (~padding).sum(1, keepdim=True)
        out: Tensor = self.head(pooled)
        return out


class Recurrent(nn.Module):
    """Masks nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Embedding(KINDS, 8), nn.GRU(8, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(self.embed(x))[0][:, -1]
        return out


class OfVectors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.GRU(3, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)[0][:, -1]
        return out


@contextmanager
def said(words: str) -> Iterator[None]:
    """Within, this is warned of; where there are no words, nothing is."""
    if words:
        with pytest.warns(UserWarning, match=words):
            yield
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield


def seen(model: nn.Module, probe: Probe, **options: Any) -> Tensor:
    """T of the block."""
    look = Look(layers="block", **options)
    parts = list(looks(model, probe, look, evidence=read_layers(model, probe, look)))
    return parts[0]["block"].values


def mean(model: nn.Module, x: Tensor, tokens: Tensor) -> Tensor:
    """Of the block's output over real tokens, one sequence at a time."""
    outputs: list[Tensor] = []
    handle = model.get_submodule("block").register_forward_hook(
        lambda _m, _a, out: outputs.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        model.eval()(x)
    handle.remove()
    pairs = zip(outputs[0].double(), tokens, strict=True)
    return torch.stack([value[row].mean(0) for value, row in pairs]).float()


CASES: dict[str, tuple[Any, Tensor, Tensor]] = {
    "ids": (Attending, ids(), real()),
    "another id": (lambda: Attending(7), ids(7), real()),
    "on the left": (Attending, ids(left=True), real(left=True)),
    "a model without a mask": (Recurrent, ids(), real()),
    "small whole numbers": (Recurrent, ids().int(), real()),
    "vectors": (OfVectors, vectors(), real()),
}


@pytest.mark.parametrize("case", CASES)
def test_padding_is_left_out_of_the_mean_and_said(case: str) -> None:
    make, x, tokens = CASES[case]
    model = make()
    with said("stands only where sequences of x end"):
        probe = Probe(x, Y)
    t = seen(model, probe)
    torch.testing.assert_close(t, mean(model, x, tokens))
    with said(""):
        plain = Probe(x, Y, padding=None)
    t = seen(model, plain)
    torch.testing.assert_close(t, mean(model, x, torch.ones_like(tokens)))


def test_an_id_that_is_given_is_left_out_wherever_it_stands() -> None:
    x = ids()
    x[:, 1] = 0  # as "x == 0" has it
    with said(""):
        assert Probe(x, Y).padding == {}  # then its place does not tell
        probe = Probe(x, Y, padding=0)
    model = Attending()
    t = seen(model, probe)
    torch.testing.assert_close(t, mean(model, x, x != 0))
    assert probe.take(slice(10)).padding == probe.to("cpu").padding == {"": 0.0}


def test_each_real_token_is_a_sample() -> None:
    probe = Probe(ids(), Y, padding=0)
    assert len(seen(Attending(), probe, reduce="tokens")) == int(real().sum())


def test_inputs_have_their_own_padding_and_masks_theirs() -> None:
    x = {"src": ids(), "tgt": ids(3)}
    with said("0 stands only .* src .*|3 stands only .* tgt"):
        assert Probe(x, Y).padding == {"src": 0.0, "tgt": 3.0}
    assert Probe(x, Y, padding={"tgt": 3}).padding == {"tgt": 3.0}
    masked = {"input_ids": ids(), "attention_mask": real().long()}
    with said(""):
        probe = Probe(masked, Y)
    assert probe.padding == {}
    assert torch.equal(probe.streams[0].tokens(N), real())


def test_a_number_of_tokens_that_is_not_read_is_settled_by_the_id() -> None:
    x = {"tokens": ids(), "lengths": real().sum(1)}
    assert Probe(x, Y).streams[0].unclear
    stream = Probe(x, Y, padding=0).streams[0]
    assert not stream.unclear
    assert torch.equal(stream.tokens(N), real())


GENERATOR = torch.Generator().manual_seed(4)
NO_PADDING: dict[str, Tensor] = {
    "tokens": torch.randint(0, KINDS, (N, LENGTH), generator=GENERATOR),
    "many kinds of tokens": torch.randint(0, 30_000, (N, LENGTH), generator=GENERATOR),
    "bits": torch.randint(0, 2, (N, LENGTH), generator=GENERATOR),
    "a thermometer": (torch.arange(LENGTH) < torch.arange(N)[:, None] % LENGTH).long(),
    "an end of sentence": torch.cat([ids()[:, :5].clamp(1), torch.full((N, 1), 0)], 1),
    "all of one length": torch.cat([ids()[:, :5].clamp(1), torch.full((N, 3), 0)], 1),
    "sorted": torch.randint(0, 5, (N, LENGTH), generator=GENERATOR).sort().values,
    "pairs": torch.cartesian_prod(torch.arange(8), torch.arange(8))[:N],
    "features": torch.randn(N, LENGTH, generator=GENERATOR) * real(),
    "images": torch.nn.functional.pad(torch.rand(N, 5, 9, generator=GENERATOR), (0, 0, 2, 2)),
    "bools": real(),
}


@pytest.mark.parametrize("name", NO_PADDING)
def test_what_only_looks_like_padding_is_none(name: str) -> None:
    with said(""):
        probe = Probe(NO_PADDING[name], Y)
    assert probe.padding == {}
    assert not any(stream.padded for stream in probe.streams)


@pytest.mark.parametrize("padding", [True, "0", float("nan"), [0], {"": "0"}, {"mask": 0}, b"0"])
def test_what_is_no_padding_is_refused(padding: Any) -> None:
    with pytest.raises(ConfigError, match="Probe: padding"):
        Probe(ids(), Y, padding=padding)


def test_a_wrong_id_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no token is 99; padding=None if none is"):
        Probe(ids(), Y, padding=99)


def test_a_run_holds_one_padding_and_gives_it_back(tmp_path: Path) -> None:
    keep = Keep(tmp_path, activations=True)
    given: dict[str, Any] = {"estimators": "binning", "look": "block"}
    with Tracer(Attending(), Probe(ids(), Y, padding=0), keep=keep, **given) as tracer:
        pass
    again = tracer.trace.probe()
    assert again.padding == {"": 0.0}
    assert torch.equal(again.streams[0].tokens(N), real())
    with pytest.raises(RunError, match=r"with padding \{'': 0\.0\}, not \{\}"):
        Tracer(Attending(), Probe(ids(), Y, padding=None), keep=keep, seed=1, **given)


class Packed(nn.Module):
    """Runs its recurrent layer over packed sequences, as long as the ids say."""

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__()
        self.embed, self.block = nn.Embedding(KINDS, 8), nn.GRU(8, 5, batch_first=True)
        self.whole, self.head = whole, nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Any:
        lengths = (x != 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(x), lengths, batch_first=True, enforce_sorted=False
        )
        out, last = self.block(packed)
        return out if self.whole else self.head(last[-1])


@pytest.mark.parametrize("layer", ["block", "block[0]", "output"])
def test_packed_sequences_are_sequences(layer: str) -> None:
    model = Packed(whole=True)
    probe = Probe(ids(), Y, padding=0)
    assert int(real().sum(1).max()) == LENGTH
    with Tracer(model, probe, estimators="exact", look=Look(layers=layer)) as tracer:
        record = tracer.trace.meta["captured"][layer]
    assert (record["shape"], record["variable"]) == ([LENGTH, 5], "token:mean")
    look = Look(layers=layer)
    t = next(looks(model, probe, look, evidence=read_layers(model, probe, look)))[layer].values
    with torch.no_grad():
        steps = [model.block(model.embed(row[keep])[None])[0][0] for row, keep in rows()]
    torch.testing.assert_close(t, torch.stack([each.double().mean(0) for each in steps]).float())


def rows() -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(ids(), real(), strict=True)


def test_by_default_the_last_state_and_the_steps_of_packed_sequences() -> None:
    tracer = Tracer(Packed(), Probe(ids(), Y, padding=0), estimators="exact")
    captured = tracer.trace.meta["captured"]
    assert {name: record["variable"] for name, record in captured.items()} == {
        "block[1][0]": "",
        "block": "token:mean",
        "output": "",
    }

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
from ibtrace.errors import ConfigError, InvalidInput, PaddingGuessed, RunError
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
        lambda _m, _a, out: (
            outputs.append(out[0] if isinstance(out, tuple) else out.mT)
            if isinstance(out, tuple) or isinstance(model, Rolled)
            else outputs.append(out)
        )
    )
    with torch.no_grad():
        model.eval()(x)
    handle.remove()
    pairs = zip(outputs[0].double(), tokens, strict=True)
    return torch.stack([value[row].mean(0) for value, row in pairs]).float()


class Rolled(nn.Module):
    """Convolves numbers along time, ``(n, c, t)``."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv1d(3, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x).amax(2)
        return out


class OfSeries(nn.Module):
    """A recurrent layer over single numbers, ``(n, t)``."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.GRU(1, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x[..., None].float())[0][:, -1]
        return out


def started() -> Tensor:
    """A decoder's inputs, which begin with the id that pads them."""
    return torch.cat([torch.zeros(N, 1, dtype=torch.long), ids()[:, :-1]], 1)


def centred() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    begin = torch.randint(0, 4, (N, 1), generator=generator)
    length = torch.randint(2, 6, (N, 1), generator=generator)
    at = torch.arange(LENGTH)
    tokens = (at >= begin) & (at < begin + length)
    return torch.where(tokens, ids().clamp(1), 0), tokens


def odd() -> tuple[Tensor, Tensor]:
    """The id that pads stands inside one text."""
    x = ids()
    x[7] = torch.tensor([3, 0, 5, 2, 1, 9, 0, 0, 0])
    return x, x != 0


def few() -> tuple[Tensor, Tensor]:
    x, tokens = ids().clamp(1), torch.ones(N, LENGTH, dtype=torch.bool)
    tokens[3, 6:], tokens[8, 4:] = False, False
    return torch.where(tokens, x, 0), tokens


FLOATS = torch.randn(N, LENGTH, generator=torch.Generator().manual_seed(6)) * real()


class OfChannel(OfSeries):
    """The same, of ``(n, 1, t)``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, 0])


def real_after_a_first() -> Tensor:
    return torch.cat([torch.ones(N, 1, dtype=torch.bool), real()[:, :-1]], 1)


CASES: dict[str, tuple[Any, Tensor, Tensor]] = {
    "ids": (Attending, ids(), real()),
    "another id": (lambda: Attending(7), ids(7), real()),
    "on the left": (Attending, ids(left=True), real(left=True)),
    "a model without a mask": (Recurrent, ids(), real()),
    "small whole numbers": (Recurrent, ids().int(), real()),
    "vectors": (OfVectors, vectors(), real()),
    "channels first": (Rolled, vectors().mT.contiguous(), real()),
    "channels first, on the left": (Rolled, vectors().mT.flip(2), real().flip(1)),
    "a series": (OfSeries, FLOATS, real()),
    "a series in double precision": (OfSeries, FLOATS.double(), real()),
    "a series of one channel": (lambda: OfChannel(), FLOATS[:, None], real()),
    "a decoder's first token": (Recurrent, started(), real_after_a_first()),
    "at both ends": (Recurrent, *centred()),
    "inside one text": (Recurrent, *odd()),
    "in two texts alone": (Recurrent, *few()),
}


@pytest.mark.parametrize("case", CASES)
def test_padding_is_left_out_of_the_mean_and_said(case: str) -> None:
    make, x, tokens = CASES[case]
    model = make()
    with said(""):
        probe, plain = Probe(x, Y), Probe(x, Y, padding=None)
    with said(r"T of block leaves out padding: \d stands at the .* of \d+ of 60 sequences of x"):
        t = seen(model, probe)
    torch.testing.assert_close(t, mean(model, x, tokens))
    with said(""):
        t = seen(model, plain)
        torch.testing.assert_close(t, mean(model, x, torch.ones_like(tokens)))
        stated = Probe(x, Y, padding=probe.padding)  # as a run that is read back states it
        torch.testing.assert_close(seen(model, stated), mean(model, x, tokens))


def test_an_id_that_is_given_is_left_out_wherever_it_stands() -> None:
    x = ids()
    x[:, 1] = 0  # as "x == 0" has it
    model, probe = Attending(), Probe(x, Y)
    assert probe.padding == {}  # then its place does not tell
    with said(r"T of block may hold padding: 0 stands at the end of \d+ of 60 .* elsewhere in"):
        t = seen(model, probe)
    torch.testing.assert_close(t, mean(model, x, torch.ones_like(x) == 1))
    probe = Probe(x, Y, padding=0)
    with said(""):
        t = seen(model, probe)
    torch.testing.assert_close(t, mean(model, x, x != 0))
    assert probe.take(slice(10)).padding == probe.to("cpu").padding == {"": 0.0}


def test_each_real_token_is_a_sample() -> None:
    probe = Probe(ids(), Y, padding=0)
    assert len(seen(Attending(), probe, reduce="tokens")) == int(real().sum())


def test_inputs_have_their_own_padding_and_masks_theirs() -> None:
    x = {"src": ids(), "tgt": ids(3)}
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


class Table(nn.Module):
    """Takes all columns at once, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.act = nn.Linear(LENGTH, 5), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.block(x.float()))
        return out


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Conv2d(1, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x[:, None].float()).amax((2, 3))
        return out


@pytest.mark.parametrize(
    ("model", "x", "options"),
    [
        (Table(), ids(), {}),
        (Table(), FLOATS, {}),
        (Recurrent(), ids(), {"reduce": "flatten"}),
        (Recurrent(), ids(), {"reduce": lambda out: out[:, 2]}),
    ],
)
def test_nothing_is_said_where_nothing_is_left_out(
    model: nn.Module, x: Tensor, options: dict[str, Any]
) -> None:
    with said(""):
        probe = Probe(x, Y)
        t = seen(model, probe, **options)
    assert probe.padding
    torch.testing.assert_close(t, seen(model, Probe(x, Y, padding=None), **options))


def test_padding_along_one_of_two_axes_is_asked_about() -> None:
    """A spectrogram's frames end, an image has black rows: by 2-d convolutions it is not told."""
    tokens = real()[..., None]
    dense = torch.rand(N, LENGTH, 8, generator=torch.Generator().manual_seed(7)) * tokens
    with pytest.raises(InvalidInput, match="shows in its positions along several axes"):
        seen(Pictures(), Probe(dense, Y))
    model, sparse = Pictures(), dense * (dense > 0.5)
    with said("T of block may hold padding: 0 stands at the end of"):
        t = seen(model, Probe(sparse, Y))
    with said(""):
        torch.testing.assert_close(t, seen(model, Probe(sparse, Y, padding=None)))


def test_it_is_said_once_of_all_layers_that_it_concerns() -> None:
    class Two(Recurrent):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.GRU(5, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.more(self.block(self.embed(x))[0])[0][:, -1]
            return out

    model, probe = Two(), Probe(ids(), Y)
    look = Look(layers=["block", "more", "output"])
    evidence = read_layers(model, probe, look)
    filled = int((~real()).any(1).sum())
    words = (
        f"T of block, more leaves out padding: 0 stands at the end of {filled} of 60 sequences of "
        r"x alone; Probe\(…, padding=0\) says so, padding=None that it is none"
    )
    with pytest.warns(PaddingGuessed, match=words) as record:
        list(looks(model, probe, look, evidence=evidence))
    assert len(record) == 1
    with said(""):
        list(looks(model, probe, look, evidence=evidence))


class OfTwo(nn.Module):
    """Takes two sequences, in order or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Recurrent(), Recurrent()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = self.first(a) + self.second(b)
        return out


@pytest.mark.parametrize("named", [False, True])
def test_each_input_is_called_as_it_is_given(named: bool) -> None:
    model, b = OfTwo(), torch.randint(0, KINDS, (N, LENGTH - 2))
    x: Any = {"a": ids(3), "b": b} if named else (ids(3), b)
    name, key = ("a", "a") if named else (r"x\[0\]", "0")
    probe = Probe(x, Y)
    assert probe.padding == {key: 3.0}
    look = Look(layers=["first.block", "second.block"])
    stated = rf"sequences of {name} alone; Probe\(…, padding=\{{'{key}': 3\}}\) says so"
    with pytest.warns(PaddingGuessed, match=f"T of first.block leaves out .* {stated}"):
        parts = list(looks(model, probe, look, evidence=read_layers(model, probe, look)))
    t = {name: layer.values for part in parts for name, layer in part.items()}
    torch.testing.assert_close(t["first.block"], mean(model.first, ids(3), ids(3) != 3))
    every = torch.ones(N, LENGTH - 2, dtype=torch.bool)
    torch.testing.assert_close(t["second.block"], mean(model.second, b, every))


def test_an_empty_text_has_no_t() -> None:
    x = ids()
    x[4] = 0
    with pytest.raises(InvalidInput, match=r"1 of 60 samples have no real token.*padding=None"):
        seen(Recurrent(), Probe(x, Y))
    rest = torch.arange(N) != 4
    model = Recurrent()
    with said("T of block leaves out padding"):
        t = seen(model, Probe(x[rest], Y[rest]))
    torch.testing.assert_close(t, mean(model, x[rest], real()[rest]))


class Classed(nn.Module):
    """Puts tokens of its own before the text, or behind."""

    def __init__(self, *, behind: bool = False, masks: bool = True) -> None:
        super().__init__()
        self.own, self.embed = nn.Parameter(torch.randn(1, 2, 8)), nn.Embedding(KINDS, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.behind, self.masks = behind, masks

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        own, text = self.own.expand(len(x), -1, -1), self.embed(x)
        parts = [text, own] if self.behind else [own, text]
        mask = None
        if padding_mask is not None and self.masks:
            sides = (0, 2) if self.behind else (2, 0)
            mask = nn.functional.pad(padding_mask, sides, value=False)
        out: Tensor = self.block(torch.cat(parts, 1), src_key_padding_mask=mask)
        return out[:, 0]


def outputs(model: nn.Module, **x: Tensor) -> Tensor:
    held: list[Tensor] = []
    block = model.get_submodule("block")
    handle = block.register_forward_hook(lambda _m, _a, out: held.append(out))
    with torch.no_grad():
        model.eval()(**x)
    handle.remove()
    return held[0]


@pytest.mark.parametrize("masks", [False, True])
def test_a_class_token_before_the_text_is_the_first(masks: bool) -> None:
    model, x = Classed(masks=masks), ids()
    with said(""):
        t = seen(model, Probe(x, Y, padding=0), reduce="token:cls")
    torch.testing.assert_close(t, outputs(model, x=x)[:, 0])
    with pytest.raises(InvalidInput, match=r"padding \(0 in x\) shows in its 11 positions.* has 9"):
        seen(model, Probe(x, Y, padding=0))
    with pytest.raises(InvalidInput, match=r"\(0 in x\), found by .*Probe\(…, padding=None\)"):
        seen(model, Probe(x, Y))
    left = Probe(ids(left=True), Y, padding=0)  # then the first may be padding
    with pytest.raises(InvalidInput, match="shows in its 11 positions"):
        seen(model, left, reduce="token:cls")


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_tokens_beside_a_masked_text_are_real(behind: bool, left: bool) -> None:
    model, x, tokens = Classed(behind=behind), ids(left=left), real(left=left)
    probe = Probe({"x": x, "padding_mask": ~tokens}, Y)
    every = nn.functional.pad(tokens, (0, 2) if behind else (2, 0), value=True)
    values = outputs(model, x=x, padding_mask=~tokens)
    by_hand = torch.stack([v[row].mean(0) for v, row in zip(values, every, strict=True)])
    torch.testing.assert_close(seen(model, probe), by_hand)
    with pytest.raises(InvalidInput, match="not known whose tokens its positions are"):
        seen(model, probe, reduce="tokens")


def test_labels_of_tokens_go_with_the_real_ones() -> None:
    x, tokens = ids(), real()
    y = torch.where(tokens, x % 3, -100)
    probe = Probe(x, y)
    with said("T of block leaves out padding"):
        t = seen(Recurrent(), probe, reduce="tokens")
    of_tokens = probe.tokens(len(t), ("",))
    assert torch.equal(of_tokens.y, x[tokens] % 3)
    assert torch.equal(of_tokens.inputs[""], x[tokens])
    plain = Probe(x, y, padding=None)
    with pytest.raises(InvalidInput, match=r"negative label.*Probe\(…, padding=…\)"):
        plain.tokens(N * LENGTH, ("",))

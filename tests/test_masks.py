"""Each layer leaves out the padding of its own sequence, found by what it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, looks, read_layers
from ibtrace.capture.masks import telling_rows
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.probe import Probe
from ibtrace.probe.padding import real_tokens
from ibtrace.tracer import Tracer

N, LENGTH = 8, 6


def ids(seed: int, length: int = LENGTH) -> Tensor:
    return torch.randint(1, 30, (N, length), generator=torch.Generator().manual_seed(seed))


def mask(seed: int, length: int = LENGTH) -> Tensor:
    """1 for real tokens; some samples have no padding, and all have a token."""
    lengths = torch.randint(1, length, (N, 1), generator=torch.Generator().manual_seed(seed))
    lengths[0] = length
    return (torch.arange(length) < lengths).long()


def mean(values: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        return values.mean(1)
    return torch.stack([v[r].mean(0) for v, r in zip(values, real.bool(), strict=True)])


class Attends(nn.Module):
    """Tokens that attend to the real ones of another sequence, or of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens: Tensor, real: Tensor | None, memory: Tensor | None = None) -> Tensor:
        hidden = self.embed(tokens)
        keys = hidden if memory is None else memory
        out, _ = self.attention(hidden, keys, keys, None if real is None else real == 0)
        result: Tensor = self.act(out + hidden)
        return result


class TwoSequences(nn.Module):
    """An encoder and a decoder, as in translation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Attends(), Attends()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        memory = self.encoder(input_ids, attention_mask)
        out: Tensor = self.decoder(decoder_input_ids, attention_mask, memory)[:, 0]
        return out


def outputs(model: nn.Module, names: list[str], x: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _m, _a, output, name=name: seen.update({name: output})
        )
        for name in names
    ]
    with torch.no_grad():
        model.eval()(**x)
    for handle in handles:
        handle.remove()
    return seen


def looked(model: nn.Module, x: Mapping[str, Tensor], layers: Any, **arguments: Any) -> Any:
    probe = Probe(x, torch.arange(N) % 2)
    return next(iter(looks(model, probe, Look(layers=layers, **arguments))))


@pytest.mark.parametrize("length", [LENGTH, 4])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch_size", [3, 512])
def test_a_decoder_has_its_own_padding(length: int, masked: bool, batch_size: int) -> None:
    torch.manual_seed(0)
    model = TwoSequences()
    x = {"input_ids": ids(0), "attention_mask": mask(1), "decoder_input_ids": ids(2, length)}
    if masked:
        x["decoder_attention_mask"] = mask(3, length)
    names = ["encoder.act", "decoder.act"]
    values = outputs(model, names, x)
    layers = looked(model, x, names, batch_size=batch_size)
    for name, real in zip(names, (mask(1), x.get("decoder_attention_mask")), strict=True):
        torch.testing.assert_close(layers[name].values, mean(values[name], real))


@pytest.mark.parametrize("length", [LENGTH, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_each_token_has_its_own_sequences_token_as_x(length: int, masked: bool) -> None:
    torch.manual_seed(0)
    model = TwoSequences()
    x = {"input_ids": ids(0), "attention_mask": mask(1), "decoder_input_ids": ids(2, length)}
    if masked:
        x["decoder_attention_mask"] = mask(3, length)
    layers = looked(model, x, ["encoder.act", "decoder.act"], reduce="tokens")
    probe = Probe(x, torch.arange(N) % 2)
    decoder_mask = x.get("decoder_attention_mask", torch.ones(N, length))
    for name, own, real in (
        ("encoder.act", "input_ids", mask(1)),
        ("decoder.act", "decoder_input_ids", decoder_mask),
    ):
        layer = layers[name]
        assert layer.token_inputs == (own,)
        tokens = probe.tokens(len(layer.values), layer.token_inputs)
        assert torch.equal(tokens.inputs[own], x[own][real.bool()])
        assert tokens.n == len(layer.values) == int(real.sum())


class Towers(nn.Module):
    """Text with a mask and images without, as in CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.patches, self.image = Attends(), nn.Conv2d(3, 8, 2, 2), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        patches = self.image(self.patches(pixel_values).flatten(2).mT)
        out: Tensor = patches.mean(1) + self.text(input_ids, attention_mask)[:, 0]
        return out


@pytest.mark.parametrize("patches", [LENGTH, 4])
def test_a_second_tower_has_no_padding(patches: int) -> None:
    torch.manual_seed(0)
    pixels = torch.randn(N, 3, 2, 2 * patches)
    x = {"input_ids": ids(0), "attention_mask": mask(1), "pixel_values": pixels}
    model = Towers()
    names = ["text.act", "image"]
    values = outputs(model, names, x)
    layers = looked(model, x, names)
    torch.testing.assert_close(layers["image"].values, values["image"].mean(1))
    torch.testing.assert_close(layers["text.act"].values, mean(values["text.act"], mask(1)))


class Pooled(nn.Module):
    """Pairs of tokens pooled; queries that read all tokens; a convolution over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.pairs, self.queries = Attends(), nn.Tanh(), nn.Tanh()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.latents = nn.Parameter(torch.randn(1, 4, 8))
        self.conv, self.convolved = nn.Conv1d(8, 5, 3, padding=1), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.text(input_ids, attention_mask)
        pairs = self.pairs(tokens.unflatten(1, (-1, 2)).mean(2))
        latents = self.latents.expand(len(tokens), -1, -1)
        queries = self.queries(self.attention(latents, tokens, tokens, attention_mask == 0)[0])
        convolved = self.convolved(self.conv(tokens.mT))
        out: Tensor = pairs.mean(1) + queries.mean(1) + convolved.mean((1, 2))[:, None]
        return out


def test_pooled_tokens_are_left_out_only_where_padding_shows_in_them() -> None:
    torch.manual_seed(0)
    model, x = Pooled(), {"input_ids": ids(0), "attention_mask": mask(1)}
    names = ["text.act", "queries", "convolved"]
    values = outputs(model, [*names, "pairs"], x)
    data = x, torch.arange(N) % 2
    with pytest.warns(
        LeftOut, match="left out of the trace: pairs: padding shows in its 3 positions"
    ):
        tracer = Tracer(model, data, estimators=["binning"])
    assert set(tracer.trace.frame().layer) == {*names, "output"}
    layers = looked(model, x, names)
    torch.testing.assert_close(layers["text.act"].values, mean(values["text.act"], mask(1)))
    torch.testing.assert_close(layers["queries"].values, values["queries"].mean(1))
    torch.testing.assert_close(layers["convolved"].values, mean(values["convolved"].mT, mask(1)))
    with pytest.raises(InvalidInput, match=r"'pairs': padding shows .*reduce=\{'pairs': 'flatten'"):
        Tracer(model, data, look=["pairs"])
    assert looked(model, x, ["pairs"], reduce="flatten")["pairs"].values.shape == (N, 24)


def forms(real: Tensor) -> list[tuple[str, Tensor]]:
    """The same mask as different libraries spell it."""
    padding = real == 0
    return [
        ("attention_mask", real),
        ("attention_mask", real.bool()),
        ("attention_mask", real.float()),
        ("attention_mask", real[:, None, None]),
        ("attention_mask", torch.zeros(real.shape).masked_fill(padding, -1e9)),
        ("attention_mask", torch.zeros(N, 1, 1, LENGTH).masked_fill(padding[:, None, None], -1e4)),
        ("key_padding_mask", padding),
        ("src_key_padding_mask", padding),
        ("padding_mask", padding.long()),
    ]


class Spelt(nn.Module):
    """Passes over its mask: what T is does not hang on what the model does with it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()

    def forward(self, src: Tensor, **masks: Tensor) -> Tensor:
        out: Tensor = self.act(self.embed(src))
        return out[:, 0]


@pytest.mark.parametrize(("name", "value"), forms(mask(1)))
def test_a_mask_is_read_in_every_form(name: str, value: Tensor) -> None:
    torch.manual_seed(0)
    model, x = Spelt(), {"src": ids(0), name: value}
    read = real_tokens(name, value)
    assert read is not None
    assert torch.equal(read, mask(1).bool())
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(looked(model, x, ["act"])["act"].values, mean(values, mask(1)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mask", mask(1)),
        ("attention_mask", mask(1)[:, None, :] * mask(1)[:, :, None]),
        ("attention_mask", mask(1) - 0.5),
    ],
)
def test_a_mask_that_cannot_be_read_is_asked_about(name: str, value: Tensor) -> None:
    x = {"src": ids(0), name: value}
    data = x, torch.arange(N) % 2
    with pytest.warns(
        LeftOut, match=f"left out of the trace: act: {name} does not say which tokens"
    ):
        tracer = Tracer(Spelt(), data, estimators=["binning"])
    assert set(tracer.trace.frame().layer) == {"output"}
    with pytest.raises(InvalidInput, match=f"'act': {name} does not say which tokens are real"):
        Tracer(Spelt(), data, look=["act"])


@pytest.mark.parametrize("name", ["token_type_ids", "position_ids", "global_attention_mask"])
def test_what_is_no_mask_masks_nothing(name: str) -> None:
    torch.manual_seed(0)
    x = {"src": ids(0), name: mask(1)}
    model = Spelt()
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(looked(model, x, ["act"])["act"].values, values.mean(1))


def test_a_mask_without_padding_is_no_obstacle() -> None:
    x = {"input_ids": ids(0), "attention_mask": torch.ones(N, LENGTH)}
    tracer = Tracer(Pooled(), (x, torch.arange(N) % 2), estimators=["binning"])
    assert "pairs" in set(tracer.trace.frame().layer)


class SameLength(nn.Module):
    """Two sequences of one length that both reach every token, one of them with a mask."""

    def __init__(self, mixes: bool) -> None:
        super().__init__()
        self.embed, self.act, self.mixes = nn.Embedding(30, 8), nn.Tanh(), mixes

    def forward(self, a: Tensor, b: Tensor, attention_mask: Tensor) -> Tensor:
        other = self.embed(b).mean(1, keepdim=True)
        own = self.embed(a)
        if self.mixes:
            own = own + own.mean(1, keepdim=True)
        out: Tensor = self.act(own + other)
        return out[:, 0]


def test_whose_padding_it_is_shows_where_the_padding_shows() -> None:
    torch.manual_seed(0)
    x = {"a": ids(0), "b": ids(2), "attention_mask": mask(1)}
    model = SameLength(mixes=False)
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(looked(model, x, ["act"])["act"].values, mean(values, mask(1)))
    with pytest.raises(InvalidInput, match="its 6 positions may be those of a or b"):
        looked(SameLength(mixes=True), x, ["act"])


def test_a_layer_that_says_nothing_yet_has_the_padding_of_its_length() -> None:
    torch.manual_seed(0)
    model, x = Spelt(), {"src": ids(0), "attention_mask": mask(1)}
    nn.init.zeros_(model.embed.weight)
    probe = Probe(x, torch.arange(N) % 2)
    evidence = read_layers(model, probe, ["act"])
    nn.init.normal_(model.embed.weight)
    values = outputs(model, ["act"], x)["act"]
    layer = next(iter(looks(model, probe, ["act"], evidence=evidence)))["act"]
    torch.testing.assert_close(layer.values, mean(values, mask(1)))


def test_one_position_needs_no_mask() -> None:
    class Starts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            pooled = self.embed(input_ids).mean(1, keepdim=True)  # padding shows in it
            out: Tensor = self.act(pooled)
            return out[:, 0]

    torch.manual_seed(0)
    model, x = Starts(), {"input_ids": ids(0), "attention_mask": mask(1)}
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(looked(model, x, ["act"])["act"].values, values[:, 0])


class Listens(nn.Module):
    """Sound as ``(n, channels, time)``, with a mask over time."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.act = nn.Conv1d(3, 5, 1), nn.Tanh()
        self.halved, self.coarse = nn.Conv1d(5, 4, 2, 2), nn.Tanh()

    def forward(self, input_features: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.coarse(self.halved(self.act(self.same(input_features))))
        return out[..., 0]


def test_a_mask_over_time_is_that_of_channels_first_inputs() -> None:
    torch.manual_seed(0)
    x = {"input_features": torch.randn(N, 3, LENGTH), "attention_mask": mask(1)}
    model = Listens()
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(
        looked(model, x, ["act"])["act"].values, mean(values.mT, mask(1)), atol=1e-6, rtol=1e-5
    )
    with pytest.raises(InvalidInput, match="padding shows in its 3 positions"):
        looked(model, x, ["coarse"])
    layer = looked(model, x, ["act"], reduce="tokens")["act"]
    tokens = Probe(x, torch.arange(N) % 2).tokens(len(layer.values), layer.token_inputs)
    assert torch.equal(tokens.inputs["input_features"], x["input_features"].mT[mask(1).bool()])


class Sees(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 5, 1), nn.Tanh()

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv(pixel_values))
        return out[..., 0, 0]


def test_padded_images_are_asked_about() -> None:
    pixels, real = torch.randn(N, 3, 4, 5), torch.ones(N, 4, 5)
    model = Sees()
    data = {"pixel_values": pixels, "pixel_mask": real}
    torch.testing.assert_close(
        looked(model, data, ["act"])["act"].values,
        outputs(model, ["act"], data)["act"].mean((2, 3)),
    )
    real[1:, :, 3:] = 0
    with pytest.raises(InvalidInput, match="'act': pixel_mask does not say which tokens are real"):
        looked(model, {"pixel_values": pixels, "pixel_mask": real}, ["act"])


class Takes(nn.Module):
    """Takes whatever its inputs are called; the first are the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        out: Tensor = self.act(self.embed(next(iter((*inputs, *named.values())))))
        return out[:, 0]


@pytest.mark.parametrize(
    ("x", "name"),
    [
        ({"x": ids(0), "valid_mask": mask(1)}, "valid_mask"),
        ({"x": ids(0), "seq_mask": mask(1)}, "seq_mask"),
        ({"x": ids(0), "masks": mask(1)}, "masks"),
        ({"x": ids(0), "attention_mask_1": mask(1)}, "attention_mask_1"),
        ({"x": ids(0), "valid": mask(1)}, "valid"),
        ({"x": ids(0), "missing": mask(1) == 0}, "missing"),
        ({"x": ids(0), "lengths": mask(1).sum(1)}, "lengths"),
        ({"x": ids(0), "seq_lens": mask(1).sum(1, keepdim=True)}, "seq_lens"),
        ({"x": ids(0), "lengths": torch.full((N,), 3)}, "lengths"),
        ((ids(0), mask(1)), "1"),
        ((ids(0), mask(1) == 0), "1"),
        ((ids(0), mask(1).sum(1), mask(1)), "2"),
        (
            {"x": ids(0), "src_key_padding_mask": mask(1) == 0, "tgt_key_padding_mask": mask(2)},
            "src_key_padding_mask, tgt_key_padding_mask",
        ),
        ({"a": ids(0), "b": ids(2), "src_key_padding_mask": mask(1) == 0}, "src_key_padding_mask"),
    ],
)
def test_what_may_be_a_mask_is_never_passed_over(x: Any, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"'act': {name} does not say which tokens are real"):
        Tracer(Takes(), (x, torch.arange(N) % 2), look=["act"])


@pytest.mark.parametrize("name", ["src_key_padding_mask", "x_padding_mask", "key_padding_mask"])
def test_a_mask_is_that_of_the_only_input(name: str) -> None:
    torch.manual_seed(0)
    model, x = Takes(), {"x": ids(0), name: mask(1) == 0}
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(looked(model, x, ["act"])["act"].values, mean(values, mask(1)))


def test_a_memorys_mask_is_the_sources() -> None:
    """As ``nn.Transformer`` takes them: each sequence's own, and the source's once more."""
    torch.manual_seed(0)
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True, dropout=0.0)
    source, target = mask(1) == 0, mask(2, 4) == 0
    x = {
        "src": torch.randn(N, LENGTH, 8),
        "tgt": torch.randn(N, 4, 8),
        "src_key_padding_mask": source,
        "tgt_key_padding_mask": target,
        "memory_key_padding_mask": source,
    }
    names = ["encoder.layers.0", "decoder.layers.0"]
    torch.backends.mha.set_fastpath_enabled(False)  # which passes over the hooks' layers
    try:
        values = outputs(model, names, x)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    layers = looked(model, x, names)
    for name, padding in zip(names, (source, target), strict=True):
        torch.testing.assert_close(layers[name].values, mean(values[name], ~padding))
    x["memory_key_padding_mask"] = source.flip(0)  # another one: whose is it?
    with pytest.raises(InvalidInput, match="memory_key_padding_mask does not say which tokens"):
        looked(model, x, names)


class Queries(nn.Module):
    """As many learned queries as there are tokens, as in a Perceiver."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.act = Attends(), nn.Tanh()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.latents = nn.Parameter(torch.randn(1, LENGTH, 8))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = self.text(input_ids, attention_mask)
        latents = self.latents.expand(len(tokens), -1, -1)
        out: Tensor = self.act(self.attention(latents, tokens, tokens, attention_mask == 0)[0])
        return out[:, 0]


def test_queries_as_many_as_the_tokens_are_not_their_positions() -> None:
    torch.manual_seed(0)
    model, x = Queries(), {"input_ids": ids(0), "attention_mask": mask(1)}
    values = outputs(model, ["text.act"], x)["text.act"]
    layer = looked(model, x, ["text.act"])["text.act"]
    torch.testing.assert_close(layer.values, mean(values, mask(1)))
    with pytest.raises(InvalidInput, match="its 6 positions may be those of input_ids or others"):
        looked(model, x, ["act"])


class Zeroes(nn.Module):
    """Sets its padding to 0, so that it shows nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.act(self.embed(input_ids) * attention_mask[..., None])
        return out.sum(1)


def test_padding_that_is_set_to_0_is_left_out_too() -> None:
    torch.manual_seed(0)
    model, x = Zeroes(), {"input_ids": ids(0), "attention_mask": mask(1)}
    values = outputs(model, ["act"], x)["act"]
    torch.testing.assert_close(looked(model, x, ["act"])["act"].values, mean(values, mask(1)))


class Trims(nn.Module):
    """Cuts a batch to its longest sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        longest = int(attention_mask.sum(1).max())
        out: Tensor = self.act(self.embed(input_ids[:, :longest]))
        return out[:, 0]


@pytest.mark.parametrize("longest", [LENGTH, LENGTH - 1])
@pytest.mark.parametrize("batch_size", [3, 8])
def test_what_is_cut_to_the_longest_of_a_batch_has_its_mask(longest: int, batch_size: int) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([2, 3, 2, longest, 2, 3, 2, longest])
    real = (torch.arange(LENGTH) < lengths[:, None]).long()
    model, x = Trims(), {"input_ids": ids(0), "attention_mask": real}
    layer = looked(model, x, ["act"], batch_size=batch_size)["act"]
    torch.testing.assert_close(layer.values, mean(torch.tanh(model.embed(x["input_ids"])), real))


class Halves(nn.Module):
    """Half as many positions as the longest sequence of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(30, 8), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        longest = int(attention_mask.sum(1).max())
        out: Tensor = self.act(self.embed(input_ids[:, :longest:2]))
        return out[:, 0]


class TrimsLeft(Trims):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        longest = int(attention_mask.sum(1).max())
        out: Tensor = self.act(self.embed(input_ids[:, -longest:]))
        return out[:, 0]


def test_a_batch_with_one_longest_sequence_is_asked_about() -> None:
    """Without it all are cut to another length, as by a model that mixes its samples."""
    real = torch.ones(N, LENGTH, dtype=torch.long)
    real[:-1, 3:] = 0
    with pytest.raises(InvalidInput, match=r"'act': .*cut to a batch's longest"):
        looked(Trims(), {"input_ids": ids(0), "attention_mask": real}, ["act"])


@pytest.mark.parametrize("left", [False, True])
def test_what_is_cut_in_another_way_is_asked_about(left: bool) -> None:
    """Half of a batch's longest; and the first tokens of sequences that are padded on the left."""
    lengths = torch.tensor([2, 3, 2, LENGTH - 1, 2, 3, 2, LENGTH - 1])
    real = (torch.arange(LENGTH) < lengths[:, None]).long()
    model, real = (Trims(), real.flip(1)) if left else (Halves(), real)
    x = {"input_ids": ids(0), "attention_mask": real}
    with pytest.raises(
        InvalidInput, match=r"'act': .*cut to a batch's longest.*callable that"
    ) as e:
        looked(model, x, ["act"])
    assert "flatten" not in str(e.value)
    layer = looked(model, x, ["act"], reduce={"act": lambda out: out[:, 0]}, batch_size=3)["act"]
    torch.testing.assert_close(layer.values, torch.tanh(model.embed(x["input_ids"][:, 0])))


@pytest.mark.parametrize("longest", [LENGTH, LENGTH - 1])
@pytest.mark.parametrize("batch_size", [3, 8])
@pytest.mark.parametrize("reduce", [None, "token:cls", "tokens"])
def test_the_last_tokens_are_read_where_padding_on_the_left_is_cut(
    longest: int, batch_size: int, reduce: str | None
) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([2, 3, 2, longest, 2, 3, 2, longest])
    real = (torch.arange(LENGTH) < lengths[:, None]).long().flip(1)
    model, x = TrimsLeft(), {"input_ids": ids(0), "attention_mask": real}
    tokens = torch.tanh(model.embed(x["input_ids"]))
    rows = torch.arange(N)
    of_t = {None: mean(tokens, real), "tokens": tokens[real.bool()]}
    first = tokens[rows, LENGTH - lengths]
    layer = looked(model, x, ["act"], batch_size=batch_size, reduce=reduce)["act"]
    torch.testing.assert_close(layer.values, of_t.get(reduce, first))


def test_some_of_the_samples_that_tell_are_padded() -> None:
    real = torch.ones(N, LENGTH, dtype=torch.long)
    real[5:, 4:] = 0
    probe = Probe({"input_ids": ids(0), "attention_mask": real}, torch.arange(N) % 2)
    assert {5, 6} <= set(telling_rows(probe).tolist())

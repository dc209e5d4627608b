"""Activations of any shape become one vector for each sample, and every row says how."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace.capture import Look
from ibtrace.capture.reduce import Axes, choose
from ibtrace.errors import ConfigError, InvalidInput, UnknownName
from ibtrace.estimators import Exact, information
from ibtrace.plane import judge
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer

FIRST, LAST = Axes(0, frozenset({1})), Axes(0, frozenset({2}))


@settings(max_examples=50)
@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**16), st.booleans()
)
def test_token_reductions_equal_a_loop_over_samples(
    n: int, tokens: int, d: int, seed: int, masked: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(n, tokens, d, generator=generator)
    mask = torch.rand(n, tokens, generator=generator) < 0.6
    mask[:, int(torch.randint(tokens, (), generator=generator))] = True
    real = [one[keep] if masked else one for one, keep in zip(output, mask, strict=True)]
    given_mask = mask if masked else None
    expected = {
        "token:cls": torch.stack([one[0] for one in real]),
        "token:last": torch.stack([one[-1] for one in real]),
        "token:mean": torch.stack([one.mean(0) for one in real]),
        "tokens": torch.cat(real),
    }
    for name, value in expected.items():
        torch.testing.assert_close(choose(name, "", output.shape, LAST)(output, given_mask), value)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 2])
@pytest.mark.parametrize("channel", [1, 2])
def test_wherever_samples_and_channels_are_t_is_the_same(
    batch: int, channel: int, masked: bool
) -> None:
    tokens = torch.randn(4, 5, 3)  # samples, positions, channels
    mask = torch.arange(5) < torch.tensor([[5], [1], [3], [2]]) if masked else None
    others = [axis for axis in range(3) if axis != batch]
    place = others[channel - 1]
    position = others[2 - channel]
    order = sorted(range(3), key=[batch, position, place].__getitem__)
    output = tokens.permute(order)
    axes = Axes(batch, frozenset({place}))
    for name in ("token:cls", "token:mean", "token:last", "tokens", "gap", None):
        expected = choose(name, "", tokens.shape, LAST)(tokens, mask)
        torch.testing.assert_close(choose(name, "", output.shape, axes)(output, mask), expected)


def test_gap_is_the_mean_over_space() -> None:
    maps = torch.randn(5, 3, 4, 2)
    expected = torch.stack([torch.stack([c.mean() for c in one]) for one in maps])
    last = maps.permute(0, 2, 3, 1)
    for how, axes in (("gap", FIRST), (None, FIRST), ("gap:first", LAST), ("gap:first", Axes())):
        torch.testing.assert_close(choose(how, "", maps.shape, axes)(maps), expected)
    for how, axes in (("gap", Axes(0, frozenset({3}))), ("gap:last", FIRST), ("gap:last", Axes())):
        reduction = choose(how, "", last.shape, axes)
        assert reduction.name == "gap:last"
        torch.testing.assert_close(reduction(last), expected)
    torch.testing.assert_close(choose("flatten", "", maps.shape, FIRST)(maps), maps.reshape(5, 24))


@pytest.mark.parametrize(
    ("shape", "axes", "name"),
    [
        ((5,), Axes(), ""),
        ((5, 3), Axes(), ""),
        ((3, 5), Axes(1), "samples from axis 1"),
        ((5, 7, 3), LAST, "token:mean"),
        ((7, 5, 3), Axes(1, frozenset({2})), "token:mean, samples from axis 1"),
        ((5, 7, 3), FIRST, "gap"),
        ((5, 7, 3, 3), FIRST, "gap"),
        ((5, 7, 3, 3), Axes(0, frozenset({3})), "gap:last"),
        ((5, 7, 3, 3, 3), FIRST, "gap"),
        ((5, 2, 7, 3), Axes(0, frozenset({1, 3})), "mean over axes 2"),
        ((5, 7, 3), Axes(0, frozenset({1, 2})), "flatten"),
        ((5, 7, 3), Axes(0, frozenset()), "flatten"),
    ],
)
def test_what_is_averaged_is_what_is_neither_samples_nor_channels(
    shape: tuple[int, ...], axes: Axes, name: str
) -> None:
    reduction = choose(None, "layer", shape, axes)
    assert reduction.name == name
    assert len(reduction(torch.zeros(shape))) == 5


@pytest.mark.parametrize("how", [None, "gap"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 3, 3)])
def test_axes_that_nothing_tells_apart_are_asked_for(how: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"reduce=\{'act': 'gap:first'\}.*'gap:last'"):
        choose(how, "act", shape, Axes())
    for said in ("gap:first", "gap:last", "flatten", "token:mean", first_channel):
        choose({"act": said}, "act", shape, Axes())


def first_channel(maps: Tensor) -> Tensor:
    return maps[:, 0]


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    features = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Tanh()]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(8, 2))


def images(n: int = 24) -> Probe:
    x = torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return Probe(x, (x.mean((1, 2, 3)) > 0).long())


@pytest.mark.parametrize(
    ("reduce", "said", "widths"),
    [
        (None, ["gap", "gap", ""], [3, 2, 2]),
        ("flatten", ["flatten", "flatten", ""], [48, 8, 2]),
        ({"1": "flatten"}, ["flatten", "gap", ""], [48, 2, 2]),
        (first_channel, ["first_channel", "first_channel", ""], [16, 4, 1]),
        ({"1": first_channel, "*": "gap"}, ["first_channel", "gap", ""], [16, 2, 2]),
    ],
)
def test_rows_say_what_t_is_and_are_its_information(
    reduce: Any, said: list[str], widths: list[int]
) -> None:
    if reduce is first_channel:  # the output is (n, 2): its first column
        said = ["first_channel"] * 3
    model, probe = convolutions(), images()
    tracer = Tracer(model, probe, estimators=["exact"], look=Look(reduce=reduce))
    with torch.no_grad():
        x = probe.inputs[""]
        maps = {"1": model[:2](x), "3": model[:4](x), "output": model(x)}
    frame = tracer.trace.frame()
    for (layer, value), name, width in zip(maps.items(), said, widths, strict=True):
        mine = frame[(frame.layer == layer) & (frame.quantity == "I(T;Y)")]
        t = choose(reduce, layer, value.shape, FIRST)(value)
        assert t.shape == (probe.n, width)
        assert mine.bits.item() == information(Exact(), t[None], probe)[1].bits.item()
        assert (mine.estimand.item(), mine.variable.item()) == (Exact().estimand, name)
    assert tracer.trace.meta["captured"]["1"]["shape"] == [3, 4, 4]


class Tagger(nn.Module):
    """Each token's state tells the token and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(4, 3), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.act(self.embed(input_ids)).sum((1, 2))
        return out


def sentences() -> Probe:
    tokens = torch.tensor([[0, 0, 0, 3], [0, 0, 3, 3], [2, 0, 0, 0], [0, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    return Probe({"input_ids": tokens, "attention_mask": mask}, torch.tensor([0, 0, 1, 1]))


def test_each_token_is_a_sample_with_its_own_input() -> None:
    torch.manual_seed(0)
    with Tracer(
        Tagger(), sentences(), estimators=["exact"], look=Look(reduce={"act": "tokens"})
    ) as tracer:
        pass
    frame = tracer.trace.frame().set_index(["layer", "quantity"])
    real = torch.tensor([0, 0, 0, 3, 0, 0, 2, 0, 0, 3])  # the tokens that are not masked
    share = torch.bincount(real) / len(real)
    entropy = -(share * share.log2()).nansum().item()
    assert frame.bits["act", "I(X;T)"] == pytest.approx(entropy)
    assert frame.variable["act", "I(X;T)"] == "tokens"
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    joint = torch.bincount(4 * labels + real, minlength=8).reshape(2, 4) / len(real)
    product = joint.sum(1, keepdim=True) * joint.sum(0)
    known = (joint * (joint / product).log2()).nansum().item()
    assert frame.bits["act", "I(T;Y)"] == pytest.approx(known)
    assert frame.bits["output", "I(X;T)"] == 1.5  # two of the four sentences have the same words
    assert tracer.trace.meta["captured"]["act"]["input_entropy"] == pytest.approx(entropy)


def test_tokens_are_judged_by_their_own_ceiling() -> None:
    with Tracer(
        Tagger(), sentences(), estimators=["exact"], look=Look(reduce="tokens"), every=1
    ) as tracer:
        tracer.snapshot(1)
    frame = tracer.trace.frame()
    entropy = tracer.trace.meta["captured"]["act"]["input_entropy"]
    assert entropy < tracer.probe.input_entropy == 2.0
    seeds = pd.concat([frame.assign(seed=seed) for seed in range(3)])
    by = {
        name: judge(seeds, n=4, input_entropy=2.0, layer_entropies=known).of("act")
        for name, known in {"its own": {"act": entropy}, "the inputs'": None}.items()
    }
    assert by["its own"].cause.kind == "saturated"
    assert by["the inputs'"].cause.kind != "saturated"


@pytest.mark.parametrize(
    ("reduce", "error", "match"),
    [
        ("pool", UnknownName, "no reduction 'pool'; there are: flatten, gap"),
        ({"1": "pool"}, UnknownName, "no reduction 'pool'"),
        ({"3": "gap", "conv*": "gap"}, UnknownName, r"reduce: no layer .*'conv\*'.*1, 3, output"),
        (3, ConfigError, "name, a callable or a mapping, got 3"),
        ({"1": "tokens"}, InvalidInput, r"needs inputs of tokens, got x \(24, 1, 6, 6\)"),
        (lambda value: value.sum(0), InvalidInput, "'1': reduce made .* must keep the samples"),
    ],
)
def test_what_cannot_be_reduced_is_an_error(
    reduce: Any, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Tracer(convolutions(), images(), estimators=["exact"], look=Look(reduce=reduce))


def test_a_mask_of_another_length_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="4 positions, but the mask has 3"):
        choose("token:mean", "", (2, 4, 1), LAST)(torch.zeros(2, 4, 1), torch.ones(2, 3) > 0)

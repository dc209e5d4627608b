"""Which axis is what is told by what a layer is made of and given to, and not by its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ibtrace
from ibtrace.capture import Look, looks
from ibtrace.capture.axes import AxisWatch
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer


class Between(nn.Module):
    """An activation between what comes before it and what after; no shape repeats a length."""

    def __init__(self, before: Callable[..., Any], after: Callable[..., Any], *parts: nn.Module):
        super().__init__()
        self.before, self.after, self.act = before, after, nn.Tanh()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.before(x, *self.parts))
        out: Tensor = self.after(hidden, *self.parts).flatten(1).sum(1)
        return out


def images(n: int = 7) -> Tensor:
    return torch.randn(n, 3, 6, 10, generator=torch.Generator().manual_seed(0))


def sequences(n: int = 7) -> Tensor:
    return torch.randn(n, 5, 3, generator=torch.Generator().manual_seed(0))


def as_is(x: Tensor, *parts: nn.Module) -> Tensor:
    return x


def last(x: Tensor, *parts: nn.Module) -> Tensor:
    return x.permute(0, 2, 3, 1)


def heads(x: Tensor) -> Tensor:
    n, length, _ = x.shape
    return x.view(n, length, 2, 8).transpose(1, 2)


def windows(x: Tensor) -> Tensor:
    n, height, width, channels = x.shape
    parts: Tensor = (
        x.view(n, height // 2, 2, width // 2, 2, channels).transpose(2, 3).reshape(n, -1, channels)
    )
    return parts


MAPS: dict[str, tuple[Between, tuple[int, ...]]] = {
    "conv": (Between(lambda x, c: c(x), as_is, nn.Conv2d(3, 16, 3)), (0, 1)),
    "conv, normalised": (
        Between(lambda x, c, b: b(c(x)), as_is, nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)),
        (0, 1),
    ),
    "conv, pooled": (
        Between(lambda x, c: F.max_pool2d(F.relu(c(x)), 2), as_is, nn.Conv2d(3, 16, 3)),
        (0, 1),
    ),
    "conv, added to itself": (
        Between(
            lambda x, c: c(x) + 2 * c(x).mean((2, 3), keepdim=True), as_is, nn.Conv2d(3, 16, 3)
        ),
        (0, 1),
    ),
    "conv of slices": (
        Between(lambda x, c: torch.cat([c(x)[:, :4], c(x)[:, 4:]], 1), as_is, nn.Conv2d(3, 16, 3)),
        (0, 1),
    ),
    "conv, all normalised": (
        Between(lambda x, c, m: m(c(x)), as_is, nn.Conv2d(3, 16, 3), nn.LayerNorm((16, 4, 8))),
        (0, 1),
    ),
    "conv, mixed": (
        Between(lambda x, c, m: m(c(x)), as_is, nn.Conv2d(3, 16, 3), nn.Linear(8, 2)),
        (0, 1),
    ),
    "conv, mixed over the width": (
        Between(
            lambda x, c, mix: c(x),
            lambda x, c, mix: mix(x),
            nn.Conv2d(3, 16, 3),
            nn.Linear(8, 2),
        ),
        (0, 1),
    ),
    "given to a conv": (Between(as_is, lambda x, c: c(x), nn.Conv2d(3, 16, 3)), (0, 1)),
    "given to a norm": (Between(as_is, lambda x, c: c(x), nn.GroupNorm(1, 3)), (0, 1)),
    "moved, given to a linear": (Between(last, lambda x, c: c(x), nn.Linear(3, 16)), (0, 3)),
    "given, moved, to a linear": (
        Between(as_is, lambda x, c: c(last(x)), nn.Linear(3, 16)),
        (0, 1),
    ),
    "linear": (Between(lambda x, c: c(last(x)), as_is, nn.Linear(3, 16)), (0, 3)),
    "linear, normalised": (
        Between(lambda x, c, m: m(c(last(x))), as_is, nn.Linear(3, 16), nn.LayerNorm(16)),
        (0, 3),
    ),
    "conv, moved": (Between(lambda x, c: last(c(x)), as_is, nn.Conv2d(3, 16, 3)), (0, 3)),
    "linear, moved back": (
        Between(lambda x, c: c(last(x)).movedim(-1, 1), as_is, nn.Linear(3, 16)),
        (0, 1),
    ),
    "linear, rolled": (
        Between(lambda x, c: torch.roll(c(last(x)), (1, 1), (1, 2)), as_is, nn.Linear(3, 16)),
        (0, 3),
    ),
    "windows": (Between(lambda x, c: windows(c(last(x))), as_is, nn.Linear(3, 16)), (0, 2)),
    "patches": (
        Between(lambda x, c: c(x).flatten(2).transpose(1, 2), as_is, nn.Conv2d(3, 16, 2, 2)),
        (0, 2),
    ),
    "3d": (
        Between(lambda x, c: c(x[:, None]), as_is, nn.Conv3d(1, 16, 2)),
        (0, 1),
    ),
}

TOKENS: dict[str, tuple[Between, tuple[int, ...]]] = {
    "linear": (Between(lambda x, c: c(x), as_is, nn.Linear(3, 16)), (0, 2)),
    "conv": (Between(lambda x, c: c(x.mT), as_is, nn.Conv1d(3, 16, 2)), (0, 1)),
    "conv, moved back": (
        Between(lambda x, c: c(x.transpose(1, 2)).mT, as_is, nn.Conv1d(3, 16, 2)),
        (0, 2),
    ),
    "linear beside a conv": (
        Between(
            lambda x, c, d: c(x), lambda x, c, d: d(x.mT), nn.Linear(3, 16), nn.Conv1d(16, 2, 2)
        ),
        (0, 2),
    ),
    "recurrent": (
        Between(lambda x, c: c(x)[0], as_is, nn.LSTM(3, 16, batch_first=True)),
        (0, 2),
    ),
    "steps, stacked": (
        Between(lambda x, c: torch.stack([c(t) for t in x.unbind(1)], 1), as_is, nn.Linear(3, 16)),
        (0, 2),
    ),
    "steps, stacked last": (
        Between(
            lambda x, c: torch.stack([c(x[:, t]) for t in range(5)], -1), as_is, nn.Linear(3, 16)
        ),
        (0, 1),
    ),
    "matmul": (Between(lambda x, c: x @ c.weight.detach().mT, as_is, nn.Linear(3, 16)), (0, 2)),
    "attention": (
        Between(
            lambda x, c: F.scaled_dot_product_attention(c(x), c(x), c(x)), as_is, nn.Linear(3, 16)
        ),
        (0, 2),
    ),
    "attention by hand": (
        Between(lambda x, c: (c(x) @ c(x).mT).softmax(-1) @ c(x), as_is, nn.Linear(3, 16)),
        (0, 2),
    ),
    "multi-head": (
        Between(
            lambda x, c, a: a(c(x), c(x), c(x))[0],
            as_is,
            nn.Linear(3, 16),
            nn.MultiheadAttention(16, 2, batch_first=True),
        ),
        (0, 2),
    ),
    "heads": (Between(lambda x, c: heads(c(x)), as_is, nn.Linear(3, 16)), (0, 1, 3)),
    "einsum": (
        Between(lambda x, c: torch.einsum("nld,kd->nlk", x, c.weight), as_is, nn.Linear(3, 16)),
        (0, 2),
    ),
    "learned adjacency": (
        Between(lambda x, c, a: a.weight @ c(x), as_is, nn.Linear(3, 16), nn.Linear(5, 5)),
        (0, 2),
    ),
    "adjacency after a conv": (
        Between(lambda x, c, a: c(x.mT) @ a.weight, as_is, nn.Conv1d(3, 16, 1), nn.Linear(5, 5)),
        (0, 1),
    ),
    "mixed": (
        Between(lambda x, c, m: m(c(x).mT).mT + c(x), as_is, nn.Linear(3, 16), nn.Linear(5, 5)),
        (0, 2),
    ),
    "mixed, before it is moved back": (
        Between(lambda x, c, m: m(c(x).mT), as_is, nn.Linear(3, 16), nn.Linear(5, 9)),
        (0, 1),
    ),
    "spatial gating": (
        Between(lambda x, c, m: c(x) * m(c(x)), as_is, nn.Linear(3, 16), nn.Conv1d(5, 5, 1)),
        (0, 2),
    ),
    "learned adjacency by letters": (
        Between(
            lambda x, c, a: torch.einsum("ncv,wv->ncw", c(x.mT), a.weight),
            as_is,
            nn.Conv1d(3, 16, 1),
            nn.Linear(5, 4),
        ),
        (0, 1),
    ),
    "mixed raw, given to a linear": (
        Between(
            lambda x, a, c: a.weight @ x + x,
            lambda x, a, c: c(x),
            nn.Linear(5, 5),
            nn.Linear(3, 16),
        ),
        (0, 2),
    ),
    "fixed adjacency": (
        Between(lambda x, c: torch.eye(5) @ c(x), as_is, nn.Linear(3, 16)),
        (0, 2),
    ),
    "fourier": (Between(lambda x, c: torch.fft.fft2(c(x)).real, as_is, nn.Linear(3, 16)), (0, 2)),
    "given to a linear": (Between(as_is, lambda x, c: c(x), nn.Linear(3, 16)), (0, 2)),
    "given to weights": (
        Between(as_is, lambda x, c: x @ c.weight.mT, nn.Linear(3, 16)),
        (0, 2),
    ),
}


def act(model: nn.Module, x: Tensor, **arguments: Any) -> Any:
    probe = Probe(x, torch.arange(len(x)) % 2)
    return next(iter(looks(model.eval(), probe, Look(layers=["act"], **arguments))))["act"]


@pytest.mark.parametrize(
    ("model", "kept", "x"),
    [
        *(pytest.param(*case, images(), id=f"maps: {name}") for name, case in MAPS.items()),
        *(pytest.param(*case, sequences(), id=f"tokens: {name}") for name, case in TOKENS.items()),
    ],
)
def test_channels_are_kept_and_all_else_is_averaged(
    model: Between, kept: tuple[int, ...], x: Tensor
) -> None:
    seen = []
    handle = model.act.register_forward_hook(lambda _module, _args, output: seen.append(output))
    with torch.no_grad():
        model.eval()(x)
    handle.remove()
    positions = [axis for axis in range(seen[0].dim()) if axis not in kept]
    torch.testing.assert_close(act(model, x).values, seen[0].mean(positions).flatten(1))


@pytest.mark.parametrize("n", [5, 7])
def test_samples_are_where_the_batch_is(n: int) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.act = nn.LSTM(3, 16), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(self.cell(x.transpose(0, 1))[0])[-1]
            return out

    torch.manual_seed(0)
    model, x = Recurrent(), sequences(n)  # five steps, so that for n = 5 the shape says nothing
    layer = act(model, x)
    with torch.no_grad():
        expected = model.act(model.cell(x.transpose(0, 1))[0]).mean(0)
    torch.testing.assert_close(layer.values, expected)
    assert layer.variable == "token:mean, samples from axis 1"
    assert layer.shape == (5, 16)
    parts = act(model, x, batch_size=3).values
    torch.testing.assert_close(parts, expected)


class Alone(nn.Module):
    """An activation on the inputs themselves, of which nothing is known."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.head = nn.Tanh(), nn.Linear(15, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(x).flatten(1))
        return out


def test_what_nothing_tells_is_left_out_with_a_word_or_asked_for() -> None:
    x = sequences()
    data = x, torch.arange(len(x)) % 2
    with pytest.warns(
        LeftOut, match=r"left out of the trace: act: cannot tell.*reduce=\{'act': 'gap:"
    ):
        tracer = Tracer(Alone(), data, estimators=["binning"])
    assert set(tracer.trace.frame().layer) == {"output"}
    with pytest.raises(InvalidInput, match=r"layer 'act': cannot tell channels.*'gap:last'"):
        Tracer(Alone(), data, look=["act"])
    for how, axis in (("gap:last", 1), ("token:mean", 1), ("gap:first", 2)):
        torch.testing.assert_close(act(Alone(), x, reduce=how).values, x.tanh().mean(axis))


class Frames(nn.Module):
    """Frames that are folded into the batch."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames, self.act, self.head = frames, nn.ReLU(), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(x.flatten(0, 1)).view_as(x).mean(1))
        return out


def test_what_does_not_follow_the_batch_holds_no_samples() -> None:
    x = sequences()
    data = x, torch.arange(len(x)) % 2
    with pytest.warns(
        LeftOut, match=r"left out of the trace: act: no one axis of its shape \(15, 3\)"
    ):
        tracer = Tracer(Frames(5), data, estimators=["binning"])
    assert set(tracer.trace.frame().layer) == {"output"}
    with pytest.raises(InvalidInput, match="layer 'act': no one axis"):
        Tracer(Frames(5), data, look=["act"])
    folded = act(Frames(5), x, reduce=lambda value: value.unflatten(0, (-1, 5)))
    torch.testing.assert_close(folded.values, x.relu().flatten(1))


class Similar(nn.Module):
    """Every sample against every other: as wide as the batch is large."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x[:, 0] @ x[:, 0].T
        return out


def test_a_layer_as_wide_as_the_batch_is_refused() -> None:
    x = sequences()
    with pytest.raises(InvalidInput, match="layer 'output': no one axis"):
        Tracer(Similar(), (x, torch.arange(len(x)) % 2), look=["output"])


def test_the_look_that_settles_it_leaves_no_mark() -> None:
    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.calls = nn.Conv1d(3, 4, 1), nn.Tanh(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            out: Tensor = self.act(self.conv(x.mT) + torch.randn(1)).mean(2)
            return out

    torch.manual_seed(0)
    model, x = Draws(), sequences()
    state = torch.get_rng_state()
    drawn = act(model, x).values
    assert torch.equal(torch.get_rng_state(), state)
    assert model.calls == 0
    torch.testing.assert_close(act(model, x).values, drawn)


def test_a_watched_forward_is_the_forward() -> None:
    torch.manual_seed(0)
    for model, _ in [*MAPS.values()]:
        x = images()
        with torch.no_grad(), AxisWatch():
            watched = model.eval()(x)
        with torch.no_grad():
            assert torch.equal(watched, model(x))


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_states_of_all_layers_are_kept(cell: Any, batch_first: bool) -> None:
    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell(3, 4, num_layers=2, batch_first=batch_first)
            self.act = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            states = self.cell(x if batch_first else x.transpose(0, 1))[1]
            out: Tensor = self.act(states[0] if cell is nn.LSTM else states)  # (layers, n, h)
            return out[-1]

    torch.manual_seed(0)
    model, x = States(), sequences()
    layer = act(model, x)
    assert layer.variable == "flatten, samples from axis 1"
    assert layer.values.shape == (len(x), 8)
    with torch.no_grad():
        torch.testing.assert_close(layer.values[:, 4:], model(x))


class Fixed(nn.Module):
    """Takes seven samples and no other number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.conv(x.view(7, 3, 6, 10)))
        return out


def test_a_model_of_one_batch_size_is_seen_at_that_size() -> None:
    x = images()
    layer = act(Fixed(), x)
    assert layer.variable == "gap"
    assert layer.values.shape == (7, 4)
    for given, size in ((x, 512), (images(14), 7)):
        rows = {
            row.layer: row for row in ibtrace.layers(Fixed(), given, Look(batch_size=size)).rows
        }
        assert (rows["act"].shape, rows["act"].t, rows["act"].default) == ((4, 4, 8), 4, True)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["slid", "place"])
def test_what_tells_against_itself_is_asked_about(kind: str, turned: bool) -> None:
    def before(x: Tensor, linear: nn.Linear, slide: nn.Conv1d, held: nn.ParameterList) -> Tensor:
        x = linear(x) if kind == "slid" else x
        other: Tensor = slide(x) if kind == "slid" else held[0]
        return other + x if turned else x + other

    held, slide = nn.ParameterList([torch.randn(5, 1)]), nn.Conv1d(5, 5, 3, padding=1)
    asked_about(Between(before, as_is, nn.Linear(3, 3), slide, held))


def asked_about(model: nn.Module, x: Tensor | None = None) -> None:
    x = sequences() if x is None else x
    with pytest.raises(InvalidInput, match=r"layer 'act': cannot tell channels.*'gap:last'"):
        Tracer(model, (x, torch.arange(7) % 2), look=["act"])


def square(size: int) -> nn.Linear:
    return nn.Linear(size, size)


def patched(mix: nn.Module, x: Tensor) -> Tensor:
    """Each column by itself, folded into the batch."""
    out: Tensor = mix(x.mT.reshape(-1, 5)).view(len(x), 3, 5).mT
    return out


MIXED: dict[str, Between] = {
    "added": Between(lambda x, m: m(x.mT).mT + x, as_is, square(5)),
    "added to": Between(lambda x, m: x + m(x.mT).mT, as_is, square(5)),
    "alone": Between(lambda x, m: m(x.mT).mT, as_is, square(5)),
    "inside": Between(lambda x, m: m(F.gelu(m(x.mT))), as_is, square(5)),
    "twice": Between(
        lambda x, m, k: k(F.gelu(m(x.mT))).mT, as_is, nn.Linear(5, 9), nn.Linear(9, 5)
    ),
    "over, again": Between(lambda x, m: m(m(x.mT).mT.mT).mT + x, as_is, square(5)),
    "flipped": Between(lambda x, m: m(x.flip(1).roll(1, 1).mT).mT + x, as_is, square(5)),
    "scaled": Between(lambda x, m: (x.mT * m.weight[0]).mT + x, as_is, square(5)),
    "column by column": Between(
        lambda x, m: torch.stack([m(x[:, :, i]) for i in range(3)], -1), as_is, square(5)
    ),
    "folded into the batch": Between(lambda x, m: patched(m, x) + x, as_is, square(5)),
    "A @ x": Between(lambda x, a: a.weight @ x, as_is, square(5)),
    "A @ x + x": Between(lambda x, a: a.weight @ x + x, as_is, square(5)),
    "softmax(A) @ x": Between(lambda x, a: a.weight.softmax(-1) @ x, as_is, square(5)),
    "x + (x.mT @ A).mT": Between(lambda x, a: x + (x.mT @ a.weight).mT, as_is, square(5)),
    "bmm": Between(lambda x, a: torch.bmm(a.weight.expand(len(x), -1, -1), x), as_is, square(5)),
    "baddbmm": Between(
        lambda x, a: torch.baddbmm(x, a.weight.expand(len(x), -1, -1), x), as_is, square(5)
    ),
    "Linformer": Between(lambda x, e: e.weight @ x, as_is, nn.Linear(5, 4)),
    "Linformer, by a linear": Between(lambda x, e: e(x.mT).mT, as_is, nn.Linear(5, 4)),
    "Linformer, by letters": Between(
        lambda x, e: torch.einsum("nld,kl->nkd", x, e.weight), as_is, nn.Linear(5, 4)
    ),
    "kernel of 1": Between(lambda x, c: c(x), as_is, nn.Conv1d(5, 5, 1)),
    "kernels of 1": Between(
        lambda x, c, d: x + d(F.gelu(c(x))), as_is, nn.Conv1d(5, 9, 1), nn.Conv1d(9, 5, 1)
    ),
    "gated": Between(lambda x, c: x * torch.sigmoid(c(x)), as_is, nn.Conv1d(5, 5, 1)),
    "letters": Between(lambda x, a: torch.einsum("ntd,tk->nkd", x, a.weight), as_is, square(5)),
    "letters, features last": Between(
        lambda x, a: torch.einsum("ncv,vw->ncw", x, a.weight), as_is, square(3)
    ),
    "x @ A": Between(lambda x, a: x @ a.weight, as_is, square(3)),
}


@pytest.mark.parametrize("name", MIXED)
def test_a_mix_of_inputs_of_which_nothing_is_known_is_asked_about(name: str) -> None:
    asked_about(MIXED[name])


@pytest.mark.parametrize("to", [10, 4])
@pytest.mark.parametrize("by", ["letters", "matmul"])
def test_a_graph_over_the_last_axis_of_raw_maps_is_asked_about(by: str, to: int) -> None:
    def before(x: Tensor, graph: nn.Linear) -> Tensor:
        weight = graph.weight.mT
        return x @ weight if by == "matmul" else torch.einsum("nctv,vw->nctw", x, weight)

    asked_about(Between(before, as_is, nn.Linear(10, to)), images())


class Set(nn.Module):
    """A point net: maps of each point, then the largest of all."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv1d(3, 8, 1), nn.ReLU(), nn.Conv1d(8, 8, 1))
        self.act, self.head = nn.Tanh(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.maps(x.mT)).amax(2))
        return out


class Points(Set):
    """The same, given channels first."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.maps(x)).amax(2))
        return out


def test_what_is_pooled_tells_where_the_channels_are() -> None:
    x = sequences()
    torch.manual_seed(0)
    for model, given in ((Set(), x), (Points(), x.mT.contiguous())):
        layer = act(model, given)
        assert (layer.variable, layer.values.shape) == ("gap", (7, 8))


class Mixer(nn.Module):
    """A mixer's block on the raw inputs: the map of each token tells what the mix did not."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.act, self.narrow = nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 5)
        self.norm, self.each = nn.LayerNorm(3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.narrow(self.act(self.widen(x.mT))).mT
        out: Tensor = (x + self.each(self.norm(x))).mean(1)
        return out


class Transposed(nn.Module):
    """Series with the channels first, which attend over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Linear(5, 8), nn.Tanh()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.embed(x.mT))
        out: Tensor = self.attend(hidden, hidden, hidden)[0].mean(1)
        return out


def test_what_comes_later_tells_where_the_channels_were() -> None:
    x = sequences()
    torch.manual_seed(0)
    mixer, transposed = Mixer().eval(), Transposed().eval()
    with torch.no_grad():
        tokens = mixer.act(mixer.widen(x.mT))
        torch.testing.assert_close(act(mixer, x).values, tokens.mean(2))
        hidden = transposed.act(transposed.embed(x.mT))
        torch.testing.assert_close(act(transposed, x).values, hidden.mean(1))

"""Where nobody chooses layers, those that stand out are traced: a readable number, and said so."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ibtrace
from ibtrace.capture import Look, snapshot
from ibtrace.capture.defaults import MOST
from ibtrace.errors import UnknownName
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from tests import zoo

N = 16


def vectors() -> Tensor:
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(0))


def sequences() -> Tensor:
    return torch.randn(N, 5, 6, generator=torch.Generator().manual_seed(0))


def pictures() -> Tensor:
    return torch.randn(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def default_layers(model: nn.Module, x: Any) -> list[str]:
    """What is traced by default; the dry look, a snapshot and a trace agree on it."""
    probe = Probe(x, torch.arange(N) % 2)
    table = ibtrace.layers(model, probe)
    names = [*snapshot(model, probe)]
    assert {row.layer for row in table.rows if row.default} == {n.partition(":")[0] for n in names}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracer = Tracer(model, probe, estimators=["binning"])
    assert tracer.trace.layers == names
    return names


# --- activations by what they do -------------------------------------------------------------


class StarReLU(nn.Module):
    """Two scalars and a square, as in MetaFormer."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.relu = nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scale * self.relu(x) ** 2 + self.bias
        return out


class Foreign(nn.Module):
    """An activation of a library that is not known, like timm's own GELU."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * torch.special.ndtr(x)
        return out


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(-0.5, 0.5)


class Called(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x)


class Affine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * x + 1


class Normed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x / x.norm(dim=-1, keepdim=True)
        return out


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.randn_like(x)).clamp(min=0)


class Picky(nn.Module):
    """Takes no other values than those of its first call."""

    def forward(self, x: Tensor) -> Tensor:
        self.sum = getattr(self, "sum", x.sum())
        if bool((self.sum - x.sum()).abs() > 1e-3) or not torch.equal(x, x.contiguous()):
            raise RuntimeError("other values")
        return x.sin()


@pytest.mark.parametrize(
    "act",
    [StarReLU, lambda: StarReLU(inplace=True), Foreign, InPlace, nn.Tanh, nn.PReLU, nn.Hardshrink],
)
def test_activations_are_found_by_what_they_do(act: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(6, 4), act(), nn.Linear(4, 3), act(), nn.Linear(3, 2))
    assert default_layers(model, vectors()) == ["1", "3", "output"]


@pytest.mark.parametrize("other", [nn.Identity, nn.Dropout, Affine, Normed, Noise, nn.Flatten])
def test_what_is_linear_or_mixes_values_or_draws_is_no_activation(
    other: Callable[[], nn.Module],
) -> None:
    model = nn.Sequential(nn.Linear(6, 4), other(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    assert default_layers(model, vectors()) == ["3", "output"]


def test_called_activations_are_found_but_softmax_and_what_an_activation_calls_are_not() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.gelu = Foreign()

        def forward(self, x: Tensor) -> Tensor:
            weights = F.softmax(self.fc(x), -1)
            out: Tensor = torch.tanh(self.gelu(F.relu(self.fc(x)) * weights)).mean(1, keepdim=True)
            return out

    assert default_layers(Attends(), vectors()) == ["relu", "gelu", "tanh", "output"]
    called = nn.Sequential(nn.Linear(6, 4), Called(), nn.Linear(4, 2))
    assert default_layers(called, vectors()) in (["1.leaky_relu", "output"], ["1", "output"])


# --- recurrent layers and residual streams ---------------------------------------------------


@pytest.mark.parametrize(("kind", "path"), [(nn.LSTM, "[1][0]"), (nn.GRU, "[1]"), (nn.RNN, "[1]")])
@pytest.mark.parametrize("inside", [False, True])
def test_recurrent_layers_show_their_states_and_their_output(
    kind: Any, path: str, inside: bool
) -> None:
    rnn: nn.Module = kind(6, 4, num_layers=2, batch_first=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = rnn, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.rnn(x)[0][:, -1])
            return out

    name = "rnn" if inside else "output"
    names = [f"{name}{path}[0]", f"{name}{path}[1]", name]
    model = Net() if inside else rnn
    assert default_layers(model, sequences()) == [*names, *(["output"] if inside else [])]


def test_cells_show_their_steps() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for step in x.unbind(1):
                h = self.cell(step, h)
            out: Tensor = self.head(h)
            return out

    steps = ["cell", "cell:1", "cell:2", "cell:3", "cell:4", "output"]
    assert default_layers(Steps(), sequences()) == steps


def encoder(layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def test_blocks_of_a_residual_stream_stand_for_themselves() -> None:
    few = ["layers.0.relu", "layers.0", "layers.1.relu", "layers.1"]
    assert default_layers(encoder(2), sequences()) == few
    assert default_layers(encoder(8), sequences()) == [f"layers.{i}" for i in range(8)]


def test_blocks_that_change_the_shape_at_times_are_of_the_same_stream() -> None:
    assert default_layers(zoo.ResNet(), pictures()) == [
        "stem.2",
        *("blocks.0.act", "blocks.0.act:1", "blocks.1.act", "blocks.1.act:1"),
        "output",
    ]
    many = default_layers(zoo.ResNet(blocks=9), pictures())
    assert many == ["stem.2", *(f"blocks.{i}" for i in range(9)), "output"]


def test_heads_and_experts_are_no_stream() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            head = nn.Sequential
            self.heads = nn.ModuleList(zoo.Recurrent(4) for _ in range(2))
            self.plain = nn.ModuleList(head(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.plain[1](self.plain[0](x))
            return torch.stack([head(x) for head in self.heads]).mean(0)

    names = default_layers(Heads(), sequences()[..., :3].contiguous())
    assert not {"heads.0", "heads.1", "plain.0", "plain.1"} & set(names)


# --- a readable number -----------------------------------------------------------------------


def deep(n: int) -> nn.Module:
    def modules() -> Iterator[nn.Module]:
        for _ in range(n):
            yield from (nn.Linear(6, 6), nn.Tanh())
        yield nn.Linear(6, 2)

    return nn.Sequential(*modules())


@pytest.mark.parametrize("n", [MOST, MOST + 1, 61, 121])
def test_many_activations_are_thinned_evenly_over_depth_and_that_is_said_once(n: int) -> None:
    names = default_layers(deep(n), vectors())
    assert len(names) == MOST + 1
    places = [(int(name) - 1) // 2 for name in names[:-1]]
    assert (places[0], places[-1], names[-1]) == (0, n - 1, "output")
    steps = {b - a for a, b in itertools.pairwise(places)}
    assert max(steps) - min(steps) <= 1
    tracer = Tracer(deep(n), Probe(vectors(), torch.arange(N) % 2), estimators=["binning"])
    note = f"Traced are {MOST} of {n} layers that stand out, spread over depth"
    said = str(tracer.verdict())
    assert (note in said) == (n > MOST)
    assert said.count("ibtrace.layers(model, x)") == (n > MOST)


def test_a_model_of_one_layer_says_that_only_its_output_is_traced() -> None:
    model = nn.Linear(6, 2)
    assert default_layers(model, vectors()) == ["output"]
    tracer = Tracer(model, Probe(vectors(), torch.arange(N) % 2), estimators=["binning"])
    assert "Only the output is traced" in str(tracer.verdict())


def test_what_is_asked_for_is_not_thinned() -> None:
    probe = Probe(vectors(), torch.arange(N) % 2)
    assert len(snapshot(deep(61), probe, nn.Tanh)) == 61

    class Many(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(20):
                x = x.tanh()
            return x + 1

    assert len(snapshot(Many(), probe)) == MOST + 1
    assert len(snapshot(Many(), probe, Look(functional=True))) == 21


# --- exclude ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("block.*", ["3", "relu", "output"]),
        (["3", "relu"], ["block.act", "output"]),
        (nn.Tanh, ["relu", "output"]),
        (lambda name, module: name == "3", ["block.act", "relu", "output"]),
        ("output", ["block.act", "3", "relu"]),
        ("**.act", ["3", "relu", "output"]),
    ],
)
def test_excluded_layers_are_not_traced(exclude: Any, left: list[str]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential()
            self.block.add_module("fc", nn.Linear(6, 4))
            self.block.add_module("act", nn.Tanh())
            self.add_module("3", nn.Tanh())
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.get_submodule("3")(self.block(x) * 2).relu())
            return out

    data = (vectors(), torch.arange(N) % 2)
    tracer = Tracer(Net(), data, look=Look(exclude=exclude), estimators=["binning"])
    assert tracer.trace.layers == left
    if exclude != ["3", "relu"]:
        tracer = Tracer(
            Net(), data, look=Look(layers=["**", "head"], exclude=exclude), estimators=["binning"]
        )
        assert not {"block.act", "3", "output"} - set(left) & set(tracer.trace.layers)
        assert "head" in tracer.trace.layers


def test_an_exclusion_that_means_nothing_is_an_error() -> None:
    data = (vectors(), torch.arange(N) % 2)
    for layers in (None, ["1"]):
        with pytest.raises(UnknownName, match="exclude: nothing is meant by 'nope'; there are: 0"):
            Tracer(
                deep(2),
                data,
                look=Look(layers=layers, exclude=["1", "nope"]),
                estimators=["binning"],
            )


# --- the dry look ----------------------------------------------------------------------------


def test_a_dry_look_tells_names_shapes_t_calls_and_parameters() -> None:
    model = zoo.ResNet()
    before, settings = zoo.marks(model), zoo.generators()
    table = ibtrace.layers(model, pictures())
    assert (zoo.marks(model), zoo.generators()) == (before, settings)
    frame: Any = table.frame().set_index("layer")
    assert frame.loc["blocks.0.act", ["calls", "t", "shape"]].tolist() == [2, 4, (4, 8, 8)]
    assert frame.loc["blocks.0.act", "variable"] == "gap"
    assert frame.loc["head", "parameters"] == 15
    assert frame.loc["output", "module"] == "ResNet"
    said = str(table).splitlines()
    assert len(said) == len(table.rows) + 1
    assert all(row.layer in line for row, line in zip(table.rows, said[1:], strict=True))
    assert "<table" in table._repr_html_()


def test_a_dry_look_says_what_cannot_be_traced_and_why() -> None:
    class Folds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.spare = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(self.fc(x).flatten(0, 1)).view_as(x).mean(1)
            return out

    rows = {row.layer: row for row in ibtrace.layers(Folds(), sequences()).rows}
    assert "follows the number of samples" in rows["act"].why_not
    assert (rows["spare"].calls, rows["spare"].why_not) == (0, "it is not called")
    assert rows["fc"].why_not == ""

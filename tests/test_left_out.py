"""What cannot be traced is left out by name, or an error if it was named; no row is unwritten."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ibtrace
from ibtrace import estimators
from ibtrace.capture import WHOLE, Look, looks, resolve, snapshot
from ibtrace.errors import InvalidInput, LeftOut, UnknownName
from ibtrace.probe import Probe
from ibtrace.runtime.patterns import is_pattern, matches
from ibtrace.tracer import Tracer

N = 24


def vectors(n: int = N, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def labels(n: int = N) -> Tensor:
    return torch.arange(n) % 2


# --- rows that no batch wrote ----------------------------------------------------------------


class Unrolled(nn.Module):
    """Runs its layer as often as the longest sample of a batch asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.head = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        for _ in range(int(steps.max())):
            x = self.act(self.layer(x))
        out: Tensor = self.head(x)
        return out


class Growing(nn.Module):
    """Gives another width, type or number of samples from the second batch on."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.odd, self.act, self.change = nn.Identity(), nn.Tanh(), change

    def forward(self, x: Tensor) -> Tensor:
        later = bool((x[0] != vectors()[0]).any())
        self.odd(self.change(x) if later else x)
        out: Tensor = self.act(x)
        return out


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not written holds NaN, or a number that nobody computes."""

    def poison(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def made(*args: Any, **kwargs: Any) -> Tensor:
            tensor = make(*args, **kwargs)
            if tensor.is_meta or tensor.dtype == torch.bool:
                return tensor
            return tensor.fill_(torch.nan if tensor.is_floating_point() else -99)

        return made

    def array(shape: Any, dtype: Any = float, **kwargs: Any) -> Any:
        return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else -99, dtype)

    for owner, name in [
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (Tensor, "new_empty"),
    ]:
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))
    monkeypatch.setattr(np, "empty", array)


@pytest.mark.parametrize("order", ["shrinks", "grows"])
@pytest.mark.usefixtures("poisoned")
def test_a_module_that_runs_in_some_batches_only_is_left_out_or_an_error(order: str) -> None:
    steps = torch.tensor([5] * 12 + [3] * 12)
    steps = steps if order == "shrinks" else steps.flip(0)
    probe = Probe({"x": vectors(), "steps": steps}, labels())
    why = "12 of 24 rows" if order == "shrinks" else "did not run in the first batch"
    with pytest.warns(LeftOut, match=f"act:3, act:4: it .*{why}"):
        found = snapshot(Unrolled(), probe, Look(batch_size=12))
    assert list(found) == ["act", "act:1", "act:2", "output"]
    for value in found.values():
        assert not bool(value.isnan().any())
    with pytest.raises(InvalidInput, match=f"layer 'act:[34]': it .*{why}.*batch_size=n"):
        snapshot(Unrolled(), probe, Look(layers="act", batch_size=12))
    assert len(snapshot(Unrolled(), probe, Look(layers="act", batch_size=N))) == 5
    model: Any = Unrolled()
    model.head = nn.Identity()  # the output is the last call's very tensor, of whichever call
    with pytest.warns(LeftOut, match="act:3, act:4"):
        last = snapshot(model, probe, Look(batch_size=12))
    assert list(last) == ["act", "act:1", "act:2", "output"]


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "wider": lambda x: torch.cat([x, x], 1),
    "narrower": lambda x: x[:, :1],
    "another type": lambda x: x.double(),
    "fewer samples": lambda x: x[1:],
    "more samples": lambda x: torch.cat([x, x]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("poisoned")
def test_a_layer_that_differs_between_batches_is_left_out_or_an_error(change: str) -> None:
    model, probe = Growing(CHANGES[change]), Probe(vectors(), labels())
    with pytest.warns(LeftOut, match=r"left out of the trace: odd: (T is|it gave shape)"):
        found = snapshot(model, probe, Look(layers=["odd*", "a*"], batch_size=10))
    assert list(found) == ["act"]
    with pytest.raises(InvalidInput, match=r"layer 'odd': (T is|it gave shape)"):
        snapshot(model, probe, Look(layers=["odd", "act"], batch_size=10))


@pytest.mark.parametrize("batch_size", [5, 7, 23, 24, 100])
@pytest.mark.usefixtures("poisoned")
def test_a_last_batch_that_is_smaller_is_written_whole(batch_size: int) -> None:
    model, probe = nn.Sequential(nn.Linear(6, 3), nn.Tanh()), Probe(vectors(), labels())
    found = snapshot(model, probe, Look(layers=["0", "1"], batch_size=batch_size))
    torch.testing.assert_close(found["0"], model[0](vectors()).detach())
    many = ibtrace.capture.looks(
        model, probe, Look(layers=["0"], batch_size=batch_size, max_width=2)
    )
    assert not bool(next(many)["0"].values.isnan().any())


@pytest.mark.parametrize("name", estimators.names())
def test_no_estimator_reads_memory_that_it_has_not_written(
    name: str, request: pytest.FixtureRequest
) -> None:
    estimator = estimators.make(name)
    x, y = vectors(200, 2).double(), torch.arange(200) % 3
    try:
        expected = estimator(x, y, seed=0)
    except ibtrace.errors.IbtraceError as error:
        pytest.skip(f"not an estimator of such a pair: {error}")
    request.getfixturevalue("poisoned")
    found = estimators.make(name)(x, y, seed=0)
    assert torch.equal(found.bits, expected.bits)
    assert found.flags == expected.flags


# --- layers that are not samples first -------------------------------------------------------


class Frames(nn.Module):
    """Folds the frames of a film into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.first, self.folded = nn.Tanh(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.embed(x))
        folded = self.folded(x.flatten(0, 1))
        out: Tensor = self.head(folded.unflatten(0, x.shape[:2]).mean(1))
        return out


class Experts(nn.Module):
    """Sends each token to one of two experts, which see as many as come."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 2)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)) for _ in range(2)
        )
        self.act, self.head = nn.Tanh(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        chosen = self.router(tokens).argmax(1)
        out = torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            out[chosen == i] = expert(tokens[chosen == i])
        result: Tensor = self.head(self.act(out.view_as(x)).mean(1))
        return result


class Windows(nn.Module):
    """Attention inside windows: their images are folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 6), nn.Linear(6, 2)
        self.act, self.window = nn.GELU(), nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.embed(x))
        windows = x.reshape(-1, 2, 6)
        weights = self.window(windows @ windows.transpose(1, 2))
        out: Tensor = self.head((weights @ windows).reshape_as(x).mean(1))
        return out


def films() -> Probe:
    x = torch.randn(N, 4, 6, generator=torch.Generator().manual_seed(0))
    return Probe(x, labels())


@pytest.mark.parametrize(
    ("model", "folded", "rest"),
    [
        (Frames, ["folded"], {"first", "output"}),
        (Experts, ["experts.0.1", "experts.1.1"], {"act", "output"}),
        (Windows, ["window"], {"act", "output"}),
    ],
)
def test_a_default_trace_leaves_out_once_what_is_not_samples_first(
    model: Callable[[], nn.Module], folded: list[str], rest: set[str]
) -> None:
    torch.manual_seed(0)
    net = model()
    with pytest.warns(LeftOut) as said:
        tracer = Tracer(net, films(), every=1, estimators=["binning"])
    assert len(said) == 1
    assert all(name in str(said[0].message) for name in folded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracer.snapshot(1)
    assert set(tracer.trace.frame().layer) == rest
    assert set(tracer.trace.meta["left_out"]) == set(folded)
    with pytest.raises(InvalidInput, match=re.escape(folded[0])):
        Tracer(net, films(), look=folded, estimators=["binning"])


def test_a_callable_unfolds_what_is_not_samples_first() -> None:
    def unfold(t: Tensor) -> Tensor:
        assert t.shape[1:] == (6,)
        return t.view(-1, 4, 6).mean(1)

    model = Frames()
    found = next(looks(model, films(), Look(layers=["folded"], reduce=unfold, batch_size=10)))
    with torch.no_grad():
        expected = model.embed(films().x).tanh().relu().mean(1)
    torch.testing.assert_close(found["folded"].values, expected)
    with pytest.raises(InvalidInput, match=r"'folded': reduce made \(\d+, 6\)"):
        next(looks(Frames(), films(), Look(layers=["folded"], reduce=lambda t: t)))


# --- patterns and types that also mean what never runs ---------------------------------------


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


class Auxiliary(nn.Module):
    """Has a head that runs in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux, self.head = nn.Linear(6, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x).relu()
        if self.training:
            self.aux(hidden)
        out: Tensor = self.head(hidden)
        return out


@pytest.mark.parametrize(
    ("layers", "silent"),
    [
        (nn.Linear, "aux"),
        ("*", "aux"),
        ("?u?", None),
        (["body", lambda name, module: True], "aux"),
        (["body", "*"], "aux"),
    ],
)
def test_a_pattern_means_those_that_run_and_names_the_others(layers: Any, silent: str) -> None:
    probe = Probe(vectors(), labels())
    if silent is None:
        with pytest.raises(UnknownName, match=r"no layer that '\?u\?' means was called.*: body"):
            snapshot(Auxiliary(), probe, ["body", layers])
        return
    with pytest.warns(LeftOut, match=f"left out of the trace: {silent}: it is not called"):
        assert {"body", "head"} <= set(snapshot(Auxiliary(), probe, layers))
    with pytest.raises(UnknownName, match=f"layers {silent} were not called"):
        snapshot(Auxiliary(), probe, [layers, silent] if isinstance(layers, str) else [silent])


@pytest.mark.parametrize("layers", [nn.Linear, "layers.**"])
def test_a_fused_projection_is_named_and_the_rest_is_traced(layers: Any) -> None:
    with pytest.warns(LeftOut, match=r"layers\.0\.self_attn\.out_proj|layers\.1\.self_attn"):
        found = snapshot(encoder(), films(), layers)
    assert {"layers.0.linear1", "layers.1.linear2"} <= set(found)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("layer.*.output", ["layer.0.output"]),
        ("layer.**.output", ["layer.0.output", "layer.0.attention.output"]),
        ("**.output", ["layer.0.output", "layer.0.attention.output", "output"]),
        ("*", ["output"]),
        ("**", ["layer.0.output", "layer.0.attention.output", "output"]),
        ("layer.[0-3].output", ["layer.0.output"]),
        ("layer.[!0].output", []),
        ("layer.?.output", ["layer.0.output"]),
        ("layer?0?output", []),
    ],
)
def test_a_star_stops_at_a_dot(pattern: str, names: list[str]) -> None:
    known = ["layer.0.output", "layer.0.attention.output", "output"]
    assert [name for name in known if matches(name, pattern)] == names
    assert is_pattern(pattern)


def test_one_kind_of_pattern_for_layers_reduce_and_called_activations() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(x).relu()
            return out

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(Inner())
            self.act = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(self.block(x)).relu()
            return out

    model, probe = Outer(), films()
    assert [t.name for t in resolve(model, "**.act")] == ["block.0.act", "act"]
    deep = {"**.act": "flatten", "*": "token:mean"}
    found = next(looks(model, probe, Look(layers=["**.act", "output"], reduce=deep)))
    assert found["block.0.act"].values.shape == found["act"].values.shape == (N, 24)
    assert list(snapshot(model, probe, Look(layers="act", functional="*"))) == ["act", "relu"]
    assert "block.0.relu" in snapshot(model, probe, Look(layers="act", functional="**"))


# --- names -----------------------------------------------------------------------------------


class Named(nn.Module):
    """Has a layer that is called like the output of a network."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output(self.hidden(x)).softmax(-1)
        return out


def test_a_module_called_output_and_the_networks_output_have_names_of_their_own() -> None:
    model, probe = Named(), Probe(vectors(), labels())
    found = snapshot(model, probe, ["output", "output:input", WHOLE, f"{WHOLE}:input"])
    with torch.no_grad():
        hidden = model.hidden(probe.x)
        torch.testing.assert_close(found["output:input"], hidden)
        torch.testing.assert_close(found["output"], model.output(hidden))
        torch.testing.assert_close(found[WHOLE], model(probe.x))
    torch.testing.assert_close(found[f"{WHOLE}:input"], probe.x)
    assert WHOLE in snapshot(model, probe)
    plain = nn.Sequential(nn.Linear(6, 2), nn.Tanh())
    assert list(snapshot(plain, probe, WHOLE)) == [WHOLE]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
def test_hidden_states_of_recurrent_layers_have_the_samples_first(
    kind: Any, batch_first: bool, directions: int
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(
                6, 5, num_layers=2, batch_first=batch_first, bidirectional=directions == 2
            )

        def forward(self, x: Tensor) -> Tensor:
            states: Tensor = self.rnn(x if batch_first else x.transpose(0, 1))[0]
            return states.mean(1 if batch_first else 0)

    model, probe = Net(), films()
    path = "rnn[1][0]" if kind is nn.LSTM else "rnn[1]"
    found = snapshot(model, probe, Look(layers=[path, f"{path}[-1]"], batch_size=10))
    with torch.no_grad():
        last = model.rnn(probe.x if batch_first else probe.x.transpose(0, 1))[1]
    h = last[0] if kind is nn.LSTM else last
    torch.testing.assert_close(found[f"{path}[-1]"], h[-1])
    torch.testing.assert_close(found[path], torch.cat(list(h), 1))


def test_an_index_into_a_tensor_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh())
    with pytest.raises(InvalidInput, match=r"'0\[0\]'.*leads into a tensor"):
        snapshot(model, Probe(vectors(), labels()), "0[0]")

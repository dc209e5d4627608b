"""A model is traced in whatever way it is called, and training stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace import estimators
from ibtrace.capture import Forward, Look, call, looks, snapshot
from ibtrace.errors import ConfigError, InvalidInput, LeftOut
from ibtrace.probe import Probe
from ibtrace.tracer import Keep, Tracer
from tests.zoo import generators

N = 24
X = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3
EDGES = torch.randint(0, N, (2, 60), generator=torch.Generator().manual_seed(1))


class Base(nn.Module):
    """One layer of which each way of calling makes its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.dropout = nn.Dropout(0.2)
        self.act = nn.Tanh()

    def h(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.dropout(self.linear(x)))
        return out


class OneTuple(Base):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        first, second = pair
        return self.h(first) - self.h(second)


class OneDict(Base):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"embedding": self.h(features["x"]), **features}


class Several(Base):
    def forward(self, x: Tensor, other: Tensor, *, doubled: bool = False) -> Tensor:
        return self.h(x + other) * (1 + doubled)


class Spread(Base):
    def forward(self, *parts: Tensor) -> Tensor:
        return self.h(sum(parts, torch.zeros(6)))


class Flags(Base):
    def forward(
        self, x: Tensor, flag: bool = False, mask: Tensor | None = None, scale: Any = 0.0
    ) -> Tensor:
        assert flag is True
        assert mask is None
        return self.h(x * scale)


class Nested(Base):
    def forward(self, inputs: dict[str, Any], more: tuple[Tensor, ...]) -> Tensor:
        return self.h(inputs["deep"]["x"] + more[0])


class Network(Base):
    """A convolution on a graph, which wants all nodes at once."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        return self.h(x).index_add(0, target, self.h(x)[source])


@dataclass
class Data:
    """What torch_geometric has: a graph with its labels and masks."""

    x: Tensor
    edge_index: Tensor
    y: Tensor | None = None
    train_mask: Tensor | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Data:
        return cls(**fields)


class GraphNetwork(Network):
    def forward(self, data: Data) -> Tensor:  # type: ignore[override]  # called in its own way
        return super().forward(data.x, data.edge_index)


class Loss(Base):
    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.h(x), labels)


class LossFirst(Loss):
    # mypy: called in its own way
    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        hidden = self.h(x)
        return nn.functional.cross_entropy(hidden, labels), 2 * hidden


@dataclass
class Way:
    """A way of calling: the model, its x, and the same said by hand.

    Args:
        model: Its class.
        x: The probe's inputs.
        forward: The same call, spelt out.
        t: What the layer must hold, of the model and all samples.
        data: The probe, where it is not ``(x, Y)``.
    """

    model: type[Base]
    x: Any
    forward: Forward
    t: Callable[[Base], Tensor]
    data: Any = None

    @property
    def probe(self) -> Any:
        return (self.x, Y) if self.data is None else self.data


GRAPH = Data(X, EDGES, Y, Y == 0)
WAYS = {
    "one tuple": Way(OneTuple, (X, 2 * X), lambda m, b: m((b[0], b[1])), lambda m: m.h(X)),
    "one tuple in a tuple": Way(OneTuple, ((X, 2 * X),), lambda m, b: m(b[0]), lambda m: m.h(X)),
    "one dict": Way(OneDict, {"x": X, "ids": Y}, lambda m, b: m(dict(b)), lambda m: m.h(X)),
    "several by position": Way(
        Several, (X, X + 1), lambda m, b: m(b[0], b[1]), lambda m: m.h(2 * X + 1)
    ),
    "several by name": Way(
        Several,
        {"other": X, "x": X, "doubled": True},
        lambda m, b: m(b["x"], b["other"], doubled=True),
        lambda m: m.h(2 * X),
    ),
    "any number": Way(Spread, (X, X, X), lambda m, b: m(*b), lambda m: m.h(3 * X)),
    "flags, None and numbers": Way(
        Flags,
        {"x": X, "flag": True, "mask": None, "scale": torch.tensor(2.0)},
        lambda m, b: m(b["x"], True, scale=2.0),
        lambda m: m.h(2 * X),
    ),
    "constants by position": Way(
        Flags, (X, True, None, 2.0), lambda m, b: m(b[0], True, None, 2.0), lambda m: m.h(2 * X)
    ),
    "nested": Way(
        Nested,
        {"inputs": {"deep": {"x": X}}, "more": (X,)},
        lambda m, b: m(b["inputs"], b["more"]),
        lambda m: m.h(2 * X),
    ),
    "a graph by name": Way(
        Network,
        {"x": X, "edge_index": EDGES},
        lambda m, b: m(b["x"], b["edge_index"]),
        lambda m: m.h(X),
    ),
    "a graph by position": Way(
        Network,
        (X, EDGES),
        lambda m, b: m(b[0], b[1]),
        lambda m: m.h(X),
        data=Probe((X, EDGES), Y, whole=["1"]),
    ),
    "a graph": Way(GraphNetwork, GRAPH, lambda m, b: m(b.built()), lambda m: m.h(X), GRAPH),
    "a graph in parts": Way(
        Network, GRAPH, lambda m, b: m(*list(b.fields.values())[:2]), lambda m: m.h(X), GRAPH
    ),
    "a loss after all": Way(
        LossFirst, {"x": X, "labels": Y}, lambda m, b: m(b["x"], b["labels"]), lambda m: m.h(X)
    ),
}


def made(way: Way) -> Base:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return way.model()


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("batch_size", [7, 512])
def test_each_way_of_calling_gives_the_layer_of_all_samples(name: str, batch_size: int) -> None:
    way = WAYS[name]
    model, probe = made(way), Probe.of(way.probe)
    layers = snapshot(model, probe, Look(batch_size=batch_size))
    spelt = snapshot(model, probe, Look(forward=way.forward, batch_size=batch_size))
    model.eval()
    torch.testing.assert_close(layers["act"], way.t(model).detach())
    assert layers.keys() == spelt.keys()
    assert all(torch.equal(layers[layer], spelt[layer]) for layer in layers)


@pytest.mark.parametrize("name", WAYS)
def test_rows_are_the_same_however_the_call_is_said(name: str) -> None:
    way = WAYS[name]
    frames = []
    for forward in (None, way.forward):
        tracer = Tracer(
            made(way), way.probe, estimators=["kde", "exact"], look=Look(forward=forward)
        )
        frames.append(tracer.trace.frame().drop(columns="seconds"))
    assert len(frames[0])
    assert frames[0].equals(frames[1])


@pytest.mark.parametrize("name", WAYS)
def test_a_probe_that_is_kept_is_read_back(name: str, tmp_path: Path) -> None:
    way = WAYS[name]
    given: dict[str, Any] = {"keep": Keep(tmp_path, activations=True)}
    trace = Tracer(made(way), way.probe, estimators=["binning"], **given).trace
    kept, probe = trace.probe(), Probe.of(way.probe)
    assert torch.equal(kept.features, probe.features)
    assert torch.equal(kept.y, probe.y)


def test_a_constant_makes_another_probe() -> None:
    digests = {Probe({"x": X, "flag": flag}, Y).digest for flag in (True, False, None, 2, "a")}
    assert len(digests) == 5
    edges = {Probe({"x": X, "edge_index": e}, Y).digest for e in (EDGES, EDGES.flip(0))}
    assert len(edges) == 2


def test_all_of_a_graph_that_the_forward_names_is_given() -> None:
    @dataclass
    class Weighted(Data):
        edge_weight: Tensor | None = None

    class WeightedNetwork(Network):
        # mypy: called in its own way
        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, edge_index) * edge_weight.sum()

    class NamedX(Base):
        def forward(self, x: Data) -> Tensor:  # the graph itself
            return self.h(x.x)

    weighted = Weighted(X, EDGES, Y, edge_weight=torch.full((60,), 0.5))
    model = WeightedNetwork().eval()
    expected = model(X, EDGES, weighted.edge_weight).detach()
    assert torch.equal(snapshot(model, Probe.of(weighted))["output"], expected)
    named = NamedX()
    assert torch.equal(snapshot(named, Probe.of(GRAPH))["act"], named.eval().h(X).detach())


def trained(way: Way, tracer: Callable[[nn.Module], Any] | None) -> tuple[dict[str, Any], Any]:
    """The weights after three steps, and all generators."""
    torch.manual_seed(5)
    model = made(way)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    probe = Probe.of(way.probe)
    look = tracer(model) if tracer else None
    for epoch in range(1, 4):
        output = way.forward(model, probe.x)
        tensors = [output] if isinstance(output, Tensor) else list(_values(output))
        loss = sum((t.float().square().mean() for t in tensors if t.requires_grad), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if look is not None:
            look.snapshot(epoch)
    return copy.deepcopy(model.state_dict()), generators()


def _values(output: Any) -> Any:
    return output.values() if isinstance(output, dict) else output


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("spelt", [False, True])
def test_training_ends_with_the_same_weights(name: str, spelt: bool) -> None:
    way = WAYS[name]

    def tracer(model: nn.Module) -> Tracer:
        forward = way.forward if spelt else None
        return Tracer(
            model, way.probe, estimators=["binning"], look=Look(forward=forward, batch_size=9)
        )

    plain, traced = trained(way, None), trained(way, tracer)
    assert all(torch.equal(plain[0][key], traced[0][key]) for key in plain[0])
    assert str(plain[1]) == str(traced[1])


def test_a_model_that_gives_a_loss_is_traced_inside() -> None:
    x = {"x": X, "labels": Y}
    for forward in (None, lambda m, b: m(**b)):
        with pytest.warns(LeftOut, match=r"left out of the trace: output: .* its shape \(\)"):
            trace = Tracer(Loss(), (x, Y), estimators=["binning"], look=Look(forward=forward)).trace
        assert set(trace.frame().layer) == {"act"}


def test_a_forward_that_calls_twice_counts_its_calls_in_every_batch() -> None:
    probe = Probe(X, Y)
    model = nn.Sequential(nn.Linear(6, 3), nn.Tanh())
    both = snapshot(
        model, probe, Look(layers=["1"], forward=lambda m, b: m(b) - m(-b), batch_size=5)
    )
    assert list(both) == ["1", "1:1"]
    torch.testing.assert_close(both["1"], model(X).detach())
    torch.testing.assert_close(both["1:1"], model(-X).detach())


def test_a_forward_may_call_parts_and_the_copy_of_checkpoints_too(tmp_path: Any) -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(6, 3), "act": nn.Tanh()})
    torch.save(model.state_dict(), tmp_path / "epoch=1.pt")

    def forward(m: Any, batch: Tensor) -> Any:
        return m["act"](m["encoder"](batch))

    look = Look(layers=["act"], forward=forward)
    given: dict[str, Any] = {"estimators": ["kde"], "look": look}
    live = Tracer(model, (X, Y), **given).trace.frame()
    paths = tmp_path / "epoch=1.pt"
    after = Tracer.from_checkpoints(model, paths, (X, Y), **given).trace.frame()
    assert live.bits.tolist() == after.bits.tolist()
    (seen,) = looks(model, Probe(X, Y), look)
    assert seen["act"].values.shape == (N, 3)


@pytest.mark.parametrize(
    ("model", "data", "match"),
    [
        (
            Several(),
            {"q": X},
            r"Several\.forward\(x: .*does not take.*\(q: float32 \(\d+, 6\)\); say",
        ),
        (Several(), (X, X, X, X), r"does not take .*forward=lambda model, batch"),
        (Base(), X.double(), r"Base failed on the probe's x .*forward=lambda"),
        (nn.Linear(6, 3), X.double(), "weights are float32: give x as torch.float32"),
        (
            nn.Linear(5, 3),
            X,
            r"Linear failed on the probe's x \(float32 \(\d+, 6\)\): RuntimeError",
        ),
        (Several(), {"x": X, "other": None}, r"Several failed .*TypeError.*forward=lambda"),
        (Network(), (X, EDGES), r"1 \(2, 60\) and y \(24,\).*whole=\['1'\]"),
    ],
)
def test_what_cannot_be_called_is_one_line(model: nn.Module, data: Any, match: str) -> None:
    with pytest.raises(InvalidInput, match=match) as caught:
        Tracer(model, (data, Y), estimators=["binning"])
    assert "\n" not in str(caught.value)


def test_memory_that_gives_out_is_not_a_way_of_calling() -> None:
    class Greedy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        call(Greedy(), X)


def test_several_networks_take_one_tensor() -> None:
    from ibtrace.ensemble import Ensemble

    networks = Ensemble(lambda seed: nn.Sequential(nn.Linear(6, 3), nn.Tanh()), [0, 1])
    for data, forward in (((X, X), None), (X, lambda m, b: m(b))):
        with pytest.raises(ConfigError, match=r"one tensor.*one by one"):
            Tracer(networks, (data, Y), estimators=["binning"], look=Look(forward=forward))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Identity())


@pytest.mark.parametrize("inside", [{"model"}, {"probe"}, {"look"}, {"model", "probe", "look"}])
def test_inference_mode_changes_nothing(inside: set[str]) -> None:
    torch.manual_seed(0)
    plain = normed()
    with torch.inference_mode("model" in inside):
        model = normed()
        model.load_state_dict(plain.state_dict())
    with torch.inference_mode("probe" in inside):
        probe = Probe(X.clone(), Y.clone())
    with torch.inference_mode("look" in inside):
        tracer = Tracer(model, probe, estimators=["kde", "ksg"], look=Look(functional=True))
        tracer.snapshot(1)
    expected = Tracer(
        plain, (X, Y), estimators=["kde", "ksg"], look=Look(functional=True)
    ).trace.frame()
    frame = tracer.trace.frame()
    assert frame[frame.epoch == 0].bits.tolist() == expected.bits.tolist()
    assert frame[frame.epoch == 1].bits.tolist() == expected.bits.tolist()
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))


def test_a_variational_bound_trains_inside_inference_mode() -> None:
    tracer = Tracer(normed(), (X, Y), look=["2"], estimators=["binning"])
    with torch.inference_mode():
        tracer.snapshot(1)
        slow = estimators.make("variational", steps=2)
        rows = Tracer(normed(), (X, Y), look=["2"], estimators=[slow]).trace.frame()
    assert len(rows) == 2

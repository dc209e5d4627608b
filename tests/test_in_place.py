"""A forward that changes its inputs in place changes those of its own call, not the probe."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, snapshot
from ibtrace.ensemble import Ensemble
from ibtrace.probe import Probe
from ibtrace.probe.inputs import leaves
from ibtrace.tracer import Tracer
from tests.arguments import grouped
from tests.test_calling import WAYS, Base, Data, Way

N = 40
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


def spoil(value: Any) -> None:
    """Change whatever can be changed in place."""
    if isinstance(value, Tensor):
        value.fill_(1)
    elif isinstance(value, dict):
        list(map(spoil, value.values()))
        value.clear()
    elif isinstance(value, tuple):
        list(map(spoil, value))
    elif isinstance(value, Data):
        spoil(vars(value))


def spoiling(way: Way) -> Base:
    """A model of this way whose forward leaves nothing of what it was given."""
    forward = way.model.forward

    @functools.wraps(forward)
    def spoils(self: Base, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        spoil(args)
        spoil(kwargs)
        return output

    torch.manual_seed(3)
    spoiler: Base = type("Spoils", (way.model,), {"forward": spoils})()
    return spoiler


def values(probe: Probe) -> dict[str, Any]:
    return {n: v.clone() if isinstance(v, Tensor) else v for n, v in leaves(probe.x)}


def assert_same(probe: Probe, before: dict[str, Any]) -> None:
    assert values(probe).keys() == before.keys()
    for name, value in leaves(probe.x):
        same = torch.equal(value, before[name]) if isinstance(value, Tensor) else None
        assert same or (same is None and value == before[name]), name


def looks(model: Any, probe: Probe, **arguments: Any) -> list[Any]:
    """The rows of three looks at a model that stays as it is."""
    with Tracer(
        model, probe, every=1, estimators=["exact", "kde"], **grouped(**arguments)
    ) as tracer:
        tracer.snapshot(1)
        tracer.snapshot(2)
    frame = tracer.trace.frame().drop(columns="seconds")
    parts = [
        part.drop(columns="epoch").reset_index(drop=True) for _, part in frame.groupby("epoch")
    ]
    assert len(parts) == 3
    return parts


@pytest.mark.parametrize("batch_size", [7, 512])
@pytest.mark.parametrize("spelt", [False, True], ids=["by itself", "forward="])
@pytest.mark.parametrize("name", WAYS)
def test_a_probe_stays_as_it_was_in_every_way_of_calling(
    name: str, spelt: bool, batch_size: int
) -> None:
    way = WAYS[name]
    probe, model = Probe.of(way.probe), spoiling(way)
    before = values(probe)
    forward = way.forward if spelt else None
    first, *others = looks(model, probe, forward=forward, batch_size=batch_size)
    assert_same(probe, before)
    assert all(other.equals(first) for other in others)
    t = snapshot(model, probe, Look(forward=forward, batch_size=batch_size))["act"]
    torch.testing.assert_close(t, way.t(model.eval()).detach())


class Norm(nn.Module):
    """Centres its input in place before anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(4, 3), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        out: Tensor = self.act(self.layer(x))
        return out


class Clamped(nn.Module):
    """Takes unknown words for the last that it knows, in place, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.act = nn.Embedding(11, 3), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        input_ids.clamp_(max=10)
        attention_mask.fill_(1)
        out: Tensor = self.act(self.embedding(input_ids))
        return out


def tokens() -> dict[str, Tensor]:
    ids = torch.randint(0, 50, (N, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[::2, -1] = 0
    return {"input_ids": ids, "attention_mask": mask}


MODELS: dict[str, tuple[Callable[[], nn.Module], Any, dict[str, Any]]] = {
    "x -= .5": (Norm, X, {}),
    "a ReLU first": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), X, {}),
    "tokens": (Clamped, tokens(), {"layers": ["act"], "reduce": "tokens"}),
    "token means": (Clamped, tokens(), {"layers": ["act"], "reduce": "token:mean"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_looks_at_a_fixed_model_agree(name: str) -> None:
    build, x, arguments = MODELS[name]
    torch.manual_seed(0)
    model, probe = build(), Probe(x, Y)
    before = values(probe)
    first, *others = looks(model, probe, **arguments)
    assert_same(probe, before)
    assert all(other.equals(first) for other in others)


def test_several_networks_leave_the_probe_as_it_was() -> None:
    def build(seed: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.Tanh())

    networks, x = Ensemble(build, seeds=[0, 1]), X.clone()
    networks.activations(x)
    assert torch.equal(x, X)
    probe = Probe(X, Y)
    first, *others = looks(networks, probe)
    assert torch.equal(probe.inputs[""], X)
    assert all(other.equals(first) for other in others)


@pytest.mark.parametrize("layer", ["0", "1:input"])
def test_a_layer_that_is_the_input_itself_is_what_it_was_when_it_was_reached(layer: str) -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True), nn.Linear(4, 3))
    assert torch.equal(snapshot(model, Probe(X, Y), Look(layers=[layer], batch_size=7))[layer], X)
    assert torch.equal(snapshot(model, Probe(X, Y), ["1"])["1"], X.relu())


def test_what_a_forward_is_given_shares_nothing_with_the_probe() -> None:
    x = {"x": X, "nested": {"more": (X, torch.tensor(2.0))}, "edge_index": torch.eye(2)}
    probe = Probe(x, Y)
    for rows in (slice(None), slice(3), torch.arange(N)):
        for device in (None, "cpu"):
            given = dict(leaves(probe.batch(rows, device)))
            for name, value in leaves(probe.x):
                own = given[name].untyped_storage().data_ptr()
                assert own != value.untyped_storage().data_ptr(), name

"""Whatever generator a forward draws from: put back, seeded, and seen to have moved."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, snapshot
from ibtrace.capture.listing import layers
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.probe import Probe
from ibtrace.runtime import generators as generators_module
from ibtrace.runtime.generators import Draws, Generators, held_generators
from ibtrace.tracer import Tracer
from ibtrace.types import EXACT_BITS
from tests.zoo import generators, marks

Held = tuple[Callable[[], Any], Callable[[Any], float]]

OF_THE_FILE = np.random.default_rng(5)


def drawn_in_the_file() -> float:
    return float(OF_THE_FILE.random())


def closed(rng: np.random.Generator) -> Callable[[], float]:
    return lambda: float(rng.random())


IN_A_DICT = {"a": [{"rng": np.random.default_rng(8)}]}
NAMESPACE = SimpleNamespace(rng=random.Random(8))


class OfAClass:
    """Holds a generator for all, which no attribute of a model leads to."""

    rng, other = np.random.default_rng(9), np.random.default_rng(10)

    class Inner:
        """Of a class inside."""

        rng = np.random.default_rng(11)

    @classmethod
    def drawn(cls) -> float:
        return cls.other.random()


class Holder:
    """An object of the file, with a generator behind a method too."""

    def __init__(self) -> None:
        self.rng, self.hidden = np.random.default_rng(12), random.Random(13)
        self.inner = SimpleNamespace(own=(np.random.default_rng(14),))

    def drawn(self) -> float:
        return self.hidden.random()


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("rng",)

    def __init__(self) -> None:
        self.rng = random.Random(15)


HOLDER, SLOTTED = Holder(), Slotted()

SOURCES: dict[str, Held] = {
    "torch": (lambda: None, lambda held: torch.rand(()).item()),
    "numpy": (lambda: None, lambda held: np.random.rand()),
    "python": (lambda: None, lambda held: random.random()),
    "own": (torch.Generator, lambda held: torch.rand((), generator=held).item()),
    "own in a dict": (
        lambda: {"a": [torch.Generator()]},
        lambda held: torch.rand((), generator=held["a"][0]).item(),
    ),
    "own numpy": (lambda: np.random.default_rng(5), lambda held: held.random()),
    "own numpy in an object": (
        lambda: SimpleNamespace(rng=np.random.Generator(np.random.MT19937(5))),
        lambda held: held.rng.random(),
    ),
    "own numpy bits": (lambda: np.random.Philox(5), lambda held: held.random_raw() / 2.0**64),
    "own numpy state": (lambda: np.random.RandomState(5), lambda held: held.rand()),
    "own numpy state of other bits": (
        lambda: np.random.RandomState(np.random.PCG64(5)),
        lambda held: held.rand(),
    ),
    "own python": (lambda: [random.Random(5)], lambda held: held[0].random()),
    "of a function": (lambda: closed(np.random.default_rng(5)), lambda held: held()),
    "of a partial function": (
        lambda: partial(random.Random.random, random.Random(5)),
        lambda held: held(),
    ),
    "of the file": (lambda: None, lambda held: OF_THE_FILE.random()),
    "of the file, in a function": (lambda: None, lambda held: drawn_in_the_file()),
    "of the file, in a dict": (lambda: None, lambda held: IN_A_DICT["a"][0]["rng"].random()),
    "of a class": (lambda: None, lambda held: OfAClass.rng.random()),
    "of an inner class": (lambda: None, lambda held: OfAClass.Inner.rng.random()),
    "of an object of the file": (lambda: None, lambda held: HOLDER.rng.random()),
    "of an object's object": (lambda: None, lambda held: HOLDER.inner.own[0].random()),
    "of an object's method": (lambda: None, lambda held: HOLDER.drawn()),
    "of a class's method": (lambda: None, lambda held: OfAClass.drawn()),
    "of an object with slots": (lambda: None, lambda held: SLOTTED.rng.random()),
    "of a namespace": (lambda: None, lambda held: NAMESPACE.rng.random()),
}


class Sampling(nn.Module):
    def __init__(self, source: str, *, batches: int = 10) -> None:
        super().__init__()
        make, self.draw = SOURCES[source]
        self.layer, self.act, self.held, self.size = nn.Linear(3, 2), nn.Tanh(), make(), batches

    def forward(self, x: Tensor) -> Tensor:
        noise = self.draw(self.held) if len(x) >= self.size or len(x) == 4 else 0.0
        out: Tensor = self.act(self.layer(x) + noise)
        return out


def probe() -> Probe:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    return Probe(x, torch.arange(10) % 2)


def exact(tracer: Tracer) -> list[bool]:
    """Whether the exact I(X;T) of the one layer is known, at each look."""
    scalars = tracer.trace.scalars()
    known: list[bool] = scalars[scalars.name == EXACT_BITS].value.notna().tolist()
    return known


@pytest.mark.parametrize("source", SOURCES)
def test_a_drawn_layer_is_known_seeded_and_its_generator_put_back(source: str) -> None:
    torch.manual_seed(0)
    model = Sampling(source)
    tracer = Tracer(
        model, probe(), look=Look(layers=["act"], batch_size=10), estimators=["binning"]
    )
    before = marks(model), generators()
    tracer.snapshot(1)
    assert (marks(model), generators()) == before
    assert exact(tracer) == [False, False]
    first = snapshot(model, probe(), "act")["act"]
    model(probe().features)  # the generator moves on, as in training
    assert torch.equal(snapshot(model, probe(), "act")["act"], first)
    assert not torch.equal(model(probe().features), model(probe().features))


def test_a_layer_that_is_drawn_in_some_batches_only_is_drawn() -> None:
    """The first batches (of 4) are drawn, the last (of 2) is not."""
    model = Sampling("torch")
    tracer = Tracer(model, probe(), look=Look(layers=["act"], batch_size=4), estimators=["binning"])
    tracer.snapshot(1)
    assert exact(tracer) == [False, False]


def test_what_draws_nothing_is_not_drawn() -> None:
    model = Sampling("torch", batches=100)
    tracer = Tracer(
        model, probe(), look=Look(layers=["act"], batch_size=10), estimators=["binning"]
    )
    tracer.snapshot(1)
    assert exact(tracer) == [True, True]


@pytest.mark.parametrize("source", SOURCES)
def test_generators_are_seeded_restored_and_watched_alike(source: str) -> None:
    make, draw = SOURCES[source]
    held = make()
    watched = Generators(*held_generators(held, draw))
    states = watched.states()
    draws = Draws(watched)
    assert not draws.happened()
    first = draw(held)
    assert draws.happened()
    watched.restore(states)
    assert not draws.happened()
    assert draw(held) == first
    watched.seed(3)
    drawn = draw(held)
    watched.seed(3)
    assert draw(held) == drawn != first
    watched.restore(states)


FILE = [source for source in SOURCES if source.startswith("of ")]


@pytest.mark.parametrize("source", FILE)
def test_a_look_leaves_the_generators_of_the_file_where_they_were(source: str) -> None:
    """Two forwards draw what they would have drawn had nothing looked between them."""
    draw = SOURCES[source][1]
    held = SOURCES[source][0]()
    watched = Generators(*held_generators(draw, held))
    states = watched.states()
    first = draw(held)
    expected = draw(held)
    watched.restore(states)
    assert draw(held) == first
    model = Sampling(source)
    model.held = held
    Tracer(model, probe(), estimators="exact", look="act").close()
    assert draw(held) == expected


def test_globals_are_not_searched_through() -> None:
    """Only what the names of a function lead to: an object may hold a whole data set."""
    assert held_generators(lambda: HOLDER.inner.own) == [HOLDER.inner.own[0]]
    assert held_generators(lambda: HOLDER.drawn()) == [HOLDER.hidden]
    assert held_generators(lambda: OfAClass.Inner) == []
    assert held_generators(lambda: SLOTTED) == []


UNWATCHED = {"noise": torch.Generator()}


def test_what_pythons_collector_does_not_watch_may_hold_generators() -> None:
    one, other = torch.Generator(), torch.Generator()
    kept = (one,)
    gc.collect()
    assert not any(map(gc.is_tracked, (kept, UNWATCHED)))
    assert held_generators(kept, {"a": {"b": other}}) == [other, one]
    assert held_generators(lambda: UNWATCHED["noise"]) == [UNWATCHED["noise"]]


class Named:
    """One of many objects that have each other under names."""


CIRCLE = [Named() for _ in range(30)]
for member in CIRCLE:
    vars(member).update({f"member{at}": other for at, other in enumerate(CIRCLE)})
vars(CIRCLE[7])["member0"] = random.Random(0)


def test_objects_that_name_each_other_in_circles_are_gone_through_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of thirty by all names of a function: else 30 ** 4 ways."""
    visits = []
    named = generators_module._named

    def counted(value: Any, names: frozenset[str]) -> Any:
        visits.append(value)
        return named(value, names)

    monkeypatch.setattr(generators_module, "_named", counted)
    code = "lambda: CIRCLE[0] or " + " or ".join(f"c.member{at}" for at in range(30))
    assert held_generators(eval(code, {"CIRCLE": CIRCLE})) == [vars(CIRCLE[7])["member0"]]
    assert len(visits) <= 4 * len(CIRCLE)


def test_a_generator_without_a_state_stops_nothing() -> None:
    model = Sampling("torch", batches=100)
    model.held = random.SystemRandom()
    assert snapshot(model, probe(), "act")["act"].shape == (10, 2)


class Unseeded(nn.Module):
    """Draws from what has no state that can be put back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.head = nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.tensor([[random.SystemRandom().random()] for _ in x])
        out: Tensor = self.head(self.act(self.layer(x)).detach() + noise)
        return out


def test_what_is_drawn_from_nothing_seeded_is_left_out_by_its_name() -> None:
    with pytest.warns(LeftOut, match="output: two forwards of the very same samples differ"):
        tracer = Tracer(Unseeded(), probe(), estimators="binning")
    assert set(tracer.trace.frame().layer) == {"act"}
    with pytest.raises(InvalidInput, match="drawn anew each time, from what cannot be seeded"):
        Tracer(Unseeded(), probe(), look="output", estimators="binning")


class Differentiates(nn.Module):
    """Goes down an energy, in its forward."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.head, self.by = nn.Linear(3, 2), by

    def forward(self, x: Tensor) -> Tensor:
        if self.by == "vmap":
            force = torch.func.vmap(torch.func.grad(lambda v: self.energy(v).sum()))(x)
        else:
            with torch.enable_grad() if self.by == "enabled" else nullcontext():
                x = x.requires_grad_()
                (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        out: Tensor = self.head(force)
        return out


class Mapped(nn.Module):
    """Calls an activation on one sample at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.func.vmap(lambda v: torch.tanh(self.layer(v)))(x))
        return out


class OwnSine(nn.Module):
    """An activation that is known by what it does alone."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


@pytest.mark.parametrize("act", [nn.Tanh, OwnSine])
def test_modules_inside_a_models_own_vmap_are_left_out_by_name(act: type[nn.Module]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act, self.last = nn.Linear(3, 4), act(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(torch.vmap(lambda row: self.act(self.layer(row)))(x))
            return out

    with pytest.warns(LeftOut, match=r"act: it runs inside torch\.func\.vmap"):
        tracer = Tracer(Net(), probe(), estimators="binning")
    assert set(tracer.trace.frame().layer) == {"last"}
    table = {row.layer: row for row in layers(Net(), probe()).rows}
    for name in ("act", "layer"):
        assert table[name].why_not.startswith("it runs inside torch.func.vmap")
        assert not table[name].default
    assert table["last"].why_not == ""


def test_a_forward_that_differentiates_is_traced_or_told_how() -> None:
    with pytest.warns(LeftOut, match=r"tanh: it runs inside torch\.func\.vmap"):
        tracer = Tracer(Mapped(), probe(), estimators="binning")
    assert set(tracer.trace.frame().layer) == {"output"}
    tracer = Tracer(Differentiates("enabled"), probe(), estimators="binning")
    assert set(tracer.trace.frame().layer) == {"energy.1", "output"}
    with pytest.raises(InvalidInput, match=r"a look is without gradients.*torch\.enable_grad"):
        Tracer(Differentiates("bare"), probe(), estimators="binning")
    with pytest.warns(LeftOut, match=r"energy\.1.* runs inside torch\.func\.vmap"):
        tracer = Tracer(Differentiates("vmap"), probe(), estimators="binning")
    assert set(tracer.trace.frame().layer) == {"output"}
    with pytest.raises(InvalidInput, match=r"'energy\.1': it runs inside torch\.func\.vmap"):
        Tracer(Differentiates("vmap"), probe(), look="energy.1", estimators="binning")


class Refusing(nn.Module):
    """Takes attributes until it is locked, then none."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.calls = nn.Linear(3, 2), nn.Tanh(), [0]
        self.locked = True

    def __setattr__(self, name: str, value: Any) -> None:
        if vars(self).get("locked"):
            raise AttributeError(f"{name}: this module is locked")
        super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        out: Tensor = self.act(self.layer(x))
        return out


def test_a_module_that_refuses_attributes_is_looked_at_and_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Refusing())
    assert model.training
    before = marks(model), generators()
    assert snapshot(model, probe(), "1.act")["1.act"].shape == (10, 2)
    assert (marks(model), generators()) == before
    assert all(module.training for module in model.modules())


def test_a_reduction_that_writes_into_its_layer_changes_nothing_after_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2), nn.Tanh())

    def trace(reduce: Any) -> Any:
        look = Look(layers=["1", "3"], reduce={"1": reduce})
        tracer = Tracer(model, probe(), look=look, estimators=["binning"])
        tracer.snapshot(1)
        frame = tracer.trace.frame()
        return frame[frame.layer == "3"].bits.tolist()

    assert trace(lambda o: o.zero_().view(-1, 6)) == trace(lambda o: o)

"""A look puts back all that a forward changes, by whatever way it is held, errors included."""

from __future__ import annotations

import copy
import gc
import random
import threading
import types
import weakref
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import SEED, Look, saving, snapshot, undisturbed
from ibtrace.errors import RunError
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from tests.zoo import marks, plain


class Broken(Exception):
    """What the tests raise."""


class Locked(OrderedDict[str, Any]):
    """Refuses every change, like the configuration of a diffusers model."""

    def __init__(self, items: dict[str, Any]) -> None:
        for key, value in items.items():
            OrderedDict.__setitem__(self, key, value)

    def refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("this configuration is frozen")

    update = pop = popitem = clear = setdefault = __setitem__ = __delitem__ = refuse


class LockedDict(dict[str, Any]):
    """The same as a plain dict."""

    update = pop = popitem = clear = setdefault = Locked.refuse
    __setitem__ = __delitem__ = Locked.refuse


class LockedList(list[int]):
    clear = extend = append = pop = insert = Locked.refuse
    __setitem__ = __delitem__ = __iadd__ = Locked.refuse


class LockedSet(set[int]):
    clear = add = update = discard = remove = pop = Locked.refuse


@dataclass
class Meter:
    count: int = 0
    seen: list[int] = field(default_factory=list)


class Slotted:
    __slots__ = ("count", "later")

    def __init__(self) -> None:
        self.count = 0


class Cache:
    """A class of the user's with a property, and with something shared by its instances."""

    shared: ClassVar[list[int]] = []
    total: ClassVar[int] = 0

    def __init__(self) -> None:
        self._length = 0

    @property
    def length(self) -> int:
        return self._length

    @length.setter
    def length(self, value: int) -> None:
        self._length = value


def call(name: str, *args: Any) -> Callable[[Any], Any]:
    return lambda held: getattr(held, name)(*args)


def each(*changes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda held: [change(held) for change in changes]


def attribute(name: str, value: Any) -> Callable[[Any], None]:
    return lambda held: setattr(held, name, value)


def share(held: Any) -> None:
    held.shared.append(1)
    Cache.total = 5
    Cache.more = 1  # type: ignore[attr-defined]  # a model that adds to its class


@dataclass(frozen=True)
class Frozen:
    seen: list[int]
    more: tuple[deque[int], ...]


class Plain:
    def __init__(self) -> None:
        self.seen: list[int] = []


class Weak:
    def __init__(self, weak: Any) -> None:
        self.weak, self.key = weak, Plain()
        if isinstance(weak, weakref.WeakKeyDictionary):
            weak[self.key] = []


def local() -> Any:
    held = threading.local()
    held.n = 1
    return held


def cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


def see_slots(held: Any) -> Any:
    return [(name, getattr(held, name, None)) for name in ("count", "later")]


def see_cache(held: Any) -> Any:
    return dict(vars(held)), list(Cache.shared), Cache.total, hasattr(Cache, "more")


HELD: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "dict": (lambda: {"a": 1, "b": 2}, each(call("pop", "a", 0), call("update", {"c": 3})), dict),
    "order": (
        lambda: {"a": 1, "b": 2},
        lambda held: held.update(a=held.pop("a")),
        lambda held: list(held.items()),
    ),
    "locked": (
        lambda: Locked({"a": 1}),
        lambda held: OrderedDict.__setitem__(held, "a", 2),
        lambda held: list(held.items()),
    ),
    "locked dict": (lambda: LockedDict(a=1), lambda held: dict.clear(held), dict),
    "locked list": (lambda: LockedList([1, 2]), lambda held: list.append(held, 3), list),
    "locked set": (lambda: LockedSet([1, 2]), lambda held: set.add(held, 3), set),
    "ordered": (
        lambda: OrderedDict(a=1, b=2),
        call("move_to_end", "a"),
        lambda held: list(held.items()),
    ),
    "counter": (lambda: Counter("ab"), call("update", "bc"), dict),
    "default": (
        lambda: defaultdict(list, a=[1]),
        lambda held: (held["a"].append(2), held["b"]),
        plain,
    ),
    "user dict": (
        lambda: SimpleNamespace(inner=UserDict(a=1)),
        lambda held: held.inner.update(a=2),
        lambda held: held.inner["a"],
    ),
    "deque": (lambda: deque([1, 2], 2), call("append", 3), lambda held: (list(held), held.maxlen)),
    "nested": (
        lambda: {"a": [({"b": deque([1])},)]},
        lambda held: held["a"][0][0]["b"].append(2),
        lambda held: list(held["a"][0][0]["b"]),
    ),
    "tensors": (lambda: ([torch.zeros(2)], {}), lambda held: held[0][0].add_(1), plain),
    "array": (lambda: [np.zeros(3)], lambda held: held[0].__iadd__(1), plain),
    "objects": (lambda: np.array([[1], None], dtype=object), lambda held: held[0].append(2), plain),
    "torch generator": (
        lambda: {"a": torch.Generator().manual_seed(1)},
        lambda held: torch.rand(1, generator=held["a"]),
        plain,
    ),
    "numpy generator": (
        lambda: np.random.default_rng(0),
        call("random"),
        lambda held: str(held.bit_generator.state),
    ),
    "numpy state": (
        lambda: np.random.RandomState(0),
        call("rand"),
        lambda held: str(held.get_state()),
    ),
    "python generator": (lambda: random.Random(0), call("random"), call("getstate")),
    "namespace": (lambda: SimpleNamespace(n=0), attribute("n", 1), lambda held: dict(vars(held))),
    "dataclass": (
        Meter,
        each(attribute("count", 1), lambda held: held.seen.append(1)),
        lambda held: (held.count, list(held.seen)),
    ),
    "slots": (Slotted, each(attribute("count", 1), attribute("later", 1)), see_slots),
    "property": (Cache, attribute("length", 3), see_cache),
    "class": (
        Cache,
        share,
        see_cache,
    ),
    "hidden module": (
        lambda: [nn.BatchNorm1d(3)],
        lambda held: held[0](torch.randn(4, 3)),
        lambda held: plain(held[0].state_dict()),
    ),
    "read-only": (
        lambda: types.MappingProxyType({"a": [1]}),
        lambda held: held["a"].append(2),
        plain,
    ),
    "read-only, of an attribute": (
        lambda: [types.MappingProxyType(Locked({"a": {"b": 1}}))],
        lambda held: held[0]["a"].update(b=2),
        lambda held: dict(held[0]["a"]),
    ),
    "chain": (
        lambda: ChainMap({"a": 1}, {"a": [0], "b": [2]}),
        each(call("update", {"a": 3}), lambda held: held["b"].append(1)),
        lambda held: [plain(each) for each in held.maps],
    ),
    "frozen": (
        lambda: Frozen([1], (deque([2]),)),
        each(lambda held: held.seen.append(2), lambda held: held.more[0].append(3)),
        lambda held: (list(held.seen), list(held.more[0])),
    ),
    "weak keys": (
        lambda: Weak(weakref.WeakKeyDictionary()),
        lambda held: (held.weak[held.key].append(1), held.weak.update({Cache: []})),
        lambda held: plain(list(held.weak.values())),
    ),
    "weak values": (
        lambda: Weak(weakref.WeakValueDictionary()),
        lambda held: held.weak.update({held.key: Cache}),
        lambda held: len(held.weak),
    ),
    "weak set": (lambda: weakref.WeakSet([Cache]), call("clear"), len),
    "weak reference": (
        lambda: (lambda cache: [weakref.ref(cache), [lambda: cache]])(Plain()),
        lambda held: held[0]().seen.append(1),
        lambda held: list(held[0]().seen),
    ),
    "keys": (
        lambda: {Plain(): 1},
        lambda held: next(iter(held)).seen.append(1),
        lambda held: list(next(iter(held)).seen),
    ),
    "of a thread": (local, attribute("n", 2), lambda held: held.n),
    "user list": (
        lambda: [UserList([1])],
        lambda held: held[0].append(2),
        lambda held: list(held[0]),
    ),
    "cycle": (cycle, call("append", 2), len),
}


class Changing(nn.Module):
    """Changes what it holds as it is called."""

    def __init__(self, held: Any, change: Callable[[Any], Any], *, breaks: bool = False) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(3, 2), nn.Tanh()
        self.held, self.change, self.breaks = held, change, breaks

    def forward(self, x: Tensor) -> Tensor:
        self.change(self.held)
        if self.breaks:
            raise Broken("on purpose")
        out: Tensor = self.act(self.layer(x))
        return out


def probe() -> Probe:
    return Probe(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2)


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("kind", HELD)
def test_what_a_module_holds_is_put_back(kind: str, breaks: bool) -> None:
    make, change, see = HELD[kind]
    change(make())  # it can be done
    Cache.shared.clear()
    Cache.total = 0
    if hasattr(Cache, "more"):
        del Cache.more
    held = make()
    model = Changing(held, change, breaks=breaks)
    before, same = see(held), make()
    assert before == see(same)
    if breaks:
        with pytest.raises(Broken, match="on purpose"):
            snapshot(model, probe(), Look(batch_size=4))
    else:
        snapshot(model, probe(), Look(batch_size=4))
    assert model.held is held
    assert see(held) == before
    change(held)
    change(same)
    if kind not in ("class", "hidden module"):  # the one is shared, the other draws its weights
        assert see(held) == see(same)


def resize(model: Any) -> None:
    model.seen.resize_(5).fill_(7.0)


def halve(model: Any) -> None:
    model.seen.data = model.seen.data.half()


def replace(model: Any) -> None:
    model.seen = model.seen + 1


def register(model: Any) -> None:
    model.register_buffer("more", torch.ones(2))


def forget(model: Any) -> None:
    del model.seen


def grow(model: Any) -> None:
    model.more = nn.Linear(2, 2)


def rescale(model: Any) -> None:
    model.layer.weight.mul_(2)


def rescale_data(model: Any) -> None:
    model.layer.weight.data.mul_(2)


def new_parameter(model: Any) -> None:
    model.layer.weight = nn.Parameter(torch.ones(2, 3))


def drop_module(model: Any) -> None:
    del model.spare


def hook(model: Any) -> None:
    model.spare.register_forward_hook(lambda *_: None)


def freeze(model: Any) -> None:
    model.spare.train()
    model.layer.weight.requires_grad_(False)


CHANGES = [resize, halve, replace, register, forget, grow, rescale, rescale_data, new_parameter]
CHANGES += [drop_module, hook, freeze]


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_forward_does_to_its_modules_is_undone(
    change: Callable[[Any], None], breaks: bool
) -> None:
    class Net(Changing):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(self.layer(x))
            change(self)
            if self.breaks:
                raise Broken("on purpose")
            return out

    torch.manual_seed(0)
    model = Net(None, change, breaks=breaks)
    model.register_buffer("seen", torch.zeros(2), persistent=False)
    model.spare = nn.Dropout()
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = marks(model)
    if breaks:
        with pytest.raises(Broken, match="on purpose"):
            snapshot(model, probe())
    else:
        snapshot(model, probe())
    assert marks(model) == before
    now = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert all(now[name] is tensor for name, tensor in held.items())


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "MinMaxObserver",
        "PerChannelMinMaxObserver",
        "MovingAverageMinMaxObserver",
        "MovingAveragePerChannelMinMaxObserver",
        "HistogramObserver",
    ],
)
def test_observers_that_resize_their_buffers_are_as_they_were(name: str) -> None:
    from torch.ao import quantization

    observer = getattr(quantization, name)()
    model = nn.Sequential(nn.Linear(3, 4), observer, nn.Tanh())
    before = plain(model.state_dict())
    snapshot(model, probe())
    assert plain(model.state_dict()) == before
    model(probe().features)
    trained = plain(model.state_dict())
    assert trained != before
    snapshot(model, Probe(3 * probe().features, probe().y))
    assert plain(model.state_dict()) == trained


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("bound", [saving.PARAMETER_BYTES, 0])
def test_norms_that_a_forward_enforces_are_not_enforced_by_a_look(
    bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "PARAMETER_BYTES", bound)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 3, max_norm=0.1), nn.Flatten(), nn.Linear(6, 2))
    bag = nn.EmbeddingBag(10, 3, max_norm=0.1)
    ids = Probe(torch.arange(16).reshape(8, 2) % 10, torch.arange(8) % 2)
    for net in (model, bag):
        before = plain(net.state_dict())
        snapshot(net, ids, ["output"])
        assert plain(net.state_dict()) == before


def test_a_tracer_leaves_a_locked_configuration_whole() -> None:
    model = Changing(Locked({"a": 1, "b": [2]}), lambda _: None)
    Tracer(model, probe())
    assert model.held == {"a": 1, "b": [2]}


def test_what_cannot_be_put_back_is_an_error_and_the_rest_is_put_back() -> None:
    array = np.zeros(3)

    def change(held: list[Any]) -> None:
        held.append(1)
        array.flags.writeable = True
        array[0] = 1
        array.flags.writeable = False

    held: list[Any] = []
    model: Any = Changing(held, change)
    model.array = array
    model.last = torch.zeros(2)
    with pytest.raises(RunError, match=r"cannot put back \(1 times; first: .*read-only"):
        snapshot(model, probe())
    assert held == []


class Sampling(nn.Module):
    """A variational autoencoder's encoder: its hidden layer is drawn, from any generator."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.mean, self.scale, self.act = nn.Linear(3, 2), nn.Linear(3, 2), nn.Tanh()
        self.own = torch.Generator().manual_seed(3)
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        noise = {
            "torch": lambda: torch.randn_like(mean),
            "own": lambda: torch.randn(mean.shape, generator=self.own),
            "numpy": lambda: torch.from_numpy(np.random.randn(*mean.shape)).float(),
            "python": lambda: torch.tensor([random.gauss(0, 1) for _ in range(len(x))])[:, None],
        }[self.source]()
        out: Tensor = self.act(mean + noise * self.scale(x).exp())
        return out


@pytest.mark.parametrize("source", ["torch", "own", "numpy", "python"])
def test_what_is_sampled_is_the_same_at_every_look(source: str) -> None:
    torch.manual_seed(0)
    model = Sampling(source)
    first = snapshot(model, probe(), Look(layers="act", batch_size=4))["act"]
    model(probe().features)  # generators move on
    torch.rand(3)
    again = snapshot(model, probe(), Look(layers="act", batch_size=4))["act"]
    assert torch.equal(first, again)
    assert not torch.equal(first[:4], first[4:])
    assert not torch.equal(model(probe().features), model(probe().features))
    with undisturbed(model):
        assert torch.initial_seed() == SEED


@pytest.mark.parametrize("collects", [True, False])
def test_many_containers_are_put_back_wherever_one_changes(collects: bool) -> None:
    """Plain dicts and lists have a fast way of their own, without Python's collector meanwhile."""
    model = nn.Module()
    model.act = nn.Tanh()
    held: list[Any] = [[{"a": at, "b": [at, None]}] for at in range(2000)]
    held[7][0]["deep"] = {("a", 1): [torch.zeros(2)]}
    vars(model)["held"] = held
    before = copy.deepcopy(held)
    was = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        saved = saving.Saved(model)
        assert gc.isenabled() == collects
    finally:
        (gc.enable if was else gc.disable)()
    held[3][0]["a"] = 3.0  # equal, and another object
    held[4][0]["b"].append(1)
    held[5][0]["b"].reverse()
    held[6][0]["a"], held[6][0]["new"] = held[6][0].pop("a"), 0  # in another order
    held[7][0]["deep"]["a", 1][0].add_(1)
    held[8].clear()
    held[9][0].clear()
    saved.restore()
    assert type(held[3][0]["a"]) is int
    assert [list(each[0]) for each in held] == [list(each[0]) for each in before]
    assert str(held) == str(before)

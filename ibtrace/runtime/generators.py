"""The random generators, global ones and others: one list to save, seed and watch."""

from __future__ import annotations

import functools
import gc
import itertools
import random
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

KINDS = (
    torch.Generator,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
    random.Random,
)
"""The types of generators that can be put back and seeded."""

_WITHOUT = frozenset(("torch", "numpy", "random", "builtins", "typing", "collections", "abc"))
"""Packages whose own code names no generators but the global ones."""

_CONTAINERS = (dict, list, tuple, set, frozenset, deque)

_CLASSES = 4096  # of which is remembered what they are made of

_STEPS, _MOST_ITEMS = 4, 1000
"""How far generators are searched for in what a function names of its globals."""


class Generators:
    """The global generators of torch (CPU and CUDA), NumPy and Python, and others.

    Args:
        *others: Generators of `KINDS` (a module's own, a data loader's); None is passed over, as
            is what has no state (`random.SystemRandom`).
    """

    def __init__(self, *others: Any) -> None:
        cuda = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
        own = [o for o in others if o is not None and not isinstance(o, random.SystemRandom)]
        self._all: list[Any] = [torch.default_generator, *cuda, np.random, random, *own]

    def states(self) -> list[Any]:
        """The state of each."""
        return [_state(generator) for generator in self._all]

    def restore(self, states: list[Any]) -> None:
        """Give each the state that it had."""
        for generator, state in zip(self._all, states, strict=True):
            _set_state(generator, state)

    def seed(self, seed: int) -> None:
        """Seed each with the same number."""
        for generator in self._all:
            _seed(generator, seed)


class Draws:
    """Whether anything random was drawn since this was made.

    Args:
        generators: Those to watch; None: the global ones.

    Example:
        >>> draws = Draws()
        >>> before = draws.happened()
        >>> _ = torch.rand(3)
        >>> before, draws.happened()
        (False, True)
    """

    def __init__(self, generators: Generators | None = None) -> None:
        self._generators = generators or Generators()
        self._before = self._generators.states()

    def happened(self) -> bool:
        """Whether a generator has moved."""
        return not _same(self._before, self._generators.states())


@contextmanager
def preserved_generators(*others: Any) -> Iterator[Generators]:
    """Restore torch's (CPU and CUDA), NumPy's and Python's global generators on leaving.

    Args:
        *others: Further generators to restore (a data loader's own); None is passed over.

    Yields:
        All that are restored.
    """
    generators = Generators(*others)
    states = generators.states()
    try:
        yield generators
    finally:
        generators.restore(states)


def held_generators(*owners: Any) -> list[Any]:
    """The generators that objects hold, and those that their code names: see `KINDS`.

    Followed are attributes (``__dict__``, ``__slots__`` and those of the class), containers, what
    functions close over, their defaults, what a suspended Python generator holds, and the global
    names that functions and methods use, themselves, in a module or in a function of their own
    package. None of that code runs.

    Args:
        *owners: Any objects: data sets, loaders, functions.

    Example:
        >>> rng = random.Random(0)
        >>> held_generators({"noise": [lambda value: value + rng.random()]}) == [rng]
        True
    """
    held: list[Any] = []
    seen: dict[int, Any] = {}
    waiting = list(owners)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        kind: Any = type(value)
        if _is_generator(kind):
            held.append(value)
            seen[id(value)] = value
        elif _may_hold(value):
            seen[id(value)] = value
            waiting += _hanging_on(value)
    return held


def _may_hold(value: Any) -> bool:
    """Whether an object may hold another one.

    Python's collector watches what may be part of a circle, so not a dict or a tuple of what cannot
    be, which generators of torch cannot.
    """
    return gc.is_tracked(value) or isinstance(value, (dict, tuple, np.ndarray))


def _hanging_on(value: Any) -> Iterable[Any]:
    """What an object holds, its class, and what functions name."""
    kind: Any = type(value)
    if kind in _CONTAINERS:
        return _items(value)
    if isinstance(value, types.FunctionType):
        return _held_by(value)
    if isinstance(value, types.MethodType):
        return (value.__self__, value.__func__)
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, types.GeneratorType):
        return [] if value.gi_frame is None else list(value.gi_frame.f_locals.values())
    if isinstance(value, type):
        return _attributes_of_class(value)
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype == object else ()
    if _is_leaf(kind):
        return ()
    return (*_items(value), *_attributes(value))


@functools.lru_cache
def _is_generator(kind: Any) -> bool:
    return issubclass(kind, KINDS)


@functools.lru_cache
def _is_leaf(kind: Any) -> bool:
    return issubclass(kind, (torch.Tensor, types.ModuleType))


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return dict.values(value)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return value
    return ()


def _attributes(value: Any) -> Iterator[Any]:
    kind: Any = type(value)
    held = getattr(value, "__dict__", None)
    yield from held.values() if isinstance(held, dict) else ()
    for name in _slots(kind):
        yield getattr(value, name, None)
    yield kind


@functools.lru_cache(_CLASSES)
def _slots(kind: Any) -> tuple[str, ...]:
    """The names of the slots of a class's instances."""
    own = (each for parent in _own(kind) for each in vars(parent).values())
    return tuple(a.__name__ for a in own if isinstance(a, types.MemberDescriptorType))


@functools.lru_cache(_CLASSES)
def _own(kind: type) -> list[type]:
    """The classes that a class inherits from, itself included, without those of `_WITHOUT`."""
    return [each for each in kind.__mro__ if _package(each.__module__) not in _WITHOUT]


def _attributes_of_class(kind: type) -> Iterator[Any]:
    for parent in _own(kind):
        for attribute in vars(parent).values():
            yield getattr(attribute, "__func__", getattr(attribute, "fget", attribute))


def _held_by(function: types.FunctionType) -> Iterator[Any]:
    """What a function closes over, its defaults, and what it names of globals.

    Of those the generators, and functions of its own package, which may name some in turn.
    """
    home = _package(function.__module__ or "")
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    names = _names(function.__code__)
    reached: dict[int, list[tuple[int, frozenset[str]]]] = {}
    for name in names:
        known = function.__globals__.get(name)
        alike = isinstance(known, types.FunctionType) and _package(known.__module__ or "") == home
        if alike:
            yield known
        elif known is not None and not isinstance(known, types.FunctionType):
            yield from _reached(known, names, _STEPS, reached)


def _reached(
    value: Any,
    names: frozenset[str],
    steps: int,
    before: dict[int, list[tuple[int, frozenset[str]]]],
) -> Iterator[Any]:
    """The generators that code which uses some names can reach from a global object.

    ``REG["rng"]``, ``Cfg.rng``, ``HOLD.rng``, ``HOLD.draw()``: what containers hold, and what
    objects, classes and modules have under one of the names, not all that hangs on them, which may
    be whole data sets.

    Args:
        value: The object.
        names: The names, those of methods among them included.
        steps: How many items and attributes to go down.
        before: From which objects, by their ids, as many steps by as many names were gone: objects
            name each other in circles.
    """
    if isinstance(value, KINDS):
        yield value
        return
    if not steps or not _may_hold(value):
        return
    gone = before.setdefault(id(value), [])
    if any(steps <= far and names <= known for far, known in gone):
        return
    gone.append((steps, names))
    inner: Iterable[Any] = itertools.islice(_items(value), _MOST_ITEMS)
    if not isinstance(value, _CONTAINERS):
        if _names_none(value):
            return
        inner, names = _named(value, names)
    for each in inner:
        yield from _reached(each, names, steps - 1, before)


def _names_none(value: Any) -> bool:
    """Whether an object belongs to code that names no generators but the global ones."""
    if isinstance(value, types.ModuleType):
        package = _package(value.__name__)
        return package in _WITHOUT or package in sys.stdlib_module_names
    kind: type = value if isinstance(value, type) else type(value)
    return _package(str(kind.__module__)) in _WITHOUT


def _named(value: Any, names: frozenset[str]) -> tuple[list[Any], frozenset[str]]:
    """What an object, a class or a module has under some names, and those that methods add."""
    kinds = value if isinstance(value, type) else type(value)
    held: dict[str, Any] = {}
    if not isinstance(value, types.ModuleType):
        for kind in reversed(_own(kinds)):
            held |= vars(kind)
        for name in names & held.keys():
            attribute = held[name]
            method = getattr(attribute, "__func__", getattr(attribute, "fget", attribute))
            if isinstance(method, types.FunctionType):
                names = names | _names(method.__code__)
        slots = {name: getattr(value, name, None) for name in _slots(kinds) if name in names}
        held |= slots if not isinstance(value, type) else {}
    own = getattr(value, "__dict__", {})
    held |= own if isinstance(own, dict) else {}
    return [held[name] for name in names & held.keys()], names


@functools.lru_cache(_CLASSES)
def _names(code: types.CodeType) -> frozenset[str]:
    """The global names and attributes that code uses, that of functions inside it too."""
    inside = (_names(inner) for inner in code.co_consts if isinstance(inner, types.CodeType))
    return frozenset(code.co_names).union(*inside)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    if generator is np.random or isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if generator is random or isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    elif generator is random or isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, (np.random.Generator, np.random.BitGenerator)):
        bits: Any = getattr(generator, "bit_generator", generator)
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.RandomState):
        kind = getattr(np.random, generator.get_state(legacy=False)["bit_generator"])
        generator.set_state(kind(seed).state)
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    else:
        generator.seed(seed)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict):
        return all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, list):
        return all(map(_same, first, second))
    return bool(first == second)

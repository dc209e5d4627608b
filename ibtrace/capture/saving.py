"""What a forward can change of a model, saved and put back."""

from __future__ import annotations

import gc
import operator
import threading
import types
import weakref
from collections import ChainMap, OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ibtrace.capture.tensors import SavedTensor
from ibtrace.errors import RunError
from ibtrace.runtime import distributed
from ibtrace.runtime.generators import KINDS, held_generators

PARAMETER_BYTES = 2**28
"""Up to this size the parameters of a model are copied for a look; of a larger one only those of
layers that are known to rescale them (``max_norm``)."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, types.ModuleType)

_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))
"""The types of most of what containers hold, which nothing can change and which hold nothing."""

_TORCH = frozenset(vars(nn.Module())) - {"_buffers", "_modules", "training"}
_HOLDERS = (
    *(types.SimpleNamespace, threading.local, ChainMap, UserDict, UserList),
    *(weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
)
_BUILT_IN = ("torch", "builtins", "typing", "collections", "abc", "enum")


class Saved:
    """The state of a model and of all that hangs on it: see `Saved.restore`.

    Random generators are not restored but listed, in ``generators``, with those that the code of
    the model's classes and functions names: see `ibtrace.runtime.generators`.

    Saved are the attributes of every module (``__dict__``, ``__slots__`` and those of its class),
    parameters, buffers and submodules by name, and, followed through dicts (read-only, chained and
    weak ones too), lists, tuples, sets, deques, dataclasses, weak references and objects of the
    package that the module comes from: the tensors (with their gradients), arrays and random
    generators that these hold. Nothing of the model's own code runs.

    Args:
        model: Any module. What is lazy in it keeps the shapes that a forward gives it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.generators: list[Any] = []
        self._code: list[Any] = []
        self._undo: list[Callable[[], None]] = []
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._tensors: list[SavedTensor] = []
        self._seen: dict[int, object] = {}
        self._classes: set[type] = set()
        self._sharded = distributed.is_sharded(model)
        self._all_parameters = not self._sharded and _bytes(model) < PARAMETER_BYTES
        with _no_collection():
            self._follow(model)
            self.generators += held_generators(*self._code)  # at once: functions name each other

    def _follow(self, model: nn.Module) -> None:
        """Save the model and all that hangs on it."""
        waiting: list[tuple[object, str]] = [(model, "")]
        while waiting:
            value, home = waiting.pop()
            kind = type(value)
            if kind in _ATOMS or id(value) in self._seen or isinstance(value, _PLAIN):
                continue
            self._seen[id(value)] = value
            if kind is dict or kind is list:
                waiting += [(inner, home) for inner in self._save_at_once(value)]
                continue
            if isinstance(value, nn.Module):
                home = _package(value)
            waiting += [(inner, home) for inner in self._save(value, home)]

    def restore(self) -> None:
        """Put back what has changed, in place, and check that it is as it was.

        Raises:
            RunError: If something cannot be put back; everything else is.
        """
        failed: list[Exception] = []
        steps: tuple[Callable[[SavedTensor], None], ...] = (
            SavedTensor.show_again,
            SavedTensor.take_gradient,
            SavedTensor.refill,
            SavedTensor.check,
        )
        of_containers: list[Callable[[], None]] = [
            partial(_restore_dict, value, list(before.items()))
            for value, before in self._dicts
            if not _same_dicts(value, before)
        ]
        of_containers += [
            partial(_restore_sequence, value, before)
            for value, before in self._lists
            if not _same_lists(value, before)
        ]
        of_tensors: list[Callable[[], Any]] = [
            partial(step, saved) for step in steps for saved in self._tensors
        ]
        for undo in [*of_containers, *self._undo, *of_tensors]:
            try:
                undo()
            except Exception as error:  # the rest is still to be put back
                failed.append(error)
        if failed:
            raise RunError(
                f"a look changed what it cannot put back ({len(failed)} times; first: {failed[0]})"
            ) from failed[0]

    def _save(self, value: Any, home: str) -> Iterator[object]:
        """Save one object; what hangs on it."""
        if isinstance(value, Tensor):
            self._save_tensor(value)
        elif isinstance(value, np.ndarray):
            self._undo.append(partial(_restore_array, value, value.copy()))
            yield from value.ravel().tolist() if value.dtype == object else ()
        elif isinstance(value, (dict, list, deque, set, tuple, frozenset)):
            yield from self._save_container(value)
            if _package(value) not in _BUILT_IN:
                yield from self._save_object(value)
        elif isinstance(value, types.MappingProxyType):
            yield from gc.get_referents(value)  # the mapping behind it
        elif isinstance(value, weakref.ref):
            yield value()  # and is held until the look is over, lest the reference dies in it
        elif isinstance(value, KINDS):
            self.generators.append(value)
        elif isinstance(value, (types.FunctionType, types.MethodType, partial)):
            self._code.append(value)
        elif isinstance(value, nn.Module):
            yield from self._save_module(value)
        elif is_dataclass(value) or isinstance(value, _HOLDERS) or _at(value, home):
            yield from self._save_object(value)

    def _save_at_once(self, value: Any) -> list[Any]:
        """Save a dict or a list of just this type; what hangs on it, without what holds nothing.

        A model may hold a hundred thousand of them (vocabularies, samples): this is their fast way.
        """
        if type(value) is dict:
            items = value.copy()
            self._dicts.append((value, items))
            inner = [key for key in items if type(key) not in _ATOMS]
            return inner + [item for item in items.values() if type(item) not in _ATOMS]
        elements = value[:]
        self._lists.append((value, elements))
        return [element for element in elements if type(element) not in _ATOMS]

    def _save_container(self, value: Any) -> Iterator[object]:
        if isinstance(value, dict):
            yield from self._save_dict(value)
            return
        items = list(_base(value).__iter__(value))
        if isinstance(value, (list, deque)):
            self._undo.append(partial(_restore_sequence, value, items))
        elif isinstance(value, set):
            self._undo.append(partial(_restore_set, value, items))
        yield from items

    def _save_module(self, module: nn.Module) -> Iterator[object]:
        if isinstance(module, torch.jit.ScriptModule):
            yield from (*module.parameters(), *module.buffers())
            yield from module.children()
        elif isinstance(module, nn.modules.lazy.LazyModuleMixin):  # becomes another module
            yield from module.children()
        else:
            if vars(module).get("max_norm") is not None and not self._all_parameters:
                held = [p for p in module._parameters.values() if p is not None]
                self._tensors += [SavedTensor(parameter) for parameter in held]
            if self._sharded:  # torch gathers parameters and sets itself up in the first forward;
                own = [held for name, held in vars(module).items() if name in _TORCH]
                self._seen.update((id(held), held) for held in own)  # `reshard` parts them again
            yield from self._save_object(module)

    def _save_object(self, value: object) -> Iterator[object]:
        held = getattr(value, "__dict__", None)
        if isinstance(held, dict):
            yield from self._save_dict(held)
        for kind in type(value).__mro__:
            if kind.__module__.partition(".")[0] in _BUILT_IN:
                continue
            for slot in vars(kind).values():
                if isinstance(slot, types.MemberDescriptorType):
                    before = _slot(slot, value)
                    self._undo.append(partial(_restore_slot, slot, value, before))
                    yield from before
            if kind not in self._classes:
                self._classes.add(kind)
                yield from self._save_class(kind)

    def _save_class(self, kind: type) -> Iterator[object]:
        """Counters and caches that a class shares between its instances."""
        before = {name: value for name, value in vars(kind).items() if _is_data(name, value)}
        self._undo.append(partial(_restore_class, kind, before))
        self._code += [value for value in vars(kind).values() if callable(value)]
        yield from before.values()

    def _save_dict(self, value: dict[Any, Any]) -> Iterator[object]:
        items = list(_base(value).items(value))
        self._undo.append(partial(_restore_dict, value, items))
        yield from (each for item in items for each in item)

    def _save_tensor(self, tensor: Tensor) -> None:
        """Save a tensor and its gradient; of a large model's parameters only what they show."""
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            return
        values = self._all_parameters or not isinstance(tensor, nn.Parameter)
        if self._sharded and not values:
            return
        self._tensors.append(SavedTensor(tensor, values=values))
        if tensor.is_leaf and tensor.grad is not None:
            self._tensors.append(SavedTensor(tensor.grad, values=values))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles, which each thousand of saved containers would start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _bytes(model: nn.Module) -> int:
    whole = [p for p in model.parameters() if not nn.parameter.is_lazy(p)]
    return sum(p.numel() * p.element_size() for p in whole)


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _at(value: object, home: str) -> bool:
    """Whether an object is of the package that the module which holds it comes from."""
    callables = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
    return (
        home not in ("torch", "") and _package(value) == home and not isinstance(value, callables)
    )


def _base(value: Any) -> Any:
    """The built-in class whose methods act on a container whatever its own class forbids."""
    kinds = (OrderedDict, dict, list, deque, set, tuple, frozenset)
    return next(kind for kind in kinds if isinstance(value, kind))


def _restore_dict(value: dict[Any, Any], items: list[tuple[Any, Any]]) -> None:
    """One key at a time, so that nothing is lost should a key refuse."""
    base = _base(value)
    if _same_items(base.items(value), items):
        return
    wanted = dict(items)
    for key in [key for key in base.keys(value) if key not in wanted]:
        base.__delitem__(value, key)
    for key, item in items:
        if not base.__contains__(value, key) or base.__getitem__(value, key) is not item:
            base.__setitem__(value, key, item)
    if list(base.keys(value)) != [key for key, _ in items]:
        for key, item in items:
            base.__delitem__(value, key)
            base.__setitem__(value, key, item)
    if not _same_items(base.items(value), items):
        raise RunError(f"a {type(value).__name__} does not take back its items")


def _same_items(now: Any, before: list[tuple[Any, Any]]) -> bool:
    pairs = list(now)
    return len(pairs) == len(before) and all(
        a is c and b is d for (a, b), (c, d) in zip(pairs, before, strict=True)
    )


def _same_dicts(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    """Whether the same keys have the same values, in the same order: the very objects."""
    return (
        len(now) == len(before)
        and all(map(operator.is_, now.values(), before.values()))
        and all(map(operator.is_, now, before))
    )


def _same_lists(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _restore_sequence(value: Any, items: list[Any]) -> None:
    base = _base(value)
    now = list(base.__iter__(value))
    if len(now) == len(items) and all(a is b for a, b in zip(now, items, strict=True)):
        return
    if base is list:
        list.__setitem__(value, slice(None), items)
    else:
        deque.clear(value)
        deque.extend(value, items)


def _restore_set(value: set[Any], items: list[Any]) -> None:
    if set.__ne__(value, set(items)):
        set.update(value, items)
        set.intersection_update(value, items)


def _slot(slot: types.MemberDescriptorType, value: object) -> tuple[object, ...]:
    """What a slot holds, as a tuple of one; an empty one if it holds nothing."""
    try:
        return (slot.__get__(value),)
    except AttributeError:
        return ()


def _restore_slot(
    slot: types.MemberDescriptorType, value: object, before: tuple[object, ...]
) -> None:
    now = _slot(slot, value)
    if now and not before:
        slot.__delete__(value)
    elif before and not (now and now[0] is before[0]):
        slot.__set__(value, before[0])


def _is_data(name: str, value: object) -> bool:
    described = hasattr(type(value), "__get__") or callable(value)
    return not (name.startswith("__") or name.startswith("_abc_") or described)


def _restore_class(kind: type, before: dict[str, object]) -> None:
    now = {name: value for name, value in vars(kind).items() if _is_data(name, value)}
    for name in now.keys() - before.keys():
        type.__delattr__(kind, name)
    for name, value in before.items():
        if name not in now or now[name] is not value:
            type.__setattr__(kind, name, value)


def _restore_array(array: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> None:
    if array.shape != values.shape:
        array.resize(values.shape, refcheck=False)
    if array.dtype == object or array.tobytes() != values.tobytes():
        array[...] = values

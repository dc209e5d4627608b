"""What modules hold beside parameters, buffers and modules: numbers, words, functions, tensors."""

from __future__ import annotations

import enum
import functools
import hashlib
import itertools
import types
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, enum.Enum),
    *(torch.dtype, torch.device, torch.layout),
)
FUNCTIONS = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType),
    *(functools.partial, np.ufunc, type),
)
_OWN = frozenset(vars(nn.Module()))
_MOST = 1000
_DEEPEST = 6


def attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module holds of its own, and in containers, dataclasses, functions' closures.

    Followed until a thousand things are found, so that data which a model holds cost nothing;
    what objects of other classes hold is not followed.

    Args:
        module: Any module.

    Yields:
        ``("f", torch.tanh)``, ``("widths.0", 12)``: names, and numbers, words, functions, tensors
        and arrays.
    """
    held = {name: value for name, value in vars(module).items() if name not in _OWN}
    seen: set[int] = set()
    waiting: deque[tuple[str, Any, int]] = deque((name, held[name], 0) for name in sorted(held))
    count = 0
    while waiting and count < _MOST:
        name, value, depth = waiting.popleft()
        if isinstance(value, (*PLAIN, *FUNCTIONS, Tensor, np.ndarray)):
            count += 1
            yield name, value
        if isinstance(value, PLAIN) or id(value) in seen or depth == _DEEPEST:
            continue
        seen.add(id(value))
        for step, inner in _inside(value, _MOST):
            waiting.append((f"{name}.{step}", inner, depth + 1))


def _inside(value: Any, most: int) -> Iterator[tuple[str, Any]]:
    """What is followed of a value, by name: at most so much."""
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
        closed = ((n, c.cell_contents) for n, c in cells if _is_setting(c))
        given = [*enumerate(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
        pairs = itertools.chain(closed, ((f"default {n}", v) for n, v in given))
    elif isinstance(value, functools.partial):
        pairs = iter([("func", value.func), *enumerate(value.args), *value.keywords.items()])
    elif isinstance(value, nn.Module):  # in a list: not registered
        pairs = iter([*value._parameters.items(), *value._buffers.items(), *value._modules.items()])
    elif isinstance(value, types.SimpleNamespace):
        pairs = iter(vars(value).items())
    elif is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name, None)) for field in fields(value))
    elif isinstance(value, Mapping):
        pairs = iter(value.items())
    elif isinstance(value, (Sequence, deque)):
        pairs = iter(enumerate(value))
    elif isinstance(value, Set):
        pairs = ((item, item) for item in sorted(value, key=repr)) if len(value) <= most else pairs
    for _, (step, inner) in zip(range(most), pairs, strict=False):
        yield str(step), inner


def _is_setting(cell: types.CellType) -> bool:
    """Whether a function closes over a number, a word or a function there, not over data."""
    try:
        return isinstance(cell.cell_contents, (*PLAIN, *FUNCTIONS))
    except ValueError:  # not filled yet
        return False


def told(value: Any) -> str:
    """A number, word or function as text that is the same in another process.

    Of a function that is not torch's, its name and what its code does: a hash of Python's own,
    which another minor version of Python may change, but comments and places in a file do not.

    Args:
        value: One of `PLAIN` or `FUNCTIONS`.

    Example:
        >>> told(0.5), told(torch.tanh)
        ('0.5', 'tanh')
    """
    if isinstance(value, functools.partial):
        return f"partial of {told(value.func)}"
    if isinstance(value, (types.FunctionType, types.MethodType)):
        name, code = value.__qualname__, getattr(value, "__code__", None)
        theirs = (value.__module__ or "").partition(".")[0] == "torch"
        return name if theirs or code is None else f"{name} (code {_hash(code)})"
    if isinstance(value, types.BuiltinFunctionType):  # torch's have a private class before it
        return value.__name__
    if isinstance(value, FUNCTIONS):
        return str(getattr(value, "__qualname__", getattr(value, "__name__", value)))
    return repr(value)


def _hash(code: types.CodeType) -> str:
    sha = hashlib.sha256(code.co_code + repr(code.co_names).encode())
    for at, constant in enumerate(code.co_consts):
        if at == 0 and isinstance(constant, str):  # what the function is documented by
            continue
        inner = isinstance(constant, types.CodeType)
        plain = sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
        sha.update((_hash(constant) if inner else str(plain)).encode())
    return sha.hexdigest()[:8]

"""Fields of a dataclass held to their annotations: a value of a wrong type is refused by name."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import is_alone, shown

_PLAIN = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}


class _Misfit(ConfigError):
    """A value is not of the type that is asked for."""


def require_types(self: Any) -> None:
    """Raise unless every field of a dataclass is of its annotated type.

    The first line of a ``__post_init__``. A bool is no number, a text no sequence, and ``float``
    means a finite number, of Python or NumPy. A list, an array or a tensor becomes the tuple that
    is annotated, so that what is made of the fields can be compared and hashed. Whether a value of
    the right type is possible is for the class to say: of a ``Literal`` only the type is looked at.

    Args:
        self: The object, whose fields are set.

    Raises:
        ConfigError: If a field is not; names it, and says what it takes.
    """
    kind: Any = type(self)
    for name, hint in _hints(kind).items():
        value = getattr(self, name)
        try:
            settled = _settled(value, hint)
        except _Misfit:
            message = f"{kind.__name__}: {name} must be {_words(hint)}, got {shown(value)}"
            raise ConfigError(message) from None
        if settled is not value:
            object.__setattr__(self, name, settled)


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """The types of a dataclass's fields; none if a name in them is known to its module alone."""
    try:
        hints = get_type_hints(kind)
    except NameError:  # of a class made in a function
        return {}
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _settled(value: Any, hint: Any) -> Any:
    """A value as its annotation has it.

    Raises:
        _Misfit: If it is of another type.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _first(value, inner)
    if origin is Literal:
        _first(value, tuple(type(each) for each in inner))
        return value
    if origin is tuple:
        return _tuple(value, inner)
    if hint is Any:
        return value
    if hint is bool:
        fits = isinstance(value, bool | np.bool_)
        return _if(fits, value if isinstance(value, bool) else bool(value) if fits else None)
    if hint in (int, float):
        return _if(_is_number(value, hint), value)
    return _if(not isinstance(value, type) and isinstance(value, hint), value)


def _if(fits: bool, value: Any) -> Any:
    if not fits:
        raise _Misfit
    return value


def _first(value: Any, hints: tuple[Any, ...]) -> Any:
    """A value by the first of several annotations that it fits."""
    for hint in hints:
        try:
            return _settled(value, hint)
        except _Misfit:
            continue
    raise _Misfit


def _tuple(value: Any, inner: tuple[Any, ...]) -> Any:
    several = value.tolist() if isinstance(value, np.ndarray | Tensor) else value
    if is_alone(several) or isinstance(several, AbstractSet | bytearray | memoryview):
        raise _Misfit
    items = list(several)
    hints = inner[:1] * len(items) if inner[-1:] == (Ellipsis,) else inner
    if len(hints) != len(items):
        raise _Misfit
    settled = tuple(_settled(item, hint) for item, hint in zip(items, hints, strict=True))
    same = isinstance(value, tuple) and all(a is b for a, b in zip(settled, value, strict=True))
    return value if same else settled


def _is_number(value: Any, hint: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Integral if hint is int else Real):
        return False
    try:
        return hint is int or math.isfinite(value)
    except OverflowError:  # of an integer beyond floats
        return False


def _words(hint: Any) -> str:
    """What a field takes, for an error."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(each) for each in inner)
    if origin is Literal:
        return " or ".join(repr(each) for each in inner)
    if origin is tuple:
        counted = "any number" if inner[-1:] == (Ellipsis,) else str(len(inner))
        return f"a tuple of {counted}, each {_words(inner[0])}"
    if hint is type(None):
        return "None"
    name: str = getattr(hint, "__name__", str(hint))
    return _PLAIN.get(hint, f"{'an' if name[0] in 'AEIOU' else 'a'} {name.lower()}")

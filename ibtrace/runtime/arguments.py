"""What a user hands in, checked before any work: who asks, what it got, what to give."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from torch import nn

from ibtrace.errors import ConfigError, IbtraceError
from ibtrace.runtime.text import shorten

_Built = TypeVar("_Built")

MOST_SEED = 2**63 - 1
"""The largest that torch and the file of a trace can hold."""

MOST = 10**6
"""Of what is counted one by one: seeds to run, points of a schedule."""


def shown(value: Any) -> str:
    """A value in one short line, for an error."""
    return shorten(" ".join(repr(value).split()), 80)


def is_alone(value: Any) -> bool:
    """Whether this is one thing and not several: a text, a mapping, a number of any library.

    Example:
        >>> is_alone("abc"), is_alone(np.int64(3)), is_alone(np.arange(3))
        (True, True, False)
    """
    several = isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0
    return isinstance(value, (str, bytes, Mapping)) or not several


def several(value: Any) -> list[Any]:
    """Several things, or one alone, as a list.

    Args:
        value: One or several; see `is_alone`.
    """
    return [value] if is_alone(value) else list(value)


def whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """A number that counts something, as an int: of Python, NumPy or torch, or a whole float.

    Args:
        name: What it is, for the error.
        value: The number.
        least: The smallest it may be; None for any.
        most: The largest it may be; None for any.

    Raises:
        ConfigError: If it is not one whole number, too small or too large; nothing is rounded.

    Example:
        >>> whole("epoch", 3.0)
        3
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # torch's own, of several numbers
        number = float("nan")
    if isinstance(value, (bool, np.bool_, str)) or not number.is_integer():
        raise ConfigError(f"{name} must be a whole number, got {shown(value)}")
    if least is not None and int(value) < least:
        raise ConfigError(f"{name} must be at least {least}, got {shown(value)}")
    if most is not None and int(value) > most:
        raise ConfigError(f"{name} must be at most {most}, got {shown(value)}")
    return int(value)


def seed_number(name: str, value: Any) -> int:
    """A seed as an int.

    Args:
        name: What it is, for the error.
        value: The number.

    Raises:
        ConfigError: If it is no whole number from 0 to 2**63 - 1.
    """
    return whole(name, value, least=0, most=MOST_SEED)


def different_seeds(name: str, values: Any) -> tuple[int, ...]:
    """One or more seeds, all different.

    Args:
        name: What they are, for the error.
        values: The numbers.

    Raises:
        ConfigError: If they are not.
    """
    given = [] if is_alone(values) else list(values)
    seeds = tuple(seed_number(f"{name}: a seed", value) for value in given)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"{name} must be one or more seeds, all different, got {shown(values)}")
    return seeds


def flag(name: str, value: Any) -> bool:
    """True or False; nothing else is taken for one of them.

    Args:
        name: What it is, for the error.
        value: What was given.

    Raises:
        ConfigError: If it is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ConfigError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def require_function(name: str, value: Any, form: str) -> None:
    """Raise unless this is something that can be called, and no class.

    Args:
        name: What it is, for the error.
        value: What was given.
        form: What to give, ``"a function f(epoch)"``.

    Raises:
        ConfigError: If it cannot be called.
    """
    if not callable(value) or isinstance(value, type):
        raise ConfigError(f"{name} must be {form}, got {shown(value)}")


def require_path(name: str, value: Any) -> None:
    """Raise unless this is the path of a file or folder.

    Args:
        name: What it is, for the error.
        value: What was given.

    Raises:
        ConfigError: If it is neither text nor a path, or the system takes no such path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigError(f"{name} must be a path, got {shown(value)}")
    try:
        os.stat(value)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long, not ours to look into, a null character
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name} cannot be reached ({why}), got {shown(value)}") from error


def require_mapping(name: str, value: Any) -> None:
    """Raise unless this is a mapping by names.

    Args:
        name: What it is, for the error.
        value: What was given.

    Raises:
        ConfigError: If it is none, or has keys that are no text.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{name} must be a mapping of names to values, got {shown(value)}")


def require_instance(name: str, value: Any, kind: Any, form: str) -> None:
    """Raise unless this is an object of a class or protocol, and not itself a class.

    Args:
        name: What it is, for the error.
        value: What was given.
        kind: The class or protocol, or several.
        form: What to give, ``"an estimator such as KSG(k=3)"``.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(value, type) or not isinstance(value, kind):
        raise ConfigError(f"{name} must be {form}, got {shown(value)}")


def require_members(name: str, value: Any, members: Iterable[str], form: str) -> None:
    """Raise unless an object has these members: where to ask a protocol would compute them.

    Args:
        name: What it is, for the error.
        value: What was given.
        members: What of the protocol is looked for.
        form: What to give, ``"ibtrace.Probe(x, y)"``.

    Raises:
        ConfigError: If it has not, or is a class.
    """
    if isinstance(value, type) or not all(hasattr(value, member) for member in members):
        raise ConfigError(f"{name} must be {form}, got {shown(value)}")


def built(
    who: str, build: Callable[..., _Built], fields: Mapping[str, Any], known: Iterable[str]
) -> _Built:
    """What is made of fields; an error that is not ibtrace's own becomes one that names them.

    Args:
        who: What is made, for the error.
        build: Makes it.
        fields: What it is called with.
        known: The fields there are.

    Raises:
        ConfigError: If it cannot be made of these.
        IbtraceError: What the maker itself says of a field.
    """
    try:
        return build(**fields)
    except IbtraceError:
        raise
    except Exception as error:  # torch's and NumPy's of a comparison, Python's of an argument
        given = ", ".join(f"{name}={shown(value)}" for name, value in fields.items())
        message = " ".join(str(error).split())
        raise ConfigError(
            f"{who} cannot be made of {given} ({message}); its fields are: {', '.join(known)}"
        ) from error


def require_model(value: Any, *others: Any) -> None:
    """Raise unless this is a network.

    Args:
        value: What was given.
        *others: What else is taken for one.

    Raises:
        ConfigError: If it is a class, a function or anything else.
    """
    if isinstance(value, type) and issubclass(value, nn.Module):
        name = value.__name__
        raise ConfigError(f"model must be a network, got the class {name}; give {name}(…)")
    require_instance("model", value, (nn.Module, *others), "a network, a torch.nn.Module")

"""Functions that a configuration names: of a model, of a data set.

A class is built with its arguments checked by their types. A function may have no annotations, or
pass its arguments on, so of it only the names of the arguments can be checked before it is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from torch import Tensor, nn

from ibtrace.datasets import Dataset
from ibtrace.errors import ConfigError, IbtraceError
from ibtrace.probe import Probe
from ibtrace.runtime.imports import imported

Raw = dict[str, Any]


def build(raw: Raw) -> tuple[Raw, dict[str, Any]]:
    """What a configuration makes by functions, built; the rest is left.

    Args:
        raw: The configuration.

    Returns:
        The configuration without what was built, and that, by name: ``model`` a function that
        makes a network, ``data`` a data set.

    Raises:
        ConfigError: If a function does not take the arguments, fails, or gives something else.
    """
    built: dict[str, Any] = {}
    if named := _function("model", raw.get("model")):
        built["model"] = _Model(*named)
    if (named := _function("data", raw.get("data"))) and not _gives_dataset(named[1]):
        built["data"] = _dataset(*named)
    return {key: value for key, value in raw.items() if key not in built}, built


def instrument(role: str, entry: Raw) -> Any:
    """An estimator or a lens of the user's own.

    Args:
        role: ``estimators`` or ``lenses``, for the error.
        entry: ``{"class_path": …, "init_args": {…}}``.

    Raises:
        ConfigError: If it is not there, does not take the arguments, or fails.
    """
    path = entry["class_path"]
    place = imported(path) if isinstance(path, str) else None
    if not callable(place):
        raise ConfigError(f"{role}: {path!r} cannot be imported; give class_path: file.Class")
    if more := sorted({*entry} - {"class_path", "init_args"}):
        raise ConfigError(f"{role}: {path}: {more[0]} is unknown; its arguments go into init_args")
    arguments = entry.get("init_args") or {}
    _check(f"{role}: {path}", place, arguments)
    return _called(f"{role}: {path}", place, arguments)


class _Model:
    """Makes a network by a function.

    Args:
        path: The function's dotted name.
        function: The function.
        arguments: What it is called with.
    """

    def __init__(self, path: str, function: Callable[..., Any], arguments: Raw) -> None:
        _check(f"model: {path}", function, arguments)
        self.path, self.function, self.arguments = path, function, arguments

    def __call__(self) -> nn.Module:
        """A new network.

        Raises:
            ConfigError: If the function fails or gives something else.
        """
        made = _called(f"model: {self.path}", self.function, self.arguments)
        if not isinstance(made, nn.Module):
            got = f"model: {self.path} gave {type(made).__name__}"
            raise ConfigError(f"{got}; it must give a torch.nn.Module")
        return made


def _dataset(path: str, function: Callable[..., Any], arguments: Raw) -> Dataset:
    """The data set that a function gives, as one or as whatever holds its samples."""
    who = f"data: {path}"
    _check(who, function, arguments)
    made = _called(who, function, arguments)
    if isinstance(made, Dataset):
        return made
    try:
        probe = Probe.of(made)
    except IbtraceError as error:
        raise ConfigError(f"{who} gave {type(made).__name__}: {error}") from error
    if probe.label_kind != "classes" or not isinstance(probe.x, Tensor):
        raise ConfigError(f"{who} must give one tensor x and class labels y, as (x, y)")
    name = path.rpartition(".")[2]
    targets = {each.name: each.labels for each in probe.named if each.role == "target"}
    return Dataset(name, probe.x, probe.y, probe.classes or 0, probe.class_names, targets=targets)


def _function(role: str, entry: Any) -> tuple[str, Callable[..., Any], Raw] | None:
    """The function that an entry names, with its arguments; None if it names a class or nothing."""
    if isinstance(entry, str):
        entry = {"class_path": entry}
    if not isinstance(entry, Mapping):
        return None
    if not isinstance(entry.get("class_path"), str):
        raise ConfigError(f"{role}: name a class or a function in class_path, got {dict(entry)}")
    path, arguments = entry["class_path"], entry.get("init_args") or {}
    place = imported(path)
    if place is None or isinstance(place, type) or not callable(place):
        return None
    if not isinstance(arguments, Mapping) or set(entry) - {"class_path", "init_args"}:
        got = f"{role}: {path}: got {dict(entry)}"
        raise ConfigError(f"{got}; give its arguments by name in init_args")
    return path, place, dict(arguments)


def _gives_dataset(function: Callable[..., Any]) -> bool:
    """Whether a function is annotated to give a data set, so that the parser can take it."""
    try:
        gives = get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(gives, type) and issubclass(gives, Dataset)


def _check(who: str, function: Callable[..., Any], arguments: Raw) -> None:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        takes = inspect.signature(function)
        raise ConfigError(f"{who}: {error}; it takes {takes}") from error
    except ValueError:  # a function of C has no signature
        return


def _called(who: str, function: Callable[..., Any], arguments: Raw) -> Any:
    try:
        return function(**arguments)
    except IbtraceError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{who} failed: {type(error).__name__}: {message}") from error

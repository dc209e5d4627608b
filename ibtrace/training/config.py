"""Configurations: read from YAML, overridden from the command line, made into an experiment.

``class_path`` runs the code it names: load only configurations that you trust.
"""

from __future__ import annotations

import copy
import os
import re
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from torch import nn

import ibtrace
from ibtrace.capture import MAX_BYTES, Look
from ibtrace.datasets import Dataset
from ibtrace.errors import ConfigError, IbtraceError, UnknownName
from ibtrace.runtime.arguments import require_mapping
from ibtrace.training import controls, functions
from ibtrace.training.experiment import Experiment, Training
from ibtrace.training.instruments import instruments

# a Dataset is a dataclass, and may also come from a function such as ibtrace.datasets.tishby
set_parsing_settings(subclasses_enabled=[Dataset])

Raw = dict[str, Any]
"""A configuration as YAML gives it."""

_Part = TypeVar("_Part")


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number: PyYAML follows YAML 1.1, which wants 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def shipped() -> dict[str, Path]:
    """The configurations that come with ibtrace, by name."""
    package = Path(ibtrace.__file__).parent
    folder = package / "configs"
    if not folder.is_dir():  # a checkout, or an editable install of one
        folder = package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read(source: str | Path) -> Raw:
    """A configuration from a YAML file, or a shipped one by its name.

    Args:
        source: A path, or a name such as ``tishby``.

    Raises:
        UnknownName: If there is no such file and no such shipped configuration.
        ConfigError: If the file is not a YAML mapping.
    """
    path = shipped().get(str(source), Path(source))
    if not path.is_file():
        known = ", ".join(shipped())
        raise UnknownName(f"no configuration {source}; give a YAML file, or one of: {known}")
    try:
        raw = yaml.load(path.read_text(), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{path} is not readable YAML: {message}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must be a YAML mapping, got {type(raw).__name__}")
    return raw


def override(raw: Raw, key: str, value: Any) -> Raw:
    """A copy of a configuration with one (dotted) key set.

    Args:
        raw: The configuration.
        key: ``a.b.c``.
        value: The new value.

    Raises:
        ConfigError: If the key passes through something that is no mapping.

    Example:
        >>> override({"split": {"fraction": 0.8}}, "split.how", "stratified")
        {'split': {'fraction': 0.8, 'how': 'stratified'}}
    """
    changed = copy.deepcopy(raw)
    place: Any = changed
    *path, last = key.split(".")
    for step in path:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: {step} is {place!r}, not a mapping")
    place[last] = value
    return changed


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """``["a.b=1", …]`` as ``{"a.b": 1}``; values are YAML.

    Raises:
        ConfigError: If a text has no ``=`` or its value is not YAML.
    """
    assigned = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, got {text!r}")
        try:
            assigned[key] = yaml.load(value, _Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: {value!r} is not YAML") from error
    return assigned


def variants(raw: Raw) -> dict[str, Raw]:
    """The runs a configuration asks for: one for each entry of its ``variants``, or one, ``""``.

    A variant is a mapping of dotted keys to values that replace the configuration's. Controls of
    the variants are not among them: see `ibtrace.training.planning`.

    Raises:
        ConfigError: If ``variants`` is not a mapping of mappings.
    """
    base = {key: value for key, value in raw.items() if key not in ("variants", "controls")}
    named = raw.get("variants")
    if named is None:
        return {"": base}
    if not isinstance(named, Mapping) or not named:
        raise ConfigError(f"variants must be a mapping of names, got {named!r}")
    runs = {}
    for name, changes in named.items():
        if not isinstance(changes, Mapping):
            raise ConfigError(f"variants.{name} must be a mapping of keys to values")
        runs[str(name)] = base
        for key, value in changes.items():
            runs[str(name)] = override(runs[str(name)], key, value)
    return runs


def require_unset(raw: Raw, keys: Iterable[str]) -> None:
    """Raise if a variant sets a key itself that was set for all of them, and so would not hear it.

    Args:
        raw: The configuration.
        keys: Dotted keys that were set.

    Raises:
        ConfigError: If one does; names the variants.

    Example:
        >>> require_unset({"variants": {"a": {"optimizer.init_args.lr": 0.1}}}, ["epochs"])
    """
    named = raw.get("variants")
    if not isinstance(named, Mapping):
        return
    for key in keys:
        for name, changes in named.items():
            if not isinstance(changes, Mapping):
                continue  # `variants` says so
            own = [k for k in changes if f"{k}.".startswith(f"{key}.") or key.startswith(f"{k}.")]
            if own:
                raise ConfigError(
                    f"{key} was set, but variant {name} sets {own[0]} itself, and would not hear "
                    "it; change the variants in a copy of the configuration"
                )


def looking(
    layers: str | list[str] | None = None,
    exclude: str | Sequence[str] = (),
    reduce: str | dict[str, str] | None = None,
    functional: bool | list[str] = False,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    max_bytes: int | None = MAX_BYTES,
    max_width: int | None = None,
) -> Look:
    """How a configuration says that the networks are looked at.

    Args:
        layers: Which layers (see `ibtrace.capture.resolve`); None for the activations and output.
        exclude: Layers that are not to be traced, though they are meant by ``layers``.
        reduce: What T is of convolutional and token layers: a name, or a mapping of layer patterns
            to names (see `ibtrace.capture.reduce`); None averages positions.
        functional: Trace called activation functions too (``F.relu``), or those of these names.
        forward: Calls a network with a batch of inputs, in training and tracing, where
            ``network(x)`` will not do: ``my_net.forward``, or a class of such functions.
        max_bytes: Bytes of activations held at a time.
        max_width: Project wider T to this many dimensions.
    """
    return Look(
        layers=layers,
        exclude=exclude,
        reduce=reduce,
        functional=functional,
        forward=forward,
        max_bytes=max_bytes,
        max_width=max_width,
    )


_PARTS: dict[str, Callable[..., Any]] = {
    "training": Training,
    "look": looking,
    "instruments": instruments,
}
"""The parts of an experiment whose keys stand side by side in a configuration."""


def _hints() -> dict[str, Any]:
    """Every key of a configuration with its type."""
    hints = {k: v for k, v in get_type_hints(Experiment).items() if k not in _PARTS}
    for make in _PARTS.values():
        hints |= {k: v for k, v in get_type_hints(make).items() if k != "return"}
    return hints


KEYS = frozenset(_hints())
"""The keys that a configuration may have, beside ``variants`` and ``controls``."""


def build(raw: Raw) -> Experiment:
    """The experiment that a configuration (without variants) describes.

    Args:
        raw: As YAML gives it; unknown keys and wrong types are errors.

    Raises:
        ConfigError: If a key is unknown, or a value has the wrong type or cannot be used.
        IbtraceError: Whatever the data set or an estimator objects to.
    """
    _require_values(raw)
    rest, built = functions.build(copy.deepcopy(raw))  # the parser writes into what it reads
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment, skip={*_PARTS, *built})
    parser.add_class_arguments(Training, skip=set(built))
    parser.add_function_arguments(looking)
    parser.add_function_arguments(instruments, skip={"epochs"})
    try:
        values = {**vars(parser.instantiate(parser.parse_object(rest))), **built}
        parts = {name: _called(make, values) for name, make in _PARTS.items()}
        experiment = _called(Experiment, {**values, **parts})
    except IbtraceError:
        raise
    except (ArgumentError, TypeError, ValueError, ImportError, OSError) as error:
        raise ConfigError(f"configuration: {_one_line(error)}") from error
    return controls.applied(experiment)


def _called(make: Callable[..., _Part], values: Mapping[str, Any]) -> _Part:
    """A function or a class called with those of the values that it takes."""
    return make(**{name: values[name] for name in signature(make).parameters})


def _require_values(raw: Raw) -> None:
    """Raise for null and for what is no mapping: the parser lets them pass, or fails on them.

    Raises:
        ConfigError: Naming the key.
    """
    for name, hint in _hints().items():
        if name in raw and raw[name] is None and type(None) not in get_args(hint):
            raise ConfigError(f"{name} must not be null; leave it out, or give a value")
    for name in {"split", "probe"} & raw.keys():
        require_mapping(name, raw[name])
    for name in {"optimizer", "scheduler"} & raw.keys():
        if isinstance(raw[name], Mapping) and "class_path" not in raw[name]:
            raise ConfigError(f"{name} must have a class_path, got {dict(raw[name])!r}")


def _one_line(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return " ".join(text.replace(os.linesep, " ").split())

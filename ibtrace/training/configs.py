"""Configurations as YAML gives them: read, changed key by key, parted into variants.

Nothing here is built of what they name, so that whatever is wrong with a file is said at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ibtrace
from ibtrace.errors import ConfigError, UnknownName
from ibtrace.runtime.yaml_text import parsed

Raw = dict[str, Any]
"""A configuration as YAML gives it."""

KEYS = frozenset(
    {
        *("data", "model", "optimizer", "scheduler", "loss", "epochs", "seeds", "batch_size"),
        *("shuffle", "split", "device", "together", "probe", "layers", "exclude", "reduce"),
        *("functional", "forward", "max_bytes", "max_width", "estimators", "lenses", "every"),
        *("snapshots", "store_activations", "control"),
    }
)
"""The keys that a configuration may have, beside ``variants`` and ``controls``."""

SEEDS = 10
"""How many networks are trained where nothing is said."""


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
        raw = parsed(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must be a YAML mapping, got {type(raw).__name__}")
    return raw


def override(raw: Raw, key: str, value: Any, option: str = "--set") -> Raw:
    """A copy of a configuration with one (dotted) key set.

    Args:
        raw: The configuration.
        key: ``a.b.c``.
        value: The new value.
        option: By which it was given, for the error.

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
            raise ConfigError(f"{option} {key}: {step} is {place!r}, not a mapping")
    place[last] = value
    return changed


def assignments(texts: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """``["a.b=1", …]`` as ``{"a.b": 1}``; values are YAML.

    Args:
        texts: What was given.
        option: By which, for the error.

    Raises:
        ConfigError: If a text has no ``=`` or its value is not YAML.
    """
    assigned = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} takes key=value, got {text!r}")
        try:
            assigned[key] = parsed(value)
        except ValueError as error:
            raise ConfigError(f"{option} {key}: {value!r} is not YAML") from error
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

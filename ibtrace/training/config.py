"""Configurations, as `ibtrace.training.configs` reads them, made into an experiment.

``class_path`` runs the code it names: load only configurations that you trust.
"""

from __future__ import annotations

import copy
import os
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings
from torch import nn

from ibtrace.capture import MAX_BYTES, Look
from ibtrace.datasets import Dataset
from ibtrace.errors import ConfigError, IbtraceError
from ibtrace.runtime.arguments import require_mapping
from ibtrace.training import controls, functions
from ibtrace.training.configs import Raw
from ibtrace.training.experiment import Experiment, Training
from ibtrace.training.instruments import instruments, require_entries

# a Dataset is a dataclass, and may also come from a function such as ibtrace.datasets.tishby
set_parsing_settings(subclasses_enabled=[Dataset])

_Part = TypeVar("_Part")


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
    for role in ("estimators", "lenses"):
        if raw.get(role) is not None:
            require_entries(role, raw[role])
    for name in {"split", "probe"} & raw.keys():
        require_mapping(name, raw[name])
    for name in {"optimizer", "scheduler"} & raw.keys():
        if isinstance(raw[name], Mapping) and "class_path" not in raw[name]:
            raise ConfigError(f"{name} must have a class_path, got {dict(raw[name])!r}")


def _one_line(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return " ".join(text.replace(os.linesep, " ").split())

"""An experiment as data: read from YAML, overridden from the command line, checked before work.

``class_path`` runs the code it names: load only configurations that you trust.
"""

from __future__ import annotations

import ast
import copy
import os
import re
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch
import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from torch import nn
from torch.optim import Optimizer

import ibtrace
from ibtrace import estimators, lenses
from ibtrace.capture import MAX_BYTES, Look
from ibtrace.datasets import Dataset
from ibtrace.errors import ConfigError, IbtraceError, UnknownName
from ibtrace.runtime.arguments import (
    MOST,
    different_seeds,
    is_alone,
    require_mapping,
    shown,
    whole,
)
from ibtrace.runtime.schedule import Schedule, Steps, log_spaced, schedule
from ibtrace.tracer import At
from ibtrace.training import functions
from ibtrace.types import Estimator, Lens, Need

# a Dataset is a dataclass, and may also come from a function such as ibtrace.datasets.tishby
set_parsing_settings(subclasses_enabled=[Dataset])

Raw = dict[str, Any]
"""A configuration as YAML gives it."""


@dataclass(frozen=True)
class Split:
    """How the data are divided: for each seed anew, or as for the first where a part is measured.

    Args:
        fraction: Share of the samples to train on.
        how: ``shuffled``, ``stratified``, or IDNNs' ``contiguous`` (legacy: the first rows).
    """

    fraction: float = 0.8
    how: Literal["shuffled", "stratified", "contiguous"] = "shuffled"

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ConfigError(f"split: fraction must lie between 0 and 1, got {self.fraction}")


@dataclass(frozen=True)
class Measured:
    """On which samples information is measured.

    Args:
        part: All samples, or those of the training or test part, which all seeds then share.
        samples: How many of them at most, drawn once; None for all.
    """

    part: Literal["all", "train", "test"] = "all"
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.samples is not None:
            whole("probe: samples", self.samples, least=2)


@dataclass(frozen=True)
class Experiment:
    """Everything that one run needs.

    Args:
        model: Makes a network, a class or a function; called once for each seed with torch seeded.
        data: The data set, or a function that gives one, or ``(x, y)`` (see `Probe.of`).
        optimizer: Makes an optimiser from parameters.
        epochs: Epochs of training.
        seeds: How many (0, 1, …), or which.
        loss: ``cross_entropy`` (of logits), ``nll`` (of probabilities) or ``mse``.
        batch_size: Samples per step.
        shuffle: Draw the batches anew each epoch; else always in the order of the data.
        split: Training and test part.
        probe: On which samples information is measured.
        layers: Which layers (see `ibtrace.capture.resolve`); None for the activations and output.
        exclude: Layers that are not to be traced, though they are meant by ``layers``.
        reduce: What T is of convolutional and token layers: a name, or a mapping of layer patterns
            to names (see `ibtrace.capture.reduce`); None averages positions.
        functional: Trace called activation functions too (``F.relu``), or those of these names.
        max_bytes: Bytes of activations held at a time.
        max_width: Project wider T to this many dimensions.
        estimators: Registry names, or ``{name: …, field: …}``; ``snapshots`` or ``every`` in such
            an entry gives the estimator a schedule of its own. One name needs no list; None takes
            what can say something on the probe, as in `ibtrace.Tracer`. One of your own:
            ``{class_path: my_file.Mine, init_args: {…}}``.
        lenses: What else to measure, likewise: ``[saturation]``; none by default.
        snapshots: When to look: how many points, evenly on a log axis, or the epochs themselves;
            100 points where ``every`` does not say it either.
        every: When to look, as ``every`` of `ibtrace.Tracer`: an int (every n-th epoch), epochs,
            or as in Python ``Steps(100)`` (by optimiser steps) or ``log_spaced(8000, 400)``. The
            last epoch is measured in any case.
        store_activations: Keep the activations of each snapshot.
        device: Where to train and measure.
        forward: Calls a network with a batch of inputs, in training and tracing, where
            ``network(x)`` will not do: ``my_net.forward``, or a class of such functions.
    """

    model: Callable[[], nn.Module]
    data: Dataset
    optimizer: Callable[[Iterable[Any]], Optimizer]
    epochs: int
    seeds: int | list[int] = 10
    loss: Literal["cross_entropy", "nll", "mse"] = "cross_entropy"
    batch_size: int = 256
    shuffle: bool = True
    split: Split = field(default_factory=Split)
    probe: Measured = field(default_factory=Measured)
    layers: str | list[str] | None = None
    exclude: str | list[str] = field(default_factory=list)
    reduce: str | dict[str, str] | None = None
    functional: bool | list[str] = False
    max_bytes: int | None = MAX_BYTES
    max_width: int | None = None
    estimators: str | list[str | Raw] | None = None
    lenses: str | list[str | Raw] = field(default_factory=list)
    snapshots: int | list[int] | None = None
    every: int | list[int] | str | None = None
    store_activations: bool = False
    device: str = "cpu"
    forward: Callable[[nn.Module, Any], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            whole(name, getattr(self, name), least=1)
        if is_alone(self.seeds):
            whole("seeds: how many", self.seeds, least=1, most=MOST)
        different_seeds("seeds", self.seed_list)
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            got = shown(self.device)
            raise ConfigError(
                f"device must be one of torch's, such as cuda:0, got {got}"
            ) from error
        if self.estimators is not None and not self.estimators:
            raise ConfigError("estimators: at least one is needed")
        _ = self.look  # which checks its fields
        self.schedule()
        self.build_estimators()
        self.build_lenses()

    @property
    def seed_list(self) -> list[int]:
        """The seeds, spelt out."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def tracing(self) -> dict[str, Any]:
        """The arguments of a `Tracer` that the configuration settles."""
        return {
            "look": self.look,
            "estimators": self.build_estimators(),
            "lenses": self.build_lenses(),
            "every": self.schedule(),
            "loss": self.loss,
        }

    @property
    def look(self) -> Look:
        """How the networks are looked at."""
        return Look(
            layers=self.layers,
            exclude=self.exclude,
            reduce=self.reduce,
            functional=self.functional,
            forward=self.forward,
            max_bytes=self.max_bytes,
            max_width=self.max_width,
        )

    def schedule(self) -> Schedule:
        """When to look at the networks.

        Raises:
            ConfigError: If ``snapshots`` or ``every`` is no schedule, or both are given.
        """
        return self._schedule(self.snapshots, self.every) or log_spaced(self.epochs)

    def build_estimators(self) -> list[Estimator | At] | None:
        """The estimators, with a schedule of their own where the configuration gives one.

        None where the configuration leaves the choice to the tracer.

        Raises:
            ConfigError: If an entry has no name, or a field that its estimator does not have.
            UnknownName: If no estimator has that name.
        """
        if self.estimators is None:
            return None
        return self._built("estimators", self.estimators, estimators.make)

    def build_lenses(self) -> list[Lens | At]:
        """The lenses, likewise.

        Raises:
            ConfigError: If an entry has no name, or a field that its lens does not have.
            UnknownName: If no lens has that name.
        """
        return self._built("lenses", self.lenses, lenses.make)

    def _built(
        self, role: str, entries: str | list[str | Raw], make: Callable[..., Any]
    ) -> list[Any]:
        """Instruments by their names and fields, or by their classes and arguments."""
        built = []
        for entry in [entries] if isinstance(entries, str) else entries:
            fields = {"name": entry} if isinstance(entry, str) else dict(entry)
            due = self._schedule(fields.pop("snapshots", None), fields.pop("every", None))
            if "class_path" in fields:
                name, made = fields["class_path"], functions.instrument(role, fields)
            elif isinstance(name := fields.pop("name", None), str):
                made = make(name, **{key: _tuples(value) for key, value in fields.items()})
            else:
                raise ConfigError(f"{role}: an entry needs a 'name', got {entry!r}")
            if due is not None and isinstance(due, Steps) != self.by_steps:
                counted = "steps" if self.by_steps else "epochs"
                raise ConfigError(
                    f"{role}: {name} has a schedule of its own, which must count {counted} as "
                    "that of the run does: every: Steps(…) counts steps, all others epochs"
                )
            built.append(made if due is None else At(made, due))
        return built

    def wants(self, need: Need) -> bool:
        """Whether one of the lenses needs something; see `ibtrace.types.LensTags`."""
        lenses = [lens.instrument if isinstance(lens, At) else lens for lens in self.build_lenses()]
        return any(isinstance(lens, Lens) and need in lens.tags.needs for lens in lenses)

    @property
    def by_steps(self) -> bool:
        """Whether the looks are counted in optimiser steps, not in epochs."""
        return isinstance(self.schedule(), Steps)

    def _schedule(self, snapshots: Any, every: Any) -> Schedule | None:
        """What one of the two keys says, or None where both are left out."""
        if snapshots is not None and every is not None:
            raise ConfigError(
                f"snapshots is {snapshots} and every is {every}; give one of them (null: not given)"
            )
        if every is not None:
            return _as_in_python(every)
        if snapshots is None:
            return None
        if isinstance(snapshots, int):
            whole("snapshots", snapshots, least=1, most=MOST)
            return log_spaced(self.epochs, snapshots)
        return schedule([*snapshots, self.epochs])


_SCHEDULES: dict[str, Callable[..., Any]] = {"Steps": Steps, "log_spaced": log_spaced}


def _as_in_python(every: Any) -> Schedule:
    """What ``every`` of a tracer takes, but for functions: calls stand in YAML as text.

    Raises:
        ConfigError: If it is no schedule.

    Example:
        >>> _as_in_python("Steps([1, 10])")(10), _as_in_python(5)(12)
        (True, False)
    """
    if not isinstance(every, str):
        return schedule(every)
    try:
        return schedule(_evaluated(ast.parse(every.strip(), mode="eval").body))
    except ConfigError:
        raise
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(
            f"every must be an int, epochs, Steps(…) or log_spaced(total, count), got {every!r}"
        ) from error


def _evaluated(node: ast.expr) -> Any:
    """A literal, or the call of a schedule on such; nothing else is run."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return ast.literal_eval(node)
    if node.func.id not in _SCHEDULES:
        raise ValueError(f"no schedule {node.func.id}")
    named: dict[Any, Any] = {keyword.arg: _evaluated(keyword.value) for keyword in node.keywords}
    return _SCHEDULES[node.func.id](*map(_evaluated, node.args), **named)


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, so that estimators stay hashable."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


# --- reading --------------------------------------------------------------------------------


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

    A variant is a mapping of dotted keys to values that replace the configuration's.

    Raises:
        ConfigError: If ``variants`` is not a mapping of mappings.
    """
    base = {key: value for key, value in raw.items() if key != "variants"}
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


def build(raw: Raw) -> Experiment:
    """The experiment that a configuration (without variants) describes.

    Args:
        raw: As YAML gives it; unknown keys and wrong types are errors.

    Raises:
        ConfigError: If a key is unknown, or a value has the wrong type or cannot be used.
        IbtraceError: Whatever the data set or an estimator objects to.
    """
    _require_values(raw)
    rest, built = functions.build(raw)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment, skip=set(built))
    try:
        experiment = Experiment(**vars(parser.instantiate(parser.parse_object(rest))), **built)
    except IbtraceError:
        raise
    except (ArgumentError, TypeError, ValueError, ImportError, OSError) as error:
        raise ConfigError(f"configuration: {_one_line(error)}") from error
    return experiment


def _require_values(raw: Raw) -> None:
    """Raise for null and for what is no mapping: the parser lets them pass, or fails on them.

    Raises:
        ConfigError: Naming the key.
    """
    for name, hint in get_type_hints(Experiment).items():
        if name in raw and raw[name] is None and type(None) not in get_args(hint):
            raise ConfigError(f"{name} must not be null; leave it out, or give a value")
    for name in {"split", "probe"} & raw.keys():
        require_mapping(name, raw[name])


def _one_line(error: Exception) -> str:
    text = getattr(error, "message", None) or str(error)
    return " ".join(text.replace(os.linesep, " ").split())

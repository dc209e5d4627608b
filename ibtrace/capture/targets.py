"""Which parts of a model are meant: wrappers taken off, names and patterns resolved to modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ibtrace.errors import ConfigError, InvalidInput, UnknownName, Unsupported
from ibtrace.models import activations
from ibtrace.numerics.types import is_numeric
from ibtrace.runtime.patterns import is_pattern, matches
from ibtrace.runtime.wrappers import plain_name, unwrap

OUTPUT = "output"
"""The name of the model's own output in a trace."""

WHOLE = "<output>"
"""The same, which stands in a trace where a module of the model is itself called ``output``."""


@dataclass(frozen=True)
class Selection:
    """A choice of layers with what is to be left out of it.

    Args:
        layers: See `resolve`.
        exclude: The same, but without None: these are not meant.
        shown: What layers are called in a trace, where that is not their name.
    """

    layers: Any = None
    exclude: Any = ()
    shown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Defaults:
    """The layers that were found where nobody chose any.

    Args:
        names: What is traced, in the order of the forward pass; a second call is ``act:1``.
        known: Every layer that stood out, by its name.
        called: Which of them are called activations.
        doubled: Which of them gave the very tensor of the network's output on the first samples;
            the output is traced as well wherever they do not.
        exclude: What is not to be traced.
        note: What was chosen from what, in a sentence.
        shown: What layers are called in a trace, where that is not their name.
    """

    names: tuple[str, ...]
    known: frozenset[str]
    called: tuple[str, ...] = ()
    doubled: frozenset[str] = frozenset()
    exclude: Any = ()
    note: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)


_ACTIVATIONS = ("transformers.activations",)


Layers = (
    str
    | type[nn.Module]
    | Callable[[str, nn.Module], bool]
    | Iterable[Any]
    | Selection
    | Defaults
    | None
)
"""Which layers: names (``fc1``), patterns (``block*.act``), module types, ``f(name, module)``."""


@dataclass(frozen=True)
class Target:
    """One thing to capture: a module's input or output, and which part of it.

    Args:
        name: As asked for, and as it stands in the trace.
        module: The module that is hooked.
        part: ``""`` for the output, ``"input"`` for the first argument.
        path: How to come to a tensor inside a structured output: indices and fields.
        choice: What chose it where that was a pattern, a type or a function; empty if it was
            written out. None: nobody chose it, it is a default.
    """

    name: str
    module: nn.Module
    part: str = ""
    path: tuple[int | str, ...] = ()
    choice: str | None = ""

    @property
    def activation_range(self) -> tuple[float, float] | None:
        """The closed range of a bounded activation's output, else None."""
        if self.part:
            return None
        return activations.closed_range(self.module)

    def tensor(self, value: Any) -> Tensor:
        """The tensor that is meant inside what the module returned (or was given).

        Raises:
            InvalidInput: If there is none; names the type.
        """
        value = _unpacked(value)
        inner, is_state = value, False
        for step in self.path:
            # of a recurrent layer: its output, then its states, (layers, n, h) each
            is_state = is_state or (isinstance(self.module, nn.RNNBase) and step == 1)
            if isinstance(inner, Tensor) and not is_state:
                raise InvalidInput(
                    f"layer {self.name!r}: {self.path} leads into a tensor; choose its columns by "
                    "a callable in reduce="
                )
            inner = _unpacked(_inside(inner, step))
        if not self.path and not isinstance(inner, Tensor):
            items = map(_unpacked, _items(value))
            tensors = [item for item in items if isinstance(item, Tensor)]
            # a loss, which has no samples, may come before what it is the loss of, and the tokens
            # and mask that were handed in before what was made of them
            order = sorted(tensors, key=lambda t: (not t.dim(), not t.is_floating_point()))
            inner = order[0] if order else None
        if isinstance(inner, Tensor) and not is_numeric(inner):
            kind = str(inner.dtype).removeprefix("torch.")
            raise InvalidInput(
                f"layer {self.name!r}: its output is {kind}, in which torch computes nothing; "
                "choose another layer"
            )
        if isinstance(inner, Tensor):
            return inner.transpose(0, 1).flatten(1) if is_state and inner.dim() == 3 else inner
        got = type(value).__name__
        if self.path:
            raise InvalidInput(f"layer {self.name!r}: no tensor there in its output of type {got}")
        if self.part:
            raise InvalidInput(f"layer {self.name!r}: the module is given {got}, no tensor")
        raise InvalidInput(
            f"layer {self.name!r} returned {got} without a tensor; choose one with "
            f"'{self.name}[0]' or '{self.name}.field'"
        )


def _unpacked(value: Any) -> Any:
    """Packed sequences as ``(n, steps, ...)``, as many steps as the longest of the batch has."""
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value, batch_first=True)[0]
    return value


def _inside(value: Any, step: int | str) -> Any:
    try:
        return value[step]
    except (TypeError, KeyError, IndexError):
        return getattr(value, str(step), None)


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, item.name) for item in fields(value)]
    return value if isinstance(value, (tuple, list)) else []


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation function of torch or Hugging Face (attention is not)."""
    return activations.find(module) is not None or type(module).__module__ in _ACTIVATIONS


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every module below the model by name, tied ones under each of their names.

    Names are those of the network itself: what ``torch.compile`` and checkpointing or sharding
    wrappers add to them is left out.
    """
    layers: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if plain := plain_name(name):
            layers[plain] = module
    return layers


def aliases(model: nn.Module) -> dict[str, str]:
    """The other names of modules that have several: for each the first, by which its calls go."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(m), name) for name, m in named_layers(model).items()}
    return {name: its_first for name, its_first in names.items() if name != its_first}


def another_name(first: str) -> str:
    """Why a layer is not taken by one of its other names, and what to do."""
    return f"it is the module {first!r} under another name; its calls are {first!r}, '{first}:1', …"


def output_name(model: nn.Module) -> str:
    """What the model's own output is called: `OUTPUT`, or `WHOLE` where a module has that name."""
    return WHOLE if OUTPUT in named_layers(unwrap(model)) else OUTPUT


def settled(layers: Layers) -> Layers:
    """The same choice with sets and iterators as lists, which can be read again.

    Raises:
        ConfigError: If something in it chooses no layers.
    """
    if isinstance(layers, Selection):
        inner = settled(layers.layers)
        return Selection(inner, _choices(layers.exclude, "exclude"), layers.shown)
    if layers is None or isinstance(layers, Defaults):
        return layers
    return _choices(layers, "layers")


def _choices(given: Any, argument: str) -> list[Any]:
    """Each of one or several choices."""
    alone = isinstance(given, (str, type)) or callable(given)
    several = isinstance(given, Iterable) and not isinstance(given, (Mapping, Tensor))
    choices = list(given) if several and not alone else [given]
    for choice in choices:
        if isinstance(choice, nn.Module) or not (isinstance(choice, str) or callable(choice)):
            raise ConfigError(
                f"{argument} takes names, patterns, module types or functions f(name, module), "
                f"alone or in a list; got {' '.join(repr(choice).split())[:80]}"
            )
    if not choices and argument == "layers":
        raise ConfigError("layers: an empty choice means no layer; give names, or None (defaults)")
    return choices


def is_default(layers: Layers) -> bool:
    """Whether nobody chose the layers."""
    choice = layers.layers if isinstance(layers, Selection) else layers
    return choice is None or isinstance(choice, Defaults)


def resolve(model: nn.Module, layers: Layers = None) -> list[Target]:
    """The targets that a choice of layers means on this model, in the order of its modules.

    Args:
        model: The model.
        layers: None for every activation module and the output; else names, patterns, types or a
            callable, alone or in a list. In a pattern ``*`` stops at a dot and ``**`` crosses it
            (``"block*.act"``, ``"**.act"``). A name may end in ``:input`` (what the module is
            given), ``[0]`` (an element of a tuple output) or ``.field`` (of a dataclass or dict
            output). Of a recurrent layer ``lstm[1][0]`` are the last hidden states of all its
            layers side by side, ``lstm[1][0][-1]`` those of the last one; of a GRU ``gru[1]``.

    Raises:
        ConfigError: If something that chooses no layers is among them.
        UnknownName: If a name or pattern matches no module, or only other names of modules (a
            module that has several is traced by its first); lists the layers there are.
        Unsupported: If a layer is scripted or traced by ``torch.jit``, where hooks never run.
    """
    model, layers = unwrap(model), settled(layers)
    modules = named_layers(model)
    everything = {**modules, output_name(model): model}
    if isinstance(layers, Selection):
        targets = resolve(model, layers.layers)
        return [t for t in targets if not excludes(layers.exclude, t.name, t.module)]
    if isinstance(layers, Defaults):
        return _defaults(layers, everything)
    if layers is None:
        _refuse_scripted({output_name(model): model})
        names = [n for n, m in modules.items() if is_activation(m) and not _is_scripted(m)]
        return [
            Target(name, everything[name], choice=None) for name in [*names, output_name(model)]
        ]
    targets, _ = _each(layers, everything, model)
    fine = [target for target in targets if not _is_scripted(target.module)]
    written = [target for target in targets if target.choice == ""]
    _refuse_scripted({t.name: t.module for t in (written if fine else targets)})
    return fine


def scripted(model: nn.Module, layers: Layers) -> list[str]:
    """The outermost parts that a choice of layers means, but whose hooks never run.

    Args:
        model: The model.
        layers: A choice that is not just of names; defaults mean all that is not excluded.
    """
    modules = named_layers(model)
    names = [name for name, module in modules.items() if _is_scripted(module)]
    names = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    choice = layers.layers if isinstance(layers, Selection) else layers
    if isinstance(layers, (Selection, Defaults)):
        names = [n for n in names if not excludes(layers.exclude, n, modules[n])]
    if choice is None or isinstance(choice, Defaults):
        return names
    targets, _ = _each(choice, {**modules, output_name(model): model}, model)
    meant = {target.name for target in targets}
    return [name for name in names if name in meant]


def renamed(model: nn.Module, layers: Layers) -> dict[str, str]:
    """Why layers are not taken by the names that a pattern means: they have others.

    Args:
        model: The model.
        layers: Any choice; what it means by their first names as well is not among them.
    """
    choice = layers.layers if isinstance(layers, Selection) else layers
    if is_default(choice):
        return {}
    everything = {**named_layers(model), output_name(model): model}
    targets, others = _each(choice, everything, model)
    if isinstance(layers, Selection):
        others = {
            t: f for t, f in others.items() if not excludes(layers.exclude, t, everything.get(t))
        }
    meant = {target.name for target in targets}
    return {name: another_name(first) for name, first in others.items() if first not in meant}


def excludes(exclude: Any, name: str, module: nn.Module | None) -> bool:
    """Whether a layer is among those that are not meant.

    Args:
        exclude: Names, patterns, types or functions, alone or in a list.
        name: The layer's name.
        module: The module; None for a called function.
    """
    for choice in _choices(exclude, "exclude"):
        if isinstance(choice, str):
            if matches(stem(name), choice) or name == choice:
                return True
        elif module is not None and isinstance(choice, type):
            if isinstance(module, choice):
                return True
        elif module is not None and _says(choice, stem(name), module, "exclude"):
            return True
    return False


def _each(
    layers: Layers, everything: Mapping[str, nn.Module], model: nn.Module
) -> tuple[list[Target], dict[str, str]]:
    """What each of several choices means, and the first name of what it means by another."""
    targets: dict[str, Target] = {}
    others: dict[str, str] = {}
    known_aliases = aliases(model)
    for choice in _choices(layers, "layers"):
        meant = _match(choice, everything, model)
        if not meant:
            known = ", ".join(everything)
            called = str(choice).rpartition(".")[2] in activations.BY_NAME
            hint = "; activations that are called are chosen by functional=" if called else ""
            raise UnknownName(f"no layer matches {choice!r}; the layers are: {known}{hint}")
        other = {t.name: _first_name(t, everything, known_aliases) for t in meant}
        other = {name: first for name, first in other.items() if first != name}
        if len(other) == len(meant):
            name, first = next(iter(other.items()))
            raise UnknownName(f"layer {name!r}: {another_name(first)}; choose {first!r}")
        others |= other
        for target in meant:
            if target.name not in other and (target.name not in targets or target.choice == ""):
                targets[target.name] = target
    return list(targets.values()), others


def _first_name(
    target: Target, everything: Mapping[str, nn.Module], known_aliases: Mapping[str, str]
) -> str:
    """What a target is called by the first name of its module."""
    module = _parse(target.name, everything)[0]
    return known_aliases.get(module, module) + target.name[len(module) :]


def _defaults(defaults: Defaults, everything: dict[str, nn.Module]) -> list[Target]:
    stems = dict.fromkeys(stem(name) for name in defaults.names)
    for name in defaults.called:
        stems.pop(name, None)
    if defaults.doubled:
        stems[next(reversed(everything))] = None  # the network's output is the last of all
    parsed = {name: _parse(name, everything) for name in stems}
    return [
        Target(name, everything[module], part, path, None)
        for name, (module, part, path) in parsed.items()
        if module in everything
    ]


def stem(name: str) -> str:
    """A layer's name without the number of a call: ``act`` of ``act:1``."""
    return re.sub(r":\d+$", "", name)


def silent(targets: Sequence[Target], reached: Sequence[str]) -> list[str]:
    """The layers that a pattern or a type means and that never fired in a forward pass.

    Defaults that never fired are not among them: nobody asked for those.

    Args:
        targets: The layers asked for.
        reached: Those that fired.

    Raises:
        UnknownName: If a layer was written out and never fired, or none that a pattern means did;
            names those that fired.
    """
    called = ", ".join(reached) or "none"
    missing = [target for target in targets if target.name not in reached]
    if written := [target.name for target in missing if target.choice == ""]:
        names = ", ".join(written)
        raise UnknownName(f"layers {names} were not called in the forward pass; called: {called}")
    fired = {target.choice for target in targets if target.name in reached}
    if idle := [t.choice for t in missing if t.choice is not None and t.choice not in fired]:
        raise UnknownName(
            f"no layer that {idle[0]} means was called in the forward pass; called: {called}"
        )
    return [t.name for t in missing if t.choice is not None and not _never_runs(t.module)]


def _never_runs(module: nn.Module) -> bool:
    """Whether it holds others and has no forward of its own, like a module list."""
    return type(module).forward is nn.Module.forward and "forward" not in vars(module)


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _refuse_scripted(modules: Mapping[str, nn.Module]) -> None:
    names = [name for name, module in modules.items() if _is_scripted(module)]
    if names:
        raise Unsupported(
            f"layer {names[0]!r} is a torch.jit module, whose hooks never run; "
            "trace the Python module it was made from, or name layers outside it"
        )


def _match(choice: Any, everything: Mapping[str, nn.Module], model: nn.Module) -> list[Target]:
    below = {name: module for name, module in everything.items() if module is not model}
    if isinstance(choice, type):
        meant = [Target(name, m) for name, m in below.items() if isinstance(m, choice)]
        return [replace(target, choice=choice.__name__) for target in meant]
    if not isinstance(choice, str):
        label = getattr(choice, "__name__", type(choice).__name__)
        return [
            Target(name, m, choice=label) for name, m in below.items() if _says(choice, name, m)
        ]
    if choice == WHOLE:
        return [Target(choice, model)]
    if choice in everything:
        return [Target(choice, everything[choice])]
    pattern, part, path = _parse(choice, everything)
    suffix = choice[len(pattern) :]
    names = [name for name in everything if matches(name, pattern)]
    if not names and "[" in pattern + suffix:  # what looks like an index may be characters
        pattern, part, path, suffix = choice, "", (), ""
        names = [name for name in everything if matches(name, pattern)]
    label = repr(choice) if is_pattern(pattern) or pattern not in names else ""
    return [Target(name + suffix, everything[name], part, path, label) for name in names]


def shown_names(layers: Layers) -> Mapping[str, str]:
    """``{name by module: name in a trace}`` of a choice, where the two differ."""
    return layers.shown if isinstance(layers, (Defaults, Selection)) else {}


def meant(model: nn.Module, choice: str) -> bool:
    """Whether a name or a pattern means some layer of a model by the names of its modules."""
    return bool(_match(choice, {**named_layers(model), output_name(model): model}, model))


def _says(choice: Any, name: str, module: nn.Module, argument: str = "layers") -> bool:
    """What the user's function says of a module.

    Raises:
        ConfigError: If it fails.
    """
    try:
        return bool(choice(name, module))
    except Exception as error:
        who = getattr(choice, "__name__", type(choice).__name__)
        message = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        raise ConfigError(
            f"{argument}: {who} failed on {name!r} ({message}); it is called as f(name, module)"
        ) from error


def _parse(choice: str, names: Mapping[str, nn.Module]) -> tuple[str, str, tuple[int | str, ...]]:
    """``name``, ``name:input``, ``name[0]``, ``name.field[1]`` as name, part and path."""
    if choice.endswith(":input"):
        return choice.removesuffix(":input"), "input", ()
    path: list[int | str] = []
    stem = choice
    while stem not in names:
        if indexed := re.fullmatch(r"(.+)\[(-?\d+)\]", stem):
            stem, step = indexed[1], int(indexed[2])
            path.insert(0, step)
            continue
        before, dot, field = stem.rpartition(".")
        known = before in names or bool(re.search(r"\[-?\d+\]$", before))
        if not dot or not known or not field.isidentifier():
            break
        stem = before
        path.insert(0, field)
    return stem, "", tuple(path)

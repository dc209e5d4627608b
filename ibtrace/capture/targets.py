"""Which parts of a model are meant: wrappers taken off, names and patterns resolved to modules."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace import activations
from ibtrace.types import InvalidInput, UnknownName, Unsupported
from ibtrace.wrappers import plain_name, unwrap

Layers = str | type[nn.Module] | Callable[[str, nn.Module], bool] | Sequence[Any] | None
"""Which layers: names (``fc1``), globs (``block*.act``), module types, or ``f(name, module)``."""

OUTPUT = "output"
"""The name of the model's own output in a trace."""

_ACTIVATIONS = ("transformers.activations",)


@dataclass(frozen=True)
class Target:
    """One thing to capture: a module's input or output, and which part of it.

    Args:
        name: As asked for, and as it stands in the trace.
        module: The module that is hooked.
        part: ``""`` for the output, ``"input"`` for the first argument.
        path: How to come to a tensor inside a structured output: indices and fields.
    """

    name: str
    module: nn.Module
    part: str = ""
    path: tuple[int | str, ...] = ()

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
        found = value
        for step in self.path:
            found = _inside(found, step)
        if not self.path and not isinstance(found, Tensor):
            found = next((item for item in _items(value) if isinstance(item, Tensor)), None)
        if isinstance(found, Tensor):
            return found
        got = type(value).__name__
        if self.path:
            raise InvalidInput(f"layer {self.name!r}: no tensor there in its output of type {got}")
        raise InvalidInput(
            f"layer {self.name!r} returned {got} without a tensor; choose one with "
            f"'{self.name}[0]' or '{self.name}.field'"
        )


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


def resolve(model: nn.Module, layers: Layers = None) -> list[Target]:
    """The targets that a choice of layers means on this model, in the order of its modules.

    Args:
        model: The model.
        layers: None for every activation module and the output; else names, globs, types or a
            callable, alone or in a list. A name may end in ``:input`` (what the module is given),
            ``[0]`` (an element of a tuple output) or ``.field`` (of a dataclass or dict output).

    Raises:
        UnknownName: If a name or pattern matches no module; lists the layers there are.
        Unsupported: If a layer is scripted or traced by ``torch.jit``, where hooks never run.
    """
    model = unwrap(model)
    modules = named_layers(model)
    if layers is None:
        _refuse_scripted({OUTPUT: model, **modules})
        chosen = [Target(name, m) for name, m in modules.items() if is_activation(m)]
        return [*chosen, Target(OUTPUT, model)]
    wanted = layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]
    targets: dict[str, Target] = {}
    for choice in wanted:
        found = _match(choice, model, modules)
        if not found:
            known = ", ".join([*modules, OUTPUT])
            raise UnknownName(f"no layer matches {choice!r}; the layers are: {known}")
        targets.update({target.name: target for target in found})
    _refuse_scripted({target.name: target.module for target in targets.values()})
    return list(targets.values())


def require_reached(names: Iterable[str], reached: Sequence[str]) -> None:
    """Raise if a layer that was asked for never fired.

    Args:
        names: The layers asked for.
        reached: Those that fired in a forward pass.

    Raises:
        UnknownName: Naming the silent ones and those that fired.
    """
    if silent := [name for name in names if name not in reached]:
        missing, called = ", ".join(silent), ", ".join(reached) or "none"
        raise UnknownName(f"layers {missing} were not called in the forward pass; called: {called}")


def _refuse_scripted(modules: Mapping[str, nn.Module]) -> None:
    scripted = [name for name, m in modules.items() if isinstance(m, torch.jit.ScriptModule)]
    if scripted:
        raise Unsupported(
            f"layer {scripted[0]!r} is a torch.jit module, whose hooks never run; "
            "trace the Python module it was made from, or name layers outside it"
        )


def _match(choice: Any, model: nn.Module, modules: Mapping[str, nn.Module]) -> list[Target]:
    if isinstance(choice, type):
        return [Target(name, m) for name, m in modules.items() if isinstance(m, choice)]
    if not isinstance(choice, str):
        return [Target(name, m) for name, m in modules.items() if choice(name, m)]
    everything = {**modules, OUTPUT: model}
    if choice in everything:
        return [Target(choice, everything[choice])]
    pattern, part, path = _parse(choice, everything)
    suffix = choice[len(pattern) :]
    names = [name for name in everything if fnmatch.fnmatchcase(name, pattern)]
    return [Target(name + suffix, everything[name], part, path) for name in names]


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

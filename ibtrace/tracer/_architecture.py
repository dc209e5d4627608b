"""What a network is made of: what the seeds of a run must agree in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parameter import is_lazy

from ibtrace.runtime.wrappers import plain_name, unwrap
from ibtrace.tracer._attributes import FUNCTIONS, PLAIN, attributes, told

if TYPE_CHECKING:
    from ibtrace.tracer._observer import Networks


def architecture(model: nn.Module | Networks) -> dict[str, str]:
    """Every module by name: class, torch's settings of its own classes, parameters, buffers' names.

    Args:
        model: One module, or several networks of one structure.

    Returns:
        ``{"fc1": "Linear(in_features=12, out_features=10, bias=True): weight (10, 12), …"}``;
        empty while lazy modules do not know yet what they will be.
    """
    network = unwrap(model) if isinstance(model, nn.Module) else model.template
    if any(is_lazy(parameter) for parameter in network.parameters()):
        return {}
    return {plain_name(name): _printed(module) for name, module in network.named_modules()}


def settings(
    model: nn.Module | Networks, forward: Callable[..., Any] | None
) -> dict[str, dict[str, str]]:
    """What users' own modules hold beside parameters: numbers and words, and functions.

    Names that begin with ``_`` are passed over (libraries keep there what they are doing), as is
    what `attributes` does not follow.

    Args:
        model: One module, or several networks of one structure.
        forward: The function that calls the model, if there is one.

    Returns:
        ``{"values": {"block.scale": "3"}, "functions": {"block.f": "tanh", …}}``: of functions
        those of attributes, the forwards of the modules' own classes, and ``forward=``.
    """
    network = unwrap(model) if isinstance(model, nn.Module) else model.template
    caller = nn.Module()
    vars(caller)["forward="] = forward
    held = list(attributes(caller))
    for name, module in network.named_modules():
        if _package(type(module)) != "torch":
            own = [("forward()", type(module).forward), *attributes(module)]
            own = [(step, value) for step, value in own if not step.startswith("_")]
        else:  # of torch's own, whose settings are in the architecture, another forward
            own = [(s, value) for s, value in vars(module).items() if s == "forward"]
        held += [(".".join(filter(None, (plain_name(name), s))), value) for s, value in own]
    return {
        "values": {name: told(value) for name, value in held if isinstance(value, PLAIN)},
        "functions": {name: told(value) for name, value in held if isinstance(value, FUNCTIONS)},
    }


def first_difference(held: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Where two networks first differ, in words; empty if they do not.

    Args:
        held: That of a run.
        now: That of the network which is to join it.
    """
    for name in [*held, *now]:
        if held.get(name) != now.get(name):
            there, here = (each.get(name, "not there") for each in (held, now))
            return f"{name or 'the model'} is {there} in the run, {here} now"
    return "its modules are in another order" if list(held) != list(now) else ""


def _printed(module: nn.Module) -> str:
    """`kind_of` a module, its parameters, and the names of its buffers.

    Args:
        module: A module; its children are not described.
    """
    held = [
        f"{name} {tuple(value.shape)} {value.dtype}".replace("torch.", "")
        for name, value in module.named_parameters(recurse=False)
    ]
    held += [name for name, _ in module.named_buffers(recurse=False)]  # which may grow
    return kind_of(module) + (f": {', '.join(held)}" if held else "")


def kind_of(module: nn.Module) -> str:
    """The class in full, with what only torch's own classes are asked for.

    Args:
        module: A module; its children are not described.
    """
    kind = type(module)
    torchs = kind.extra_repr.__module__.partition(".")[0] == "torch"
    printed = module.extra_repr() if torchs else ""
    return f"{kind.__qualname__}({', '.join(filter(None, (printed, *_more(module, printed))))})"


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _more(module: nn.Module, printed: str) -> list[str]:
    """What a class of torch's own does not say of itself: ``mode`` of an RNN, heads, functions."""
    if _package(type(module)) != "torch":
        return []
    values = {
        name: getattr(value, "__name__", value)
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name != "training"
    }
    return [
        f"{name}={value}"
        for name, value in values.items()
        if isinstance(value, (str, bool, int, float)) and f"{name}=" not in printed
    ]

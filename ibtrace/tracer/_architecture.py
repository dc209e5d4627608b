"""What a network is made of: what the seeds of a run must agree in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

from ibtrace.runtime.wrappers import plain_name, unwrap

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
    """The class in full, with what only torch's own classes are asked for, and the parameters."""
    kind = type(module)
    torchs = kind.extra_repr.__module__.partition(".")[0] == "torch"
    settings = module.extra_repr() if torchs else ""
    settings = ", ".join(filter(None, (settings, *_more(module, settings))))
    held = [
        f"{name} {tuple(value.shape)} {value.dtype}".replace("torch.", "")
        for name, value in module.named_parameters(recurse=False)
    ]
    held += [name for name, _ in module.named_buffers(recurse=False)]  # which may grow
    return f"{kind.__qualname__}({settings})" + (f": {', '.join(held)}" if held else "")


def _more(module: nn.Module, printed: str) -> list[str]:
    """What a class of torch's own does not say of itself: ``mode`` of an RNN, heads, functions."""
    if type(module).__module__.partition(".")[0] != "torch":
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

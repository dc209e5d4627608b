"""Activation functions that are called, not modules: ``F.relu(x)``, ``x.tanh()``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ibtrace.capture.targets import is_activation, named_layers
from ibtrace.errors import ConfigError
from ibtrace.models.activations import BY_NAME
from ibtrace.runtime.arguments import shown
from ibtrace.runtime.patterns import matches

Functional = bool | str | Sequence[str]
"""Which called activations: all of them (True), or globs of their names."""

_HOMES = (torch, F, Tensor, torch.special)
_FUNCTIONS: dict[Any, str] = {
    getattr(home, spelt): name
    for name in BY_NAME
    for spelt in (name, f"{name}_")
    for home in _HOMES
    if hasattr(home, spelt)
} | {torch.special.expit: "sigmoid"}


def _range(function: str) -> tuple[float, float] | None:
    """The closed range of a called function; hardtanh's is among its arguments."""
    known = BY_NAME[function]
    if known.low is None or known.high is None or function == "hardtanh":
        return None
    return known.low, known.high


class _Watch(TorchFunctionMode):
    def __init__(self, seen: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = _FUNCTIONS.get(func)
        if name is not None and isinstance(result, Tensor):
            self._seen(name, result)
        return result


def check(functional: Functional) -> None:
    """Raise for a choice of called activations that cannot be meant.

    Raises:
        ConfigError: If it is neither a flag nor one or several names.
    """
    if isinstance(functional, (bool, str)):
        return
    several = isinstance(functional, Sequence) and not isinstance(functional, bytes)
    if not several or not all(isinstance(name, str) for name in functional):
        raise ConfigError(
            f"functional must be True, False or names of called activations, got "
            f"{shown(functional)}"
        )


def asked_for(name: str, functional: Functional) -> bool:
    """Whether a choice of called activations means one."""
    if isinstance(functional, bool):
        return functional
    patterns = [functional] if isinstance(functional, str) else functional
    return any(matches(name, pattern) for pattern in patterns)


@contextmanager
def functional_calls(
    model: nn.Module,
    wanted: Functional,
    give: Callable[[str, Tensor, tuple[float, float] | None], None],
) -> Iterator[None]:
    """Call ``give`` for each activation function that a module of the model calls by itself.

    Its name is that of the calling module and the function's, ``block1.relu``; in the model's own
    forward just ``relu``. What activation modules call is theirs, and passed over.

    Args:
        model: The module that is called.
        wanted: True for all, or globs of names.
        give: Takes name, result and closed range of the function.

    Yields:
        Nothing.
    """
    running: list[tuple[str, bool]] = []

    def seen(function: str, result: Tensor) -> None:
        caller, is_module = running[-1] if running else ("", False)
        name = f"{caller}.{function}" if caller else function
        if not is_module and asked_for(name, wanted):
            give(name, result, _range(function))

    def enter(name: str, activation: bool) -> Callable[..., None]:
        return lambda _module, _args: running.append((name, activation))

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        running.pop()

    # Reversed, so that a module of several names keeps its first.
    layers = {id(m): (name, m) for name, m in reversed(named_layers(model).items())}
    with ExitStack() as stack:
        for name, module in layers.values():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            enters = enter(name, is_activation(module))
            # Before the user's own hooks, whose calls are the module's too; and left even by a
            # forward that raises, or all that follows would bear this module's name.
            stack.callback(module.register_forward_pre_hook(enters, prepend=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        stack.enter_context(_Watch(seen))
        yield

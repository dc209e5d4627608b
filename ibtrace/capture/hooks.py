"""The hooks themselves: what a forward pass computes, by name, while a context lasts."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from ibtrace.capture.functional import Functional, functional_calls
from ibtrace.capture.targets import OUTPUT, Layers, Target, resolve
from ibtrace.wrappers import unwrap

Keep = Callable[[str, Tensor, tuple[float, float] | None], None]
"""Takes a layer's name, its tensor (not to be held: it may be overwritten) and its range."""


@contextmanager
def hooked(
    model: nn.Module,
    targets: Sequence[Target],
    keep: Keep,
    *,
    start: Callable[[], None] | None = None,
    functional: Functional = False,
    drop_repeated_output: bool = False,
) -> Iterator[Callable[[], None]]:
    """Call ``keep`` for each target as the forward passes of a model reach it.

    A module called more than once in a forward gives ``name``, ``name:1``, ``name:2`` …. Hooks
    return None, so that nothing is replaced, and are gone when the context is left.

    Args:
        model: The module that is called, without wrappers.
        targets: See `resolve`.
        keep: Called with each tensor.
        start: Called as each forward of the model begins, which then counts as a batch of its
            own; None leaves it to the caller to say where one begins.
        functional: Also activation functions that no module stands for; see `functional_calls`.
        drop_repeated_output: Pass over an output that is the very tensor of a layer before it.

    Yields:
        What says that a batch begins.
    """
    calls: Counter[str] = Counter()
    seen: list[tuple[Callable[[], Tensor | None], int]] = []

    def begin() -> None:
        calls.clear()
        seen.clear()

    def on_begin(_module: nn.Module, _args: Any) -> None:
        begin()
        if start is not None:
            start()

    def give(name: str, tensor: Tensor, bounds: tuple[float, float] | None) -> None:
        if drop_repeated_output:
            # an inference tensor counts no changes
            version = -1 if tensor.is_inference() else tensor._version
            if name == OUTPUT and any(r() is tensor and v == version for r, v in seen):
                return
            seen.append((weakref.ref(tensor), version))
        times = calls[name]
        calls[name] += 1
        keep(f"{name}:{times}" if times else name, tensor.detach(), bounds)

    def on_output(target: Target) -> Callable[..., None]:
        bounds = target.activation_range
        return lambda _module, _args, output: give(target.name, target.tensor(output), bounds)

    def on_input(target: Target) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            first = next(iter([*args, *kwargs.values()]), None)
            give(target.name, target.tensor(first), None)

        return hook

    with ExitStack() as stack:
        if start is not None:
            stack.callback(model.register_forward_pre_hook(on_begin).remove)
        for target in targets:
            if target.part == "input":
                handle = target.module.register_forward_pre_hook(on_input(target), with_kwargs=True)
            else:
                handle = target.module.register_forward_hook(on_output(target))
            stack.callback(handle.remove)
        if functional:
            stack.enter_context(functional_calls(model, functional, give))
        yield begin


@contextmanager
def capture(
    model: nn.Module, layers: Layers = None, *, functional: Functional = False
) -> Iterator[dict[str, Tensor]]:
    """Hooks on the chosen layers; the dictionary fills with each forward pass.

    A module called more than once in a forward gives ``name``, ``name:1``, ``name:2`` …. The
    tensors are detached copies (an in-place activation cannot reach them). Hooks are removed
    whatever happens inside.

    Args:
        model: Any module.
        layers: See `resolve`.
        functional: Also activation functions that are called, not modules: True for all of them,
            or globs of their names (``block1.relu``: the module that calls, then the function).

    Yields:
        ``{layer: activations}`` of the last forward pass inside the context.

    Raises:
        UnknownName: If a chosen layer does not exist.
        Unsupported: If a chosen layer is scripted.
        InvalidInput: If a chosen output holds no tensor.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
        >>> with capture(net) as activations:
        ...     _ = net(torch.zeros(5, 2))
        >>> {name: tuple(value.shape) for name, value in activations.items()}
        {'1': (5, 3)}
    """
    captured: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor, _bounds: tuple[float, float] | None) -> None:
        captured[name] = tensor.clone()

    with hooked(
        unwrap(model),
        resolve(model, layers),
        keep,
        start=captured.clear,
        functional=functional,
        drop_repeated_output=layers is None,
    ):
        yield captured

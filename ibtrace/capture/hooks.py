"""The hooks themselves: what a forward pass computes, by name, while a context lasts."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.capture.functional import Functional, functional_calls
from ibtrace.capture.targets import Layers, Target, is_default, resolve
from ibtrace.errors import InvalidInput
from ibtrace.runtime.wrappers import unwrap

Keep = Callable[[str, Tensor, tuple[float, float] | None], None]
"""Takes a layer's name, its tensor (not to be held: it may be overwritten) and its range."""

Refuse = Callable[[str, str], None]
"""Takes the name of a layer that cannot be taken, and why."""

PassOver = Callable[[str, Sequence[str]], bool]
"""Takes the name of the model's output and of layers whose tensor it is; True: pass it over."""

_MAPPED = "it runs inside torch.func.vmap, on one sample at a time; choose a layer outside of it"

_vmap = torch._C._functorch  # torch has no public word for what a transform hides of a tensor


@contextmanager
def hooked(
    model: nn.Module,
    targets: Sequence[Target],
    keep: Keep,
    *,
    start: Callable[[], None] | None = None,
    functional: Functional = False,
    pass_over: PassOver | None = None,
    refuse: Refuse | None = None,
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
        pass_over: Told the name of the model's output, and of the layers before it whose very
            tensor it is; whether it is then not to be kept.
        refuse: Told of layers that nobody wrote out and whose output holds no tensor; None: that
            is an error.

    Yields:
        What says that a batch begins.
    """
    taking = _Taking(model, keep, pass_over, refuse)

    def on_begin(_module: nn.Module, _args: Any) -> None:
        taking.begin()
        if start is not None:
            start()

    with ExitStack() as stack:
        if start is not None:
            stack.callback(model.register_forward_pre_hook(on_begin).remove)
        for target in targets:
            if target.part == "input":
                hook = taking.on_input(target)
                handle = target.module.register_forward_pre_hook(hook, with_kwargs=True)
            else:
                handle = target.module.register_forward_hook(taking.on_output(target))
            stack.callback(handle.remove)
        if functional:
            stack.enter_context(functional_calls(model, functional, taking.give))
        yield taking.begin


class _Taking:
    """Gives on what the hooks reach, each tensor by the name of its call; see `hooked`."""

    def __init__(
        self, model: nn.Module, keep: Keep, pass_over: PassOver | None, refuse: Refuse | None
    ) -> None:
        self.model, self.keep, self.pass_over, self.refuse = model, keep, pass_over, refuse
        # Transforms around the model as a whole are the caller's, and known to it; an axis that
        # one inside the model hides is not.
        self.level = _vmap.maybe_current_level() or 0
        self.calls: Counter[str] = Counter()
        # Weakly, or every activation of the forward would be held at once; with the version, for
        # a tensor that was changed in place since is no longer what that layer gave.
        self.seen: list[tuple[Callable[[], Tensor | None], int, str]] = []

    def begin(self) -> None:
        """A forward begins: calls are counted anew."""
        self.calls.clear()
        self.seen.clear()

    def give(self, name: str, tensor: Tensor, bounds: tuple[float, float] | None) -> None:
        """One layer's tensor, at one call of it."""
        if _is_mapped_over(tensor, self.level):
            if self.refuse is None:
                raise InvalidInput(f"layer {name!r}: {_MAPPED}")
            self.refuse(name, _MAPPED)
            return
        times = self.calls[name]
        self.calls[name] += 1
        full = f"{name}:{times}" if times else name
        if self.pass_over is not None:
            self.seen.append((weakref.ref(tensor), _version(tensor), full))
        self.keep(full, tensor.detach(), bounds)

    def give_part(self, target: Target, value: Any, bounds: tuple[float, float] | None) -> None:
        """That part of a module's input or output which a target means."""
        try:
            tensor = target.tensor(value)
        except InvalidInput as error:
            if target.choice == "" or self.refuse is None:
                raise
            self.refuse(target.name, str(error))
            return
        whole = target.module is self.model and not target.part and not target.path
        if self.pass_over is not None and whole:
            # a model that returns its last layer's very tensor would be traced twice
            same = [name for r, v, name in self.seen if r() is tensor and v == _version(tensor)]
            if self.pass_over(target.name, same):
                return
        self.give(target.name, tensor, bounds)

    def on_output(self, target: Target) -> Callable[..., None]:
        """The hook of a target that is a module's output."""
        bounds = target.activation_range
        return lambda _module, _args, output: self.give_part(target, output, bounds)

    def on_input(self, target: Target) -> Callable[..., None]:
        """The hook of a target that is a module's input: its first tensor, named or not."""

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = [*args, *kwargs.values()]
            first = next((value for value in given if isinstance(value, Tensor)), None)
            # with no tensor there, what is there, for the error to name it
            self.give_part(target, next(iter(given), None) if first is None else first, None)

        return hook


def _is_mapped_over(tensor: Tensor, level: int) -> bool:
    """Whether a tensor hides an axis, because the model itself maps over it.

    Args:
        tensor: A layer's output.
        level: How many transforms were active around the model as a whole.
    """
    while _vmap.is_functorch_wrapped_tensor(tensor):
        if _vmap.is_batchedtensor(tensor) and _vmap.maybe_get_level(tensor) > level:
            return True
        tensor = _vmap.get_unwrapped(tensor)
    return False


def bare(tensor: Tensor) -> Tensor:
    """The tensor inside those of torch.func, its hidden axes shown; any other as it is."""
    while _vmap.is_functorch_wrapped_tensor(tensor):
        tensor = _vmap.get_unwrapped(tensor)
    return tensor


def _version(tensor: Tensor) -> int:
    """How often it was changed in place; an inference tensor does not count that."""
    return -1 if tensor.is_inference() else tensor._version


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
        pass_over=(lambda name, same: bool(same)) if is_default(layers) else None,
    ):
        yield captured

"""A look that leaves no mark."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace import distributed
from ibtrace.rng import preserved_generators

_OWN = frozenset(vars(nn.Module()))


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eager, in eval mode, without gradients or autocast; afterwards all is as it was.

    Restores every module's training flag, plain attributes (a counter or cache that a forward
    sets; what it puts into a list, dict, set or tensor) and buffers, weights that a ``max_norm``
    lets the forward rescale, and the generators of torch, NumPy and Python, the global ones and
    those that torch modules hold. Compiled modules run eagerly inside, and transformer layers
    without the fused path that passes over their parts.

    Args:
        model: The module that may be called inside.

    Yields:
        Nothing.
    """
    # Flags are set, not train() or eval() called: those may be overridden (frozen BatchNorm,
    # adapters that merge their weights), and would not undo each other.
    modules = list({id(module): module for module in model.modules()}.values())
    attributes = [(module, dict(module.__dict__)) for module in modules if not _is_lazy(module)]
    training = [(module, module.training) for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None and not nn.parameter.is_lazy(buffer)
    ]
    contents = [refill for module in modules for refill in _contents(module)]
    generators = [v for m in modules for v in vars(m).values() if isinstance(v, torch.Generator)]
    try:
        with ExitStack() as stack:
            stack.enter_context(preserved_generators(*generators))
            stack.enter_context(torch.no_grad())
            for device in sorted({"cpu", *(p.device.type for p in model.parameters())} - {"meta"}):
                stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(_no_fused_transformers())
            for module in modules:
                module.training = False
                if "_original_forward" in vars(module):  # accelerate's autocast is in its forward
                    vars(module)["forward"] = vars(module)["_original_forward"]
            yield
    finally:
        for module, was in training:
            module.training = was
        distributed.reshard(model)
        for module, before in attributes:
            _restore_attributes(module, before)
        with torch.no_grad():
            for refill in contents:
                refill()
            for module, name, buffer, values in buffers:
                _restore_buffer(module, name, buffer, values)


def _is_lazy(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.lazy.LazyModuleMixin)


def _restore_attributes(module: nn.Module, before: dict[str, object]) -> None:
    now = module.__dict__
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, value in before.items():
        if name not in now or now[name] is not value:
            now[name] = value


def _restore_buffer(module: nn.Module, name: str, buffer: Tensor, values: Tensor) -> None:
    if not isinstance(module, torch.jit.ScriptModule):  # those are one tensor, whatever is set
        module._buffers[name] = buffer
    _restore_values(buffer, values)


def _restore_values(tensor: Tensor, values: Tensor) -> None:
    if not torch.equal(tensor, values):
        tensor.copy_(values)


def _contents(module: nn.Module) -> Iterator[Callable[[], None]]:
    """What gives back to the tensors and containers that a module holds what is in them now."""
    held = [value for name, value in vars(module).items() if name not in _OWN]
    if getattr(module, "max_norm", None) is not None:  # rescales its weights as it is called
        held += module._parameters.values()
    for value in held:
        if isinstance(value, Tensor):
            yield partial(_restore_values, value, value.detach().clone())
        elif isinstance(value, (dict, set, list, deque)):
            yield partial(_refill, value, value.copy())


def _refill(container: Any, items: Any) -> None:
    container.clear()
    (container.update if isinstance(container, (dict, set)) else container.extend)(items)


@contextmanager
def _no_fused_transformers() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

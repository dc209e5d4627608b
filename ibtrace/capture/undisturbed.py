"""A look that leaves no mark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ibtrace.capture.saving import Saved
from ibtrace.runtime import distributed
from ibtrace.runtime.generators import Generators, preserved_generators

SEED = 0x1B7ACE
"""What a look draws from: a model that samples is seen with the same noise at every look of one
batch size."""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[Generators]:
    """Eager, in eval mode, without gradients or autocast; afterwards all is as it was.

    Restores what a forward can change: every module's training flag, attributes (a counter or
    cache; what is put into a dict, list, set, tensor or array, or added to a class), parameters and
    their gradients, buffers and submodules, and the generators of torch, NumPy and Python, the
    global ones and those that modules hold. See `ibtrace.capture.saving.Saved` for how far that
    reaches. Inside, all generators are seeded with `SEED`, compiled modules run eagerly, and
    transformer layers without the fused path that passes over their parts.

    Args:
        model: The module that may be called inside.

    Yields:
        All generators that the forward can draw from, to watch by
        `ibtrace.runtime.generators.Draws`.

    Raises:
        RunError: If something that the forward changed cannot be put back; all else is.
    """
    modules = list({id(module): module for module in model.modules()}.values())
    saved = Saved(model)
    with ExitStack() as stack:
        stack.callback(saved.restore)  # what follows may fail, and is undone before it
        stack.callback(distributed.reshard, model)
        generators = stack.enter_context(preserved_generators(*saved.generators))
        generators.seed(SEED)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for device in sorted({"cpu", *(p.device.type for p in model.parameters())} - {"meta"}):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(_no_fused_transformers())
        for module in modules:
            stack.callback(_set_training, module, module.training)
            _set_training(module, False)
            if "_original_forward" in vars(module):  # accelerate's autocast is in its forward
                vars(module)["forward"] = vars(module)["_original_forward"]
        yield generators


def _set_training(module: nn.Module, training: bool) -> None:
    """Set the flag alone, without the module's own train(), eval() or __setattr__.

    These may refuse, do more (frozen BatchNorm, adapters that merge their weights), and not undo
    each other.
    """
    if isinstance(module, torch.jit.ScriptModule):
        module.training = training
    else:
        object.__setattr__(module, "training", training)


@contextmanager
def _no_fused_transformers() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

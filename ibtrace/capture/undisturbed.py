"""A look that leaves no mark."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from ibtrace import distributed
from ibtrace.capture.saving import Saved
from ibtrace.rng import preserved_generators

SEED = 0x1B7ACE
"""What a look draws from: a model that samples is seen with the same noise at every look."""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eager, in eval mode, without gradients or autocast; afterwards all is as it was.

    Restores what a forward can change: every module's training flag, attributes (a counter or
    cache; what is put into a dict, list, set, tensor or array, or added to a class), parameters,
    buffers and submodules, and the generators of torch, NumPy and Python, the global ones and
    those that modules hold. See `ibtrace.capture.saving.Saved` for how far that reaches. Inside,
    all generators are seeded with `SEED`, compiled modules run eagerly, and transformer layers
    without the fused path that passes over their parts.

    Args:
        model: The module that may be called inside.

    Yields:
        Nothing.

    Raises:
        RunError: If something that the forward changed cannot be put back; all else is.
    """
    # Flags are set, not train() or eval() called: those may be overridden (frozen BatchNorm,
    # adapters that merge their weights), and would not undo each other.
    modules = list({id(module): module for module in model.modules()}.values())
    training = [(module, module.training) for module in modules]
    saved = Saved(model)
    try:
        with ExitStack() as stack:
            stack.enter_context(preserved_generators(*saved.generators))
            _seed(saved.generators)
            stack.enter_context(torch.inference_mode(False))
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
        saved.restore()


def _seed(generators: Iterable[torch.Generator]) -> None:
    """Seed the global generators and those that modules hold."""
    for generator in (torch.default_generator, *generators):
        generator.manual_seed(SEED)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(SEED)
    np.random.seed(SEED)
    random.seed(SEED)


def generators(model: nn.Module) -> list[torch.Generator]:
    """The random generators that a model's modules hold."""
    held = (value for module in model.modules() for value in vars(module).values())
    return [value for value in held if isinstance(value, torch.Generator)]


@contextmanager
def _no_fused_transformers() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

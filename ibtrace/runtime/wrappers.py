"""What distributed training, compilation and checkpointing wrap around a network, taken off."""

from __future__ import annotations

import torch
from torch import nn

_WRAPPED = ("module", "_orig_mod", "_original_module")  # DDP, DataParallel; compile; Fabric
_INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside ``DistributedDataParallel``, ``DataParallel``, ``torch.compile``, Fabric.

    A forward through a distributed wrapper on one rank alone would wait for the others for ever.
    """
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while not isinstance(model, torch.jit.ScriptModule):
        inner = [name for name in _WRAPPED if name != "module" or isinstance(model, parallel)]
        inside = next((m for name in inner if (m := model._modules.get(name)) is not None), None)
        if inside is None:
            break
        model = inside
    return model


def plain_name(name: str) -> str:
    """A module's or tensor's name without the steps that wrappers inside the network add.

    Example:
        >>> plain_name("block._orig_mod.fc1.weight")
        'block.fc1.weight'
    """
    return ".".join(step for step in name.split(".") if step not in _INNER)

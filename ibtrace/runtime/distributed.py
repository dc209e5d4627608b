"""Several processes training one model: who writes, and how shards come together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def running() -> bool:
    """Whether this process is one of several in an initialised process group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's rank; 0 where there is only one."""
    return dist.get_rank() if running() else 0


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's parameters lie in parts on several ranks (FSDP, tensor parallel).

    Then every rank has to take part in a forward; otherwise rank 0 looks alone.
    """
    if not running():
        return False
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    # by the modules: a forward may leave the parameters of an FSDP module whole
    sharding = (FSDPModule, FullyShardedDataParallel)
    if any(isinstance(module, sharding) for module in model.modules()):
        return True
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def reshard(model: nn.Module) -> None:
    """Part again what a forward has gathered of an FSDP2 model and left whole for a backward."""
    if dist.is_available() and dist.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def share_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0 (running statistics, which differ between ranks)."""
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)


def gathered(value: Tensor) -> Tensor:
    """The values of all ranks one after the other, on rank 0; this rank's own on the others.

    Args:
        value: ``(n, ...)``; n may differ between the ranks.
    """
    parts: list[Any] | None = [None] * dist.get_world_size() if rank() == 0 else None
    dist.gather_object(value.cpu(), parts)
    return value if parts is None else torch.cat(parts).to(value.device)


def of_all(value: Any) -> list[Any]:
    """The values of all ranks, in their order, on every rank.

    Args:
        value: This rank's, which can be pickled.
    """
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def same_everywhere(number: int) -> bool:
    """Whether all ranks have the same number."""
    return len(set(of_all(number))) == 1


def anywhere(flag: bool) -> bool:
    """Whether any rank says so."""
    return any(of_all(flag))

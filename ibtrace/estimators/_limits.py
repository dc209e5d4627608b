"""What a machine can hold: memory that is asked for before it is used."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ibtrace.errors import TooLarge
from ibtrace.estimators._inputs import is_ids, samples
from ibtrace.types import Estimator, NeedsMemory, label
from ibtrace.types.protocols import keeps

MEMORY_SHARE = 0.5
"""The share of a machine's memory that one estimate may need."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def memory(device: torch.device) -> float:
    """Bytes of memory that a device has in all; infinite where it does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    try:
        total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
    limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
    return min(total, float(limit)) if limit.isdigit() else total


def require_memory(estimator: Estimator, x: Tensor, y: Tensor) -> None:
    """Raise if an estimate would need more than `MEMORY_SHARE` of the memory.

    Args:
        estimator: Who asks; nothing is known of an estimator that is not `NeedsMemory`.
        x: The first variable.
        y: The second variable.

    Raises:
        TooLarge: If so.
    """
    if not keeps(estimator, NeedsMemory):
        return
    if not all(isinstance(v, Tensor) and v.dim() for v in (x, y)):
        return  # for the estimator to refuse
    dx, dy = (None if is_ids(v) or v.dim() < 2 else v.shape[-1] for v in (x, y))
    n = samples(x if dx is not None else y if dy is not None else x)
    need, advice = estimator.bytes_for(n, dx, dy)
    limit = MEMORY_SHARE * memory(x.device)
    if need > limit:
        raise TooLarge(
            f"{label(estimator)} needs {need / 1e9:.1f} GB for these data, more than "
            f"{MEMORY_SHARE:.0%} of this machine's memory, {limit / 1e9:.1f} GB; {advice}"
        )

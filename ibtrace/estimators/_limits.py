"""What a machine can hold: memory that is asked for before it is used, and numbers that square."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ibtrace.estimators._inputs import is_ids, samples
from ibtrace.types import ProbeLike, TooLarge, label

MEMORY_SHARE = 0.5
"""The share of a machine's memory that one estimate may need."""

_LARGEST = 2.0**100
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_Cached = TypeVar("_Cached")


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


def require_memory(estimator: Any, x: Tensor, y: Tensor) -> None:
    """Raise if an estimate would need more than `MEMORY_SHARE` of the memory.

    An estimator whose need is not linear in its data says it by a method ``bytes_for(n, dx, dy)``,
    with None for the columns of ids.

    Args:
        estimator: Who asks.
        x: The first variable.
        y: The second variable.

    Raises:
        TooLarge: If so.
    """
    asks: Callable[[int, int | None, int | None], tuple[float, str]] | None
    asks = getattr(estimator, "bytes_for", None)
    if asks is None or not all(isinstance(v, Tensor) and v.dim() for v in (x, y)):
        return
    dx, dy = (None if is_ids(v) or v.dim() < 2 else v.shape[-1] for v in (x, y))
    need, advice = asks(samples(x if dx is not None else y if dy is not None else x), dx, dy)
    limit = MEMORY_SHARE * memory(x.device)
    if need > limit:
        raise TooLarge(
            f"{label(estimator)} needs {need / 1e9:.1f} GB for these data, more than "
            f"{MEMORY_SHARE:.0%} of this machine's memory, {limit / 1e9:.1f} GB; {advice}"
        )


def exponent(value: object) -> int:
    """The power of 2 that brings values whose squares overflow, or vanish, to 2^100 or 2^-100."""
    if not isinstance(value, Tensor) or value.dtype != torch.float64 or value.numel() == 0:
        return 0
    largest = float(value.detach().abs().max())
    if not 0 < largest < float("inf") or 1 / _LARGEST <= largest <= _LARGEST:
        return 0
    aim = _LARGEST if largest > 1 else 1 / _LARGEST
    return int(torch.tensor(aim / largest, dtype=torch.float64).log2().round())


def tamed(value: Tensor) -> Tensor:
    """Values multiplied by 2 to the power of their `exponent`, which is exact."""
    power = exponent(value)
    return value if power == 0 else torch.ldexp(value, torch.tensor(power, device=value.device))


class TamedProbe:
    """A probe whose inputs and continuous labels are `tamed`.

    Args:
        probe: The probe.
    """

    def __init__(self, probe: ProbeLike) -> None:
        self._probe = probe
        self.features, self.labels = tamed(probe.features), tamed(probe.labels)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._probe, name)

    def cached(self, key: str, compute: Callable[[], _Cached]) -> _Cached:
        """As the probe's own."""
        return self._probe.cached(key, compute)

"""What this machine can do on one thread: the limits that nothing on it passes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

_TURNS = 7


def _seconds(work: Callable[[], object]) -> float:
    work()
    found = []
    for _ in range(_TURNS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def rates(size: int = 2048) -> dict[str, float]:
    """Memory bandwidth (GB/s, of a copy), float64 product (GFlop/s), exponentials (10⁹/s).

    Args:
        size: Of the square matrices that are copied, multiplied and exponentiated.
    """
    a = torch.rand(size, size, dtype=torch.float64)
    b, block = torch.empty_like(a), a[:256, :256].clone()
    return {
        "copy (GB/s)": round(2 * a.numel() * 8 / _seconds(lambda: b.copy_(a)) / 1e9, 2),
        "float64 product (GFlop/s)": round(2 * size**3 / _seconds(lambda: a @ a) / 1e9, 2),
        "float64 exp (10⁹/s)": round(
            64 * block.numel() / _seconds(lambda: [block.exp() for _ in range(64)]) / 1e9, 3
        ),
    }

"""What this machine can do on one thread: the limits that nothing on it passes."""

from __future__ import annotations

import torch

from benchmarks.timing import seconds

_TURNS = 7


def rates(size: int = 2048) -> dict[str, float]:
    """Memory bandwidth (GB/s, of a copy), float64 product (GFlop/s), exponentials (10⁹/s).

    Args:
        size: Of the square matrices that are copied, multiplied and exponentiated.
    """
    a = torch.rand(size, size, dtype=torch.float64)
    b, block = torch.empty_like(a), a[:256, :256].clone()
    return {
        "copy (GB/s)": round(2 * a.numel() * 8 / seconds(lambda: b.copy_(a), _TURNS) / 1e9, 2),
        "float64 product (GFlop/s)": round(2 * size**3 / seconds(lambda: a @ a, _TURNS) / 1e9, 2),
        "float64 exp (10⁹/s)": round(
            64 * block.numel() / seconds(lambda: [block.exp() for _ in range(64)], _TURNS) / 1e9, 3
        ),
    }

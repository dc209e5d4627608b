"""Tensors by name as one vector, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def flattened(tensors: Mapping[str, Tensor], leading: int = 1) -> Tensor:
    """Tensors ``{name: (*lead, ...)}`` side by side, ``(*lead, P)``.

    Args:
        tensors: In the order of the parameters.
        leading: How many dimensions stay.
    """
    flat = [v.flatten(leading) if v.dim() > leading else v[..., None] for v in tensors.values()]
    return torch.cat(flat, -1)


def unflattened(flat: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Numbers ``(..., P)`` as tensors of these shapes, ``{name: (..., *shape)}``."""
    parts = flat.split([shape.numel() for shape in shapes.values()], dim=-1)
    return {
        name: part.reshape(*flat.shape[:-1], *shapes[name])
        for name, part in zip(shapes, parts, strict=True)
    }

"""What a data set is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibtrace.types import InvalidInput


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and class labels, in a fixed order.

    Args:
        name: As it stands in tables and runs.
        x: Inputs, floats ``(n, ...)``.
        y: Class ids, int64 ``(n,)``.
        classes: Number of classes; labels lie in ``0..classes-1``.

    Raises:
        InvalidInput: If x and y differ in length, or labels are not int64 ids below ``classes``.
    """

    name: str
    x: Tensor
    y: Tensor
    classes: int

    def __post_init__(self) -> None:
        if self.y.dim() != 1 or self.y.dtype != torch.int64:
            got = f"{self.y.dtype} {tuple(self.y.shape)}"
            raise InvalidInput(f"Dataset {self.name}: y must be int64 class ids (n,), got {got}")
        if len(self.x) != len(self.y):
            got = f"{len(self.x)} inputs and {len(self.y)} labels"
            raise InvalidInput(f"Dataset {self.name}: x and y must be equally long, got {got}")
        if len(self.y) and not (0 <= int(self.y.min()) and int(self.y.max()) < self.classes):
            got = f"{int(self.y.min())}..{int(self.y.max())}"
            allowed = f"0..{self.classes - 1}"
            raise InvalidInput(f"Dataset {self.name}: labels must lie in {allowed}, got {got}")

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.x.shape))
        return f"Dataset({self.name!r}, x ({shape}), classes={self.classes})"

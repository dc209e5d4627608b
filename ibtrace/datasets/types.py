"""What a data set is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ibtrace.datasets.labels import read_labels
from ibtrace.datasets.pairing import require_one_order
from ibtrace.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and class labels, in a fixed order.

    Args:
        name: As it stands in tables and runs.
        x: Inputs, floats ``(n, ...)``.
        y: Class labels as `read_labels` takes them: ids, names, one-hot rows; kept as class ids,
            int64 ``(n,)``.
        classes: Number of classes; labels lie in ``0..classes-1``. 0: as many as y has.
        class_names: The names of classes 0, 1, …; by default those in y, None if it holds ids.
        population: Whether x is all of X, each value as often as its law says, and not a sample.

    Raises:
        InvalidInput: If x and y differ in length or in the order of their pandas index, or y is
            not one class below ``classes`` a sample.
    """

    name: str
    x: Tensor
    y: Tensor
    classes: int = 0
    class_names: tuple[str, ...] | None = None
    population: bool = False

    def __post_init__(self) -> None:
        who = f"Dataset {self.name}"
        require_one_order({"x": self.x, "y": self.y}, who)
        classes = self.class_names if self.class_names is not None else self.classes or None
        labels = read_labels(self.y, classes, who)
        if labels.values.dim() != 1 or labels.values.is_floating_point():
            got = f"{labels.values.dtype} {tuple(labels.values.shape)}"
            raise InvalidInput(f"{who}: y must be one class a sample, got {got}")
        if len(self.x) != len(labels.values):
            got = f"{len(self.x)} inputs and {len(labels.values)} labels"
            raise InvalidInput(f"{who}: x and y must be equally long, got {got}")
        most = int(labels.values.max()) + 1 if len(labels.values) else 0
        object.__setattr__(self, "y", labels.values)
        object.__setattr__(self, "classes", self.classes or labels.classes or most)
        object.__setattr__(self, "class_names", labels.names)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.x.shape))
        return f"Dataset({self.name!r}, x ({shape}), classes={self.classes})"

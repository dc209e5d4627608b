"""What a data set is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ibtrace.datasets.labels import read_labels
from ibtrace.datasets.pairing import require_one_order
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import flag, shown, whole


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and class labels, in a fixed order.

    Args:
        name: As it stands in tables and runs.
        x: Inputs, floats ``(n, ...)``.
        y: Class labels as `read_labels` takes them: ids, names, one-hot rows; kept as class ids,
            int64 ``(n,)``. A mapping names several targets (``{"digit": …, "parity": …}``), each of
            which is measured; a network is trained on the first, which stays ``y``. Beside integer
            tokens x, ids of their shape ``(n, tokens)`` are labels of the tokens.
        classes: Number of classes; labels lie in ``0..classes-1``. 0: as many as y has.
        class_names: The names of classes 0, 1, …; by default those in y, None if it holds ids.
        population: Whether x is all of X, each value as often as its law says, and not a sample.
        clean: The true labels, int64 ``(n,)``, if y were corrupted: test samples are judged by
            them. None: y are the true ones.
        targets: The labels by name, the first those that y are; set by a mapping for y.
        sources: What stands for X beside x, by name (`ibtrace.Probe`).

    Raises:
        InvalidInput: If x and y differ in length or in the order of their pandas index, or y is
            not one class below ``classes`` a sample.
        ConfigError: If another field is of another type.
    """

    name: str
    x: Tensor
    y: Tensor
    classes: int = 0
    class_names: tuple[str, ...] | None = None
    population: bool = False
    clean: Tensor | None = None
    targets: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigError(f"Dataset: name must be text, got {shown(self.name)}")
        who = f"Dataset {self.name}"
        _require_named(who, "targets", self.targets)
        _require_named(who, "sources", self.sources)
        if isinstance(self.y, Mapping):
            if not self.y:
                raise InvalidInput(f"{who}: y is an empty mapping; name one target at least")
            _require_named(who, "y", self.y)
            object.__setattr__(self, "targets", dict(self.y))
            object.__setattr__(self, "y", next(iter(self.y.values())))
        object.__setattr__(self, "population", flag(f"{who}: population", self.population))
        if not hasattr(self.x, "__len__") or not hasattr(self.x, "shape"):
            raise InvalidInput(f"{who}: x must be a tensor (n, ...), got {shown(self.x)}")
        require_one_order({"x": self.x, "y": self.y}, who)
        if isinstance(self.class_names, (int, float)):
            raise ConfigError(f"{who}: class_names must be names, got {shown(self.class_names)}")
        many = whole(f"{who}: classes", 0 if self.classes is None else self.classes, least=0)
        classes = many or None if self.class_names is None else self.class_names
        labels = read_labels(self.y, classes, who)
        of_tokens = self.of_tokens(labels.values)
        if of_tokens and many and bool(((labels.values < 0) | (labels.values >= many)).any()):
            raise InvalidInput(f"{who}: labels of tokens must be 0..{many - 1}")
        if not of_tokens and (labels.values.dim() != 1 or labels.values.is_floating_point()):
            got = f"{labels.values.dtype} {tuple(labels.values.shape)}"
            raise InvalidInput(f"{who}: y must be one class a sample, got {got}")
        others = {f"y[{name}]": len(value) for name, value in self.targets.items()}
        others |= {f"sources[{name}]": len(value) for name, value in self.sources.items()}
        if wrong := [name for name, length in others.items() if length != len(self.x)]:
            got = f"{len(self.x)} inputs and {others[wrong[0]]} labels {wrong[0]}"
            raise InvalidInput(f"{who}: x and y must be equally long, got {got}")
        if len(self.x) != len(labels.values):
            got = f"{len(self.x)} inputs and {len(labels.values)} labels"
            raise InvalidInput(f"{who}: x and y must be equally long, got {got}")
        if self.clean is not None and not isinstance(self.clean, Tensor):
            raise InvalidInput(f"{who}: clean labels must be a tensor, got {shown(self.clean)}")
        if self.clean is not None and self.clean.shape != labels.values.shape:
            got = f"{tuple(self.clean.shape)} for {tuple(labels.values.shape)}"
            raise InvalidInput(f"{who}: clean labels must be one for each of y, got {got}")
        most = int(labels.values.max()) + 1 if len(labels.values) else 0
        object.__setattr__(self, "y", labels.values)
        object.__setattr__(self, "classes", many or labels.classes or most)
        object.__setattr__(self, "class_names", labels.names)

    def of_tokens(self, y: Tensor) -> bool:
        """Whether labels are those of tokens: ids, one for each of the integers that x are."""
        if not isinstance(self.x, Tensor):
            return False
        integers = not (y.is_floating_point() or self.x.is_floating_point())
        return integers and y.dim() == 2 and y.shape == self.x.shape

    def measured(self, y: Tensor, rows: Tensor | None = None) -> Tensor | dict[str, Any]:
        """Labels as a probe takes them: by name, if these have names.

        Args:
            y: What stands for ``y``, of these rows.
            rows: Which samples; None for all.
        """
        if not self.targets:
            return y
        first, *others = self.targets
        more = {name: self.targets[name] for name in others}
        if rows is not None:
            more = {n: read_labels(value, who=self.name).values[rows] for n, value in more.items()}
        return {first: y, **more}

    @property
    def truth(self) -> Tensor:
        """The true labels: the clean ones, if y were corrupted."""
        return self.y if self.clean is None else self.clean

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.x.shape))
        return f"Dataset({self.name!r}, x ({shape}), classes={self.classes})"


def _require_named(who: str, argument: str, given: Any) -> None:
    """Raise for what are no labels by name."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigError(
            f"{who}: {argument} must be a mapping of names to labels, got {shown(given)}"
        )
    if wrong := [name for name, value in given.items() if not hasattr(value, "__len__")]:
        got = shown(given[wrong[0]])
        raise InvalidInput(f"{who}: {argument}[{wrong[0]}] must be labels, one a sample, got {got}")

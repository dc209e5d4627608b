"""The fixed inputs and labels on which information is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import torch
from torch import Tensor

from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.entropy import entropy, sample_counts
from ibtrace.numerics.finite import count_non_finite
from ibtrace.types import InvalidInput, NonFinite, TooFewSamples

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class Probe:
    """Inputs and labels that stay the same, in the same order, for a whole trace.

    The tensors are copied, so that later changes to the caller's do not reach the probe. What
    depends on X alone (ids, distances) is computed once and kept by `cached`.

    Args:
        x: Inputs as the model takes them, ``(n, ...)``, floats or integer tokens.
        y: Class ids, integers ``(n,)``, or continuous targets, floats ``(n,)`` or ``(n, dy)``.
        classes: Number of classes, if the labels are to be checked against it.

    Raises:
        InvalidInput: If x and y differ in length, labels are negative, not below ``classes``, or
            of the wrong shape.
        NonFinite: If x or y holds NaN or infinite values.
        TooFewSamples: If there are fewer than two samples.

    Example:
        >>> probe = Probe(torch.eye(4), torch.tensor([0, 0, 1, 1]))
        >>> probe.n, probe.label_entropy
        (4, 1.0)
    """

    x: Tensor
    y: Tensor
    classes: int | None = None

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            value = torch.as_tensor(getattr(self, name)).detach().clone()
            object.__setattr__(self, name, value)
        _check(self.x, self.y, self.classes)

    @classmethod
    def draw(cls, x: Tensor, y: Tensor, n: int, seed: int = 0) -> Probe:
        """A probe of ``n`` samples drawn without replacement, kept in the order of the data.

        Args:
            x: Inputs, ``(m, ...)``.
            y: Labels, ``(m, ...)``.
            n: Samples to keep, at most m.
            seed: Seeds the draw; the global generators are left alone.

        Raises:
            InvalidInput: If ``n`` is larger than the data.
        """
        if n > len(x):
            raise InvalidInput(f"Probe.draw wants {n} samples of {len(x)}; lower n")
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:n]
        chosen = chosen.sort().values
        return cls(x[chosen], y[chosen])

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.x)

    @property
    def discrete(self) -> bool:
        """Whether the labels are class ids."""
        return not self.y.is_floating_point()

    @cached_property
    def features(self) -> Tensor:
        """The inputs as floats, flattened, ``(n, dx)``."""
        flat = self.x.flatten(1) if self.x.dim() > 1 else self.x[:, None]
        return flat if flat.is_floating_point() else flat.float()

    @cached_property
    def x_ids(self) -> Tensor:
        """Which inputs are equal: ids ``0..k-1``, int64, ``(n,)``."""
        return row_ids(self.features)

    @cached_property
    def labels(self) -> Tensor:
        """Class ids, int64 ``(n,)``, or continuous targets ``(n, dy)``."""
        if self.discrete:
            return self.y.long()
        return self.y if self.y.dim() > 1 else self.y[:, None]

    @cached_property
    def label_entropy(self) -> float:
        """H(Y) of the empirical labels in bits: the ceiling of I(T;Y). NaN if continuous."""
        return _entropy(row_ids(self.labels[:, None])) if self.discrete else float("nan")

    @cached_property
    def input_entropy(self) -> float:
        """H(X) of the empirical inputs in bits: log2 n if all inputs are distinct."""
        return _entropy(self.x_ids)

    @cached_property
    def digest(self) -> str:
        """sha256 of inputs and labels with their shapes and types: the probe's identity."""
        sha = hashlib.sha256()
        for value in (self.x, self.y):
            value = value.cpu().contiguous()
            sha.update(f"{tuple(value.shape)}{value.dtype}".encode())
            sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
        return sha.hexdigest()

    def cached(self, key: str, compute: Callable[[], _Value]) -> _Value:
        """``compute()``, done once for this probe: what depends on X alone never changes.

        Args:
            key: Names the value; two different values must not share a key.
            compute: Called the first time only.
        """
        store = self.__dict__.setdefault("_cache", {})
        if key not in store:
            store[key] = compute()
        return cast("_Value", store[key])

    def to(self, device: torch.device | str) -> Probe:
        """The same probe on another device (itself, if it is there already)."""
        if self.x.device == torch.device(device):
            return self
        return Probe(self.x.to(device), self.y.to(device), self.classes)


def _entropy(ids: Tensor) -> float:
    return float(entropy(sample_counts(ids)))


def _check(x: Tensor, y: Tensor, classes: int | None) -> None:
    if x.dim() < 1 or y.dim() < 1 or len(x) != len(y):
        shapes = f"x {tuple(x.shape)} and y {tuple(y.shape)}"
        raise InvalidInput(f"Probe: {shapes} must have the same number of samples first")
    if len(x) < 2:
        raise TooFewSamples(f"Probe needs at least 2 samples, got {len(x)}")
    for name, value in (("x", x), ("y", y)):
        if bad := count_non_finite(value):
            raise NonFinite(f"Probe: {name} has {bad} NaN or infinite values; remove those samples")
    if y.is_floating_point():
        if y.dim() > 2:
            raise InvalidInput(f"Probe: continuous y must be (n,) or (n, dy), got {tuple(y.shape)}")
        return
    if y.dim() != 1:
        got = tuple(y.shape)
        raise InvalidInput(f"Probe: class ids must be (n,), got {got}; take argmax of one-hot rows")
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        allowed = "0 or more" if classes is None else f"0..{classes - 1}"
        raise InvalidInput(f"Probe: class ids must be {allowed}, got {low}..{high}")

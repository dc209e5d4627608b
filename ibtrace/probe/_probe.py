"""The probe: inputs and labels, checked, hashed, and what depends on them alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ibtrace.datasets import Dataset
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.entropy import entropy, sample_counts
from ibtrace.numerics.finite import count_non_finite
from ibtrace.rng import preserved_generators
from ibtrace.types import InvalidInput, NonFinite, TooFewSamples

_Value = TypeVar("_Value")


Inputs = Tensor | Mapping[str, Tensor]
"""What a model is called with: ``model(x)`` for a tensor, ``model(**x)`` for named ones."""

ATTENTION_MASK = "attention_mask"
_LABELS = ("labels", "label")
_READ = 256


@dataclass(frozen=True, eq=False)
class Probe:
    """Inputs and labels that stay the same, in the same order, for a whole trace.

    The tensors are copied, so that later changes to the caller's do not reach the probe. What
    depends on X alone (ids, distances) is computed once and kept by `cached`.

    Args:
        x: Inputs as the model takes them, ``(n, ...)``, floats or integer tokens; or several by
            name (``input_ids``, ``attention_mask``), with which the model is called as
            ``model(**x)``.
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

    x: Inputs
    y: Tensor
    classes: int | None = None

    def __post_init__(self) -> None:
        x = self.x
        if isinstance(x, Mapping):
            object.__setattr__(self, "x", {name: _frozen(value) for name, value in x.items()})
        else:
            object.__setattr__(self, "x", _frozen(x))
        object.__setattr__(self, "y", _frozen(self.y))
        _check(self.inputs, self.y, self.classes)

    @classmethod
    def of(cls, data: Any, n: int | None = None) -> Probe:
        """A probe from whatever holds the samples; no generator is moved by reading it.

        Args:
            data: A `Probe`; ``(x, y)``; a ``DataLoader``, a ``Dataset`` or an iterable of batches.
                A sample or batch is ``(x, y)``, or a mapping with ``labels`` (or ``label``), whose
                other tensors are the inputs. A loader is read once, in this process, and frozen:
                random augmentations and orders are drawn once.
            n: Take only the first n samples.

        Raises:
            InvalidInput: If it is none of these, a batch has another form, or it holds fewer than
                n samples.

        Example:
            >>> from torch.utils.data import TensorDataset
            >>> Probe.of(TensorDataset(torch.eye(4), torch.tensor([0, 0, 1, 1])), n=3).n
            3
        """
        if isinstance(data, Dataset):
            data = cls(data.x, data.y, data.classes)
        elif not isinstance(data, Probe):
            data = cls(*data) if _is_pair(data) else cls._read(data, n)
        if n is None or data.n == n:
            return cast("Probe", data)
        if data.n < n:
            raise InvalidInput(f"Probe: {n} samples are wanted of {data.n}; lower n")
        return cast("Probe", data.take(slice(n)))

    @classmethod
    def _read(cls, data: Any, n: int | None) -> Probe:
        parts: list[tuple[dict[str, Tensor], Tensor]] = []
        seen = 0
        loader = _loader(data)
        samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
        owners = [loader, data, *samplers, getattr(samplers[1], "sampler", None)]
        with preserved_generators(*(getattr(owner, "generator", None) for owner in owners)):
            for batch in loader:
                parts.append(_inputs_and_labels(batch))
                seen += len(parts[-1][1])
                if n is not None and seen >= n:
                    break
        if not parts:
            raise TooFewSamples("Probe needs at least 2 samples, got an empty data set")
        x = {name: torch.cat([inputs[name] for inputs, _ in parts]) for name in parts[0][0]}
        return cls(as_x(x), torch.cat([labels for _, labels in parts]))

    @classmethod
    def draw(cls, x: Inputs, y: Tensor, n: int, seed: int = 0) -> Probe:
        """A probe of ``n`` samples drawn without replacement, kept in the order of the data.

        Args:
            x: Inputs, ``(m, ...)``, or several by name.
            y: Labels, ``(m, ...)``.
            n: Samples to keep, at most m.
            seed: Seeds the draw; the global generators are left alone.

        Raises:
            InvalidInput: If ``n`` is larger than the data.
        """
        if n > len(y):
            raise InvalidInput(f"Probe.draw wants {n} samples of {len(y)}; lower n")
        chosen = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:n]
        chosen = chosen.sort().values
        return cls(_part(x, chosen), y[chosen])

    def take(self, chosen: slice | Tensor) -> Probe:
        """The probe of some of the samples."""
        return Probe(_part(self.x, chosen), self.y[chosen], self.classes)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.y)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The inputs by name; a single tensor has the name ``""``."""
        return dict(self.x) if isinstance(self.x, Mapping) else {"": self.x}

    @property
    def device(self) -> torch.device:
        """Where the probe is."""
        return self.y.device

    @property
    def mask(self) -> Tensor | None:
        """Which tokens are real, bool ``(n, tokens)``: the input ``attention_mask``, if any."""
        mask = self.inputs.get(ATTENTION_MASK)
        return None if mask is None or mask.dim() != 2 else mask.bool()

    @property
    def discrete(self) -> bool:
        """Whether the labels are class ids."""
        return not self.y.is_floating_point()

    @cached_property
    def features(self) -> Tensor:
        """The inputs as floats, flattened and side by side, ``(n, dx)``."""
        flat = [
            value.flatten(1) if value.dim() > 1 else value[:, None]
            for value in self.inputs.values()
        ]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        return joined if joined.is_floating_point() else joined.float()

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
        for name, value in [*sorted(self.inputs.items()), ("", self.y)]:
            value = value.cpu().contiguous()
            sha.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
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
        if self.device == torch.device(device):
            return self
        return self.cached(f"on {device}", lambda: self._moved(device))

    def _moved(self, device: torch.device | str) -> Probe:
        moved = {name: value.to(device) for name, value in self.inputs.items()}
        return Probe(as_x(moved), self.y.to(device), self.classes)

    def tokens(self, count: int) -> Probe:
        """The probe of which each real token is a sample: its own input is X, its sequence's Y.

        Args:
            count: How many tokens there are in all.

        Raises:
            InvalidInput: If no input has that many tokens.
        """
        return self.cached(f"{count} tokens", lambda: self._tokens(count))

    def _tokens(self, count: int) -> Probe:
        mask = self.mask
        if mask is None:
            mask = torch.ones(self.n, count // self.n, dtype=torch.bool, device=self.device)
        inputs = {
            name: value[mask]
            for name, value in self.inputs.items()
            if name != ATTENTION_MASK and value.shape[:2] == mask.shape
        }
        if not inputs or int(mask.sum()) != count:
            shapes = ", ".join(str(tuple(value.shape)) for value in self.inputs.values())
            raise InvalidInput(
                f"reduce='tokens' found {count} tokens in the layer, but the inputs are {shapes}; "
                "use token:mean, or another layer"
            )
        y = self.y.repeat_interleave(mask.sum(1), dim=0)
        return Probe(as_x(inputs), y, self.classes)


def _entropy(ids: Tensor) -> float:
    return float(entropy(sample_counts(ids)))


def as_x(inputs: dict[str, Tensor]) -> Inputs:
    """The x of a probe with these `Probe.inputs`: the tensor itself if its name is ``""``."""
    return inputs.get("", inputs)


def _frozen(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().clone()


def _is_pair(data: Any) -> bool:
    """Whether this is (x, y), not two batches: loaders yield lists, people write tuples."""
    if isinstance(data, list):
        return len(data) == 2 and hasattr(data[1], "dtype")
    return isinstance(data, tuple) and len(data) == 2


def _part(x: Inputs, chosen: slice | Tensor) -> Inputs:
    if isinstance(x, Mapping):
        return {name: value[chosen] for name, value in x.items()}
    return x[chosen]


def _loader(data: Any) -> Iterable[Any]:
    """What yields the batches: in this process, so that a loader's own workers are not touched."""
    if isinstance(data, DataLoader):
        batches: dict[str, Any] = {"batch_size": data.batch_size}
        if data.batch_sampler is not None:
            batches = {"batch_sampler": data.batch_sampler}
        elif not isinstance(data.dataset, IterableDataset):
            batches["sampler"] = data.sampler
        return DataLoader(data.dataset, collate_fn=data.collate_fn, **batches)
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, IterableDataset) or (indexed and not isinstance(data, (list, tuple))):
        return DataLoader(data, batch_size=_READ)
    if isinstance(data, Iterable):
        return data
    raise InvalidInput(
        f"Probe: data must be (x, y), a DataLoader or a Dataset, got {type(data).__name__}"
    )


def _inputs_and_labels(batch: Any) -> tuple[dict[str, Tensor], Tensor]:
    """A batch as named inputs and labels."""
    if isinstance(batch, Mapping):
        label = next((name for name in _LABELS if name in batch), None)
        if label is not None:
            named = {k: v for k, v in batch.items() if k != label and isinstance(v, Tensor)}
            return named, torch.as_tensor(batch[label])
        got = f"a mapping of {', '.join(map(str, batch))}"
    elif isinstance(batch, (tuple, list)) and len(batch) == 2:
        x, y = batch
        if isinstance(x, Mapping):
            return dict(x), torch.as_tensor(y)
        return {"": torch.as_tensor(x)}, torch.as_tensor(y)
    else:
        got = type(batch).__name__
        if isinstance(batch, (tuple, list)):
            got = f"{got} of {len(batch)}"
    raise InvalidInput(
        f"Probe: a batch must be (x, y) or a mapping with 'labels', got {got}; "
        "give the tracer data=(x, y), x a tensor or a dictionary of the model's arguments"
    )


def _check(inputs: Mapping[str, Tensor], y: Tensor, classes: int | None) -> None:
    for name, x in inputs.items():
        if x.dim() < 1 or y.dim() < 1 or len(x) != len(y):
            shapes = f"{name or 'x'} {tuple(x.shape)} and y {tuple(y.shape)}"
            raise InvalidInput(f"Probe: {shapes} must have the same number of samples first")
    if not inputs:
        raise InvalidInput("Probe: x holds no tensor; give the model's inputs by name")
    if len(y) < 2:
        raise TooFewSamples(f"Probe needs at least 2 samples, got {len(y)}")
    for name, value in [*inputs.items(), ("y", y)]:
        if bad := count_non_finite(value):
            shown = name or "x"
            raise NonFinite(
                f"Probe: {shown} has {bad} NaN or infinite values; remove those samples"
            )
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

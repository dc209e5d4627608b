"""Samples from whatever holds them: loaders, data sets, iterables of batches or of samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
)

from ibtrace.datasets.labels import require_plain
from ibtrace.errors import InvalidInput, TooFewSamples
from ibtrace.probe.inputs import Graph, is_graph, leaves, mapped, require_paired
from ibtrace.probe.joining import joined
from ibtrace.runtime.generators import held_generators, preserved_generators

LABELS = ("labels", "label", "targets", "target", "y", "label_ids")
"""What labels are called in a mapping; the first that is there is taken."""

MOST_BYTES = 2**32
MOST_UNCOUNTED = 2**18

_MEND = "give the tracer data=(x, y), or a generator of ((x, …), y) from the loader"


def read(data: Any, n: int | None = None) -> tuple[Any, ...]:
    """Inputs and labels from whatever holds them, in memory.

    A loader is read once, in this process, with seeded generators (the global ones, and those that
    it, its data sets and their transforms hold or name), which are given back as they were: random
    augmentations are drawn once, and the same ones each time. A loader that shuffles is read in the
    order of its data set. Batches padded to their own longest are padded to the longest of all
    where an ``attention_mask`` says what is padding.

    Args:
        data: ``(x, y)``; x alone; a graph; a mapping; a ``DataLoader``; a ``Dataset`` of samples;
            an iterable of batches or of samples ``(x, y)``. A sample or batch may be ``(x, y)``,
            x, or a mapping, of which ``labels`` (`LABELS`) are the labels and the rest the inputs.
        n: Stop when there are n samples; of a shuffling loader, take n of all, always the same.

    Returns:
        ``(x, y)`` for `Probe`, or ``(x, y, classes)``.

    Raises:
        InvalidInput: If data is none of these, batches cannot be put together, or they take more
            than `MOST_BYTES`, or are more than `MOST_UNCOUNTED` samples of unknown number.
        TooFewSamples: If there are none.
    """
    _require_plain(data)
    if is_graph(data):
        y = data.fields.get("y") if isinstance(data, Graph) else getattr(data, "y", None)
        return data, y
    if isinstance(data, Mapping):
        return _parted(data)
    if isinstance(data, Tensor) or hasattr(data, "__array__"):
        return data, None
    if _is_pair(data):
        return tuple(data)
    if isinstance(data, tuple) and data and isinstance(data[0], Tensor):
        got = f"Probe: data is a tuple of {len(data)}"
        raise InvalidInput(f"{got}; give (x, y), x a tuple if the model takes several inputs")
    batches = _pieces(data, n)
    if not batches:
        raise TooFewSamples("Probe needs at least 2 samples, got an empty data set")
    inputs = [x for x, _ in batches]
    return joined(inputs, "x"), joined([y for _, y in batches], "y", inputs)


def _require_plain(data: Any) -> None:
    """Refuse what cannot be cut into samples, wherever it stands in data or a batch."""
    parts = tuple(data) if isinstance(data, list) else data
    for name, value in leaves(parts):
        require_plain(value, f"Probe: {f'data[{name}]' if name else 'data'}")


def _is_pair(data: Any) -> bool:
    """Whether this is (x, y), not two batches: loaders yield lists, people write tuples."""
    if not isinstance(data, list):
        return isinstance(data, tuple) and len(data) == 2
    if len(data) != 2 or not hasattr(data[1], "dtype"):
        return False
    x, y = data
    alike = hasattr(x, "dtype") and x.dtype == y.dtype and np.ndim(x) == np.ndim(y)
    if alike and np.shape(x)[1:] == np.shape(y)[1:]:
        raise InvalidInput(
            f"Probe: data is a list of two alike, {tuple(np.shape(x))} and {tuple(np.shape(y))}; "
            "give a tuple (x, y), or two batches of x as one tensor: torch.cat"
        )
    return True


def _pieces(data: Any, n: int | None) -> list[tuple[Any, Any]]:
    """Batches (or samples as batches of one) until there are enough."""
    counted = hasattr(data, "__len__") and not isinstance(data, DataLoader)
    if isinstance(data, DataLoader):
        counted = hasattr(data.dataset, "__len__")
    read: list[tuple[Any, Any]] = []
    samples = size = 0
    with _seeded(data):
        for x, y in pieces(data, n):
            read.append((x, y))
            samples += _length(x, y)
            size += sum(v.numel() * v.element_size() for _, v in leaves(x) if isinstance(v, Tensor))
            if n is not None and samples >= n:
                break
            if size > MOST_BYTES or (not counted and samples > MOST_UNCOUNTED):
                got = f"Probe: {samples:,} samples ({size / 1e9:.2g} GB) were read and more come"
                raise InvalidInput(f"{got}; say how many: data=Probe.of(data, n=5000)")
    return read


def pieces(data: Any, n: int | None = None) -> Iterator[tuple[Any, Any]]:
    """Inputs and labels of each batch, or of each sample as a batch of one.

    Args:
        data: A ``DataLoader``, a ``Dataset``, an iterable of batches or samples; see `read`.
        n: As of `read`.

    Raises:
        InvalidInput: If data is none of these, or a batch is none.
    """
    source, each_sample = _source(data, n)
    for item in _items(source):
        _require_plain(item)
        x, y = _parted(item)
        if each_sample or (each_sample is None and _is_one(x, y)):
            x, y = mapped(x, _alone), mapped(y, _alone)
        _require_as_long(x, y)
        require_paired(x, y)
        yield x, y


def _items(source: Iterable[Any]) -> Iterator[Any]:
    """What a source yields; torch's words on samples that do not fit together are not for users."""
    iterator = iter(source)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except (RuntimeError, TypeError) as error:
            if "collate" not in _trace(error):
                raise
            got = str(error).split("\n", maxsplit=1)[0]
            raise InvalidInput(
                f"Probe: the loader cannot put its samples together ({got}); pad them to one "
                "shape in collate_fn, and leave out what is no number"
            ) from error
        yield item


def _trace(error: BaseException) -> str:
    """The names of the functions in which it was raised."""
    names = []
    place = error.__traceback__
    while place is not None:
        names.append(place.tb_frame.f_code.co_name)
        place = place.tb_next
    return " ".join(names)


def _source(data: Any, n: int | None) -> tuple[Iterable[Any], bool | None]:
    """What yields, in this process; whether it yields samples (None: to be seen)."""
    if isinstance(data, DataLoader):
        return _in_order(data, n)
    if isinstance(data, IterableDataset):
        return data, None
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if indexed and not isinstance(data, (list, tuple)):
        count = len(data) if n is None else min(n, len(data))
        return (data[index] for index in range(count)), True
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return data, None
    raise InvalidInput(
        f"Probe: data must be (x, y), a DataLoader or a Dataset, got {type(data).__name__}"
    )


def _in_order(loader: DataLoader[Any], n: int | None) -> tuple[DataLoader[Any], bool | None]:
    """The same loader without its workers, and without its shuffling."""
    kwargs: dict[str, Any] = {"collate_fn": loader.collate_fn, "generator": loader.generator}
    if isinstance(loader.dataset, IterableDataset):
        kwargs |= {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        if loader.batch_size is None:
            del kwargs["drop_last"]
        return DataLoader(loader.dataset, **kwargs), None if loader.batch_size is None else False
    if loader.batch_sampler is None:
        order = _order(loader.sampler, n)
        sampler = loader.sampler if order is None else order
        return DataLoader(loader.dataset, batch_size=None, sampler=sampler, **kwargs), None
    batches: Any = loader.batch_sampler
    order = _order(getattr(batches, "sampler", None), n) if type(batches) is BatchSampler else None
    if order is not None:
        batches = BatchSampler(order, batches.batch_size, drop_last=False)
    return DataLoader(loader.dataset, batch_sampler=batches, **kwargs), False


def _order(sampler: Any, n: int | None) -> Sequence[int] | None:
    """The indices that a shuffling sampler draws from, in order: n of them, or all; else None."""
    if type(sampler) is RandomSampler and not sampler.replacement:
        indices = list(range(len(sampler.data_source)))
        n = min(filter(None, (n, sampler.num_samples)))
    elif type(sampler) is SubsetRandomSampler:
        indices = sorted(sampler.indices)
    else:
        return None
    if n is None or n >= len(indices):
        return indices
    drawn = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))[:n]
    return [indices[at] for at in drawn.sort().values.tolist()]


@contextmanager
def _seeded(*owners: Any) -> Iterator[None]:
    """Generators seeded while a source is read, and given back as they were.

    The global ones, and those that the loader, its samplers and data sets, their transforms and
    collation hold or name.
    """
    with preserved_generators(*held_generators(*owners)) as generators:
        generators.seed(0)
        yield


def _parted(item: Any) -> tuple[Any, Any]:
    """A batch or sample as inputs and labels (None: it has none)."""
    if isinstance(item, Mapping):
        label = next((name for name in LABELS if name in item), None)
        named = {key: value for key, value in item.items() if key != label}
        x = {key: _column(value) for key, value in named.items() if not _is_text(value)}
        if text := [str(key) for key, value in named.items() if _is_text(value)]:
            message = f"Probe: {', '.join(text)}: text, left out; a model is measured on tensors"
            warnings.warn(message, stacklevel=2)
        if not x:
            raise InvalidInput(f"Probe: a batch of {', '.join(map(str, item))}: no inputs; {_MEND}")
        return x, None if label is None else item[label]
    if isinstance(item, (tuple, list)):
        if len(item) == 1:
            return _several(item[0]), None
        if len(item) == 2:
            return _several(item[0]), item[1]
        got = f"{type(item).__name__} of {len(item)}"
        raise InvalidInput(
            f"Probe: a batch must be (x, y) or a mapping with 'labels', got {got}; {_MEND}"
        )
    if isinstance(item, Tensor) or hasattr(item, "__array__"):
        return item, None
    if is_graph(item):
        return _several(item), None
    raise InvalidInput(
        f"Probe: a batch must be (x, y) or a mapping with 'labels', got {type(item).__name__}; "
        f"{_MEND}"
    )


def _several(x: Any) -> Any:
    """Several inputs that collation made a list of, as a tuple again."""
    if isinstance(x, list) and x and all(isinstance(item, Tensor) for item in x):
        return tuple(x)
    if is_graph(x):
        raise InvalidInput("Probe: a loader of graphs; give one graph whose nodes are the samples")
    return x


def _column(value: Any) -> Any:
    """Lists of numbers that collation turned on their side, a tensor a token, as (n, tokens)."""
    sided = isinstance(value, list) and value and all(isinstance(v, Tensor) for v in value)
    return torch.stack(value, 1) if sided and all(v.dim() == 1 for v in value) else value


def _is_text(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and value:
        return _is_text(value[0])
    return isinstance(value, (str, bytes))


def _is_one(x: Any, y: Any) -> bool:
    """Whether this is one sample: its label is one value, or has not the length of its inputs."""
    y = _first(y)
    if y is None:
        return all(not isinstance(v, Tensor) or v.dim() == 0 for _, v in leaves(x))
    if isinstance(y, (str, int, float)) or np.ndim(y) == 0:
        return True
    lengths = {len(v) for _, v in leaves(x) if hasattr(v, "shape") and np.ndim(v)}
    return len(y) not in lengths


def _require_as_long(x: Any, y: Any) -> None:
    """A batch has a label for each sample."""
    lengths = {len(v) for _, v in leaves(x) if hasattr(v, "shape") and np.ndim(v)}
    for _, labels in leaves(y):
        if labels is not None and lengths and len(labels) not in lengths:
            shown = " or ".join(map(str, sorted(lengths)))
            raise InvalidInput(
                f"Probe: a batch has {shown} samples and {len(labels)} labels; give each sample one"
            )


def _alone(_name: str, value: Any) -> Any:
    """A value of one sample as a batch of one."""
    if value is None or isinstance(value, (str, bytes)):
        return value if value is None else [value]
    if isinstance(value, Tensor):
        return value[None]
    return torch.from_numpy(np.asarray(value)[None].copy())


def _first(y: Any) -> Any:
    """The labels, or the first of several by name."""
    return next(iter(y.values()), None) if isinstance(y, Mapping) else y


def _length(x: Any, y: Any) -> int:
    y = _first(y)
    if y is not None:
        return len(y)
    return next((len(v) for _, v in leaves(x) if hasattr(v, "shape") and np.ndim(v)), 0)

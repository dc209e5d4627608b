"""Inputs that are read anew at each look, held by nobody: batches of a loader, rows of a file."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ibtrace.errors import InvalidInput, NonFinite, TooFewSamples, Unsupported
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.finite import count_non_finite
from ibtrace.probe.inputs import Inputs, is_graph, leaves, mapped, read_inputs, samples_first
from ibtrace.probe.joining import joined
from ibtrace.probe.padding import Stream, is_mask, streams
from ibtrace.probe.reading import pieces
from ibtrace.probe.unmasked import Padding, with_padding
from ibtrace.runtime.arguments import shown
from ibtrace.runtime.generators import held_generators, preserved_generators

_AT_ONCE = 256
"""Samples that are read at a time where their source does not say."""

_MEND = "Probe.of(data) reads them into memory once"


class ReadAnew:
    """Inputs that are read from their source at each look, batch by batch, and held by nobody.

    They are read once when this is made. Kept are the labels, masks, and the BLAKE2b hash of each
    sample's inputs, 16 bytes: which samples are equal (X, for I(X;T)) is told by it, -0.0 being
    0.0. Two different ones of n samples share a hash, and would be taken for one, with a
    probability of n² / 2¹²⁹ (10⁻²⁷ for a million). Every later reading is held to the hashes,
    sample by sample: another one is an error, and no number.

    A loader is read in this process, in the order of its data set where it shuffles, with seeded
    generators that are given back as they were (`Probe.of`).

    Args:
        batches: A ``DataLoader``, a ``Dataset``, or what begins anew whenever it is iterated: a
            list of batches, an object whose ``__iter__`` makes a new iterator. A batch is ``(x,
            y)``, x, or a mapping, as `Probe.of` takes it. Or an array or tensor of which slices are
            read: ``numpy.load(…, mmap_mode="r")``.

    Raises:
        InvalidInput: If it can be iterated only once, or a batch has another form than the first.
        NonFinite: If there are NaN or infinite values.
        TooFewSamples: If there are fewer than two samples.

    Example:
        >>> from ibtrace import Probe
        >>> probe = Probe(ReadAnew([(torch.eye(4)[:3], [0, 0, 1]), (torch.eye(4)[3:], [1])]))
        >>> probe.n, probe.input_entropy
        (4, 2.0)
    """

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self._open: _Pass | None = None
        _require_again(batches)
        hashes: list[Tensor] = []
        labels: list[Any] = []
        known = _Known()
        for x, y in self._pieces():
            if not hashes:
                self.form: Inputs = mapped(x, lambda _, v: None if isinstance(v, Tensor) else v)
            inputs = known.add(x)
            hashes.append(row_hashes(inputs))
            labels.append(y)
            # small things that stay between large ones that go leave holes in memory, too small
            # for the next large one, and the process grows: few of them are kept apart
            while len(hashes) > 1 and len(hashes[-2]) <= len(hashes[-1]):
                hashes[-2:] = [torch.cat(hashes[-2:])]
                labels[-2:] = [joined(labels[-2:], "y")]
                known.join_last()
        if sum(map(len, hashes)) < 2:
            got = sum(map(len, hashes))
            raise TooFewSamples(f"Probe needs at least 2 samples, ReadAnew gave {got}")
        self.hashes = torch.cat(hashes)
        self.labels = joined(labels, "y")
        self.known = known.of_all(len(self))

    def __repr__(self) -> str:
        return f"ReadAnew({type(self._batches).__name__} of {len(self)} samples)"

    def __getstate__(self) -> dict[str, Any]:
        """All but a reading that goes on: a copy begins its own."""
        return {**self.__dict__, "_open": None}

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def ids(self) -> Tensor:
        """Which samples' inputs are equal: ids ``0..k-1``, int64, ``(n,)``."""
        ids: Tensor = row_ids(self.hashes)
        return ids

    @property
    def shapes(self) -> str:
        """Names, shapes and types of the inputs."""
        return str({n: (tuple(v.shape), str(v.dtype)) for n, v in self.known.items()})

    def numbered(self, rows: slice | Tensor) -> ReadAnew:
        """Some of the samples, of which no more is known than which are equal."""
        few = object.__new__(ReadAnew)
        rows = rows if isinstance(rows, slice) else rows.cpu()
        few.hashes, few.form, few.labels = self.hashes[rows], self.form, None
        few.known = {name: value[rows] for name, value in self.known.items()}
        few._batches, few._open = [], None
        return few

    def rows(self, rows: slice | Tensor) -> Inputs:
        """The inputs of some samples, read now.

        Samples that follow those of the call before are read on; others from the beginning (of an
        array, from where they are).

        Args:
            rows: Which.

        Raises:
            InvalidInput: If a sample is another one than it was.
        """
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self._built(self._between(start, stop))
        chosen = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        wanted, places = chosen.cpu().unique(return_inverse=True)
        if not len(wanted):
            return self._built(self._between(0, 0))
        parts = [
            {name: value[here - start] for name, value in self._between(start, stop).items()}
            for start, stop in _spans(wanted.tolist())
            if len(here := wanted[(wanted >= start) & (wanted < stop)])
        ]
        return self._built({name: v[places] for name, v in _together(parts).items()})

    def values(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Inputs of integers whole, ``(n, ...)``: ids of tokens, which X is told by.

        Raises:
            Unsupported: If one is no integers.
        """
        for name in names:
            if self.known[name].is_floating_point():
                raise Unsupported(
                    f"Probe: tokens of {name or 'x'} are numbers that are read anew: which of them "
                    f"are equal is known of ids alone; {_MEND}"
                )
        read = [self._between(start, stop) for start, stop in _spans(range(len(self)))]
        return {name: torch.cat([part[name] for part in read]) for name in names}

    def _built(self, inputs: Mapping[str, Tensor]) -> Inputs:
        """The form that the model takes, of inputs by name."""
        return mapped(self.form, lambda name, value: inputs.get(name, value))

    def _between(self, start: int, stop: int) -> dict[str, Tensor]:
        """The inputs of samples that follow each other, by name."""
        if stop <= start:
            return {name: value[:0] for name, value in self.known.items()}
        reading, self._open = self._open, None  # one that fails is not read on
        if reading is None or reading.at > start or (_is_array(self._batches) and start):
            reading = _Pass(self, start if _is_array(self._batches) else 0)
        while (skipped := start - reading.at) > 0:
            reading.take(min(skipped, _AT_ONCE))
        taken = reading.take(stop - start)
        if stop == len(self):
            reading.require_end()
        else:
            self._open = reading
        return taken

    def _pieces(self, start: int = 0) -> Iterator[tuple[Inputs, Any]]:
        """The batches of a reading, inputs as tensors; no generator is moved between two of them.

        Each is drawn with seeds of its own, whatever the model draws between them.
        """
        held = held_generators(self._batches)
        read = _slices(self._batches, start) if _is_array(self._batches) else pieces(self._batches)
        for number in itertools.count():
            with preserved_generators(*held) as generators:
                generators.seed(number)
                piece = next(read, None)
            if piece is None:
                return
            yield read_inputs(piece[0]), piece[1]


class _Pass:
    """A reading that goes on where it stopped, each sample held to what it was at first."""

    def __init__(self, whole: ReadAnew, start: int) -> None:
        self._whole, self.at = whole, start
        self._pieces = whole._pieces(start)
        self._rest: dict[str, Tensor] = {}

    def take(self, count: int) -> dict[str, Tensor]:
        """The inputs of the next samples, by name."""
        parts: list[dict[str, Tensor]] = []
        while count > 0 or not parts:
            if not self._rest:
                self._rest = self._next()
            k = min(count, _size(self._rest))
            parts.append({name: value[:k] for name, value in self._rest.items()})
            left = _size(self._rest) - k
            self._rest = {name: v[k:] for name, v in self._rest.items()} if left else {}
            count, self.at = count - k, self.at + k
        return _together(parts)

    def require_end(self) -> None:
        """Raise if there are more samples than at first."""
        if self._rest or next(self._pieces, None) is not None:
            raise InvalidInput(_changed(f"more than {len(self._whole)} samples come"))

    def _next(self) -> dict[str, Tensor]:
        piece = next(self._pieces, None)
        if piece is None:
            raise InvalidInput(_changed(f"{self.at} of {len(self._whole)} samples come"))
        inputs = _named(piece[0], self._whole.known)
        known = self._whole.hashes[self.at : self.at + _size(inputs)]
        hashes = row_hashes(inputs)
        if len(hashes) > len(known):
            raise InvalidInput(_changed(f"more than {len(self._whole)} samples come"))
        if bool((differ := (hashes != known).any(1)).any()):
            first = self.at + int(differ.nonzero()[0, 0])
            raise InvalidInput(_changed(f"sample {first} is another one than it was"))
        return inputs


class _Known:
    """What is kept of inputs: masks, numbers of one column, and the layout of all else."""

    def __init__(self) -> None:
        self._first: dict[str, Tensor] = {}
        self._kept: dict[str, list[Tensor]] = {}

    def add(self, x: Inputs) -> dict[str, Tensor]:
        """Take down a batch; its inputs by name."""
        inputs = _named(x, self._first)
        if not self._first:
            self._first = {name: value[:1] for name, value in inputs.items()}
            self._kept = {name: [] for name in inputs}
        for name, value in inputs.items():
            if bad := count_non_finite(value):
                who = name or "x"
                raise NonFinite(f"Probe: {who} has {bad} NaN or infinite values; remove them")
            beside = value.dim() == 2 and len(inputs) > 1
            marks = beside and bool(((value == 0) | (value == 1)).all())
            if name in self._kept and (value.dim() == 1 or is_mask(name) or marks):
                self._kept[name].append(value.clone())
            else:
                self._kept.pop(name, None)
        return inputs

    def join_last(self) -> None:
        """Put together what is kept of the last two parts."""
        for parts in self._kept.values():
            parts[-2:] = [torch.cat(parts[-2:])]

    def of_all(self, n: int) -> dict[str, Tensor]:
        """The inputs ``(n, ...)``; of what is not kept one value, 2, stands for all."""
        return {
            name: torch.cat(self._kept[name])
            if name in self._kept
            else torch.full((), 2, dtype=value.dtype).expand(n, *value.shape[1:])
            for name, value in self._first.items()
        }


def streams_anew(x: ReadAnew, padding: Padding) -> list[Stream]:
    """The sequences of inputs that are read anew, with their padding.

    Args:
        x: The inputs.
        padding: As of a probe; of the inputs the first ones are searched for it: where they show
            some, it has to be stated.

    Raises:
        InvalidInput: If it is not.
        Unsupported: If it is stated of numbers.
    """
    found = streams(x.known)
    if padding is None:
        return found
    if isinstance(padding, str) and padding == "auto":
        head = dict(leaves(x.rows(slice(_AT_ONCE))))
        head = {name: value for name, value in head.items() if isinstance(value, Tensor)}
        told = {stream.inputs: stream for stream in with_padding("auto", streams(head), head)}
        if sure := next((s.notice for s in told.values() if s.notice and s.padded), ""):
            raise InvalidInput(
                "Probe: inputs that are read anew are not searched for padding, and their first "
                f"{_size(head)} samples show some ({sure})"
            )
        return [replace(s, notice=told[s.inputs].notice) if s.inputs in told else s for s in found]
    unmasked = [s.inputs[0] for s in found if s.length and not s.padded]
    return with_padding(padding, found, {**x.known, **x.values(unmasked)})


def row_hashes(inputs: Mapping[str, Tensor]) -> Tensor:
    """128 bits of BLAKE2b of the bytes of each sample's inputs, ``(n, 2)`` int64."""
    rows = [_bytes(value) for value in inputs.values()]
    digests = bytearray()
    for at in range(len(rows[0])):
        told = hashlib.blake2b(rows[0][at], digest_size=16)
        for more in rows[1:]:
            told.update(more[at])
        digests += told.digest()
    return torch.frombuffer(digests, dtype=torch.int64).reshape(-1, 2)


def _bytes(value: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of each row, equal where the values are."""
    value = value.cpu() + 0.0 if value.is_floating_point() else value.cpu()  # -0.0 + 0.0 is 0.0
    rows = value.reshape(len(value), -1).contiguous()
    return cast("np.ndarray[Any, np.dtype[np.uint8]]", rows.view(torch.uint8).numpy())


def _require_again(batches: Any) -> None:
    """Raise if it is nothing that begins anew when it is iterated again."""
    if _is_array(batches):
        return
    if isinstance(batches, (tuple, Mapping, str, bytes)) or is_graph(batches):
        got = type(batches).__name__
        raise InvalidInput(f"ReadAnew: give a loader, a data set or a list of batches, got a {got}")
    if isinstance(batches, DataLoader):  # it begins anew if its data set does
        if not isinstance(batches.dataset, IterableDataset):
            return
        batches = batches.dataset
    if not isinstance(batches, Iterable):
        return  # a data set, or nothing that can be read, which says so
    with preserved_generators(*held_generators(batches)):
        once = isinstance(batches, Iterator) or iter(batches) is iter(batches)
    if once:
        raise InvalidInput(
            f"ReadAnew: a {type(batches).__name__} is used up when it has been read, and the "
            "inputs are read at every look; give what begins anew: a DataLoader, a list of "
            f"batches, an object whose __iter__ makes a new iterator; or {_MEND}"
        )


def _changed(how: str) -> str:
    return (
        f"ReadAnew: {how}, when the inputs are read anew; the samples of a probe stay the same, in "
        "one order: shuffle=False, no random augmentation, nothing that changes the files or goes "
        f"on from where it stopped; or {_MEND}"
    )


def _is_array(batches: Any) -> bool:
    """Whether rows can be read from anywhere."""
    return hasattr(batches, "__array__") and len(getattr(batches, "shape", ())) > 0


def _slices(array: Any, start: int) -> Iterator[tuple[Any, None]]:
    for first in range(start, len(array), _AT_ONCE):
        yield array[first : first + _AT_ONCE], None


def _spans(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The spans of samples that are read at a time, from the first to the last of these."""
    for start in range(rows[0], rows[-1] + 1, _AT_ONCE):
        yield start, min(start + _AT_ONCE, rows[-1] + 1)


def _named(x: Inputs, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of a batch by name, all with its samples first and formed as the first batch's."""
    inputs = {name: value for name, value in leaves(x) if isinstance(value, Tensor)}
    sizes = {len(value) if value.dim() else 0 for value in inputs.values()}
    if len(sizes) != 1 or inputs.keys() != samples_first(x, ()).keys():
        got = shown({name or "x": tuple(value.shape) for name, value in inputs.items()})
        raise InvalidInput(f"ReadAnew: every input must have a batch's samples first, got {got}")
    for name in like.keys() | inputs.keys() if like else ():
        forms = [
            f"{tuple(v.shape[1:])} {v.dtype}" if v is not None else "missing"
            for v in (like.get(name), inputs.get(name))
        ]
        if forms[0] != forms[1]:
            raise InvalidInput(
                f"ReadAnew: {name or 'x'} of a sample is {forms[0]} in the first batch and "
                f"{forms[1]} in another; make all alike (padding to max_length, with a mask)"
            )
    return {name: inputs[name] for name in like or inputs}


def _size(inputs: Mapping[str, Tensor]) -> int:
    return len(next(iter(inputs.values())))


def _together(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    if len(parts) == 1:
        return dict(parts[0])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

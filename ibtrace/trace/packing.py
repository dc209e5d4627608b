"""The records of a look as bytes, and those of many looks as the columns of a table.

A record is of one width: whole numbers, texts by their ids, real numbers. What goes with it under
names of its own, its figures, stands behind all records of the look.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_UNKNOWN = np.iinfo(np.int64).min  # of a step
_WHOLE = ("epoch", "step")
_FIGURES = "figures"  # the id of the figures' names, as JSON

Packed = tuple[int, bytes]
"""How many records, and their bytes."""


class Entry(NamedTuple):
    """One record, before its texts have ids.

    Args:
        seed: The network's seed.
        at: Its place on the trace's clock.
        epoch: Epochs done.
        step: Steps done, if known.
        texts: In the order of the layout's.
        reals: Likewise.
        figures: Numbers that go with it, by name.
    """

    seed: int
    at: int
    epoch: int
    step: int | None
    texts: tuple[str, ...]
    reals: tuple[float, ...]
    figures: Mapping[str, float] = {}

    @property
    def words(self) -> tuple[str, ...]:
        """All its texts that need ids."""
        return (*self.texts, _as_text(tuple(self.figures)))


@functools.lru_cache
def _as_text(names: tuple[str, ...]) -> str:
    return json.dumps(names)


@dataclass(frozen=True)
class Layout:
    """What the records of a table hold.

    Args:
        texts: The names of the texts.
        reals: The names of the real numbers.
        key: Those of the texts by which the records of a look differ.
    """

    texts: tuple[str, ...]
    reals: tuple[str, ...]
    key: tuple[str, ...]

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """A record, as NumPy has it."""
        whole = [(name, "<i8") for name in _WHOLE]
        texts = [(name, "<u4") for name in (*self.texts, _FIGURES, "many")]
        return np.dtype([*whole, *texts, *((name, "<f8") for name in self.reals)])

    def pack(
        self, entries: Iterable[Entry], ids: Mapping[str, int], held: Packed | None = None
    ) -> Packed:
        """The records of a look; one replaces that of its key which came before, or is held.

        Args:
            entries: Those of one seed at one look.
            ids: Of every text.
            held: What the look has so far.

        Raises:
            ValueError: If ``held`` is no look of this layout.
        """
        places = [self.texts.index(name) for name in self.key]
        last = {tuple(entry.texts[place] for place in places): entry for entry in entries}
        new = np.array([self._record(entry, ids) for entry in last.values()], self.dtype)
        each = [[*entry.figures.values()] for entry in last.values()]
        values = np.array([value for some in each for value in some], "<f8")
        if held is not None:
            old, old_values = self.unpack(held)
            gone = {tuple(record) for record in new[[*self.key]].tolist()}
            stays = np.array([tuple(r) not in gone for r in old[[*self.key]].tolist()], dtype=bool)
            new = np.concatenate([old[stays], new])
            values = np.concatenate([old_values[np.repeat(stays, old["many"])], values])
        return len(new), new.tobytes() + values.tobytes()

    def _record(self, entry: Entry, ids: Mapping[str, int]) -> tuple[float, ...]:
        step = _UNKNOWN if entry.step is None else entry.step
        words = (ids[word] for word in entry.words)
        return (entry.epoch, step, *words, len(entry.figures), *entry.reals)

    def unpack(self, packed: Packed) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Records, and the figures of all of them in their order.

        Raises:
            ValueError: If the bytes are none of this layout.
        """
        count, content = packed
        size = self._size(count, content)
        records = np.frombuffer(content, self.dtype, count)
        values = np.frombuffer(content, "<f8", offset=size)
        if records["many"].sum(dtype=np.int64) != len(values):
            raise ValueError("the figures are not those of the records")
        return records, values

    def _size(self, count: int, content: bytes) -> int:
        """How many of the bytes hold the records; the rest are figures.

        Raises:
            ValueError: If there are not so many.
        """
        size = count * self.dtype.itemsize
        if count < 0 or len(content) < size:
            raise ValueError(f"{len(content)} bytes hold no {count} records")
        return size

    def renumbered(self, packed: Packed, ids: NDArray[np.uint32]) -> bytes:
        """The bytes of a look whose texts have other ids.

        Args:
            packed: The look.
            ids: The new id of each text at the place of its old one.

        Raises:
            ValueError: If the bytes are none of this layout.
        """
        records, values = self.unpack(packed)
        records = records.copy()
        for name in (*self.texts, _FIGURES):
            records[name] = ids[records[name]]
        return records.tobytes() + values.tobytes()

    def columns(self, looks: Iterable[tuple[int, int, bytes]], texts: Mapping[int, str]) -> Columns:
        """The records of many looks.

        Args:
            looks: Of each its seed, the number of its records, and their bytes.
            texts: By their ids.

        Raises:
            ValueError: If a look is none of this layout, or a text has no id.
        """
        seeds, counts = [], []
        heads, tails = [], []  # joining bytes is much faster than joining arrays of records
        for seed, count, content in looks:
            size = self._size(count, content)
            seeds.append(seed)
            counts.append(count)
            heads.append(content[:size])
            tails.append(content[size:])
        records, values = self.unpack((sum(counts), b"".join(heads + tails)))
        starts = np.cumsum(records["many"], dtype=np.int64) - records["many"]
        known = np.array(sorted(texts), dtype=np.int64)
        for name in (*self.texts, _FIGURES):
            if not np.isin(records[name], known).all():
                raise ValueError(f"a {name} has no text")
        _require_named(records, texts)
        seed_of = np.repeat(np.array(seeds, dtype=np.int64), counts)
        return Columns(self, seed_of, records, starts, values, texts)


def _require_named(records: NDArray[Any], texts: Mapping[int, str]) -> None:
    """Raise unless every figure has a name.

    Raises:
        ValueError: If the text of a record is no list of as many names as it has figures.
    """
    many = np.zeros(max(texts, default=0) + 1, dtype=np.int64)
    for kind in np.flatnonzero(np.bincount(records[_FIGURES])).tolist():
        names = json.loads(texts[kind])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"no names of figures: {names!r}")
        many[kind] = len(names)
    if (many[records[_FIGURES]] != records["many"]).any():
        raise ValueError("not as many names as figures")


@dataclass(frozen=True)
class Columns:
    """Records of many looks, column by column.

    Args:
        layout: What they hold.
        seed: Of each record.
        records: The records.
        starts: Where each one's figures begin.
        values: The figures.
        texts: By their ids.
    """

    layout: Layout
    seed: NDArray[np.int64]
    records: NDArray[Any]
    starts: NDArray[np.int64]
    values: NDArray[np.float64]
    texts: Mapping[int, str]

    def at(self, place: NDArray[Any]) -> Columns:
        """Some of the records: a mask, or places in their order."""
        return replace(
            self, seed=self.seed[place], records=self.records[place], starts=self.starts[place]
        )

    def places(self, name: str, names: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Where each record's text stands among some in order; those not there are the last.

        Args:
            name: Of the column.
            names: The texts in order; None is that of the alphabet.
        """
        order = sorted(self.texts.values()) if names is None else names
        known = {text: place for place, text in enumerate(order)}
        return self._by_text(name, {id: known.get(t, len(order)) for id, t in self.texts.items()})

    def _by_text(self, name: str, numbers: Mapping[int, int]) -> NDArray[np.int64]:
        table = np.zeros(max(numbers, default=0) + 1, dtype=np.int64)
        table[[*numbers]] = [*numbers.values()]
        found: NDArray[np.int64] = table[self.records[name]]
        return found

    def table(self) -> pd.DataFrame:
        """``seed``, ``epoch``, ``step``, the texts and the real numbers."""
        step = self.records["step"]
        ids = sorted(self.texts)
        words = pd.Series([self.texts[id] for id in ids], dtype="str")
        dense = {id: place for place, id in enumerate(ids)}
        columns: dict[str, Any] = {
            "seed": self.seed,
            "epoch": self.records["epoch"],
            "step": pd.arrays.IntegerArray(
                np.where(step == _UNKNOWN, 1, step), np.asarray(step == _UNKNOWN)
            ),
        }
        for name in self.layout.texts:
            columns[name] = words.take(self._by_text(name, dense)).array
        columns |= {name: self.records[name] for name in self.layout.reals}
        return pd.DataFrame(columns)

    def figures(self) -> pd.DataFrame:
        """A column for each name of figures that a record has; NaN for the others."""
        kinds = np.unique(self.records[_FIGURES]).tolist()
        named = {kind: json.loads(self.texts[kind]) for kind in kinds}
        columns = sorted({name for names in named.values() for name in names})
        filled = np.full((len(self.seed), len(columns)), np.nan)
        for kind, names in named.items():
            rows = np.flatnonzero(self.records[_FIGURES] == kind)
            for place, name in enumerate(names):
                filled[rows, columns.index(name)] = self.values[self.starts[rows] + place]
        return pd.DataFrame(filled, columns=pd.Index(columns, dtype="str"))


ROWS = Layout(
    ("layer", "quantity", "instrument", "estimand", "variable", "unit", "flags"),
    ("value", "stderr", "lower", "upper", "seconds"),
    key=("layer", "quantity", "instrument"),
)
SCALARS = Layout(("layer", "name", "unit"), ("value",), key=("layer", "name"))
LAYOUTS: Mapping[str, Layout] = {"rows": ROWS, "scalars": SCALARS}
"""The tables of a trace."""

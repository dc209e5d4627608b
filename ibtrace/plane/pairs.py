"""A trace as the plane of two of its named variables: which stands for X, which for Y."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from ibtrace.errors import UnknownName
from ibtrace.types import (
    DISTINCT_ROWS,
    EXACT_BITS,
    I_TY,
    I_XT,
    Remembers,
    TraceLike,
    about_source,
    about_target,
    information_of,
)
from ibtrace.types.protocols import keeps

X, Y = "X", "Y"
_Value = TypeVar("_Value")


def pair(trace: TraceLike, x: str | None = None, y: str | None = None) -> TraceLike:
    """The trace with one variable as X and one as Y; itself where no variable has a name.

    Its tables have I(X;T) and I(T;Y) of these, and of no other variable; its meta entries say of
    what they are (``pair``) and the entropies of these.

    Args:
        trace: A trace.
        x: A source of the probe; None, or ``"X"``: the inputs themselves.
        y: A target of the probe; None: the first.

    Raises:
        UnknownName: If the trace has no such variable; lists those that it has.
    """
    if isinstance(trace, Pair):
        return trace if x is None and y is None else pair(trace.trace, x, y)
    sources, targets = _variables(trace)
    chosen = (X if x is None else x, targets[0] if y is None else y)
    for role, name, known in (("x", chosen[0], sources), ("y", chosen[1], targets)):
        if name not in known:
            raise UnknownName(f"no {role}={name!r} in the trace; it has {', '.join(known)}")
    return Pair(trace, *chosen) if trace.meta.get("named") else trace


def pairs(trace: TraceLike) -> list[TraceLike]:
    """The trace as the plane of every source with every target, the inputs themselves first.

    The first is ``pair(trace)``, and the only one where no variable has a name, or where the trace
    is a pair already.
    """
    if isinstance(trace, Pair):
        return [trace]
    sources, targets = _variables(trace)
    return [pair(trace, x, y) for x in sources for y in targets]


def _variables(trace: TraceLike) -> tuple[list[str], list[str]]:
    """What may stand for X, and what for Y, by name."""
    named = trace.meta.get("named", ())
    sources, targets = (
        [str(each["name"]) for each in named if each["role"] == role]
        for role in ("source", "target")
    )
    return [X, *sources], targets or [Y]


@dataclass(frozen=True, eq=False)
class Pair:
    """A trace in which two of its variables are X and Y: see `pair`.

    Args:
        trace: The trace.
        x: The name of what stands for X; ``"X"``: the inputs themselves.
        y: The name of what stands for Y.
    """

    trace: TraceLike
    x: str
    y: str

    @property
    def _quantities(self) -> dict[str, str]:
        """What I(X;T) and I(T;Y) are called in the trace, with these names."""
        return {about_source(self.x): I_XT, about_target(self.y): I_TY}

    @property
    def meta(self) -> Mapping[str, Any]:
        """What is recorded of the run, of these two variables."""
        meta = dict(self.trace.meta)
        known = {each["quantity"]: each for each in meta.pop("named", ())}
        meta["pair"] = {"x": self.x, "y": self.y}
        if target := known.get(about_target(self.y)):
            meta |= {
                "label_entropy": target["entropy"],
                "labels": target["kind"],
                "class_names": target["class_names"],
            }
        if source := known.get(about_source(self.x)):
            entropy = {"input_entropy": source["entropy"]}
            meta |= entropy
            meta["captured"] = {
                layer: {**record, **(entropy if entropy.keys() <= record.keys() else {})}
                for layer, record in meta.get("captured", {}).items()
            }
        decided = meta.get("decided", {}).get(about_target(self.y), ())
        meta["decided"] = {I_TY: [I_XT] if about_source(self.x) in decided else []}
        return meta

    @property
    def clock(self) -> str:
        """What the looks are counted by."""
        return self.trace.clock

    @property
    def layers(self) -> Sequence[str]:
        """The layers in the network's order."""
        return self.trace.layers

    @property
    def modules(self) -> Sequence[str]:
        """Modules that hold parameters and have readings."""
        return self.trace.modules

    @property
    def estimators(self) -> Sequence[str]:
        """The estimators' labels in the order of their first use."""
        return self.trace.estimators

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds that have rows."""
        return self.trace.seeds

    def frame(self) -> pd.DataFrame:
        """One row for each estimate of these two."""
        return self._of_these(self.trace.frame())

    def scalars(self) -> pd.DataFrame:
        """What was logged; of another X than the inputs without what the rows of T tell of them."""
        logged = self.trace.scalars()
        if self.x == X:
            return logged
        return logged[~logged["name"].isin([DISTINCT_ROWS, EXACT_BITS])].reset_index(drop=True)

    def readings(self, *, diagnostics: bool = False) -> pd.DataFrame:
        """Every number of every quantity, but for information with other variables."""
        return self._of_these(self.trace.readings(diagnostics=diagnostics))

    def remembered(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """``compute()``, done once for each state of the trace, if that remembers."""
        if not keeps(self.trace, Remembers):
            return compute()
        return self.trace.remembered((self.x, self.y, key), compute)

    def _of_these(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of which these two quantities have the plain names, without the others."""
        others = {*information_of(self.trace.meta)} - {*self._quantities}
        kept = table[~table["quantity"].isin(others)].reset_index(drop=True)
        named = kept["quantity"].map(self._quantities)
        return kept.assign(quantity=named.fillna(kept["quantity"]))


def quantities(meta: Mapping[str, Any]) -> dict[str, str]:
    """What I(X;T) and I(T;Y) are called in figures and sentences, by their plain names.

    Args:
        meta: `Trace.meta`, or that of a `pair`.

    Example:
        >>> quantities({"pair": {"x": "bigram", "y": "next"}})["I(X;T)"]
        'I(bigram;T)'
    """
    names = {"x": X, "y": Y, **meta.get("pair", {})}
    return {I_XT: about_source(names["x"]), I_TY: about_target(names["y"])}

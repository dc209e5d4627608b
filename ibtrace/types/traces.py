"""What a trace holds, and what is read of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import pandas as pd

from ibtrace.types.readings import BITS

_BETWEEN_FLAGS = ","

_Value = TypeVar("_Value")


def join_flags(raised: Iterable[str]) -> str:
    """The names of the flags raised as a table holds them; empty if there are none.

    Example:
        >>> join_flags(["constant", "near_ceiling"])
        'constant,near_ceiling'
    """
    return _BETWEEN_FLAGS.join(raised)


def split_flags(flags: str) -> tuple[str, ...]:
    """The names of the flags in a table's entry: what `join_flags` joined.

    Example:
        >>> split_flags("constant,near_ceiling"), split_flags("")
        (('constant', 'near_ceiling'), ())
    """
    return tuple(filter(None, flags.split(_BETWEEN_FLAGS)))


I_XT = "I(X;T)"
I_TY = "I(T;Y)"
INFORMATION = (I_XT, I_TY)
"""The quantities that estimators measure, in bits, where no variable has a name of its own."""


def about_source(name: str) -> str:
    """The quantity of a source, a named variable that stands for X: ``I(bigram;T)``."""
    return f"I({name};T)"


def about_target(name: str) -> str:
    """The quantity of a target, a named variable that stands for Y: ``I(T;digit)``."""
    return f"I(T;{name})"


def information_of(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The quantities of a run that estimators measure: `INFORMATION`, and of named variables.

    Args:
        meta: `Trace.meta`.

    Example:
        >>> information_of({"named": [{"quantity": "I(T;digit)"}]})
        ('I(X;T)', 'I(T;Y)', 'I(T;digit)')
    """
    named = (str(each["quantity"]) for each in meta.get("named", ()))
    return tuple(dict.fromkeys((*INFORMATION, *named)))


DISTINCT_ROWS = "distinct_rows"
"""Scalar of a layer: how many rows of T on the probe are distinct."""

EXACT_BITS = "exact_bits"
"""Scalar of a layer: I(X;T) on the probe by its distinct rows; NaN if T is random given X."""


@dataclass(frozen=True)
class Row:
    """One number of a trace, with everything needed to say what it is.

    Args:
        seed: The seed of the network it was measured on.
        epoch: Epochs of training done; 0 is the network as initialised.
        step: Optimiser steps done, if the loop said so.
        layer: The layer's name; empty for the network as a whole.
        quantity: ``"I(X;T)"``, ``"I(T;Y)"``, or what a lens reads.
        instrument: The label of the estimator or the lens.
        estimand: What stands for T in the number; empty if nothing does.
        value: The number.
        stderr: Its standard error over the draw of samples (NaN: unknown).
        lower: Lower end of the instrument's own interval (NaN: none).
        upper: Upper end of the instrument's own interval (NaN: none).
        flags: Names of the flags raised, as `join_flags` writes them; empty if none.
        diagnostics: Figures that go with the number.
        seconds: Wall time of the number, shared equally by the batch it was computed in.
        unit: The unit of the number and its error; ``"bits"`` of an estimate of information.
        variable: How T was made of the layer's output (``gap``); empty if it is the output itself.
    """

    seed: int
    epoch: int
    step: int | None
    layer: str
    quantity: str
    instrument: str
    estimand: str
    value: float
    stderr: float
    lower: float
    upper: float
    flags: str
    diagnostics: Mapping[str, float]
    seconds: float
    unit: str = BITS
    variable: str = ""


RESERVED = frozenset({*(field.name for field in dataclasses.fields(Row)), "bits", "estimator"})
"""What no diagnostic may be called: these are columns of a trace's tables."""


class TraceLike(Protocol):
    """What is read of a trace to judge and to draw it: tables in tidy form, and the record."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What is recorded of the run: n, entropies in bits, captured layers, and more."""
        ...

    @property
    def clock(self) -> str:
        """What the looks are counted by: ``epoch`` or ``step``."""
        ...

    @property
    def layers(self) -> Sequence[str]:
        """The layers in the network's order."""
        ...

    @property
    def modules(self) -> Sequence[str]:
        """Modules that hold parameters and have readings, beside the layers."""
        ...

    @property
    def estimators(self) -> Sequence[str]:
        """The estimators' labels in the order of their first use."""
        ...

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds that have rows."""
        ...

    def frame(self) -> pd.DataFrame:
        """One row for each estimate: see `ibtrace.Trace.frame`."""
        ...

    def scalars(self) -> pd.DataFrame:
        """One row for each number that was logged: see `ibtrace.Trace.scalars`."""
        ...

    def readings(self, *, diagnostics: bool = False) -> pd.DataFrame:
        """Every number of every quantity with its unit: see `ibtrace.Trace.readings`."""
        ...


@runtime_checkable
class Remembers(TraceLike, Protocol):
    """A trace that keeps what was computed of it, for as long as it stays as it is."""

    def remembered(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """``compute()``, done once for each state of the trace; shared, so not to be changed."""
        ...

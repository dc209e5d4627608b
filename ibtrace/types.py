"""The words the rest is written in: Estimate, Tags, Estimator, Row, and what a trace tells.

Everything public is in bits. A number never travels alone: an `Estimate` carries its error, its
interval and its flags, and a `Row` adds where it came from and what it is an estimate *of*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import pandas as pd
import torch
from torch import Tensor

Kind = Literal["continuous", "discrete"]
Bound = Literal["none", "lower", "upper"]
Variable = Literal["itself", "made"]

ANY: frozenset[Kind] = frozenset({"continuous", "discrete"})
CONTINUOUS: frozenset[Kind] = frozenset({"continuous"})
DISCRETE: frozenset[Kind] = frozenset({"discrete"})

_Cached = TypeVar("_Cached")


# --- estimates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Mutual information in bits, one number for each of the leading batch dimensions.

    Args:
        bits: The estimate, shape ``(...)``. Never clipped: it may be negative.
        stderr: Standard error over the draw of the samples, shape ``(...)``; NaN if unknown.
        lower: Lower end of the interval the estimator itself gives for its estimand (a 95 %
            confidence interval, or a proven lower bound), shape ``(...)``; NaN if it gives none.
        upper: Upper end of the same interval.
        flags: Reasons not to take the number at its face, as booleans of shape ``(...)``.
        diagnostics: Figures that go with the number (occupied bins, share out of range), ``(...)``.
    """

    bits: Tensor
    stderr: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    lower: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    upper: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    flags: Mapping[str, Tensor] = field(default_factory=dict)
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bits = torch.as_tensor(self.bits)
        shape, device = bits.shape, bits.device

        def fill(value: Any, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(value, device=device).to(dtype).expand(shape)

        object.__setattr__(self, "bits", bits.to(torch.float64))
        for name in ("stderr", "lower", "upper"):
            object.__setattr__(self, name, fill(getattr(self, name), torch.float64))
        flags = {name: fill(value, torch.bool) for name, value in self.flags.items()}
        object.__setattr__(self, "flags", flags)
        diagnostics = {n: fill(value, torch.float64) for n, value in self.diagnostics.items()}
        object.__setattr__(self, "diagnostics", diagnostics)

    @classmethod
    def from_local(
        cls,
        local: Tensor,
        *,
        flags: Mapping[str, Tensor] | None = None,
        diagnostics: Mapping[str, Tensor] | None = None,
    ) -> Estimate:
        """The mean of per-sample information in bits, ``(..., n)``, with its standard error."""
        local = local.to(torch.float64)
        n = local.shape[-1]
        spread = local.std(-1) if n > 1 else local.new_full(local.shape[:-1], torch.nan)
        return cls(
            bits=local.mean(-1),
            stderr=spread / n**0.5,
            flags=flags or {},
            diagnostics=diagnostics or {},
        )

    def flagged(self, **flags: Tensor) -> Estimate:
        """The same estimate with more flags raised."""
        return dataclasses.replace(self, flags={**self.flags, **flags})

    def __getitem__(self, index: Any) -> Estimate:
        """The estimate of some of the batched problems."""
        return Estimate(
            bits=self.bits[index],
            stderr=self.stderr[index],
            lower=self.lower[index],
            upper=self.upper[index],
            flags={name: value[index] for name, value in self.flags.items()},
            diagnostics={name: value[index] for name, value in self.diagnostics.items()},
        )


@dataclass(frozen=True)
class Tags:
    """What an estimator can do, as data: the tables, the tests and the comparison read it.

    Args:
        estimand: What the number estimates, in a formula of X and Y.
        reference: Author, year, title or venue of the source.
        x: The kinds of variable accepted as the first argument.
        y: The kinds of variable accepted as the second argument.
        bound: Whether the estimate bounds the estimand in expectation.
        symmetric: Whether swapping x and y leaves the estimate the same (to rounding).
        variable: What stands for T: T ``itself``, or a variable ``made`` of it by bins, noise, a
            kernel or projections, whose information can fall where that of T does not. Where it
            depends on the layer, `variable_of` knows.
        scale_dependence: Why multiplying a variable by a constant changes the estimate; empty if it
            does not (an instance with a field ``scale`` set to ``"none"`` makes no such claim).
        cost: Time (and memory, where it differs) in N samples and d dimensions.
        bias: Where the estimate is off, and which way.
    """

    estimand: str
    reference: str
    x: frozenset[Kind] = ANY
    y: frozenset[Kind] = ANY
    bound: Bound = "none"
    symmetric: bool = True
    variable: Variable = "itself"
    scale_dependence: str = ""
    cost: str = ""
    bias: str = ""


@dataclass(frozen=True)
class LayerContext:
    """What an estimator may be told of the layer it measures, besides its activations.

    Args:
        name: The layer's name in the trace.
        activation_range: The closed range of its nonlinearity (tanh: ``(-1, 1)``), if bounded.
        trace_values: Values of the layer pooled over all snapshots of the trace, ``(m, d)``;
            only where the estimator asked for them with ``needs_trace``.
        variable: How T was made of the layer's output (``gap``); empty if it is the output itself.
        token_inputs: If the samples are tokens: the names of the inputs whose tokens they are.
    """

    name: str
    activation_range: tuple[float, float] | None = None
    trace_values: Tensor | None = None
    variable: str = ""
    token_inputs: tuple[str, ...] | None = None


class ProbeLike(Protocol):
    """What an estimator may ask of the fixed data on which information is measured."""

    @property
    def n(self) -> int:
        """Number of samples."""
        ...

    @property
    def features(self) -> Tensor:
        """The inputs as floats, flattened, ``(n, dx)``."""
        ...

    @property
    def x_ids(self) -> Tensor:
        """Which inputs are equal: ids ``0..k-1``, int64, ``(n,)``."""
        ...

    @property
    def labels(self) -> Tensor:
        """Class ids, int64 ``(n,)``, or continuous targets ``(n, dy)``; without labels dy is 0."""
        ...

    def cached(self, key: str, compute: Callable[[], _Cached]) -> _Cached:
        """``compute()``, done once for this probe: what depends on X alone never changes."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """An estimator of mutual information: a frozen dataclass whose fields are its configuration.

    Three optional methods say more, or let an estimator do better than two separate calls:

    - ``plane(t, probe, *, seed=0) -> (I(X;T), I(T;Y))`` when one pass over ``t`` gives both;
    - ``bind(context: LayerContext) -> Estimator`` when the layer settles part of the
      configuration (the bin range of a tanh layer). An attribute ``needs_trace = True`` asks
      for ``context.trace_values``, so that the estimator runs when the trace is complete.
    - ``variable(width: int | None) -> Variable`` when the layer's width decides whether T itself is
      measured; see `variable_of`.
    """

    tags: ClassVar[Tags]

    @property
    def estimand(self) -> str:
        """The variable that stands for T under this configuration, as an axis label says it."""
        ...

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` integer ids. Leading dimensions are
                independent problems, computed together; those of x and y broadcast.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` integer ids.
            seed: Seeds whatever is random inside; the global generators are left alone.
        """
        ...


def variable_of(estimator: Estimator, width: int | None) -> Variable:
    """What stands for T in an estimate: T ``itself``, or a variable ``made`` of it.

    Args:
        estimator: The estimator; its method ``variable`` decides, or else `Tags.variable`.
        width: The columns of T; None if T is ids.
    """
    own: Callable[[int | None], Variable] | None = getattr(estimator, "variable", None)
    return estimator.tags.variable if own is None else own(width)


def label(estimator: object) -> str:
    """The estimator's short name in tables: its class and the fields that are not the default.

    A dataclass field named ``preset`` (``Binning.idnns()``) speaks for all the others, and an
    attribute ``label`` is the label.
    Objects that are no dataclass give their ``repr``.
    """
    if not dataclasses.is_dataclass(estimator) or isinstance(estimator, type):
        return repr(estimator)
    if isinstance(own := getattr(estimator, "label", None), str):
        return own
    name = type(estimator).__name__
    preset = getattr(estimator, "preset", "")
    if preset:
        return f"{name}.{preset}"
    changed = []
    for item in dataclasses.fields(estimator):
        value = getattr(estimator, item.name)
        default = item.default
        if default is dataclasses.MISSING and item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if value != default:
            shown = label(value) if dataclasses.is_dataclass(value) else repr(value)
            changed.append(f"{item.name}={shown}")
    return f"{name}({', '.join(changed)})" if changed else name


VARIABLE = "; T: "
"""Between an estimator's own estimand and how T was made of the layer's output."""


def either(estimands: Iterable[str]) -> str:
    """Several estimands in one line, each once.

    Example:
        >>> either(["floor(T / 0.5); T: gap", "floor(T / 0.5)", "T in 30 bins"])
        'floor(T / 0.5); T: gap or as it is, or T in 30 bins'
    """
    variables: dict[str, list[str]] = {}
    for estimand in dict.fromkeys(estimands):
        base, _, variable = estimand.partition(VARIABLE)
        variables.setdefault(base, []).append(variable)
    parts = [
        base + (VARIABLE + " or ".join(one or "as it is" for one in each) if any(each) else "")
        for base, each in variables.items()
    ]
    return ", or ".join(parts)


# --- rows -----------------------------------------------------------------------------------

I_XT = "I(X;T)"
I_TY = "I(T;Y)"

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
        layer: The layer's name.
        quantity: ``"I(X;T)"`` or ``"I(T;Y)"``.
        estimator: The estimator's label.
        estimand: What stands for T in the number.
        bits: The estimate.
        stderr: Its standard error over the draw of samples (NaN: unknown).
        lower: Lower end of the estimator's own interval (NaN: none).
        upper: Upper end of the estimator's own interval (NaN: none).
        flags: Names of the flags raised, comma-separated; empty if none.
        diagnostics: Figures that go with the number.
        seconds: Wall time of the estimate, shared equally by the batch it was computed in.
    """

    seed: int
    epoch: int
    step: int | None
    layer: str
    quantity: str
    estimator: str
    estimand: str
    bits: float
    stderr: float
    lower: float
    upper: float
    flags: str
    diagnostics: Mapping[str, float]
    seconds: float


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
        """One row for each other number: see `ibtrace.Trace.scalars`."""
        ...

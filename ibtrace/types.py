"""The words the rest is written in: Estimate, Tags, Estimator, Row, and what a trace tells.

Everything public is in bits. A number never travels alone: an `Estimate` carries its error, its
interval and its flags, and a `Row` adds where it came from and what it is an estimate *of*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    runtime_checkable,
)

import pandas as pd
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

Kind = Literal["continuous", "discrete"]
Bound = Literal["none", "lower", "upper"]
Variable = Literal["itself", "made"]

ANY: frozenset[Kind] = frozenset({"continuous", "discrete"})
CONTINUOUS: frozenset[Kind] = frozenset({"continuous"})
DISCRETE: frozenset[Kind] = frozenset({"discrete"})

_Cached = TypeVar("_Cached")


# --- readings -------------------------------------------------------------------------------

Per = Literal["layer", "network"]


@dataclass(frozen=True)
class Quantity:
    """What a number is of, whatever instrument took it.

    Args:
        name: As in tables and on axes: ``"I(X;T)"``, ``"saturated share"``.
        unit: ``"bits"``, ``"nats"``, ``"1"`` for a pure number, …
        per: Whether each layer has one, or the network as a whole.
    """

    name: str
    unit: str
    per: Per = "layer"


class _Numbers:
    """Numbers of one shape with their errors, intervals, flags and diagnostics.

    A dataclass of these fields and one more for the numbers themselves, the first.
    """

    stderr: Tensor
    lower: Tensor
    upper: Tensor
    flags: Mapping[str, Tensor]
    diagnostics: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        first = dataclasses.fields(self)[0].name  # type: ignore[arg-type]
        numbers = torch.as_tensor(getattr(self, first))
        shape, device = numbers.shape, numbers.device

        def fill(value: Any, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(value, device=device).to(dtype).expand(shape)

        object.__setattr__(self, first, numbers.to(torch.float64))
        for name in ("stderr", "lower", "upper"):
            object.__setattr__(self, name, fill(getattr(self, name), torch.float64))
        flags = {name: fill(value, torch.bool) for name, value in self.flags.items()}
        object.__setattr__(self, "flags", flags)
        diagnostics = {n: fill(value, torch.float64) for n, value in self.diagnostics.items()}
        object.__setattr__(self, "diagnostics", diagnostics)

    def flagged(self, **flags: Tensor) -> Self:
        """The same numbers with more flags raised."""
        return dataclasses.replace(self, flags={**self.flags, **flags})  # type: ignore[type-var]

    def __getitem__(self, index: Any) -> Self:
        """Some of the numbers, by an index of the leading dimensions."""
        return self._map(lambda value: value[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every tensor changed."""
        changed: dict[str, Any] = {}
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = change(value)
            elif isinstance(value, Mapping):
                changed[item.name] = {name: change(part) for name, part in value.items()}
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class Reading(_Numbers):
    """A number with its unit, its error and its flags, of each of the networks looked at.

    Args:
        value: The number, shape ``(...)``: of an instrument's reading, one for each network.
        unit: Its unit; ``"1"`` for a pure number.
        stderr: Standard error, shape ``(...)``; NaN if unknown.
        lower: Lower end of an interval that the instrument gives; NaN if it gives none.
        upper: Upper end of the same interval.
        flags: Reasons not to take the number at its face, as booleans of shape ``(...)``.
        diagnostics: Figures that go with the number, ``(...)``.
    """

    value: Tensor
    unit: str
    stderr: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    lower: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    upper: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    flags: Mapping[str, Tensor] = field(default_factory=dict)
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


BITS = "bits"


@dataclass(frozen=True)
class Estimate(_Numbers):
    """Mutual information in bits, one number for each of the leading batch dimensions.

    It is the reading whose unit is bits: see `reading`.

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

    @property
    def reading(self) -> Reading:
        """The same as a reading in bits."""
        return Reading(
            self.bits, BITS, self.stderr, self.lower, self.upper, self.flags, self.diagnostics
        )

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


Need = Literal["activations", "loss", "gradient", "jacobian", "hessian"]


@dataclass(frozen=True)
class LensTags:
    """What a lens measures, as data: tables, plots, tests and the tracer read it.

    Args:
        quantities: What it reads; where two lenses use one name, they mean the same by it.
        reference: Author, year, title or venue of the source.
        needs: What it asks of a view besides weights and outputs.
        cost: Time (and memory, where it differs) in N samples, P parameters, d dimensions.
        caveats: Where the number misleads.
    """

    quantities: tuple[Quantity, ...]
    reference: str
    needs: frozenset[Need] = frozenset()
    cost: str = ""
    caveats: str = ""


class View(Protocol):
    """One undisturbed view of one network, or of several, at one look.

    Each thing is computed when it is first asked for, once, and shared by all who ask. Every
    tensor has a leading dimension for the networks, ``s`` of them; nothing that is done with a
    view changes a network, its gradients or a random generator.
    """

    @property
    def epoch(self) -> int:
        """Epochs of training done."""
        ...

    @property
    def step(self) -> int | None:
        """Optimiser steps done, if known."""
        ...

    @property
    def seeds(self) -> Sequence[int]:
        """The seed of each network."""
        ...

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The trainable parameters, ``{name: (s, ...)}``, detached."""
        ...

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """T of each layer that is traced, ``{layer: (s, n, ...)}``."""
        ...

    @property
    def activation_ranges(self) -> Mapping[str, tuple[float, float] | None]:
        """The closed range of each layer's nonlinearity (tanh: ``(-1, 1)``); None if unbounded."""
        ...

    @property
    def outputs(self) -> Tensor:
        """What the networks give on the probe, ``(s, n, ...)``."""
        ...

    @property
    def losses(self) -> Tensor:
        """The loss of each sample of the probe, ``(s, n)``."""
        ...

    @property
    def loss(self) -> Tensor:
        """The mean loss over the probe, ``(s,)``."""
        ...

    @property
    def gradient(self) -> Mapping[str, Tensor]:
        """The gradient of the mean loss, ``{parameter: (s, ...)}``."""
        ...

    @property
    def sample_gradients(self) -> Mapping[str, Tensor]:
        """The gradient of each sample's loss, ``{parameter: (s, n, ...)}``."""
        ...

    @property
    def jacobian(self) -> Mapping[str, Tensor]:
        """Derivatives of the outputs, ``{parameter: (s, n, k, ...)}``, k output units."""
        ...

    def hessian_product(self, vector: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The Hessian of the mean loss times a vector, both ``{parameter: (s, ...)}``."""
        ...


@runtime_checkable
class Lens(Protocol):
    """An instrument for any quantity that is not information: a frozen dataclass.

    Gradient noise, sharpness, saturation …: whatever one view of a network tells.
    """

    @property
    def tags(self) -> LensTags:
        """What it measures under this configuration."""
        ...

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Read every quantity of the tags.

        Args:
            view: The networks.
            probe: The inputs and labels that they are seen on.
            seed: Seeds whatever is random inside; the global generators are left alone.

        Returns:
            ``{quantity: {layer: reading}}`` with values of shape ``(s,)``; the layer ``""`` is the
            network as a whole. A layer that a quantity has no meaning for is left out.
        """
        ...


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

_BETWEEN_FLAGS = ","


def join_flags(raised: Iterable[str]) -> str:
    """The names of the flags raised as a table holds them; empty if there are none.

    Example:
        >>> join_flags(["constant", "near_ceiling"])
        'constant,near_ceiling'
    """
    return _BETWEEN_FLAGS.join(raised)


def split_flags(text: str) -> tuple[str, ...]:
    """The names of the flags in a table's entry: what `join_flags` joined.

    Example:
        >>> split_flags("constant,near_ceiling"), split_flags("")
        (('constant', 'near_ceiling'), ())
    """
    return tuple(filter(None, text.split(_BETWEEN_FLAGS)))


I_XT = "I(X;T)"
I_TY = "I(T;Y)"
INFORMATION = (I_XT, I_TY)
"""The quantities that estimators measure, in bits."""

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
        """One row for each number that was logged: see `ibtrace.Trace.scalars`."""
        ...

    def readings(self) -> pd.DataFrame:
        """Every number of every quantity with its unit: see `ibtrace.Trace.readings`."""
        ...

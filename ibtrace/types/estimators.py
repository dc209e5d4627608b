"""What an estimator is, what it is told, and what it may say of itself."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from ibtrace.types.readings import Estimate

Kind = Literal["continuous", "discrete"]
Bound = Literal["none", "lower", "upper"]
Variable = Literal["itself", "made"]
Question = Literal["information", "resolution", "density"]

ANY: frozenset[Kind] = frozenset({"continuous", "discrete"})
CONTINUOUS: frozenset[Kind] = frozenset({"continuous"})
DISCRETE: frozenset[Kind] = frozenset({"discrete"})

_Cached = TypeVar("_Cached")


@dataclass(frozen=True)
class Tags:
    """What an estimator can do, as data: the tables, the tests and the comparison read it.

    Args:
        estimand: What the number estimates, in a formula of X and Y.
        reference: Author, year, title or venue of the source.
        question: What is asked of I(X;T), so that answers to different questions are never counted
            together. ``information``: the information itself, of the law that the samples have
            (by the distinct values of T, or through noise that is the network's own).
            ``resolution``: what is left of it when T is seen in bins, under noise or through a
            kernel, which the estimand names. ``density``: the information of continuous variables
            whose densities are estimated, where T has one.
        x: The kinds of variable accepted as the first argument.
        y: The kinds of variable accepted as the second argument.
        of_information: Whether the estimand is I(X;Y) itself on continuous variables too, so that
            the estimate can be held to it; not so of a binned, noisy or projected variable, or of
            one law alone. On ids every estimand is.
        bound: Whether the estimate bounds the estimand in expectation.
        symmetric: Whether swapping x and y leaves the estimate the same (to rounding).
        variable: What stands for T: T ``itself``, or a variable ``made`` of it by bins, noise, a
            kernel or projections, whose information can fall where that of T does not. Where it
            depends on the layer, `variable_of` knows.
        scale_dependence: Why multiplying a variable by a constant changes the estimate; empty if it
            does not (an instance with a field ``scale`` set to ``"none"`` makes no such claim).
        adds_up: Whether its statistics add up over batches of samples, so that T need not be held
            (`ibtrace.types.AddsUp`).
        cost: Time (and memory, where it differs) in N samples and d dimensions.
        bias: Where the estimate is off, and which way.
    """

    estimand: str
    reference: str
    question: Question
    x: frozenset[Kind] = ANY
    y: frozenset[Kind] = ANY
    of_information: bool = True
    bound: Bound = "none"
    symmetric: bool = True
    variable: Variable = "itself"
    scale_dependence: str = ""
    adds_up: bool = False
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

    @property
    def population(self) -> bool:
        """Whether the samples are all there is, so that their law is known."""
        ...

    def cached(self, key: Hashable, compute: Callable[[], _Cached]) -> _Cached:
        """``compute()``, done once for this probe: what depends on X alone never changes."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """An estimator of mutual information: a frozen dataclass whose fields are its configuration.

    What it may say besides has protocols of its own: `Plane` where one pass over T gives both
    informations, `Binds` where the layer settles part of the configuration, `NeedsTrace`,
    `ShapesVariable`, `NeedsMemory`.
    """

    @property
    def tags(self) -> Tags:
        """What it can do under this configuration."""
        ...

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


@runtime_checkable
class Plane(Estimator, Protocol):
    """An estimator that gives both informations better from one pass than from two calls."""

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits.

        Args:
            t: Floats ``(..., n, d)`` or ids ``(..., n)``, in the probe's order.
            probe: The inputs and labels.
            seed: Seeds whatever is random inside.
        """
        ...


@runtime_checkable
class OnePass(Plane, Protocol):
    """An estimator that tells of many labels what it tells of one, from one pass over T."""

    def informations(
        self, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike] = (), *, seed: int = 0
    ) -> list[Estimate]:
        """I(X;T) and I(T;Y) in bits, then I(T;Y) of the labels of each of the others.

        Args:
            t: Floats ``(..., n, d)`` or ids ``(..., n)``, in the probe's order.
            probe: The inputs and labels.
            others: The same samples with other labels, of which I(T;Y) alone is asked.
            seed: Seeds whatever is random inside.
        """
        ...


@runtime_checkable
class Binds(Estimator, Protocol):
    """An estimator that the layer settles part of (the bin range of a tanh layer)."""

    def bind(self, context: LayerContext) -> Estimator:
        """The estimator with what the layer settles of its configuration."""
        ...


@runtime_checkable
class NeedsTrace(Estimator, Protocol):
    """An estimator that may ask for ``context.trace_values``, and runs on a complete trace then."""

    @property
    def needs_trace(self) -> bool:
        """Whether it does under this configuration."""
        ...


@runtime_checkable
class ShapesVariable(Estimator, Protocol):
    """An estimator of which the layer's width decides whether T itself is measured."""

    def variable(self, width: int | None) -> Variable:
        """What stands for T.

        Args:
            width: The columns of T; None if T is ids.
        """
        ...


@runtime_checkable
class NeedsMemory(Estimator, Protocol):
    """An estimator whose need of memory is not linear in its data."""

    def bytes_for(self, n: int, dx: int | None, dy: int | None) -> tuple[float, str]:
        """The memory that n samples need, and what needs less.

        Args:
            n: The number of samples.
            dx: Columns of x; None for ids.
            dy: Columns of y; None for ids.
        """
        ...


def variable_of(estimator: Estimator, width: int | None) -> Variable:
    """What stands for T in an estimate: T ``itself``, or a variable ``made`` of it.

    Args:
        estimator: The estimator; `ShapesVariable` decides, or else `Tags.variable`.
        width: The columns of T; None if T is ids.
    """
    if isinstance(estimator, ShapesVariable):
        return estimator.variable(width)
    return estimator.tags.variable


def bound_to(estimator: Estimator, context: LayerContext) -> Estimator:
    """The estimator with what the layer settles of its configuration; itself if that is nothing."""
    return estimator.bind(context) if isinstance(estimator, Binds) else estimator


def needs_trace(estimator: Estimator) -> bool:
    """Whether an estimator has to wait until the trace is complete."""
    return isinstance(estimator, NeedsTrace) and estimator.needs_trace

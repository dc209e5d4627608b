"""What an estimator is, what it is told, and what it may say of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from ibtrace.types.readings import Estimate

Kind = Literal["continuous", "discrete"]
Bound = Literal["none", "lower", "upper"]
Variable = Literal["itself", "made"]

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
        cost: Time (and memory, where it differs) in N samples and d dimensions.
        bias: Where the estimate is off, and which way.
    """

    estimand: str
    reference: str
    x: frozenset[Kind] = ANY
    y: frozenset[Kind] = ANY
    of_information: bool = True
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

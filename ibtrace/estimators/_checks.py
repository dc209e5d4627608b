"""What no estimate may hide: the flags that every estimator raises alike, by one mechanism.

`checked` decorates an estimator's class. Whatever its ``__call__`` and its ``plane`` return then
carries these flags beside the estimator's own; the number itself is left as it is:

- ``not_finite``: it is NaN or infinite, or its standard error is infinite;
- ``below_zero``: it is below 0, where no information is, by more than 3 of its standard errors
  (by more than 0.1 bit, where no error is known), or by more than half a bit whatever the error;
- ``above_entropy``: it is more than 0.02 bit above the entropy of X or of Y, where either is
  discrete: that of the samples, under the estimator's own correction;
- ``scales_apart``: another scale of its columns shows more (`hidden_by_scale`);
- ``rounded``: a variable lies so far from 0 that its floats hold hardly 100 values to a deviation
  (`ibtrace.numerics.scale.rounded`): the number is of what rounding has left of it;
- ``extreme_values``: squares of the values would overflow or vanish, so that the number is of the
  values times a power of 2, or of a few moved nearer (`ibtrace.numerics.scale.squarable`).

What would need more than half of the memory is refused before it starts (`require_memory`).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.estimators._inputs import is_ids, refuse_two_ids, require_dense
from ibtrace.estimators._limits import require_memory
from ibtrace.estimators._prepared import once
from ibtrace.estimators._probes import held_features, with_squarable
from ibtrace.estimators._scales import hidden_by_scale
from ibtrace.numerics.bins import dense_ids, row_ids
from ibtrace.numerics.columns import held
from ibtrace.numerics.counting import first_alike
from ibtrace.numerics.entropy import (
    Correction,
    distinct,
    entropy,
    sample_counts,
    sample_masses,
)
from ibtrace.numerics.scale import ends, rounded, squarable
from ibtrace.types import Estimate, ProbeLike, label
from ibtrace.types.protocols import keeps

FLAGS = ("not_finite", "below_zero", "above_entropy", "rounded", "extreme_values")

_ROUNDING = 1e-6
_ERRORS_BELOW = 3
_UNKNOWN_ERROR = 0.1  # bits; estimates of independent variables scatter around 0
_NEVER_BELOW = 0.5  # bits; an error this large excuses nothing
_ABOVE = 0.02  # bits that an estimate of the entropy itself may be too high by
_REPEATED = 0.95  # share of samples that are not alone with their value, in a discrete variable

UNDERSAMPLED = 0.1
"""Bits that random labels may give before an estimate is flagged ``undersampled``."""
_NEARLY_ALL = 0.95
_FEW_COLUMNS = 16
_BLOCK = 1024  # samples that are compared at a time, until some differ

_Class = TypeVar("_Class", bound=type[Any])


def checked(kind: _Class) -> _Class:
    """An estimator's class whose results carry the flags of this module."""
    wrappers: dict[str, Callable[[Any], Any]] = {
        "__call__": checked_call,
        "plane": checked_plane,
        "informations": checked_informations,
    }
    for name, wrap in wrappers.items():
        if name in vars(kind):
            setattr(kind, name, wrap(vars(kind)[name]))
    return kind


def flagged(estimate: Estimate, entropies: Sequence[Tensor], **of_values: Tensor) -> Estimate:
    """An estimate with the flags of this module raised where they belong.

    Args:
        estimate: Any estimate.
        entropies: The entropies in bits of the variables that are discrete, ``(...)`` each.
        of_values: ``rounded``, ``extreme_values`` and ``scales_apart``, ``(...)`` each.

    Returns:
        The same numbers; a flag that the estimator raised by itself stays raised.
    """
    bits, stderr = estimate.bits, estimate.stderr
    errors = (_ERRORS_BELOW * stderr).nan_to_num(nan=_UNKNOWN_ERROR)
    allowed = errors.clamp(max=_NEVER_BELOW) + _ROUNDING
    no = torch.zeros_like(bits, dtype=torch.bool)
    above = no
    for roof in entropies:
        above = above | (bits > roof.to(bits.device) + _ABOVE)
    raised = {
        "not_finite": ~bits.isfinite() | stderr.isinf(),
        "below_zero": bits < -allowed,
        "above_entropy": above,
        "rounded": no,
        "extreme_values": no,
    }
    for name, values in of_values.items():
        if bool(values.any()):
            raised[name] = values.to(bits.device).expand_as(no)
    return estimate.flagged(
        **{
            name: flag | estimate.flags[name] if name in estimate.flags else flag
            for name, flag in raised.items()
        }
    )


def roof_of(
    value: Tensor, correction: Correction = "none", weights: Sequence[float] | None = None
) -> Tensor | None:
    """The most information a discrete variable can share, ``(...)``: its entropy; else infinite.

    Floats are discrete if hardly any sample (5 %) is alone with its value; None if no problem of
    the batch is. The roof is the entropy of the samples and not raised by its bias,
    (K - 1) / (2 n ln 2), which for small classes would hide all that is too much. A correction of
    the estimator's own raises it, but not above log2 of the number of values, seen and (Chao 1984,
    by those seen once and twice) unseen.

    Args:
        value: Floats ``(..., n, d)`` or ids ``(..., n)``.
        correction: The estimator's own correction of entropies.
        weights: The mass of each sample, if these are not equal.
    """
    if not is_ids(value) and value.shape[-1] > _FEW_COLUMNS:
        # what is alone in some columns is alone in all
        if bool(_often_alone(row_ids(value.detach()[..., :_FEW_COLUMNS])).all()):
            return None
    ids = dense_ids(value) if is_ids(value) else row_ids(value.detach())
    continuous = _often_alone(ids) & (not is_ids(value))
    if bool(continuous.all()):
        return None
    counts = sample_counts(ids)
    if weights is not None:
        masses = torch.tensor(weights, dtype=torch.float64, device=ids.device)
        shares = sample_masses(ids, masses / masses.sum())
        exact = -(masses / masses.sum() * shares.clamp(min=1e-300).log2()).sum(-1)
        return exact.masked_fill(continuous, torch.inf)
    roof = entropy(counts, correction).minimum(_most_values(counts))
    return roof.masked_fill(continuous, torch.inf)


def _often_alone(ids: Tensor) -> Tensor:
    """Whether more samples have an id to themselves than of a discrete variable, ``(...)``."""
    return (sample_counts(ids) == 1).sum(-1) > (1 - _REPEATED) * ids.shape[-1]


def _most_values(counts: Tensor) -> Tensor:
    """log2 of how many values there are, at most: see `roof_of`."""
    seen, once_seen, twice = (
        distinct(counts).double(),
        (counts == 1).sum(-1).double(),
        (counts == 2).sum(-1).double() / 2,  # values, each of two samples
    )
    pairs = once_seen * (once_seen - 1) / 2
    unseen = torch.where(twice > 0, once_seen.square() / (2 * twice).clamp(min=1), pairs)
    return (seen + unseen).log2()


def undersampled(null: Tensor) -> Tensor:
    """Whether random labels would give more than 0.1 bit; not where that is unknown (NaN).

    Args:
        null: What the estimator gives for permuted labels, in bits, ``(...)``.
    """
    return null > UNDERSAMPLED


def shuffled(ids: Tensor, *, known: bool = False) -> list[Tensor]:
    """Labels ``(n,)`` in seeded random orders, for estimators whose null has no formula.

    One order of 2048 samples or more, up to 8 of fewer: their scatter is far below 0.1 bit. None
    of labels that never repeat, which say which sample it is, nor of a single class.

    Args:
        ids: ids from 0.
        known: Whether nobody asks, as the law of the pair is known.
    """
    n, classes = len(ids), int(ids.max()) + 1
    if known or classes in (1, n):
        return []
    return [ids[order.to(ids.device)] for order in orders(n)]


@functools.lru_cache(maxsize=4)
def orders(n: int) -> list[Tensor]:
    """Seeded random orders of n samples: 8 of few, 1 of 2048 or more."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(n, generator=generator) for _ in range(min(max(2048 // n, 1), 8))]


def determined(x: Tensor, t: Tensor) -> bool:
    """Whether samples ``(n,)`` of the same x always have the same row of t ``(n, d)``.

    I(X;T) is then the information in T, which pairs that are seen too rarely do not raise.
    """
    first, values = first_alike(dense_ids(x)), t.detach()
    blocks = zip(values.split(_BLOCK), first.split(_BLOCK), strict=True)
    return all(bool((rows == values[alike]).all()) for rows, alike in blocks)


def crowded(counts: Tensor) -> Tensor:
    """Whether nearly every sample shares its symbol with nearly all, ``(...)``."""
    n = counts.shape[-1]
    return (counts >= _NEARLY_ALL * n).double().mean(-1) >= _NEARLY_ALL


def as_classes(target: Tensor) -> Tensor | None:
    """Classes of ids ``(n,)`` or of equal rows of floats ``(n, d)``; None if these hardly repeat.

    A continuous target that never repeats is no grouping: information about its classes is
    information about the samples, whatever the target is.
    """
    if is_ids(target):
        return dense_ids(target)
    ids = row_ids(target.detach())
    return ids if 2 * (int(ids.max()) + 1) <= len(ids) else None


def undefined(shape: torch.Size, device: torch.device) -> Estimate:
    """No number, and a flag that says so."""
    nan = torch.full(shape, torch.nan, dtype=torch.float64, device=device)
    return Estimate(nan, flags={"undefined": nan.isnan(), "not_finite": nan.isnan()})


def require_classes(name: str, x: Tensor, y: Tensor) -> None:
    """Raise unless one variable says which samples are a class and the other one is a layer.

    Args:
        name: The estimator's label, for the message.
        x: The first variable: ids, or floats whose rows repeat, if y is floats.
        y: The second variable.

    Raises:
        Unsupported: If both are ids, or both are floats and rows of x hardly repeat.
    """
    refuse_two_ids(name, x, y, "give the layer as floats")
    if is_ids(x) or is_ids(y):
        return
    numbers = distinct(sample_counts(row_ids(x.detach())))
    if bool((2 * numbers > x.shape[-2]).any()):
        raise Unsupported(
            f"{name}: x and y are both floats, and rows of x hardly repeat, so that nothing says "
            "which samples are a class; for I(X;T) give x as ids, such as torch.arange(n)"
        )


@runtime_checkable
class Corrects(Protocol):
    """An estimator that corrects the entropies of counts."""

    @property
    def correction(self) -> Correction:
        """Which correction it applies."""
        ...


@runtime_checkable
class Weighs(Protocol):
    """An estimator that may know the mass of each sample."""

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The masses, proportional; None if they are equal."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An estimator that knows whether its estimates can exceed the samples' entropies."""

    @property
    def within_entropy(self) -> bool:
        """Whether none can, so that nobody has to look."""
        ...


class Law(NamedTuple):
    """How an estimator takes the entropy of a discrete variable.

    Args:
        correction: Its correction of entropies.
        weights: The mass of each sample; None if these are equal.
        within: Whether its estimates are within the entropies whatever the variables.
    """

    correction: Correction
    weights: tuple[float, ...] | None
    within: bool


def law_of(estimator: object) -> Law:
    """How an estimator takes the entropy of a discrete variable: by its counts, if unsaid."""
    return Law(
        estimator.correction if keeps(estimator, Corrects) else "none",
        estimator.weights if keeps(estimator, Weighs) else None,
        keeps(estimator, Bounded) and estimator.within_entropy,
    )


def roofs_of(law: Law, *values: Tensor) -> list[Tensor]:
    """`roof_of` the variables that are discrete."""
    roofs = [roof_of(value, law.correction, law.weights) for value in values]
    return [roof for roof in roofs if roof is not None]


def _roofs_of_inputs(probe: ProbeLike, law: Law) -> list[Tensor]:
    """The roofs of I(X;T) that the inputs set."""
    return roofs_of(law, probe.x_ids)


def _roofs_of_labels(probe: ProbeLike, law: Law) -> list[Tensor]:
    """The roofs of I(T;Y) that the labels set."""
    return roofs_of(law, probe.labels)


class _Seen(NamedTuple):
    """A variable, and what its values' extremes say of it.

    Args:
        values: Such that they can be squared.
        extreme: Whether they had to change for that, ``(...)``.
        rounded: Whether a column is rounded, ``(...)``.
    """

    values: Tensor
    extreme: Tensor
    rounded: Tensor


def _seen(value: Tensor) -> _Seen:
    of_columns = ends(value)
    return _Seen(*squarable(value, of_columns), rounded(value, of_columns))


def _seen_of_inputs(probe: ProbeLike) -> _Seen:
    points = held_features(probe)
    return _seen(probe.x_ids if points is None else points)


def _seen_of_labels(probe: ProbeLike) -> _Seen:
    return _seen(probe.labels)


def checked_call(method: Callable[..., Estimate]) -> Callable[..., Estimate]:
    @functools.wraps(method)
    def call(self: Any, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        for role, value in (("x", x), ("y", y)):
            require_dense(label(self), role, value)
        require_memory(self, x, y)
        a, b = _seen(x), _seen(y)
        estimate = method(self, a.values, b.values, seed=seed)
        return flagged(
            estimate,
            roofs_of(law_of(self), x, y),
            scales_apart=hidden_by_scale(method, self, a.values, b.values, seed),
            rounded=a.rounded | b.rounded,
            extreme_values=a.extreme | b.extreme,
        )

    return call


def unwrapped(kind: type[Any]) -> Callable[..., Estimate]:
    """How a class estimates, without what `checked` adds."""
    call: Callable[..., Estimate] = inspect.unwrap(kind.__call__)
    return call


def checked_plane(
    method: Callable[..., tuple[Estimate, Estimate]],
) -> Callable[..., tuple[Estimate, Estimate]]:
    several = checked_informations(
        lambda self, t, probe, others, *, seed: [*method(self, t, probe, seed=seed)]
    )

    @functools.wraps(method)
    def plane(
        self: Any, t: Tensor, probe: ProbeLike, *, seed: int = 0
    ) -> tuple[Estimate, Estimate]:
        about_x, about_y = several(self, t, probe, (), seed=seed)
        return about_x, about_y

    return plane


_OF_VALUES = ("scales_apart", "extreme_values", "rounded", "crowded")


def checked_sums(
    estimator: Any,
    sums: Sequence[Estimate],
    seen: Sequence[Estimate],
    probe: ProbeLike,
    others: Sequence[ProbeLike] = (),
) -> list[Estimate]:
    """Estimates whose statistics were added up over batches, flagged as those of one call are.

    Args:
        estimator: Of which they are.
        sums: I(X;T), I(T;Y) if there are labels, and I(T;Y) of the other labels.
        seen: What `informations` says of some of the samples: flags of values are taken from it.
        probe: All samples.
        others: The same samples with other labels.
    """
    law = law_of(estimator)
    labelled = [probe, *others] if len(sums) > 1 + len(others) else others
    roofs = [
        once(_roofs_of_inputs, probe, law),
        *(once(_roofs_of_labels, p, law) for p in labelled),
    ]
    parts = [seen[0], *seen[-len(labelled) :]] if labelled else seen[:1]
    return [
        flagged(estimate, roof, **{n: part.flags[n] for n in _OF_VALUES if n in part.flags})
        for estimate, roof, part in zip(sums, roofs, parts, strict=True)
    ]


def checked_informations(method: Callable[..., list[Estimate]]) -> Callable[..., list[Estimate]]:
    def inform(
        self: Any, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike], seed: int
    ) -> list[Estimate]:
        points = held_features(probe)
        require_memory(self, probe.x_ids if points is None else points, t)
        labelled = [probe, *others]
        for each in labelled:
            require_memory(self, t, each.labels)
        of_x, of_labels = once(_seen_of_inputs, probe), [once(_seen_of_labels, p) for p in labelled]
        layer = _seen(t)
        subjects = [
            with_squarable(each) if bool(of_x.extreme) or bool(of_y.extreme) else each
            for each, of_y in zip(labelled, of_labels, strict=True)
        ]
        about_x, *about_y = method(self, layer.values, subjects[0], subjects[1:], seed=seed)
        hidden = torch.zeros_like(about_x.bits, dtype=torch.bool)
        with contextlib.suppress(Unsupported):  # of ids, which has said it, or of inputs not held
            inputs = subjects[0].features.to(layer.values.device)
            hidden = hidden_by_scale(unwrapped(type(self)), self, inputs, layer.values, seed)

        law = law_of(self)
        of_t = [] if law.within else roofs_of(law, t)  # counting the rows of every look is slow
        roofs = [once(_roofs_of_labels, each, law) for each in labelled]

        def told(estimate: Estimate, seen: _Seen, most: list[Tensor], **more: Tensor) -> Estimate:
            return flagged(
                estimate,
                [*most, *of_t],
                extreme_values=layer.extreme | seen.extreme.to(layer.extreme.device),
                rounded=layer.rounded | seen.rounded.to(layer.rounded.device),
                **more,
            )

        of_y = zip(about_y, of_labels, roofs, strict=True)
        first = told(about_x, of_x, once(_roofs_of_inputs, probe, law), scales_apart=hidden)
        return [first, *(told(*each) for each in of_y)]

    @functools.wraps(method)
    def informations(
        self: Any,
        t: Tensor,
        probe: ProbeLike,
        others: Sequence[ProbeLike] = (),
        *,
        seed: int = 0,
    ) -> list[Estimate]:
        require_dense(label(self), "t", t)
        with held(t):
            return inform(self, t, probe, others, seed)

    return informations

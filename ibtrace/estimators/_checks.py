"""What no estimate may hide: the flags that every estimator raises alike, by one mechanism.

`checked` decorates an estimator's class. Whatever its ``__call__`` and its ``plane`` return then
carries three flags beside the estimator's own; the number itself is left as it is:

- ``not_finite``: it is NaN or infinite, or its standard error is infinite;
- ``below_zero``: it is below 0, where no information is, by more than 3 of its standard errors
  (by more than rounding, where no error is known), or by more than half a bit whatever the error;
- ``above_entropy``: it is above the entropy of X or of Y, where either is discrete.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ibtrace.estimators._inputs import is_ids
from ibtrace.numerics.bins import dense_ids, row_ids
from ibtrace.numerics.entropy import (
    Correction,
    bias_correction,
    entropy,
    sample_counts,
    sample_masses,
)
from ibtrace.types import Estimate, ProbeLike

FLAGS = ("not_finite", "below_zero", "above_entropy")

_ROUNDING = 1e-6
_ERRORS_BELOW = 3
_NEVER_BELOW = 0.5  # bits; an error this large excuses nothing
_REPEATED = 0.95  # share of samples that are not alone with their value, in a discrete variable

_Class = TypeVar("_Class", bound=type[Any])


def checked(kind: _Class) -> _Class:
    """An estimator's class whose results carry the flags of this module."""
    for name, wrap in (("__call__", checked_call), ("plane", checked_plane)):
        if name in vars(kind):
            setattr(kind, name, wrap(vars(kind)[name]))
    return kind


def flagged(estimate: Estimate, entropies: Sequence[Tensor]) -> Estimate:
    """An estimate with the flags of this module raised where they belong.

    Args:
        estimate: Any estimate.
        entropies: The entropies in bits of the variables that are discrete, ``(...)`` each.

    Returns:
        The same numbers; a flag that the estimator raised by itself stays raised.
    """
    bits, stderr = estimate.bits, estimate.stderr
    allowed = (_ERRORS_BELOW * stderr).clamp(max=_NEVER_BELOW).nan_to_num(nan=0.0) + _ROUNDING
    above = torch.zeros_like(bits, dtype=torch.bool)
    for roof in entropies:
        above = above | (bits > roof.to(bits.device) + _ROUNDING)
    raised = {
        "not_finite": ~bits.isfinite() | stderr.isinf(),
        "below_zero": bits < -allowed,
        "above_entropy": above,
    }
    return estimate.flagged(
        **{name: flag | estimate.flags.get(name, flag) for name, flag in raised.items()}
    )


def roof_of(
    value: Tensor, correction: Correction = "none", weights: Sequence[float] | None = None
) -> Tensor | None:
    """The most information a discrete variable can share: its entropy, ``(...)``; else None.

    Floats are discrete if hardly any sample (5 %) is alone with its value. The plug-in entropy is
    too low by (K - 1) / (2 n ln 2), which the roof is raised by, so that an estimate of the
    entropy itself does not pass it.

    Args:
        value: Floats ``(..., n, d)`` or ids ``(..., n)``.
        correction: The estimator's own correction of entropies, in place of the first-order one.
        weights: The mass of each sample, if these are not equal.
    """
    ids = dense_ids(value) if is_ids(value) else row_ids(value.detach())
    counts = sample_counts(ids)
    n = counts.shape[-1]
    if not is_ids(value) and bool(((counts == 1).sum(-1) > (1 - _REPEATED) * n).any()):
        return None
    if weights is not None:
        masses = torch.tensor(weights, dtype=torch.float64, device=ids.device)
        shares = sample_masses(ids, masses / masses.sum())
        return -(masses / masses.sum() * shares.clamp(min=1e-300).log2()).sum(-1)
    added = bias_correction(counts, "miller_madow" if correction == "none" else correction)
    return entropy(counts) + added


def _roofs(estimator: Any, *values: Tensor) -> list[Tensor]:
    correction: Correction = getattr(estimator, "correction", "none")
    weights = getattr(estimator, "weights", None)
    roofs = [roof_of(value, correction, weights) for value in values]
    return [roof for roof in roofs if roof is not None]


def checked_call(method: Callable[..., Estimate]) -> Callable[..., Estimate]:
    @functools.wraps(method)
    def call(self: Any, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        return flagged(method(self, x, y, seed=seed), _roofs(self, x, y))

    return call


def checked_plane(
    method: Callable[..., tuple[Estimate, Estimate]],
) -> Callable[..., tuple[Estimate, Estimate]]:
    @functools.wraps(method)
    def plane(
        self: Any, t: Tensor, probe: ProbeLike, *, seed: int = 0
    ) -> tuple[Estimate, Estimate]:
        about_x, about_y = method(self, t, probe, seed=seed)

        def fixed() -> tuple[list[Tensor], list[Tensor]]:
            return _roofs(self, probe.x_ids), _roofs(self, probe.labels)

        key = f"entropies {getattr(self, 'correction', '')} {getattr(self, 'preset', '')}"
        of_x, of_y = probe.cached(key, fixed)
        of_t = _roofs(self, t) if is_ids(t) else []
        return flagged(about_x, [*of_x, *of_t]), flagged(about_y, [*of_y, *of_t])

    return plane

"""Both informations of a layer, by whatever estimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, Unsupported
from ibtrace.estimators._checks import undefined
from ibtrace.estimators._inputs import is_ids, require_dense, rows_as_ids
from ibtrace.estimators._probes import with_any_labels, with_constant_inputs
from ibtrace.runtime.arguments import require_instance, require_members, seed_number
from ibtrace.types import Estimate, Estimator, OnePass, Plane, ProbeLike
from ibtrace.types.protocols import keeps


def information(
    estimator: Estimator, t: Tensor, probe: ProbeLike, *, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """I(X;T) and I(T;Y) of a layer's activations on a probe, in bits.

    Args:
        estimator: Any object of the `Estimator` protocol. Its ``plane`` is used if it has one.
        t: Activations ``(..., n, d)``; leading dimensions (seeds, layers) are independent. Rows
            of integers are symbols, as are ids ``(..., n)``; of an estimator that declines
            symbols the estimate is NaN, flagged ``undefined``.
        probe: The inputs and labels, in the order of ``t``.
        seed: Seeds whatever is random inside.

    Returns:
        Two estimates of shape ``(...)``; of a probe without labels the second is NaN, and flagged
        ``no_labels``.

    Raises:
        InvalidInput: If ``t`` does not have the probe's number of samples, or is integers of which
            one cannot tell rows from ids.
        ConfigError: If an argument is of a type that it cannot have; names it.
    """
    form = 'an estimator such as ibtrace.estimators.make("ksg")'
    if not keeps(estimator, Estimator):
        require_instance("information: estimator", estimator, Estimator, form)
    require_instance("information: t", t, Tensor, "a tensor (..., n, d); use torch.as_tensor")
    require_dense("information", "t", t)
    require_members("information: probe", probe, ("cached", "n"), "ibtrace.Probe(x, y)")
    n, seed = probe.n, seed_number("information: seed", seed)
    if is_ids(t) and t.shape[-2:] == (n, n):
        got = f"integers of shape {tuple(t.shape)} on a probe of {n} samples"
        raise InvalidInput(
            f"information: {got} may be {n} rows of {n} columns or the ids of {n} problems; give "
            "rows as ids (torch.unique(t, dim=0, return_inverse=True)[1]), problems one by one"
        )
    if is_ids(t) and t.dim() > 1 and t.shape[-2] == n:
        t = rows_as_ids(t)
    if t.dim() == 0 or (t.shape[-1] if is_ids(t) else t.shape[-2] if t.dim() > 1 else 0) != n:
        got = f"activations {tuple(t.shape)} on a probe of {n} samples"
        raise InvalidInput(f"information: {got}; t must be (..., n, d) in the probe's order")
    return plane(estimator, t, probe, seed=seed)


def plane(
    estimator: Estimator, t: Tensor, probe: ProbeLike, *, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """`information` of what is a variable already.

    Args:
        estimator: Any object of the `Estimator` protocol.
        t: Floats ``(..., n, d)`` or ids ``(..., n)``.
        probe: The inputs and labels.
        seed: Seeds whatever is random inside.

    Raises:
        Unsupported: If the estimator declines floats such as ``t``.
    """
    about_x, about_y = informations(estimator, t, probe, seed=seed)
    return about_x, about_y


def informations(
    estimator: Estimator,
    t: Tensor,
    probe: ProbeLike,
    others: Sequence[ProbeLike] = (),
    *,
    seed: int = 0,
) -> list[Estimate]:
    """I(X;T) and I(T;Y), then I(T;Y) of the same samples with other labels.

    From one pass over T where the estimator tells of many labels (`OnePass`); of others each
    label has a pass. The numbers are those of one call of `plane` for each.

    Args:
        estimator: Any object of the `Estimator` protocol.
        t: Floats ``(..., n, d)`` or ids ``(..., n)``.
        probe: The inputs and labels.
        others: Of which I(T;Y) alone is asked.
        seed: Seeds whatever is random inside.

    Raises:
        Unsupported: If the estimator declines floats such as ``t``.
    """
    unlabelled = probe.labels.shape[-1] == 0
    subject = with_any_labels(probe, estimator.tags.y) if unlabelled else probe
    if keeps(estimator, OnePass):
        several = partial(estimator.informations, t, subject, others, seed=seed)
        about_x, about_y, *more = _all_defined(several, t, 2 + len(others))
    else:
        about_x, about_y = _pair(estimator, t, subject, seed, labelled=not unlabelled)
        more = [_about_labels(estimator, t, other, seed) for other in others]
    if unlabelled:
        none = torch.full_like(about_x.bits, torch.nan)
        about_y = Estimate(none, flags={"no_labels": torch.ones_like(none)})
    return [about_x, about_y, *more]


def _pair(
    estimator: Estimator, t: Tensor, probe: ProbeLike, seed: int, *, labelled: bool
) -> list[Estimate]:
    """Both informations; without labels the second is that of any labels, or none."""
    if keeps(estimator, Plane):
        return _all_defined(lambda: [*estimator.plane(t, probe, seed=seed)], t, 2)
    about_x = _defined(lambda: estimator(probe.features, t, seed=seed), t)
    if not labelled:
        return [about_x, about_x]
    return [about_x, _defined(lambda: estimator(t, probe.labels, seed=seed), t)]


def _about_labels(estimator: Estimator, t: Tensor, probe: ProbeLike, seed: int) -> Estimate:
    """I(T;Y) alone; where both are told at once, of inputs that are constant and cost nothing."""
    if keeps(estimator, Plane):
        still = with_constant_inputs(probe)
        return _all_defined(lambda: [*estimator.plane(t, still, seed=seed)], t, 2)[1]
    return _defined(lambda: estimator(t, probe.labels, seed=seed), t)


def _all_defined(measure: Callable[[], list[Estimate]], t: Tensor, count: int) -> list[Estimate]:
    """Estimates; of symbols that the estimator declines, NaN and the flag ``undefined``."""
    try:
        return measure()
    except Unsupported:
        if not is_ids(t):
            raise
        return [undefined(t.shape[:-1], t.device)] * count


def _defined(measure: Callable[[], Estimate], t: Tensor) -> Estimate:
    """One of them."""
    return _all_defined(lambda: [measure()], t, 1)[0]

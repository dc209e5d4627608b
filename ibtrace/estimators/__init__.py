"""Estimators of mutual information, one method per file; this is their registry.

``make("ksg", k=5)`` is ``KSG(k=5)``. Every estimator is a frozen dataclass that follows
`ibtrace.types.Estimator`, wears `checked` (which flags what no information can be), and, if
registered, passes the contract of `ibtrace.testing`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, UnknownName, Unsupported
from ibtrace.estimators._checks import checked as checked
from ibtrace.estimators._checks import undefined
from ibtrace.estimators._inputs import is_ids, require_dense, rows_as_ids
from ibtrace.estimators._probes import with_any_labels
from ibtrace.estimators.adaptive_binning import AdaptiveBinning as AdaptiveBinning
from ibtrace.estimators.binning import Binning as Binning
from ibtrace.estimators.compressed import Compressed as Compressed
from ibtrace.estimators.edge import EDGE as EDGE
from ibtrace.estimators.exact import Exact as Exact
from ibtrace.estimators.gaussian_copula import GaussianCopula as GaussianCopula
from ibtrace.estimators.kde import KDE as KDE
from ibtrace.estimators.kozachenko_leonenko import KozachenkoLeonenko as KozachenkoLeonenko
from ibtrace.estimators.ksg import KSG as KSG
from ibtrace.estimators.matrix_renyi import MatrixRenyi as MatrixRenyi
from ibtrace.estimators.mixed_ksg import MixedKSG as MixedKSG
from ibtrace.estimators.noisy_channel import NoisyChannel as NoisyChannel
from ibtrace.estimators.npeet import NPEET as NPEET
from ibtrace.estimators.ross import Ross as Ross
from ibtrace.estimators.sklearn_peer import SklearnMI as SklearnMI
from ibtrace.estimators.sliced import Sliced as Sliced
from ibtrace.estimators.soft_entropy import SoftEntropy as SoftEntropy
from ibtrace.estimators.variational import Variational as Variational
from ibtrace.runtime.arguments import built, require_instance, require_members, seed_number, shown
from ibtrace.types import Estimate, Estimator, Plane, ProbeLike

registry: dict[str, type[Any]] = {
    "binning": Binning,
    "adaptive_binning": AdaptiveBinning,
    "exact": Exact,
    "kde": KDE,
    "ksg": KSG,
    "ross": Ross,
    "npeet": NPEET,
    "noisy_channel": NoisyChannel,
    "mixed_ksg": MixedKSG,
    "kozachenko_leonenko": KozachenkoLeonenko,
    "matrix_renyi": MatrixRenyi,
    "soft_entropy": SoftEntropy,
    "gaussian_copula": GaussianCopula,
    "edge": EDGE,
    "sklearn": SklearnMI,
    "sliced": Sliced,
    "compressed": Compressed,
    "variational": Variational,
}


def names() -> list[str]:
    """The registered names, in the order of the registry."""
    return list(registry)


def make(name: str, **fields: Any) -> Estimator:
    """An estimator by its registered name.

    Args:
        name: A key of the registry, or a preset as ``binning.idnns``.
        **fields: Fields of the estimator's dataclass (or arguments of the preset).

    Raises:
        UnknownName: If no estimator has that name; lists those there are.
        ConfigError: If a field does not exist or has an impossible value.

    Example:
        >>> make("ksg", k=5)
        KSG(k=5, ...)
    """
    base, _, preset = name.partition(".") if isinstance(name, str) else ("", "", "")
    kind = registry.get(base)
    if kind is None or (preset and not callable(getattr(kind, preset, None))):
        raise UnknownName(f"no estimator is called {shown(name)}; there are: {', '.join(names())}")
    build = getattr(kind, preset) if preset else kind
    known = [field.name for field in dataclasses.fields(kind)]
    made: Estimator = built(f"estimator {name}", build, fields, known)
    return made


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
    if probe.labels.shape[-1] == 0:
        unlabelled = with_any_labels(probe, estimator.tags.y)

        def about_x() -> Estimate:
            if isinstance(estimator, Plane):
                return estimator.plane(t, unlabelled, seed=seed)[0]
            return estimator(probe.features, t, seed=seed)

        first = _defined(about_x, t)
        none = torch.full_like(first.bits, torch.nan)
        return first, Estimate(none, flags={"no_labels": torch.ones_like(none)})
    if isinstance(estimator, Plane):
        try:
            return estimator.plane(t, probe, seed=seed)
        except Unsupported:
            if not is_ids(t):
                raise
            absent = undefined(t.shape[:-1], t.device)
            return absent, absent
    return (
        _defined(lambda: estimator(probe.features, t, seed=seed), t),
        _defined(lambda: estimator(t, probe.labels, seed=seed), t),
    )


def _defined(measure: Callable[[], Estimate], t: Tensor) -> Estimate:
    """An estimate; of symbols that the estimator declines, NaN and the flag ``undefined``."""
    try:
        return measure()
    except Unsupported:
        if not is_ids(t):
            raise
        return undefined(t.shape[:-1], t.device)

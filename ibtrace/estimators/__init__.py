"""Estimators of mutual information, one method per file; this is their registry.

``make("ksg", k=5)`` is ``KSG(k=5)``. Every estimator is a frozen dataclass that follows
`ibtrace.types.Estimator`, wears `checked` (which flags what no information can be), and, if
registered, passes the contract of `ibtrace.testing`.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from ibtrace.errors import ConfigError, UnknownName
from ibtrace.estimators._checks import checked as checked
from ibtrace.estimators._checks import checked_sums as checked_sums
from ibtrace.estimators._plane import information as information
from ibtrace.estimators._plane import informations as informations
from ibtrace.estimators._plane import plane as plane
from ibtrace.estimators.adaptive_binning import AdaptiveBinning as AdaptiveBinning
from ibtrace.estimators.binning import Binning as Binning
from ibtrace.estimators.compressed import Compressed as Compressed
from ibtrace.estimators.diffusion_spectral import DiffusionSpectral as DiffusionSpectral
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
from ibtrace.estimators.subsampled import MOST_SAMPLES as MOST_SAMPLES
from ibtrace.estimators.subsampled import Subsampled as Subsampled
from ibtrace.estimators.variational import Variational as Variational
from ibtrace.runtime.arguments import built, shown
from ibtrace.types import Estimator, adds_up, on_bounded

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
    "diffusion_spectral": DiffusionSpectral,
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


def adding() -> list[str]:
    """The names of those whose statistics add up over batches, if the layer is bounded.

    Example:
        >>> adding()
        ['binning', 'exact', 'soft_entropy']
    """
    return [name for name in names() if adds_up(on_bounded(make(name)))]


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
        raise UnknownName(
            f"no estimator is called {shown(name)}; there are: {', '.join(names())}; one of your"
            " own goes in as an object in Python, or by class_path in a configuration"
        )
    build = getattr(kind, preset) if preset else kind
    known = [field.name for field in dataclasses.fields(kind)]
    made: Estimator = built(f"estimator {name}", build, fields, known)
    return made


def remade(record: str) -> Estimator:
    """An estimator of its ``repr``, which is how a trace records what measured it.

    Nothing is run but the making of registered estimators, of literal fields.

    Args:
        record: As in ``trace.meta["configurations"]``.

    Raises:
        UnknownName: If it is none of the registry.
        ConfigError: If it is no call of a class with literal fields, or they are impossible.

    Example:
        >>> remade("Sliced(base=KSG(k=5), directions=4)").directions
        4
    """
    try:
        written = ast.parse(record, mode="eval").body
    except SyntaxError as error:
        raise ConfigError(f"{record}: no call of a class, cannot be made again") from error
    if not isinstance(written, ast.Call):
        raise ConfigError(f"{record}: no call of a class, cannot be made again")
    made: Estimator = _remade(written)
    return made


def _remade(node: ast.expr) -> Any:
    """A literal, or the call of a registered class on such."""
    if not isinstance(node, ast.Call):
        try:
            return ast.literal_eval(node)
        except ValueError as error:
            raise ConfigError(f"{ast.unparse(node)}: no literal, cannot be made again") from error
    known = {kind.__name__: kind for kind in (*registry.values(), Subsampled)}
    called = ast.unparse(node.func)
    if called not in known:
        raise UnknownName(f"{called} is no registered estimator: {', '.join(known)}")
    if node.args:
        raise ConfigError(f"{ast.unparse(node)}: fields without names, cannot be made again")
    fields = {str(keyword.arg): _remade(keyword.value) for keyword in node.keywords}
    names_of_fields = [field.name for field in dataclasses.fields(known[called])]
    return built(f"estimator {called}", known[called], fields, names_of_fields)

"""The estimators of a tracer that was given none, and a drawn part of the samples for slow ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ibtrace.estimators import KDE, KSG, Binning, Exact, Ross
from ibtrace.estimators import plane as plane_of
from ibtrace.estimators._prepared import once
from ibtrace.probe import Probe
from ibtrace.probe.padding import is_mask
from ibtrace.runtime.arguments import require_instance, seed_number, whole
from ibtrace.types import (
    Estimate,
    Estimator,
    LayerContext,
    ProbeLike,
    Tags,
    Variable,
    bound_to,
    label,
    needs_trace,
    variable_of,
)

MOST_SAMPLES = 2000
"""Samples that a default estimator whose time grows with N² is given at most."""

NOISE = (0.3, 1.0)
"""Noise variances at which wide layers are blurred, as multiples of the layer's largest value."""

_Value = TypeVar("_Value")


def default_estimators(probe: Probe, per_token: bool = False) -> tuple[list[Estimator], str]:
    """The estimators that can say something on a probe, and why these.

    Neighbours in X are local only where X has few dimensions; beyond log2 N of them KSG's I(X;T)
    falls to 0 and 30 bins tell every sample from every other. There T is counted (`Exact`), halved
    (two bins a unit) and blurred at two scales (`KDE` with noise whose variance is .3 and 1 times
    the layer's largest value), and I(T;Y) comes from the neighbours within the classes (`Ross`),
    which X has no part in. Integers are names of things (tokens), whose
    distances mean nothing: neighbours in X are not looked for, however few its dimensions, and what
    is estimated does not change when they are renamed. Numbers are given as floats.

    Args:
        probe: The inputs and labels.
        per_token: Whether some layers' samples are tokens: more than the probe has.

    Returns:
        The estimators, and one line for the trace's meta entries.
    """
    dimensions, few = probe.features.shape[1], math.log2(probe.n)
    many_samples = probe.n > MOST_SAMPLES or per_token

    def within_time(estimator: Estimator) -> Estimator:
        return Subsampled(estimator) if many_samples else estimator

    limits = f"; slow ones on at most {MOST_SAMPLES} samples" if many_samples else ""
    named = any(_are_names(name, value) for name, value in probe.inputs.items())
    if dimensions <= few and not named:
        why = f"X has {dimensions} dimensions, at most log2 N = {few:.1f}"
        return [Binning(), within_time(KSG())], f"{why}: bins and neighbours{limits}"
    blurred = [KDE(noise_variance=s, noise="adaptive") for s in NOISE]
    of_labels: list[Estimator] = []
    if probe.labelled and probe.discrete:
        of_labels = [Ross()]
    elif probe.labelled and not named:
        of_labels = [KSG()]
    why = f"X has {dimensions} dimensions, more than log2 N = {few:.1f}"
    if dimensions <= few:
        why = "X holds integers, names without distances (give numbers as floats)"
    return [
        Exact(),
        Binning(bins=2),
        *map(within_time, [*blurred, *of_labels]),
    ], f"{why}: counts, halves, two noise scales and classes{limits}"


def _are_names(name: str, value: Tensor) -> bool:
    """Whether an input holds tokens: integers, and not a mask's 0 and 1."""
    return not value.is_floating_point() and value.dtype != torch.bool and not is_mask(name)


@dataclass(frozen=True)
class Subsampled:
    """Another estimator, on a part of the samples that is drawn once by a seed.

    The part is the same for every layer, epoch and network. Where there are no more samples than
    ``samples``, this is the estimator itself. Diagnostics: the estimator's own, and ``samples``,
    how many were measured.

    Args:
        estimator: The estimator.
        samples: How many samples it gets at most.
        seed: Seeds the draw.

    Raises:
        ConfigError: If ``estimator`` is none, ``samples`` below 2, or the seed none.

    Example:
        >>> x = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
        >>> int(Subsampled(KSG(), samples=500)(x[:, :1], x[:, 1:]).diagnostics["samples"])
        500
    """

    estimator: Estimator = field(default_factory=KSG)
    samples: int = MOST_SAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        form = "an estimator such as KSG(k=3)"
        require_instance("Subsampled: estimator", self.estimator, Estimator, form)
        whole("Subsampled: samples", self.samples, least=2)
        seed_number("Subsampled: seed", self.seed)

    @property
    def tags(self) -> Tags:
        """The estimator's, of that many samples."""
        tags = self.estimator.tags
        return dataclasses.replace(
            tags,
            estimand=f"{tags.estimand}, of at most {self.samples} samples",
            cost=f"{tags.cost}, at N = {self.samples} at most",
        )

    @property
    def label(self) -> str:
        """The estimator's label and the limit."""
        return f"{label(self.estimator)} on {self.samples} samples"

    @property
    def estimand(self) -> str:
        """The estimator's, and the limit."""
        return f"{self.estimator.estimand}, on at most {self.samples} drawn samples"

    def variable(self, width: int | None) -> Variable:
        """What stands for T: the estimator's.

        Args:
            width: The columns of T; None if T is ids.
        """
        return variable_of(self.estimator, width)

    @property
    def needs_trace(self) -> bool:
        """Whether the estimator does."""
        return needs_trace(self.estimator)

    def bind(self, context: LayerContext) -> Subsampled:
        """The estimator bound to the layer."""
        return dataclasses.replace(self, estimator=bound_to(self.estimator, context))

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) of the samples drawn; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` ids.
            seed: The estimator's seed.
        """
        n = _axis_length(x)
        rows = self._rows(n, x.device)
        return _counted(self.estimator(_cut(x, rows), _cut(y, rows), seed=seed), rows)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) of the samples drawn; see the class.

        Args:
            t: Activations ``(..., n, d)``.
            probe: The inputs and labels.
            seed: The estimator's seed.
        """
        rows = self._rows(probe.n, t.device)
        part = probe if len(rows) == probe.n else self.prepare(probe)
        x, y = plane_of(self.estimator, _cut(t, rows), part, seed=seed)
        return _counted(x, rows), _counted(y, rows)

    def prepare(self, probe: ProbeLike) -> ProbeLike:
        """The part of a probe that is measured, kept with the probe."""
        return once(_part, probe, self.samples, self.seed)

    def _rows(self, n: int, device: torch.device) -> Tensor:
        return _drawn(n, self.samples, self.seed).to(device)


def _drawn(n: int, most: int, seed: int) -> Tensor:
    """Which of n samples are measured, in their order."""
    if n <= most:
        return torch.arange(n)
    draw = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=draw)[:most].sort().values


def _part(probe: ProbeLike, most: int, seed: int) -> ProbeLike:
    return _Part(probe, _drawn(probe.n, most, seed).to(probe.features.device))


class _Part:
    """Some samples of a probe, as an estimator asks for them."""

    def __init__(self, probe: ProbeLike, rows: Tensor) -> None:
        self.n = len(rows)
        self.population = False  # a draw
        self.features = probe.features[rows]
        self.x_ids = probe.x_ids[rows].unique(return_inverse=True)[1]
        self.labels = probe.labels[rows]
        self._cache: dict[Hashable, Any] = {}

    def cached(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """``compute()``, done once."""
        if key not in self._cache:
            self._cache[key] = compute()
        return cast("_Value", self._cache[key])


def _axis_length(values: Tensor) -> int:
    return values.shape[_samples_axis(values)]


def _samples_axis(values: Tensor) -> int:
    """Floats are ``(..., n, d)``, ids ``(..., n)``."""
    return -2 if values.is_floating_point() and values.dim() > 1 else -1


def _cut(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(_samples_axis(values), rows)


def _counted(estimate: Estimate, rows: Tensor) -> Estimate:
    diagnostics = {**estimate.diagnostics, "samples": torch.tensor(float(len(rows)))}
    return dataclasses.replace(estimate, diagnostics=diagnostics)
